"""Equilibrium k-means against k-means, the author's own package `sklekmeans`, and a Gaussian mixture.

Recovery: adjusted Rand index on blobs of variance 1 whose means are equally far from each other, of the sizes 2000/200/200
and 2000/50/30, in 2, 16 and 64 dimensions; ten seeds, ten starts each for all. Speed: one fit from the same centres for
all, in turns, each to its own convergence, in CPU seconds and per pass. Memory: one fit of 1,000,000 x 32 float32 with
10 clusters, each in a process of its own. The tables of docs/equilibrium.md are written from the results.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
from common import RESULTS, cpu_seconds, peak_megabytes, spread, write
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklekmeans import EKMeans

from unlike.cluster import EquilibriumKMeans

PAGE = Path(__file__).parents[1] / "docs" / "equilibrium.md"
MARKS = "<!-- measured -->", "<!-- end of measured -->"
STARTS = 10
RIVALS = {
    "k-means": lambda clusters, seed: KMeans(clusters, n_init=STARTS, random_state=seed),
    "Gaussian mixture, spherical": lambda clusters, seed: GaussianMixture(
        clusters, covariance_type="spherical", n_init=STARTS, random_state=seed
    ),
    "sklekmeans": lambda clusters, seed: EKMeans(clusters, n_init=STARTS, random_state=seed),
    "softmax variant": lambda clusters, seed: EquilibriumKMeans(clusters, variant="softmax", random_state=seed),
    "k-means++ starts only": lambda clusters, seed: EquilibriumKMeans(clusters, init="k-means++", random_state=seed),
    "alpha by dvariance": lambda clusters, seed: EquilibriumKMeans(clusters, random_state=seed),
    "alpha by contrast": lambda clusters, seed: EquilibriumKMeans(clusters, alpha="contrast", random_state=seed),
}
CASES = [
    (sizes, distance, features)
    for sizes, distance in [((2000, 200, 200), 4.0), ((2000, 50, 30), 6.0), ((2000, 50, 30), 8.0)]
    for features in (2, 16, 64)
]
SPEED = [(2_400, 2, 3, "float64"), (100_000, 16, 8, "float64"), (100_000, 16, 8, "float32")]
LARGE = {
    "unlike": lambda: EquilibriumKMeans(10, random_state=0),
    "unlike, contrast": lambda: EquilibriumKMeans(10, alpha="contrast", random_state=0),
    "k-means": lambda: KMeans(10, n_init=STARTS, random_state=0),
    "sklekmeans, one start": lambda: EKMeans(10, n_init=1, random_state=0),
}


def blobs(sizes: tuple[int, ...], distance: float, features: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of variance 1 round three means at the corners of a triangle, and whose each is."""
    random = np.random.default_rng(1000 + seed)
    means = np.zeros((3, features))
    means[:, :2] = distance * np.array([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]])
    labels = np.repeat(np.arange(3), sizes)
    return means[labels] + random.standard_normal((len(labels), features)), labels


def recovery(seeds: int) -> list[dict]:
    rows = []
    for sizes, distance, features in CASES:
        found: dict[str, list[float]] = {name: [] for name in RIVALS}
        for seed in range(seeds):
            points, labels = blobs(sizes, distance, features, seed)
            for name, make in RIVALS.items():
                found[name].append(adjusted_rand_score(labels, make(3, seed).fit_predict(points)))
        index = {name: spread(values) for name, values in found.items()}
        rows.append({"sizes": sizes, "distance": distance, "features": features, "adjusted_rand_index": index})
    return rows


def speed(rounds: int) -> list[dict]:
    return [speed_of(rounds, *case) for case in SPEED]


def speed_of(rounds: int, count: int, features: int, clusters: int, kind: str) -> dict:
    random = np.random.default_rng(0)
    means = random.normal(0, 3, (clusters, features))
    points = (means[random.integers(0, clusters, count)] + random.standard_normal((count, features))).astype(kind)
    start = kmeans_plusplus(points, clusters, random_state=0)[0]
    fits = {
        "unlike": EquilibriumKMeans(clusters, init=start),
        "sklekmeans": EKMeans(clusters, init=start),
        "sklekmeans, numba": EKMeans(clusters, init=start, use_numba=True, numba_threads=1),
        "k-means": KMeans(clusters, init=start, n_init=1, tol=1e-4),
    }
    seconds: dict[str, list[float]] = {name: [] for name in fits}
    fits["sklekmeans, numba"].fit(points[:1000])  # compiles
    for _ in range(rounds):
        for name, estimator in fits.items():
            seconds[name].append(cpu_seconds(lambda estimator=estimator: estimator.fit(points)))
    passes = {name: estimator.n_iter_ + name.startswith("skle") for name, estimator in fits.items()}  # it counts from 0
    return {
        "points": count,
        "features": features,
        "clusters": clusters,
        "type": kind,
        "cpu_seconds": {name: spread(values) for name, values in seconds.items()},
        "passes": passes,
        "milliseconds_a_pass": {name: 1e3 * float(np.median(seconds[name])) / passes[name] for name in fits},
        "times_as_long_as_unlike": {
            name: spread(list(np.divide(values, seconds["unlike"])))
            for name, values in seconds.items()
            if name != "unlike"
        },
    }


def large(name: str) -> dict:
    random = np.random.default_rng(0)
    points = random.standard_normal((1_000_000, 32), np.float32)
    means = random.normal(0, 3, (10, 32)).astype(np.float32)
    for start in range(0, len(points), 10_000):
        points[start : start + 10_000] += means[random.integers(0, 10, 10_000)]
    before = peak_megabytes()
    seconds = cpu_seconds(lambda: LARGE[name]().fit(points))
    return {"peak_megabytes": peak_megabytes(), "peak_megabytes_before_fit": before, "cpu_seconds": seconds}


def memory() -> dict:
    found = {}
    for name in LARGE:
        run = subprocess.run([sys.executable, __file__, "--large", name], check=True, capture_output=True, text=True)
        found[name] = json.loads(run.stdout.splitlines()[-1])
    return found


def tables(results: dict) -> str:
    """The results as docs/equilibrium.md shows them."""
    cases = results["recovery"]
    names = list(cases[0]["adjusted_rand_index"])
    recovered = [
        [
            f"{'/'.join(map(str, case['sizes']))}, {case['distance']:g} apart, {case['features']}-D",
            *(_median(case["adjusted_rand_index"][name]) for name in names),
        ]
        for case in cases
    ]
    fits = [
        [f"{case['points']:,} x {case['features']} {case['type']}, {case['clusters']} clusters", name,
         f"{case['cpu_seconds'][name]['median']:.3g}", str(case["passes"][name]), f"{case['milliseconds_a_pass'][name]:.3g}",
         _median(case["times_as_long_as_unlike"].get(name, dict.fromkeys(("median", "least", "most"), 1.0)), ".2g")]
        for case in results["speed"] for name in case["cpu_seconds"]
    ]  # fmt: skip
    sizes = [
        [name, f"{run['peak_megabytes']:,.0f}", f"{run['peak_megabytes_before_fit']:,.0f}", f"{run['cpu_seconds']:.0f}"]
        for name, run in results["memory"].items()
    ]
    return "\n\n".join([
        f"Adjusted Rand index, median of {results['seeds']} seeds (range); {results['starts']} starts each:",
        _table(["sizes", *names], recovered),
        "One fit, all from the same centres, each to its own convergence; CPU seconds of one thread, medians:",
        _table(["points", "method", "seconds", "passes", "ms a pass", "times `unlike`'s seconds (range)"], fits),
        "One fit of 1,000,000 x 32 float32 with 10 clusters, each in a process of its own:",
        _table(["method", "peak MB", "of which before the fit", "CPU seconds"], sizes),
        f"`{results['command']}`; {', '.join(f'{name} {version}' for name, version in results['versions'].items())}.",
    ])  # fmt: skip


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def _median(values: dict[str, float], form: str = ".2f") -> str:
    return f"{values['median']:{form}} ({values['least']:{form}} to {values['most']:{form}})"


def write_page() -> None:
    """Put the tables between the two marks of docs/equilibrium.md."""
    results = json.loads((RESULTS / "equilibrium.json").read_text())
    before, _, rest = PAGE.read_text().partition(MARKS[0])
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{tables(results)}\n\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--page", action="store_true", help="only write the page again, from the results")
    parser.add_argument("--large", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # centres that fall together are part of the comparison
    if options.large:
        print(json.dumps(large(options.large)))
        return
    if not options.page:
        results = {"speed": speed(options.rounds), "recovery": recovery(options.seeds), "memory": memory()}
        write("equilibrium", {"seeds": options.seeds, "rounds": options.rounds, "starts": STARTS, **results})
    write_page()


if __name__ == "__main__":
    main()
