"""Memory: what a frozen network saw in an image, kept while a model learns from the same images again and again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

MOST_BYTES = 1_000_000_000  # of features that are kept; what does not fit is looked at anew each time


class Memory:
    """Looks at each image once, and remembers: a frozen network gives the same features in every epoch.

    Images are told apart by a digest of their values, so that nobody has to number them, and an image that was
    augmented is another one. What was not asked for during a whole epoch is forgotten by `forget_unused`. Only on a
    CPU, where looking is dear. A copy, or what is loaded from a disk, starts empty.

    >>> calls = []
    >>> look = lambda images: calls.append(len(images)) or images.mean(dim=(2, 3), keepdim=True)
    >>> memory, images = Memory(), torch.rand(3, 1, 8, 8)
    >>> _ = memory.recall(look, images[:2])
    >>> torch.equal(memory.recall(look, images), images.mean(dim=(2, 3), keepdim=True)), calls
    (True, [2, 1])
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._features: dict[bytes, Tensor] = {}  # digest of an image -> (D, h, w)
        self._used: set[bytes] = set()

    def __reduce__(self) -> tuple[type[Memory], tuple[int]]:
        return type(self), (self.most_bytes,)

    def __len__(self) -> int:
        return len(self._features)

    def recall(self, look: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:  # (B, C, H, W)
        """What `look` gives for the images, (B, D, h, w); it is asked only about those that are not remembered."""
        if images.device.type != "cpu" or images.requires_grad or torch.compiler.is_compiling():
            return look(images)
        names = [_name(image) for image in images]
        new = [row for row, name in enumerate(names) if name not in self._features]
        found = dict(zip(new, look(images[new]), strict=True)) if new else {}
        features = [found[row] if row in found else self._features[name] for row, name in enumerate(names)]
        for row, values in found.items():
            if (len(self._features) + 1) * values.nbytes <= self.most_bytes:
                self._features[names[row]] = values.clone()  # not a view that keeps the whole batch
        self._used.update(names)
        return torch.stack(features)

    def forget_unused(self) -> None:
        """Drop what was not asked for since the last time; once an epoch."""
        self._features = {name: values for name, values in self._features.items() if name in self._used}
        self._used.clear()

    def clear(self) -> None:
        """Drop everything."""
        self._features.clear()
        self._used.clear()


def _name(image: Tensor) -> bytes:
    """Of an image (C, H, W), by its values: 128 bits, so that no two images ever share one."""
    pixels = image.detach().permute(1, 2, 0).contiguous()  # as it lies in memory, channels last: no copy
    return hashlib.blake2b(pixels.numpy().data, digest_size=16).digest()
