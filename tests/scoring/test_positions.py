"""A Gaussian at each place: made some places at a time, and the same as if all were made at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unlike.scoring.statistics import positions as places
from unlike.scoring.statistics.moments import Moments
from unlike.scoring.statistics.positions import blocks, halve, lengths_at, make_whole, rows_of, whiten_each


def moments_of_places(grids: torch.Tensor) -> Moments:
    moments = Moments(grids.shape[1], positions=grids.shape[2] * grids.shape[3])
    for part in grids.split(7):
        moments.add(rows_of(part))
    return moments


def test_places_are_whitened_some_at_a_time_and_come_out_the_same(monkeypatch):
    grids = torch.tensor(np.random.default_rng(0).normal(size=(30, 6, 4, 5)), dtype=torch.float32)
    grids[:, :, 2, 3] = 1.0  # a place that never varies: what it is given depends on the others
    moments = moments_of_places(grids)
    together = [whiten_each(moments, shrinkage) for shrinkage in ("auto", 0.1)]
    largest, whiten = [], places.whitening_of
    monkeypatch.setattr(places, "BLOCK_BYTES", 3 * 8 * 6 * 6)
    monkeypatch.setattr(places, "whitening_of", lambda *parts: (largest.append(len(parts[0].mean)), whiten(*parts))[1])
    for shrinkage, expected in zip(("auto", 0.1), together, strict=True):
        np.testing.assert_array_equal(whiten_each(moments, shrinkage), expected)
    assert largest == [3, 3, 3, 3, 3, 3, 2] * 2
    assert np.isfinite(together[0]).all()


def test_lengths_are_those_of_each_place_under_its_own_matrix():
    random = np.random.default_rng(0)
    gaps, whitening = random.normal(size=(3, 4, 2, 5)), random.normal(size=(10, 4, 4))
    found = lengths_at(torch.tensor(gaps), torch.tensor(whitening)).numpy()
    for place, (y, x) in enumerate(np.ndindex(2, 5)):
        np.testing.assert_allclose(found[:, y, x], np.linalg.norm(gaps[:, :, y, x] @ whitening[place], axis=1))


@pytest.mark.parametrize("width", [1, 2, 7, 300])
def test_what_is_kept_of_matrices_is_their_upper_half_and_comes_back(width):
    whitening = np.triu(np.random.default_rng(0).normal(size=(4, width, width))).astype(np.float32)
    kept = halve({"mean": np.ones(3), "whitening": whitening})
    assert kept["upper"].size == 4 * width * (width + 1) // 2
    whole = make_whole(kept)
    assert set(whole) == {"mean", "whitening"}
    np.testing.assert_array_equal(whole["whitening"], whitening)
    np.testing.assert_array_equal(make_whole(whole)["whitening"], whitening)  # as they were kept once


def test_what_whitens_is_nothing_below_the_diagonal():
    grids = torch.tensor(np.random.default_rng(0).normal(size=(30, 6, 2, 2)), dtype=torch.float32)
    assert not np.tril(whiten_each(moments_of_places(grids), 0.1), -1).any()


def test_a_block_of_places_is_one_at_least():
    assert blocks(3, 100_000) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert sum(8 * 200**2 * len(range(256)[part]) for part in blocks(256, 200)) == 8 * 200**2 * 256
    assert max(8 * 200**2 * len(range(256)[part]) for part in blocks(256, 200)) <= places.BLOCK_BYTES
