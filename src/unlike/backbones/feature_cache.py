"""The feature cache: what a frozen network sees in an image, kept while a model learns from the same images again and again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

MOST_BYTES = 1_000_000_000  # of features that are kept; what does not fit is computed anew each time


class FeatureCache:
    """Features of each image, computed once: a frozen network gives the same in every epoch. It lives for one training.

    Images are told apart by a digest of their values, so that nobody has to number them, and an image that was
    augmented is another one. What was not asked for during a whole epoch is dropped by `drop_unused`. Only on a
    CPU, where computing them is dear.

    >>> calls = []
    >>> extract = lambda images: calls.append(len(images)) or images.mean(dim=(2, 3), keepdim=True)
    >>> cache, images = FeatureCache(), torch.rand(3, 1, 8, 8)
    >>> _ = cache.look_up(extract, images[:2])
    >>> torch.equal(cache.look_up(extract, images), images.mean(dim=(2, 3), keepdim=True)), calls
    (True, [2, 1])
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._features: dict[bytes, Tensor] = {}  # digest of an image -> (D, h, w)
        self._used: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._features)

    def look_up(self, extract: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:  # (B, C, H, W)
        """What `extract` gives for the images, (B, D, h, w); it is asked only for those that are not in the cache."""
        if images.device.type != "cpu" or images.requires_grad or torch.compiler.is_compiling():
            return extract(images)
        names = [_name(image) for image in images]
        new = [row for row, name in enumerate(names) if name not in self._features]
        found = dict(zip(new, extract(images[new]), strict=True)) if new else {}
        features = [found[row] if row in found else self._features[name] for row, name in enumerate(names)]
        for row, values in found.items():
            if (len(self._features) + 1) * values.nbytes <= self.most_bytes:
                self._features[names[row]] = values.clone()  # not a view that keeps the whole batch
        self._used.update(names)
        return torch.stack(features)

    def drop_unused(self) -> None:
        """Drop what was not asked for since the last time; once an epoch."""
        self._features = {name: values for name, values in self._features.items() if name in self._used}
        self._used.clear()


def _name(image: Tensor) -> bytes:
    """Of an image (C, H, W), by its values: 128 bits, so that no two images ever share one."""
    pixels = image.detach().permute(1, 2, 0).contiguous()  # as it lies in memory, channels last: no copy
    return hashlib.blake2b(pixels.numpy().data, digest_size=16).digest()
