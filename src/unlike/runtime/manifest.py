"""What `unlike export` wrote beside a graph: how to feed it, where normal ends, and what proves that it is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unlike.artifacts import EXPORT, check_files, misfits_refused, read_facts, read_folder
from unlike.calibration.decision import Decision
from unlike.calibration.stored import ARRAYS, rebuild_decision, unpack_arrays
from unlike.data.input_spec import InputSpec
from unlike.data.pages import Pages
from unlike.runtime.sessions import GRAPHS

FORMAT = 1  # of the folder; a higher one is newer
DEPTHS = ("uint8", "uint16", "float32")  # number types of pixels that a graph can take
PROOF = "proof.npz"  # images of the proof, with what torch says of them


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """All that an export says of itself, but for its graph."""

    to: str  # the runtime: "onnx" or "openvino"
    depth: str  # the number type of the graph's pixels
    spec: InputSpec  # the form that images are brought to
    decision: Decision  # where normal ends
    digests: npt.NDArray[np.uint64]  # (N,) of all images that the detector was fitted on
    pages: Pages  # what a file of several pages is
    images_at_once: int  # as many as the graph is given
    batch_size: int | None  # images in a batch of a stream; None leaves it to their size
    proof: Mapping[str, Any]  # how it was proven equal, and where


def read_manifest(folder: Path) -> Manifest:
    """What is in an export's folder, once all of it is known to be what was written; an ArtifactError says what is wrong."""
    facts = read_facts(folder, EXPORT, FORMAT)
    arrays = read_folder(folder, (ARRAYS,), EXPORT)[ARRAYS]
    with misfits_refused(folder, EXPORT):
        manifest = _rebuild(facts, arrays)
    check_files(folder, GRAPHS[manifest.to], EXPORT)
    return manifest


def _rebuild(facts: Mapping[str, Any], arrays: bytes) -> Manifest:
    graph, known = facts["graph"], facts["fitted"]
    if graph["runtime"] not in GRAPHS or graph["pixels"] not in DEPTHS:
        raise ValueError(f"unknown runtime {graph['runtime']!r} or type of pixels {graph['pixels']!r}")
    at_once, kept = graph.get("stream"), unpack_arrays(arrays)
    return Manifest(
        graph["runtime"],
        graph["pixels"],
        InputSpec.restore(known),
        rebuild_decision(known, kept),
        kept["digests"],
        facts["data"]["pages"],
        max(1, int(graph["images_at_once"])),
        None if at_once is None else int(at_once),
        facts["proof"],
    )
