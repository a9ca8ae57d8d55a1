"""Synthetic defects: local damage to normal images, with its masks, to learn from or to measure on where no real one is at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from unlike.config import check_range
from unlike.errors import ConfigError, unknown
from unlike.records import Bools, Floats, Pixels

VISIBLE = 0.03  # of the way from black to white: what changes less is no defect
SPREAD = 5  # pixels a side over which that is averaged, so that a mask has no holes where values meet by chance
FEWEST = 4  # pixels of a defect, or it is drawn anew,
TRIES = 20  # so often; then the image stays as it is
SCAR_ASPECT = (4.0, 12.0)  # of a scar's length to its width
PASTE_ASPECT = (0.3, 3.3)  # of a pasted patch's height to its width (Li et al. 2021)
ZOOM = (0.7, 1.3)  # of a blended patch (Schlüter et al. 2022)
SCRATCH_WIDTH = (0.003, 0.015)  # of the image's shorter side
SCRATCH_POINTS = 24  # of its line
MOST_CHANNELS = 128  # that OpenCV takes at once
SCRATCH_LENGTH = 2.0  # sides of other defects: it is long, but thin


@dataclass(frozen=True, slots=True)
class DefectConfig:
    """Which defects are made, how many and how large.

    >>> DefectConfig(kinds=("scratch", "blend"), share=0.5).size
    (0.03, 0.4)
    """

    kinds: tuple[str, ...] = ("paste", "scar", "blend", "scratch", "stain", "texture")  # each as likely as the others
    share: float = 1.0  # of the images that get defects
    most: int = 1  # defects an image gets; any number from 1 up
    size: tuple[float, float] = (0.03, 0.4)  # a side, as a share of the image's; drawn evenly over its logarithm
    opacity: tuple[float, float] = (0.3, 1.0)  # of what is not pasted: scratches, stains and textures

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ConfigError(f"defects.kinds: expected one or more of {', '.join(KINDS)}, came none")
        for kind in self.kinds:
            if kind not in KINDS:
                raise unknown("defects.kinds", kind, KINDS)
        check_range("defects.share", self.share, 0, 1)
        check_range("defects.most", self.most, 1, 100)
        for name in ("size", "opacity"):
            low, high = getattr(self, name)
            for end in (low, high):
                check_range(f"defects.{name}", end, 0.001, 1)
            if low > high:
                raise ConfigError(f"defects.{name}: expected the lower end first, came {low:g}, {high:g}")


def add_defects(
    pixels: Pixels,  # (B, H, W, C)
    config: DefectConfig,
    random: np.random.Generator,
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
    inside: Bools | None = None,  # (B, H, W)
) -> tuple[Pixels, Bools]:
    """Damage a batch of normal images here and there, and say where: the images (B, H, W, C) and masks (B, H, W).

    Kinds: `paste` and `scar`, a patch or a thin strip of the same image elsewhere (CutPaste, Li et al. 2021); `blend`, a
    patch of an image of the batch whose edges are made to fit (Poisson blending, NSA, Schlüter et al. 2022); `scratch`,
    a thin curved line, light or dark; `stain`, an irregular patch, lighter or darker; `texture`, an irregular patch
    filled from an image of the batch (DRAEM, Zavrtanik et al. 2021). Irregular outlines are those of Perlin noise.

    A mask is true where the change can be seen, by at least 3 % of the way from black to white; a defect that cannot be
    seen is drawn anew. `value_range`, the values of black and white, is for floats. A fourth channel is alpha and keeps
    its values. `inside` says where the images are, where bars fill up the input spec: sizes are shares of that part, and nothing
    beyond it changes. The input is never changed, and is itself returned where no image gets a defect.

    >>> images = np.full((2, 32, 32, 1), 100, np.uint8)
    >>> spoilt, masks = add_defects(images, DefectConfig(kinds=("scratch",)), np.random.default_rng(0))
    >>> masks.any(axis=(1, 2)).tolist(), bool((spoilt != images).any())
    ([True, True], True)
    """
    masks = np.zeros(pixels.shape[:3], bool)
    windows = [_Window(0, 0, pixels.shape[1], pixels.shape[2])] * len(pixels)
    if inside is not None:
        windows = [_window_of(mask) for mask in inside]
    chosen = [row for row in np.flatnonzero(random.random(len(pixels)) < config.share) if windows[row].height]
    if not chosen:
        return pixels, masks
    low, high = value_range if pixels.dtype.kind == "f" else (0.0, float(np.iinfo(pixels.dtype).max))
    spoilt = np.array(pixels, order="C")
    colours = np.s_[..., : 3 if pixels.shape[3] == 4 else None]
    for row in chosen:
        scene = _Scene(pixels[colours], int(row), windows, config, random, low, high)
        for _ in range(random.integers(1, config.most, endpoint=True)):
            _damage(spoilt[row][colours], masks[row], None if inside is None else inside[row], scene)
    return (spoilt, masks) if masks.any() else (pixels, masks)


def perlin(size: tuple[int, int], cells: int, random: np.random.Generator) -> Floats:
    """Perlin's gradient noise (2002) of so many cells a side: (height, width), about -0.7 to 0.7, zero at each cell's corners.

    >>> perlin((8, 16), 2, np.random.default_rng(0)).shape
    (8, 16)
    """
    angle = random.random((cells + 1, cells + 1), np.float32) * np.float32(2 * np.pi)
    slopes = np.cos(angle), np.sin(angle)
    rows, columns = (np.arange(side, dtype=np.float32) * np.float32(cells / side) for side in size)
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    y, x = (rows - top)[:, None], (columns - left)[None, :]

    def corner(down: int, right: int) -> Floats:
        at = np.ix_(top + down, left + right)
        return np.asarray(slopes[0][at] * (y - down) + slopes[1][at] * (x - right))

    fade_y, fade_x = (part**3 * (part * (part * 6 - 15) + 10) for part in (y, x))
    upper = corner(0, 0) + fade_x * (corner(0, 1) - corner(0, 0))
    lower = corner(1, 0) + fade_x * (corner(1, 1) - corner(1, 0))
    return np.asarray(upper + fade_y * (lower - upper))


def blend_edges(patch: Floats, around: Floats) -> Floats:
    """The patch (h, w, C) with its own details and the border of `around`, of the same shape: Poisson blending.

    What is added is the harmonic function that has the border's gap as its own border (Pérez et al. 2003, equation 8),
    by a sine transform, as in OpenCV's seamlessClone, but for any number type and number of channels.

    >>> around = np.zeros((5, 5, 1)); around[[0, -1]] = around[:, [0, -1]] = 7
    >>> blend_edges(np.full((5, 5, 1), 3.0), around).round(6).min().item()
    7.0
    """
    from scipy import fft  # takes a while

    gap = around - patch
    height, width = gap.shape[0] - 2, gap.shape[1] - 2
    if min(height, width) < 1:
        return around
    sources = np.zeros_like(gap[1:-1, 1:-1])
    sources[0] += gap[0, 1:-1]
    sources[-1] += gap[-1, 1:-1]
    sources[:, 0] += gap[1:-1, 0]
    sources[:, -1] += gap[1:-1, -1]
    waves = [2 - 2 * np.cos(np.pi * np.arange(1, side + 1) / (side + 1)) for side in (height, width)]
    eigenvalues = (waves[0][:, None] + waves[1][None, :]).astype(gap.dtype)
    inner = fft.idstn(fft.dstn(sources, type=1, axes=(0, 1)) / eigenvalues[..., None], type=1, axes=(0, 1))
    blended = np.array(around)
    blended[1:-1, 1:-1] = patch[1:-1, 1:-1] + inner
    return blended


@dataclass(frozen=True, slots=True, eq=False)
class _Patch:
    """What is laid over an image."""

    top: int
    left: int
    values: Floats  # (h, w, C)
    cover: Floats  # (h, w) from 0, the image shows, to 1, it does not


@dataclass(frozen=True, slots=True)
class _Window:
    """The part of the input spec that an image fills."""

    top: int
    left: int
    height: int  # 0 where there is nothing of an image
    width: int

    def holds(self, size: tuple[int, int]) -> bool:
        return size[0] <= self.height and size[1] <= self.width


def _window_of(inside: Bools) -> _Window:
    """The smallest window round all that is true, (H, W)."""
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return _Window(0, 0, 0, 0)
    return _Window(int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """What a defect may be made of, and its random choices."""

    batch: Pixels  # (B, H, W, C)
    row: int  # of the image that is damaged
    windows: Sequence[_Window]  # B, of the images in the input spec
    config: DefectConfig
    random: np.random.Generator
    low: float  # black
    high: float  # white

    @property
    def sides(self) -> tuple[int, int]:
        window = self.windows[self.row]
        return window.height, window.width

    def between(self, ends: tuple[float, float]) -> float:
        """A number, its logarithm evenly drawn."""
        return float(np.exp(self.random.uniform(*np.log(ends))))

    def draw_size(self, aspect: tuple[float, float]) -> tuple[int, int]:
        """Height and width of a defect, in pixels, their ratio in the range."""
        share, stretch = self.between(self.config.size), self.between(aspect) ** 0.5
        return self.fit(self.sides[0] * share * stretch, self.sides[1] * share / stretch)

    def fit(self, height: float, width: float) -> tuple[int, int]:
        """The nearest whole size of two pixels or more that is no larger than an image."""
        return min(max(2, round(height)), self.sides[0]), min(max(2, round(width)), self.sides[1])

    def draw_corner(self, size: tuple[int, int], row: int | None = None) -> tuple[int, int]:
        """Where a part of this size begins in an image of the batch, the damaged one unless another is named."""
        window = self.windows[self.row if row is None else row]
        down = int(self.random.integers(window.height - size[0], endpoint=True))
        return window.top + down, window.left + int(self.random.integers(window.width - size[1], endpoint=True))

    def take(self, row: int, corner: tuple[int, int], size: tuple[int, int]) -> Floats:
        """A part of an image of the batch, (h, w, C) float32."""
        (top, left), (height, width) = corner, size
        return self.batch[row, top : top + height, left : left + width].astype(np.float32)

    def draw_part(self, size: tuple[int, int], *, foreign: bool = False) -> Floats:
        """A part of this size, (h, w, C), of the image itself or, if it may be foreign, as often of any of the batch."""
        row = self.row
        if foreign and self.random.random() >= 0.5:
            other = int(self.random.integers(len(self.batch)))
            row = other if self.windows[other].holds(size) else row
        return self.take(row, self.draw_corner(size, row), size)

    def jitter(self, values: Floats) -> Floats:
        """Values a little lighter or darker, of more or less contrast, mirrored or not."""
        gain, shift = self.random.uniform(0.7, 1.3), self.random.uniform(-0.1, 0.1) * (self.high - self.low)
        mean = values.mean(axis=(0, 1))
        flips = self.random.choice([-1, 1], 2)
        return np.asarray((values - mean) * gain + mean + shift, np.float32)[:: flips[0], :: flips[1]]


def _damage(image: Pixels, mask: Bools, inside: Bools | None, scene: _Scene) -> None:
    """Lay one defect over an image (H, W, C), and into its mask (H, W), in place; nothing if none can be seen.

    Nothing changes where `inside` is false.
    """
    for _ in range(TRIES):
        kind = scene.config.kinds[scene.random.integers(len(scene.config.kinds))]
        patch = KINDS[kind](scene)
        at = np.s_[patch.top : patch.top + patch.cover.shape[0], patch.left : patch.left + patch.cover.shape[1]]
        before, cover = image[at].astype(np.float32), patch.cover if inside is None else patch.cover * inside[at]
        after = before + cover[..., None] * (np.clip(patch.values, scene.low, scene.high) - before)
        after = after if image.dtype.kind == "f" else np.rint(after)
        change = np.abs(after - before).max(axis=2)
        seen = (cv2.blur(change, (SPREAD, SPREAD)) >= VISIBLE * (scene.high - scene.low)) & (change > 0)
        if np.count_nonzero(seen) >= FEWEST:
            image[at] = after
            mask[at] |= seen
            return


def _paste(scene: _Scene) -> _Patch:
    """A patch of the same image, elsewhere."""
    size = scene.draw_size(PASTE_ASPECT)
    values = scene.jitter(scene.draw_part(size))
    return _Patch(*scene.draw_corner(size), values, np.ones(size, np.float32))


def _scar(scene: _Scene) -> _Patch:
    """A thin turned strip of the same image, elsewhere."""
    length = scene.between(scene.config.size) * min(scene.sides)
    box = ((0.0, 0.0), (max(2.0, length), max(2.0, length / scene.between(SCAR_ASPECT))), scene.random.uniform(0, 180))
    points = cv2.boxPoints(box)
    points -= points.min(axis=0)
    width, height = np.ceil(points.max(axis=0)).astype(int) + 1
    size = min(int(height), scene.sides[0]), min(int(width), scene.sides[1])
    cover = cv2.fillConvexPoly(np.zeros(size, np.uint8), np.rint(points).astype(np.int32), 1)
    values = scene.jitter(scene.draw_part(size))
    return _Patch(*scene.draw_corner(size), values, cover.astype(np.float32))


def _blend(scene: _Scene) -> _Patch:
    """A patch of an image of the batch, a little larger or smaller than there, whose edges fit."""
    size = scene.draw_size(PASTE_ASPECT)
    zoom = scene.between(ZOOM)
    source = scene.fit(size[0] / zoom, size[1] / zoom)
    taken = scene.draw_part(source, foreign=True)
    parts = [taken[..., start : start + MOST_CHANNELS] for start in range(0, taken.shape[2], MOST_CHANNELS)]
    values = np.concatenate([cv2.resize(part, size[::-1]).reshape(*size, -1) for part in parts], axis=2)
    corner = scene.draw_corner(size)
    return _Patch(
        *corner,
        blend_edges(np.asarray(values, np.float32), scene.take(scene.row, corner, size)),
        np.ones(size, np.float32),
    )


def _scratch(scene: _Scene) -> _Patch:
    """A thin curved line of changing width, light or dark."""
    random, shorter, window = scene.random, min(scene.sides), scene.windows[scene.row]
    origin, sides = np.array([window.left, window.top]), np.array([window.width, window.height])
    length = min(SCRATCH_LENGTH * scene.between(scene.config.size), 1.0) * shorter
    turns = random.normal(0, 0.5) / SCRATCH_POINTS + random.normal(0, 0.08, SCRATCH_POINTS)
    heading = random.uniform(0, 2 * np.pi) + np.cumsum(turns)
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / SCRATCH_POINTS)
    points = origin + random.uniform(0, 1, 2) * sides + np.cumsum(steps, axis=0)
    thickest = max(1.0, scene.between(SCRATCH_WIDTH) * shorter)
    widths = np.maximum(1, np.rint(thickest * random.uniform(0.4, 1.0, SCRATCH_POINTS))).astype(int)
    pad = int(thickest) + 2
    start = np.clip(np.floor(points.min(axis=0)).astype(int) - pad, origin, origin + sides - 1)
    stop = np.clip(np.ceil(points.max(axis=0)).astype(int) + pad, start + 1, origin + sides)
    canvas = np.zeros((stop - start)[::-1], np.uint8)
    places = np.rint((points - start) * 16).astype(int)
    for first, second, width in zip(places[:-1].tolist(), places[1:].tolist(), widths.tolist(), strict=False):
        cv2.line(canvas, first, second, 255, width, cv2.LINE_AA, shift=4)
    left, top = int(start[0]), int(start[1])
    cover = canvas.astype(np.float32) / 255 * _opacity(scene)
    return _Patch(top, left, _lighter_or_darker(scene, (top, left), canvas.shape), cover)


def _stain(scene: _Scene) -> _Patch:
    """An irregular patch, lighter or darker, of soft edges or sharp ones."""
    size = scene.draw_size(PASTE_ASPECT)
    cover = _irregular(scene, size, softness=scene.between((0.02, 1.5))) * _opacity(scene)
    corner = scene.draw_corner(size)
    return _Patch(*corner, _lighter_or_darker(scene, corner, size), cover)


def _texture(scene: _Scene) -> _Patch:
    """An irregular patch filled from an image of the batch."""
    size = scene.draw_size(PASTE_ASPECT)
    values = scene.jitter(scene.draw_part(size, foreign=True))
    cover = _irregular(scene, size, softness=scene.between((0.02, 0.2))) * _opacity(scene)
    return _Patch(*scene.draw_corner(size), values, cover)


def _opacity(scene: _Scene) -> np.float32:
    return np.float32(scene.random.uniform(*scene.config.opacity))


def _lighter_or_darker(scene: _Scene, corner: tuple[int, int], size: tuple[int, ...]) -> Floats:
    """The image there, with all its contrasts, brought halfway or more to white or to black."""
    end = scene.low if scene.random.random() < 0.5 else scene.high
    values = scene.take(scene.row, corner, (size[0], size[1]))
    return np.asarray(values + np.float32(scene.random.uniform(0.5, 1.0)) * (np.float32(end) - values))


def _irregular(scene: _Scene, size: tuple[int, int], softness: float) -> Floats:
    """A cover (h, w) of 0 to 1 whose outline is that of Perlin noise round the middle of the window."""
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in size)
    hill = 1 - np.square(y)[:, None] - np.square(x)[None, :]  # 1 in the middle, below 0 in the corners
    cells = int(scene.random.integers(2, 7))
    noise = perlin(size, cells, scene.random)
    height = hill + 1.5 * noise - 0.25
    return np.asarray(np.clip(height / np.float32(softness), 0, 1))


KINDS: dict[str, Callable[[_Scene], _Patch]] = {
    "blend": _blend,
    "paste": _paste,
    "scar": _scar,
    "scratch": _scratch,
    "stain": _stain,
    "texture": _texture,
}
