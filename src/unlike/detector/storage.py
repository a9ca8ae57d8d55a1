"""What a detector has learned, to and from a folder: TOML, safetensors and npz, with checksums; never a pickle."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import platform
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tomli_w
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from safetensors.torch import save_file
from torch import Tensor, nn

from unlike._version import __version__
from unlike.artifacts import DETECTOR, Content, Kind, read_folder, write_folder
from unlike.backbones.network_cache import NetworkCache
from unlike.cache import Cache
from unlike.calibration.decision import ALL, Decision, Otherwise, Threshold
from unlike.calibration.thresholds import Promise
from unlike.data.input_spec import InputSpec
from unlike.detector.nearest import KnownNormals
from unlike.detector.pipeline import Pipeline
from unlike.detector.scorers import make_scorer
from unlike.detector.settings import SECTIONS, Settings
from unlike.errors import ArtifactError, ConfigError, OutputError
from unlike.models import MODELS
from unlike.records import Floats, ImageShape, Pixels, Unreadable
from unlike.training import History

FORMAT = 6  # of the folder; a higher one is newer, a lower one is of a version before the first release
WEIGHTS, SCORER, ARRAYS = "weights.safetensors", "scorer.safetensors", "calibration.npz"
UPPER = ":upper"  # after the name of matrices of which the upper halves are kept: below there is nothing
MAX_ARRAY_BYTES = 4_000_000_000
LARGE_BYTES = 2_000_000_000  # what a zip archive holds without its extension for large files
NPZ_DATE = (1980, 1, 1, 0, 0, 0)  # the same detector has the same bytes whenever it is written


@dataclass(frozen=True, slots=True, eq=False)
class Strangest:
    """A held-out normal image of a high score: small, and where it is strange."""

    id: str
    score: float
    picture: Pixels  # (H, W, 1 or 3) 8 bits
    map: Floats  # (h, w)


@dataclass(frozen=True, slots=True, eq=False)
class Distrusted:
    """Images that a fit was given as normal and did not learn from, the strangest first."""

    ids: tuple[str, ...]
    scores: Floats  # (n,) as new images
    shown: tuple[Strangest, ...]  # the first of them, small, each with its map
    of: int  # different images, these among them


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What a detector has learned: all that scoring depends on, and where it came from."""

    pipeline: Pipeline  # images (B, C, H, W) in -1 to 1 -> maps (B, h, w), scores (B,)
    spec: InputSpec  # the form that images are brought to before that
    decision: Decision  # where normal ends, and what that rests on
    digests: npt.NDArray[np.uint64]  # (N,) of all images it was fitted on, to tell whether a test image was among them
    history: History  # one row an epoch: epoch, train and validation loss, learning_rate
    source: str  # the images it was fitted on, by name
    # of those, by what they were used for: train, validation, calibration, copies, unreadable. Those to train and to calibrate
    # are the same where none to validate are named: none was held back
    counts: Mapping[str, int]
    unreadable: tuple[Unreadable, ...] = ()  # images that could not be used, and why; not kept on disk
    notes: tuple[str, ...] = ()  # what was done to images that are unlike most, in sentences; not kept on disk
    strangest: tuple[Strangest, ...] = ()  # held-out normal images, on which the threshold rests, the strangest first
    distrusted: Distrusted | None = None  # images that were left out as not normal; None: nobody asked for that
    known: KnownNormals | None = (
        None  # normal images in short, to name those that a new one is most like; None of tiles
    )
    calibrated: str = ""  # on what else than by the fit, in words; nothing: by the fit

    @property
    def batch_size(self) -> int | None:
        """Images in a batch of a stream: fewer where they are large enough for tiles; None leaves it to their size."""
        return None if self.pipeline.tiling is None else self.pipeline.tiling.images_at_once

    def describe(self) -> dict[str, Any]:
        """The facts that are neither weights nor arrays, in values that TOML holds."""
        facts: dict[str, Any] = {"source": self.source, "images": dict(self.counts), **self.spec.describe()}
        thresholds = {name: _describe(threshold) for name, threshold in self.decision.thresholds.items()}
        facts |= thresholds.pop(ALL)
        if self.calibrated:
            facts["calibrated"] = self.calibrated
        if thresholds:
            facts["categories"] = thresholds
        if self.pipeline.scorer.categories:
            facts["per_category"] = [list(names) for names in self.pipeline.scorer.categories]
        if self.decision.too_few:
            facts["too_few"] = dict(self.decision.too_few)
        if (other := self.decision.otherwise) is not None:
            facts["otherwise"] = {"by": other.by, "independent": other.independent, **_describe(other.threshold)}
        if self.strangest:
            facts["strangest"] = [{"id": one.id, "score": one.score} for one in self.strangest]
        if (doubtful := self.distrusted) is not None:
            worst = zip(doubtful.ids, doubtful.scores.tolist(), strict=True)
            facts["distrusted"] = {"of": doubtful.of, "images": [{"id": name, "score": score} for name, score in worst]}
        return facts


def _describe(threshold: Threshold) -> dict[str, float | str]:
    promised = {} if threshold.false_alarms is None else {"false_alarms": threshold.false_alarms}
    return {
        **promised,
        "promise": threshold.promise.words,
        "threshold": threshold.score,
        "region_threshold": threshold.region,
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
        "ids": decision.ids,
        "groups": decision.groups,
    }
    arrays |= _pictures("strangest", fitted.strangest)
    if fitted.distrusted is not None:
        arrays |= _pictures("distrusted", fitted.distrusted.shown)
    if fitted.known is not None:
        arrays |= {f"known_{name}": value for name, value in fitted.known.arrays().items()}
    if decision.categories.astype(bool).any():
        arrays["categories"] = decision.categories
    pipeline = fitted.pipeline
    files: dict[str, Content] = {
        WEIGHTS: pack_weights(pipeline.model),
        SCORER: partial(write_scorer, pipeline.scorer),
        ARRAYS: pack_arrays(arrays),
    }
    text = tomli_w.dumps(facts).encode(errors="surrogateescape")  # folders that name categories need be no UTF-8
    write_folder(folder, {DETECTOR.facts: text, **files})


def load_detector(folder: Path, cache: Cache | None = None) -> tuple[Settings, int, Fitted]:
    """Read what `save_detector` wrote; an ArtifactError says what is wrong with it. Runs no code from the folder.

    Frozen networks are taken from the cache, if there is one, and kept there.
    """
    facts = read_facts(folder, DETECTOR, FORMAT, oldest=FORMAT)
    contents = read_folder(folder, (WEIGHTS, SCORER, ARRAYS))
    with misfits_refused(folder, DETECTOR):
        settings = Settings.from_sections({name: facts[name] for name in SECTIONS})
        networks = None if cache is None else NetworkCache(cache, weights_follow=True)
        return settings, int(facts["seed"]), _rebuild(settings, facts, contents, networks)


def versions() -> dict[str, str]:
    """What made a detector, for whoever must make it again."""
    return {
        "unlike": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def read_facts(folder: Path, kind: Kind, newest: int, oldest: int = 1) -> dict[str, Any]:
    """The TOML of a folder of that kind, in a format between those that are known."""
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
    if found < oldest:
        raise ArtifactError(
            f"{folder}: is in format {found}, of an older version of unlike; this is {__version__}, which reads format "
            f"{oldest} and newer. Fit again with the same settings: `{kind.command} --config {folder / kind.facts} -o {folder}`"
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
    if not getattr(config, "pretrained", False):
        return config
    named = {"weights": None} if hasattr(config, "weights") else {}  # a file that need not be on this machine
    return dataclasses.replace(config, pretrained=False, **named)


def _rebuild(
    settings: Settings, facts: Mapping[str, Any], contents: dict[str, bytes], networks: NetworkCache | None
) -> Fitted:
    known = facts["fitted"]
    spec = InputSpec.restore(known)
    model = MODELS[settings.model_name].build(without_pretrained(settings.model), shape_of(settings, spec), networks)
    model.load_state_dict(load_tensors(contents[WEIGHTS]))
    scorer = make_scorer(settings, model.eval().output_spec, known.get("per_category", []))
    # it may be large: no copy more than needed
    scorer.load_state_dict(unpack_scorer(contents.pop(SCORER)), assign=True)
    arrays = unpack_arrays(contents[ARRAYS])
    return Fitted(
        Pipeline(model, scorer, settings.map, settings.data.tiling(spec)).eval(),
        spec,
        _rebuild_decision(known, arrays),
        arrays["digests"],
        [dict(row) for row in facts.get("history", [])],
        str(known["source"]),
        dict(known["images"]),
        known=_rebuild_normals(arrays),
        calibrated=str(known.get("calibrated", "")),
        strangest=_rebuild_pictures("strangest", known.get("strangest", ()), arrays),
        distrusted=_rebuild_distrusted(known.get("distrusted"), arrays),
    )


def _pictures(name: str, images: Sequence[Strangest]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of some images, by a name for all of them and their number."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for number, one in enumerate(images):
        arrays |= {f"{name}{number}": one.picture, f"{name}{number}_map": one.map.astype(np.float16)}
    return arrays


def _rebuild_pictures(
    name: str, images: Sequence[Mapping[str, Any]], arrays: Mapping[str, npt.NDArray[Any]]
) -> tuple[Strangest, ...]:
    return tuple(
        Strangest(one["id"], float(one["score"]), arrays[f"{name}{n}"], arrays[f"{name}{n}_map"].astype(np.float32))
        for n, one in enumerate(images)
    )


def _rebuild_distrusted(known: Mapping[str, Any] | None, arrays: Mapping[str, npt.NDArray[Any]]) -> Distrusted | None:
    if known is None:
        return None
    images = known["images"]
    scores = np.array([one["score"] for one in images], np.float64)
    shown = [one for n, one in enumerate(images) if f"distrusted{n}" in arrays]
    pictures = _rebuild_pictures("distrusted", shown, arrays)
    return Distrusted(tuple(str(one["id"]) for one in images), scores, pictures, int(known["of"]))


def _rebuild_normals(arrays: Mapping[str, npt.NDArray[Any]]) -> KnownNormals | None:
    names = [field.name for field in dataclasses.fields(KnownNormals)]
    return KnownNormals(*(arrays[f"known_{name}"] for name in names)) if "known_ids" in arrays else None


def _rebuild_decision(known: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Decision:
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


def _rebuild_threshold(known: Mapping[str, Any]) -> Threshold:
    promised = known.get("false_alarms")
    promise = Promise(None if promised is None else float(promised), str(known["promise"]))
    return Threshold(float(known["threshold"]), float(known["region_threshold"]), promise)


def pack_weights(module: nn.Module) -> bytes:
    """A module's weights as safetensors."""
    return save_tensors({name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()})


def write_scorer(scorer: nn.Module, path: Path) -> None:
    """What a scorer has learned, which may be large, as safetensors; of triangular matrices (P, D, D) the upper halves."""
    kept: dict[str, Tensor] = {}
    for name, value in scorer.state_dict().items():
        learned = value.detach().cpu().contiguous()
        if is_triangular(learned):
            rows, columns = torch.triu_indices(learned.shape[1], learned.shape[1])
            kept[name + UPPER] = learned[:, rows, columns].contiguous()  # (P, D (D + 1) / 2)
        else:
            kept[name] = learned
    try:
        save_file(kept, path)
    except SafetensorError as error:  # its own for a full disk, too
        raise OutputError(
            f"{path.parent}: {path.name} cannot be written ({error}); name another place, or make room"
        ) from None


def is_triangular(matrices: Tensor) -> bool:
    """Whether these are square matrices (P, D, D), with nothing below the diagonals."""
    square = matrices.ndim == 3 and matrices.shape[1] == matrices.shape[2] > 1
    return square and not any(bool(matrix.tril(-1).any()) for matrix in matrices)


def unpack_scorer(content: bytes) -> dict[str, Tensor]:
    """What `write_scorer` wrote."""
    learned = load_tensors(content)
    for name in [name for name in learned if name.endswith(UPPER)]:
        half = learned.pop(name)
        if half.ndim != 2:
            raise ValueError(f"upper halves of matrices are rows, one for each matrix; came {tuple(half.shape)}")
        width = math.isqrt(2 * half.shape[1])
        rows, columns = torch.triu_indices(width, width)
        learned[name.removesuffix(UPPER)] = whole = half.new_zeros(len(half), width, width)
        whole[:, rows, columns] = half
    return learned


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
