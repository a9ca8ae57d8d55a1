"""Whether the tests would notice: small faults are put into the source one at a time, and those that no test finds are listed.

A mutant is one operator, comparison, boolean or small number of the source changed. A seed draws `--count` of them: a file
with a chance by its lines, then a place in it. The tests that mirror the sources run once as they are, to see which of them
reach which line; for each mutant only those that reach its line run (those that reach its file, where the line runs at import),
the quickest first, up to the first that fails. All of it happens in a copy, and what was found is kept in `--work`, so that a
run that was ended goes on where it was.

A survivor wants a reader: whether a user would notice. The answer goes by hand into `verdict` in the results file, where the
next run finds it again as long as the mutant is drawn again.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import resource
import shutil
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import coverage
import pytest
from common import RESULTS, write

ROOT = Path(__file__).parents[1]
FILE = RESULTS / "mutants.json"
PARTS = {  # of src/unlike, with the tests that mirror each; the examples of docstrings run as well
    "calibration": ["tests/calibration"],
    "scoring": ["tests/scoring"],
    "evaluation": ["tests/evaluation"],
    "data/layouts": ["tests/data/test_layouts.py", "tests/data/test_inputs_layouts.py"],
    "data/split.py": ["tests/data/test_split.py"],
}
PRELOADED = "torch", "timm", "scipy.stats", "scipy.ndimage", "sklearn.metrics", "sklearn.mixture", "hypothesis", "cv2"
OFF = [part for name in ("cacheprovider", "cov", "xdist", "anyio") for part in ("-p", f"no:{name}")]
CHOICES = [
    "-q",
    *OFF,
    "--randomly-dont-reorganize",
    "--assert=plain",
    "-m",
    "not slow",
]  # nobody reads why a test failed
SLOWEST = 240  # seconds of the processor for the tests of a mutant: a busy machine cuts none off
LONGEST = 1800  # seconds by the clock: those that wait for ever use no processor
GUARDS = {"strict", "frozen", "slots", "eq", "kw_only"}  # arguments that only matter where something is wrong already
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}


@dataclass(frozen=True)
class Mutant:
    """One fault: where it is and what it changes."""

    file: str
    place: int  # among those of the file
    line: int
    last_line: int  # of the expression
    before: str
    after: str
    text: str  # of the whole line


def places(tree: ast.AST) -> Iterator[tuple[ast.expr, int]]:
    """Expressions that can be changed, and which of their operators; nothing of type hints and decorators."""
    hints = {id(part) for node in ast.walk(tree) for hint in hints_of(node) for part in ast.walk(hint)}
    for node in ast.walk(tree):
        if id(node) in hints:
            continue
        if isinstance(node, ast.Compare):
            yield from ((node, number) for number, one in enumerate(node.ops) if type(one) in SWAPS)
        elif isinstance(node, ast.BoolOp | ast.BinOp | ast.UnaryOp | ast.Constant) and changeable(node):
            yield node, 0


def changeable(node: ast.BoolOp | ast.BinOp | ast.UnaryOp | ast.Constant) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in {bool, int, float}
    return type(node.op) in {*SWAPS, ast.Not}


def hints_of(node: ast.AST) -> list[ast.AST]:
    """What of a node is no code to test: annotations, decorators, and arguments that guard."""
    found = [getattr(node, "annotation", None), getattr(node, "returns", None), *getattr(node, "decorator_list", ())]
    guards = [one.value for one in getattr(node, "keywords", ()) if one.arg in GUARDS]
    return [one for one in [*found, *guards] if one is not None]


def change(node: ast.expr, number: int) -> None:
    """Turn an expression into another, in place."""
    match node:
        case ast.Compare():
            node.ops[number] = SWAPS[type(node.ops[number])]()
        case ast.BoolOp() | ast.BinOp():
            node.op = SWAPS[type(node.op)]()
        case ast.UnaryOp():  # not not x
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
        case ast.Constant(value=bool()):
            node.value = not node.value
        case ast.Constant(value=int()):
            node.value += 1
        case ast.Constant():
            node.value = node.value * 2 or 1.0


def mutate(source: str, place: int) -> tuple[str, ast.expr, str, str]:
    """The source with one place changed, what was changed, and that as it was and as it is."""
    tree = ast.parse(source)
    node, number = list(places(tree))[place]
    before = ast.unparse(node)
    change(node, number)
    return ast.unparse(ast.fix_missing_locations(tree)), node, before, ast.unparse(node)


def sources() -> list[Path]:
    """Files that can be mutated, relative to the repository."""
    folders = [ROOT / "src/unlike" / part for part in PARTS]
    found = [path for one in folders for path in ([one] if one.is_file() else sorted(one.rglob("*.py")))]
    return [path.relative_to(ROOT) for path in found if path.name != "__init__.py"]


def draw(count: int, seed: int) -> list[Mutant]:
    """So many different mutants, by chance."""
    chance = random.Random(seed)
    texts = {path: (ROOT / path).read_text() for path in sources()}
    left = {path: list(range(len(list(places(ast.parse(text)))))) for path, text in texts.items()}
    drawn = []
    while len(drawn) < count:
        open_ = [path for path in left if left[path]]
        path = chance.choices(open_, [len(texts[one].splitlines()) for one in open_])[0]
        place = left[path].pop(chance.randrange(len(left[path])))
        _, node, before, after = mutate(texts[path], place)
        line, last = node.lineno, node.end_lineno or node.lineno
        text = texts[path].splitlines()[line - 1].strip()
        drawn.append(Mutant(str(path), place, line, last, before, after, text))
    return drawn


class Noted:
    """A plug-in of pytest: how long each test took, and which failed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.add(report.nodeid)


class Watched(Noted):
    """Which lines each test reaches, too."""

    def __init__(self, data: Path) -> None:
        super().__init__()
        self.coverage = coverage.Coverage(data_file=str(data), source=["src/unlike"], config_file=False)
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self.coverage.switch_context("")

    def pytest_sessionfinish(self) -> None:
        self.coverage.stop()
        self.coverage.save()


def copy_tree(tree: Path) -> None:
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    for name in ("src", "tests", "docs"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "conftest.py"):
        shutil.copy(ROOT / name, tree / name)


def enter(tree: Path, log: Path) -> None:
    """What a process does before it runs tests of a copy: the package is the copy's, and what is printed goes to a file."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree / "src")  # of commands that tests start
    sys.path[:] = [str(tree / "src"), *(part for part in sys.path if part != str(ROOT / "src"))]
    sys.dont_write_bytecode = True


def run_baseline(tree: Path, work: Path) -> None:
    enter(tree, work / "baseline.log")
    watched = Watched(work / "baseline.coverage")
    tests = [test for part in PARTS.values() for test in part]
    pytest.main([*CHOICES, *tests, *(f"src/unlike/{part}" for part in PARTS)], plugins=[watched])
    facts = {"seconds": watched.seconds, "failed": sorted(watched.failed)}
    (work / "baseline.json").write_text(json.dumps(facts))


def run_tests(tree: Path, log: Path, tests: list[str]) -> None:
    enter(tree, log)
    resource.setrlimit(resource.RLIMIT_CPU, (SLOWEST, SLOWEST + 10))
    noted = Noted()
    code = pytest.main([*CHOICES, "-x", *tests], plugins=[noted])
    log.with_suffix(".json").write_text(json.dumps(sorted(noted.failed)))
    os._exit(int(code))  # threads that a mutant left behind are not waited for


class Reach:
    """Which tests reach a mutant, the quickest first."""

    def __init__(self, work: Path) -> None:
        facts = json.loads((work / "baseline.json").read_text())
        self.seconds, failed = facts["seconds"], set(facts["failed"])
        data = coverage.CoverageData(str(work / "baseline.coverage"))
        data.read()
        self.lines: dict[str, dict[int, set[str]]] = {}
        for name in data.measured_files():
            found = data.contexts_by_lineno(name)
            kept = {line: set(tests) - failed - {""} for line, tests in found.items()}
            self.lines["src/unlike/" + name.rsplit("/src/unlike/", 1)[1]] = kept

    def tests_of(self, mutant: Mutant) -> list[str]:
        lines = self.lines.get(mutant.file, {})
        found = set().union(*(lines.get(line, set()) for line in range(mutant.line, mutant.last_line + 1)))
        return sorted(found or set().union(*lines.values()), key=lambda test: self.seconds.get(test, 0.0))


def attempt(mutant: Mutant, tests: list[str], tree: Path, work: Path) -> dict:
    """Run the tests of a mutant: `fate` is killed, timeout or survived, and `by` the test that failed."""
    path, log = tree / mutant.file, work / "last.log"
    source = (ROOT / mutant.file).read_text()
    log.with_suffix(".json").unlink(missing_ok=True)
    path.write_text(mutate(source, mutant.place)[0])
    child = get_context("fork").Process(target=run_tests, args=(tree, log, tests))
    child.start()
    child.join(LONGEST)
    fate = {None: "timeout", -signal.SIGXCPU: "timeout", 0: "survived"}.get(child.exitcode, "killed")
    if child.exitcode is None:
        child.kill()
        child.join()
    path.write_text(source)
    noted = log.with_suffix(".json")
    failed = json.loads(noted.read_text()) if noted.exists() else []
    return {**asdict(mutant), "tests": len(tests), "fate": fate, "by": failed[0] if failed else ""}


def tried(drawn: list[Mutant], tree: Path, work: Path) -> list[dict]:
    """The fate of every mutant; one that an earlier run knows is not tried again."""
    path = work / "results.jsonl"
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    fates = {(one["file"], one["place"], one["text"]): one for one in known}
    reach = Reach(work)
    for mutant in drawn:
        key = mutant.file, mutant.place, mutant.text
        if key not in fates:
            tests = reach.tests_of(mutant)
            fates[key] = attempt(mutant, tests, tree, work) if tests else {**asdict(mutant), "fate": "unreached"}
            with path.open("a") as file:
                file.write(json.dumps(fates[key]) + "\n")
        one = fates[key]
        print(f"{one['fate']:9} {mutant.file}:{mutant.line}  {mutant.before}  ->  {mutant.after}", flush=True)
    return [fates[mutant.file, mutant.place, mutant.text] for mutant in drawn]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the copy and for what was found so far")
    chosen = parser.parse_args()
    tree = chosen.work.resolve() / "tree"
    for name in PRELOADED:  # once, and not again in every process that is forked from this one
        __import__(name)
    copy_tree(tree)
    if not (chosen.work / "baseline.json").exists():
        child = get_context("fork").Process(target=run_baseline, args=(tree, chosen.work))
        child.start()
        child.join()
    if not json.loads((chosen.work / "baseline.json").read_text())["seconds"]:
        (chosen.work / "baseline.json").unlink()
        sys.exit(f"no test ran without a fault in the source; {chosen.work / 'baseline.log'} says why")
    found = tried(draw(chosen.count, chosen.seed), tree, chosen.work)
    earlier = json.loads(FILE.read_text())["not_killed"] if FILE.exists() else []
    verdicts = {(one["file"], one["text"], one["before"], one["after"]): one["verdict"] for one in earlier}
    left = [one for one in found if one["fate"] != "killed"]
    for one in left:
        one["verdict"] = verdicts.get((one["file"], one["text"], one["before"], one["after"]), "")
    fates = dict(Counter(one["fate"] for one in found))
    write("mutants", {"seed": chosen.seed, "mutants": len(found), "fates": fates, "not_killed": left})


if __name__ == "__main__":
    main()
