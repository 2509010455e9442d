"""The rules of this house that no linter knows. Each problem is one line, `path:line: what is wrong`.

python tools/checks.py           checks the tree, exits 1 when something is wrong

A rule is a function of the tree's root that yields problems; `RULES` lists them all. What they demand is said
in CONTRIBUTING.md.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import checks_docs

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "services/frontdesk"
CODE = (SOURCE, "tests", "tools")
GENERATED = (f"{SOURCE}/api/", "tests/support/echo/v1/")

MODULE_LINES = 500
FUNCTION_LINES = 60
PUBLIC_METHODS = 12
MIGRATIONS = "/migrations/versions/"  # a list of tables, written once: its functions have no cap

# The first token of a subject, alone or with more tokens. An attribute of OpenTelemetry may look like one, so
# the file of its names is left out.
SUBJECT = re.compile(r"^(inbound|outbound|timer|due|event|notify|dead|wake)\.([\w=*>-]+\.?)*$")
SUBJECT_FILES = (f"{SOURCE}/kit/subjects.py", f"{SOURCE}/kit/telemetry/names.py")

_UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
_MACHINE = re.compile(
    r"(?<![\w.])/(wo"
    r"rk|ro"
    r"ot)/\w|https?://[a-z0-9.-]*(py"
    r"pi|python"
    r"hosted|npm"
    r"js|crates)\.[a-z]+"
)
_TEXTS = (".py", ".md", ".toml", ".lock", ".yaml", ".yml", ".proto", ".sh", ".json", "")

Rule = Callable[[Path], Iterator[str]]


def python_files(root: Path, *folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Every hand-written module below `folders`, as its path relative to `root` and its tree."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            if not name.startswith(GENERATED):
                yield name, _parse(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2048)
def _parse(path: Path, _changed: int) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def sizes(root: Path) -> Iterator[str]:
    """Modules, functions and classes that outgrew their caps."""
    for name, tree in python_files(root, *CODE):
        lines = len((root / name).read_text().splitlines())
        if lines > MODULE_LINES:
            yield f"{name}:1: {lines} lines, at most {MODULE_LINES}"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES and MIGRATIONS not in name:
                    yield f"{name}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES}"
            elif isinstance(node, ast.ClassDef):
                public = sum(_is_public_method(child) for child in node.body)
                if public > PUBLIC_METHODS:
                    yield (
                        f"{name}:{node.lineno}: {node.name} has {public} public methods, "
                        f"at most {PUBLIC_METHODS}"
                    )


def _is_public_method(node: ast.stmt) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
        return False
    decorators = {ast.unparse(decorator).rsplit(".", 1)[-1] for decorator in node.decorator_list}
    return not decorators & {"property", "cached_property", "setter", "overload"}


def environment(root: Path) -> Iterator[str]:
    """The environment is read by files called config.py only."""
    for name, tree in python_files(root, SOURCE):
        if name.endswith("/config.py"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in (
                "os.environ",
                "os.getenv",
                "os.putenv",
            ):
                yield f"{name}:{node.lineno}: {ast.unparse(node)} belongs into a config.py"
            elif isinstance(node, ast.ImportFrom) and node.module == "os":
                taken = {alias.name for alias in node.names} & {"environ", "getenv", "putenv"}
                if taken:
                    yield f"{name}:{node.lineno}: os.{taken.pop()} belongs into a config.py"


def subject_strings(root: Path) -> Iterator[str]:
    """Subjects are written in kit/subjects.py only."""
    for name, tree in python_files(root, SOURCE):
        if name in SUBJECT_FILES:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and SUBJECT.match(node.value):
                yield f"{name}:{node.lineno}: the subject {node.value!r} belongs into kit/subjects.py"


def patches(root: Path) -> Iterator[str]:
    """Nothing patches: a seam is an argument."""
    for name, tree in python_files(root, *CODE):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                continue
            if any(module.startswith(("unittest.mock", "pytest_mock")) for module in modules):
                yield f"{name}:{node.lineno}: no unittest.mock: give the part as an argument"


def sleeps(root: Path) -> Iterator[str]:
    """A unit test does not sleep: time is an argument. `asyncio.sleep(0)` only lets others run."""
    for name, tree in python_files(root, "tests/unit"):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in (
                "time.sleep",
                "asyncio.sleep",
                "sleep",
            ):
                continue
            if [ast.unparse(argument) for argument in node.args] != ["0"]:
                yield f"{name}:{node.lineno}: a unit test sleeps; use kit/clock.py's ManualClock"


def unfinished(root: Path) -> Iterator[str]:
    """No marks of unfinished work, no path of somebody's machine, no registry's address."""
    for path in _texts(root):
        name = path.relative_to(root).as_posix()
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if match := _UNFINISHED.search(line):
                yield f"{name}:{number}: {match[0]}: finish it or open an issue"
            if match := _MACHINE.search(line):
                yield f"{name}:{number}: {match[0]}…: no machine path, no registry's address"


def _texts(root: Path) -> Iterator[Path]:
    for folder in (*CODE, "protos", "docs", ".ci"):
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.suffix in _TEXTS and "__pycache__" not in path.parts:
                yield path
    for path in sorted(root.iterdir()):
        if path.is_file() and path.suffix in _TEXTS and path.name != ".git":
            yield path


RULES: tuple[Rule, ...] = (
    sizes,
    environment,
    subject_strings,
    patches,
    sleeps,
    unfinished,
    checks_docs.architecture,
    checks_docs.requirements,
    checks_docs.links,
)


def main(root: Path = ROOT) -> int:
    found = [problem for rule in RULES for problem in rule(root)]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
