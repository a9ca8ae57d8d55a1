"""From what a user names to an Index: the same ids every time, and a sentence for what cannot be."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import write_png
from unlike.data.index import Index, find_images, read_original
from unlike.errors import DataError
from unlike.records import Sample

DOT = np.zeros((4, 4), np.uint8)
ROWS = np.arange(5 * 6 * 7, dtype=np.uint8).reshape(5, 6, 7)


@pytest.fixture
def folder(tmp_path):
    for name in ("b/x.png", "b/y.png", "a/x.png", "a/deep/z.png", "c.png"):
        write_png(tmp_path / name, DOT)
    (tmp_path / "b/notes.txt").write_text("no image")
    return tmp_path


def ids(index):
    return [sample.id for sample in index.samples]


def test_a_folder(folder):
    index = find_images(folder)
    assert ids(index) == ["a/deep/z.png", "a/x.png", "b/x.png", "b/y.png", "c.png"]
    assert index.source == str(folder)
    assert len(index) == 5
    assert index.array is None
    assert ids(find_images(str(folder))) == ids(index)
    assert find_images(index) is index


def test_a_single_image(folder):
    index = find_images(folder / "b/y.png")
    assert index.samples == [Sample("y.png", folder / "b/y.png")]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("b/*", ["x.png", "y.png"]),
        ("*/x.png", ["a/x.png", "b/x.png"]),
        ("**/*.png", ["a/deep/z.png", "a/x.png", "b/x.png", "b/y.png", "c.png"]),
        ("[ab]/?.png", ["a/x.png", "b/x.png", "b/y.png"]),
    ],
)
def test_a_glob(folder, monkeypatch, pattern, expected):
    assert ids(find_images(folder / pattern)) == expected
    monkeypatch.chdir(folder)
    assert ids(find_images(pattern)) == expected


def test_brackets_in_a_name_that_exists_are_no_glob(tmp_path):
    write_png(tmp_path / "lot [1]/a[0].png", DOT)
    assert ids(find_images(tmp_path / "lot [1]")) == ["a[0].png"]
    assert ids(find_images(tmp_path / "lot [1]/a[0].png")) == ["a[0].png"]


def test_a_manifest(folder):
    (folder / "list.csv").write_text("path,label\nb/x.png,1\nc.png,0\n")
    assert [(s.id, s.anomalous) for s in find_images(folder / "list.csv").samples] == [
        ("b/x.png", True),
        ("c.png", False),
    ]


def test_several_sources_keep_their_order_and_short_ids_where_they_can(folder):
    index = find_images([folder / "b/y.png", str(folder / "a"), folder / "c.png"])
    assert ids(index) == ["y.png", "deep/z.png", "x.png", "c.png"]
    assert index.source == f"{folder}/b/y.png, {folder}/a, {folder}/c.png"
    assert ids(find_images([folder / "a"])) == ids(find_images(folder / "a"))


def test_ids_that_would_clash_become_whole_paths(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert ids(find_images(["b", "a"])) == ["b/x.png", "b/y.png", "a/deep/z.png", "a/x.png"]
    assert ids(find_images(["b/x.png", "a/x.png"])) == ["b/x.png", "a/x.png"]
    assert ids(find_images(["b/*", "a/*"])) == ["b/x.png", "b/y.png", "a/x.png"]


def test_many_sources_are_not_all_named(folder):
    paths = [folder / name for name in ("b/x.png", "b/y.png", "a/x.png", "a/deep/z.png", "c.png")]
    assert find_images(paths).source == f"{paths[0]}, {paths[1]}, {paths[2]} and 2 more"


def test_an_array_and_its_labels():
    index = find_images(ROWS, labels=[0, 1, 0, 0, 1])
    assert index.source == "the array"
    assert [(s.id, s.row, s.anomalous) for s in index.samples] == [
        ("0", 0, False),
        ("1", 1, True),
        ("2", 2, False),
        ("3", 3, False),
        ("4", 4, True),
    ]
    assert all(sample.anomalous is None for sample in find_images(ROWS).samples)


def test_what_can_become_an_array_is_one():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return ROWS

    index = find_images(Tensor())
    np.testing.assert_array_equal(index.array.block(0, 5)[..., 0], ROWS)


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_an_array_in_a_file(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    np.save(path, ROWS) if ending == ".npy" else np.savez(path, images=ROWS, labels=[0, 1, 0, 0, 1])
    index = find_images(path)
    assert index.source == str(path)
    assert [s.anomalous for s in index.samples] == (
        [None] * 5 if ending == ".npy" else [False, True, False, False, True]
    )
    np.save(tmp_path / "y.npy", np.array([1, 1, 0, 0, 0]))
    relabelled = find_images(str(path), labels=tmp_path / "y.npy")
    assert [s.anomalous for s in relabelled.samples] == [True, True, False, False, False]
    assert len(find_images([path], labels=[0] * 5)) == 5


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("missing/deep/x.png", "{0}/missing/deep/x.png: no such file or folder; {0} is as far as the path exists"),
        ("c.png/x.png", "{0}/c.png/x.png: no such file or folder; {0}/c.png is as far as the path exists"),
        ("missing.npy", "{0}/missing.npy: no such file or folder"),
        ("b/*.tif", "{0}/b/*.tif: no image matches; quote the pattern, and use ** for folders at any depth"),
    ],
)
def test_a_path_that_leads_nowhere(folder, images, message):
    with pytest.raises(DataError) as caught:
        find_images(folder / images)
    assert str(caught.value).startswith(message.format(folder))


def test_what_is_no_source_of_images(folder):
    np.save(folder / "x.npy", ROWS)
    for images, message in (
        ([], "expected at least one path, came an empty list"),
        ([folder / "x.npy", folder / "a"], "several sources must be files or folders; give one array at a time"),
        ([folder / "a", folder / "a/x.png", folder / "a"], "the same image is named twice; name each once"),
        (None, "expected a path, a list of paths or an array, came NoneType"),
        (3, "expected a path, a list of paths or an array, came int"),
    ):
        with pytest.raises(DataError, match=message):
            find_images(images)


@pytest.mark.parametrize("images", ["", "c.png", ["a", "c.png"]])
def test_labels_go_with_arrays_only(folder, images):
    paths = [folder / name for name in images] if isinstance(images, list) else folder / images
    with pytest.raises(DataError, match="labels apart from the images go with an array"):
        find_images(paths, labels=[0, 1])


def test_a_missing_file_is_said_to_be_missing_whatever_its_labels(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        find_images(tmp_path / "x.npy", labels=[0, 1])


def samples(*facts):
    return [
        Sample(f"{number}.png", Path(f"{number}.png"), anomalous=anomalous, split=split)
        for number, (anomalous, split) in enumerate(facts)
    ]


@pytest.mark.parametrize(
    ("known", "training", "labelled"),
    [
        ([(None, ""), (None, "")], [0, 1], None),
        ([(False, ""), (True, ""), (False, "")], [0, 2], [0, 1, 2]),
        ([(False, ""), (None, ""), (True, "")], [0], [0, 2]),
        ([(False, "train"), (False, "test"), (True, "test")], [0], [1, 2]),
        ([(None, "train"), (True, "train"), (False, "test"), (None, "test")], [0], [2]),
        ([(False, "train"), (False, "")], [0], [0, 1]),
        ([(False, "test"), (True, "test"), (False, "")], [2], [0, 1]),
        ([(False, "test"), (True, "test")], None, [0, 1]),
        ([(True, "")], None, [0]),
    ],
)
def test_who_trains_and_who_is_evaluated(known, training, labelled):
    index = Index("lot", samples(*known))
    for chosen, expected, message in (
        (index.training, training, f"lot: no image of {len(known)} is normal and outside a test split"),
        (
            index.labelled,
            labelled,
            f"lot: no image of {len(known)} has a label; expected a folder with subfolders",
        ),
    ):
        if expected is None:
            with pytest.raises(DataError, match=message):
                chosen()
        else:
            assert ids(chosen()) == [f"{number}.png" for number in expected]


def test_rows_are_chosen_by_label():
    index = find_images(ROWS, labels=[0, 1, 0, 0, 1])
    assert ids(index.training()) == ["0", "2", "3"]
    assert ids(index.labelled()) == ["0", "1", "2", "3", "4"]
    assert ids(index.training().where(lambda sample: sample.row != 2)) == ["0", "3"]
    unlabelled = find_images(ROWS)
    assert unlabelled.training() is unlabelled
    with pytest.raises(DataError, match=r"the array: no image of 5 has a label; .* or an array with --labels"):
        unlabelled.labelled()
    with pytest.raises(DataError, match="the array: no image of 5 is normal"):
        find_images(ROWS, labels=[1] * 5).training()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=8), st.booleans())
def test_take_is_those_samples_in_that_order(positions, of_rows):
    index = find_images(ROWS, labels=[0, 1, 0, 0, 1])
    if not of_rows:
        index = Index("lot", list(index.samples))
    expected = [index.samples[position] for position in positions]
    assert list(index.take(np.array(positions, np.intp)).samples) == expected


def test_one_original_image(folder):
    write_png(folder / "c.png", np.full((3, 4, 3), 9, np.uint8))
    index = find_images(folder)
    assert read_original(index, index.samples[-1]).tolist() == np.full((3, 4, 3), 9).tolist()
    rows = find_images(ROWS)
    np.testing.assert_array_equal(read_original(rows, rows.samples[3])[..., 0], ROWS[3])
    with pytest.raises(DataError, match="7: has neither a file nor a row in the array"):
        read_original(rows, Sample("7"))


def test_names_that_are_no_text(folder):
    odd = os.fsdecode(b"\xff\xfe.png")
    write_png(folder / "c.png", DOT).rename(folder / odd)
    assert odd in ids(find_images(folder))
