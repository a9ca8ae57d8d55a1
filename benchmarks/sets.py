"""The real images that benchmarks look at, one table: each set as a folder in MVTec AD layout.

    python benchmarks/sets.py ROOT [--most 300] [--sets transistor cookies]

writes them as folders of images below ROOT, for programs that read such folders (`public.py`, anomalib): at most so many images to
learn from, drawn at random, and all that there are to test. Sets of files are linked to, not copied.

The data folder has `transistor` of MVTec AD, `magnetic_tile` and six more (README.md there says whence each is); solar cells come with
a package of PyPI. Three are made of others: the transistors, each turned by some angle, shrunk and shifted, so that nothing lies
where it lay; faces, and vehicles among which animals are to be found, the first 400 to learn from and the first 600 to test.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from common import DATA, need

from unlike.data.cells import load_cells
from unlike.data.source import Source, labelled, open_source, training
from unlike.demo import write_cells

TRANSISTORS = "mvtec_ad_256/transistor"
POLY = 300  # normal polycrystalline cells to learn from, and at most as many normal and defective ones to test
ARRAYS = (400, 600)  # of arrays, those to learn from and those to test
MOST = 300  # to learn from


def write_poly(folder: Path) -> Path:
    """Polycrystalline cells in MVTec AD layout: normal is a defect probability of 0, defective one of 1."""
    cells, probability, kind = load_cells()
    random = np.random.default_rng(5)
    normal, broken = (random.permutation(np.flatnonzero((kind == "poly") & (probability == value))) for value in (0, 1))
    parts = {"train/good": normal[:POLY], "test/good": normal[POLY : 2 * POLY], "test/defective": broken[:POLY]}
    for part, rows in parts.items():
        write_images(folder / part, {f"cell{row:04}": cells[row] for row in rows})
    return folder


def write_turned(folder: Path) -> Path:
    """The transistors, each turned by any angle, shrunk by up to a fifth and shifted by up to 16 pixels; no masks."""
    source, random = need(DATA / TRANSISTORS), np.random.default_rng(1)
    for path in sorted(source.rglob("*.png")):
        if "ground_truth" in path.parts:
            continue
        image = cv2.imread(str(path))
        height, width = image.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(0, 360), random.uniform(0.8, 1))
        turn[:, 2] += random.uniform(-16, 16, 2)
        turned = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        write_images(folder / path.relative_to(source).parent, {path.stem: turned})
    return folder


def write_arrays(name: str, folder: Path) -> Path:
    """The first of a folder's arrays, in MVTec AD layout."""
    source = need(DATA / name)
    train, test, labels = (min(source.glob(pattern)) for pattern in ("train*.npy", "test*.npy", "*label*.csv"))
    with labels.open() as file:
        odd = np.array([int(row["anomaly"]) for row in csv.DictReader(file)][: ARRAYS[1]])
    learn, found = np.load(train, mmap_mode="r")[: ARRAYS[0]], np.load(test, mmap_mode="r")[: ARRAYS[1]]
    parts = {
        "train/good": (learn, range(len(learn))),
        "test/good": (found, np.flatnonzero(odd == 0)),
        "test/other": (found, np.flatnonzero(odd == 1)),
    }
    for part, (images, rows) in parts.items():
        write_images(folder / part, {f"{row:04}": images[row][..., ::-1] for row in rows})
    return folder


def write_images(folder: Path, images: dict[str, np.ndarray]) -> None:
    """Images in OpenCV's order of colours, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        cv2.imwrite(str(folder / f"{name}.png"), image)


SETS: dict[
    str, Callable[[Path], Path]
] = {  # each gives a folder in MVTec AD layout, which it may write into the one it is given
    "transistor": lambda _: need(DATA / TRANSISTORS),
    "magnetic_tile": lambda _: need(DATA / "magnetic_tile"),
    "solar cells": lambda folder: write_cells(folder, 0),
    "turned transistors": write_turned,
    "polycrystalline cells": write_poly,
    "faces": lambda folder: write_arrays("faces64", folder),
    "vehicles": lambda folder: write_arrays("vehicles32", folder),
    "mtoc": lambda _: need(DATA / "mtoc"),
    "cookies": lambda _: need(DATA / "cookies"),
    "pavement": lambda _: need(DATA / "pavement"),
    "headct": lambda _: need(DATA / "headct"),
    "pneumonia28": lambda _: need(DATA / "pneumonia28"),
    "hyper205": lambda _: need(DATA / "hyper205"),
}
TARGETS = ("transistor", "magnetic_tile", "solar cells")  # by whose figures the project was judged at first


def open_set(name: str, folder: Path) -> tuple[Source, Source]:
    """The images to learn from and those to test; `folder` is for a set that has to be written first."""
    whole = open_source(SETS[name](folder))
    return training(whole), labelled(whole)


def link(source: Path, to: Path, most: int) -> None:
    """The same set below `to`, with at most so many images to learn from."""
    files = sorted(path for path in source.rglob("*") if path.is_file() and path.suffix not in {".csv", ".txt"})
    train = [path for path in files if path.relative_to(source).parts[0] == "train"]
    kept = {train[row] for row in np.random.default_rng(0).permutation(len(train))[:most]}
    for path in files:
        if path in kept or path not in train:
            new = to / path.relative_to(source)
            new.parent.mkdir(parents=True, exist_ok=True)
            new.symlink_to(path.resolve())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--most", type=int, default=MOST, help="images to learn from")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    for name in options.sets:
        to = options.root / name.replace(" ", "_")
        if to.exists():
            print(f"{to} is there already, and stays as it is")
            continue
        written = options.root / ".written" / to.name
        link(SETS[name](written), to, options.most)
        print(to)


if __name__ == "__main__":
    main()
