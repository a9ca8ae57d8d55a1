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


NAMES = {
    "detector": "the detector, by torch",
    "onnx": "ONNX Runtime",
    "onnx-int8": "ONNX Runtime, 8-bit integers",
    "openvino": "OpenVINO",
    "openvino-int8": "OpenVINO, 8-bit integers",
}


def speed(results: dict) -> str:
    rates, starts = results["images_a_cpu_second"], results["unlike_score_of_10"]
    most = {count: rates["detector"][count]["median"] for count in ("1", "32")}
    cells = []
    for name, words in NAMES.items():
        own = [rates[name][count]["median"] for count in ("1", "32")]
        shares = [f"{rate:.1f} ({rate / most[count]:.2f})" for rate, count in zip(own, most, strict=True)]
        start = starts[name]
        cells.append([words, *shares, f"{start['cpu_seconds']['median']:.2f}", f"{start['peak_mb']['median']:.0f}"])
    words = (
        f"The default at its own size, fitted on {results['fitted_on']} transistors, one thread, medians, all in turn on a shared machine "
        f"({results['processor']}{', which has VNNI' if results['vnni'] else ''}): images a CPU second as `score` gives them, 1 and 32 at once, with the ratio to the "
        "detector's; and `unlike score` of 10 images, from its start to its end."
    )
    head = ["", "1 at once", "32 at once", "CPU s for 10", "peak MB"]
    return f"{words}\n\n{table(head, cells)}"


def peer(results: dict) -> str:
    cells = []
    for kind, row in results["rows"].items():
        for who in ("anomalib", "unlike"):
            one = row[who]
            gaps = [
                "refused" if "refused" in gap else f"{max(gap['score'], gap['map']):.1e}"
                for gap in one["gaps"].values()
            ]
            cells.append([kind, who, *gaps, f"{one['milliseconds']['median']:.1f}", f"{one['megabytes']:.1f}"])
    words = (
        f"Beside the ONNX that anomalib 2.7.0 writes of its PatchCore and PaDiM, of the same backbone and weights, fitted on the same "
        f"{results['fitted_on']} images of 256 x 256, both by ONNX Runtime in one process: the largest gap of {next(iter(results['rows'].values()))['images']} new images' "
        "scores and maps to the program's own torch in batches of 1, 2 and 7, CPU ms an image in the smallest batch that both take, and the size of the graph. Refused: the graph takes another number of images, and that one only."
    )
    return f"{words}\n\n{table(['', 'export of', '1', '2', '7', 'CPU ms', 'MB'], cells)}"


def figures() -> str:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    versions = ", ".join(f"{name} {version}" for name, version in results.get("runtimes", {}).items())
    parts = [parity(results["parity"])] if "parity" in results else []
    parts += [speed(results["speed"])] if "speed" in results else []
    parts += [peer(results["peer"])] if "peer" in results else []
    return (
        "\n\n".join([*parts, f"`python benchmarks/export.py --parity --speed --peer-python PYTHON`; {versions}."])
        if parts
        else ""
    )


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
