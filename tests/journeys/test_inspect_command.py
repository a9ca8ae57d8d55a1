"""`unlike inspect` as a person meets it, and what `fit` says of the same."""

import numpy as np
import pytest

from conftest import stripes, write_png
from unlike.cli import run


def test_a_page_of_text_and_one_with_pictures(mvtec, tmp_path, capsys):
    assert run(["inspect", str(mvtec), "--size", "64", "-o", str(tmp_path / "look.html")]) == 0
    said = capsys.readouterr()
    assert "fit would take 40 of 60 images" in said.out
    assert "The strangest normals" in said.out
    assert f"Page: {tmp_path / 'look.html'}" in said.err
    assert "The strangest normals" in (tmp_path / "look.html").read_text(encoding="utf-8")


def test_without_features_it_is_quick_and_a_folder_gets_the_page(mvtec, tmp_path, capsys):
    assert run(["inspect", str(mvtec), "--no-features", "-o", str(tmp_path / "out")]) == 0
    assert "The strangest normals" not in capsys.readouterr().out
    assert (tmp_path / "out/inspection.html").is_file()


def test_broken_files_are_named_and_the_exit_code_says_so(mvtec, capsys):
    (mvtec / "train/good/broken.png").write_bytes(b"")
    assert run(["inspect", str(mvtec), "--no-features"]) == 1
    assert "train/good/broken.png is empty (0 bytes)" in capsys.readouterr().out


def test_arrays_with_labels(tmp_path, capsys):
    np.save(tmp_path / "x.npy", stripes(10))
    np.save(tmp_path / "y.npy", np.array([0] * 8 + [1] * 2))
    labels = ["--labels", str(tmp_path / "y.npy")]
    assert run(["inspect", str(tmp_path / "x.npy"), *labels, "--no-features", "--preset", "textbook"]) == 0
    said = capsys.readouterr().out
    assert "fit would take 8 of 10 images: those labelled normal." in said
    assert "The detector would see 64 x 64 pixels of 3 channels." in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["{none}"], "no such file or folder"),
        (["{mvtec}", "--preset", "patchcor"], "patchcore"),
        (["{mvtec}", "--size", "big"], "--size: expected pixels a side"),
        (["{mvtec}", "-o", "{mvtec}/train/good/000.png/x.html"], "000.png"),
    ],
)
def test_wrong_use_is_one_line(arguments, expected, mvtec, tmp_path, capsys):
    filled = [part.format(mvtec=mvtec, none=tmp_path / "none") for part in arguments]
    assert run(["inspect", *filled]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1


def test_fit_says_what_few_and_large_images_cost_and_the_advice_works(tmp_path, capsys):
    wide = np.random.default_rng(0).integers(90, 110, (6, 32, 200), np.uint8)
    for number, image in enumerate(wide):
        write_png(tmp_path / f"wide/{number}.png", image)
    fit = ["fit", str(tmp_path / "wide"), "-o", str(tmp_path / "wide.unlike")]
    assert run([*fit, "--model", "pixels", "--size", "32"]) == 0
    said = capsys.readouterr().err
    assert "99 normal images that calibrate would hold 1 % if asked for, here are 6;" in said
    seen = "Images of 32 x 200 are seen at 32 x 32: what is less than about 25 of their pixels across will mostly be missed."
    assert seen in said
    assert "To see it: --set data.size=[32,64], a larger size; or in tiles," in said
    advice = "--size 32x200 --set data.tile=32"
    assert advice in said
    assert run([*fit, *advice.split(), "--set", "model.pretrained=false"]) == 0
    assert "less than" not in capsys.readouterr().err
    assert run([*fit, "--model", "pixels", "--set", "data.size=[32,64]"]) == 0
