"""A Gaussian at each position: made some positions at a time, and the same as if all were made at once."""

from __future__ import annotations

import numpy as np
import torch

from unlike.scoring.statistics import positions
from unlike.scoring.statistics.moments import Moments
from unlike.scoring.statistics.positions import blocks, lengths_at, rows_at, shares_at, whiten_each


def moments_of_grids(grids: torch.Tensor) -> Moments:
    moments = Moments(grids.shape[1], positions=grids.shape[2] * grids.shape[3])
    for part in grids.split(7):
        moments.add(rows_at(part))
    return moments


def test_positions_are_whitened_some_at_a_time_and_come_out_the_same(monkeypatch):
    grids = torch.tensor(np.random.default_rng(0).normal(size=(30, 6, 4, 5)), dtype=torch.float32)
    grids[:, :, 2, 3] = 1.0  # a position that never varies: what it is given depends on the others
    moments = moments_of_grids(grids)
    shares = shares_at(moments)
    together = [whiten_each(moments, shrinkage) for shrinkage in (shares, 0.1)]
    largest, whiten = [], positions.whitening_of
    monkeypatch.setattr(positions, "BLOCK_BYTES", 3 * 8 * 6 * 6)
    monkeypatch.setattr(
        positions, "whitening_of", lambda *parts: (largest.append(len(parts[0].mean)), whiten(*parts))[1]
    )
    for shrinkage, expected in zip((shares_at(moments), 0.1), together, strict=True):
        np.testing.assert_array_equal(whiten_each(moments, shrinkage), expected)
    assert largest == [3, 3, 3, 3, 3, 3, 2] * 2
    assert np.isfinite(together[0]).all()


def test_lengths_are_those_of_each_position_under_its_own_matrix():
    random = np.random.default_rng(0)
    gaps, whitening = random.normal(size=(3, 4, 2, 5)), random.normal(size=(10, 4, 4))
    found = lengths_at(torch.tensor(gaps), torch.tensor(whitening)).numpy()
    for position, (y, x) in enumerate(np.ndindex(2, 5)):
        np.testing.assert_allclose(found[:, y, x], np.linalg.norm(gaps[:, :, y, x] @ whitening[position], axis=1))


def test_what_whitens_is_nothing_below_the_diagonal():
    grids = torch.tensor(np.random.default_rng(0).normal(size=(30, 6, 2, 2)), dtype=torch.float32)
    assert not np.tril(whiten_each(moments_of_grids(grids), 0.1), -1).any()


def test_a_block_of_positions_is_one_at_least():
    assert blocks(3, 100_000) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert sum(8 * 200**2 * len(range(256)[part]) for part in blocks(256, 200)) == 8 * 200**2 * 256
    assert max(8 * 200**2 * len(range(256)[part]) for part in blocks(256, 200)) <= positions.BLOCK_BYTES
