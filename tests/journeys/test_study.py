"""Studies by the command line."""

from __future__ import annotations

import csv
import sys

import pytest

from unlike.cli import run

PLAN = """
title = "A small study"
seeds = 2
[data]
root = "stripes"
[settings]
size = 16
training.epochs = 1
false_alarms = 0.2
[vary]
model = ["pixels", "fcn"]
scorer = ["kmeans", "residual"]
"""


@pytest.fixture
def plan(mvtec):
    path = mvtec.parent / "plan.toml"
    path.write_text(PLAN)
    return path


def table(folder):
    with (folder / "results.csv").open() as file:
        return [
            {name: value for name, value in row.items() if name not in ("cpu_seconds", "peak_megabytes")}
            for row in csv.DictReader(file)
        ]


def test_a_study_with_cells_that_cannot_be(plan, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(["study", str(plan), "-o", str(out)]) == 1
    said = capsys.readouterr()
    assert "A small study: 4 cells, 1 data set, 2 seeds, 8 runs." in said.err
    assert (
        "pixels, residual; stripes, seed 0: failed: scorer 'residual' needs a model that rebuilds its target"
        in said.err
    )
    assert "2 runs failed; --retry runs them again:" in said.err
    assert f"report: {out / 'report.html'}" in said.err
    assert [line.split()[-3:] for line in said.out.splitlines()] == [
        ["image.auroc", "pixels,", "kmeans"],
        ["image.auroc", "fcn,", "kmeans"],
        ["image.auroc", "fcn,", "residual"],
    ]
    rows = table(out)
    assert [row["state"] for row in rows] == ["done"] * 2 + ["failed"] * 2 + ["done"] * 4
    assert rows[0]["pixel.aupro"]
    assert "2 runs failed" in (out / "report.html").read_text()
    before = (out / "results.csv").read_bytes()
    assert run(["study", str(plan), "-o", str(out)]) == 1
    assert (out / "results.csv").read_bytes() == before
    assert "of 8" not in capsys.readouterr().err  # nothing was run


def test_two_workers_find_the_same_as_one(plan, tmp_path, capsys):
    parts = ["study", str(plan), "--seeds", "1", "-o"]
    assert run([*parts, str(tmp_path / "two"), "--workers", "2"]) == 1
    assert capsys.readouterr().err.count(" of 4  ") == 4
    assert run([*parts, str(tmp_path / "one")]) == 1
    assert table(tmp_path / "two") == table(tmp_path / "one")
    assert len(table(tmp_path / "one")) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "nosuch", "-o", "o"], "unknown recipe 'nosuch'"),
        (["study", "no.toml", "-o", "o"], "no.toml: cannot be opened (No such file or directory)"),
        (["study", "{p}", "-o", "o", "--set", "training.epoch=2"], "unknown setting 'training.epoch'; did you mean"),
        (["study", "{p}", "-o", "o", "--seeds", "400"], "this plan has 1,600 runs (4 cells, 1 data sets, 400 seeds)"),
        (["study", "{p}", "-o", "o", "--track", "mlfow"], "unknown tracker 'mlfow'"),
        (
            ["study", "{p}", "-o", "o", "--storage", "sqlite:////nowhere/x.db"],
            "this database cannot be reached or written",
        ),
        (["study", "{p}", "-o", "/proc/o"], "/proc/o/study.toml: cannot be written"),
        (["study", "{p}", "-o", "o", "--workers", "0"], "workers: expected 1 to 1000, came 0"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(plan, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run([part.format(p=plan) for part in arguments]) == 2
    said = [line for line in capsys.readouterr().err.strip().splitlines() if line.startswith("unlike:")]
    assert len(said) == 1
    assert message in said[0]


def test_a_folder_of_another_plan(plan, tmp_path, capsys):
    assert run(["study", "equilibrium", "-o", str(tmp_path / "o"), "--seeds", "1"]) == 0
    assert run(["study", str(plan), "-o", str(tmp_path / "o")]) == 2
    assert "holds another study, 'Equilibrium k-means', whose plan differs" in capsys.readouterr().err


def test_recipes_are_listed_and_the_command_has_an_example(capsys):
    assert run(["list", "recipes"]) == 0
    assert "joint-or-separate" in capsys.readouterr().out
    assert run(["study", "--help"]) == 0
    assert "Example: unlike study" in capsys.readouterr().out


def test_a_recipe_on_ones_own_images(mvtec, tmp_path, capsys):
    parts = ["--data", str(mvtec), "--seeds", "1", "--set", "training.epochs=1", "-o", str(tmp_path / "o")]
    assert run(["study", "learning-rates", *parts]) == 0
    rows = table(tmp_path / "o")
    assert [row["training.learning_rate"] for row in rows] == ["0.0001", "0.0005", "0.001"]
    assert {row["data"] for row in rows} == {"stripes"}
    assert "Small size" in (tmp_path / "o/report.html").read_text()
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_ctrl_c_says_how_to_go_on(plan, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("unlike.study.run.run_one", interrupted)
    assert run(["study", str(plan), "-o", str(tmp_path / "o")]) == 130
    assert "The same command goes on from here." in capsys.readouterr().err


def test_without_optuna_a_study_says_so_at_once(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert run(["study", "no-such-recipe", "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.strip() == (
        "unlike: studies need Optuna, which is not installed: pip install 'unlike[study]'"
    )


def test_help_of_study_names_its_extra(capsys):
    assert run(["study", "--help"]) == 0
    assert "pip install 'unlike[study]'" in capsys.readouterr().out
