"""What a detector has learned, to and from a folder: TOML, safetensors and npz, with checksums; never a pickle."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Mapping, Sequence
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
from unlike.artifacts import DETECTOR, Content, misfits_refused, read_facts, read_folder, write_folder
from unlike.backbones.network_cache import NetworkCache
from unlike.cache import Cache
from unlike.calibration.decision import Decision
from unlike.calibration.stored import (
    ARRAYS,
    decision_arrays,
    describe_decision,
    pack_arrays,
    rebuild_decision,
    unpack_arrays,
)
from unlike.data.input_spec import InputSpec
from unlike.detector.nearest import KnownNormals
from unlike.detector.pipeline import Pipeline
from unlike.detector.scorers import make_scorer
from unlike.detector.settings import SECTIONS, Settings
from unlike.errors import OutputError
from unlike.models import MODELS
from unlike.records import Floats, ImageShape, Pixels, Unreadable
from unlike.training import History

FORMAT = 6  # of the folder; a higher one is newer, a lower one is of a version before the first release
WEIGHTS, SCORER = "weights.safetensors", "scorer.safetensors"
UPPER = ":upper"  # after the name of matrices of which the upper halves are kept: below there is nothing


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
    warnings: tuple[str, ...] = ()  # what is wrong with the training, in sentences

    @property
    def batch_size(self) -> int | None:
        """Images in a batch of a stream: fewer where they are large enough for tiles; None leaves it to their size."""
        return None if self.pipeline.tiling is None else self.pipeline.tiling.images_at_once

    def describe(self) -> dict[str, Any]:
        """The facts that are neither weights nor arrays, in values that TOML holds."""
        facts: dict[str, Any] = {"source": self.source, "images": dict(self.counts), **self.spec.describe()}
        facts |= describe_decision(self.decision)
        if self.calibrated:
            facts["calibrated"] = self.calibrated
        if self.pipeline.scorer.categories:
            facts["per_category"] = [list(names) for names in self.pipeline.scorer.categories]
        if weights := self.pipeline.scorer.learned_weights:
            facts["weights"] = {name: round(weight, 4) for name, weight in weights.items()}
        if self.strangest:
            facts["strangest"] = [{"id": one.id, "score": one.score} for one in self.strangest]
        if self.warnings:
            facts["warnings"] = list(self.warnings)
        if (doubtful := self.distrusted) is not None:
            worst = zip(doubtful.ids, doubtful.scores.tolist(), strict=True)
            facts["distrusted"] = {"of": doubtful.of, "images": [{"id": name, "score": score} for name, score in worst]}
        return facts


def save_detector(folder: Path, settings: Settings, seed: int, fitted: Fitted) -> None:
    """Write a detector as a folder, whole or not at all."""
    arrays = {"digests": fitted.digests, **decision_arrays(fitted.decision)}
    arrays |= _pictures("strangest", fitted.strangest)
    if fitted.distrusted is not None:
        arrays |= _pictures("distrusted", fitted.distrusted.shown)
    if fitted.known is not None:
        arrays |= {f"known_{name}": value for name, value in fitted.known.arrays().items()}
    pipeline = fitted.pipeline
    files: dict[str, Content] = {
        WEIGHTS: pack_weights(pipeline.model),
        SCORER: partial(write_scorer, pipeline.scorer),
        ARRAYS: pack_arrays(arrays),
    }
    write_folder(folder, {DETECTOR.facts: describe_detector(settings, seed, fitted), **files})


def describe_detector(settings: Settings, seed: int, fitted: Fitted) -> bytes:
    """All that is neither weights nor arrays, as TOML: choices, what was learned from what, versions, history."""
    facts: dict[str, Any] = {"format": FORMAT, "seed": seed, **settings.to_sections()}
    facts |= {"fitted": fitted.describe(), "versions": versions(), "history": fitted.history}
    return tomli_w.dumps(facts).encode(errors="surrogateescape")  # folders that name categories need be no UTF-8


def load_detector(folder: Path, cache: Cache | None = None) -> tuple[Settings, int, Fitted]:
    """Read what `save_detector` wrote; an ArtifactError says what is wrong with it. Runs no code from the folder.

    Frozen networks are taken from the cache, if there is one, and kept there.
    """
    facts = read_facts(folder, DETECTOR, FORMAT, oldest=FORMAT)
    contents = read_folder(folder, (WEIGHTS, SCORER, ARRAYS))
    with misfits_refused(folder, DETECTOR, SafetensorError):
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
        rebuild_decision(known, arrays),
        arrays["digests"],
        [dict(row) for row in facts.get("history", [])],
        str(known["source"]),
        dict(known["images"]),
        known=_rebuild_normals(arrays),
        calibrated=str(known.get("calibrated", "")),
        strangest=_rebuild_pictures("strangest", known.get("strangest", ()), arrays),
        warnings=tuple(known.get("warnings", ())),
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
