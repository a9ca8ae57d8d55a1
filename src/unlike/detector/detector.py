"""The whole chain as one object: fit on normal images, score others, judge them, save and load."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from unlike.cache import Cache
from unlike.data.groups import group_samples
from unlike.data.pages import Pages
from unlike.data.source import Images, open_source, training
from unlike.detector.accelerator import images_at_once
from unlike.detector.building import place
from unlike.detector.fitting import Notify, Task, fit_detector, say_nothing
from unlike.detector.pipeline import score_pixels
from unlike.detector.settings import Settings, check_seed, copy_sections
from unlike.detector.storage import Fitted, load_detector, save_detector
from unlike.errors import NotFittedError
from unlike.models.base import Model
from unlike.records import Bools, Floats, Pixels, ScoredBatch, Scores, Verdict
from unlike.runtime.streams import gather_scores, judge_all, score_batches


class Detector:
    """Learns what normal images look like, and finds those that are unlike them.

    `model` and `scorer` are names of `unlike.models.MODELS` and `unlike.scoring.SCORERS`, or `preset` names a proven pair
    with its settings. `size` is in pixels, a side or (height, width); `false_alarms` is the share of normal images that
    may be called anomalous, "auto" for 1 % or what rests on three images. `settings` has everything else,
    by section and key as in a TOML file: `{"training": {"schedule": "cosine"}}`.

    >>> import numpy as np
    >>> images = np.random.default_rng(0).integers(100, 120, (40, 16, 16), dtype=np.uint8)
    >>> detector = Detector(model="conv", epochs=2, false_alarms=0.1).fit(images)
    >>> scores = detector.score(np.stack([images[0], images[1] + 120]))
    >>> bool(scores.image[1] > scores.image[0])
    True
    """

    def __init__(
        self,
        model: str | None = None,
        scorer: str | None = None,
        *,
        preset: str | None = None,
        size: int | tuple[int, int] | Literal["auto", "native"] | None = None,
        epochs: int | None = None,
        false_alarms: float | Literal["auto"] | None = None,
        seed: int = 0,
        device: str = "auto",
        cache: bool = True,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        overrides = copy_sections(settings or {})
        asked = (("data", "size", size), ("training", "epochs", epochs), ("decision", "false_alarms", false_alarms))
        for section, key, value in asked:
            if value is not None:
                overrides.setdefault(section, {})[key] = value
        self.settings = Settings.resolve(model, scorer, preset, overrides)
        self.seed = check_seed(seed)
        self.device = device
        self.cache = cache
        self._fitted: Fitted | None = None

    def __repr__(self) -> str:
        state = "not fitted" if self._fitted is None else f"fitted on {self._fitted.source}"
        return f"Detector(model={self.settings.model_name!r}, scorer={self.settings.scorer_name!r}; {state})"

    def fit(
        self,
        images: Images,
        *,
        good: str | Sequence[str] | None = None,
        group_by: str | Sequence[str] | None = None,
        model: Model | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        notify: Notify | None = None,
    ) -> Detector:
        """Learn from normal images: train the model, fit the scorer, and calibrate on images held out for it.

        `images` is a folder, glob, file, manifest or array; of a folder in MVTec AD layout only `train/good` is used. Where
        names of folders do not say which images are normal, `good` does: a pattern of paths, or several, such as "ok/*".
        `group_by` says which images belong together, such as shots of one part: "folder", a regular expression that finds
        the group in what an image is called, or one name for each of the images that are fitted on (docs/promises.md).
        Of several categories all train the one model, a scorer of features learns each by itself, and each has a threshold of
        its own. A `model` that another detector trained (its `fitted_.pipeline.model`) is taken as it is, to try other scorers
        on the same codes; with the same images, seed and choices about the decision, or images that it knows may calibrate.
        `checkpoint` names a file in which the training keeps its state, to go on from after a kill with `resume=True`.
        Images that cannot be read are left out and named in `fitted_.unreadable`. Raises DataError where too few remain.
        """
        cache = Cache.default() if self.cache else None
        state = None if checkpoint is None else Path(checkpoint)
        task = Task(self.settings, self.seed, self.device, cache, state, resume, notify or say_nothing)
        source = training(open_source(images, good=good, pages=self.settings.data.pages))
        told = group_by if group_by is not None else self.settings.decision.group_by
        self._fitted = fit_detector(task, group_samples(source, told) if len(told) else source, model)
        return self

    def score(self, images: Images, *, maps: bool = False) -> Scores:
        """How unusual each image is; with `maps`, also where, at the size the detector works at.

        Keeps one number an image; `stream` keeps nothing, for sets that do not fit, and `original_maps` gives maps in
        the images' own pixels.
        """
        return gather_scores(self.stream(images), maps=maps)

    def stream(self, images: Images, batch_size: int | None = None) -> Iterator[ScoredBatch]:
        """Score images a batch at a time, in order: memory does not grow with their number."""
        fitted = self.fitted_
        chosen = place(fitted.pipeline, self.device)
        size = batch_size or fitted.batch_size or images_at_once(fitted.spec, chosen)
        source = open_source(images, pages=self.pages)

        def see(pixels: Pixels, missing: Bools | None) -> tuple[Floats, Floats]:
            return score_pixels(fitted.pipeline, pixels, fitted.spec.value_range, missing)

        yield from score_batches(source.stream(fitted.spec, size), see)

    def judge(self, images: Images, *, regions: bool = True, fdr: float | None = None) -> list[Verdict]:
        """Say of each image whether it is anomalous, how sure that is, and where it looks strange.

        An image is anomalous when its score is above the threshold of its category, or else above the one for all. The
        p-value is the share of normal images, of that category or else of all, that are at least as unusual. Regions are
        the patches whose map is above what all but the promised share of those reach anywhere. Images that cannot be read
        have no verdict; `score` names them. A DataError says that none could be.

        With `fdr` the images are judged together: of those called anomalous at most that share is normal, on average, whatever
        their number (Benjamini-Hochberg). That can take many held-out normal images (docs/decisions.md#batches).
        """
        return judge_all(self.fitted_, self.stream(images), regions=regions, fdr=fdr)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the detector as a folder, whole or not at all."""
        save_detector(Path(folder), self.settings, self.seed, self.fitted_)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: str = "auto", *, cache: bool = True) -> Detector:
        """Read a detector that `save` wrote; an ArtifactError says what is wrong with it. Runs no code from the folder.

        With `cache`, a frozen network is taken from the cache folder as it was compiled, and kept there.
        """
        settings, seed, fitted = load_detector(Path(folder), Cache.default() if cache else None)
        return cls(seed=seed, device=device, cache=cache).replaced(settings, fitted)

    def replaced(self, settings: Settings, fitted: Fitted) -> Detector:
        """A detector of these settings that has learned that, and is like this one otherwise."""
        other = Detector(seed=self.seed, device=self.device, cache=self.cache)
        other.settings, other._fitted = settings, fitted
        return other

    @property
    def pages(self) -> Pages:
        """What a file of several pages is."""
        return self.settings.data.pages

    @property
    def fitted_(self) -> Fitted:
        """What was learned: the pipeline from images to scores, the decision, and where they came from."""
        if self._fitted is None:
            raise NotFittedError(
                "this detector has not been fitted yet; call fit(images) or Detector.load(folder) first"
            )
        return self._fitted
