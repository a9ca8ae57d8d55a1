"""A decision as it is kept on disk: facts that TOML holds, and arrays in an `.npz`; read without torch, and never a pickle."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from unlike.calibration.decision import ALL, Decision, Otherwise, Threshold
from unlike.calibration.thresholds import Promise

ARRAYS = "calibration.npz"
MAX_ARRAY_BYTES = 4_000_000_000
LARGE_BYTES = 2_000_000_000  # what a zip archive holds without its extension for large files
NPZ_DATE = (1980, 1, 1, 0, 0, 0)  # the same arrays have the same bytes whenever they are written

Arrays = dict[str, npt.NDArray[Any]]


def describe_decision(decision: Decision) -> dict[str, Any]:
    """Its facts, in values that TOML holds."""
    thresholds = {name: _describe(threshold) for name, threshold in decision.thresholds.items()}
    facts: dict[str, Any] = thresholds.pop(ALL)
    if thresholds:
        facts["categories"] = thresholds
    if decision.too_few:
        facts["too_few"] = dict(decision.too_few)
    if (other := decision.otherwise) is not None:
        facts["otherwise"] = {"by": other.by, "independent": other.independent, **_describe(other.threshold)}
    return facts


def decision_arrays(decision: Decision) -> Arrays:
    """What of it is kept as arrays."""
    arrays = {
        "scores": decision.scores,
        "peaks": decision.peaks,
        "ids": decision.ids,
        "groups": decision.groups,
    }
    return {**arrays, "categories": decision.categories} if decision.categories.astype(bool).any() else arrays


def rebuild_decision(known: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Decision:
    """From what `describe_decision` and `decision_arrays` gave.

    >>> promise = Promise(0.2, "at most 20 % false alarms")
    >>> scores = np.arange(4.0)
    >>> decision = Decision(scores, scores, np.full(4, ALL), {ALL: Threshold(3.0, 3.0, promise)})
    >>> again = rebuild_decision(describe_decision(decision), unpack_arrays(pack_arrays(decision_arrays(decision))))
    >>> again.threshold, again.p_values(np.array([2.5])).tolist()
    (3.0, [0.4])
    """
    thresholds = {name: _rebuild_threshold(one) for name, one in {ALL: known, **known.get("categories", {})}.items()}
    categories = arrays.get("categories", np.full(len(arrays["scores"]), ALL))
    other, otherwise = known.get("otherwise"), None
    if other is not None:
        otherwise = Otherwise(str(other["by"]), _rebuild_threshold(other), int(other["independent"]))
    return Decision(
        arrays["scores"],
        arrays["peaks"],
        categories,
        thresholds,
        dict(known.get("too_few", {})),
        arrays["ids"],
        arrays["groups"],
        otherwise,
    )


def pack_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An `.npz` whose bytes depend on the arrays alone (numpy's own carries the time).

    Measured numbers hardly compress, and take long to: floats are stored as they are.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, value in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", NPZ_DATE)
            entry.compress_type = zipfile.ZIP_STORED if value.dtype.kind == "f" else zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=value.nbytes > LARGE_BYTES) as file:
                np.lib.format.write_array(file, np.asarray(value), allow_pickle=False)
    return buffer.getvalue()


def unpack_arrays(content: bytes) -> Arrays:
    """What `pack_arrays` packed; never runs code from it."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        if archive.zip is not None and sum(entry.file_size for entry in archive.zip.infolist()) > MAX_ARRAY_BYTES:
            raise ValueError(f"{ARRAYS} unpacks to more than {MAX_ARRAY_BYTES / 1e9:,.0f} GB")
        return {name: archive[name] for name in archive.files}


def _describe(threshold: Threshold) -> dict[str, float | str]:
    promised = {} if threshold.false_alarms is None else {"false_alarms": threshold.false_alarms}
    return {
        **promised,
        "promise": threshold.promise.words,
        "threshold": threshold.score,
        "region_threshold": threshold.region,
    }


def _rebuild_threshold(known: Mapping[str, Any]) -> Threshold:
    promised = known.get("false_alarms")
    promise = Promise(None if promised is None else float(promised), str(known["promise"]))
    return Threshold(float(known["threshold"]), float(known["region_threshold"]), promise)
