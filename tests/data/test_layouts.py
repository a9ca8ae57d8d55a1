"""Folders, MVTec AD layouts, manifests and label files: what is found, what is known of it, what is refused."""

import numpy as np
import pytest

from conftest import write_png
from unlike.data.layouts import folders
from unlike.data.layouts.labels import read_labels
from unlike.data.layouts.manifests import read_manifest
from unlike.data.layouts.names import says_defect
from unlike.data.layouts.walk import relative, sift
from unlike.data.source import open_source, training
from unlike.errors import DataError

DOT = np.zeros((4, 4), np.uint8)


def read_folder(folder):
    return folders.read_folder(folder).samples


def put(folder, *names):
    for name in names:
        write_png(folder / name, DOT)
    return folder


def facts(samples, *names):
    return {sample.id: tuple(getattr(sample, name) for name in names) for sample in samples}


def test_a_plain_folder_is_walked_to_any_depth_in_a_stable_order(tmp_path):
    put(tmp_path, "b.png", "a/z.png", "a/b/c/d.PNG", "a.b/1.png", "10.png", "9.png")
    (tmp_path / "notes.txt").write_text("no image")
    samples = read_folder(tmp_path)
    assert [sample.id for sample in samples] == ["10.png", "9.png", "a.b/1.png", "a/b/c/d.PNG", "a/z.png", "b.png"]
    assert all(sample.anomalous is None and sample.split == sample.kind == sample.category == "" for sample in samples)
    assert all(sample.path == tmp_path / sample.id for sample in samples)


def test_hidden_files_and_folders_are_left_alone(tmp_path):
    put(tmp_path, "a.png", ".b.png", ".git/c.png", "d/.thumbs/e.png")
    assert [sample.id for sample in read_folder(tmp_path)] == ["a.png"]


def test_links_are_followed_and_loops_end(tmp_path):
    put(tmp_path, "elsewhere/x.png", "folder/a.png", "folder/sub/b.png")
    (tmp_path / "folder/link").symlink_to(tmp_path / "elsewhere")
    for name in ("loop", "another"):
        (tmp_path / "folder/sub" / name).symlink_to(tmp_path / "folder")
    (tmp_path / "folder/file.png").symlink_to(tmp_path / "elsewhere/x.png")
    (tmp_path / "folder/broken.png").symlink_to(tmp_path / "nowhere.png")
    ids = [sample.id for sample in read_folder(tmp_path / "folder")]
    assert ids == ["a.png", "broken.png", "file.png", "link/x.png", "sub/b.png"]


@pytest.mark.parametrize("others", [0, 2])
def test_a_folder_without_images_is_refused(tmp_path, others):
    for number in range(others):
        (tmp_path / f"{number}.txt").write_text("no image")
    with pytest.raises(DataError, match=rf"no image in it \({others} other files\); expected .avif, .bmp, "):
        read_folder(tmp_path)


def test_a_folder_that_cannot_be_opened_is_refused_not_skipped(tmp_path, monkeypatch):
    put(tmp_path, "a.png", "b/c.png")
    with pytest.raises(DataError, match=r"missing: cannot be opened \(No such file or directory\)"):
        read_folder(tmp_path / "missing")
    real = __import__("os").scandir

    def locked(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("os.scandir", locked)
    with pytest.raises(DataError, match=r"/b: cannot be opened \(Permission denied\), and its images would be missed"):
        read_folder(tmp_path)


def test_a_category_in_mvtec_layout(tmp_path):
    put(
        tmp_path,
        *("train/good/0.png", "test/good/0.png", "test/bent/0.png", "test/bent/1.png", "test/cut/deep/2.png"),
        *(
            "ground_truth/bent/0_mask.png",
            "ground_truth/cut/deep/2.png",
            "test/cut/3.bmp",
            "ground_truth/cut/3_mask.bmp",
        ),
    )
    (tmp_path / "license.txt").write_text("CC BY")
    found = facts(read_folder(tmp_path), "anomalous", "kind", "split", "mask")
    truth = tmp_path / "ground_truth"
    assert found == {
        "train/good/0.png": (False, "good", "train", None),
        "test/good/0.png": (False, "good", "test", None),
        "test/bent/0.png": (True, "bent", "test", truth / "bent/0_mask.png"),
        "test/bent/1.png": (True, "bent", "test", None),
        "test/cut/deep/2.png": (True, "cut", "test", truth / "cut/deep/2.png"),
        "test/cut/3.bmp": (True, "cut", "test", truth / "cut/3_mask.bmp"),
    }


def test_a_root_of_several_categories(tmp_path):
    put(tmp_path, "nut/train/good/0.png", "nut/test/bent/0.png", "bolt/test/good/0.png", "loose/0.png")
    found = facts(read_folder(tmp_path), "category", "split", "anomalous")
    assert found == {
        "bolt/test/good/0.png": ("bolt", "test", False),
        "nut/test/bent/0.png": ("nut", "test", True),
        "nut/train/good/0.png": ("nut", "train", False),
    }


def test_loose_training_images_have_their_split_and_no_label(tmp_path):
    put(tmp_path, "train/0.png", "test/good/0.png", "test/bad/0.png")
    found = facts(read_folder(tmp_path), "split", "anomalous")
    assert found["train/0.png"] == ("train", None)


@pytest.mark.parametrize("good", ["good", "normal", "ok"])
def test_good_beside_kinds_of_defects(tmp_path, good):
    put(tmp_path, f"{good}/0.png", "bent/0.png", "ground_truth/bent/0_mask.png", "loose.png", ".hidden/0.png")
    assert facts(read_folder(tmp_path), "anomalous", "kind", "split") == {
        f"{good}/0.png": (False, "good", ""),
        "bent/0.png": (True, "bent", ""),
        "loose.png": (None, "", ""),
    }
    assert facts(read_folder(tmp_path), "mask")["bent/0.png"] == (tmp_path / "ground_truth/bent/0_mask.png",)


def test_the_test_folder_of_a_category_finds_its_masks(tmp_path):
    put(tmp_path, "test/good/0.png", "test/bent/0.png", "ground_truth/bent/0_mask.png")
    found = facts(read_folder(tmp_path / "test"), "anomalous", "mask")
    assert found == {
        "good/0.png": (False, None),
        "bent/0.png": (True, tmp_path / "ground_truth/bent/0_mask.png"),
    }


def manifest(folder, text, encoding="utf-8"):
    (folder / "list.csv").write_bytes(text.encode(encoding))
    return folder / "list.csv"


def test_a_manifest_with_every_column(tmp_path):
    path = manifest(
        tmp_path,
        "path,label,split,category,mask\n"
        "b/2.png,bent,test,nut,masks/2.png\n"
        "\n"
        "a.png,good,train,nut,\n"
        "c.png,1,Test,bolt,\n"
        "d.png,,,,\n"
        './b/../e.png,"0",train\n',
    )
    samples = read_manifest(path)
    assert [sample.id for sample in samples] == ["a.png", "b/2.png", "c.png", "d.png", "e.png"]
    assert facts(samples, "anomalous", "kind", "split", "category", "mask") == {
        "a.png": (False, "good", "train", "nut", None),
        "b/2.png": (True, "bent", "test", "nut", tmp_path / "masks/2.png"),
        "c.png": (True, "anomalous", "test", "bolt", None),
        "d.png": (None, "", "", "", None),
        "e.png": (False, "good", "train", "", None),
    }
    assert samples[1].path == tmp_path / "b/2.png"


@pytest.mark.parametrize("header", ["\ufeffpath,label", "Path, Label", " PATH ,LABEL "])
def test_a_byte_order_mark_capitals_and_spaces_in_the_header(tmp_path, header):
    samples = read_manifest(manifest(tmp_path, f"{header}\r\na.png,bad\r\n"))
    assert facts(samples, "anomalous") == {"a.png": (True,)}


def test_a_path_with_comma_accent_and_an_absolute_one(tmp_path):
    samples = read_manifest(manifest(tmp_path, f'path\n"a, b.png"\n{tmp_path}/é.png\n'))
    assert [sample.id for sample in samples] == ["a, b.png", "é.png"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        *((word, (False, "good")) for word in ("0", "0.0", "good", "GOOD", "normal", "ok", "False", " 0 ")),
        *((word, (True, "anomalous")) for word in ("1", "1.0", "bad", "Anomaly", "anomalous", "defective", "true")),
        ("scratch", (True, "scratch")),
        ("", (None, "")),
    ],
)
def test_words_for_labels(tmp_path, word, expected):
    samples = read_manifest(manifest(tmp_path, f"path,label\na.png,{word}\n"))
    assert facts(samples, "anomalous", "kind") == {"a.png": expected}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a column named path (and label, split, category, group, mask), came an empty file"),
        (
            "file,label\na.png,0\n",
            "expected a column named path (and label, split, category, group, mask), came file, label",
        ),
        ("path,label\n", "names no image; expected one a line below the column names"),
        ("path\na.png\nb.png\n./a.png\n", "line 4 names a.png again, after line 2; keep one of them"),
        ("path,label\na.png,0\n,1\n", "line 3: the path is empty"),
        (
            "path,label\na.png,0\n\nb.png,2\n",
            "line 4: label '2'; expected 0 for normal, 1 for anomalous, or the name of",
        ),
        ("path,label\na.png,nan\n", "line 2: label 'nan'; expected 0 for normal"),
        ("path\n../a.png\n", "line 2: ../a.png lies outside {folder}; put the manifest above its images"),
        ("path\n/etc/a.png\n", "line 2: /etc/a.png lies outside {folder}"),
        ("path,mask\na.png,../m.png\n", "line 2: ../m.png lies outside {folder}"),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path, text, message):
    path = manifest(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}: {message.format(folder=tmp_path)}")


def test_a_manifest_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"list.csv: cannot be read as CSV in UTF-8 \('utf-8' codec"):
        read_manifest(manifest(tmp_path, "path\na.png\n", "utf-16"))


WANTED = [False, True, False, True]


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 0, 1],
        [False, True, False, True],
        (0.0, 1.0, 0.0, 1.0),
        np.array([0, 1, 0, 1], np.uint8),
        ["good", "bent", "ok", "bad"],
        np.array([b"good", b"bent", b"0", b"1"]),
        np.array([0, "bent", False, True], object),
    ],
    ids=["numbers", "truths", "shares", "bytes", "words", "short words", "objects"],
)
def test_labels_as_a_sequence(labels):
    read = read_labels(labels, 4, "x")
    assert read.dtype == bool
    assert read.tolist() == WANTED


@pytest.mark.parametrize(
    "text",
    [
        "id,label\n0,0\n1,1\n2,0\n3,1\n",
        "id,label\n1,0\n2,1\n3,0\n4,1\n",
        "ID,anomaly,score\n3,0,9\n4,1,9\n1,0,9\n2,1,9\n",
        "label\n0\n1\n0\n1\n",
        "ID,class\n0,good\n3,bad\n1,bent\n2,ok\n",
        "\ufefflabel,id\nbent,2\ngood,1\n0,3\n1.0,4\n\n",
    ],
    ids=["from 0", "from 1", "shuffled", "no ids", "last column", "id last"],
)
def test_labels_of_a_csv(tmp_path, text):
    path = manifest(tmp_path, text)
    assert read_labels(path, 4, "x").tolist() == WANTED
    assert read_labels(str(path), 4, "x").tolist() == WANTED


def test_labels_of_an_npy(tmp_path):
    np.save(tmp_path / "y.npy", np.array(WANTED))
    assert read_labels(tmp_path / "y.npy", 4, "x").tolist() == WANTED


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 0], "x: 4 images need as many labels, came 3"),
        (np.zeros((4, 1)), "x: 4 images need as many labels, came 4 x 1"),
        (1, "x: 4 images need as many labels, came a single value"),
        ([0, 1, np.nan, 0], "x: label nan; expected 0 for normal, 1 for anomalous"),
        (["good", "bad", "", "bad"], "x: row 2: has no label; expected 0 for normal, 1 for anomalous, or a word"),
        ([0, None, 0, 1], "x: row 1: has no label"),
        (["good", "2", "0", "1"], "x: row 1: label '2'; expected 0 for normal"),
    ],
)
def test_wrong_labels_are_refused(labels, message):
    with pytest.raises(DataError) as caught:
        read_labels(labels, 4, "x")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\n0,0\n1,1\n2,0\n", "for x: 4 images need as many labels, came 3"),
        ("id,label\n0,0\n1,1\n1,0\n2,1\n", ": the column id must number the rows without a gap or a repeat"),
        ("id,label\n0,0\n1,1\n2,0\n9,1\n", ": the column id must number the rows without a gap or a repeat"),
        ("id,label\na,0\nb,1\nc,0\nd,1\n", ": expected row numbers in the column id"),
        ("", ": expected a column anomaly or anomalous or label or y or target or class, came an empty file"),
        ("id,label\n0,0\n1,\n2,0\n3,1\n", " for x: row 1: has no label"),
    ],
)
def test_wrong_label_files_are_refused(tmp_path, text, message):
    path = manifest(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_labels(path, 4, "x")
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_label_files_that_hold_no_labels_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"y.csv: no such file of labels"):
        read_labels(tmp_path / "y.csv", 4, "x")
    np.savez(tmp_path / "y.npz", a=np.zeros(4), b=np.zeros(4))
    with pytest.raises(DataError, match=r"y.npz: holds several arrays; expected a .npy of numbers, or a .csv"):
        read_labels(tmp_path / "y.npz", 4, "x")
    (tmp_path / "y.npy").write_text("0 1 0 1")
    with pytest.raises(DataError, match=r"y.npy: cannot be read as labels .*; expected a .npy of numbers, or a .csv"):
        read_labels(tmp_path / "y.npy", 4, "x")


@pytest.mark.parametrize("negation", ["no", "not", "non"])
def test_a_negation_is_heard_wherever_it_stands_before_its_word(negation):
    for name, expected in (("{}_defect", False), ("7_{}_defect", False), ("{}_ok_7", True), ("defect_{}", True)):
        assert says_defect(name.format(negation)) == expected


def tree(root, *names):
    for name in names:
        write_png(root / name, np.zeros((4, 4), np.uint8))


@pytest.mark.parametrize("good", ["good", "Good", "OK", "Normal"])
def test_categories_without_splits_are_seen_as_such(tmp_path, good):
    tree(tmp_path, f"a/{good}/1.png", "a/bad/2.png", f"b/{good}/3.png", "b/cut/4.png")
    found = {s.id: (s.category, s.kind, s.anomalous) for s in read_folder(tmp_path)}
    assert found == {
        f"a/{good}/1.png": ("a", "good", False),
        "a/bad/2.png": ("a", "bad", True),
        f"b/{good}/3.png": ("b", "good", False),
        "b/cut/4.png": ("b", "cut", True),
    }


def test_flat_train_and_test_folders_are_splits(tmp_path):
    tree(tmp_path, "train/1.png", "train/2.png", "test/3.png")
    source = open_source(tmp_path)
    assert {s.id: (s.split, s.anomalous) for s in source.samples} == {
        "test/3.png": ("test", None),
        "train/1.png": ("train", None),
        "train/2.png": ("train", None),
    }
    assert [s.id for s in training(source).samples] == ["train/1.png", "train/2.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,labl\na.png,good\n", r"unknown column 'labl'; did you mean 'label'\?"),
        (
            "image,filename,label\na.png,b.png,good\n",
            r"several columns are the path of an image: image, filename; keep one of them",
        ),
        (
            "path,label,Label\na.png,good,bad\n",
            r"several columns are the label of an image: label, label; keep one of them",
        ),
        ("path,split\na.png,validate\n", r"line 2: split 'validate'; expected train, validation, test, or nothing"),
    ],
)
def test_a_manifests_slips_are_not_read_as_something_else(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path / "m.csv")


def test_labels_of_other_conventions_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"label -1; expected 0 for normal, 1 for anomalous"):
        read_labels(np.array([-1, 1, 1]), 3, "x.npy")
    (tmp_path / "y.csv").write_text("ID,foo\n0,1\n")
    with pytest.raises(DataError, match=r"expected a column anomaly or .*, came id, foo"):
        read_labels(tmp_path / "y.csv", 1, "x.npy")


def test_what_a_pattern_finds_is_sifted_as_a_walk_would(tmp_path):
    paths = [tmp_path / name for name in ("@eaDir/1.png", "good/@eaDir/1.png", "@eaDir/good/1.png", "good/1.png")]
    found = sift(tmp_path, paths)
    assert [relative(path, tmp_path) for path in found.files] == ["good/1.png"]
    assert len(found.system) == 3
