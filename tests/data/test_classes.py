"""Images of several classes: which there are, of which class each is, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import write_png
from unlike.data.classes import check_classes, choose_part, find_classes, number_classes, sort_classes
from unlike.data.split import split_classes
from unlike.errors import DataError
from unlike.records import Sample

IMAGE = np.zeros((4, 4, 3), np.uint8)
ARRAY = np.zeros((4, 8, 8), np.uint8)


def kinds(source):
    return {sample.id: sample.kind for sample in source.samples}


def test_a_folder_with_a_subfolder_for_each_class(tmp_path):
    for name in ("dog/1.png", "cat/deep/2.png", "good/3.png", ".hidden/4.png", "loose.png"):
        write_png(tmp_path / name, IMAGE)
    source = find_classes(tmp_path)
    assert kinds(source) == {"cat/deep/2.png": "cat", "dog/1.png": "dog", "good/3.png": "good"}
    assert all(sample.anomalous is None for sample in source.samples)
    assert find_classes(source) is source


def test_a_folder_with_splits(tmp_path):
    for name in ("train/ok/1.png", "test/ok/2.png", "test/bent/3.png", "ground_truth/bent/3_mask.png"):
        write_png(tmp_path / name, IMAGE)
    source = find_classes(str(tmp_path))
    assert kinds(source) == {"test/bent/3.png": "bent", "test/ok/2.png": "ok", "train/ok/1.png": "ok"}
    assert list(kinds(choose_part(source, "train"))) == ["train/ok/1.png"]
    assert list(kinds(choose_part(source, "test"))) == ["test/bent/3.png", "test/ok/2.png"]


def test_classes_may_be_called_train_and_test(tmp_path):
    for name in ("train/1.png", "test/2.png"):
        write_png(tmp_path / name, IMAGE)
    assert kinds(find_classes(tmp_path)) == {"test/2.png": "test", "train/1.png": "train"}


def test_a_manifest_whose_labels_are_classes(tmp_path):
    for name in "abc":
        write_png(tmp_path / f"{name}.png", IMAGE)
    (tmp_path / "m.csv").write_text("path,label\na.png,7\nb.png, good \nc.png,\n")
    source = find_classes(tmp_path / "m.csv")
    assert kinds(source) == {"a.png": "7", "b.png": "good", "c.png": ""}
    assert list(kinds(choose_part(source, "train"))) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([3, 1, 3, 10], ["3", "1", "3", "10"]),
        (np.array([3.0, 1.0, 3.0, 10.0]), ["3", "1", "3", "10"]),
        (["cat", " dog", "cat", "cat"], ["cat", "dog", "cat", "cat"]),
        (np.array([b"cat", b"dog", b"cat", b"cat"]), ["cat", "dog", "cat", "cat"]),
        ([True, False, True, True], ["True", "False", "True", "True"]),
    ],
)
def test_an_array_with_labels(labels, names, tmp_path):
    assert list(kinds(find_classes(ARRAY, labels)).values()) == names
    np.save(tmp_path / "x.npy", ARRAY)
    np.save(tmp_path / "y.npy", np.asarray(labels))
    source = find_classes(tmp_path / "x.npy", tmp_path / "y.npy")
    assert list(kinds(source).values()) == names
    assert [sample.kind for sample in source.take(np.array([1, 3])).samples[1:]] == [names[3]]


def test_labels_of_a_csv_are_put_in_the_order_of_its_ids_and_an_npz_has_its_own(tmp_path):
    (tmp_path / "y.csv").write_text("id,class\n2,c\n0,a\n1,b\n3,d\n")
    assert list(kinds(find_classes(ARRAY, tmp_path / "y.csv")).values()) == ["a", "b", "c", "d"]
    np.savez(tmp_path / "set.npz", images=ARRAY, labels=[1, 2, 1, 2])
    assert list(kinds(find_classes(tmp_path / "set.npz")).values()) == ["1", "2", "1", "2"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, r"an array needs labels, one a row \(--labels\)"),
        ([1, 2], "4 images need as many labels, came 2"),
        ([0.5, 1, 1, 2], "expected whole numbers or words as the names of classes, came float64"),
        ([np.nan, 1, 1, 2], "expected whole numbers or words"),
        (["a", "", "b", "a"], "row 1: has no label; expected the name of its class"),
    ],
)
def test_labels_that_name_no_classes_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        find_classes(ARRAY, labels)


def test_sources_that_have_no_classes_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"expected a folder with a subfolder for each class, or an array, came list"):
        find_classes(["a.png"])
    with pytest.raises(
        DataError, match=r"nowhere: expected a folder with a subfolder for each class, a \.csv manifest"
    ):
        find_classes("nowhere")
    write_png(tmp_path / "loose.png", IMAGE)
    with pytest.raises(DataError, match="expected a subfolder of images for each class, came none"):
        find_classes(tmp_path)
    with pytest.raises(DataError, match="labels apart from the images go with an array"):
        find_classes(tmp_path, [1])
    (tmp_path / "m.csv").write_text("path,label\nloose.png,\n")
    with pytest.raises(DataError, match="no image of 1 is labelled and in the train split"):
        choose_part(find_classes(tmp_path / "m.csv"), "train")


def test_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    write_png(tmp_path / "a/1.png", IMAGE)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match="cannot be opened"):
        find_classes(tmp_path)


def test_classes_have_one_order():
    assert sort_classes(["b", "a", "b"]) == ("a", "b")
    assert sort_classes(["10", "9", "-1"]) == ("-1", "9", "10")
    samples = [Sample("1", kind="b"), Sample("2", kind="a")]
    assert number_classes(samples, ("a", "b")).tolist() == [1, 0]
    with pytest.raises(DataError, match="2: is of class 'a'; the known classes are b, c"):
        number_classes(samples, ("b", "c"))


def test_there_must_be_two_classes_with_two_images_each():
    check_classes("x", ("a", "b"), np.array([0, 1, 1, 0]))
    with pytest.raises(DataError, match="x: classes to tell apart are needed, two or more; came one, 'a'"):
        check_classes("x", ("a",), np.array([0, 0]))
    with pytest.raises(DataError, match="x: every class needs 2 different images or more; b has 1, c has 0"):
        check_classes("x", ("a", "b", "c"), np.array([0, 0, 1]))


@settings(max_examples=50)
@given(st.lists(st.integers(2, 40), min_size=2, max_size=6), st.floats(0.01, 0.9), st.integers(0, 3))
def test_every_class_is_on_both_sides_of_a_split(counts, share, seed):
    codes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    rows = 3 * np.arange(len(codes)) + 1
    split = split_classes(rows, codes, share, seed)
    assert np.array_equal(np.sort(np.concatenate([split.train, split.validation])), rows)
    assert not len(split.calibration)
    for part in (split.train, split.validation):
        assert set(codes[(part - 1) // 3]) == set(range(len(counts)))
        assert (np.diff(part) > 0).all()
    again = split_classes(rows, codes, share, seed)
    assert np.array_equal(again.train, split.train)


def test_images_of_no_class_and_of_another_split_are_left_aside_and_counted(tmp_path):
    for name in ("train/cat/1", "train/dog/1", "test/cat/2", "train/loose", "other/3"):
        write_png(tmp_path / f"{name}.png", IMAGE)
    source = find_classes(tmp_path)
    assert source.notes == ("Left aside, as in the folder of no class: 2 images (other/3.png, train/loose.png).",)
    assert choose_part(source, "train").notes[1:] == (
        "To learn from: 2 images; 1 of another split or without a label left aside.",
    )
    assert choose_part(source, "test").notes[1:] == (
        "To test with: 1 image; 2 of another split or without a label left aside.",
    )
