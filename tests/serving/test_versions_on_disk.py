"""Detectors in a folder: what is taken in, which version is current, and what is run."""

from __future__ import annotations

import shutil

import pytest
from sqlalchemy import select

from exports import small_detector, small_export
from unlike.errors import ServiceError
from unlike.serving.catalogue import MOST_LOADED, Catalogue, check_detector_name, load_runner
from unlike.serving.database.engine import default_url, open_database
from unlike.serving.database.tables import Version


@pytest.fixture
def catalogue(tmp_path):
    small_detector().save(tmp_path / "cells.unlike")
    database = open_database(default_url(tmp_path))
    yield Catalogue(tmp_path, database)
    database.close()


def states(catalogue):
    with catalogue._database.readers() as session:
        return {one.number: one.state for one in session.scalars(select(Version))}


def test_a_folder_is_taken_in_once(catalogue):
    assert catalogue.take_in() == ["cells: version 1 is taken in from cells.unlike, current."]
    assert catalogue.take_in() == []
    known = catalogue.current("cells")
    assert (known.number, known.path) == (1, catalogue.folder / "cells.unlike")


def test_plain_folders_and_versions_are_found_and_others_are_not(catalogue):
    folder = catalogue.folder
    small_detector().save(folder / "plain")
    for number in (1, 3):
        small_detector().save(folder / "parts" / f"v000{number}")
    shutil.copytree(small_export(), folder / "parts" / "v0001.export")
    shutil.copytree(small_export(), folder / "graph")
    (folder / "images").mkdir()
    (folder / ".hidden").mkdir()
    small_detector().save(folder / "a;b.unlike")
    told = catalogue.take_in()
    assert sorted(told) == [
        "a;b.unlike is left aside: a detector's name is letters, digits, spaces, '.', '-' and '_'.",
        "cells: version 1 is taken in from cells.unlike, current.",
        "parts: version 1 is taken in from parts/v0001, current.",
        "parts: version 3 is taken in from parts/v0003, candidate.",
        "plain: version 1 is taken in from plain, current.",
    ]


def test_what_replaces_a_detector_in_its_folder_is_a_version_of_its_own(catalogue):
    catalogue.take_in()
    (catalogue.folder / "cells.unlike" / "checksums.sha256").write_text("of another fit")
    assert catalogue.take_in() == ["cells: version 2 is taken in from cells.unlike, current."]
    assert states(catalogue) == {1: "discarded", 2: "current"}
    with (
        catalogue.changing() as session,
        pytest.raises(ServiceError, match="cells has no version 1 that could be promoted"),
    ):
        catalogue.promote(session, "cells", 1)


def test_versions_are_added_promoted_and_remembered(catalogue):
    catalogue.take_in()
    with catalogue.changing() as session:
        number, path = catalogue.new_folder(session, "cells")
        small_detector().save(path)
        catalogue.add_version(session, "cells", number, path, made_by="ann", note="refit", figures={"auroc": 0.9})
    assert (number, path) == (2, catalogue.folder / "cells" / "v0002")
    assert catalogue.current("cells").number == 1
    with catalogue.changing() as session:
        catalogue.promote(session, "cells", 2)
    assert catalogue.current("cells").number == 2
    assert states(catalogue) == {1: "retired", 2: "current"}
    with catalogue.changing() as session:
        assert catalogue.new_folder(session, "cells")[0] == 3
        with pytest.raises(ServiceError, match="there is no detector 'none'; those here: cells"):
            catalogue.promote(session, "none", 1)


def test_a_change_that_fails_changes_nothing(catalogue):
    catalogue.take_in()

    def fail():
        with catalogue.changing() as session:
            _, path = catalogue.new_folder(session, "cells")
            small_detector().save(path)
            catalogue.add_version(session, "cells", 2, path)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert states(catalogue) == {1: "current"}
    with catalogue.changing() as session:  # what lies there is of nobody: it is not written over
        assert catalogue.new_folder(session, "cells")[0] == 3
    assert catalogue.take_in() == ["cells: version 2 is taken in from cells/v0002, candidate."]


def test_a_detector_in_a_plain_folder_has_its_versions_beside_it(catalogue):
    small_detector().save(catalogue.folder / "plain")
    catalogue.take_in()
    with catalogue.changing() as session:
        assert catalogue.new_folder(session, "plain")[1] == catalogue.folder / "plain.versions" / "v0002"


def test_an_export_beside_a_version_is_what_runs(catalogue):
    assert load_runner(catalogue.folder / "cells.unlike").runtime == "torch"
    shutil.copytree(small_export(), catalogue.folder / "cells.unlike.export")
    assert load_runner(catalogue.folder / "cells.unlike").runtime == "onnx"


def test_few_versions_stay_in_memory(catalogue, monkeypatch):
    catalogue.take_in()
    known, loaded = catalogue.current("cells"), []
    monkeypatch.setattr(Catalogue, "_load", lambda _, one: loaded.append(one.version_id))
    from dataclasses import replace

    for number in range(MOST_LOADED + 2):
        catalogue.runner(replace(known, version_id=number))
    assert len(catalogue._loaded) == MOST_LOADED
    assert loaded == list(range(MOST_LOADED + 2))


@pytest.mark.parametrize(
    "name", ["", ".hidden", "a/b", "../x", "images", "x.unlike", "x.export", "a\0b", "x" * 101, "-x", "x "]
)
def test_names_that_are_no_part_of_a_path_are_refused(name):
    with pytest.raises(ServiceError, match="cannot be the name of a detector; expected up to 100 letters"):
        check_detector_name(name)


def test_an_unknown_version_is_refused(catalogue):
    with pytest.raises(ServiceError, match="there is no such version of a detector"):
        catalogue.find(99)
    with pytest.raises(ServiceError, match="there is no detector 'x'; those here: none yet"):
        catalogue.current("x")
