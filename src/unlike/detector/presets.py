"""Proven choices of model, scorer and their settings, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Preset:
    """Choices that go together.

    >>> PRESETS["patchcore"].sections["scorer"]["name"]
    'neighbours'
    """

    purpose: str  # what it is for, in a sentence
    sections: Mapping[str, Mapping[str, Any]]  # as a TOML file has them
    # laid over them where a detector looks at tiles, which may come from anywhere in an image
    tiled: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    report: bool = False  # a model of a published report, for who wants to have that again; no choice for new images


DEFAULT_PRESET = "ensemble"  # how it was chosen is in docs/measured.md
# the default's scorers that hold no position against others
NEIGHBOURS = ["neighbours", *(f"neighbours_{what}" for what in ("coarse", "unit", "deep", "fine"))]
# short cuts through fewer codes, or through some directions of features that are not of unit length, cost much where things
# lie before a plain ground
COVER = {"candidates": 150_000, "coreset_directions": "all", "most": 4000, "least": 1000}
WHOLE = {"code": "vector", "components": 0.99, "distance": "whitened"}  # what whole images seldom do, where it lies
STEADY = {"combine": "geometric", "normalisation": "median", "weights": "steady"}
UNIT = {"unit_groups": True, "averaging": 3, "dimensions": 300}
PRESETS: dict[str, Preset] = {
    # the sizes did best on faces of 64 x 64
    "autoencoder": Preset(
        "An autoencoder with a linear bottleneck, against what it usually cannot rebuild at each position; for small images that lie the same way.",
        {
            "model": {"name": "conv", "bottleneck": 128},
            "scorer": {"name": "residual", "positions": "each"},
            "map": {"reduction": "max", "blur_pixels": 1.5},
            "data": {"size": 64},
        },
    ),
    # as published (Defard et al., 2021) and as others have it, but that 100 random directions stand for 100 random features: they
    # keep more (Kim et al., 2021)
    "padim": Preset(
        "PaDiM: frozen features against those of the same position; for things that always lie the same way.",
        {
            "model": {"name": "features", "stages": [1, 2, 3], "averaging": 1, "dimensions": 100},
            "scorer": {"name": "gaussian", "positions": "each", "shrinkage": 0.0, "regularisation": 0.01},
            "map": {"reduction": "max", "blur_pixels": 1.0},
            "data": {"size": 256},
        },
    ),
    # as published (Roth et al., 2022) and as others have it: stages of 1/8 and 1/16, the grid of the finer one, and 1 % of all
    # codes as they are
    "patchcore": Preset(
        "PatchCore: frozen features against the nearest normal ones, of any position; for all other things.",
        {
            "model": {"name": "features", "stages": [2, 3]},
            "scorer": {"name": "neighbours", "candidates": "all", "coreset_directions": "all"},
            "map": {"reduction": "max"},
            "data": {"size": 256},
        },
    ),
    # raw features see things before a plain ground, features of unit length scenes of many kinds, coarse grids large faults and
    # fine ones small faults, and what whole images seldom do sees things that lie the same way. Each is best on other images;
    # how steady each is on normal images says how much it counts, see docs/why.md
    "ensemble": Preset(
        "The default: the geometric mean of six maps of frozen features, each weighed by how steady it is on normal images.",
        {
            "model": {"name": "features", "stages": [2, 3, 4], "separate": True, "fine": [3], "most_cells": 32},
            "scorer": {
                "name": "ensemble",
                "scorers": [*NEIGHBOURS, "pca"],
                "settings": {
                    "neighbours": {"feature_group": [0, 1], **COVER},
                    "neighbours_coarse": {"feature_group": [0, 1, 2], "pool": 2, **COVER},
                    "neighbours_unit": {"feature_group": [0, 1, 2], "pool": 2, **UNIT},
                    "neighbours_deep": {"feature_group": 2, "pool": 2, **COVER},
                    "neighbours_fine": {"feature_group": 3, **COVER},
                    "pca": {"feature_group": [0, 1, 2], "pool": 2, **UNIT, **WHOLE},
                },
                **STEADY,
            },
            "map": {"reduction": "max"},
            "data": {"size": "native"},
        },
        tiled={"scorer": {"scorers": NEIGHBOURS}},
    ),
    # of the default's six those that cost least, on a coarse grid of smaller images; chosen with it
    "fast": Preset(
        "The default for a camera in a hurry: four of its maps, coarser, of images of 256 pixels at most.",
        {
            "model": {"name": "features", "stages": [2, 3, 4], "separate": True, "most_cells": 16},
            "scorer": {
                "name": "ensemble",
                "scorers": ["neighbours", "neighbours_unit", "neighbours_deep", "pca"],
                "settings": {
                    "neighbours": {"feature_group": [0, 1, 2], **COVER},
                    "neighbours_unit": {"feature_group": [0, 1, 2], **UNIT},
                    "neighbours_deep": {"feature_group": 2, **COVER},
                    "pca": {"feature_group": [0, 1, 2], **UNIT, **WHOLE},
                },
                **STEADY,
            },
            "map": {"reduction": "max"},
            "data": {"size": "native", "most_native": 256},
        },
        tiled={"scorer": {"scorers": ["neighbours", "neighbours_unit", "neighbours_deep"]}},
    ),
    # as published for few images (Damm et al., 2025), whose patches are all kept: 16 images of 32 x 32. No image is turned or masked
    "dino": Preset(
        "AnomalyDINO: patches as DINOv2 sees them against the nearest normal ones, by angle; weights from the hub or a file.",
        {
            "model": {
                "name": "features",
                "backbone": "vit_small_patch14_dinov2",
                "stages": [-1],
                "final_norm": True,
                "averaging": 1,
            },
            "scorer": {"name": "neighbours", "unit": True, "metric": "cosine", "least": 16_384, "most": 16_384},
            "map": {"reduction": "top", "top_share": 0.01},
            "data": {"size": 448},
        },
    ),
    "dfr": Preset(
        "DFR: what the principal components of frozen features, position by position, cannot rebuild.",
        {
            "model": {"name": "features", "stages": [2, 3, 4], "cell": 16},
            "scorer": {"name": "pca", "components": 0.9},
            "map": {"reduction": "max"},
            "data": {"size": 256},
        },
    ),
    # a linear denoising autoencoder of features at its best, computed and not trained: what whole images do not have in
    # common, held against what is usually left at each position. Chosen by synthetic defects of three sets, and by the labels of
    # polycrystalline cells, turned transistors, and some faces and vehicles
    "feature-pca": Preset(
        "What whole images do not have in common, in frozen features, against what is usual at each position.",
        {
            "model": {"name": "features", "stages": [2, 3, 4], "cell": 16, "scale": "unit", "dimensions": 300},
            "scorer": {"name": "pca", "code": "vector", "components": 0.99, "distance": "whitened"},
            "map": {"reduction": "max"},
            "data": {"size": 256},
        },
    ),
    # averaging, scale, code and training were chosen as for padim; the stages by synthetic defects of three sets and by
    # real ones of polycrystalline solar cells
    "feature-autoencoder": Preset(
        "Frozen features, rebuilt from 200 numbers an image: a linear autoencoder of what a network sees.",
        {
            "model": {"name": "feature-linear", "stages": [2, 3, 4], "cell": 16, "code": 200},
            "scorer": {"name": "residual"},
            "map": {"reduction": "max"},
            "data": {"size": 256},
            "training": {"epochs": 40, "learning_rate": 1e-3},
        },
    ),
    # that nothing is averaged, and the cosine, Dinomaly's own loss, were best on synthetic defects of magnetic tiles
    "feature-attention": Preset(
        "Dinomaly's ideas on any backbone, smaller: frozen features, rebuilt by linear attention.",
        {
            "model": {"name": "feature-attention", "stages": [2, 3, 4], "cell": 16},
            "scorer": {"name": "residual", "difference": "cosine"},
            "map": {"reduction": "max"},
            "data": {"size": 256},
            "training": {"objective": "cosine"},
        },
    ),
    # both measures of distance were chosen on turned transistors and polycrystalline cells, and in the end with a look at
    # tiles
    "repair": Preset(
        "For where no pretrained weights may be used: learns by repairing and marking synthetic defects.",
        {
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
            "training": {
                "batch_size": 8,
                "learning_rate": 2e-3,
                "objective": "absolute",
                "keep": "last",
                "statistics": "running",  # those of images with defects in them
            },
        },
    ),
    "textbook": Preset(
        "An autoencoder with a linear bottleneck, by what it cannot rebuild; for small images.",
        {"model": {"name": "conv", "bottleneck": 128}, "scorer": {"name": "residual"}, "data": {"size": 64}},
        report=True,
    ),
    "three-fcn": Preset(
        "Three linear encoders and one linear decoder, as published for faces of 64 x 64.",
        {
            "model": {"name": "multi-encoder", "encoders": ["fcn", "fcn", "fcn"], "decoder": "fcn"},
            "data": {"size": 64},
        },
        report=True,
    ),
    "three-conv": Preset(
        "Three convolutional encoders and one convolutional decoder, as published for faces of 64 x 64.",
        {
            "model": {"name": "multi-encoder", "encoders": ["conv", "conv", "conv"], "decoder": "conv"},
            "data": {"size": 64},
        },
        report=True,
    ),
    "fcn-fcn-conv": Preset(
        "Two linear encoders, a convolutional one, and one linear decoder, as published for faces of 64 x 64.",
        {
            "model": {"name": "multi-encoder", "encoders": ["fcn", "fcn", "conv"], "decoder": "fcn"},
            "data": {"size": 64},
        },
        report=True,
    ),
    "three-conv-exact": Preset(
        "Three convolutional encoders and one decoder for faces of 64 x 64, as published layer by layer.",
        {
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
        report=True,
    ),
    "conv-dense-objects": Preset(
        "The autoencoder of objects of 32 x 32, with its training of 2,000 epochs.",
        {
            "model": {"name": "conv-dense"},
            "data": {"size": 32},
            "training": {
                "epochs": 2000,
                "optimiser": "sgd",
                "learning_rate": 1e-3,
                "momentum": 0.8,
                "schedule": "constant",
                "keep": "minibatch",
            },
        },
        report=True,
    ),
    "fcn-objects": Preset(
        "The fully-connected autoencoder of objects of 32 x 32, with its training of 1,000 epochs.",
        {
            "model": {
                "name": "fcn",
                "widths": [128, 64, 32],
            },  # a code as long as conv-dense's: scorers of codes compare
            "data": {"size": 32},
            "training": {
                "epochs": 1000,
                "optimiser": "adamw",
                "learning_rate": 1e-3,
                "weight_decay": 0.01,
                "schedule": "constant",
            },
        },
        report=True,
    ),
    "vae-faces": Preset(
        "A variational autoencoder for faces of 64 x 64, whose code is a grid.",
        {
            "model": {"name": "vae", "widths": [12, 24, 48], "latent": "none", "norm": False, "activation": "relu"},
            "data": {"size": 64},
        },
        report=True,
    ),
    "vae-products": Preset(
        "A variational autoencoder for photographs of products, with the training that was best on bottles.",
        {
            "model": {"name": "vae"},
            "data": {"size": 128},
            "training": {
                "epochs": 500,
                "batch_size": 64,
                "learning_rate": 5e-4,
                "weight_decay": 0.01,
                "schedule": "cosine",
                "t_max": 100,
                "initialisation": "kaiming-xavier",
            },
        },
        report=True,
    ),
}
