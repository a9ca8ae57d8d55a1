"""The files that pictures become."""

from __future__ import annotations

from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from unlike.errors import ConfigError, OutputError
from unlike.report.pictures import check_picture, write_picture
from unlike.report.projection import Panel, project, projections


def figure_of(words="conv"):
    random = np.random.default_rng(0)
    return projections([Panel(words, project(random.normal(size=(30, 5))), scores=random.normal(size=30))])


def test_a_png_and_an_svg_are_the_same_bytes_each_time(tmp_path):
    for suffix in (".png", ".svg"):
        for name in ("a", "b"):
            write_picture(figure_of(), tmp_path / f"{name}{suffix}", "title", "words")
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    image = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert min(image.shape[:2]) > 500
    assert image[..., 3].min() == 255  # no window manager shines through
    assert "lowest score" in (tmp_path / "a.svg").read_text()


def test_a_page_says_what_it_shows_and_escapes_what_it_says(tmp_path):
    write_picture(figure_of(), tmp_path / "a.HTML", "<script>1</script>", "What a dot is.")
    text = (tmp_path / "a.HTML").read_text()
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.feed(text)
    assert "script" not in {tag for tag, _ in tags}
    assert [attributes["src"][:19] for tag, attributes in tags if tag == "img"] == ["data:image/svg+xml;"]
    assert "What a dot is." in text


def test_a_letter_that_no_font_has_is_a_box_not_a_warning(tmp_path):
    write_picture(figure_of("\U0001f9a4"), tmp_path / "a.png", "title", "words")
    assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.png.txt"])
def test_a_name_with_another_ending_is_refused_before_the_work(tmp_path, name):
    with pytest.raises(ConfigError, match=r"expected a name that ends in \.png, \.svg or \.html"):
        check_picture(tmp_path / name)


def test_a_path_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match=r"file/a\.png: cannot be written"):
        check_picture(tmp_path / "file" / "a.png")
    with pytest.raises(OutputError, match=r"folder\.png: is a folder; choose another name"):
        check_picture(tmp_path / "folder.png")
    check_picture(tmp_path / "new" / "a.svg")
