"""Draw docs/pictures/growth.svg from benchmarks/results/growth.json: what 100, 1,000 and 10,000 images cost."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

from unlike.report.figures import styled

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results" / "growth.json"
PICTURE = HERE / "pictures" / "growth.svg"
QUANTITIES = {
    "fit_cpu_seconds": "Fit, CPU seconds",
    "score_cpu_seconds": "Score, CPU seconds",
    "peak_megabytes": "Peak memory, MB",
}
MARKERS = "os^Dv"


@styled
def draw(rows: list[dict]) -> Figure:
    """One panel a quantity, one line a detector; dotted: in proportion to the number of images."""
    figure = Figure(figsize=(9.6, 3.1), layout="constrained")
    panels = figure.subplots(1, len(QUANTITIES))
    for axes, (key, title) in zip(panels, QUANTITIES.items(), strict=True):
        for marker, name in zip(MARKERS, dict.fromkeys(row["detector"] for row in rows), strict=False):
            found = [(row["images"], row[key]) for row in rows if row["detector"] == name]
            axes.plot(*zip(*found, strict=True), marker=marker, label=name)
        counts = sorted({row["images"] for row in rows})
        if key != "peak_megabytes":
            middle = min(row[key] for row in rows if row["images"] == counts[1])
            axes.plot(counts, [middle * count / counts[1] for count in counts], ":", color="#999999")
        axes.set(xscale="log", yscale="log", title=title, xlabel="Images")
        if key == "peak_megabytes":
            axes.set(yscale="linear", ylim=(0, None))
    panels[0].legend(frameon=False)
    return figure


@styled  # and written so: the same figures are the same file
def main() -> None:
    figure = draw(json.loads(RESULTS.read_text())["rows"])
    figure.savefig(PICTURE, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
