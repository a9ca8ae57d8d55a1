"""`unlike demo`: the broken ones among real solar cells, found by a detector that saw only good ones."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import cv2
import numpy as np

from unlike.artifacts import check_writable, output_errors
from unlike.data.cells import load_cells

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlike.detector.detector import Detector
    from unlike.detector.fitting import Notify
    from unlike.records import Evaluation

SERVED, SERVED_PRESET = "cells", "fast"  # of the service that is shown
SERVED_SETTINGS = {"decision": {"keep_pictures": True}}  # so that the page shows normal images beside a strange one
ARRIVING = {"good": 40, "defective": 12}  # cells that it scores by itself
TEST_NORMALS = 150  # of the 588 normal monocrystalline cells, held out for the test
# name of its part of the output -> preset, promise of false alarms
DETECTORS: dict[str, tuple[str | None, float | Literal["auto"]]] = {
    "": (None, "auto"),  # what `unlike fit` does without a choice
    "autoencoder": ("autoencoder", 0.05),  # 1 % would rest on the strangest alone of some 110 held-out cells
}


class Narrator(Protocol):
    """Who tells people what happens: the command line's console."""

    def say(self, text: str) -> None:
        """A line."""

    def progress(self) -> AbstractContextManager[Notify]:
        """What to call as work goes on."""

    def say_fit(self, detector: Detector, folder: Path) -> None:
        """What was learned."""

    def say_evaluation(self, evaluation: Evaluation, folder: Path) -> None:
        """What was measured."""


def run_demo(folder: Path, seed: int, console: Narrator) -> None:
    """Write the cells as images; fit on good ones, evaluate on the rest, and report, by two methods."""
    check_writable(folder / "report.html")
    images = write_cells(folder / "cells", seed)
    shown: dict[Path, Detector] = {}
    for part, (preset, false_alarms) in DETECTORS.items():
        if part:
            console.say(f"\nFor comparison, an {part} that learns to rebuild good cells from their pixels:")
        shown |= _show(images, folder / part, preset, false_alarms, seed, console, shown)


def _show(
    images: Path,
    folder: Path,
    preset: str | None,
    false_alarms: float | Literal["auto"],
    seed: int,
    console: Narrator,
    beside: Mapping[Path, Detector],
) -> dict[Path, Detector]:
    """Fit one detector, evaluate it beside those there are, and say which commands would have done so."""
    from unlike.detector.detector import Detector
    from unlike.evaluation import evaluate
    from unlike.report import write_evaluation

    detector_path = folder / "cells.unlike"
    chosen = "" if false_alarms == "auto" else f" --preset {preset} --false-alarms {false_alarms}"
    console.say(f"$ unlike fit {images} -o {detector_path}{chosen}")
    with console.progress() as notify:
        detector = Detector(preset=preset, false_alarms=false_alarms, seed=seed).fit(images, notify=notify)
    detector.save(detector_path)
    console.say_fit(detector, detector_path)
    others = "".join(f" --beside {path}" for path in beside)
    console.say(f"$ unlike evaluate {detector_path} {images} -o {folder}{others}")
    with console.progress() as notify:
        found = evaluate(detector, images, notify=lambda done, total: notify("score", done, total, {}))
    write_evaluation(detector, found, folder, {known.settings.model_name: known for known in beside.values()})
    console.say_evaluation(found, folder)
    return {detector_path: detector}


def prepare_service(folder: Path, seed: int, console: Narrator) -> Path:
    """A detector of cells in a folder of detectors, where there is none, and a folder in which some cells have just arrived."""
    from unlike.detector.detector import Detector

    place, target = folder / ".demo", folder / f"{SERVED}.unlike"
    arriving = place / "arriving"
    if not target.exists():
        check_writable(target)
        images = write_cells(place / "cells", seed)
        console.say(f"$ unlike fit {images} -o {target} --preset {SERVED_PRESET} --keep-pictures")
        with console.progress() as notify:
            detector = Detector(preset=SERVED_PRESET, seed=seed, settings=SERVED_SETTINGS).fit(images, notify=notify)
        detector.save(target)
        console.say_fit(detector, target)
        normals = folder / f"{SERVED}.normals"  # where a service looks for images to fit again on
        shutil.copytree(images / "train" / "good", normals / "demo", dirs_exist_ok=True)
        _let_arrive(images, arriving)
    return arriving


def _let_arrive(images: Path, arriving: Path) -> None:
    """Cells that the detector has not seen, in the order in which a line might bring them."""
    cells = [
        path for kind, count in ARRIVING.items() for path in sorted((images / "test" / kind).glob("*.png"))[:count]
    ]
    arriving.mkdir(parents=True, exist_ok=True)
    for place in np.random.default_rng(0).permutation(len(cells)):
        shutil.copy(cells[place], arriving / cells[place].name)


def write_cells(folder: Path, seed: int) -> Path:
    """The monocrystalline cells in MVTec AD layout: normal is a defect probability of 0, defective one of 1."""
    cells, probability, kind = load_cells()
    mono = kind == "mono"
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(mono & (probability == 0)))
    parts = {
        "test/good": normal[:TEST_NORMALS],
        "train/good": normal[TEST_NORMALS:],
        "test/defective": np.flatnonzero(mono & (probability == 1)),
    }
    for part, rows in parts.items():
        with output_errors(folder / part):
            (folder / part).mkdir(parents=True, exist_ok=True)
            for old in (folder / part).glob("cell*.png"):  # of another seed
                old.unlink()
            for row in rows:
                cv2.imwrite(str(folder / part / f"cell{row:04}.png"), cells[row])
    return folder
