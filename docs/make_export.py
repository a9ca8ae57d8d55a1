"""Write the figures of docs/export.md from benchmarks/results/export.json; `--check` fails where they are stale."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from make_page import write_page

PAGE = Path(__file__).parent / "export.md"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "export.json"
RUNTIMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def parity(rows: list[dict]) -> str:
    cells = []
    for row in rows:
        name = f"{row['kind']} `{row['name']}`"
        if "refused" in row:
            cells.append([name, str(row["size"]), row["refused"], "", ""])
            continue
        gaps = [f"{max(row[to]['score'], row[to]['map']):.1e}" for to in RUNTIMES]
        cells.append([name, str(row["size"]), *gaps, f"{row['onnx']['megabytes']:.1f}"])
    words = (
        "The largest gap of any score or map to torch's, as a share of it (or of a tenth of the threshold), over 14 made and normal images, 1, 2 and 7 at once; fitted on 24 "
        "transistors for an epoch. No verdict differs."
    )
    assert not any(row[to]["verdicts"] for row in rows if "refused" not in row for to in RUNTIMES)
    return f"{words}\n\n{table(['', 'pixels a side', *RUNTIMES.values(), 'MB'], cells)}"


def speed(results: dict) -> str:
    names = {"detector": "`Detector.score`", **RUNTIMES}
    rates = [
        [names[name], *(f"{found[count]['median']:.1f}" for count in ("1", "32"))]
        for name, found in results["images_a_cpu_second"].items()
    ]
    starts = [
        [f"`unlike score {name}`", f"{found['cpu_seconds']['median']:.2f}", f"{found['peak_mb']['median']:.0f}"]
        for name, found in results["unlike_score_of_10"].items()
    ]
    return "\n\n".join(
        [
            "The default at its own size, one thread, medians. Images a CPU second:",
            table(["", "1 at once", "32 at once"], rates),
            "`unlike score` of 10 images, from start to end:",
            table(["", "CPU seconds", "MB"], starts),
        ]
    )


def figures() -> str:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    versions = ", ".join(f"{name} {version}" for name, version in results.get("runtimes", {}).items())
    parts = [parity(results["parity"])] if "parity" in results else []
    parts += [speed(results["speed"])] if "speed" in results else []
    return "\n\n".join([*parts, f"`python benchmarks/export.py --parity --speed`; {versions}."]) if parts else ""


def main() -> int:
    made = re.sub(
        r"<!-- figures -->.*<!-- end -->",
        lambda _: f"<!-- figures -->\n{figures()}\n<!-- end -->",
        PAGE.read_text(),
        flags=re.DOTALL,
    )
    return write_page(PAGE, made)


if __name__ == "__main__":
    sys.exit(main())
