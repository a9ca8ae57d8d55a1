"""Everything that can be chosen about a detector, in one frozen value; to and from TOML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from unlike.calibration.thresholds import THRESHOLDS
from unlike.config import check_range, from_mapping, to_mapping
from unlike.data.augment import AugmentConfig
from unlike.data.input_spec import InputSpec
from unlike.data.tiles import Tiling
from unlike.errors import ConfigError, unknown
from unlike.models import MODELS, Autoencoder
from unlike.scoring import SCORERS, MapConfig
from unlike.training import CorruptionConfig, FinetuneConfig, TrainingConfig

SECTIONS = ("model", "scorer", "map", "data", "augment", "corruption", "training", "decision")
DEFAULT_MODEL, DEFAULT_SCORER = "conv", "residual"
Sections = dict[str, dict[str, Any]]
DEFAULT_PRESET = "ensemble"  # the best on real defects that fits within two minutes, see docs/measured.md
FREELY = frozenset({"data", "decision", "map"})  # sections that say nothing of model and scorer


@dataclass(frozen=True, slots=True)
class DataConfig:
    """The form in which images are seen."""

    size: int | tuple[int, int] | Literal["auto"] = "auto"  # side, or [height, width]; auto: arrays as is, files 256
    aspect: Literal["stretch", "pad"] = "stretch"  # pad keeps the proportions
    channels: int | Literal["auto"] = "auto"  # auto: as the first image has; a number converts the images to it
    tile: int | None = None  # pixels a side of the tiles that a model sees of a large image; none: it sees it whole
    overlap: int | Literal["auto"] = "auto"  # pixels that neighbouring tiles share at least; auto: a quarter of one

    def __post_init__(self) -> None:
        sides = self.sides
        if sides is not None and min(sides) < 1:
            raise ConfigError(f"data.size: expected 1 pixel or more, came {self.size}")
        if self.channels != "auto" and self.channels < 1:
            raise ConfigError(f"data.channels: expected 1 or more, came {self.channels}")
        if self.tile is not None and self.tile < 1:
            raise ConfigError(f"data.tile: expected 1 pixel or more, or none, came {self.tile}")
        if self.overlap != "auto" and not 0 <= self.overlap < (self.tile or math.inf):
            raise ConfigError(
                f"data.overlap: expected 0 or more, and less than data.tile, {self.tile or 'none'}, came {self.overlap}"
            )

    def tiling(self, spec: InputSpec) -> Tiling | None:
        """How images in that spec are cut into tiles; None where they are not."""
        if self.tile is None:
            return None
        overlap = self.tile // 4 if self.overlap == "auto" else self.overlap
        return Tiling(spec.height, spec.width, self.tile, overlap)

    @property
    def sides(self) -> tuple[int, int] | None:
        """Height and width, or None for auto."""
        if self.size == "auto":
            return None
        return (self.size, self.size) if isinstance(self.size, int) else self.size


@dataclass(frozen=True, slots=True)
class DecisionConfig:
    """What is promised, and on how many held-out images the promise rests."""

    threshold: str = "conformal"  # the rule that draws the line
    false_alarms: float | Literal["auto"] = "auto"  # share of normal images; auto: 1 %, or the least that can be held
    # of normal images, those by which the line is drawn; auto: a third up to 99, or a quarter up to 2,000, whichever is more
    calibration_share: float | Literal["auto"] = "auto"
    # held-out: the scorer does not learn from those; cross: it does, but each is scored as if it had not; auto: cross for
    # scorers of codes, up to 500 images of a category
    calibration: Literal["auto", "held-out", "cross"] = "auto"
    per_category: bool = True  # of several categories each has a line of its own, where it has images enough

    def __post_init__(self) -> None:
        if self.threshold not in THRESHOLDS:
            raise unknown("decision.threshold", self.threshold, THRESHOLDS)
        if self.false_alarms != "auto" and not 0 < self.false_alarms < 1:
            raise ConfigError(
                f"decision.false_alarms: expected a share above 0 and below 1, came {self.false_alarms:g}"
            )
        if self.calibration_share != "auto":
            check_range("decision.calibration_share", self.calibration_share, 0.01, 0.9)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every choice that makes a detector; what a TOML file and `--set section.key=value` speak of.

    >>> settings = Settings.resolve(model="fcn", overrides={"training": {"epochs": 3}})
    >>> settings.model_name, settings.model.widths, settings.training.epochs
    ('fcn', (128, 64, 12, 3), 3)
    """

    model_name: str
    scorer_name: str
    model: Any  # the Config of MODELS[model_name]
    scorer: Any  # the Config of SCORERS[scorer_name]
    map: MapConfig = field(default_factory=MapConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    corruption: CorruptionConfig = field(default_factory=CorruptionConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)

    @classmethod
    def resolve(
        cls,
        model: str | None = None,
        scorer: str | None = None,
        preset: str | None = None,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Settings:
        """Defaults, then the preset, then what is chosen one by one; a ConfigError names what is unknown.

        Where nothing is chosen but the form of the images and the promise, the preset is `DEFAULT_PRESET`; a choice
        about a model or its training is one for an autoencoder.
        """
        if preset is not None and (not isinstance(preset, str) or preset not in PRESETS):
            raise unknown("preset", str(preset), PRESETS)
        chosen = copy_sections(overrides or {})
        for section in chosen:
            if section not in SECTIONS:
                raise unknown("section", section, SECTIONS)
        for section, name in (("model", model), ("scorer", scorer)):
            if name is not None:
                chosen.setdefault(section, {})["name"] = name
        if preset is None and FREELY.issuperset(chosen):
            preset = DEFAULT_PRESET
        merged: Sections = {section: dict(values) for section, values in PRESETS.get(preset or "", {}).items()}
        for section, values in chosen.items():
            if "name" in values and values["name"] != merged.get(section, {}).get("name"):
                merged[section] = {}  # the preset's settings of another model or scorer are not this one's
            before = _of_members(merged.get(section, {}), values)
            merged[section] = {**before, **_within(before, values)}
        merged.setdefault("scorer", {}).setdefault("name", _scorer_for(merged.get("model", {}).get("name")))
        try:
            return cls.from_sections(merged)
        except ConfigError as error:
            named = preset is not None or "name" in merged.get("model", {})
            if named or not str(error).startswith(("unknown setting 'model.", "unknown setting 'scorer.")):
                raise
            raise ConfigError(
                f"{error} (neither model nor preset is named, so this is {DEFAULT_MODEL} by {merged['scorer']['name']}; "
                f"for the default's settings name preset {DEFAULT_PRESET} too)"
            ) from None

    @classmethod
    def from_sections(cls, sections: Mapping[str, Mapping[str, Any]]) -> Settings:
        """From what `to_sections` gave, or a TOML file holds; what is left out has its default."""
        for section in sections:
            if section not in SECTIONS:
                raise unknown("section", section, SECTIONS)
        model = dict(sections.get("model", {}))
        scorer = dict(sections.get("scorer", {}))
        model_name, scorer_name = model.pop("name", DEFAULT_MODEL), scorer.pop("name", DEFAULT_SCORER)
        for what, name, registry in (("model", model_name, MODELS), ("scorer", scorer_name, SCORERS)):
            if not isinstance(name, str) or name not in registry:
                raise unknown(what, str(name), registry)
        return cls(
            model_name,
            scorer_name,
            from_mapping(MODELS[model_name].Config, model, "model"),
            from_mapping(SCORERS[scorer_name].Config, scorer, "scorer"),
            from_mapping(MapConfig, sections.get("map", {}), "map"),
            from_mapping(DataConfig, sections.get("data", {}), "data"),
            from_mapping(AugmentConfig, sections.get("augment", {}), "augment"),
            from_mapping(CorruptionConfig, sections.get("corruption", {}), "corruption"),
            from_mapping(TrainingConfig, sections.get("training", {}), "training"),
            from_mapping(DecisionConfig, sections.get("decision", {}), "decision"),
        )

    def to_sections(self) -> Sections:
        """Everything, spelled out, in plain values that TOML holds."""
        return {
            "model": {"name": self.model_name, **to_mapping(self.model)},
            "scorer": {"name": self.scorer_name, **to_mapping(self.scorer)},
            **{name: to_mapping(getattr(self, name)) for name in SECTIONS[2:]},
        }


def copy_sections(settings: Mapping[str, Mapping[str, Any]]) -> Sections:
    """The same settings, to add to; a ConfigError where they do not lie in sections.

    >>> copy_sections({"map.reduction": "max"})
    Traceback (most recent call last):
    unlike.errors.ConfigError: settings: expected sections such as {'map': {'reduction': 'max'}}, came 'map.reduction': 'max'
    """
    for section, values in settings.items():
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"settings: expected sections such as {{'map': {{'reduction': 'max'}}}}, came {section!r}: {values!r}"
            )
    return {section: dict(values) for section, values in settings.items()}


def _of_members(preset: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The preset's section, less the settings of those of its scorers that what is chosen leaves out.

    >>> _of_members({"scorers": ["a", "b"], "settings": {"a": {"x": 1}, "b": {}}}, {"scorers": ["a", "c"]})
    {'scorers': ['a', 'b'], 'settings': {'a': {'x': 1}}}
    """
    members, settings = values.get("scorers"), preset.get("settings")
    if not isinstance(members, Sequence) or not isinstance(settings, Mapping):
        return preset
    return {**preset, "settings": {name: value for name, value in settings.items() if name in members}}


def _within(preset: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What is chosen, tables of tables merged: `scorer.settings` of one scorer leaves those of the others as they were.

    >>> _within({"settings": {"a": {"x": 1, "y": 2}, "b": {}}}, {"settings": {"a": {"x": 3}}, "normalisation": "median"})
    {'settings': {'a': {'x': 3, 'y': 2}, 'b': {}}, 'scale': 'line'}
    """
    found = dict(values)
    for name, table in values.items():
        if isinstance(table, Mapping) and isinstance(preset.get(name), Mapping):
            found[name] = {**preset[name], **{key: _over(preset[name].get(key), value) for key, value in table.items()}}
    return found


def _over(old: Any, new: Any) -> Any:
    return {**old, **new} if isinstance(old, Mapping) and isinstance(new, Mapping) else new


def _scorer_for(model: Any) -> str:
    """The scorer of a model for which none is named: its residual, if it rebuilds anything."""
    rebuilds = not isinstance(model, str) or model not in MODELS or issubclass(MODELS[model], Autoencoder)
    return DEFAULT_SCORER if rebuilds else "neighbours"


FINETUNE_SECTIONS = {  # name -> kind, of what can be chosen for a classifier
    "finetune": FinetuneConfig,
    "augment": AugmentConfig,
    "corruption": CorruptionConfig,
    "training": TrainingConfig,
}


@dataclass(frozen=True, slots=True)
class ClassifierSettings:
    """Every choice that makes a classifier of a detector.

    >>> settings = ClassifierSettings.resolve(Settings.resolve(), {"finetune": {"dropout": 0.2}})
    >>> settings.finetune.dropout, settings.training.schedule
    (0.2, 'plateau')
    """

    detector: Settings  # of the detector whose encoder is fine-tuned
    finetune: FinetuneConfig
    augment: AugmentConfig
    corruption: CorruptionConfig
    training: TrainingConfig

    @classmethod
    def resolve(cls, detector: Settings, overrides: Mapping[str, Mapping[str, Any]]) -> ClassifierSettings:
        """What is chosen one by one; for the rest the defaults, with the detector's objective and a wait for a plateau."""
        training = {"schedule": "plateau", "objective": detector.training.objective, **overrides.get("training", {})}
        return cls.from_sections(detector, {**overrides, "training": training})

    @classmethod
    def from_sections(cls, detector: Settings, sections: Mapping[str, Mapping[str, Any]]) -> ClassifierSettings:
        """From what `to_sections` gave; what is left out has its default."""
        for section in sections:
            if section not in FINETUNE_SECTIONS:
                raise unknown("section", section, FINETUNE_SECTIONS)
        chosen: dict[str, Any] = {
            name: from_mapping(kind, sections.get(name, {}), name) for name, kind in FINETUNE_SECTIONS.items()
        }
        return cls(detector, **chosen)

    def to_sections(self) -> Sections:
        """Everything but the detector's, in plain values that TOML holds."""
        return {name: to_mapping(getattr(self, name)) for name in FINETUNE_SECTIONS}


PURPOSES = {  # preset -> what it is for
    "textbook": "An autoencoder with a linear bottleneck, by what it cannot rebuild; for small images.",
    "autoencoder": "The same, against what is usual at each position; for small images that lie the same way.",
    "three-fcn": "Three linear encoders and one linear decoder, as published for faces of 64 x 64.",
    "three-conv": "Three convolutional encoders and one convolutional decoder, as published for faces of 64 x 64.",
    "fcn-fcn-conv": "Two linear encoders, a convolutional one, and one linear decoder, as published for faces of 64 x 64.",
    "three-conv-exact": "Three convolutional encoders and one decoder for faces of 64 x 64, as published layer by layer.",
    "padim": "PaDiM: frozen features against those of the same place; for things that always lie the same way.",
    "patchcore": "PatchCore: frozen features against the nearest normal ones, of any place; for all other things.",
    "ensemble": "The default: the geometric mean of four views of frozen features, each best on other images.",
    "dfr": "DFR: what the principal components of frozen features, place by place, cannot rebuild.",
    "feature-pca": "What whole images do not have in common, in frozen features, against what is usual at each place.",
    "feature-autoencoder": "Frozen features, rebuilt from 200 numbers an image: a linear autoencoder of what a network sees.",
    "feature-attention": "Dinomaly's ideas on any backbone, smaller: frozen features, rebuilt by linear attention.",
    "repair": "For where no pretrained weights may be used: learns by repairing and marking synthetic defects.",
    "conv-dense-objects": "The autoencoder of objects of 32 x 32, with its training of 2,000 epochs.",
    "vae-faces": "A variational autoencoder for faces of 64 x 64, whose code is a grid.",
    "vae-products": "A variational autoencoder for photographs of products, with the training that was best on bottles.",
}
PRESETS: dict[str, Sections] = {
    # the sizes did best on faces of 64 x 64
    "textbook": {"model": {"name": "conv", "bottleneck": 128}, "scorer": {"name": "residual"}, "data": {"size": 64}},
    "autoencoder": {
        "model": {"name": "conv", "bottleneck": 128},
        "scorer": {"name": "residual", "positions": "each"},
        "map": {"reduction": "max", "blur_pixels": 1.5},
        "data": {"size": 64},
    },
    "three-fcn": {
        "model": {"name": "multi-encoder", "encoders": ["fcn", "fcn", "fcn"], "decoder": "fcn"},
        "data": {"size": 64},
    },
    "three-conv": {
        "model": {"name": "multi-encoder", "encoders": ["conv", "conv", "conv"], "decoder": "conv"},
        "data": {"size": 64},
    },
    "fcn-fcn-conv": {
        "model": {"name": "multi-encoder", "encoders": ["fcn", "fcn", "conv"], "decoder": "fcn"},
        "data": {"size": 64},
    },
    "three-conv-exact": {
        "model": {
            "name": "multi-encoder",
            "encoders": ["conv", "conv", "conv"],
            "decoder": "conv",
            "conv_widths": [[12, 24, 48], [8, 24, 48], [8, 24, 48]],
            "kernels": [4, 4, 3],
            "batch_norm": True,
            "bounded": False,
        },
        "data": {"size": 64},
    },
    # stages, cell and shrinkage were chosen on magnetic tiles without defects, by synthetic ones
    "padim": {
        "model": {"name": "features", "stages": [2, 3, 4], "cell": 16, "dimensions": 200},
        "scorer": {"name": "gaussian", "positions": "each", "shrinkage": 0.1},
        "map": {"reduction": "max"},
        "data": {"size": 256},
    },
    "patchcore": {
        "model": {"name": "features", "stages": [2, 3, 4], "cell": 16},
        "scorer": {"name": "neighbours"},
        "map": {"reduction": "max"},
        "data": {"size": 256},
    },
    # four views of two looks: what whole images seldom do, against what is usual at its place; PatchCore; PatchCore of what
    # is small; and what whole images seldom do there. Each is best on other images; the geometric mean of their maps is near
    # the best or above it on all, see docs/why.md
    "ensemble": {
        "model": {
            "name": "features",
            "stages": [2, 3, 4],
            "cell": 16,
            "scale": "unit",
            "dimensions": 300,
            "fine": [3],
        },
        "scorer": {
            "name": "ensemble",
            "scorers": ["pca", "neighbours", "neighbours_fine", "pca_fine"],
            "settings": {
                "pca": {"feature_group": 0, "code": "vector", "components": 0.99, "distance": "whitened"},
                "neighbours": {"feature_group": 0, "least": 4000},
                "neighbours_fine": {"feature_group": 1, "least": 4000},
                "pca_fine": {"feature_group": 1, "code": "vector", "components": 0.99, "distance": "euclidean"},
            },
            "combine": "geometric",
            "normalisation": "median",
        },
        "map": {"reduction": "max"},
        "data": {"size": 256},
    },
    "dfr": {
        "model": {"name": "features", "stages": [2, 3, 4], "cell": 16},
        "scorer": {"name": "pca", "components": 0.9},
        "map": {"reduction": "max"},
        "data": {"size": 256},
    },
    # a linear denoising autoencoder of features at its best, computed and not trained: what whole images do not have in
    # common, held against what is usually left at each place. Chosen by synthetic defects of three sets, and by the labels of
    # polycrystalline cells, turned transistors, and some faces and vehicles
    "feature-pca": {
        "model": {"name": "features", "stages": [2, 3, 4], "cell": 16, "scale": "unit", "dimensions": 300},
        "scorer": {"name": "pca", "code": "vector", "components": 0.99, "distance": "whitened"},
        "map": {"reduction": "max"},
        "data": {"size": 256},
    },
    # averaging, scale, code and training were chosen as for padim; the stages by synthetic defects of three sets and by
    # real ones of polycrystalline solar cells
    "feature-autoencoder": {
        "model": {"name": "feature-linear", "stages": [2, 3, 4], "cell": 16, "code": 200},
        "scorer": {"name": "residual"},
        "map": {"reduction": "max"},
        "data": {"size": 256},
        "training": {"epochs": 40, "learning_rate": 1e-3},
    },
    # that nothing is averaged, and the cosine, Dinomaly's own loss, were best on synthetic defects of magnetic tiles
    "feature-attention": {
        "model": {"name": "feature-attention", "stages": [2, 3, 4], "cell": 16},
        "scorer": {"name": "residual", "difference": "cosine"},
        "map": {"reduction": "max"},
        "data": {"size": 256},
        "training": {"objective": "cosine"},
    },
    # both measures of distance were chosen on turned transistors and polycrystalline cells, and in the end with a look at
    # tiles
    "repair": {
        "model": {"name": "repair"},
        "scorer": {
            "name": "ensemble",
            "scorers": ["neighbours", "neighbours_gaps"],
            "settings": {
                "neighbours": {"scale": "standardise", "least": 4000},
                "neighbours_gaps": {"metric": "mahalanobis", "least": 4000},
            },
            "normalisation": "median",
        },
        "map": {"reduction": "top", "top_share": 0.01},
        "data": {"size": 256},
        "augment": {"horizontal_flip": 0.5},
        "corruption": {"defect_share": 0.75},
        "training": {"batch_size": 8, "learning_rate": 2e-3, "objective": "absolute", "keep": "last"},
    },
    "conv-dense-objects": {
        "model": {"name": "conv-dense"},
        "data": {"size": 32},
        "training": {
            "epochs": 2000,
            "optimiser": "sgd",
            "learning_rate": 1e-3,
            "momentum": 0.8,
            "schedule": "constant",
            "keep": "train",
        },
    },
    "vae-faces": {
        "model": {"name": "vae", "widths": [12, 24, 48], "latent": "none", "norm": False, "activation": "relu"},
        "data": {"size": 64},
    },
    "vae-products": {
        "model": {"name": "vae"},
        "data": {"size": 128},
        "training": {
            "epochs": 500,
            "batch_size": 64,
            "learning_rate": 5e-4,
            "schedule": "cosine",
            "t_max": 100,
            "initialisation": "kaiming-xavier",
        },
    },
}
