"""The pipeline is one pure module: what it says can be recorded as a graph, for any number of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.export import Dim, export

from conftest import stripes
from unlike import Detector
from unlike.backbones.lazy_network import materialise
from unlike.data.arrays import ArraySource, ImageArray
from unlike.data.tensors import to_tensor
from unlike.data.tiles import Tiling
from unlike.detector.explain import reconstruct
from unlike.detector.pipeline import Pipeline, score_pixels
from unlike.detector.presets import PRESETS
from unlike.detector.settings import Settings
from unlike.models import MODELS
from unlike.models.conv import ConvAutoencoder, ConvConfig
from unlike.models.pixels import Pixels, PixelsConfig
from unlike.records import ImageShape, Sample
from unlike.scoring import SCORERS, MapConfig
from unlike.scoring.batches import Batches
from unlike.scoring.neighbours import NeighboursConfig, NeighboursScorer
from unlike.scoring.reconstruction import ResidualConfig, ResidualScorer

QUICK = {"data": {"size": 64}, "training": {"epochs": 1}}
TOLERANCE = 1e-5  # of the largest value
SHAPE = ImageShape(3, 32, 32)


@torch.no_grad()
def assert_exports(pipeline: Pipeline, images: torch.Tensor) -> None:
    """A graph of two images says of one and of five what the pipeline says."""
    materialise(pipeline)
    graph = export(pipeline, (images[:2],), dynamic_shapes=({0: Dim("batch", min=1, max=1024)},), strict=False).module()
    for count in (1, 5):
        expected, found = pipeline(images[-count:]), graph(images[-count:])
        for ours, theirs in zip(expected, found, strict=True):
            assert ours.shape == theirs.shape
            assert (ours - theirs).abs().max() <= TOLERANCE * ours.abs().max()
        assert len(found[1]) == count


def images_of(detector: Detector, pixels: np.ndarray) -> torch.Tensor:
    return to_tensor(pixels, detector.fitted_.spec.value_range)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_detector_of_every_preset_can_be_exported(preset):
    runs = hasattr(Settings.resolve(preset=preset).model, "runtime")  # torch, which is what is exported
    tiny = (
        {"backbone": "test_vit", "pretrained": False} if preset == "dino" else {}
    )  # which needs a network, and patches of 14
    settings = QUICK | ({"model": {"runtime": "torch", **tiny}} if runs else {})
    detector = Detector(preset=preset, settings=settings, false_alarms=0.2, device="cpu", cache=False)
    detector.fit(stripes(16, size=64))
    spec = detector.fitted_.spec
    seen = images_of(detector, stripes(5, size=64, seed=1))
    assert seen.shape[1:] == (spec.channels, spec.height, spec.width)
    assert_exports(detector.fitted_.pipeline, seen)


OTHERS = {  # scorers with the settings that change how they measure, and the model that they are of
    "conv": [
        ("residual", {"scale": "channel"}),
        ("residual", {"scale": "whitened", "positions": "each"}),
        ("residual", {"difference": "ssim"}),
        ("residual", {"difference": "cosine"}),
        ("kmeans", {"clusters": 3}),
        ("kmeans", {"code": "vector", "scale": "standardise", "clusters": 2}),
        ("equilibrium", {"clusters": 2}),
        ("gaussian", {}),
        ("gaussian", {"code": "mean", "scale": "whiten"}),
        ("mixture", {"components": 2}),
        ("mixture", {"components": 2, "shape": "diagonal"}),
        ("neighbours", {"neighbours": 3, "unit": True, "reduce": 4}),
        ("pca", {"components": 2, "distance": "mahalanobis"}),
        ("real-or-fake", {"steps": 2}),
        ("ensemble", {"settings": {"kmeans": {"clusters": 2}}}),  # of a residual and of features
        ("ensemble", {"settings": {"kmeans": {"clusters": 2}}, "combine": "max"}),
    ],
    "repair": [("segmentation", {})],
}


@pytest.fixture(scope="module")
def models():
    """Models that are not trained, and images that they can see."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = {name: MODELS[name](MODELS[name].Config(), SHAPE).eval() for name in OTHERS}
    return made, to_tensor(stripes(24, size=32), (0.0, 1.0))


def test_every_scorer_is_exported_here_or_by_a_preset():
    of_presets = {str(preset.sections.get("scorer", {}).get("name", "residual")) for preset in PRESETS.values()}
    assert {name for cases in OTHERS.values() for name, _ in cases} | of_presets == set(SCORERS)


@pytest.mark.parametrize(("model", "scorer", "settings"), [(m, *case) for m, cases in OTHERS.items() for case in cases])
@torch.no_grad()
def test_a_pipeline_of_every_scorer_can_be_exported(model, scorer, settings, models):
    made, images = models
    kind, of = SCORERS[scorer], made[model]
    learner = kind(kind.Config(**settings), of.output_spec)
    normal = Batches.of_tensors(*of.outputs(images, learner.inputs).values())
    learner.fit(normal.take(np.arange(16)), normal.take(np.arange(16, 24)), 0)
    assert_exports(Pipeline(of, learner, MapConfig(reduction="top", top_share=0.1, blur_pixels=1.0)), images)


@pytest.mark.parametrize("scorer", ["residual", "neighbours"])
def test_a_pipeline_that_sees_tiles_can_be_exported(scorer):
    settings = {"data": {"tile": 32, "overlap": 8}, "training": {"epochs": 1}}
    images = stripes(12, size=80)[:, :72]
    detector = Detector("conv", scorer, false_alarms=0.4, settings=settings, device="cpu").fit(images)
    assert len(detector.fitted_.pipeline.tiling) == 9
    assert_exports(detector.fitted_.pipeline, images_of(detector, stripes(5, size=80, seed=1)[:, :72]))


@pytest.mark.parametrize("scorer", ["gaussian", "ensemble"])
def test_a_pipeline_of_several_categories_can_be_exported(scorer):
    """Each image goes its own way, in a graph as well."""
    images = np.concatenate([stripes(25), 255 - stripes(25) // 3])
    samples = [Sample(str(row), row=row, category="ab"[row >= 25]) for row in range(50)]
    settings = {"model": {"side": 4}}
    if scorer == "ensemble":
        settings["scorer"] = {"scorers": ["gaussian", "neighbours"]}
    detector = Detector("pixels", scorer, settings=settings, device="cpu").fit(
        ArraySource("made", samples, ImageArray(images))
    )
    pipeline = detector.fitted_.pipeline
    assert pipeline.scorer.categories == [("a",), ("b",)]
    seen = images_of(detector, np.concatenate([stripes(3, seed=1), 255 - stripes(3, seed=1) // 3]))
    assert pipeline.scorer.choose(pipeline.model.encode(seen)).tolist() == [0] * 3 + [1] * 3
    assert_exports(pipeline, seen)


@torch.no_grad()
def test_what_it_says_of_an_image_depends_on_that_image_and_changes_nothing():
    model = Pixels(PixelsConfig(side=4), SHAPE)
    scorer = NeighboursScorer(NeighboursConfig(), model.output_spec)
    images = to_tensor(stripes(12, size=32), (0.0, 1.0))
    normal = Batches.of_tensors(model.encode(images))
    pipeline = Pipeline(model, scorer.fit(normal, normal.take(np.arange(0)), 0)).eval()
    before = {name: value.clone() for name, value in pipeline.state_dict().items()}
    maps, scores = pipeline(images)
    again = [pipeline(image[None]) for image in images]
    torch.testing.assert_close(maps, torch.cat([one for one, _ in again]))
    torch.testing.assert_close(scores, torch.cat([one for _, one in again]))
    assert all(torch.equal(value, before[name]) for name, value in pipeline.state_dict().items())
    assert list(before) == list(pipeline.state_dict())


@torch.no_grad()
def test_large_images_are_seen_some_at_a_time_with_the_same_result():
    tiling = Tiling(40, 48, 16, 4)
    model = ConvAutoencoder(ConvConfig(widths=(4,)), ImageShape(1, 16, 16)).eval()
    pipeline = Pipeline(model, ResidualScorer(ResidualConfig(), model.output_spec), tiling=tiling)
    assert pipeline.images_at_once == 64 // len(tiling)
    pixels = stripes(5, size=48, channels=1)[:, :40]
    maps, scores = score_pixels(pipeline, np.concatenate([pixels] * 2), (0.0, 1.0))
    expected, _ = pipeline(to_tensor(pixels, (0.0, 1.0)))
    np.testing.assert_allclose(maps, np.concatenate([expected] * 2), rtol=1e-5, atol=1e-7)
    assert maps.shape == (10, 40, 48)
    np.testing.assert_allclose(scores, maps.mean(axis=(1, 2)), rtol=1e-5)


def test_rebuilt_pixels_have_the_type_of_the_image(rng):
    model = ConvAutoencoder(ConvConfig(widths=(4,)), ImageShape(3, 12, 16)).eval()
    pipeline = Pipeline(model, ResidualScorer(ResidualConfig(), model.output_spec))
    for kind, white in ((np.uint8, 255), (np.uint16, 65535), (np.float32, 1)):
        pixels = (rng.random((2, 12, 16, 3)) * white).astype(kind)
        rebuilt = reconstruct(pipeline, pixels, (0.0, 1.0))
        assert rebuilt.dtype == kind
        assert rebuilt.shape == pixels.shape
    plain = Pixels(PixelsConfig(side=4), ImageShape(3, 12, 16))
    scorer = NeighboursScorer(NeighboursConfig(), plain.output_spec)
    assert reconstruct(Pipeline(plain, scorer), pixels, (0.0, 1.0)) is None
