"""Scores of more images than one run should hold: in shards that are written once each, by one process or by many on Ray.

>>> from unlike import batch
>>> batch.ON
('here', 'ray')
"""

from __future__ import annotations

from unlike.batch.run import ON, BatchScores, Engine, score

__all__ = ["ON", "BatchScores", "Engine", "score"]
