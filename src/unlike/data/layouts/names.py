"""What a name says of images: their split, whether they are normal, or that they are masks."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache


def _words(text: str) -> frozenset[str]:
    """The words of a line."""
    return frozenset(text.split())


NORMAL = _words(
    "normal good ok okay pass passed healthy intact flawless undamaged unbroken defectfree faultfree nondefective"
)
ANOMALOUS = _words(
    "abnormal anomaly anomalous abnormality bad ng nok ko fail failed failure defect defective broken fault faulty damaged "
    "damage reject rejected scrap unhealthy diseased nogood notgood notok error"
)
WEAK = {"no": False, "negative": False, "neg": False, "clean": False, "io": False} | {
    "yes": True,
    "positive": True,
    "pos": True,
    "dirty": True,
    "nio": True,
}  # whether anomalous; only beside a name that says the opposite
NEGATIONS = frozenset(("no", "non", "not", "without"))
SPLITS = {
    "train": ("train", "training", "trainset", "trainingset"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "testset", "testingset", "eval", "evaluation"),
}
SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}
STRICTEST = ("test", "validation", "train", "")  # of a folder in another: what is in a test folder is never learned
MASKS = _words("mask gt groundtruth label annotation annotated anno annot seg segmentation")
UNKNOWN = _words("unknown unlabelled unlabeled unsorted unclassified unsure")
FILLERS = _words(
    "image img picture pic photo rgb data dataset dir folder sample set split public private mixed only all example scan "
    "case png jpg jpeg jpegimage file part piece item product"
)  # say nothing
SUSPICIOUS = _words(
    "scratch crack cracked dent hole stain contamination missing bent cut tear burr rust corrosion blowhole bubble chip "
    "chipped break fray uneven tumor tumour hemorrhage haemorrhage pneumonia covid cancer lesion infected leak deformation "
    "deformed misplaced wrong spall burnt porosity inclusion pit pitted true false"
)  # may be a defect: no images of such a folder are learned unless somebody says so
KNOWN = NORMAL | ANOMALOUS | set(WEAK) | NEGATIONS | set(SPLIT_OF) | MASKS | UNKNOWN | FILLERS | {"free"}
ENDING = re.compile(
    r"(?:[\W_]+|(?<=\d))(masks?|gt|labels?|seg(mentation)?|anno(tation)?|ground_?truth)(?P<number>[\W_]*\d+)?$",
    re.IGNORECASE,
)
WHOLE = re.compile(r"[\W_]")
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Word:
    """What a name says, as far as it says anything."""

    split: str = ""  # "train", "validation" or "test"
    anomalous: bool | None = None
    weak: bool = False  # that only counts beside a name that says the opposite
    masks: bool = False
    unknown: bool = False  # it says that nobody knows
    empty: bool = False  # such as "images": it says nothing at all


OTHER = Word()  # a product, a kind of defect, a date


@lru_cache(10_000)  # a million images lie in few folders
def read_name(name: str) -> Word:
    """What the name of a folder says, or the word of a label: every part of it must be known.

    >>> read_name("Test_Good"), read_name("non-defective").anomalous, read_name("0_abnormal").anomalous
    (Word(split='test', anomalous=False, weak=False, masks=False, unknown=False, empty=False), False, True)
    >>> read_name("broken_large") == OTHER
    True
    """
    whole = WHOLE.sub("", name.lower())
    if whole in WEAK:
        return Word(anomalous=WEAK[whole], weak=True)
    tokens = tokens_of(name)
    words = [token for token in tokens if not token.isdecimal()]
    known = all(_is_known(word) for word in words)
    if not words or not known:
        return OTHER
    masks = any(word in MASKS for word in words)
    if masks and "label" in words and len(words) < len(tokens):
        return OTHER  # label_0 is a class
    anomalous, weak = _read_judgement(words)
    return Word(
        split=next((split for split in STRICTEST for word in words if SPLIT_OF.get(word) == split), ""),
        anomalous=None if masks else anomalous,
        weak=weak,
        masks=masks,
        unknown=any(word in UNKNOWN for word in words),
        empty=all(word in FILLERS for word in words),
    )


def read_siblings(names: Collection[str]) -> dict[str, Word]:
    """What the names of folders that lie together say: some only say it beside their opposite.

    >>> read_siblings(["yes", "no"])["no"].anomalous, read_siblings(["no", "lid"])["no"].anomalous
    (False, None)
    >>> read_siblings(["crack", "no_crack"])["no_crack"].anomalous
    False
    """
    words = {name: read_name(name) for name in names}
    said = {word.anomalous for word in words.values()}
    words = {name: _settle(word, said) for name, word in words.items()}
    if any(word.anomalous is False for word in words.values()):
        return words
    return {name: _negated(name, words) or word for name, word in words.items()}


def looks_like_label(name: str) -> bool:
    """Whether a name may say that something is wrong, though it says nothing for certain.

    >>> [looks_like_label(name) for name in ("deep_scratch", "yes", "1", "label_0", "lot_12")]
    [True, True, True, True, False]
    """
    tokens = tokens_of(name)
    words = [token for token in tokens if not token.isdecimal()]
    numbers = [int(token) for token in tokens if token.isdecimal()]
    if numbers and max(numbers) <= 1 and set(words) <= {"class", "label"}:
        return True
    telling = SUSPICIOUS | ANOMALOUS | NORMAL | MASKS
    return "".join(words) in WEAK or any(word in telling or _denies(word, telling) for word in words)


def _denies(word: str, words: Collection[str]) -> bool:
    """Whether a word is the opposite of one of these, such as notumor."""
    return any(word.startswith(no) and word.removeprefix(no) in words for no in NEGATIONS)


def says_defect(stem: str) -> bool:
    """Whether the name of a file has a word for an anomalous image in it.

    >>> [says_defect(stem) for stem in ("bad_01", "img_017_NG", "defect-free-3", "badge_7")]
    [True, True, False, False]
    """
    tokens = tokens_of(stem)
    for place, token in enumerate(tokens):
        after, before = tokens[place + 1 : place + 2], tokens[max(0, place - 1) : place]
        negated = after == ["free"] or any(word in NEGATIONS for word in before)
        if token in (NORMAL if negated else ANOMALOUS):
            return True
    return False


def strip_ending(stem: str) -> str:
    """The name of the image that a mask belongs to.

    >>> strip_ending("001_mask"), strip_ending("10301_GT"), strip_ending("a.mask"), strip_ending("b-label"), strip_ending("c")
    ('001', '10301', 'a', 'b', 'c')
    >>> strip_ending("001_mask_2")  # of several
    '001'
    """
    return ENDING.sub("", stem) or stem


def strip_number(stem: str) -> str:
    """The name that several masks of one image share; nothing where a mask has no number.

    >>> strip_number("001_mask_2"), strip_number("001_mask")
    ('001_mask_', '')
    """
    found = ENDING.search(stem)
    return stem.rstrip("0123456789") if found and found["number"] else ""


def tokens_of(name: str) -> list[str]:
    """The words and numbers of a name, in lower case, without the ending of a plural.

    >>> tokens_of("NonDefective_images-02"), tokens_of("GroundTruth")
    (['non', 'defective', 'image', '02'], ['groundtruth'])
    """
    text = CAMEL.sub(" ", name).lower()
    text = re.sub(r"ground[\W_]*truth", "groundtruth", text)
    return [_singular(token) for token in re.findall(r"[^\W\d_]+|\d+", text)]


def _singular(token: str) -> str:
    for ending, single in (("ies", "y"), ("s", "")):
        if (
            len(token) > 3
            and token.endswith(ending)
            and not _is_known(token)
            and _is_known(token.removesuffix(ending) + single)
        ):
            return token.removesuffix(ending) + single
    return token


def _is_known(word: str) -> bool:
    return word in KNOWN


def _read_judgement(words: list[str]) -> tuple[bool | None, bool]:
    """Whether words say anomalous, normal or nothing, and whether only weakly."""
    strong = {word in ANOMALOUS for word in words if word in ANOMALOUS or word in NORMAL}
    negated = any(word in NEGATIONS for word in words) or "free" in words
    if len(strong) == 1:
        return strong.pop() != negated, False
    weak = {WEAK[word] for word in words if word in WEAK}
    return (weak.pop(), True) if len(weak) == 1 and not strong else (None, False)


def _settle(word: Word, said: Collection[bool | None]) -> Word:
    if not word.weak or word.anomalous is None:
        return word
    return word if (not word.anomalous) in said else replace(word, anomalous=None)


def _negated(name: str, words: Mapping[str, Word]) -> Word | None:
    """The opposite of another name, such as no_crack beside crack."""
    tokens = tokens_of(name)
    rest = tokens[1:] if tokens and tokens[0] in NEGATIONS else tokens[:-1] if tokens[-1:] == ["free"] else None
    if rest and any(tokens_of(other) == rest for other in words):
        return Word(anomalous=False)
    return None
