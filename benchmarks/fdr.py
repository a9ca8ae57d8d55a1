"""False-discovery rate and power at q = .1 with 1, 5 and 20 % anomalies: batches drawn from scores of real images.

Each round draws, of a set's normal scores, some that calibrate and others that are new, and adds anomalous ones to these. Normal
scores are those of held-out images, each as if it had not been learned from. Power is the share of the anomalous images that are
named; the threshold at the promise that the images can hold is beside it. Scores are made once: `python benchmarks/scored.py`.
"""

from __future__ import annotations

import numpy as np
from common import write
from scored import Scored, options_of, scored

from unlike.calibration.conformal import p_values, smallest_promise
from unlike.calibration.discoveries import fewest_to_find, q_values

SHARES = (0.01, 0.05, 0.2)  # of a batch that are anomalous
BATCH = 100  # images
NEW = 0.25  # of the held-out normal images, those that batches are drawn from,
LEAST_NEW = 10  # or as many
MADE = "made: Gaussian, anomalies 3 deviations off"  # a set with normal images enough


def measure(data: Scored, share: float, q: float, rounds: int) -> dict:
    """Means over batches, drawn with replacement of what does not calibrate."""
    false, power, alone_false, alone_power = [], [], [], []
    cut = len(data.held_out) - max(LEAST_NEW, int(NEW * len(data.held_out)))
    count = max(1, round(share * BATCH))
    for seed in range(rounds):
        random = np.random.default_rng(seed)
        order = random.permutation(len(data.held_out))
        known, rest = data.held_out[order[:cut]], data.held_out[order[cut:]]
        batch = np.concatenate([random.choice(rest, BATCH - count), random.choice(data.anomalous, count)])
        chances = p_values(batch, known)
        named = q_values(chances) <= q * (1 + 1e-9)
        above = chances <= max(0.01, smallest_promise(cut)) * (1 + 1e-9)
        for found, wrong, right in ((named, false, power), (above, alone_false, alone_power)):
            wrong.append(found[:-count].sum() / max(1, found.sum()))
            right.append(found[-count:].mean())
    error = float(np.std(false, ddof=1) / np.sqrt(rounds))
    return {
        "anomalous_share": share,
        "calibrated_on": cut,
        "fewest_to_find": fewest_to_find(smallest_promise(cut), BATCH, q),
        "fdr": float(np.mean(false)),
        "standard_error": error,
        "kept": bool(np.mean(false) <= q + 2 * error),
        "power": float(np.mean(power)),
        "threshold_fdr": float(np.mean(alone_false)),
        "threshold_power": float(np.mean(alone_power)),
    }


def made() -> Scored:
    random = np.random.default_rng(0)
    return Scored(random.normal(size=4000), np.empty(0), random.normal(3, size=1000))


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--q", type=float, default=0.1)
    options = parser.parse_args()
    sets = {
        name: [measure(data, share, options.q, options.rounds) for share in SHARES]
        for name, data in ([(name, scored(name, options.preset)) for name in options.sets] + [(MADE, made())])
    }
    write("fdr", {"preset": options.preset, "q": options.q, "batch": BATCH, "rounds": options.rounds, "sets": sets})


if __name__ == "__main__":
    main()
