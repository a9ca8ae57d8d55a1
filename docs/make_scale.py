"""Write docs/scale.md and its picture from benchmarks/results, so that no figure is typed by hand; `--check` fails where it is stale."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

from make_page import write_page
from matplotlib.figure import Figure

from unlike.detector.presets import DEFAULT_PRESET
from unlike.report.figures import styled

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"
PAGE, PICTURE = HERE / "scale.md", HERE / "pictures" / "million.svg"
DAY = 86_400  # seconds
CORES = 32  # of a machine, in the tables
NAMES = {
    "patchcore": "`patchcore`",
    "padim": "`padim`",
    "dfr": "`dfr`",
    "conv, 5 epochs": "`conv`",
}


def load(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


def made_by(results: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return f"`{results['command']}`; {versions}; {results['threads']} thread."


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def rates() -> dict[str, float]:
    """Images a CPU second, by detector: the default at its own size, others of the largest number that was measured."""
    found = {"default, 256 x 256": load("export")["speed"]["images_a_cpu_second"]["detector"]["32"]["median"]}
    for row in sorted(load("growth")["rows"], key=lambda row: row["images"]):
        if row["detector"] != DEFAULT_PRESET:  # those figures are of images of 128 pixels, which it would see larger
            found[f"{NAMES.get(row['detector'], row['detector'])}, 128 x 128"] = (
                row["images"] / row["score_cpu_seconds"]
            )
    return found


def capacity() -> str:
    decoding = {(row["kind"], row["side"]): row["cpu_milliseconds"] / 1e3 for row in load("decode_rate")["rows"]}
    rows = []
    for name, rate in rates().items():
        for label, extra in (("array", 0.0), ("JPEG of 1 megapixel", decoding["jpg", 1024])):
            each = 1 / rate + extra
            cores = [count * each / DAY for count in (1e6, 1e8, 1e9)]
            bottleneck = "decoding" if extra > 1 / rate else "model"
            machines = [f"{core:,.2g}" if core < 10 else f"{core:,.0f}" for core in cores]
            rows.append([name, label, f"{1 / each:,.0f}", *machines, f"{math.ceil(cores[-1] / CORES):,}", bottleneck])
    head = [
        "detector",
        "images come as",
        "images/s a core",
        "cores for 10^6 a day",
        "10^8",
        "10^9",
        f"machines of {CORES} cores for 10^9",
    ]
    return table([*head, "bottleneck"], rows)


def decoding() -> str:
    rows = [
        [
            row["kind"].upper(),
            f"{row['side']:,} x {row['side']:,}",
            f"{row['kilobytes']:,.0f}",
            f"{row['cpu_milliseconds']:.1f}",
        ]
        for row in load("decode_rate")["rows"]
    ]
    return table(["file", "size", "kB", "CPU ms to read and bring to 256 x 256"], rows)


def network() -> str:
    kilobytes = next(
        row["kilobytes"] for row in load("decode_rate")["rows"] if (row["kind"], row["side"]) == ("jpg", 1024)
    )
    lines = [
        f"{kilobytes * 1e3 * 8 * count / DAY / 1e9:,.2f} Gbit/s for 10^{power}"
        for power, count in ((6, 1e6), (8, 1e8), (9, 1e9))
    ]
    return f"A JPEG of 1 megapixel was {kilobytes:,.0f} kB: {', '.join(lines)} a day."


def million() -> str:
    rows = [
        [
            row["kind"],
            f"{row['images']:,}",
            f"{row['cpu_seconds']:,.1f}",
            f"{row['peak_megabytes']:,.0f}",
            f"{row['megabytes_of_scores']:.1f}",
        ]
        for row in load("million")["rows"]
    ]
    return table(["images", "how many", "CPU seconds", "peak memory, MB", "Parquet, MB"], rows)


@styled
def draw() -> Figure:
    """CPU seconds and memory against the number of images."""
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    panels = figure.subplots(1, 2)
    rows = load("million")["rows"]
    for marker, kind in zip("os", dict.fromkeys(row["kind"] for row in rows), strict=False):
        own = [row for row in rows if row["kind"] == kind]
        for axes, key in zip(panels, ("cpu_seconds", "peak_megabytes"), strict=True):
            axes.plot([row["images"] for row in own], [row[key] for row in own], marker=marker, label=kind)
    panels[0].set(xscale="log", yscale="log", title="CPU seconds", xlabel="Images")
    panels[1].set(xscale="log", title="Peak memory, MB", xlabel="Images", ylim=(0, None))
    panels[0].legend(frameon=False)
    return figure


def cost() -> str:
    if not (RESULTS / "ray_cost.json").exists():
        return "What Ray adds to an image is not measured yet: `python benchmarks/ray_cost.py`."
    found = load("ray_cost")
    few, many = (row["images"] for row in found["rows"])
    here = found["here_cpu_milliseconds_an_image"]
    more = [found[f"ray_{workers}_cpu_milliseconds_an_image"] - here for workers in (1, 2)]
    start = found["rows"][0]["ray_1"]["cpu_seconds"] - found["rows"][0]["here_cpu_seconds"]
    return (
        f"Ray took {start:,.0f} CPU seconds to start and end. Between {few:,} and {many:,} images all its processes took {more[0]:.2f} (one worker) and "
        f"{more[1]:.2f} (two) CPU milliseconds an image more than the {here:.2f} of one process without it: much beside so cheap a detector, and "
        f"part of it is what its daemons take while they wait. The load of the two cores was {found['load_average']:.0f} meanwhile, so wall times say nothing: "
        f"that two workers came out {found['two_workers_faster']:.1f} times as fast as one, more than two can be, is noise. How much two workers gain on "
        f"cores of one's own, and what Ray adds beyond 20,000 images, is to be measured where nothing else runs. {made_by(found)}"
    )


def kills() -> str:
    found = load("ray_kill")
    return (
        f"{found['kills_of_workers']} workers and {found['kills_of_drivers']} drivers were killed by SIGKILL at random moments: {found['images']:,} "
        f"images, each once in the output; the largest relative difference from one process's scores was "
        f"{found['largest_relative_difference']:.2g}. {made_by(found)}"
    )


TEXT = """# More than one machine

*Made by `docs/make_scale.py` from `benchmarks/results`; change that, not this.*

## Score in shards

```
unlike score bottle.unlike new/ -o scores.parquet                     one process, one file
unlike score bottle.unlike new/ -o scores/ --on ray                   workers on all cores of this machine, a folder of shards
unlike score bottle.unlike s3://line/july -o scores/ --on ray --address head:6379 --workers 64
```

`pip install 'unlike[scale]'` brings Ray, pyarrow and fsspec. Each shard is a Parquet file of 1,000 images (`--shard`) with the columns
of the csv (`id`, `score`, `threshold`, `p_value`, `anomalous`) and `reason`: an image that cannot be read has a row with that alone.
Ids are those of `unlike score`. In Python:

```python
from unlike import batch

batch.score("bottle.unlike", "s3://line/july", "scores/", batch.Engine("ray", workers=64))  # doctest: +SKIP
```

- **Paths travel**, and workers read by our own readers: a score is the same wherever it is computed. The detector, or its export, travels once to
  each worker. An array in a file goes by its path, so that a cluster needs it at the same path everywhere; one in memory is sent in parts.
- **Nothing is scored twice.** A shard is written beside and renamed, under a name that depends on its place alone. The same command goes on
  where it was killed; a folder of another detector, other images or another `--shard` is refused. Images are told apart by their paths, and by the
  pixels of the first and the last. `-o FILE.csv` and `-o FILE.parquet` go on with `--resume`.
- **Whoever dies is replaced.** A shard over which a worker died is begun anew, up to five times; then the run stops and says so, and what is
  finished is kept.
- `--fdr`, `--maps` and `--explain` take all images in one process.
- Workers need this package and `unlike[scale]` on every machine. A cluster that asks for a token takes `RAY_AUTH_MODE=token` and
  `RAY_AUTH_TOKEN_PATH`. Usage statistics of Ray are off (`RAY_USAGE_STATS_ENABLED`), and workers of a cluster of our own run at the niceness of the
  command (`RAY_worker_niceness=0`; by Ray's own 15 they starve on a machine that does anything else).

@KILLS@

## Images in stores

`s3://`, `gs://`, `az://` and `https://` are taken wherever IMAGES are, by [fsspec](https://filesystem-spec.readthedocs.io): a folder with
the same layouts as on disk, a pattern, or one image (`https://` where the server lists its folders). Accounts are those of the environment (`AWS_PROFILE`,
`AWS_ENDPOINT_URL`, `AZURE_STORAGE_ACCOUNT_NAME`, ...). A [manifest](how-to.md#write-a-manifest) may be CSV or Parquet, lie in a store itself, and name
addresses. Tested against a server of S3 and one of HTTP; `gs://` and `az://` go the same way and were not tried against their services.
An image is fetched in up to three attempts before it counts as broken. Arrays and archives are read from disk.

## What it takes

CPU seconds of one thread: the default by [export's page](export.md), others by the largest growth that was [measured](measured.md); images in an array,
and with the time to decode. Four times the pixels take about four times as long:

@CAPACITY@

@DECODING@

@NETWORK@

No GPU was at hand when these were measured: what one does is not said here. On one, batches take half of its free memory (half as many where that runs out)
and come from pinned memory; that was tested with the CPU as a stand-in only. Files are decoded ahead in threads on any device.

@COST@

@MADE@

## A million on one machine

![CPU seconds and memory against the number of images, for rows of an array and for small files](pictures/million.svg)

@MILLION@

Rows of 32 x 32 by the model `pixels` and the scorer `pca`, which cost next to nothing, so that what shows is the rest. The images were made by the
same process in this run, and its peak holds the pages of the file that it wrote (1 GB for a million); the script has another process make them since. @MADE_MILLION@

## Studies in a database

Several machines may work on one [study](studies.md): `--storage postgresql+psycopg://user@host/name` on each, with a folder of its own. Four
workers of two commands, one of them killed, lose and double no run (`tests/study/test_postgres.py`). `--track mlflow` leaves settings, figures and
losses with a server, and the page and tables as artefacts of a run called `report`.

## What does not divide yet

A fit is one process, or several that train together (`training.processes`): moments and banks are not fitted by Ray. Of very many normal images fit on a
sample, and let it say [on what its promise rests](promises.md). Whole figures of a GPU are not here, for want of one.
"""


def render() -> str:
    parts = {
        "KILLS": kills(),
        "CAPACITY": capacity(),
        "DECODING": decoding(),
        "NETWORK": network(),
        "COST": cost(),
        "MADE": f"{made_by(load('growth'))} {made_by(load('decode_rate'))}",
        "MILLION": million(),
        "MADE_MILLION": made_by(load("million")),
    }
    text = TEXT
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


@styled  # and written so: the same figures are the same file
def main() -> int:
    if "--check" not in sys.argv:
        draw().savefig(PICTURE, metadata={"Date": None, "Creator": None})
    return write_page(PAGE, render())


if __name__ == "__main__":
    sys.exit(main())
