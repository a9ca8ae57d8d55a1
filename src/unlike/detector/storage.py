"""What a detector has learned, to and from a folder: TOML, safetensors and npz, with checksums; never a pickle."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import platform
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tomli_w
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from unlike._version import __version__
from unlike.artifacts import DETECTOR, Kind, read_folder, write_folder
from unlike.backbones.network_cache import keeping
from unlike.cache import Cache
from unlike.calibration.decision import ALL, Decision, Line
from unlike.config import from_mapping
from unlike.data.images import InputSpec
from unlike.detector.settings import SECTIONS, Settings
from unlike.errors import ArtifactError, ConfigError
from unlike.models import MODELS, Model
from unlike.records import ImageShape, Unreadable
from unlike.scoring import SCORERS, Scorer
from unlike.scoring.per_category import restore_scorer
from unlike.training import History

FORMAT = 4  # of the folder; a higher one is newer. 2: a line for each category; 3: categories apart; 4: halved matrices
WEIGHTS, ARRAYS = "weights.safetensors", "calibration.npz"
SCORER_PREFIX = "scorer."
MAX_ARRAY_BYTES = 4_000_000_000
LARGE_BYTES = 2_000_000_000  # what a zip archive holds without its extension for large files
NPZ_DATE = (1980, 1, 1, 0, 0, 0)  # the same detector has the same bytes whenever it is written


@dataclass(slots=True, eq=False)
class Fitted:
    """What a detector has learned: all that scoring depends on, and where it came from."""

    model: Model
    scorer: Scorer
    spec: InputSpec
    value_range: tuple[float, float]  # the values of black and white
    decision: Decision  # where normal ends, and what that rests on
    digests: npt.NDArray[np.uint64]  # (N,) of all images it was fitted on
    history: History
    source: str
    counts: dict[str, int]  # of images, by what they were used for
    unreadable: tuple[Unreadable, ...] = ()  # of this fit; not kept on disk

    def __post_init__(self) -> None:
        lines = [number for line in self.decision.lines.values() for number in astuple(line)]
        scores = self.decision.scores
        if not (np.isfinite((*self.value_range, *lines)).all() and np.isfinite(scores).all() and len(scores)):
            raise ValueError("a threshold or a held-out score is not a finite number")

    def describe(self) -> dict[str, Any]:
        """The facts that are neither weights nor arrays, in values that TOML holds."""
        facts: dict[str, Any] = {"source": self.source, "images": dict(self.counts), "spec": asdict(self.spec)}
        facts |= {"black": self.value_range[0], "white": self.value_range[1]}
        lines = {name: _describe_line(line) for name, line in self.decision.lines.items()}
        facts |= lines.pop(ALL)
        if lines:
            facts["categories"] = lines
        if self.scorer.parts:
            facts["learned_apart"] = [list(names) for names in self.scorer.parts]
        if self.decision.too_few:
            facts["too_few"] = dict(self.decision.too_few)
        return facts


def _describe_line(line: Line) -> dict[str, float]:
    return {
        "false_alarms": line.false_alarms,
        "threshold": line.threshold,
        "region_threshold": line.region_threshold,
    }


def save_detector(folder: Path, settings: Settings, seed: int, fitted: Fitted) -> None:
    """Write a detector as a folder, whole or not at all."""
    facts: dict[str, Any] = {"format": FORMAT, "seed": seed, **settings.to_sections()}
    facts |= {"fitted": fitted.describe(), "versions": versions(), "history": fitted.history}
    decision = fitted.decision
    arrays: dict[str, npt.NDArray[Any]] = {
        "scores": decision.scores,
        "peaks": decision.peaks,
        "digests": fitted.digests,
    }
    if decision.categories.astype(bool).any():
        arrays["categories"] = decision.categories
    arrays |= {SCORER_PREFIX + name: value for name, value in fitted.scorer.state().items()}
    files = {WEIGHTS: pack_weights(fitted.model), ARRAYS: pack_arrays(arrays)}
    text = tomli_w.dumps(facts).encode(errors="surrogateescape")  # folders that name categories need be no UTF-8
    write_folder(folder, {DETECTOR.facts: text, **files})


def load_detector(folder: Path, cache: Cache | None = None) -> tuple[Settings, int, Fitted]:
    """Read what `save_detector` wrote; an ArtifactError says what is wrong with it. Runs no code from the folder.

    Frozen networks are taken from the cache, if there is one, and kept there.
    """
    facts = read_facts(folder, DETECTOR, FORMAT)
    contents = read_folder(folder, (WEIGHTS, ARRAYS))
    with misfits_refused(folder, DETECTOR):
        sections = {name: dict(facts[name]) for name in SECTIONS}
        settings = Settings.from_sections(sections)
        older = facts["format"] < 3 or "per_category" not in sections["scorer"]
        if older and hasattr(settings.scorer, "per_category"):  # what those did
            sections["scorer"]["per_category"] = False
            settings = Settings.from_sections(sections)
        with keeping(cache, weights_follow=True):
            return settings, int(facts["seed"]), _rebuild(settings, facts, contents)


def versions() -> dict[str, str]:
    """What made a detector, for whoever must make it again."""
    return {
        "unlike": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def read_facts(folder: Path, kind: Kind, newest: int) -> dict[str, Any]:
    """The TOML of a folder of that kind, in a format up to the `newest` that is known."""
    content = read_folder(folder, (kind.facts,), kind)[kind.facts]
    try:
        facts = tomllib.loads(content.decode(errors="surrogateescape"))
        found = int(facts["format"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{folder}: {kind.facts} cannot be understood ({error}); make the {kind.name} again"
        ) from None
    if found > newest:
        made_with = facts.get("versions")
        made_by = made_with.get("unlike") if isinstance(made_with, dict) else "a newer version"
        raise ArtifactError(
            f"{folder}: is in format {found}, written by unlike {made_by}; this is {__version__}, "
            f"which reads up to format {newest}. Upgrade unlike."
        )
    return facts


@contextlib.contextmanager
def misfits_refused(folder: Path, kind: Kind) -> Iterator[None]:
    """Turn what goes wrong when the parts of a folder do not belong together into an ArtifactError."""
    try:
        yield
    except ConfigError as error:
        raise ArtifactError(
            f"{folder}: {kind.facts} does not suit this version of unlike ({__version__}): {error}"
        ) from None
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        SafetensorError,
        zipfile.BadZipFile,
    ) as error:
        reason = " ".join(str(error).split())  # torch names each tensor in a line of its own
        raise ArtifactError(f"{folder}: its parts do not fit together ({reason}); make the {kind.name} again") from None


def shape_of(settings: Settings, spec: InputSpec) -> ImageShape:
    """What a model is built for: images in that spec, or their tiles."""
    tiling = settings.data.tiling(spec)
    seen = spec if tiling is None else tiling.spec_of(spec)
    return ImageShape(seen.channels, seen.height, seen.width)


def without_pretrained(config: Any) -> Any:
    """The same sizes without pretrained weights: others are about to take their place, or none are wanted."""
    return dataclasses.replace(config, pretrained=False) if getattr(config, "pretrained", False) else config


def _rebuild(settings: Settings, facts: Mapping[str, Any], contents: Mapping[str, bytes]) -> Fitted:
    known = facts["fitted"]
    spec = from_mapping(InputSpec, known["spec"], "fitted.spec")
    model = MODELS[settings.model_name](without_pretrained(settings.model), shape_of(settings, spec))
    model.load_state_dict(load_tensors(contents[WEIGHTS]))
    arrays = unpack_arrays(contents[ARRAYS])
    scorer = restore_scorer(
        lambda: SCORERS[settings.scorer_name](settings.scorer),
        {name.removeprefix(SCORER_PREFIX): arrays[name] for name in arrays if name.startswith(SCORER_PREFIX)},
    )
    return Fitted(
        model.eval(),
        scorer,
        spec,
        (float(known["black"]), float(known["white"])),
        _rebuild_decision(known, arrays),
        arrays["digests"],
        [dict(row) for row in facts.get("history", [])],
        str(known["source"]),
        dict(known["images"]),
    )


def _rebuild_decision(known: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Decision:
    """The lines, of which format 1 has but one, for images of any category."""
    described = {ALL: known, **known.get("categories", {})}
    lines = {
        name: Line(float(line["threshold"]), float(line["region_threshold"]), float(line["false_alarms"]))
        for name, line in described.items()
    }
    scores, peaks = arrays["scores"], arrays["peaks"]
    categories = arrays.get("categories", np.full(len(scores), ALL))
    if not len(scores) == len(peaks) == len(categories):
        raise ValueError("held-out scores, peaks and categories are not of the same images")
    return Decision(scores, peaks, categories, lines, dict(known.get("too_few", {})))


def pack_weights(model: nn.Module) -> bytes:
    """A model's weights as safetensors."""
    return save_tensors({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})


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


def unpack_arrays(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """What `pack_arrays` packed; never runs code from it."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        if archive.zip is not None and sum(entry.file_size for entry in archive.zip.infolist()) > MAX_ARRAY_BYTES:
            raise ValueError(f"{ARRAYS} unpacks to more than {MAX_ARRAY_BYTES / 1e9:,.0f} GB")
        return {name: archive[name] for name in archive.files}
