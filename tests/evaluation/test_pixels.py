"""Pixel AUROC and AUPRO against exact pixels, and the promise of bounded memory."""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import auc, roc_auc_score

from conftest import write_png
from unlike.data.input_spec import InputSpec, restore_map
from unlike.errors import OutputError
from unlike.evaluation import pixels
from unlike.evaluation.pixels import POOL, PixelSpool, area_under_pro, choose_edges
from unlike.records import Sample

SPEC = InputSpec(16, 24, 3)
SHAPE = (48, 56)


def blobs(random, shape=SHAPE):
    """A mask of several regions of different sizes, some of them touching at corners only."""
    return ndimage.gaussian_filter(random.normal(size=shape), 2) > 0.22


def noisy_maps(random, masks, sharpness):
    """Maps (h, w) that are larger, by `sharpness`, where the mask is; half of the images have none."""
    maps = []
    for mask in masks:
        small = np.zeros(SPEC.size) if mask is None else ndimage.zoom(mask.astype(float), (16 / 48, 24 / 56), order=1)
        maps.append((random.gamma(2, 1, SPEC.size) + sharpness * small).astype(np.float32))
    return maps


def measure(folder, maps, masks, spec=SPEC, shape=SHAPE, categories=None):
    """The figures of a spool that got these maps; a mask of None is a normal image."""
    with PixelSpool(spec) as spool:
        for number, (map_, mask) in enumerate(zip(maps, masks, strict=True)):
            path = None if mask is None else write_png(folder / f"{number}.png", mask.astype(np.uint8) * 255)
            category = categories[number] if categories else ""
            sample = Sample(str(number), anomalous=mask is not None, mask=path, category=category)
            spool.add(sample, map_, shape)
        return spool.measure()


def brute_force(maps, masks, spec=SPEC, shape=SHAPE, limit=0.30):
    """AUROC and AUPRO with every distinct value of every pixel as a threshold."""
    restored = [restore_map(map_, shape, spec) for map_ in maps]
    masks = [np.zeros(shape, bool) if mask is None else mask for mask in masks]
    values, defective = np.concatenate(restored, axis=None), np.concatenate(masks, axis=None)
    labelled = [ndimage.label(mask, np.ones((3, 3))) for mask in masks]
    thresholds = np.unique(values)[::-1]
    above = [
        [(np.sort(r[labels == k])[:, None] >= thresholds).mean(axis=0) for k in range(1, count + 1)]
        for r, (labels, count) in zip(restored, labelled, strict=True)
    ]
    overlaps = np.append(0, np.mean([row for rows in above for row in rows], axis=0))
    normal = np.sort(values[~defective])
    rates = np.append(0, 1 - np.searchsorted(normal, thresholds, side="left") / len(normal))
    return roc_auc_score(defective, values), auc(*cut(rates, overlaps, limit)) / limit


def cut(rates, overlaps, limit):
    """A rising line of points up to a limit, where it ends on the segment that crosses."""
    last = int(np.argmax(rates >= limit))  # the first point that is not below
    part = (limit - rates[last - 1]) / (rates[last] - rates[last - 1])
    end = overlaps[last - 1] + part * (overlaps[last] - overlaps[last - 1])
    return np.append(rates[:last], limit), np.append(overlaps[:last], end)


def check(folder, maps, masks, tolerance=2e-3, **form):
    found = measure(folder, maps, masks, **form)[""]
    expected = brute_force(maps, masks, **form)
    assert found.left_out == {}
    assert found.values["auroc"].value == pytest.approx(expected[0], abs=tolerance)
    assert found.values["aupro"].value == pytest.approx(expected[1], abs=tolerance)
    return found.values


def dataset(random, count=8):
    return [None, None, *(blobs(random) for _ in range(count - 2))]


@pytest.mark.parametrize("sharpness", [0.0, 2.0, 6.0, 30.0])
def test_figures_are_those_of_exact_pixels(tmp_path, rng, sharpness):
    masks = dataset(rng)
    check(tmp_path, noisy_maps(rng, masks, sharpness), masks, tolerance=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda m: 1 + 1e-4 * m, id="narrow range"),
        pytest.param(lambda m: 1e-30 * m, id="tiny"),
        pytest.param(lambda m: np.exp(4 * m), id="long tail"),
        pytest.param(np.round, id="many ties"),
        pytest.param(lambda m: np.where(m > 4, m, 0), id="mostly zero"),
        pytest.param(lambda m: np.full_like(m, m.max()), id="constant, each at another value"),
    ],
)
def test_figures_do_not_depend_on_how_values_are_spread(tmp_path, rng, change):
    masks = dataset(rng)
    maps = [change(map_).astype(np.float32) for map_ in noisy_maps(rng, masks, 3.0)]
    check(tmp_path, maps, masks)


def test_maps_that_are_constant_and_equal_are_chance(tmp_path, rng):
    found = measure(tmp_path, [np.full((5, 7), 0.1, np.float32)] * 6, dataset(rng, 6))[""].values
    assert found["auroc"].value == pytest.approx(0.5, abs=1e-12)
    assert found["aupro"].value == pytest.approx(0.15, abs=1e-12)


def test_a_perfect_map_is_perfect(tmp_path, rng):
    masks = [None, *(blobs(rng) for _ in range(3))]
    maps = [np.zeros(SHAPE, np.float32) if mask is None else mask.astype(np.float32) for mask in masks]
    found = measure(tmp_path, maps, masks, spec=InputSpec(*SHAPE, 3))[""].values
    for estimate in found.values():
        assert estimate.value == pytest.approx(1, abs=1e-12)
        assert (estimate.low, estimate.high) == (None, None)  # a bootstrap of what never varies


def test_one_normal_pixel_and_one_region_are_enough_and_none_is_not():
    """Of a bootstrap replicate, too: one that has drawn no region has no area."""
    one = [0, 1, 1, 0, 1, 0, 1]  # normal pixels, defective ones and shares of regions in each of two bins; regions
    no_normal, no_region = [0, 0, 5, 5, 1, 0, 1], [9, 9, 0, 0, 0, 0, 0]
    assert pixels._usable(np.array([one, no_normal, no_region], float)).tolist() == [True, False, False]


def test_padding_is_undone(tmp_path, rng):
    masks = dataset(rng)
    spec = InputSpec(24, 24, 3, aspect="pad")
    check(tmp_path, [rng.gamma(2, 1, (12, 12)).astype(np.float32) for _ in masks], masks, spec=spec)


def test_every_region_counts_the_same_and_corners_connect(tmp_path):
    mask = np.zeros((8, 8), bool)
    mask[0, 0] = mask[1, 1] = True  # one region of 2 pixels
    mask[4:, 4:] = True  # one of 16
    map_ = np.zeros((8, 8), np.float32)
    map_[1, 1], map_[4, 4:], map_[7, 0] = 9, 9, 5  # half of one, a quarter of the other, and one false alarm of 46
    found = measure(tmp_path, [map_], [mask], spec=InputSpec(8, 8, 3), shape=(8, 8))[""].values["aupro"]
    start, end = 1 / 46, 0.375 + 0.625 * (0.3 - 1 / 46) / (45 / 46)
    assert found.value == pytest.approx((0.375 * start + (0.375 + end) / 2 * (0.3 - start)) / 0.3)


def test_intervals_are_those_of_drawing_images(tmp_path, rng):
    form = {"shape": SPEC.size}
    masks = [None] * 6 + [blobs(rng, SPEC.size) for _ in range(6)]
    levels = rng.uniform(0.3, 1.5, 12)
    maps = [k * (rng.gamma(2, 1, SPEC.size) + (0 if m is None else 2 * m)) for k, m in zip(levels, masks, strict=True)]
    maps = [map_.astype(np.float32) for map_ in maps]
    found = measure(tmp_path, maps, masks, **form)[""].values
    draws = [np.concatenate([rng.integers(0, 6, 6), rng.integers(6, 12, 6)]) for _ in range(200)]
    naive = np.array([brute_force([maps[i] for i in rows], [masks[i] for i in rows], **form) for rows in draws])
    for name, column in zip(("auroc", "aupro"), naive.T, strict=True):
        estimate = found[name]
        low, high = np.quantile(column, [0.025, 0.975])
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.5 * column.std()), name
        assert estimate.low < estimate.value < estimate.high


def test_the_same_seed_gives_the_same_figures(tmp_path, rng):
    masks = dataset(rng)
    maps = noisy_maps(rng, masks, 2.0)
    assert measure(tmp_path, maps, masks) == measure(tmp_path, maps, masks)


def test_each_category_is_measured_by_itself(tmp_path, rng):
    masks = [None, blobs(rng), blobs(rng), None, blobs(rng)]
    maps = noisy_maps(rng, masks, 2.0)
    maps[3:] = [1e6 * map_ for map_ in maps[3:]]
    found = measure(tmp_path, maps, masks, categories=["cable", "cable", "cable", "tile", "tile"])
    assert set(found) == {"", "cable", "tile"}
    for name, rows in (("", slice(None)), ("cable", slice(3)), ("tile", slice(3, None))):
        expected = brute_force(maps[rows], masks[rows])
        values = (found[name].values["auroc"].value, found[name].values["aupro"].value)
        assert values == pytest.approx(expected, abs=2e-3), name


def test_more_images_than_a_block_change_nothing(tmp_path, rng, monkeypatch):
    masks = dataset(rng)
    maps = noisy_maps(rng, masks, 2.0)
    whole = measure(tmp_path, maps, masks)[""].values
    monkeypatch.setattr(pixels, "BLOCK", 3)
    blocks = measure(tmp_path, maps, masks)[""].values
    for name in ("auroc", "aupro"):
        assert blocks[name].value == pytest.approx(whole[name].value, abs=1e-12)
        assert (blocks[name].low, blocks[name].high) == pytest.approx((whole[name].low, whole[name].high), abs=1e-5)


def spool_of(*samples):
    with PixelSpool(SPEC) as spool:
        for sample in samples:
            spool.add(sample, np.random.default_rng(int(sample.id)).random((4, 6), np.float32), SHAPE)
        return spool, spool.measure()


def masked(folder, number, mask, category=""):
    path = write_png(folder / f"{number}_mask.png", mask.astype(np.uint8))
    return Sample(str(number), anomalous=True, mask=path, category=category)


def test_masks_that_cannot_be_used_are_named_and_the_others_count(tmp_path, rng):
    small = masked(tmp_path, 1, np.ones((4, 6)))
    (tmp_path / "broken.png").write_bytes(b"")
    broken = Sample("2", anomalous=True, mask=tmp_path / "broken.png")
    good = masked(tmp_path, 3, blobs(rng))
    spool, found = spool_of(Sample("0", anomalous=False), small, broken, good, Sample("4", anomalous=True))
    assert [(item.id, item.reason) for item in spool.unusable] == [
        ("1", "mask 1_mask.png has 6 x 4 pixels where the image has 56 x 48"),
        ("2", "mask broken.png is empty (0 bytes)"),
    ]
    assert set(found[""].values) == {"auroc", "aupro"}
    assert found[""].left_out == {"pixel": "3 of 4 anomalous images take no part: no usable mask"}


@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        ([], "needs masks of the defects; there is no anomalous image"),
        ([None], "needs masks of the defects; no anomalous image of 1 has a usable one"),
        ([np.zeros(SHAPE)], "needs defective pixels; the masks are empty"),
    ],
)
def test_without_defects_the_reason_is_said(tmp_path, masks, reason):
    samples = [
        Sample("7", anomalous=True) if mask is None else masked(tmp_path, number, mask)
        for number, mask in enumerate(masks)
    ]
    _, found = spool_of(Sample("9", anomalous=False), *samples)
    assert found[""].values == {}
    assert found[""].left_out == {"pixel.auroc": reason, "pixel.aupro": reason}


def test_without_normal_pixels_the_reason_is_said(tmp_path):
    _, found = spool_of(masked(tmp_path, 0, np.ones(SHAPE)))
    assert found[""].left_out["pixel.aupro"] == "needs normal pixels; the masks leave none"


def test_a_category_without_masks_says_so_and_leaves_the_others_alone(tmp_path, rng):
    _, found = spool_of(
        Sample("0", anomalous=False, category="tile"),
        masked(tmp_path, 1, blobs(rng), "cable"),
        Sample("2", anomalous=True, category="tile"),
    )
    assert found["tile"].left_out["pixel.auroc"].endswith("no anomalous image of 1 has a usable one")
    assert set(found["cable"].values) == {"auroc", "aupro"}
    assert found["cable"].left_out == {}
    assert found[""].left_out == {"pixel": "1 of 2 anomalous images take no part: no usable mask"}


def test_replicates_without_a_defect_do_not_count(tmp_path, rng):
    _, found = spool_of(masked(tmp_path, 0, np.zeros(SHAPE)), masked(tmp_path, 1, blobs(rng)))
    for estimate in found[""].values.values():
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_memory_does_not_grow_with_the_images(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(pixels, "POOL", 2**13)  # full after a few images
    spec, mask = InputSpec(128, 128, 1), blobs(rng)

    def peak(count):
        maps = (rng.random((128, 128), np.float32) for _ in range(count))
        tracemalloc.start()
        run(maps)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    def run(maps):
        path = write_png(tmp_path / "mask.png", mask.astype(np.uint8))
        with PixelSpool(spec) as spool:
            for i, map_ in enumerate(maps):
                spool.add(Sample(str(i), anomalous=i % 2 == 1, mask=path if i % 2 else None), map_, SHAPE)
            spool.measure()

    few, many = peak(100), peak(500)  # 400 maps more are 26 MB
    assert many < few + 4e6  # the number of bins varies


def test_values_kept_to_choose_bins_are_bounded(rng):
    pool = pixels._Pool()
    for _ in range(4 * POOL // pixels.VALUES):
        pool.add(rng.random(500, np.float32), rng)
    assert len(pool.values) <= POOL
    assert pool.share < pixels.VALUES
    assert np.median(pool.values) == pytest.approx(0.5, abs=0.02)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50), st.lists(st.floats(0, 1e6, width=32), max_size=50))
def test_few_distinct_values_have_a_bin_each(first, second):
    pools = [np.array(first, np.float32), np.array(second, np.float32)]
    edges = choose_edges(pools)
    distinct = np.unique(np.concatenate(pools))
    assert (np.diff(edges) > 0).all()
    assert len(edges) == len(distinct)
    np.testing.assert_allclose(edges, distinct, rtol=1e-5, atol=1e-40)
    assert (edges > distinct).all()


def test_bins_split_both_pools_evenly_and_are_fine_in_the_tail(rng):
    pools = [rng.gamma(1, 1, 50_000).astype(np.float32), 100 + rng.gamma(1, 1, 50_000).astype(np.float32)]
    edges = choose_edges(pools)
    assert len(edges) < 2100
    for pool in pools:
        shares = np.histogram(pool, np.append(edges, np.inf))[0] / len(pool)
        assert shares.max() < 2.5e-3
        assert ((edges > np.quantile(pool, 0.999)) & (edges < pool.max())).sum() > 20


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20), st.integers(1, 10))
def test_area_under_pro_is_that_of_a_piecewise_line(steps, tenths):
    rates = np.cumsum([0, *(x for x, _ in steps), 1]) / (sum(x for x, _ in steps) + 1)
    overlaps = np.cumsum([0, *(y for _, y in steps), 1]) / (sum(y for _, y in steps) + 1)
    limit = tenths / 10
    expected = auc(*cut(rates, overlaps, limit)) / limit
    assert area_under_pro(overlaps, rates, limit) == pytest.approx(expected)


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(0, 3), st.sampled_from([1, 3, 1000]))
def test_any_small_set_agrees_with_exact_pixels(tmp_path_factory, seed, anomalous, normal, steps):
    random = np.random.default_rng(seed)
    masks = [None] * normal + [random.random((6, 7)) > 0.6 for _ in range(anomalous)]
    masks[-1][0, :2] = True, False
    maps = [(random.integers(0, steps + 1, (6, 7)) / steps).astype(np.float32) for _ in masks]
    check(tmp_path_factory.mktemp("masks"), maps, masks, spec=InputSpec(6, 7, 3), shape=(6, 7))


def test_no_folder_for_temporary_files_is_explained(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(OutputError, match=r"maps cannot be kept .*No such file or directory.*TMPDIR"):
        PixelSpool(SPEC)


def test_a_full_disk_is_explained(monkeypatch):
    full = Path("/dev/full").open("r+b", buffering=0)  # noqa: SIM115 (closed by the spool)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
    with PixelSpool(SPEC) as spool, pytest.raises(OutputError, match=r"No space left on device.*TMPDIR"):
        spool.add(Sample("0", anomalous=False), np.zeros((4, 6), np.float32), SHAPE)
