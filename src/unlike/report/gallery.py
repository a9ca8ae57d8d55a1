"""The pictures of a report: which images are worth looking at, and how an image and its map are shown."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LinearSegmentedColormap

from unlike.data.pixels import to_uint8
from unlike.records import Evaluation, Explanation, Floats, Pixels, Rows, Sample
from unlike.report.wording import count, number

PER_SELECTION = 4  # images of each kind that are shown
CALM = 0.9  # of the map values of images that seem normal, the share that stays grey
LONGEST_SIDE = 224  # pixels of a picture: sharp at the size it is shown, and a whole gallery stays below 4 MB
Explain = Callable[[Sequence[Sample]], Sequence[Explanation]]  # of a detector and the source of its images
SMALL = 96  # pixels up to which a picture is kept exactly, as PNG


@dataclass(frozen=True, slots=True)
class Selection:
    """Some images that belong together: what they show, which they are (rows of the evaluation), and what to say of none."""

    title: str
    text: str
    rows: tuple[int, ...]
    empty: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One image of the gallery as data URIs, with the row of the evaluation that it comes from."""

    row: int
    image: str
    overlay: str
    reconstruction: str | None
    small: bool  # its pixels are shown as squares, not blurred
    nearest: tuple[str, ...] = ()  # ids of the normal images that it is most like,
    nearest_pictures: tuple[str, ...] = ()  # and small pictures of them, where those were kept


@dataclass(frozen=True, slots=True)
class Gallery:
    """All the pictures of a page, with what they have in common so that they can be compared."""

    cards: Mapping[int, Card]  # by row
    start: float  # of the maps' colours: up to it a picture stays grey
    limit: float  # from it on they no longer change
    note: str  # how values became shades of grey


def both_ends(scores: Floats, most: int) -> tuple[Rows, Rows]:
    """The rows of the `most` largest scores, the largest first, and of the smallest, the smallest first; none in both.

    >>> both_ends(np.array([3.0, 1.0, 2.0]), most=2)
    (array([0, 2]), array([1]))
    """
    order = np.argsort(scores, kind="stable")
    top = min(most, (len(order) + 1) // 2)
    return order[::-1][:top], order[: min(most, len(order) - top)]


def choose(evaluation: Evaluation) -> list[Selection]:
    """Pick the rows worth a look: the strangest and plainest images, and the worst mistakes of each sort."""
    scores, anomalous = evaluation.scores.image, evaluation.anomalous
    order = np.argsort(scores, kind="stable")
    alarms = evaluation.alarms
    largest, smallest = both_ends(scores, PER_SELECTION)
    missed, false = order[(anomalous & ~alarms)[order]], order[(~anomalous & alarms)[order]][::-1]
    selections = [
        _select("Most unusual", "The highest scores, whatever the label.", largest),
        _select("Least unusual", "The lowest scores, whatever the label.", smallest),
    ]
    if anomalous.any():
        empty = "None: every anomalous image scores above the threshold."
        text = _of(len(missed), "anomalous image", "called normal, the least suspicious first")
        selections.append(_select("Worst misses", text, missed[:PER_SELECTION], empty))
    if not anomalous.all():
        empty = "None: no normal image scores above the threshold."
        text = _of(len(false), "normal image", "called anomalous, the most suspicious first")
        selections.append(_select("Worst false alarms", text, false[:PER_SELECTION], empty))
    return [selection for selection in selections if selection.rows or selection.empty]


def picture(explain: Explain, evaluation: Evaluation, rows: Sequence[int]) -> Gallery:
    """Have some images explained by a detector, and paint them all on the same scales."""
    explanations = explain([evaluation.samples[row] for row in rows]) if rows else []
    limit = colour_limit([explanation.map for explanation in explanations])
    alarms = {evaluation.samples[row].id for row in rows if evaluation.alarms[row]}
    start = colour_start([item.map for item in explanations if item.sample.id not in alarms], limit)
    low, high, note = shades([explanation.image for explanation in explanations])
    found = {item.sample.id: item for item in explanations}  # an image may have gone since it was scored
    wanted = {row: found.get(evaluation.samples[row].id) for row in rows}
    cards = {row: _card(row, item, low, high, start, limit) for row, item in wanted.items() if item is not None}
    return Gallery(cards, start, limit, note)


def colour_limit(maps: Sequence[Floats]) -> float:
    """The map value from which colours no longer change, of two digits: almost all of every map lies below it.

    >>> colour_limit([np.linspace(0, 0.1234, 1000).reshape(20, 50)]), colour_limit([])
    (0.13, 1.0)
    """
    values = np.concatenate([np.nan_to_num(map_, posinf=0.0).ravel() for map_ in maps]) if maps else np.zeros(1)
    limit = float(np.quantile(values, 0.998)) or float(values.max())
    if limit <= 0:
        return 1.0
    step = 10.0 ** (np.floor(np.log10(limit)) - 1)
    return float(f"{np.ceil(limit / step - 1e-9) * step:.2g}")


def colour_start(maps: Sequence[Floats], limit: float) -> float:
    """The map value at which colours begin, of two digits: most of the maps of images that seem normal lies below it.

    >>> colour_start([np.linspace(0, 0.1, 1001)], limit=0.4), colour_start([np.ones(5)], limit=1.0), colour_start([], limit=1.0)
    (0.09, 0.5, 0.0)
    """
    if not maps:
        return 0.0
    usual = float(np.quantile(np.concatenate([np.nan_to_num(map_, posinf=0.0).ravel() for map_ in maps]), CALM))
    return float(f"{min(max(usual, 0.0), limit / 2):.2g}")


def shades(images: Sequence[Pixels]) -> tuple[float, float, str]:
    """The values shown as black and as white, the same for every picture, and a sentence that says so.

    Eight bits are shown as they are; a 16-bit or float image may use a sliver of its range, which is stretched.

    >>> shades([np.full((2, 2, 1), 7, np.uint8)])
    (0.0, 255.0, '')
    """
    if not images:
        return 0.0, 1.0, ""
    note = channel_note(images[0].shape[2])
    if images[0].dtype == np.uint8:
        return 0.0, 255.0, note
    values = np.concatenate([_finite(_shown(image)).ravel() for image in images])
    low, high = (float(value) for value in np.quantile(values, (0.001, 0.999)))
    text = f"Pictures show values of {number(low)} or less as black and of {number(high)} or more as white."
    return low, high, f"{text} {note}".strip()


def displayable(image: Pixels, low: float, high: float) -> Pixels:
    """Any (H, W, C) as (H, W, 3) uint8 for the eye: grey, colours, or the mean of many channels.

    >>> displayable(np.ones((4, 6, 5), np.float32), low=0.0, high=2.0)[0, 0]
    array([128, 128, 128], dtype=uint8)
    """
    shown = to_uint8(_finite(_shown(image)), low, high)
    return np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown


def overlay(image: Pixels, map_: Floats, limit: float, start: float = 0.0) -> Pixels:
    """Lay the colours of a map (h, w), from `start` to `limit`, over the dimmed grey of a picture (H, W, 3)."""
    height, width = image.shape[:2]
    strength = cv2.resize(np.nan_to_num(map_.astype(np.float32)), (width, height), interpolation=cv2.INTER_LINEAR)
    grey = image.mean(axis=2, dtype=np.float32) / 255
    return _blend(np.clip((strength - start) / (limit - start), 0, 1), grey)


def overlay_colours() -> LinearSegmentedColormap:
    """What `overlay` makes of a mid-grey picture, from the start to the limit: the colours of the key."""
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    return LinearSegmentedColormap.from_list("overlay", _blend(ramp, np.full_like(ramp, 0.5))[0] / 255.0)


def data_uri(image: Pixels) -> str:
    """A picture (H, W, 3) uint8 as a data URI: small ones exactly, others as JPEG.

    >>> data_uri(np.zeros((8, 8, 3), np.uint8))[:22], data_uri(np.zeros((200, 9, 3), np.uint8))[:23]
    ('data:image/png;base64,', 'data:image/jpeg;base64,')
    """
    kind = "png" if max(image.shape) <= SMALL else "jpeg"
    options = [cv2.IMWRITE_JPEG_QUALITY, 82] if kind == "jpeg" else []
    written, content = cv2.imencode(f".{kind}", np.ascontiguousarray(image[..., ::-1]), options)
    assert written
    return f"data:image/{kind};base64,{base64.b64encode(content.tobytes()).decode()}"


def _select(title: str, text: str, rows: Iterable[int], empty: str = "") -> Selection:
    return Selection(title, text, tuple(int(row) for row in rows), empty)


def _of(many: int, thing: str, which: str) -> str:
    """Say how many there are, and how many of them are shown.

    >>> _of(28, "normal image", "called anomalous, worst first"), _of(1, "normal image", "called anomalous, worst first")
    ('4 of 28 normal images called anomalous, worst first.', 'The only normal image called anomalous.')
    """
    if many == 1:
        return f"The only {thing} {which.partition(',')[0]}."
    return f"{min(many, PER_SELECTION)} of {count(many, thing)} {which}."


def _card(row: int, explanation: Explanation, low: float, high: float, start: float, limit: float) -> Card:
    image = thumbnail(displayable(explanation.image, low, high))
    reconstruction = (
        None if explanation.reconstruction is None else thumbnail(displayable(explanation.reconstruction, low, high))
    )
    return Card(
        row=row,
        image=data_uri(image),
        overlay=data_uri(overlay(image, explanation.map, limit, start)),
        reconstruction=None if reconstruction is None else data_uri(reconstruction),
        small=max(image.shape) <= SMALL,
        nearest=explanation.nearest,
        nearest_pictures=tuple(data_uri(displayable(one, 0.0, 255.0)) for one in explanation.nearest_pictures),
    )


def thumbnail(image: Pixels) -> Pixels:
    """A picture (H, W, 3) no larger than it is shown."""
    factor = LONGEST_SIDE / max(image.shape[:2])
    if factor >= 1:
        return image
    size = tuple(max(1, round(side * factor)) for side in image.shape[1::-1])
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _blend(strength: Floats, grey: Floats) -> Pixels:
    """(H, W) strengths and greys from 0 to 1 -> (H, W, 3) uint8; bright colours on dim grey stay apart in grey print."""
    colours = colormaps["inferno"](0.25 + 0.75 * strength)[..., :3]
    cover = (0.92 * strength**0.7)[..., None]
    mixed = cover * colours + (1 - cover) * 0.6 * grey[..., None]
    return np.asarray(np.rint(255 * mixed), np.uint8)


def _finite(image: Pixels) -> Pixels:
    return np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0) if image.dtype.kind == "f" else image


def channel_note(channels: int) -> str:
    """Which channels pictures show of an image that has others than grey or colour; nothing of one that has those."""
    return "" if channels in (1, 3, 4) else f"Of {channels} channels, the mean is shown."


def _shown(image: Pixels) -> Pixels:
    """Grey and colours as they are; of many channels the mean, for colours made of some of them say little."""
    return image[..., :3] if image.shape[2] in (1, 3, 4) else image.mean(axis=2, keepdims=True)


def flat(selections: Sequence[Selection]) -> Iterator[int]:
    """Each row of some selections once."""
    return iter(dict.fromkeys(row for selection in selections for row in selection.rows))
