"""What the header of a `.npy` or `.npz` file says, without loading anything from it."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from typing import IO

import numpy as np

ZIP, PICKLE = b"PK", b"\x80"  # how files begin
DAMAGE = (ValueError, EOFError, OSError, NotImplementedError, zipfile.BadZipFile, zlib.error)  # what reading one raises
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}  # by version


def holds_objects(file: IO[bytes]) -> bool:
    """Whether an array in the file is of Python objects, which are pickled and could run code."""
    start = file.read(len(ZIP))
    file.seek(0)
    with contextlib.suppress(KeyError, *DAMAGE):  # no header, one of another version, or a damaged one
        if start != ZIP:
            return start.startswith(PICKLE) or _is_of_objects(file)
        with zipfile.ZipFile(file) as archive:
            return any(_is_of_objects(archive.open(name)) for name in archive.namelist())
    return False


def _is_of_objects(file: IO[bytes]) -> bool:
    _, _, kind = HEADERS[np.lib.format.read_magic(file)](file)
    return bool(kind.hasobject)
