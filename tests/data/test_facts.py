"""One look at each image: what is seen of good ones, and how broken ones and wrong masks are named."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from conftest import stripes, write_png
from unlike.data.facts import make_thumbnail, measure_defect, read_facts
from unlike.data.input_spec import InputSpec
from unlike.data.source import open_source
from unlike.records import Sample

SPEC = InputSpec(32, 32, 3)


def test_what_is_seen_of_files_of_many_forms(tmp_path):
    image = stripes(1)[0]
    write_png(tmp_path / "a.png", image)
    write_png(tmp_path / "b.png", np.full((20, 40, 3), 7, np.uint8))
    write_png(tmp_path / "c.png", np.full((10, 10, 3), 4095, np.uint16))
    write_png(tmp_path / "d.png", image)
    told = []
    facts = read_facts(open_source(tmp_path), SPEC, lambda done, total: told.append((done, total)))
    assert facts.shapes.tolist() == [[32, 32, 3], [20, 40, 3], [10, 10, 3], [32, 32, 3]]
    assert facts.kinds == ("uint8", "uint8", "uint16", "uint8")
    assert facts.extremes[1:3].tolist() == [[7, 7], [4095, 4095]]
    assert facts.means[0] == pytest.approx(image.mean())
    assert facts.digests[0] == facts.digests[3] != facts.digests[1]
    assert facts.thumbnails.shape == (4, 1024)
    assert not facts.thumbnails[1].any()
    assert told[-1] == (4, 4)


def test_broken_files_and_other_forms_are_named(tmp_path):
    write_png(tmp_path / "a.png", stripes(1)[0])
    (tmp_path / "b.png").write_bytes(b"")
    write_png(tmp_path / "c.png", stripes(1, channels=1)[0, ..., 0])
    facts = read_facts(open_source(tmp_path), SPEC)
    assert facts.rows.tolist() == [0]
    assert [str(item) for item in facts.unreadable] == [
        "b.png is empty (0 bytes)",
        "c.png has 1 channel where the detector takes 3; fit with --set data.channels=3 to convert such images",
    ]


def test_nothing_that_can_be_read_has_no_rows(tmp_path):
    (tmp_path / "b.png").write_bytes(b"")
    facts = read_facts(open_source(tmp_path), SPEC)
    assert (len(facts), facts.shapes.shape, facts.thumbnails.shape) == (0, (0, 3), (0, 1024))


def test_masks_are_measured_or_named(mvtec):
    masks = mvtec / "ground_truth/scratch"
    write_png(masks / "000_mask.png", np.zeros((32, 32), np.uint8))
    write_png(masks / "001_mask.png", np.zeros((8, 9), np.uint8))
    facts = read_facts(open_source(mvtec), InputSpec(16, 16, 3))
    assert [str(item) for item in facts.bad_masks] == [
        "test/scratch/000.png its mask is empty",
        "test/scratch/001.png its mask has 8 x 9 pixels where the image has 32 x 32",
    ]
    assert len(facts.defects) == 8
    assert all(defect.width == pytest.approx(3) and defect.original == pytest.approx(6) for defect in facts.defects)


def test_masks_in_memory_count_too():
    source = open_source(stripes(2))
    mask = np.zeros((32, 32), bool)
    mask[4:8, 4:20] = True
    facts = read_facts(source.with_samples([Sample("a", row=0, anomalous=True, mask=mask)]), SPEC)
    assert facts.defects[0].width == pytest.approx(4)


@pytest.mark.parametrize("angle", [0, 30, 45, 90])
def test_a_scratch_is_as_thin_as_it_is_however_it_lies(angle):
    mask = np.zeros((200, 200), np.uint8)
    centre, radians = np.array([100, 100]), np.deg2rad(angle)
    along, across = np.array([np.cos(radians), np.sin(radians)]), np.array([-np.sin(radians), np.cos(radians)])
    corners = [centre + a * 80 * along + b * 2.5 * across for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    cv2.fillConvexPoly(mask, np.rint(corners).astype(np.int32), 1)
    width, area, original = measure_defect(mask > 0, InputSpec(100, 100, 1))
    assert original == pytest.approx(6, abs=1.2)
    assert width == pytest.approx(original / 2, rel=0.15)
    assert area == pytest.approx(mask.sum() / 4)


def test_proportions_count_where_they_are_kept():
    mask = np.zeros((100, 400), bool)
    mask[:, 200:208] = True
    assert measure_defect(mask, InputSpec(100, 100, 1))[0] == pytest.approx(2)
    assert measure_defect(mask.T, InputSpec(100, 100, 1))[0] == pytest.approx(2)
    assert measure_defect(mask, InputSpec(100, 400, 1, aspect="pad"))[0] == pytest.approx(8)
    assert measure_defect(np.zeros((4, 4), bool), SPEC) is None


def test_thumbnails_are_the_same_in_any_light():
    image = stripes(1)[0] // 2
    assert np.allclose(make_thumbnail(image), make_thumbnail(image + 60), atol=1e-3)
    assert np.linalg.norm(make_thumbnail(image)) == pytest.approx(1, abs=1e-2)
    assert not make_thumbnail(np.full((40, 40, 3), 200, np.uint8)).any()


def test_an_image_larger_than_is_allowed_is_named_as_a_fit_names_it(tmp_path):
    write_png(tmp_path / "a.png", stripes(1)[0])
    write_png(tmp_path / "b.png", np.full((40, 40, 3), 7, np.uint8))
    facts = read_facts(open_source(tmp_path), replace(SPEC, most_pixels=1024))
    assert facts.shapes.tolist() == [[32, 32, 3]]
    assert [item.id for item in facts.unreadable] == ["b.png"]
    assert "claims 1,600 pixels, more than 1,024" in facts.unreadable[0].reason
