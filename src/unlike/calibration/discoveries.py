"""What to take for anomalous among many images at once: so that few of those that are named are normal ones.

A threshold promises a share of the *normal* images; of a thousand of them one in a hundred is ten, which may be most of what is
named. The false-discovery rate is of what is named (Benjamini & Hochberg, 1995), and holds for conformal p-values of one
calibration (Bates, Candes, Lei, Romano & Sesia, 2023, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unlike.errors import ConfigError
from unlike.records import Floats, Verdict

SLACK = 1e-9  # so that 0.05 x 20 counts as 1


def q_values(p_values: Floats) -> Floats:
    """(N,) -> (N,) the lowest false-discovery rate at which each image would be named.

    >>> q_values(np.array([0.01, 0.5, 0.02, 0.9])).round(3)
    array([0.04 , 0.667, 0.04 , 0.9  ])
    """
    order = np.argsort(p_values, kind="stable")  # scipy.stats.false_discovery_control, without a second of imports
    scaled = p_values[order] * len(p_values) / np.arange(1, len(p_values) + 1)
    found = np.empty(len(p_values))
    found[order] = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1)
    return found


def judge_together(verdicts: Sequence[Verdict], fdr: float) -> list[Verdict]:
    """The verdicts on N images of one batch, anomalous where the false-discovery rate of those named is at most `fdr`.

    >>> alone = [Verdict(str(n), 1.0, 2.0, p, anomalous=False) for n, p in enumerate([0.01, 0.5, 0.02, 0.9])]
    >>> [verdict.anomalous for verdict in judge_together(alone, fdr=0.05)]
    [True, False, True, False]
    """
    check_fdr(fdr)
    found = q_values(np.array([verdict.p_value for verdict in verdicts], np.float64)).tolist()
    return [
        replace(verdict, q_value=value, anomalous=value <= fdr * (1 + SLACK))
        for verdict, value in zip(verdicts, found, strict=True)
    ]


def check_fdr(fdr: float) -> None:
    """Raise ConfigError unless that can be a false-discovery rate.

    >>> check_fdr(0.1)
    """
    if not 0 < fdr < 1:
        raise ConfigError(f"fdr: expected a share above 0 and below 1, such as 0.1, came {fdr:g}")


def fewest_to_find(smallest: float, images: int, fdr: float) -> int:
    """How many of a batch must have the smallest p-value there is, for any to be named; more than the batch has: none ever is.

    >>> fewest_to_find(0.01, images=100, fdr=0.1), fewest_to_find(0.2, images=100, fdr=0.1)
    (10, 200)
    """
    return max(1, math.ceil(smallest * images / fdr - SLACK))


def say_reach(smallest: float, images: int, fdr: float) -> str:
    """What a batch must hold for anything to be named, and how many held-out normal images would name a single one.

    >>> say_reach(1 / 1000, images=100, fdr=0.1)
    'One image that is stranger than every held-out normal one is named.'
    >>> print(say_reach(0.01, images=100, fdr=0.1))
    Of 100 images 10 or more must be stranger than every held-out normal one for any to be named; with 999 held-out normal images
    a single one would be.
    """
    fewest = fewest_to_find(smallest, images, fdr)
    if fewest == 1:
        return "One image that is stranger than every held-out normal one is named."
    needed = f"with {math.ceil(images / fdr - SLACK) - 1:,} held-out normal images a single one would be"
    if fewest > images:
        return (
            f"Nothing can be named at a false-discovery rate of {fdr:g}: no p-value here is below {smallest:.3g}, so that it takes "
            f"{math.ceil(1 / fdr - SLACK) - 1:,} held-out normal images if all {images:,} were anomalous; {needed}."
        )
    return f"Of {images:,} images {fewest:,} or more must be stranger than every held-out normal one for any to be named; {needed}."
