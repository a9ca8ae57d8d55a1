"""Evaluation where nobody has a defective image: what is made, and that everybody is told so."""

from __future__ import annotations

import numpy as np
import pytest
from test_evaluate import ContrastDetector, strict

from conftest import scratched, stripes, write_png
from unlike.data.defects import KINDS, DefectConfig
from unlike.data.input_spec import InputSpec
from unlike.data.source import open_source
from unlike.errors import DataError
from unlike.evaluation import evaluate, to_json
from unlike.evaluation.synthetic import MOST, make_synthetic

SPEC = InputSpec(32, 32, 3)


def make(images, **more):
    return make_synthetic(open_source(images), more.pop("spec", SPEC), **more)


def test_each_normal_image_comes_as_it_is_and_once_damaged_where_its_mask_says():
    images = stripes(12)
    found, unreadable = make(images)
    assert unreadable == ()
    assert [sample.anomalous for sample in found.samples] == [False] * 12 + [True] * 12
    assert {sample.kind for sample in found.samples} == {"good", *KINDS}
    (batch,) = found.stream(SPEC)
    np.testing.assert_array_equal(batch.pixels[:12], images)
    for row, sample in enumerate(found.samples[12:]):
        assert sample.id == f"{row} + {sample.kind}"
        changed = (batch.pixels[12 + row] != images[row]).any(axis=-1)
        assert sample.mask.any()
        assert not (sample.mask & ~changed).any()


def test_defects_fall_on_the_image_not_on_the_bars_of_a_padded_one(tmp_path):
    for number, image in enumerate(stripes(24)):
        write_png(tmp_path / f"{number:02}.png", image[:10] if number % 2 else image[:, :10])
    found, _ = make(tmp_path, spec=InputSpec(32, 32, 3, aspect="pad"))
    bad = [sample for sample in found.samples if sample.anomalous]
    assert len(bad) > 18
    for sample in bad:
        rows, columns = np.nonzero(sample.mask)
        across = rows if int(sample.id[:2]) % 2 else columns
        assert 11 <= across.min() <= across.max() < 21


def test_the_seed_decides():
    images = stripes(6)
    first, again, other = (make(images, seed=seed)[0].array.array for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_figure_is_had_and_marked_as_synthetic():
    found = evaluate(ContrastDetector(), stripes(24), synthetic=True)
    assert found.synthetic
    assert found.overall.left_out == {}
    assert set(found.kinds) == set(KINDS)
    assert found.overall.image["auroc"].value > 0.5
    assert set(found.overall.pixel) >= {"auroc", "aupro"}
    document = strict(to_json(found))
    assert document["synthetic"] is True
    assert document["source"].endswith(", with synthetic defects")


def test_real_defects_are_not_called_synthetic(mvtec):
    found = evaluate(ContrastDetector(), mvtec)
    assert not found.synthetic
    assert strict(to_json(found))["synthetic"] is False


def test_of_a_set_with_splits_the_normal_images_of_the_test_are_used(mvtec):
    found, _ = make(mvtec)
    assert [sample.id for sample in found.samples if not sample.anomalous] == [
        f"test/good/{number:03}.png" for number in range(10)
    ]


def test_images_it_was_fitted_on_are_found_out():
    images = stripes(8)
    found = evaluate(ContrastDetector(fitted_on=images[:3]), images, synthetic=True)
    assert found.leaked == ("0", "1", "2")


def test_broken_images_are_named_and_the_others_go_on(tmp_path):
    for number, image in enumerate(stripes(4)):
        write_png(tmp_path / f"{number}.png", image)
    (tmp_path / "broken.png").write_bytes(b"nonsense")
    found = evaluate(ContrastDetector(), tmp_path, synthetic=True)
    assert [item.id for item in found.scores.unreadable] == ["broken.png"]
    assert (found.overall.normal, found.overall.anomalous) == (4, 4)


def test_where_no_defect_can_be_seen_none_is_counted():
    flat = np.full((3, 32, 32, 3), 50, np.uint8)
    found, _ = make(flat, config=DefectConfig(kinds=("blend",)))
    assert [sample.anomalous for sample in found.samples] == [False] * 3


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_other_number_types(kind):
    images = stripes(6).astype(kind) * (257 if kind is np.uint16 else 1 / 255)
    found, _ = make(images.astype(kind), spec=InputSpec(32, 32, 3, floating=kind is np.float32))
    assert found.array.array.dtype == kind
    assert sum(sample.anomalous for sample in found.samples) == 6


def test_few_images_of_many_are_used():
    found, _ = make(
        np.zeros((MOST + 20, 8, 8), np.uint8), spec=InputSpec(8, 8, 1), config=DefectConfig(kinds=("scratch",))
    )
    assert sum(not sample.anomalous for sample in found.samples) == MOST


def test_no_normal_image_is_an_error(tmp_path):
    images, _ = scratched(stripes(3))
    with pytest.raises(DataError, match="no image of 3 is normal; synthetic defects need normal images"):
        make_synthetic(open_source(images, labels=[1, 1, 1]), SPEC)
    (tmp_path / "broken.png").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"no normal image of 1 can be read: broken\.png"):
        make(tmp_path)
