"""What is on disk is whole or absent, and what was altered is refused."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from unlike import artifacts
from unlike.artifacts import CHECKSUMS, check_writable, output_errors, read_folder, write_file, write_folder
from unlike.errors import ArtifactError, OutputError

FILES = {"facts.toml": b"a = 1\n", "weights.bin": bytes(range(256)) * 50, "empty": b""}
OTHER = {"facts.toml": b"a = 2\n", "weights.bin": b"other", "empty": b"no longer"}
NAMES = tuple(FILES)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "cells.unlike", FILES)
    return tmp_path / "cells.unlike"


def test_what_was_written_is_read(folder, tmp_path):
    assert read_folder(folder, NAMES) == FILES
    assert read_folder(folder, ("empty",)) == {"empty": b""}
    assert sorted(path.name for path in folder.iterdir()) == sorted([*NAMES, CHECKSUMS])
    assert leftovers(tmp_path) == []


def test_parents_are_made_and_links_followed(tmp_path, monkeypatch):
    write_folder(tmp_path / "a/b/c", FILES)
    (tmp_path / "link").symlink_to(tmp_path / "a/b/c")
    write_folder(tmp_path / "link", OTHER)
    assert (tmp_path / "link").is_symlink()
    assert read_folder(tmp_path / "a/b/c", NAMES) == read_folder(tmp_path / "link", NAMES) == OTHER
    monkeypatch.chdir(tmp_path)
    write_folder(Path("d"), FILES)
    assert read_folder(Path("d"), NAMES) == FILES
    assert leftovers(tmp_path / "a/b") == leftovers(tmp_path) == []


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
def test_the_checksums_are_what_sha256sum_reads(folder):
    check = ["sha256sum", "--strict", "-c", CHECKSUMS]
    assert subprocess.run(check, cwd=folder, capture_output=True, check=False).returncode == 0
    (folder / "facts.toml").write_bytes(b"a = 9\n")
    assert subprocess.run(check, cwd=folder, capture_output=True, check=False).returncode == 1


def test_the_permissions_are_those_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        write_folder(tmp_path / "cells", FILES)
        write_file(tmp_path / "one.txt", b"1")
    finally:
        os.umask(before)
    modes = [
        path.stat().st_mode & 0o777 for path in (tmp_path / "cells", tmp_path / "cells/empty", tmp_path / "one.txt")
    ]
    assert modes == [0o750, 0o640, 0o640]


def test_an_older_folder_is_replaced_whole(folder, tmp_path):
    (folder / "stray.txt").write_text("of an older version")
    write_folder(folder, OTHER)
    assert read_folder(folder, NAMES) == OTHER
    assert not (folder / "stray.txt").exists()
    assert leftovers(tmp_path) == []


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "cells").mkdir()
    write_folder(tmp_path / "cells", FILES)
    assert read_folder(tmp_path / "cells", NAMES) == FILES


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_text("precious")
    with pytest.raises(OutputError, match=r"photos: is there already and is no detector; choose another name with -o"):
        write_folder(tmp_path / "photos", FILES)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.png"]
    assert leftovers(tmp_path) == []


class Killed(BaseException):
    """Stands for SIGKILL: nothing is cleaned up after it."""


def die_at(monkeypatch, step):
    """Stop at the given rename or write, and clean up nothing."""
    steps = []

    def stop_or(real):
        def counted(*args, **kwargs):
            steps.append(real)
            if len(steps) == step:
                monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
                raise Killed
            return real(*args, **kwargs)

        return counted

    monkeypatch.setattr(Path, "rename", stop_or(Path.rename))
    monkeypatch.setattr(artifacts, "_write_durably", stop_or(artifacts._write_durably))
    return steps


@pytest.mark.parametrize("step", range(1, 7))  # four files, two renames
def test_a_kill_leaves_the_old_folder_and_the_next_write_goes_on(folder, tmp_path, step):
    with pytest.MonkeyPatch.context() as patch:
        steps = die_at(patch, step)
        with pytest.raises(Killed):
            write_folder(folder, OTHER)
        assert len(steps) == step
    assert read_folder(folder, NAMES) == FILES
    assert read_folder(folder, ("empty",)) == {"empty": b""}  # reading changes nothing
    write_folder(folder, OTHER)
    assert read_folder(folder, NAMES) == OTHER
    shutil.rmtree(folder)
    with pytest.raises(ArtifactError, match="no detector here"):  # what was recovered once does not come back
        read_folder(folder, NAMES)


def test_no_kill_between_the_steps_is_left_out(folder, monkeypatch):
    steps = die_at(monkeypatch, 99)
    write_folder(folder, OTHER)
    assert len(steps) == 6


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


ALTERED = "{name} is not what was written (its checksum differs): it was altered or cut short; copy the detector again"
MISSING = "{name} is missing: this is no detector, or an incomplete copy of one"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("weights.bin", flip, ALTERED),
        ("weights.bin", lambda path: path.write_bytes(path.read_bytes()[:-1]), ALTERED),
        ("facts.toml", lambda path: path.write_bytes(b""), ALTERED),
        ("empty", lambda path: path.write_bytes(b"."), ALTERED),
        ("weights.bin", Path.unlink, MISSING),
        (CHECKSUMS, Path.unlink, MISSING),
        (
            CHECKSUMS,
            lambda path: path.write_bytes(b"\xff\xfe"),
            "{name} is not what was written; copy the detector again",
        ),
        (CHECKSUMS, lambda path: path.write_bytes(b""), ALTERED.format(name="facts.toml")),
    ],
)
def test_what_is_not_what_was_written_is_refused(folder, name, damage, message):
    damage(folder / name)
    with pytest.raises(ArtifactError) as caught:
        read_folder(folder, NAMES)
    assert str(caught.value) == f"{folder}: {message.format(name=name)}"


def test_what_is_no_folder_of_ours_is_refused(tmp_path, folder):
    for path in (tmp_path / "nothing", folder / "facts.toml"):
        with pytest.raises(ArtifactError) as caught:
            read_folder(path, NAMES)
        assert str(caught.value) == f"{path}: no detector here; `unlike fit IMAGES -o {path}` makes one"
    (folder / "facts.toml").unlink()
    (folder / "facts.toml").mkdir()
    with pytest.raises(ArtifactError, match=r"cells.unlike: cannot be read \(Is a directory\)"):
        read_folder(folder, NAMES)


def write_a_file(path):
    write_file(path, b"content")


def write_a_fast_file(path):
    write_file(path, b"content", durable=False)


def write_a_folder(path):
    write_folder(path, FILES)


WRITERS = [write_a_file, write_a_fast_file, write_a_folder, check_writable]


@pytest.mark.parametrize("write", WRITERS)
def test_a_place_where_nothing_can_be_written_is_named(tmp_path, write):
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "out"
    with pytest.raises(OutputError) as caught:
        write(path)
    assert str(caught.value).startswith(f"{path}: cannot be written (")
    assert str(caught.value).endswith("); choose another place, or make room")


def refuse(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("write", WRITERS[:3])
@pytest.mark.parametrize("old", [True, False])
def test_a_full_disk_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch, write, old):
    path = tmp_path / "out"
    if old:
        write(path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    monkeypatch.setattr("os.fsync", refuse)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OutputError) as caught:
        write(path)
    assert str(caught.value) == (
        f"{path}: cannot be written (No space left on device); choose another place, or make room"
    )
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_written_whole_over_an_older_one(tmp_path, durable):
    path = tmp_path / "deep/er/scores.csv"
    for content in (b"one", b"", bytes(10_000)):
        write_file(path, content, durable=durable)
        assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["scores.csv"]


def test_only_a_durable_file_waits_for_the_disk(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr("os.fsync", waited.append)
    write_file(tmp_path / "a", b"1", durable=False)
    assert waited == []
    write_file(tmp_path / "a", b"1")
    assert len(waited) == 1


def test_checking_a_place_leaves_nothing_in_it(tmp_path):
    check_writable(tmp_path / "new/out.csv")
    assert list((tmp_path / "new").iterdir()) == []


def test_only_what_the_system_refuses_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match=r"^first$"), output_errors(tmp_path):
        raise OutputError("first")
    with pytest.raises(OutputError, match=r"out: cannot be written \(odd\)"), output_errors(Path("out")):
        raise OSError("odd")
    with pytest.raises(ValueError, match="ours"), output_errors(tmp_path):
        raise ValueError("ours")


def test_the_sums_are_of_the_contents(folder):
    lines = (folder / CHECKSUMS).read_text().splitlines()
    assert lines == [f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in FILES.items()]


@pytest.mark.parametrize("starter", ["TORCHELASTIC_RUN_ID", artifacts.TRAINING_PROCESSES])
def test_first_process_is_the_one_that_writes(starter, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "TORCHELASTIC_RUN_ID", artifacts.TRAINING_PROCESSES):
        monkeypatch.delenv(name, raising=False)
    assert artifacts.is_first_process()
    monkeypatch.setenv("RANK", "1")
    assert artifacts.is_first_process(), "Ray has given it that rank, not a training of ours"
    monkeypatch.delenv("RANK")
    monkeypatch.setenv(starter, "2")
    assert artifacts.is_first_process()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not artifacts.is_first_process()
    monkeypatch.setenv("RANK", "0")
    assert artifacts.is_first_process()
