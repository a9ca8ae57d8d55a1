"""All that a service knows as one zip: the history as it is at one moment, the detectors, and the images that are kept."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import make_url

from unlike._version import __version__
from unlike.artifacts import output_errors
from unlike.errors import ConfigError
from unlike.serving.database.engine import FILE, back_up, make_engine

CONTENTS = "backup.json"  # what is in it, for who finds one
IMAGES = "images"  # where a service looks for them that is told nothing else
PACKED = (".jpg", ".jpeg", ".png", ".webp", ".npz", ".jp2", ".zip")  # which do not get smaller


def write_backup(url: str, folder: Path, images: Path | None, target: Path) -> list[str]:
    """Write a zip that `unzip` turns into the folder of a service again; sentences on what is in it, and what is not.

    It may be written while the service runs: the history is copied first and at one moment, so every detector and image that
    it tells of is there. Whole or absent: written beside, then renamed. Of PostgreSQL the history is not in it.
    """
    if target.is_dir():
        raise ConfigError(f"{target}: is a folder; expected a file to write, such as {target / 'unlike.zip'}")
    sqlite = make_url(url).get_backend_name() == "sqlite"
    with output_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.unfinished")
        try:
            count, gone = _write(fresh, url if sqlite else "", folder, images, target)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)
    told = [f"Backup: {target}, {count:,} files, {target.stat().st_size / 1e6:,.0f} MB."]
    if not sqlite:
        told.append(
            "The history is in PostgreSQL and not in this file: `pg_dump --format=custom` makes that part; run it first, so that "
            "every detector and image that it tells of is in this one."
        )
    if gone:
        told.append(f"{gone:,} files were removed while it was written, and are not in it.")
    return told


def _write(fresh: Path, url: str, folder: Path, images: Path | None, target: Path) -> tuple[int, int]:
    """How many files were written, and how many were gone when it was their turn."""
    count = gone = 0
    with fresh.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            if url:
                _add_history(archive, url, fresh.parent)
                count += 1
            for path, name in _files(folder, images, target):
                try:
                    _add(archive, path, name)
                    count += 1
                except FileNotFoundError:
                    gone += 1
            facts = {"unlike": __version__, "at": datetime.now(UTC).isoformat(), "history": bool(url), "files": count}
            archive.writestr(CONTENTS, json.dumps(facts))
        file.flush()
        os.fsync(file.fileno())
    return count, gone


def _add_history(archive: zipfile.ZipFile, url: str, place: Path) -> None:
    engine = make_engine(url)
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".backup-") as made:
            copy = Path(made, FILE)
            back_up(engine, copy)
            _add(archive, copy, FILE)
    finally:
        engine.dispose()


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    with path.open("rb") as source:
        entry = zipfile.ZipInfo(name, date_time=_time_of(path))
        entry.external_attr = 0o644 << 16
        entry.compress_type = zipfile.ZIP_STORED if path.suffix.lower() in PACKED else zipfile.ZIP_DEFLATED
        with archive.open(entry, "w", force_zip64=True) as written:
            while chunk := source.read(1 << 20):
                written.write(chunk)


def _time_of(path: Path) -> tuple[int, int, int, int, int, int]:
    found = datetime.fromtimestamp(max(path.stat().st_mtime, 315_619_200.0), UTC)  # zip knows no year before 1980
    return found.year, found.month, found.day, found.hour, found.minute, found.second


def _files(folder: Path, images: Path | None, target: Path) -> Iterator[tuple[Path, str]]:
    """Every file, and what it is called in the archive: none that is hidden, which is under way, and not the archive itself."""
    kept = None if images is None else images.absolute()
    for child in sorted(folder.iterdir()):
        if child.absolute() in (kept, target.absolute()) or child.name.startswith((".", FILE)):
            continue
        yield from _walk(child, child.name)
    if images is not None and images.is_dir():
        yield from _walk(images, IMAGES)


def _walk(start: Path, name: str) -> Iterator[tuple[Path, str]]:
    if start.is_file():
        yield start, name
        return
    for place, folders, names in os.walk(start):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for one in sorted(names):
            path = Path(place, one)
            with contextlib.suppress(OSError):
                if not one.startswith(".") and path.is_file():
                    yield path, f"{name}/{path.relative_to(start).as_posix()}"
