"""From what a user names to a Source: the same ids every time, and a sentence for what cannot be."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import write_png
from unlike.data.files import FileSource
from unlike.data.samples import column
from unlike.data.source import labelled, open_source, training
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


def ids(source):
    return [sample.id for sample in source.samples]


def test_a_folder(folder):
    source = open_source(folder)
    assert ids(source) == ["a/deep/z.png", "a/x.png", "b/x.png", "b/y.png", "c.png"]
    assert source.name == str(folder)
    assert len(source) == 5
    assert source.natural_size is None
    assert ids(open_source(str(folder))) == ids(source)
    assert open_source(source) is source


def test_a_single_image(folder):
    source = open_source(folder / "b/y.png")
    assert source.samples == [Sample("y.png", folder / "b/y.png")]


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
    assert ids(open_source(folder / pattern)) == expected
    monkeypatch.chdir(folder)
    assert ids(open_source(pattern)) == expected


def test_brackets_in_a_name_that_exists_are_no_glob(tmp_path):
    write_png(tmp_path / "lot [1]/a[0].png", DOT)
    assert ids(open_source(tmp_path / "lot [1]")) == ["a[0].png"]
    assert ids(open_source(tmp_path / "lot [1]/a[0].png")) == ["a[0].png"]


def test_a_manifest(folder):
    (folder / "list.csv").write_text("path,label\nb/x.png,1\nc.png,0\n")
    assert [(s.id, s.anomalous) for s in open_source(folder / "list.csv").samples] == [
        ("b/x.png", True),
        ("c.png", False),
    ]


def test_several_sources_keep_their_order_and_short_ids_where_they_can(folder):
    source = open_source([folder / "b/y.png", str(folder / "a"), folder / "c.png"])
    assert ids(source) == ["y.png", "deep/z.png", "x.png", "c.png"]
    assert source.name == f"{folder}/b/y.png, {folder}/a, {folder}/c.png"
    assert ids(open_source([folder / "a"])) == ids(open_source(folder / "a"))


def test_ids_that_would_clash_become_whole_paths(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert ids(open_source(["b", "a"])) == ["b/x.png", "b/y.png", "a/deep/z.png", "a/x.png"]
    assert ids(open_source(["b/x.png", "a/x.png"])) == ["b/x.png", "a/x.png"]
    assert ids(open_source(["b/*", "a/*"])) == ["b/x.png", "b/y.png", "a/x.png"]


def test_many_sources_are_not_all_named(folder):
    paths = [folder / name for name in ("b/x.png", "b/y.png", "a/x.png", "a/deep/z.png", "c.png")]
    assert open_source(paths).name == f"{paths[0]}, {paths[1]}, {paths[2]} and 2 more"


def test_an_array_and_its_labels():
    source = open_source(ROWS, labels=[0, 1, 0, 0, 1])
    assert source.name == "the array"
    assert [(s.id, s.row, s.anomalous) for s in source.samples] == [
        ("0", 0, False),
        ("1", 1, True),
        ("2", 2, False),
        ("3", 3, False),
        ("4", 4, True),
    ]
    assert all(sample.anomalous is None for sample in open_source(ROWS).samples)


def test_what_can_become_an_array_is_one():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return ROWS

    source = open_source(Tensor())
    np.testing.assert_array_equal(source.array.block(0, 5)[..., 0], ROWS)


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_an_array_in_a_file(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    np.save(path, ROWS) if ending == ".npy" else np.savez(path, images=ROWS, labels=[0, 1, 0, 0, 1])
    source = open_source(path)
    assert source.name == str(path)
    assert [s.anomalous for s in source.samples] == (
        [None] * 5 if ending == ".npy" else [False, True, False, False, True]
    )
    np.save(tmp_path / "y.npy", np.array([1, 1, 0, 0, 0]))
    relabelled = open_source(str(path), labels=tmp_path / "y.npy")
    assert [s.anomalous for s in relabelled.samples] == [True, True, False, False, False]
    assert len(open_source([path], labels=[0] * 5)) == 5


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
        open_source(folder / images)
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
            open_source(images)


@pytest.mark.parametrize("images", ["", "c.png", ["a", "c.png"]])
def test_labels_go_with_arrays_only(folder, images):
    paths = [folder / name for name in images] if isinstance(images, list) else folder / images
    with pytest.raises(DataError, match="labels apart from the images go with an array"):
        open_source(paths, labels=[0, 1])


def test_a_missing_file_is_said_to_be_missing_whatever_its_labels(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        open_source(tmp_path / "x.npy", labels=[0, 1])


def samples(*facts):
    return [
        Sample(f"{number}.png", Path(f"{number}.png"), anomalous=anomalous, split=split)
        for number, (anomalous, split) in enumerate(facts)
    ]


@pytest.mark.parametrize(
    ("known", "fitted", "measured"),
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
def test_who_trains_and_who_is_evaluated(known, fitted, measured):
    source = FileSource("lot", samples(*known))
    for chosen, expected, message in (
        (training, fitted, f"lot: no image of {len(known)} is normal and outside a test split"),
        (
            labelled,
            measured,
            f"lot: no image of {len(known)} has a label; expected a folder with subfolders",
        ),
    ):
        if expected is None:
            with pytest.raises(DataError, match=message):
                chosen(source)
        else:
            assert ids(chosen(source)) == [f"{number}.png" for number in expected]


def test_rows_are_chosen_by_label():
    source = open_source(ROWS, labels=[0, 1, 0, 0, 1])
    assert ids(training(source)) == ["0", "2", "3"]
    assert ids(labelled(source)) == ["0", "1", "2", "3", "4"]
    assert ids(training(source).where(lambda sample: sample.row != 2)) == ["0", "3"]
    unlabelled = open_source(ROWS)
    assert training(unlabelled) is unlabelled
    with pytest.raises(DataError, match=r"the array: no image of 5 has a label; .* or an array with --labels"):
        labelled(unlabelled)
    with pytest.raises(DataError, match="the array: no image of 5 is normal"):
        training(open_source(ROWS, labels=[1] * 5))


@pytest.mark.parametrize("fact", ["anomalous", "category", "split", "kind", "id", "row"])
@pytest.mark.parametrize("labels", [None, [0, 1, 0, 0, 1]])
def test_a_fact_of_all_rows_is_that_of_each(fact, labels):
    rows = open_source(ROWS, labels).take(np.array([4, 0, 3])).samples
    assert column(rows, fact).tolist() == [getattr(sample, fact) for sample in rows]
    assert column(list(rows), fact).tolist() == column(rows, fact).tolist()


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), max_size=8), st.booleans())
def test_take_is_those_samples_in_that_order(positions, of_rows):
    source = open_source(ROWS, labels=[0, 1, 0, 0, 1])
    if not of_rows:
        source = FileSource("lot", list(source.samples))
    expected = [source.samples[position] for position in positions]
    assert list(source.take(np.array(positions, np.intp)).samples) == expected


def test_one_original_image(folder):
    write_png(folder / "c.png", np.full((3, 4, 3), 9, np.uint8))
    source = open_source(folder)
    assert source.read(source.samples[-1]).tolist() == np.full((3, 4, 3), 9).tolist()
    rows = open_source(ROWS)
    np.testing.assert_array_equal(rows.read(rows.samples[3])[..., 0], ROWS[3])
    with pytest.raises(DataError, match="7: has neither a file nor a row in the array"):
        rows.read(Sample("7"))


def test_names_that_are_no_text(folder):
    odd = os.fsdecode(b"\xff\xfe.png")
    write_png(folder / "c.png", DOT).rename(folder / odd)
    assert odd in ids(open_source(folder))
