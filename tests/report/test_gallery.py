"""Gallery: the right images are chosen, and every kind of image can be looked at on one scale."""

from __future__ import annotations

import base64
from functools import partial

import cv2
import numpy as np
import pytest
from report_fakes import FakeDetector, evaluate_fake

from unlike.report import gallery


def shown(uri):
    content = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)


def selections_of(evaluation):
    return {selection.title: selection for selection in gallery.choose(evaluation)}


def test_the_extremes_and_the_worst_mistakes_are_chosen():
    scores = [1.0, 0.5, 3.0, 2.5, 1.2, 1.1, *[9.0, 0.1, 1.5, 4.0, 0.2, 1.8]]  # threshold 1.9; the first six are normal
    selections = selections_of(evaluate_fake(6, 6, scores=scores))
    assert selections["Most unusual"].rows == (6, 9, 2, 3)
    assert selections["Least unusual"].rows == (7, 10, 1, 0)
    assert selections["Worst misses"].rows == (7, 10, 8, 11)
    assert selections["Worst false alarms"].rows == (2, 3)


def test_a_perfect_detector_has_no_mistakes_to_show():
    selections = selections_of(evaluate_fake(3, 3, scores=[1.0, 1.0, 1.0, 5.0, 5.0, 5.0]))
    assert selections["Worst misses"].rows == selections["Worst false alarms"].rows == ()
    assert "every anomalous image" in selections["Worst misses"].empty
    assert "no normal image" in selections["Worst false alarms"].empty


@pytest.mark.parametrize("images", [1, 2, 3, 7, 8, 9])
def test_few_images_are_not_shown_as_both_most_and_least_unusual(images):
    selections = selections_of(evaluate_fake(images, 0))
    rows = [
        row for selection in ("Most unusual", "Least unusual") for row in getattr(selections.get(selection), "rows", ())
    ]
    assert len(rows) == len(set(rows)) == min(images, 2 * gallery.PER_SELECTION)


def test_a_class_that_is_absent_has_no_selection():
    assert "Worst misses" not in selections_of(evaluate_fake(9, 0))
    assert "Worst false alarms" not in selections_of(evaluate_fake(0, 9))


def test_all_maps_share_one_scale():
    evaluation = evaluate_fake(5, 5)
    explanations = FakeDetector().explain(evaluation.source, evaluation.samples)
    one, other = explanations[0], explanations[9]
    limit = gallery.colour_limit([one.map, other.map])
    assert limit >= np.quantile(np.stack([one.map, other.map]), 0.998)
    together = gallery.picture(lambda samples: [one, other], evaluation, [0, 9])
    assert not evaluation.alarms[0]
    assert evaluation.alarms[9]
    assert together.start == gallery.colour_start([one.map], limit)
    expected = gallery.overlay(gallery.displayable(one.image, 0, 255), one.map, together.limit, together.start)
    assert together.limit == limit
    assert np.array_equal(shown(together.cards[0].overlay), expected)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_maps_of_nothing_still_have_a_scale(value):
    assert gallery.colour_limit([np.full((4, 4), value)]) == 1.0


def test_a_lone_bright_pixel_sets_the_scale_where_all_else_is_zero():
    map_ = np.zeros((100, 100))
    map_[3, 3] = 0.5
    assert gallery.colour_limit([map_]) == 0.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(48, 48), (300, 60), (7, 400), (1, 1)])
def test_every_kind_of_image_becomes_a_picture(dtype, channels, size):
    evaluation = evaluate_fake(2, 2)
    detector = FakeDetector((*size, channels), dtype) if min(size) > 1 else single_pixels(channels, dtype)
    found = gallery.picture(partial(detector.explain, evaluation.source), evaluation, [0, 3])
    for card in found.cards.values():
        pictures = [shown(uri) for uri in (card.image, card.reconstruction, card.overlay)]
        height, width, colours = pictures[0].shape
        assert {picture.shape for picture in pictures} == {(height, width, 3)}
        assert max(height, width) <= gallery.LONGEST_SIDE
        assert height / width == pytest.approx(size[0] / size[1], rel=0.15)
        assert colours == 3


def single_pixels(channels, dtype):
    image = np.zeros((1, 1, channels), dtype)
    names = [sample.id for sample in evaluate_fake(2, 2).samples]
    return FakeDetector((2, 2, channels), dtype, images=dict.fromkeys(names, image))


def test_sixteen_bits_that_fill_a_sliver_of_the_range_can_be_seen():
    ramp = np.linspace(1000, 1400, 10_000).astype(np.uint16).reshape(100, 100, 1)
    low, high, note = gallery.shades([ramp])
    picture = gallery.displayable(ramp, low, high)
    assert (picture.min(), picture.max()) == (0, 255)
    assert "1000 or less as black and of 1399 or more as white" in note


def test_eight_bits_are_shown_as_they_are(rng):
    image = rng.integers(90, 110, (5, 5, 3)).astype(np.uint8)
    low, high, note = gallery.shades([image])
    assert np.array_equal(gallery.displayable(image, low, high), image)
    assert note == ""


def test_images_that_are_not_finite_or_flat_are_shown_without_a_warning():
    image = np.full((4, 4, 1), np.nan, np.float32)
    image[0, 0] = np.inf
    low, high, _ = gallery.shades([image])
    assert gallery.displayable(image, low, high).shape == (4, 4, 3)


@pytest.mark.parametrize(("channels", "words"), [(1, ""), (2, "the mean"), (3, ""), (4, ""), (5, "the mean is shown")])
def test_a_note_says_which_channels_are_shown(channels, words):
    note = gallery.shades([np.zeros((2, 2, channels), np.uint8)])[2]
    assert words in note
    assert bool(note) == bool(words)


def test_an_overlay_is_grey_where_normal_and_bright_where_strange():
    image, map_ = np.full((20, 20, 3), 200, np.uint8), np.zeros((10, 10), np.float32)
    map_[2:5, 2:5] = 1.0
    found = gallery.overlay(image, map_, limit=0.5).astype(int)
    calm, strange = found[15, 15], found[6, 6]
    assert calm.max() == calm.min() < 200
    assert strange.max() - strange.min() > 60
    assert strange.mean() > calm.mean() + 30  # also on a grey printer


def test_the_key_shows_the_colours_of_the_overlay():
    grey, colours = np.full((1, 1, 3), 128, np.uint8), gallery.overlay_colours()
    for strength in (0.0, 0.5, 1.0):
        drawn = gallery.overlay(grey, np.full((1, 1), strength), limit=1.0)[0, 0]
        assert np.abs(drawn - 255 * np.array(colours(strength)[:3])).max() < 3


def test_an_image_that_has_gone_since_it_was_scored_is_left_out():
    evaluation, detector = evaluate_fake(3, 3), FakeDetector()
    found = gallery.picture(lambda samples: detector.explain(evaluation.source, samples[1:]), evaluation, [0, 5])
    assert list(found.cards) == [5]


def test_the_noisiest_gallery_stays_small(rng):
    noise = rng.integers(0, 256, (224, 224, 3)).astype(np.uint8)
    assert len(gallery.data_uri(noise)) * 3 * 4 * gallery.PER_SELECTION < 4.5e6


def test_both_ends_never_show_an_image_twice():
    scores = np.array([5.0, 1.0, 3.0, 1.0])
    assert [rows.tolist() for rows in gallery.both_ends(scores, 9)] == [[0, 2], [1, 3]]
    assert [rows.tolist() for rows in gallery.both_ends(scores, 1)] == [[0], [1]]
    assert [rows.tolist() for rows in gallery.both_ends(scores[:1], 2)] == [[0], []]


def test_ties_are_told():
    """Which of the images with one score are shown says nothing of them."""
    found = gallery.choose(evaluate_fake(6, 6, scores=[1.0] * 6 + [1.0] * 4 + [5.0, 6.0]))
    told = {selection.title: selection.text for selection in found}
    assert told["Least unusual"].endswith(
        "6 others have the same score as one of these, and are left out for no reason but their place among the images."
    )
    assert told["Most unusual"].endswith("place among the images.")
    apart = gallery.choose(evaluate_fake(2, 2, scores=[1.0, 2.0, 3.0, 4.0]))
    assert not any("same score" in selection.text for selection in apart)
