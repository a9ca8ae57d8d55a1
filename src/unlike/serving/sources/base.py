"""What a source of images promises, and the images that it gives."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from unlike.errors import ImageError
from unlike.records import Pixels

LONGEST_ID = 200  # characters that a service takes


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """One image that has come: a file, or the pixels of a camera.

    >>> import numpy as np
    >>> Arrival("frame 7", "cam0:7", pixels=np.zeros((4, 4, 1), np.uint8)).content()[1:4]
    b'PNG'
    """

    name: str  # what it is called where it came from
    key: str  # the same whenever the same image is given again, after a restart too: so it counts once
    path: Path | None = None  # of a file
    pixels: Pixels | None = None  # (H, W, C) or (H, W), uint8 or uint16, of a camera
    stamp: tuple[int, int] | None = None  # of a file when it was given: bytes, and nanoseconds of its last change

    @property
    def unchanged(self) -> bool:
        """Whether a file is still what it was when it was given; one that is not is given again when it is whole."""
        if self.path is None or self.stamp is None:
            return True
        with contextlib.suppress(OSError):
            status = self.path.stat()
            return (status.st_size, status.st_mtime_ns) == self.stamp
        return False

    def content(self) -> bytes:
        """The image as a file holds it; an ImageError says why there is none."""
        if self.path is not None:
            try:
                return self.path.read_bytes()
            except OSError as error:
                raise ImageError(f"cannot be opened ({error.strerror})") from None
        return _encode(self.pixels)


def client_id(origin: str, key: str) -> str:
    """What an image is called to a service that counts each once: short, and without letters that a database may not hold.

    >>> client_id("line3", "a.png:3:1"), client_id("line3", "a" * 300)[:12]
    ('line3:a.png:3:1', 'line3:9835fa')
    """
    whole = f"{origin}:{key}"
    if len(whole) <= LONGEST_ID and whole.isprintable():
        return whole
    return f"{origin}:{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()}"


@runtime_checkable
class ImageSource(Protocol):
    """Gives images as they come, and is told of each what became of it.

    A class with these members, named by an entry point of the group `unlike.sources`, is known to `unlike watch --source`
    and to the service. `where` is what the user names: a folder, the serial number of a camera, an address. `say` takes a
    sentence for people, such as that the camera is gone.
    """

    Config: ClassVar[type[Any]]  # a frozen dataclass of its settings, each with a default

    def __init__(self, where: str, config: Any, say: Callable[[str], None]) -> None: ...

    def arrivals(self, stopping: threading.Event) -> Iterator[Sequence[Arrival]]:
        """Images as they come, a few at a time; ends soon after `stopping` is set, or where no more will come."""
        ...

    def done(self, taken: Sequence[Arrival]) -> None:
        """Their results are safe: never give them again."""
        ...

    def refused(self, arrival: Arrival, reason: str) -> float | None:
        """It cannot be used. Seconds until it is given again, where it may get better; else None, and it is given up."""
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


def _encode(pixels: Pixels | None) -> bytes:
    """As a PNG, which loses nothing."""
    import cv2

    if pixels is None or pixels.dtype not in ("uint8", "uint16") or pixels.ndim not in (2, 3):
        came = "none" if pixels is None else f"{pixels.dtype} of shape {pixels.shape}"
        raise ImageError(f"expected pixels (H, W) or (H, W, C) of uint8 or uint16, came {came}")
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels not in (1, 3, 4) or 0 in pixels.shape:
        raise ImageError(f"expected 1, 3 or 4 channels of at least one pixel, came shape {pixels.shape}")
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(channels)
    written, content = cv2.imencode(".png", pixels if order is None else cv2.cvtColor(pixels, order))
    assert written
    return content.tobytes()
