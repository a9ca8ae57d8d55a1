"""Groups as the user says them."""

import pytest

from conftest import stripes, write_png
from unlike.data.groups import group_samples
from unlike.data.source import open_source
from unlike.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path):
    for name in ("part1/a.png", "part1/b.png", "part2/a.png", "c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_png(tmp_path / name, stripes(1)[0])
    return open_source(tmp_path)


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        ("folder", {"c.png": "", "part1/a.png": "part1", "part1/b.png": "part1", "part2/a.png": "part2"}),
        (r"part(\d)", {"c.png": "", "part1/a.png": "1", "part1/b.png": "1", "part2/a.png": "2"}),
        (r"[abc]\.png", {"c.png": "c.png", "part1/a.png": "a.png", "part1/b.png": "b.png", "part2/a.png": "a.png"}),
    ],
)
def test_names_tell_groups(folder, group_by, expected):
    assert {sample.id: sample.group for sample in group_samples(folder, group_by).samples} == expected


@pytest.mark.parametrize(
    ("group_by", "kind", "message"),
    [
        (
            "(",
            ConfigError,
            "decision.group_by: expected 'folder', or a regular expression such as 'part([0-9]+)', came '('",
        ),
        (
            "screw",
            DataError,
            "no image has a group by 'screw', such as c.png; expected 'folder', or a regular expression",
        ),
    ],
)
def test_what_tells_none_is_refused(folder, group_by, kind, message):
    with pytest.raises(kind) as caught:
        group_samples(folder, group_by)
    assert message in str(caught.value)


def test_a_table_has_a_column_for_them(tmp_path):
    for number in range(3):
        write_png(tmp_path / f"{number}.png", stripes(1)[0])
    (tmp_path / "list.csv").write_text("path,label,group\n0.png,0,x\n1.png,0,x\n2.png,0,\n")
    assert [sample.group for sample in open_source(tmp_path / "list.csv").samples] == ["x", "x", ""]
