"""What an inspection says, in sentences and on its page: that nothing is missing, nothing runs, and names are escaped."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from conftest import scratched, stripes, write_png
from unlike.calibration.groups import connect
from unlike.detector.inspect import inspect
from unlike.detector.inspection import Look, Strange
from unlike.detector.settings import Settings
from unlike.errors import OutputError
from unlike.report.findings import findings, inspection_text
from unlike.report.inspection import render_inspection, write_inspection


def looked_at(found, pairs, ratios=(1.2,)):
    """As if features had shown these pairs of the images that fit would take, and the first ones were strange."""
    rows = found.taken
    image = np.zeros((16, 16, 3), np.uint8)
    strange = [Strange(found.sample(row), ratio, image, np.eye(4)) for row, ratio in zip(rows, ratios, strict=False)]
    look = Look(rows, connect(np.array(pairs), len(rows)), tuple(strange))
    return replace(found, same=found.copies, look=look, not_looked="")  # of stripes, many are the same picture


def said(found, title):
    return next((" ".join([*part.lines, *part.names]) for part in findings(found) if part.title == title), "")


@pytest.fixture
def found(mvtec):
    return inspect(mvtec, features=False)


def test_the_text_says_what_fit_would_take(found, mvtec):
    text = inspection_text(found)
    assert text.startswith(str(mvtec))
    assert "fit would take 40 of 60 images: those labelled normal, of the train split." in text
    assert "     10  anomalous: scratch (test)" in text
    assert "All are 32 x 32 pixels (height x width)." in text
    assert "3 channels; values: uint8 from" in text
    assert "40 different normal images, all hold the threshold: fit promises at most 7.32 % false alarms." in text
    assert "For 1 %, 59 more are needed (99 in all), and --false-alarms 0.01." in text
    assert "Series of one part or scene were not looked for: not asked for." in text
    assert "\u00a0" not in text


def test_groups_and_what_they_mean_for_the_promise(found):
    many = [[0, other] for other in range(1, 30)]
    text = said(looked_at(found, many), "Copies and series")
    assert "40 images in 11 groups" in text
    assert "the largest: 30 images (train/good/000.png, train/good/001.png, train/good/002.png, ...)" in text
    promise = said(looked_at(found, many), "The promise")
    assert (
        "rests on 11 groups, not 40 images: 8.33 %. More parts help, more shots of the same do not. fit counts groups where"
        in promise
    )
    assert "groups" not in said(looked_at(found, np.empty((0, 2), np.intp)), "The promise")


def test_no_series_is_said_too(found):
    none = looked_at(found, np.empty((0, 2), np.intp))
    assert "no series of one part or scene was found" in said(none, "Copies and series")


def test_normal_images_in_series_that_are_many_hold_the_promise():
    images = np.random.default_rng(0).integers(0, 255, (450, 8, 8), dtype=np.uint8)
    found = inspect(images, features=False)
    text = said(looked_at(found, [[i, i + 1] for i in range(0, 200, 2)]), "The promise")
    assert "groups, not 450 images; so many hold it too. fit counts groups where they are given" in text


def test_the_smallest_defect_and_what_to_do(tmp_path):
    good = np.random.default_rng(0).integers(90, 110, (6, 64, 2000), np.uint8)
    for number, image in enumerate(good):
        write_png(tmp_path / f"train/good/{number}.png", image)
    mask = np.zeros((64, 2000), np.uint8)
    mask[:, 500:504] = 255
    write_png(tmp_path / "test/scratch/0.png", np.maximum(good[0], mask))
    write_png(tmp_path / "ground_truth/scratch/0_mask.png", mask)
    found = inspect(tmp_path, features=False)
    text = said(found, "The smallest defect")
    assert "4 pixels across in 64 x 2000, is 1 pixel across at 512 x 512 (test/scratch/0.png)" in text
    assert "1 of 1 defect is thinner than 2 pixels there" in text
    assert "To see it about 4 pixels across: --size 64x2000 --set data.tile=64" in text
    page = render_inspection(found)
    assert "The thinnest labelled defects" in page
    assert "4 pixels across; 1 pixel as the detector sees it" in page


def test_what_is_wrong_is_said_first(mvtec):
    image = cv2.imread(str(mvtec / "train/good/005.png"))[..., ::-1]
    write_png(mvtec / "test/good/099.png", image)
    write_png(mvtec / "test/scratch/099.png", image)
    (mvtec / "train/good/900.png").write_bytes(b"")
    found = inspect(mvtec, features=False)
    grave = {part.title for part in findings(found) if part.grave}
    assert {"Cannot be used", "Masks", "Labels that contradict each other", "Copies between train and test"} <= grave
    assert "train/good/900.png is empty (0 bytes)" in said(found, "Cannot be used")
    assert "test/scratch/099.png has no mask" in said(found, "Masks")
    assert "test/scratch/099.png is" in said(found, "Labels that contradict each other")
    assert "test/good/099.png is train/good/005.png" in said(found, "Copies between train and test")
    assert "Copies between train and test (!)" in inspection_text(found)
    page = render_inspection(found)
    assert page.index("Labels that contradict each other") < page.index("Some of what fit would take")


def test_images_without_a_label_are_cautioned_of():
    text = said(inspect(stripes(8), features=False), "What fit would take")
    assert "fit would take 8 of 8 images: those without a label." in text
    assert "Nothing says that they are normal" in text


def test_where_fit_would_take_none_it_says_why():
    bad, _ = scratched(stripes(3))
    found = inspect(bad, [1, 1, 1], features=False)
    assert "fit would take none:" in inspection_text(found)
    page = render_inspection(found)
    assert "fit would take none of these images" in page
    assert "Smallest promise" not in page


def test_mixed_forms_and_depths(tmp_path):
    write_png(tmp_path / "a.png", np.full((10, 12, 3), 9, np.uint8))
    write_png(tmp_path / "b.png", np.full((20, 12, 3), 4000, np.uint16))
    text = said(inspect(tmp_path, features=False), "Sizes and values")
    assert "2 different sizes (height x width): 10 to 20 high, 12 to 12 wide" in text
    assert "uint8 from 9 to 9 of 255, 4 of 8 bits (1 image)" in text
    assert "uint16 from 4,000 to 4,000 of 65,535, 12 of 16 bits (1 image)" in text
    floats = said(
        inspect(np.linspace(-900, 3000, 4 * 64, dtype=np.float32).reshape(4, 8, 8), features=False), "Sizes and values"
    )
    assert "float from -900 to 3000" in floats


def test_the_page_is_complete_and_loads_nothing(found, tmp_path):
    page = render_inspection(looked_at(found, [[0, 1], [1, 2]], ratios=(4.0, 1.1)))
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert "3 images" in page
    assert "4.00 times the usual score" in page
    assert page.count("data:image/png;base64,") >= 8
    assert "prefers-color-scheme: dark" in page
    path = write_inspection(found, tmp_path / "folder")
    assert path == tmp_path / "folder/inspection.html"
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_names_are_escaped(tmp_path):
    for number, image in enumerate(stripes(4)):
        write_png(tmp_path / f"<b>{number}.png", image)
    page = render_inspection(inspect(tmp_path, features=False))
    assert "<b>" not in page
    assert "&lt;b&gt;0.png" in page


def test_an_image_that_has_gone_is_left_out(mvtec):
    found = inspect(mvtec, features=False)
    for row in found.taken[:3]:
        found.sample(row).path.unlink()
    assert "inspection, before anything is fitted" in render_inspection(found)


def test_where_it_cannot_be_written_it_says_so(found, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file"):
        write_inspection(found, tmp_path / "file/look.html")


def test_copies_whose_labels_contradict_are_found_behind_one_without_a_label(found):
    samples = list(found.samples)
    for row, label in enumerate((None, False, True)):
        samples[row] = replace(samples[row], anomalous=label)
    copies = connect(np.array([[0, 1], [1, 2]]), len(found.facts))
    text = said(replace(found, samples=samples, copies=copies), "Labels that contradict each other")
    assert f"{samples[2].id} is {samples[1].id}" in text


def test_categories_are_shown_wherever_they_stand(found):
    last = replace(found.samples[-1], category="bolt")
    page = render_inspection(replace(found, samples=[*found.samples[:-1], last]))
    assert '<th scope="col">Category</th>' in page
    assert "<td>bolt</td>" in page


def test_images_of_16_bits_beside_those_of_8_are_not_shown_white(tmp_path, monkeypatch):
    for number, image in enumerate(stripes(6)):
        write_png(tmp_path / f"{number}.png", image if number % 2 == 0 else image.astype(np.uint16) * 257)
    shown = []
    monkeypatch.setattr("unlike.report.gallery.data_uri", lambda image: shown.append(image.mean()) or "")
    render_inspection(inspect(tmp_path, features=False))
    assert len(shown) == 6
    assert max(shown) < 200


def test_the_page_shows_images_up_to_the_size_that_is_allowed(tmp_path):
    for number, image in enumerate(stripes(4)):  # of 1,024 pixels
        write_png(tmp_path / f"{number}.png", image)
    found = inspect(tmp_path, features=False, settings=Settings.resolve(overrides={"data": {"most_pixels": 1024}}))
    spec = replace(found.spec, most_pixels=1023)
    assert "data:image" in render_inspection(found)
    assert "data:image" not in render_inspection(replace(found, spec=spec))


def test_a_name_that_would_steer_a_terminal_is_printed_without_what_does(tmp_path):
    for number, image in enumerate(stripes(5)):
        write_png(tmp_path / f"{number}.png", image)
        write_png(tmp_path / f"\x1b[2J{number}.png", image)
    found = inspect(tmp_path, features=False)
    first = found.taken[:0]
    text = inspection_text(replace(found, taken=first))  # copies among the others are named in a line
    assert "[2J0.png" in text
    assert "\x1b" not in text
