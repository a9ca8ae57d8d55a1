"""Images that lie in a store of objects or behind a web server, fetched by fsspec: `s3://`, `gs://`, `az://`, `https://`.

A path holds such an address as `s3:/bucket/key`, for paths have no double slash; everything that takes a path takes it.
"""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlike.config import need_package
from unlike.errors import DataError, ImageError

DRIVERS = {  # by scheme, what fsspec needs for it
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
}
ATTEMPTS, PAUSE_SECONDS = 3, 0.5  # to fetch an image, before it counts as broken
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError)  # which no second attempt changes


def url_of(path: Path | str) -> str:
    """The address that a path or a text stands for; empty where it is of a file on disk.

    >>> url_of(Path("s3://bucket/a/b.png")), url_of("https://host/a.png"), url_of("C:/a.png"), url_of("a/b.png")
    ('s3://bucket/a/b.png', 'https://host/a.png', '', '')
    """
    scheme, colon, rest = (path if isinstance(path, str) else path.as_posix()).partition(":/")
    return f"{scheme}://{rest.lstrip('/')}" if colon and scheme in DRIVERS else ""


def fetch(url: str) -> bytes:
    """The content at an address; an ImageError says why there is none."""
    for attempt in range(ATTEMPTS):
        try:
            return bytes(open_store(url).cat_file(url))
        except FINAL as error:
            raise ImageError(f"cannot be fetched ({_reason(error)})") from None
        except Exception as error:  # noqa: BLE001 - of the many errors of many stores, none says alone that it will last
            if attempt == ATTEMPTS - 1:
                raise ImageError(f"cannot be fetched in {ATTEMPTS} attempts ({_reason(error)})") from None
            time.sleep(PAUSE_SECONDS * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def state_of(url: str) -> str:
    """Another text whenever the content at an address may be another; an OSError where there is none."""
    store = open_store(url)
    try:
        return str(store.ukey(url))
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - which of many a store raises
        raise OSError(_reason(error)) from None


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies at an address."""

    files: list[Path]  # each a path that stands for an address
    single: bool  # the address is of one file


def find_remote(url: str) -> Listing:
    """All files at an address: those below a folder, those that match a pattern, or the one; a DataError says why none."""
    import glob as globbing

    store = open_store(url)
    try:
        if globbing.has_magic(url):
            found, single = store.glob(url), False
        else:
            single = bool(store.isfile(url))
            found = [url] if single else store.find(url)
    except Exception as error:  # noqa: BLE001 - of the many errors of many stores
        raise DataError(f"{url}: cannot be listed ({_reason(error)}); {_way_out(url)}") from None
    if not found:
        raise DataError(f"{url}: no such bucket or folder, or nothing in it; {_way_out(url)}")
    return Listing([Path(_whole(url, str(name))) for name in sorted(found)], single)


def open_store(url: str) -> Any:
    """The file system of fsspec that fetches from an address; a ConfigError says what is not installed."""
    scheme = url.partition(":")[0]
    need_package("fsspec", "scale", f"{scheme}:// takes fsspec")
    need_package(DRIVERS[scheme], "scale", f"{scheme}:// takes {DRIVERS[scheme]}")
    fsspec = importlib.import_module("fsspec")
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False)
    except Exception as error:  # noqa: BLE001 - of an account or a region that is not named
        raise DataError(f"{url}: cannot be opened ({_reason(error)}); {_way_out(url)}") from None


def _whole(url: str, name: str) -> str:
    """The address of a file that a store names with or without the scheme."""
    scheme = url.partition(":")[0]
    return name if "://" in name else f"{scheme}://{name.lstrip('/')}"


def _way_out(url: str) -> str:
    names = {
        "s3": "AWS_PROFILE, AWS_ENDPOINT_URL",
        "az": "AZURE_STORAGE_ACCOUNT_NAME",
        "abfs": "AZURE_STORAGE_ACCOUNT_NAME",
    }
    named = names.get(url.partition(":")[0])
    told = f", or what fsspec reads of the environment ({named})" if named else ""
    return f"check its name and that it may be read{told}"


def _reason(error: BaseException) -> str:
    """What a store says, in a line."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if isinstance(error, OSError) else f"{type(error).__name__}: {words}"
