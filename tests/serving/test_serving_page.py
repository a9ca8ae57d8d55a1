"""docs/serving.md: its source and its sink run, with a camera and a PLC that are none; its connections are read."""

from __future__ import annotations

import importlib
import re
import sys
import threading
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from conftest import stripes
from exports import small_detector
from unlike import registry
from unlike.cli import run
from unlike.serving.connections import SinkChoice, open_sink, read_connections
from unlike.serving.sinks import Fate, Message

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text()


def blocks(kind: str) -> dict[str, str]:
    """The code blocks of a language that begin with the name of a file."""
    found = re.findall(rf"^```{kind}\n# (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return {name: f"# {name}\n{text}" for name, text in found}


class Camera:
    """Gives a few frames, then none."""

    def __init__(self):
        self.frames, self.calls = list(stripes(3)), []

    def try_fetch(self, timeout):
        if not self.frames:
            return None
        frame = self.frames.pop(0)
        component = SimpleNamespace(data=frame.reshape(-1), height=frame.shape[0], width=frame.shape[1])
        return Buffer(SimpleNamespace(components=[component]), 1000 - len(self.frames))

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append(name)


class Buffer(SimpleNamespace):
    def __init__(self, payload, timestamp):
        super().__init__(payload=payload, timestamp_ns=timestamp)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.payload.components[0].data = None  # the camera takes it back


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The page's package as `pip install` leaves it, with libraries that reach no device."""
    for name, text in {**blocks("python"), **blocks("toml")}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    info = tmp_path / "line_cameras-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {place}" for name, place in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    registry._find_plug_ins.cache_clear()
    yield tmp_path
    registry._find_plug_ins.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "line_cameras"]:
        del sys.modules[name]


def stand_in(monkeypatch, name, **members):
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name.split(".")[0], ModuleType(name.split(".")[0]))
    monkeypatch.setitem(sys.modules, name, module)


def test_the_frames_of_the_camera_are_scored(installed, monkeypatch, capsys):
    camera = Camera()

    class Harvester:
        def create(self, which):
            assert which == {"serial_number": "40012345"}
            return camera

        def __getattr__(self, name):
            return lambda *arguments: camera.calls.append((name, *arguments))

    stand_in(monkeypatch, "harvesters.core", Harvester=Harvester)
    small_detector().save(installed / "bottle.unlike")
    command = next(line for line in PAGE.splitlines() if line.startswith("unlike watch 40012345"))
    stopping = _stop_when(
        lambda: not camera.frames and (installed / "scores.csv").read_text().count("\n") == 4, monkeypatch
    )
    assert run(command.split()[1:]) == 0, capsys.readouterr().err
    stopping.join()
    rows = (installed / "scores.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["frame 998", "frame 999", "frame 1000"]
    expected = small_detector().score(stripes(3)).image
    assert np.allclose([float(row.split(",")[1]) for row in rows[1:]], expected, rtol=1e-5)
    assert camera.calls == [
        ("add_file", "/opt/vendor/lib/producer.cti"),
        ("update",),
        "start",
        "stop",
        "destroy",
        ("reset",),
    ]


def _stop_when(done, monkeypatch):
    """Have the watch end, as Ctrl-C has it, once that is so."""
    import contextlib

    from unlike.cli import watch

    stopping = threading.Event()
    monkeypatch.setattr(watch, "_stopped_by_signals", lambda: contextlib.nullcontext(stopping))

    def wait():
        for _ in range(2000):
            if done():
                break
            stopping.wait(0.01)
        stopping.set()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_the_plc_is_told(installed, monkeypatch):
    written, there = [], [False]

    class Client:
        def __init__(self, url):
            self.url = url

        def __enter__(self):
            if not there[0]:
                raise ConnectionError("refused")
            return self

        def __exit__(self, *error):
            pass

        def get_node(self, name):
            return SimpleNamespace(write_value=lambda value: written.append((self.url, name, value)))

    stand_in(monkeypatch, "asyncua.sync", Client=Client)
    sink = open_sink(SinkChoice("plc", "opcua", settings={"node": "ns=2;s=A"}))
    messages = [Message(1, {"anomalous": True}), Message(2, {"anomalous": False})]
    assert [(one.fate, one.error) for one in sink.send(messages)] == [(Fate.AWAY, "opc.tcp://plc:4840: refused")] * 2
    there[0] = True
    assert [one.fate for one in sink.send(messages)] == [Fate.SENT] * 2
    assert written == [("opc.tcp://plc:4840", "ns=2;s=A", True), ("opc.tcp://plc:4840", "ns=2;s=A", False)]
    sink.close()


def test_the_connections_of_the_page_are_read(installed):
    found = read_connections(installed / "connections.toml")
    assert [sink.name for sink in found.sinks] == ["mes", "mqtt"]
    assert found.sources[0].settings == {"move_to": "/data/done"}


def test_python_of_the_page_uses_what_there_is():
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        compile(block, "docs/serving.md", "exec")
        for module, names in re.findall(r"^from (unlike[\w.]*) import ([\w, ]+)", block, re.MULTILINE):
            for name in names.split(","):
                assert hasattr(importlib.import_module(module), name.strip())
