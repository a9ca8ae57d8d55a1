"""Patterns by which a user says which images are good."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """A test of whether a path is matched by any of some patterns: * and ? stay within a folder, ** goes to any depth.

    A pattern that names a folder takes all that lies below it.

    >>> good = matcher(["ok/*.png", "lot_[12]", "**/fine_?"])
    >>> [good(path) for path in ("ok/1.png", "ok/a/1.png", "lot_2/a/b.png", "x/y/fine_1", "fine_1", "lot_3/a.png")]
    [True, False, True, True, True, False]
    >>> good = matcher(["lot_[!12]"])
    >>> [good(path) for path in ("lot_1/a.png", "lot_2/a.png", "lot_3/a.png")]
    [False, False, True]
    """
    whole = re.compile("|".join(f"(?:{_translate(pattern)})" for pattern in patterns), re.DOTALL)

    def matches(path: str) -> bool:
        return whole.fullmatch(path) is not None

    return matches


def _translate(pattern: str) -> str:
    """A pattern as a regular expression of whole paths, and of what lies below them."""
    pattern = pattern.replace("\\", "/").removeprefix("./").rstrip("/")
    pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|\[[!^]?[^\]/]+\]|.", pattern, re.DOTALL)
    whole = "".join(pieces.get(token) or _literal(token) for token in tokens)
    return f"{whole}(?:/.*)?"


def _literal(token: str) -> str:
    if len(token) > 2 and token.startswith("["):
        inside = token[1:-1].replace("\\", r"\\")
        return f"[^{re.escape(inside[1:])}]" if inside[0] in "!^" else f"[{inside}]"
    return re.escape(token)
