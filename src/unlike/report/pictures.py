"""The file that a picture becomes: a PNG, an SVG, or a page that says what it shows."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from unlike.artifacts import check_writable, write_file
from unlike.errors import ConfigError, OutputError
from unlike.report.figures import SHARP, file_of, svg
from unlike.report.page import Picture, environment, signature

FORMATS = (".png", ".svg", ".html")


def check_picture(path: Path) -> None:
    """Raise ConfigError or OutputError, before the work, unless a picture can be written as `path`."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"{path}: expected a name that ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]} (-o)")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; choose another name with -o")
    check_writable(path)


def write_picture(figure: Figure, path: Path, title: str, words: str) -> None:
    """Write a figure as a PNG, an SVG or a page, by the name's ending; a page also says what it shows, in `words`."""
    suffix = path.suffix.lower()
    if suffix == ".html":
        content = _render_page(figure, title, words)
    else:
        content = file_of(figure, "png" if suffix == ".png" else "svg", dpi=SHARP, facecolor="white")
    write_file(path, content)


def _render_page(figure: Figure, title: str, words: str) -> bytes:
    template = environment().get_template("picture.html.j2")
    page: str = template.render(title=title, words=words, picture=Picture(svg(figure), title), **signature())
    return page.encode()
