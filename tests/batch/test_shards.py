"""Scores in shards: the same as in a table, whole or absent, and never computed twice."""

import csv
import io
import json
import pickle
from dataclasses import asdict
from importlib import util

import numpy as np
import pytest

from conftest import scratched, stripes, write_png
from unlike import Detector, batch
from unlike.artifacts import DETECTOR
from unlike.batch import run as batch_run
from unlike.batch.on_ray import _pack
from unlike.batch.shards import About, Plan, make_plan, pack_shard, read_about
from unlike.cli import run
from unlike.data.source import open_source
from unlike.errors import ConfigError, DataError, OutputError
from unlike.records import Unreadable

parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'unlike[scale]'")


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    """A detector, and 20 normal and 5 scratched images of which one is broken."""
    root = tmp_path_factory.mktemp("stand")
    settings = {"model": {"widths": [8, 8]}}
    Detector(model="conv", size=32, epochs=2, settings=settings, cache=False).fit(stripes(40)).save(root / "d")
    for number, image in enumerate(stripes(20, seed=3)):
        write_png(root / f"new/a/{number:02}.png", image)
    for number, image in enumerate(scratched(stripes(5, seed=4))[0]):
        write_png(root / f"new/b/{number:02}.png", image)
    (root / "new/b/03.png").write_bytes(b"")
    return root


def score(stand, *more):
    return run(["score", str(stand / "d"), str(stand / "new"), *map(str, more)])


def test_parquet_has_the_rows_of_csv_and_one_for_what_is_broken(stand, tmp_path, capsys):
    assert score(stand, "-o", tmp_path / "x.csv") == 1
    told = capsys.readouterr().err
    assert score(stand, "-o", tmp_path / "x.parquet", "--shard", 7) == 1
    assert capsys.readouterr().err == told.replace("x.csv", "x.parquet")
    rows = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    kept = list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
    good = [row for row in rows if row["reason"] is None]
    assert [row["id"] for row in good] == [row["id"] for row in kept]
    np.testing.assert_allclose([row["score"] for row in good], [float(row["score"]) for row in kept], rtol=1e-6)
    assert [int(row["anomalous"]) for row in good] == [int(row["anomalous"]) for row in kept]
    assert [(row["id"], row["score"], row["reason"]) for row in rows if row["reason"]] == [
        ("b/03.png", None, "is empty (0 bytes)")
    ]
    assert [row["id"] for row in rows] == [sample.id for sample in open_source(stand / "new").samples]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.parquet"]  # nothing is left beside them


def test_shards_that_are_there_are_not_scored_again(stand, tmp_path):
    engine, seen = batch.Engine(shard=10), []
    first = batch.score(stand / "d", stand / "new", tmp_path / "out", engine)
    assert (first.shards, first.found, first.images, len(first.unreadable)) == (3, 0, 24, 1)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert sorted(whole) == ["_plan.json", *(f"part-0000{number}-of-00003.parquet" for number in range(3))]
    (tmp_path / "out" / "part-00001-of-00003.parquet").unlink()
    again = batch.score(
        stand / "d", stand / "new", tmp_path / "out", engine, notify=lambda done, total: seen.append((done, total))
    )
    assert (again.found, again.images, again.anomalous, again.unreadable) == (2, 24, first.anomalous, first.unreadable)
    assert seen == [(15, 25), (25, 25)]
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == whole
    assert parquet.read_table(tmp_path / "out").num_rows == 25  # readers of folders pass over the plan


def test_a_folder_of_something_else_is_refused(stand, tmp_path):
    batch.score(stand / "d", stand / "new", tmp_path / "out", batch.Engine(shard=10))
    with pytest.raises(
        OutputError, match="holds scores of other images; choose another folder with -o, or delete this"
    ):
        batch.score(stand / "d", stand / "new/a", tmp_path / "out", batch.Engine(shard=10))
    with pytest.raises(OutputError, match=r"holds scores of 10 images a shard \(--shard\)"):
        batch.score(stand / "d", stand / "new", tmp_path / "out", batch.Engine(shard=11))
    Detector(model="conv", size=32, epochs=1, cache=False).fit(stripes(40)).save(tmp_path / "other")
    with pytest.raises(OutputError, match="holds scores of another detector;"):
        batch.score(tmp_path / "other", stand / "new", tmp_path / "out", batch.Engine(shard=10))
    (tmp_path / "out/_plan.json").write_text("{}")
    with pytest.raises(OutputError, match="holds scores of another version of unlike"):
        batch.score(stand / "d", stand / "new", tmp_path / "out", batch.Engine(shard=10))
    with pytest.raises(OutputError, match="is there already and holds no scores in shards"):
        batch.score(stand / "d", stand / "new", stand / "new")
    (tmp_path / "part.parquet").write_bytes(b"half")
    with pytest.raises(OutputError, match=r"part.parquet: is no shard of scores, or damaged"):
        read_about(tmp_path / "part.parquet")


def test_an_array_that_changed_is_another_one(stand, tmp_path):
    images = stripes(6, seed=8)
    np.save(tmp_path / "x.npy", images)
    plan = make_plan(stand / "d", DETECTOR, open_source(tmp_path / "x.npy"), 4)
    assert plan == make_plan(stand / "d", DETECTOR, open_source(tmp_path / "x.npy"), 4)
    images[-1] += 1
    np.save(tmp_path / "x.npy", images)
    assert make_plan(stand / "d", DETECTOR, open_source(tmp_path / "x.npy"), 4).images != plan.images


def test_nothing_that_can_be_scored_is_an_error(stand, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no image of 1 can be scored: a.png is empty"):
        batch.score(stand / "d", tmp_path / "a.png", tmp_path / "out")


def test_names_that_are_no_unicode_are_written_so_that_they_can_be_told():
    content = pack_shard([{"id": "a\udcff.png", "score": 1.0}], About(1, 0, (Unreadable("b\udcff", "is no image"),)))
    assert parquet.read_table(io.BytesIO(content))["id"].to_pylist() == ["a\\xff.png"]


def test_what_travels_is_paths_or_the_rows_that_are_asked_for(tmp_path):
    images = stripes(50)
    np.save(tmp_path / "x.npy", images)
    plan = Plan("", "", 50, 10)
    mapped, held = (len(_pack(open_source(images), plan, 2)) for images in (tmp_path / "x.npy", images))
    assert mapped < 2_000 < held < images[:11].nbytes
    for source in (open_source(tmp_path / "x.npy"), open_source(images)):
        part = pickle.loads(pickle.dumps(source.take(np.arange(20, 30))))
        assert [sample.id for sample in part.samples] == [str(row) for row in range(20, 30)]
        np.testing.assert_array_equal(part.read(part.samples[3]), images[23])


class Unpicklable:
    name = "a camera"

    def take(self, positions):
        return lambda: positions


def test_a_source_that_cannot_travel_is_named():
    with pytest.raises(ConfigError, match="a camera: cannot be sent to another process"):
        _pack(Unpicklable(), Plan("", "", 1, 1), 0)


def test_a_killed_csv_goes_on_where_it_was(stand, tmp_path, capsys):
    assert score(stand, "-o", tmp_path / "whole.csv") == 1
    assert score(stand, "-o", tmp_path / "x.csv") == 1
    whole = (tmp_path / "whole.csv").read_bytes()
    marker = tmp_path / ".x.csv.unfinished"
    plan = make_plan(stand / "d", DETECTOR, open_source(stand / "new"), 1)
    marker.write_text(json.dumps(asdict(plan)))
    (tmp_path / "x.csv").write_bytes(whole[: len(whole) // 2])  # in the middle of a row
    capsys.readouterr()
    assert score(stand, "-o", tmp_path / "x.csv", "--resume") == 1
    assert (tmp_path / "x.csv").read_bytes() == whole
    told = capsys.readouterr().err
    assert "images scored before, and not again" in told
    assert " of 24 images anomalous" in told
    assert not marker.exists()
    assert score(stand, "-o", tmp_path / "x.csv", "--resume") == 1
    assert "Nothing to resume: scoring from the start." in capsys.readouterr().err
    marker.write_text("{}")
    assert score(stand, "-o", tmp_path / "x.csv", "--resume") == 2
    assert "x.csv: is of another detector or other images; leave --resume out to begin anew" in capsys.readouterr().err


def test_a_csv_is_written_where_nothing_can_be_written_beside_it(stand, tmp_path, capsys):
    """A folder has the name here; a folder that is not ours, with a file that is, is the same to us."""
    (tmp_path / ".x.csv.unfinished" / "kept").mkdir(parents=True)
    assert score(stand, "-o", tmp_path / "x.csv") == 1
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 25
    assert "x.csv: --resume could not go on after a kill, for no other file" in capsys.readouterr().err


def test_a_killed_parquet_goes_on_where_it_was(stand, tmp_path, capsys, monkeypatch):
    scored = []

    def interrupted(detector, source):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(len(source))
        return batch_run_score(detector, source)

    batch_run_score = batch_run.score_shard
    monkeypatch.setattr(batch_run, "score_shard", interrupted)
    engine = batch.Engine(shard=10)
    with pytest.raises(KeyboardInterrupt):
        batch.score(stand / "d", stand / "new", tmp_path / "x.parquet", engine)
    assert not (tmp_path / "x.parquet").exists()
    monkeypatch.setattr(batch_run, "score_shard", batch_run_score)
    assert score(stand, "-o", tmp_path / "x.parquet", "--resume", "--shard", 10) == 1
    assert "2 shards of 3 scored before, and not again." in capsys.readouterr().err
    assert parquet.read_table(tmp_path / "x.parquet").num_rows == 25


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["-o", "x.parquet", "--fdr", "0.1", "--explain"], "--fdr, --explain: take all images in one process"),
        (["--on", "ray"], "--on ray writes files: expected -o DIR, or -o FILE.parquet or FILE.csv, came none"),
        (["--shard", "5"], "--shard: goes with --on ray, a .parquet file or a folder that is there"),
        (["--resume"], "--resume: goes with -o FILE.csv, FILE.parquet or a folder, came -o None"),
        (["-o", "x.parquet", "--shard", "0"], "shard: expected 1 to 100000, came 0"),
        (["-o", "x.parquet", "--on", "ray", "--workers", "0"], "workers: expected 1 to 100000, came 0"),
    ],
)
def test_what_does_not_go_together_is_said(stand, tmp_path, monkeypatch, capsys, more, said):
    monkeypatch.chdir(tmp_path)
    assert score(stand, *more) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_engine_that_is_not_known_is_named():
    with pytest.raises(ConfigError, match="unknown engine 'spark'; known: here, ray"):
        batch.Engine("spark")


def test_without_pyarrow_it_is_said_what_to_install(stand, tmp_path, monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"Parquet files need pyarrow, which is not installed: pip install 'unlike\[scale\]'"
    ):
        batch.score(stand / "d", stand / "new", tmp_path / "x.parquet")
