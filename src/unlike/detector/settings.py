"""Everything that can be chosen about a detector, in one frozen value; to and from TOML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from unlike.calibration.thresholds import THRESHOLDS, ThresholdRule, make_rule
from unlike.config import check_range, check_renamed_name, from_mapping, to_mapping
from unlike.data.augment import AugmentConfig
from unlike.data.input_spec import InputSpec, Missing
from unlike.data.pages import Pages
from unlike.data.readers import MAX_PIXELS
from unlike.data.tiles import Tiling
from unlike.detector.presets import DEFAULT_PRESET, PRESETS, Preset
from unlike.errors import ConfigError, UnknownSettingError, unknown
from unlike.models import FAMILIES, MODELS
from unlike.models.base import Autoencoder
from unlike.registry import Registry
from unlike.scoring import SCORERS
from unlike.scoring.maps import MapConfig
from unlike.training import CorruptionConfig, FinetuneConfig, TrainingConfig

SECTIONS = ("model", "scorer", "map", "data", "augment", "corruption", "training", "decision")
Sections = dict[str, dict[str, Any]]
MOST_CONTAMINATED = 0.5  # of the images to learn from: what most of them show is normal
LEAST_NATIVE = 128  # pixels a side of images that are seen at their own size: smaller ones are enlarged to it
TRAINED_SECTIONS = ("training", "augment", "corruption")  # what changes nothing where nothing is trained
ALSO_UNTRAINED = ("training.initialisation",)  # but for what acts on all that is not pretrained


@dataclass(frozen=True, slots=True)
class DataConfig:
    """The form in which images are seen."""

    # side, or [height, width]; auto: arrays as is, files 256; native: a square near their usual side, 128 to most_native
    size: int | tuple[int, int] | Literal["auto", "native"] = "auto"
    most_native: int = 512  # pixels a side, where size = "native" and there are no tiles
    aspect: Literal["stretch", "pad"] = "stretch"  # pad keeps the proportions
    # auto: as most images have, grey beside colour as colour; a number converts the images to it
    channels: int | Literal["auto"] = "auto"
    # of values in uint16, which may use fewer: white is 4095 for 12; auto: the fewest that hold all images
    bits: Literal["auto", 8, 10, 12, 14, 16] = "auto"
    missing: Missing = None  # nan or a number that stands for no value: filled from around it, and no part of a map
    pages: Pages = "all"  # of a file that has several: each is an image, or the first alone, or all are channels of one
    most_pixels: int = MAX_PIXELS  # of one image; more are refused before they are decoded
    tile: int | None = None  # pixels a side of the tiles that a model sees of a large image; none: it sees it whole
    overlap: int | Literal["auto"] = "auto"  # pixels that neighbouring tiles share at least; auto: a quarter of one

    def __post_init__(self) -> None:
        if isinstance(self.missing, float) and math.isnan(self.missing):
            object.__setattr__(self, "missing", "nan")
        if self.most_pixels < 1:
            raise ConfigError(f"data.most_pixels: expected 1 or more, came {self.most_pixels}")
        sides = self.sides
        if sides is not None and min(sides) < 1:
            raise ConfigError(f"data.size: expected 1 pixel or more, came {self.size}")
        if sides is not None and sides[0] * sides[1] > max(self.most_pixels, MAX_PIXELS):
            raise ConfigError(
                f"data.size: expected no more than {max(self.most_pixels, MAX_PIXELS):,} pixels in all, came {sides[0]} x {sides[1]}; "
                "choose a smaller size, or allow more by data.most_pixels"
            )
        check_range("data.most_native", self.most_native, LEAST_NATIVE, 4096)
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
        """Height and width, or None where the images decide."""
        if self.size == "auto" or self.size == "native":  # noqa: PLR1714 - what narrows the type
            return None
        return (self.size, self.size) if isinstance(self.size, int) else self.size


@dataclass(frozen=True, slots=True)
class DecisionConfig:
    """What is promised, and on how many held-out images the promise rests."""

    threshold: str = "conformal"  # the rule by which the threshold is found
    settings: Mapping[str, Any] = field(default_factory=dict)  # of that rule, by name
    false_alarms: float | Literal["auto"] = "auto"  # share of normal images; auto: 1 %, or what rests on three images
    # of normal images, those that calibrate; auto: a third up to 99, or a quarter up to 2,000, whichever is more
    calibration_share: float | Literal["auto"] = "auto"
    # held-out: the scorer does not learn from those; cross: it does, but each is scored as if it had not; auto: cross for
    # scorers of codes, up to 500 images of a category
    calibration: Literal["auto", "held-out", "cross"] = "auto"
    per_category: bool = True  # of several categories each has a threshold of its own, where it has images enough
    # what is left out together, and counts as one: none, each image by itself; given, by a column or group_by; found, shots of
    # one part or scene by what they show; auto: given, or else found, where new images will have no such twins
    groups: Literal["auto", "none", "given", "found"] = "auto"
    group_by: str = (
        ""  # folder, or a regular expression that finds an image's group in what it is called; empty: nothing
    )

    # of the images to learn from, those that may not be normal: none; a share, 0.5 at most, the strangest of which are not
    # learned from; auto: those that are stranger than normal ones would be, at most three in ten
    contamination: float | Literal["none", "auto"] = "none"
    keep_pictures: bool = False  # small ones of normal images, for reports to show beside what is most like them

    def __post_init__(self) -> None:
        if self.threshold not in THRESHOLDS:
            raise unknown("decision.threshold", self.threshold, THRESHOLDS)
        if self.false_alarms != "auto" and not 0 < self.false_alarms < 1:
            raise ConfigError(
                f"decision.false_alarms: expected a share above 0 and below 1, came {self.false_alarms:g}"
            )
        if self.calibration_share != "auto":
            check_range("decision.calibration_share", self.calibration_share, 0.01, 0.9)
        if isinstance(self.contamination, float | int) and not 0 < self.contamination <= MOST_CONTAMINATED:
            raise ConfigError(
                f"decision.contamination: expected none, auto, or a share above 0 and up to {MOST_CONTAMINATED:g} of the images to learn "
                f"from, came {self.contamination:g}; of which more are not normal, those that are have to be picked by hand"
            )
        if self.group_by and self.groups in ("none", "found"):
            raise ConfigError(
                f"decision.group_by = {self.group_by!r} gives the groups: expected decision.groups = 'auto' or 'given', came "
                f"{self.groups!r}; leave one of them out"
            )
        if self.settings:
            self.make_rule()

    def make_rule(self) -> ThresholdRule:
        """The rule, with its settings and what it is to promise."""
        rule: ThresholdRule = make_rule(self.threshold, self.false_alarms, self.settings)
        return rule


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

        Where neither a preset nor a model is named, the preset is `DEFAULT_PRESET`, whatever else is chosen.
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
        if preset is not None or "name" in chosen.get("model", {}):
            return cls.from_sections(_merge(_sections_of(preset, chosen) if preset else {}, chosen))
        try:
            settings = cls.from_sections(_merge(_sections_of(DEFAULT_PRESET, chosen), chosen))
        except UnknownSettingError as error:
            if error.section != "model":
                raise
            raise _blame_default(error) from None
        _check_trained(settings, chosen)
        return settings

    @classmethod
    def from_sections(cls, sections: Mapping[str, Mapping[str, Any]]) -> Settings:
        """From what `to_sections` gave, or a TOML file holds, with a model and a scorer; what is left out has its default."""
        for section in sections:
            if section not in SECTIONS:
                raise unknown("section", section, SECTIONS)
        model_name, model = _part("model", MODELS, sections)
        scorer_name, scorer = _part("scorer", SCORERS, sections)
        return cls(
            model_name,
            scorer_name,
            model,
            scorer,
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


def _sections_of(preset: str, chosen: Sections) -> Mapping[str, Mapping[str, Any]]:
    """What a preset says, for tiles where some are chosen."""
    found = PRESETS[preset]
    tiled = chosen.get("data", {}).get("tile") not in (None, "none")  # as TOML has it
    return _merge(found.sections, found.tiled) if tiled and found.tiled else found.sections


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

    >>> _within({"settings": {"a": {"x": 1, "y": 2}, "b": {}}}, {"settings": {"a": {"x": 3}}, "combine": "max"})
    {'settings': {'a': {'x': 3, 'y': 2}, 'b': {}}, 'combine': 'max'}
    """
    found = dict(values)
    for name, table in values.items():
        if isinstance(table, Mapping) and isinstance(preset.get(name), Mapping):
            found[name] = {**preset[name], **{key: _over(preset[name].get(key), value) for key, value in table.items()}}
    return found


def _over(old: Any, new: Any) -> Any:
    return {**old, **new} if isinstance(old, Mapping) and isinstance(new, Mapping) else new


def _merge(preset: Mapping[str, Mapping[str, Any]], chosen: Mapping[str, Mapping[str, Any]]) -> Sections:
    """What is chosen over what a preset says; with the scorer that is usual for a model, where none is named."""
    merged = {section: dict(values) for section, values in preset.items()}
    for section, values in chosen.items():
        if "name" in values and values["name"] != merged.get(section, {}).get("name"):
            merged[section] = {}  # the preset's settings of another model or scorer are not this one's
        before = _of_members(merged.get(section, {}), values)
        merged[section] = {**before, **_within(before, values)}
    merged.setdefault("scorer", {}).setdefault("name", _scorer_for(merged["model"]["name"]))
    return merged


def _part(what: str, registry: Registry[Any], sections: Mapping[str, Mapping[str, Any]]) -> tuple[str, Any]:
    """The name in section `what`, and the rest of the section as the Config of what has that name."""
    values = dict(sections.get(what, {}))
    if "name" not in values:
        raise ConfigError(f"{what}.name: expected one of {', '.join(registry)}, came none")
    name = values.pop("name")
    check_renamed_name(what, name)
    if not isinstance(name, str) or name not in registry:
        raise unknown(what, str(name), registry)
    return name, from_mapping(registry[name].Config, values, what)


def _scorer_for(model: Any) -> str:
    """The scorer of a model for which none is named: its residual, if it rebuilds anything."""
    rebuilds = not isinstance(model, str) or model not in MODELS or issubclass(MODELS[model], Autoencoder)
    return "residual" if rebuilds else "neighbours"


def _check_trained(settings: Settings, chosen: Sections) -> None:
    """Raise ConfigError where what is chosen is about training, and the default, for nothing is named, trains nothing."""
    names = [f"{section}.{name}" for section in TRAINED_SECTIONS for name in chosen.get(section, {})]
    idle = [name for name in names if name not in ALSO_UNTRAINED]
    if idle and not MODELS[settings.model_name].trains:
        *some, last = [name for name, preset in PRESETS.items() if not preset.report and _trains(preset)]
        raise ConfigError(
            f"{', '.join(idle)}: neither preset nor model is named, and the default, preset {DEFAULT_PRESET}, trains nothing; "
            f"name what it is for, --preset {', '.join(some)} or {last}, or --model conv or another that is trained; or leave "
            "it out"
        )


def _trains(preset: Preset) -> bool:
    return MODELS[preset.sections["model"]["name"]].trains


def _blame_default(error: UnknownSettingError) -> UnknownSettingError:
    """The error with the models that do have the setting, for whoever named none."""
    having = [name for name in FAMILIES if error.name in MODELS[name].Config.__dataclass_fields__]
    which = f"name the model that it is for, such as {having[0]}" if having else "no model has it"
    advice = f"neither preset nor model is named, so this is about the default, preset {DEFAULT_PRESET}; {which}"
    return UnknownSettingError(f"{error} ({advice})", error.section, error.name)


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


def check_seed(seed: Any) -> int:
    """The seed, or a ConfigError where it is none.

    >>> check_seed(7)
    7
    """
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ConfigError(f"seed: expected a whole number from 0 to 2^63 - 1, came {seed!r}")
    return seed


def idle_settings(settings: Settings) -> list[str]:
    """What was chosen about training, for a model that is not trained: the names of settings that change nothing.

    That is no error: all cells of a study may be given the same training, whatever their models.
    """
    found, usual = settings.to_sections(), Settings.resolve().to_sections()
    return [
        f"{section}.{name}"
        for section in ("training", "augment", "corruption")
        for name, value in found[section].items()
        if value != usual[section][name] and name != "initialisation"  # which acts on what is not pretrained
    ]
