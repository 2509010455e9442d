"""Every check of `make lint`, one line each; a check that fails shows what it said.

python tools/lint.py             runs all of them, two at a time
python tools/lint.py mypy buf    runs those whose name contains a given word

Exits 1 when one fails.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
CHECKED = ("services/frontdesk", "tests", "tools")


@dataclass(frozen=True)
class Step:
    """A check: a name and a command that exits 0 when all is well."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a step."""

    step: Step
    ok: bool
    output: str
    seconds: float

    def __str__(self) -> str:
        line = f"{'ok  ' if self.ok else 'FAIL'}  {self.step.name:<16} {self.seconds:5.1f} s"
        return line if self.ok else f"{line}\n{self.output.rstrip()}"


def steps(root: Path) -> list[Step]:
    """The checks of the tree at `root`, the longest first."""

    def tool(name: str, *arguments: str) -> tuple[str, ...]:
        return (str(BIN / name), *arguments)

    def script(name: str, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, f"tools/{name}.py", *arguments)

    against = baseline(root)
    return [
        Step("mypy", tool("mypy", *CHECKED)),
        Step(
            "ruff format", tool("ruff", "format", "--check", "--quiet", "--output-format=concise", *CHECKED)
        ),
        Step("ruff check", tool("ruff", "check", "--quiet", "--output-format=concise", *CHECKED)),
        Step("layers", tool("lint-imports")),
        Step("house rules", script("checks")),
        Step("locks", script("lock", "--check")),
        Step("protos", script("protos", "--check")),
        Step("configuration", script("config_docs", "--check")),
        Step("chart values", script("chart/values_docs", "--check")),
        Step("buf lint", tool("buf", "lint", "protos")),
        Step("buf breaking", tool("buf", "breaking", "protos", "--against", against)),
    ]


def baseline(root: Path) -> str:
    """What the protos may not break, as buf names it: the last release.

    Before the first one nobody has clients that could break, so only HEAD counts: a change that breaks is
    seen before it is committed, and committed knowingly.
    """
    tag = _git(root, "describe", "--tags", "--abbrev=0")
    if tag and _git(root, "ls-tree", "--name-only", tag, "protos/buf.yaml"):
        return f".git#ref={_git(root, 'rev-parse', tag + '^{commit}')},subdir=protos"
    return ".git#ref=HEAD,subdir=protos"


def _git(root: Path, *arguments: str) -> str:
    """What git prints, empty when it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def run(step: Step, root: Path) -> Outcome:
    start = time.monotonic()
    done = subprocess.run(
        step.command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return Outcome(step, done.returncode == 0, done.stdout, time.monotonic() - start)


def main(words: Sequence[str], root: Path = ROOT) -> int:
    chosen = [step for step in steps(root) if not words or any(word in step.name for word in words)]
    failed = 0
    with ThreadPoolExecutor(2) as pool:
        for outcome in pool.map(lambda step: run(step, root), chosen):
            print(outcome, flush=True)
            failed += not outcome.ok
    if failed:
        print(f"{failed} of {len(chosen)} checks failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
