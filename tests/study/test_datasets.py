"""Where the images of a study come from."""

from __future__ import annotations

import sys
import types
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from conftest import scratched, stripes, write_png
from unlike.data.source import labelled
from unlike.errors import ConfigError, DataError
from unlike.study.datasets import COLLECTIONS, DataSource, categories, draw, open_classes, open_images


def open_source(**parts):
    return open_images(DataSource(**parts).named(Path()))


@pytest.fixture
def few_cells(monkeypatch):
    """The package of solar cells with 40 of them, as it gives them."""
    module = types.ModuleType("elpv_dataset.utils")
    probability = np.tile([0.0, 0.0, 1 / 3, 1.0], 10)
    kind = np.repeat(["mono", "poly"], 20)
    module.load_dataset = lambda: (stripes(40, channels=1)[..., 0], probability, kind)
    monkeypatch.setitem(sys.modules, "elpv_dataset.utils", module)
    COLLECTIONS["cells"].cache_clear()
    yield
    COLLECTIONS["cells"].cache_clear()


@pytest.mark.usefixtures("few_cells")
@pytest.mark.parametrize("name", sorted(COLLECTIONS))
def test_collections_have_normal_images_to_fit_and_labelled_ones_to_test(name):
    train, test = open_source(collection=name)
    assert not any(sample.anomalous for sample in train.samples)
    assert {sample.anomalous for sample in test.samples} == {False, True}
    assert not {sample.id for sample in train.samples} & {sample.id for sample in test.samples}
    again = open_source(collection=name)[1]
    assert [sample.id for sample in again.samples] == [sample.id for sample in test.samples]


@pytest.mark.usefixtures("few_cells")
def test_cells_are_certain_and_monocrystalline():
    train, test = open_source(collection="cells")
    rows = [int(sample.id) for sample in (*train.samples, *test.samples)]
    assert max(rows) < 20
    assert [sum(sample.kind == kind for sample in test.samples) for kind in ("good", "defective")] == [2, 5]
    assert len(train) == 8


def test_textures_are_of_several_categories_whose_defects_can_be_seen():
    train, test = open_source(collection="textures")
    assert categories(train, test) == ["checks", "rings", "stripes"]
    assert Counter(sample.kind for sample in test.samples) == {"good": 180, "blot": 90, "scratch": 90}
    assert test.array.array.dtype == np.uint8


def test_few_images_are_drawn_of_every_category_and_label_and_always_the_same():
    _, test = open_source(collection="textures", most_test=4)
    assert Counter((sample.category, sample.anomalous) for sample in test.samples) == {
        (category, label): 4 for category in ("checks", "rings", "stripes") for label in (False, True)
    }
    whole = labelled(COLLECTIONS["textures"]())
    assert [sample.id for sample in draw(whole, 4).samples] == [sample.id for sample in test.samples]
    assert draw(whole, None) is whole


def test_a_folder_of_arrays(tmp_path):
    good = stripes(30)
    np.save(tmp_path / "trainingset.npy", good[:20])
    np.save(tmp_path / "testingset.npy", np.concatenate([good[20:], scratched(good[:4])[0]]))
    with pytest.raises(DataError, match=r"has testingset.npy but no labels; expected a file such as test_labels.csv"):
        open_source(root=str(tmp_path))
    rows = "".join(f"{row},{int(row >= 10)}\n" for row in range(14))
    (tmp_path / "testing_labels.csv").write_text(f"ID,anomaly\n{rows}")
    train, test = open_source(root=str(tmp_path))
    assert (len(train), len(test), sum(sample.anomalous for sample in test.samples)) == (20, 14, 4)
    parts = {"train": "trainingset.npy", "test": "testingset.npy", "labels": "testing_labels.csv"}
    source = DataSource(**parts).named(tmp_path)
    assert source.name == "trainingset.npy"
    assert len(open_images(source)[1]) == 14


def test_a_folder_of_files(mvtec):
    train, test = open_source(root=str(mvtec), most_test=3)
    assert (len(train), len(test)) == (40, 6)
    assert DataSource(root=str(mvtec)).named(Path()).name == "stripes"


def test_classes_are_told_apart(tmp_path):
    learn, test = open_classes(DataSource(collection="digits", most_train=6, most_test=4).named(Path()))
    assert Counter(sample.kind for sample in learn.samples) == {str(digit): 6 for digit in range(10)}
    assert Counter(sample.kind for sample in test.samples) == {str(digit): 4 for digit in range(10)}
    for number, image in enumerate(stripes(12)):
        write_png(tmp_path / "set" / ("a" if number < 6 else "b") / f"{number}.png", image)
    learn, test = open_classes(DataSource(root="set").named(tmp_path))
    assert (len(learn), Counter(sample.kind for sample in test.samples)) == (8, {"a": 2, "b": 2})
    for number, image in enumerate(stripes(8)):
        write_png(tmp_path / "split" / ("train" if number < 6 else "test") / "ab"[number % 2] / f"{number}.png", image)
    learn, test = open_classes(DataSource(root="split").named(tmp_path))
    assert (len(learn), len(test)) == (6, 2)
    learn, test = open_classes(DataSource(train="split/train", test="split/test").named(tmp_path))
    assert (len(learn), len(test)) == (6, 2)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"collection": "texture"}, "unknown data.collection 'texture'; did you mean 'textures'?"),
        ({"collection": "textures", "root": "x"}, "data: expected one of: collection; root; train and test"),
        ({"train": "x"}, "data: expected one of: collection; root; train and test"),
        ({"most_test": 1}, r"data.most_test: expected 3 to 1e\+09, came 1"),
    ],
)
def test_what_no_source_can_be(parts, message):
    with pytest.raises(ConfigError, match=message):
        DataSource(**parts)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "elpv_dataset.utils", None)
    COLLECTIONS["cells"].cache_clear()
    with pytest.raises(ConfigError, match=r"the solar cells are not installed: pip install 'unlike\[demo\]'"):
        COLLECTIONS["cells"]()
