"""`unlike export`: a detector as one graph that runs without torch, proven equal before it is written."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlike.cli.console import Console, plural
from unlike.errors import ConfigError

if TYPE_CHECKING:
    from unlike.export.quantise import Quantised


class To(StrEnum):
    """What runs the graph."""

    ONNX = "onnx"
    OPENVINO = "openvino"


class Depth(StrEnum):
    """The number type of the graph's pixels."""

    AUTO = "auto"
    UINT8 = "uint8"
    UINT16 = "uint16"
    FLOAT32 = "float32"


def export(
    detector: Annotated[
        Path | None, typer.Argument(metavar="DETECTOR", help="A detector that `unlike fit` wrote; none with --verify.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="The folder to write.")
    ] = None,
    to: Annotated[To, typer.Option("--to", help="What is to run it.")] = To.ONNX,
    check: Annotated[
        list[str] | None,
        typer.Option(
            "--check", metavar="IMAGES", help="Prove it with these images; otherwise with made and normal ones."
        ),
    ] = None,
    depth: Annotated[
        Depth, typer.Option("--depth", help="Of the pixels that the graph takes; auto: that of the images.")
    ] = Depth.AUTO,
    int8: Annotated[
        bool, typer.Option("--int8", help="Convolutions in 8-bit integers, if AUROC falls by less than .005.")
    ] = False,
    normals: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGES", help="For --int8: the images it was fitted on, where those are not there any more."
        ),
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option("--verify", metavar="FOLDER", help="Repeat the proof of an export, on the machine where it runs."),
    ] = None,
) -> None:
    """Write a detector as one graph that runs without torch, once it is proven to say the same.

    Example: unlike export bottle.unlike -o bottle.onnx --to onnx && unlike export --verify bottle.onnx
    """
    console = Console()
    if verify is not None:
        if detector is not None or output is not None:
            raise ConfigError("--verify takes an export alone, without DETECTOR and -o: it writes nothing")
        _verify(verify, console)
        return
    if detector is None or output is None:
        raise ConfigError("expected a detector and where to write its export: unlike export DETECTOR -o FOLDER")
    from unlike.detector.detector import Detector
    from unlike.export.exporting import export_detector

    found = export_detector(
        Detector.load(detector, "cpu"),
        output,
        to.value,
        check=check or None,
        depth=depth.value,
        int8=int8,
        normals=normals,
    )
    if found.quantised is not None:
        _say_quantised(found.quantised, console)
    height, width, channels = found.shape
    console.say(
        f"Proven with {plural(found.images, 'image')}, 1, 2 and 7 at once: scores within {found.gap.score:.1e}, maps within "
        f"{found.gap.map:.1e}, no verdict differs."
    )
    console.say(
        f"Takes {found.depth} pixels, B x {height} x {width} x {channels}; {found.megabytes:,.0f} MB for {found.to}."
        + (" For images of 16 bits export with --depth uint16." if found.depth == "uint8" else "")
    )
    console.say(f"Export: {found.folder}")


def _say_quantised(found: Quantised, console: Console) -> None:
    what = "images, with made defects" if found.synthetic else "labelled images"
    console.say(f"By {found.images:,} {what}, one at a time:")
    console.say(f"{'':18}{'AUROC':>8}{'CPU ms':>8}")
    console.say(f"{'single precision':18}{found.auroc:8.4f}{found.milliseconds:8.1f}")
    console.say(f"{'8-bit integers':18}{found.auroc_int8:8.4f}{found.milliseconds_int8:8.1f}")
    if found.kept:
        console.say("The network is in integers, its distances are not; the threshold was calibrated by its scores.")
    else:
        console.say(
            f"Not in integers: AUROC would fall by {found.lost:.4f}, and .005 is the most; it is in single precision."
        )


def _verify(folder: Path, console: Console) -> None:
    from unlike.runtime.manifest import read_manifest
    from unlike.runtime.proof import describe_machine, verify_export

    gap = verify_export(folder)
    console.say(
        f"Equal to its detector on this machine ({describe_machine(read_manifest(folder).to)}): scores within {gap.score:.1e}, maps within "
        f"{gap.map:.1e}, no verdict differs."
    )
