"""Write docs/inputs.md from the two tables of inputs in tests/data; with --check, say whether it is as they are."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/inputs.md"
LONGEST = 110  # characters of what came, or of a sentence
HEAD = """# Inputs: what comes, what happens

Made by `docs/make_inputs.py` from the tables of `tests/data/test_inputs_layouts.py` and `tests/data/test_inputs_formats.py`, which
check every row. What the words mean: [layouts](layouts.md), [formats](formats.md).
"""


def shorten(text: str) -> str:
    """As the cell of a table."""
    text = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    text = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
    return text.replace("|", "\\|").replace("<", "&lt;")


def layout_row(case, expand) -> str:
    """What a fit does with a folder, and what an evaluation takes of it."""
    came = case.files if isinstance(case.files, str) else " ".join(case.files)
    came = " ".join([came, *case.texts])
    taken = f"fit refuses: {case.error}" if case.error else f"fit takes {len(expand(case.train))}"
    normal, odd = len(expand(case.normal)), len(case.odd)
    masks = sum(bool(mask) for _, mask in case.odd.values())
    seen = f"; evaluate takes {normal} normal, {odd} anomalous, {masks} with a mask" if normal or odd else ""
    return f"| {shorten(case.name)} | `{shorten(came)}` | {shorten(taken)}{seen} |"


def format_row(case) -> str:
    """What reading a file gives."""
    if isinstance(case.expected, str):
        return f"| `{case.name}` | refused: it {shorten(case.expected)} |"
    shape = case.expected.shape if case.expected.ndim == 3 else (*case.expected.shape, 1)
    return f"| `{case.name}` | {' x '.join(map(str, shape))} of {case.expected.dtype} |"


def write() -> str:
    """The page."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/data")]
    import test_inputs_formats as formats
    import test_inputs_layouts as layouts

    lines = [
        HEAD,
        f"## Folders and manifests: {len(layouts.CASES)}",
        "",
        "| what | files | what happens |",
        "|---|---|---|",
    ]
    lines += [layout_row(case, layouts.expand) for case in layouts.CASES]
    lines += ["", f"## Files: {len(formats.INPUTS)}", "", "| file | what is read |", "|---|---|"]
    lines += [format_row(case) for case in formats.INPUTS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    page = write()
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page and "docs/inputs.md is not what docs/make_inputs.py writes")
    PAGE.write_text(page, encoding="utf-8")
