"""Every error that unlike raises on purpose.

    UnlikeError
    ├── ConfigError     a setting, name or combination of them is wrong       (also a ValueError)
    │   └── UnknownSettingError  a section has no setting of that name        (also a ValueError)
    ├── DataError       the images, labels or masks as a whole are not usable (also a ValueError)
    │   └── ImageError  one image cannot be read; the others can              (also a ValueError)
    ├── ArtifactError   a detector on disk is not what was written            (also a ValueError)
    ├── ExportError     a graph cannot be made, or does not say the same      (also a ValueError)
    ├── OutputError     a result cannot be written                            (also an OSError)
    ├── ServiceError    a service refused, or cannot be reached               (also a RuntimeError)
    └── NotFittedError  a detector was used before it was fitted              (also an AttributeError)

Each message says what was expected, what came, and the way out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UnlikeError(Exception):
    """Root of every error raised on purpose; catching it catches no bug."""


class ConfigError(UnlikeError, ValueError):
    """A setting, a name or a combination of them is wrong."""


class UnknownSettingError(ConfigError):
    """A section has no setting of that name."""

    def __init__(self, message: str, section: str = "", name: str = "") -> None:
        super().__init__(message)
        self.section = section
        self.name = name


class DataError(UnlikeError, ValueError):
    """The images, labels or masks, taken together, cannot be used."""


class ImageError(DataError):
    """One image cannot be read or does not suit the detector; the others go on."""


class ArtifactError(UnlikeError, ValueError):
    """A detector on disk is incomplete, altered, or from a newer version."""


class ExportError(UnlikeError, ValueError):
    """A detector cannot be written down as a graph, or the graph does not say what the detector says."""


class OutputError(UnlikeError, OSError):
    """A result cannot be written where it was asked for."""


class ServiceError(UnlikeError, RuntimeError):
    """A service refused what it was asked for, or cannot be reached.

    `status` is its answer (0 where there was none) and `detail` its own words, `passing` says that the same may be taken later,
    `wait_seconds` when.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        passing: bool = False,
        wait_seconds: float | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.status, self.passing, self.wait_seconds, self.detail = status, passing, wait_seconds, detail or message


class NotFittedError(UnlikeError, AttributeError):
    """The detector has not been fitted yet."""


def unknown(what: str, name: str, known: Iterable[str]) -> ConfigError:
    """Say that `name` is not a known `what`, and which known name was probably meant.

    >>> str(unknown("model", "conv_vae", ["conv", "fcn"]))
    "unknown model 'conv_vae'; did you mean 'conv'? known: conv, fcn"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}? known: " if close else "; known: "
    return ConfigError(f"unknown {what} {name!r}{hint}{', '.join(names)}")


def unknown_setting(section: str, name: str, known: Iterable[str]) -> UnknownSettingError:
    """Say that a section has no setting `name`, and which was probably meant.

    >>> str(unknown_setting("model", "width", ["widths", "bottleneck"]))
    "unknown setting 'model.width'; did you mean 'model.widths'? known: model.bottleneck, model.widths"
    """
    words = unknown("setting", f"{section}.{name}", [f"{section}.{one}" for one in known])
    return UnknownSettingError(str(words), section, name)


def none_usable(which: str, use: str, unreadable: Sequence[object]) -> DataError:
    """Say that none of some images can be read, scored, ..., and why: the first image of each of three reasons.

    >>> str(none_usable("good/: no image", "read", ["a.png is empty", "b.png is empty"]))
    'good/: no image of 2 can be read: a.png is empty; b.png is empty'
    """
    first: dict[str, str] = {}  # by reason, of which many images may have the same
    for item in unreadable:
        first.setdefault(getattr(item, "reason", str(item)), str(item))
    reasons = "; ".join(list(first.values())[:3])
    return DataError(f"{which} of {len(unreadable):,} can be {use}: {reasons}")
