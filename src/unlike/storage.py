"""What a detector has learned, to and from a folder: TOML, safetensors and npz, with checksums; never a pickle."""

from __future__ import annotations

import io
import platform
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tomli_w
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

import unlike
from unlike.artifacts import read_folder, write_folder
from unlike.data.images import Frame
from unlike.errors import ArtifactError, ConfigError
from unlike.models import MODELS, ImageShape, Model
from unlike.records import Floats
from unlike.scoring import SCORERS, Scorer
from unlike.settings import SECTIONS, Settings
from unlike.training import History

FORMAT = 1  # of the folder; a higher one is from a newer version
TOML, WEIGHTS, ARRAYS = "detector.toml", "weights.safetensors", "calibration.npz"
SCORER_PREFIX = "scorer."
NPZ_DATE = (1980, 1, 1, 0, 0, 0)  # the same detector has the same bytes whenever it is written


@dataclass(slots=True, eq=False)
class Fitted:
    """What a detector has learned: all that scoring depends on, and where it came from."""

    model: Model
    scorer: Scorer
    frame: Frame
    value_range: tuple[float, float]  # the values of black and white
    calibration: Floats  # (n,) scores of held-out normal images
    peaks: Floats  # (n,) largest map value of each of them
    digests: npt.NDArray[np.uint64]  # (N,) of all images it was fitted on
    false_alarms: float  # promised
    threshold: float  # of scores
    region_threshold: float  # of map values
    history: History
    source: str
    counts: dict[str, int]  # of images, by what they were used for

    def describe(self) -> dict[str, Any]:
        """The facts that are neither weights nor arrays, in values that TOML holds."""
        facts: dict[str, Any] = {"source": self.source, "images": dict(self.counts), "frame": asdict(self.frame)}
        facts |= {"black": self.value_range[0], "white": self.value_range[1]}
        facts |= {"false_alarms": self.false_alarms, "threshold": self.threshold}
        return facts | {"region_threshold": self.region_threshold}


def save_detector(folder: Path, settings: Settings, seed: int, fitted: Fitted) -> None:
    """Write a detector as a folder, whole or not at all."""
    facts: dict[str, Any] = {"format": FORMAT, "seed": seed, **settings.to_sections()}
    facts |= {"fitted": fitted.describe(), "versions": versions(), "history": fitted.history}
    arrays = {"scores": fitted.calibration, "peaks": fitted.peaks, "digests": fitted.digests}
    arrays |= {SCORER_PREFIX + name: value for name, value in fitted.scorer.state().items()}
    weights = {name: value.detach().cpu().contiguous() for name, value in fitted.model.state_dict().items()}
    files = {TOML: tomli_w.dumps(facts).encode(), WEIGHTS: save_tensors(weights), ARRAYS: _pack_arrays(arrays)}
    write_folder(folder, files)


def load_detector(folder: Path) -> tuple[Settings, int, Fitted]:
    """Read what `save_detector` wrote; an ArtifactError says what is wrong with it. Runs no code from the folder."""
    facts = _read_facts(folder)
    contents = read_folder(folder, (WEIGHTS, ARRAYS))
    try:
        settings = Settings.from_sections({name: facts[name] for name in SECTIONS})
        fitted = _rebuild(settings, facts, contents)
    except ConfigError as error:
        raise ArtifactError(
            f"{folder}: {TOML} does not suit this version of unlike ({unlike.__version__}): {error}"
        ) from None
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{folder}: its parts do not fit together ({error}); fit the detector again") from None
    return settings, int(facts["seed"]), fitted


def versions() -> dict[str, str]:
    """What made a detector, for whoever must make it again."""
    return {
        "unlike": unlike.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _read_facts(folder: Path) -> dict[str, Any]:
    try:
        facts = tomllib.loads(read_folder(folder, (TOML,))[TOML].decode())
        found = int(facts["format"])
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{folder}: {TOML} cannot be understood ({error}); fit the detector again") from None
    if found > FORMAT:
        made_by = facts.get("versions", {}).get("unlike", "a newer version")
        raise ArtifactError(
            f"{folder}: is in format {found}, written by unlike {made_by}; this is {unlike.__version__}, "
            f"which reads up to format {FORMAT}. Upgrade unlike."
        )
    return facts


def _rebuild(settings: Settings, facts: Mapping[str, Any], contents: Mapping[str, bytes]) -> Fitted:
    known = facts["fitted"]
    frame = Frame(**known["frame"])
    shape = ImageShape(frame.channels, frame.height, frame.width)
    model = MODELS[settings.model_name](settings.model, shape)
    model.load_state_dict(load_tensors(contents[WEIGHTS]))
    arrays = _unpack_arrays(contents[ARRAYS])
    scorer = SCORERS[settings.scorer_name](settings.scorer)
    scorer.restore(
        {name.removeprefix(SCORER_PREFIX): arrays[name] for name in arrays if name.startswith(SCORER_PREFIX)}
    )
    return Fitted(
        model.eval(),
        scorer,
        frame,
        (float(known["black"]), float(known["white"])),
        arrays["scores"],
        arrays["peaks"],
        arrays["digests"],
        float(known["false_alarms"]),
        float(known["threshold"]),
        float(known["region_threshold"]),
        [dict(row) for row in facts.get("history", [])],
        str(known["source"]),
        dict(known["images"]),
    )


def _pack_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An `.npz` whose bytes depend on the arrays alone (numpy's own carries the time)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in arrays.items():
            entry = io.BytesIO()
            np.save(entry, value, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", NPZ_DATE), entry.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _unpack_arrays(content: bytes) -> dict[str, npt.NDArray[Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
