"""Sentences that say what was understood of images and labels."""

from __future__ import annotations

from collections import Counter

from unlike.data.layouts.rules import Found
from unlike.data.layouts.tree import File
from unlike.data.layouts.wording import listed, plural
from unlike.records import Sample

UNSAID = ", of which no name says anything: a fit takes all for normal"


def tell_layout(found: Found, samples: list[Sample], unfit: list[File]) -> list[str]:
    """What was understood of a folder, and what is left aside or missing."""
    outside, masks = sorted(found.outside), [mask.id for mask in unfit]
    odd = [sample for sample in samples if sample.anomalous]
    bare = [sample.id for sample in odd if sample.mask is None]
    unlabelled = [sample.id for sample in samples if sample.anomalous is None and sample.split != "train"]
    told = [f"{found.title}: {contents(samples)}{UNSAID if found.unsaid else ''}."]
    if outside:
        told.append(f"Left aside, as no part of it: {plural(len(outside), 'image')} ({listed(outside)}).")
    if masks:
        told.append(f"{plural(len(masks), 'mask')} left aside, which fit no image: {listed(masks)}.")
    if 0 < len(bare) < len(odd):
        told.append(f"{plural(len(bare), 'anomalous image')} without a mask, where others have one: {listed(bare)}.")
    if 0 < len(unlabelled) < len(samples):
        told.append(f"{plural(len(unlabelled), 'image')} without a label: {listed(unlabelled)}.")
    return told


def contents(samples: list[Sample]) -> str:
    """How many images of each split and label, how many masks and categories."""
    counts = Counter((sample.split, sample.anomalous) for sample in samples)
    kinds = sorted({sample.kind for sample in samples if sample.anomalous} - {"", "anomalous"})
    parts = [_share(split, counts) for split in ("train", "validation", "test", "") if _total(split, counts)]
    masks = sum(sample.mask is not None for sample in samples)
    categories = sorted({sample.category for sample in samples} - {""})
    told = "; ".join(parts)
    told += f"; kinds of defects: {listed(kinds, 12)}" if kinds else ""
    told += f"; {plural(masks, 'mask')}" if masks else ""
    return told + (f"; categories: {listed(categories, 12)}" if categories else "")


def _share(split: str, counts: Counter[tuple[str, bool | None]]) -> str:
    """The images of one split, such as `10 normal and 4 anomalous images of test`."""
    words = {False: "normal", True: "anomalous", None: "unlabelled"}
    judged = [(counts[split, said], word) for said, word in words.items() if counts[split, said]]
    nouns = [f"{count:,} {word}" for count, word in judged]
    told = " and ".join([", ".join(nouns[:-1]), nouns[-1]] if len(nouns) > 1 else nouns)
    return f"{told} {'image' if _total(split, counts) == 1 else 'images'}" + (f" of {split}" if split else "")


def _total(split: str, counts: Counter[tuple[str, bool | None]]) -> int:
    return sum(count for (name, _), count in counts.items() if name == split)
