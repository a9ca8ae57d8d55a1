"""Scores in shards: Parquet files of some images each, every one whole or absent, under names that depend on nothing but order."""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unlike.artifacts import CHECKSUMS, Kind, find_folder, output_errors, write_file
from unlike.calibration.rows import SCORED, cells
from unlike.config import need_package
from unlike.data.batches import digest
from unlike.data.source import Source
from unlike.errors import ImageError, OutputError
from unlike.records import Unreadable

PLAN = "_plan.json"  # readers of folders of Parquet files pass over names that begin so
REASON = "reason"  # why an image could not be read; null where it was scored
COLUMNS = (*SCORED, REASON)
ABOUT = b"unlike"  # the key of what a shard says of itself
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """Which images are scored by which detector, so that one who goes on does the same."""

    detector: str  # SHA-256 of the checksums of its files
    images: str  # BLAKE2 of the ids and paths of all images, and of the pixels of the first and the last
    count: int
    shard: int  # images in each, but for the last
    format: int = FORMAT

    @property
    def shards(self) -> int:
        """How many there are.

        >>> Plan("", "", count=10, shard=4).shards
        3
        """
        return -(-self.count // self.shard)

    def name(self, number: int) -> str:
        """What the file of a shard is called.

        >>> Plan("", "", count=10, shard=4).name(2)
        'part-00002-of-00003.parquet'
        """
        return f"part-{number:05}-of-{self.shards:05}.parquet"

    def rows(self, number: int) -> range:
        """The positions of a shard's images."""
        return range(number * self.shard, min((number + 1) * self.shard, self.count))


@dataclass(frozen=True, slots=True)
class About:
    """What a shard says of itself, so that nobody need read its rows again."""

    images: int  # that were scored
    anomalous: int  # of these
    unreadable: tuple[Unreadable, ...] = ()
    clipped: tuple[str, ...] = ()  # ids of images with values beyond white
    known: tuple[str, ...] = ()  # ids of images that the detector was fitted on


def make_plan(detector: Path, kind: Kind, source: Source, shard: int) -> Plan:
    """The plan of a source in shards of so many images."""
    sums = (find_folder(detector, kind) / CHECKSUMS).read_bytes()
    return Plan(hashlib.sha256(sums).hexdigest(), _fingerprint(source), len(source), shard)


def open_shards(folder: Path, plan: Plan) -> set[int]:
    """Which shards are in a folder already; a folder of another plan is refused, and an empty or new one gets this plan."""
    path = folder / PLAN
    if not path.exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise OutputError(
                f"{folder}: is there already and holds no scores in shards; choose another folder with -o"
            )
        write_file(path, json.dumps(asdict(plan), indent=1).encode())
        return set()
    if differing := _differences(path, plan):
        raise OutputError(
            f"{folder}: holds scores of {' and '.join(differing)}; choose another folder with -o, or delete this one"
        )
    return {number for number in range(plan.shards) if (folder / plan.name(number)).is_file()}


def pack_shard(rows: Sequence[Mapping[str, Any]], about: About) -> bytes:
    """A shard as a Parquet file: its rows under `COLUMNS`, and what it says of itself."""
    arrow, parquet = need_parquet()
    kinds = (arrow.string(), *[arrow.float64()] * 3, arrow.bool_(), arrow.string())
    schema = arrow.schema(zip(COLUMNS, kinds, strict=True), metadata={ABOUT: json.dumps(asdict(about))})
    columns = [[_cell(row.get(name)) for row in rows] for name in COLUMNS]
    table = arrow.table([arrow.array(column, kind) for column, kind in zip(columns, kinds, strict=True)], schema=schema)
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def read_about(path: Path) -> About:
    """What a shard says of itself; an OutputError where it is none."""
    parquet = need_parquet()[1]
    try:
        facts = json.loads(parquet.read_schema(path).metadata[ABOUT])
        lost = tuple(Unreadable(**item) for item in facts.pop("unreadable"))
        return About(unreadable=lost, **{name: _frozen(value) for name, value in facts.items()})
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise OutputError(
            f"{path}: is no shard of scores, or damaged ({reason}); delete it, and run the same again"
        ) from None


def join_shards(paths: Iterable[Path], output: Path) -> None:
    """All shards as one file, in their order: Parquet, or CSV as `unlike score` writes it, without what could not be read."""
    fresh = output.with_name(f".{output.name}.new")
    with output_errors(output):
        try:
            write = _join_parquet if output.suffix.lower() == ".parquet" else _join_csv
            write(paths, fresh)
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
            fresh.replace(output)
        finally:
            fresh.unlink(missing_ok=True)


def need_parquet() -> tuple[Any, Any]:
    """The package pyarrow and its Parquet, or a ConfigError that says how to get them."""
    need_package("pyarrow", "scale", "Parquet files need pyarrow")
    return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")


def _join_parquet(paths: Iterable[Path], fresh: Path) -> None:
    parquet = need_parquet()[1]
    writer = None
    try:
        for path in paths:
            table = parquet.read_table(path).replace_schema_metadata()
            writer = writer or parquet.ParquetWriter(fresh, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _join_csv(paths: Iterable[Path], fresh: Path) -> None:
    with fresh.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SCORED)
        for row in _rows_of(paths):
            if row.pop(REASON) is None:
                writer.writerow(cells(row))


def _rows_of(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    parquet = need_parquet()[1]
    for path in paths:
        yield from parquet.read_table(path).to_pylist()


def _fingerprint(source: Source) -> str:
    """Of which images there are: two folders, or an array before and after it changed, differ."""
    sums = hashlib.blake2b(digest_size=16)
    for sample in source.samples:
        sums.update(
            f"{sample.id}\0{'' if sample.path is None else sample.path.absolute()}\0".encode(errors="surrogateescape")
        )
    for position in {0, len(source) - 1}:
        try:
            sums.update(f"{digest(source.read(source.samples[position]))}".encode())
        except ImageError as error:
            sums.update(f"{error}".encode())
    return sums.hexdigest()


def _differences(path: Path, plan: Plan) -> list[str]:
    """In words, how the plan in a folder differs from this one."""
    try:
        kept = Plan(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return ["another version of unlike"]
    told = {
        "detector": "another detector",
        "images": "other images",
        "shard": f"{kept.shard:,} images a shard (--shard)",
    }
    return [words for name, words in told.items() if getattr(kept, name) != getattr(plan, name)]


def _cell(value: Any) -> Any:
    r"""A value as Parquet holds it: letters of a name that are no UTF-8 as \\x and their number."""
    if not isinstance(value, str):
        return value
    return value.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
