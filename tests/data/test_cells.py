"""Images that come with a package."""

from __future__ import annotations

import sys

import pytest

from unlike.data.cells import load_cells
from unlike.errors import ConfigError


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "elpv_dataset.utils", None)
    with pytest.raises(ConfigError, match=r"the solar cells are not installed: pip install 'unlike\[demo\]'"):
        load_cells()
