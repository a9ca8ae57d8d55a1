"""Pictures of the code space by the command line."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from conftest import digits, write_png
from unlike.cli import run

SMALL = ["--size", "16", "--epochs", "2", "--false-alarms", "0.1", "--device", "cpu"]
SKIPS = ["--set", "model.widths=[4]", "--set", "model.bottleneck=4", "--set", "model.skips=true"]
COMMANDS = ["project", "edit", "gallery", "histograms", "clusters"]


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    """Digits with labels (sixes and nines are anomalous), and three detectors, one of them without a decoder of images."""
    root = tmp_path_factory.mktemp("latent")
    images, names = digits(0, 220)
    np.save(root / "plain.npy", images[:120])
    np.save(root / "test.npy", images[120:])
    np.save(root / "y.npy", np.isin(names[120:], (6, 9)))
    np.save(root / "three.npy", images[:3])
    np.save(root / "same.npy", np.repeat(images[:1], 9, axis=0))
    write_png(root / "folder/a.png", images[0])
    (root / "folder/broken.png").write_bytes(b"")
    for number in range(8):
        write_png(root / f"folder/{number}.png", images[number])
    (root / "nothing").mkdir()
    (root / "nothing/broken.png").write_bytes(b"")
    models = {
        "conv": ["--model", "conv", "--set", "model.widths=[4, 8]", "--set", "model.bottleneck=6"],
        "fcn": ["--model", "fcn", "--set", "model.widths=[16, 5]"],
        "skips": ["--model", "residual-unet", "--epochs", "1", *SKIPS],
    }
    for name, settings in models.items():
        assert run(["fit", str(root / "plain.npy"), "-o", str(root / f"{name}.unlike"), *SMALL, *settings]) == 0
    return root


def call(stand, command, *arguments):
    paths = {path.name.split(".")[0]: path for path in stand.iterdir()}
    return run(["latent", command, *(part.format(**paths) for part in arguments), "--device", "cpu"])


def size_of(path):
    return cv2.imread(str(path)).shape[:2]


def test_project_shows_the_images_beside_the_codes_of_each_detector(stand, tmp_path, capsys):
    one, two = tmp_path / "one.png", tmp_path / "two.svg"
    assert call(stand, "project", "{conv}", "{test}", "--labels", "{y}", "-o", str(one)) == 0
    assert capsys.readouterr().err.strip() == f"PCA of 100 images: {one}"
    arguments = ["--labels", "{y}", "-o", str(two), "--beside", "{fcn}", "--method", "tsne", "--most", "60"]
    assert call(stand, "project", "{conv}", "{test}", *arguments) == 0
    assert capsys.readouterr().err.strip() == f"t-SNE of 60 images: {two}"
    words = two.read_text()
    for word in ("images", "conv", "fcn", "256 numbers", "6 numbers", "5 numbers", "normal (", "anomalous ("):
        assert f">{word}" in words, word
    assert size_of(one)[1] > 1000


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_the_same_seed_is_the_same_picture(stand, tmp_path, method):
    for name in ("a", "b"):
        arguments = ["-o", str(tmp_path / f"{name}.png"), "--method", method, "--most", "40", "--seed", "3"]
        assert call(stand, "project", "{conv}", "{test}", *arguments) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    other = ["-o", str(tmp_path / "c.png"), "--method", method, "--most", "40", "--seed", "4"]
    assert call(stand, "project", "{conv}", "{test}", *other) == 0
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()


def test_colours_are_labels_where_there_are_some_and_scores_otherwise(stand, tmp_path):
    path = tmp_path / "a.svg"
    for arguments, word in [([], "lowest score"), (["--labels", "{y}"], "normal (")]:
        assert call(stand, "project", "{conv}", "{test}", "-o", str(path), *arguments) == 0
        assert f">{word}" in path.read_text()
    assert call(stand, "project", "{conv}", "{test}", "-o", str(path), "--labels", "{y}", "--colour", "score") == 0
    assert ">lowest score" in path.read_text()


def test_edit_shows_elements_and_directions(stand, tmp_path, capsys):
    path = tmp_path / "a.svg"
    changes = ["--set", "2=x3", "--set", "5=+1.5,4=0", "--directions", "1", "--most", "3"]
    assert call(stand, "edit", "{conv}", "{test}", "-o", str(path), *changes) == 0
    assert capsys.readouterr().err.strip() == f"Edits of the code of conv, which has 6 elements: {path}"
    words = path.read_text()
    for word in (
        "original",
        "reconstruction",
        "[2] \N{MULTIPLICATION SIGN} 3",
        "[5] + 1.5",
        "[4] = 0",
        "+2 sd",
        "direction 1:",
    ):
        assert f">{word}" in words, word
    assert words.count("<image") == 3 * 8


def test_edit_without_a_wish_shows_two_directions(stand, tmp_path, capsys):
    assert call(stand, "edit", "{conv}", "{test}", "-o", str(tmp_path / "a.html")) == 0
    assert "Edits of the code of conv, which has 6 elements" in capsys.readouterr().err
    assert "standard deviation of the codes" in (tmp_path / "a.html").read_text()


def test_gallery_shows_both_ends_of_each_detector(stand, tmp_path, capsys):
    path = tmp_path / "a.svg"
    others = ["--beside", "{fcn}", "--beside", "{skips}"]
    assert call(stand, "gallery", "{conv}", "{test}", "--labels", "{y}", "-o", str(path), *others) == 0
    assert capsys.readouterr().err.strip() == f"Largest and smallest scores of 100 images: {path}"
    words = path.read_text()
    assert words.count("<image") == 3 * 4 * 2
    assert words.count(">largest scores") == 3
    assert ">residual-unet by residual" in words


def test_histograms_measure_each_detector(stand, tmp_path, capsys):
    path = tmp_path / "a.svg"
    arguments = ["--labels", "{y}", "-o", str(path), "--beside", "{fcn}"]
    assert call(stand, "histograms", "{conv}", "{test}", *arguments) == 0
    assert capsys.readouterr().err.strip() == f"Scores of 100 images by 2 detectors: {path}"
    words = path.read_text()
    assert words.count("AUROC 0.") == 2
    assert call(stand, "histograms", "{conv}", "{test}", "-o", str(path)) == 0
    assert "AUROC" not in path.read_text()


def test_the_report_of_an_evaluation_shows_the_same_pictures(stand, tmp_path, capsys):
    paths = [str(stand / name) for name in ("conv.unlike", "test.npy", "y.npy", "fcn.unlike", "skips.unlike")]
    detector, images, labels, fcn, skips = paths
    chosen = ["--labels", labels, "-o", str(tmp_path / "out"), "--device", "cpu"]
    assert run(["evaluate", detector, images, *chosen, "--beside", fcn, "--beside", skips]) == 0
    page = (tmp_path / "out/report.html").read_text()
    for picture in (
        "Scores of 100 images by 3 detectors",
        "Largest and smallest scores of 100 images",
        "PCA of 100 images",
        "Edits of the code of this detector, which has 6 elements",
        "The codes of 100 images in 3 clusters",
    ):
        assert f'alt="{picture}"' in page
    assert all(f"<bdi>{name}</bdi>" in page for name in ("this detector", "fcn", "skips"))
    assert "<td>residual-unet by residual</td>" in page
    capsys.readouterr()
    assert run(["evaluate", detector, images, *chosen, "--beside", detector]) == 2
    assert "--beside: " in capsys.readouterr().err
    assert run(["evaluate", detector, images, *chosen, "--beside", "nowhere"]) == 2
    assert "nowhere: no detector here" in capsys.readouterr().err


def test_clusters_of_codes(stand, tmp_path, capsys):
    path = tmp_path / "a.svg"
    assert call(stand, "clusters", "{conv}", "{test}", "-o", str(path), "--clusters", "4", "--most", "80") == 0
    assert capsys.readouterr().err.strip() == f"The codes of 80 images in 4 clusters: {path}"
    assert ">10 x alpha" in path.read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_broken_image_is_named_and_the_rest_is_done(stand, tmp_path, capsys, command):
    path = tmp_path / "a.png"
    beside = ["--beside", "{fcn}"] if command in ("project", "gallery", "histograms") else []
    assert call(stand, command, "{conv}", "{folder}", "-o", str(path), *beside) == 1
    said = capsys.readouterr().err
    assert "1 image could not be used:\n  broken.png: is empty (0 bytes)\n" in said
    assert min(size_of(path)) > 300


def test_of_a_set_with_splits_the_test_split_is_shown(stand, tmp_path, mvtec, capsys):
    path = tmp_path / "a.svg"
    convert = ["--set", "data.channels=1", "--model", "fcn", "--set", "model.widths=[5]"]
    assert run(["fit", str(mvtec), "-o", str(tmp_path / "d"), *SMALL, *convert]) == 0
    assert run(["latent", "histograms", str(tmp_path / "d"), str(mvtec), "-o", str(path), "--device", "cpu"]) == 0
    assert f"Scores of 20 images by 1 detector: {path}" in capsys.readouterr().err
    assert ">normal (10)" in path.read_text()


WRONG = [
    ("project", ["{conv}", "{three}", "--method", "tsne"], "t-SNE needs at least 6 images, came 3; give more images"),
    ("project", ["{conv}", "{three}", "--most", "2"], "PCA needs at least 3 images, came 2; give more images"),
    ("project", ["{conv}", "{same}"], "the codes of all 9 images are the same"),
    (
        "project",
        ["{conv}", "{test}", "--colour", "label"],
        "these images have no label; give an array --labels, or take",
    ),
    ("project", ["{conv}", "{test}", "--beside", "{conv}"], "conv.unlike is named twice; name each detector once"),
    ("project", ["{conv}", "{test}", "--beside", "nowhere"], "nowhere: no detector here"),
    ("project", ["{conv}", "{test}", "--method", "som"], "'som' is not one of"),
    ("project", ["{conv}", "{test}", "--most", "0"], "Invalid value for '--most'"),
    ("edit", ["{conv}", "{test}", "--set", "6=0"], "there is no element 6; the code has 6, numbered from 0 to 5"),
    (
        "edit",
        ["{conv}", "{test}", "--set", "2*3"],
        "expected ELEMENT=xFACTOR, =+NUMBER, =-NUMBER or =NUMBER, came '2*3'",
    ),
    ("edit", ["{conv}", "{test}", "--directions", "7"], "--directions: expected 1 to 6, came 7"),
    ("edit", ["{conv}", "{three}", "--directions", "3"], "--directions: expected 1 to 2, came 3: 3 images"),
    ("edit", ["{skips}", "{test}"], "has no decoder from codes to images; take a detector whose model has one"),
    ("clusters", ["{conv}", "{three}", "--clusters", "4"], "clusters"),
    *[(name, ["{conv}", "{nothing}"], "no image of") for name in COMMANDS],
    *[(name, ["{plain}", "{test}"], "plain.npy") for name in COMMANDS],
]


@pytest.mark.parametrize(("command", "arguments", "message"), WRONG)
def test_wrong_use_is_one_line_and_exit_code_2(stand, tmp_path, monkeypatch, capsys, command, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert call(stand, command, *arguments, "-o", "a.png") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_where_the_picture_goes_is_checked_before_the_work(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    for name, message in [("a.jpg", "ends in .png, .svg or .html"), ("/proc/a.png", "/proc/a.png: cannot be written")]:
        assert run(["latent", command, "no detector", "no images", "-o", name]) == 2
        assert message in capsys.readouterr().err


def test_umap_that_is_missing_says_how_to_install_it(stand, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "umap", None)
    assert call(stand, "project", "{conv}", "{test}", "-o", str(tmp_path / "a.png"), "--method", "umap") == 2
    assert "pip install 'unlike[umap]'" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(command, capsys):
    assert run(["latent", command, "--help"]) == 0
    assert f"Example: unlike latent {command}" in capsys.readouterr().out


def test_latent_alone_lists_its_commands(capsys):
    assert run(["latent"]) == 0
    said = capsys.readouterr().out
    assert all(command in said for command in COMMANDS)
    assert run(["latent", "-h"]) == 0


def test_rows_and_ids_choose_the_images(stand, tmp_path):
    path = tmp_path / "a.svg"
    assert call(stand, "edit", "{conv}", "{test}", "-o", str(path), "--set", "0=x2", "--rows", "7,3") == 0
    words = path.read_text()
    assert words.count("<image") == 2 * 3
    assert words.index(">7<") < words.index(">3<")
    assert call(stand, "gallery", "{conv}", "{test}", "-o", str(path), "--rows", "0,1,2", "--most", "1") == 0
    assert path.read_text().count("<image") == 2 * 2
    assert call(stand, "project", "{conv}", "{test}", "-o", str(path), "--rows", "0,1,2,5") == 0
    assert "PCA of 4 images" in path.read_text()


def test_a_row_that_is_not_there(stand, tmp_path, capsys):
    assert call(stand, "gallery", "{conv}", "{test}", "-o", str(tmp_path / "a.png"), "--rows", "3,100") == 2
    said = capsys.readouterr().err
    assert "--rows: '100' is no id of" in said
    assert "no row from 0 to 99" in said


def test_alpha_and_its_multiples_can_be_chosen(stand, tmp_path):
    path = tmp_path / "a.svg"
    chosen = ["--alpha", "0.5", "--times", "10,1"]
    assert call(stand, "clusters", "{conv}", "{test}", "-o", str(path), "--clusters", "2", *chosen) == 0
    words = path.read_text()
    assert ">10 x alpha<" in words
    assert ">alpha 0.5<" in words
    assert ">0.1 x alpha<" not in words


def test_points_of_a_table_are_clustered(tmp_path, capsys):
    random, path = np.random.default_rng(0), tmp_path / "points.csv"
    points = np.concatenate([random.normal(mean, 0.3, (size, 2)) for mean, size in [(0, 40), (4, 20), (-4, 20)]])
    path.write_text("x,y\n" + "\n".join(f"{x},{y}" for x, y in points))
    assert run(["latent", "points", str(path), "-o", str(tmp_path / "a.svg"), "--clusters", "3", "--alpha", "1"]) == 0
    assert "points: 80 points in 3 clusters" in capsys.readouterr().err
    assert ">sizes 40, 20, 20<" in (tmp_path / "a.svg").read_text()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x,y\n1,2\n3", "expected numbers, the same count in every row"),
        ("x,y\n1,nan", "expected rows of finite numbers"),
        ("", "expected rows of finite numbers, a point each; came 0 rows"),
    ],
)
def test_points_that_cannot_be_read(tmp_path, capsys, content, words):
    path = tmp_path / "points.csv"
    path.write_text(content)
    assert run(["latent", "points", str(path), "-o", str(tmp_path / "a.png")]) == 2
    assert words in capsys.readouterr().err


def test_multiples_that_are_none(tmp_path, capsys):
    assert run(["latent", "points", "x.csv", "-o", str(tmp_path / "a.png"), "--times", "1,0"]) == 2
    assert "--times: expected up to 9 numbers above 0, such as 0.1,1,10, came '1,0'" in capsys.readouterr().err


def test_pages_are_images_to_be_named_as_score_names_them(stand, tmp_path, capsys):
    images = [Image.fromarray(image) for image in np.load(stand / "test.npy")[:3]]
    images[0].save(tmp_path / "pages.tif", save_all=True, append_images=images[1:])
    chosen = ["-o", str(tmp_path / "a.svg"), "--most", "1", "--rows", "pages.tif#2,pages.tif#3"]
    assert call(stand, "gallery", "{conv}", str(tmp_path / "pages.tif"), *chosen) == 0
    words = (tmp_path / "a.svg").read_text()
    assert "pages.tif#2" in words
    assert "pages.tif#1" not in words
