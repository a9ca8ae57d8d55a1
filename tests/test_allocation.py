"""Memory that is kept while it is needed again and again, and given back."""

from __future__ import annotations

import platform

import pytest

from unlike import allocation
from unlike.allocation import KEEP, MMAP_THRESHOLD, TRIM_THRESHOLD, USUAL_MMAP, USUAL_TRIM, kept_memory


class Library:
    """A C library that notes what it is told."""

    def __init__(self):
        self.told = []

    def gnu_get_libc_version(self):
        return b"2.36"

    def mallopt(self, parameter, value):
        self.told.append((parameter, value))
        return 1

    def malloc_trim(self, padding):
        self.told.append(("trim", padding))
        return 1


@pytest.fixture
def library(monkeypatch):
    found = Library()
    allocation._glibc.cache_clear()
    monkeypatch.setattr("ctypes.CDLL", lambda _: found)
    yield found
    allocation._glibc.cache_clear()


def test_memory_is_kept_inside_and_given_back_after_an_error_too(library):
    def fail():
        with kept_memory():
            assert library.told == [(MMAP_THRESHOLD, KEEP), (TRIM_THRESHOLD, KEEP)]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert library.told[2:] == [(MMAP_THRESHOLD, USUAL_MMAP), (TRIM_THRESHOLD, USUAL_TRIM), ("trim", 0)]


def test_other_c_libraries_are_left_alone(library, monkeypatch):
    monkeypatch.delattr(Library, "gnu_get_libc_version")
    with kept_memory():
        assert library.told == []


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_this_one_takes_all_four_numbers():
    found = allocation._glibc()
    assert found.mallopt(MMAP_THRESHOLD, KEEP)
    assert found.mallopt(TRIM_THRESHOLD, KEEP)
    assert found.mallopt(MMAP_THRESHOLD, USUAL_MMAP)
    assert found.mallopt(TRIM_THRESHOLD, USUAL_TRIM)
