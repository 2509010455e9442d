"""Every rule of the house finds what breaks it, and lets the rest pass."""

from __future__ import annotations

from pathlib import Path

import pytest

import checks
import checks_docs

LONG_FUNCTION = "def long() -> None:\n" + "    pass\n" * 60
MANY_METHODS = "class Many:\n" + "".join(f"    def m{n}(self) -> None: ...\n" for n in range(13))
# Put together here, so that the rules don't find them in this very file.
MARK = "TO" + "DO"
MACHINE = "/wo" + "rk/main"
REGISTRY = "https://py" + "pi.org/simple"
KIT, UNIT, SERVICE = "services/frontdesk/kit", "tests/unit", "services/frontdesk/reply_engine"

BAD = [
    (checks.sizes, f"{KIT}/a.py", "x = 1\n" * 501, ":1: 501 lines"),
    (checks.sizes, f"{KIT}/a.py", LONG_FUNCTION, ":1: long has 61 lines"),
    (checks.sizes, "tools/a.py", MANY_METHODS, ":1: Many has 13 public methods"),
    (checks.environment, f"{KIT}/a.py", "import os\nx = os.environ['A']\n", ":2: os.environ"),
    (checks.environment, f"{KIT}/a.py", "import os\nx = os.getenv('A')\n", ":2: os.getenv"),
    (checks.environment, f"{KIT}/a.py", "from os import environ\n", ":1: os.environ"),
    (checks.subject_strings, f"{SERVICE}/a.py", "x = 'inbound.>'\n", ":1: the subject 'inbound.>'"),
    (checks.subject_strings, f"{SERVICE}/a.py", "x = f'outbound.{1}.*'\n", ":1: the subject 'outbound.'"),
    (checks.subject_strings, f"{SERVICE}/a.py", "x = 'event.' + kind\n", ":1: the subject 'event.'"),
    (checks.subject_strings, f"{SERVICE}/a.py", "x = 'timer.chat.1'\n", ":1: the subject 'timer.chat.1'"),
    (checks.patches, f"{UNIT}/a.py", "from unittest.mock import patch\n", ":1: no unittest.mock"),
    (checks.patches, f"{UNIT}/a.py", "from unittest import mock\n", ":1: no unittest.mock"),
    (checks.patches, f"{UNIT}/a.py", "import unittest.mock\n", ":1: no unittest.mock"),
    (checks.sleeps, f"{UNIT}/a.py", "import asyncio\nasyncio.sleep(0.1)\n", ":2: a unit test sleeps"),
    (checks.sleeps, f"{UNIT}/a.py", "import time\ntime.sleep(1)\n", ":2: a unit test sleeps"),
    (checks.unfinished, f"{KIT}/a.py", f"x = 1  # {MARK}: more\n", f":1: {MARK}"),
    (checks.unfinished, "docs/a.md", f"see {MACHINE}\n", ":1: /wo"),
    (checks.unfinished, "requirements.lock", f"--index-url {REGISTRY}\n", ":1: https://"),
    (checks_docs.architecture, "ARCHITECTURE.md", "1. `kit/gone.py` does it.\n", ":1: kit/gone.py does not"),
    (checks_docs.architecture, "other.md", "", "ARCHITECTURE.md:1: is missing"),
    (checks_docs.links, "README.md", "[x](docs/gone.md)\n", ":1: the link to docs/gone.md"),
]
GOOD = [
    (checks.sizes, f"{SERVICE}/migrations/versions/0001_a.py", LONG_FUNCTION),
    (checks.sizes, "services/frontdesk/api/a_pb2.py", "x = 1\n" * 501),
    (checks.environment, f"{SERVICE}/config.py", "import os\nx = os.environ\n"),
    (checks.environment, "tests/unit/a.py", "import os\nx = os.environ\n"),
    (checks.subject_strings, f"{KIT}/subjects.py", "x = 'inbound.>'\n"),
    (checks.subject_strings, f"{SERVICE}/a.py", '"""inbound.> is read here."""\nx = "Event. Something"\n'),
    (checks.sleeps, f"{UNIT}/a.py", "import asyncio\nasyncio.sleep(0)\n"),
    (checks.sleeps, "tests/service/a.py", "import asyncio\nasyncio.sleep(0.1)\n"),
    (checks_docs.architecture, "ARCHITECTURE.md", "`ARCHITECTURE.md`, `x.y()`, `kit.errors`\n"),
    (checks_docs.links, "README.md", "[a](README.md#top) [b](https://example.org) [c](#here)\n"),
]


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.mark.parametrize(("rule", "name", "text", "problem"), BAD)
def test_a_rule_finds_what_breaks_it(
    tmp_path: Path, rule: checks.Rule, name: str, text: str, problem: str
) -> None:
    """One bad sample gives one problem, with its file and line."""
    write(tmp_path, name, text)
    (found,) = rule(tmp_path)
    assert problem in found
    assert found.startswith(name if problem.startswith(":") else problem)


@pytest.mark.parametrize(("rule", "name", "text"), GOOD)
def test_a_rule_lets_the_rest_pass(tmp_path: Path, rule: checks.Rule, name: str, text: str) -> None:
    """What the rule allows is no problem."""
    write(tmp_path, name, text)
    assert list(rule(tmp_path)) == []


def test_the_whole_check_fails_when_one_rule_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`main` prints every problem and returns 1; a clean tree returns 0."""
    write(tmp_path, "ARCHITECTURE.md", "Nothing.\n")
    write(tmp_path, "docs/requirements.md", TABLE)
    write(tmp_path, f"{KIT}/bus.py", "")
    write(tmp_path, "tests/service/test_bus.py", "")
    assert checks.main(tmp_path) == 0
    write(tmp_path, f"{UNIT}/a.py", "import time\ntime.sleep(1)\n")
    assert checks.main(tmp_path) == 1
    assert "tests/unit/a.py:2: a unit test sleeps" in capsys.readouterr().out


TABLE = """Ids: CG-01…CG-02, S-01…S-01

| id | requirement | built in | shown by |
|---|---|---|---|
| CG-01 | one | `kit/bus.py` | `tests/service/test_bus.py` |
| CG-02 | two, `a \\| b` | later (issue 4) | |
| S-01 | three | later | |
"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("", "", None),
        ("| S-01 | three | later | |\n", "", "S-01 has no row"),
        ("| S-01 |", "| CG-01 |", "CG-01 stands twice"),
        ("| S-01 |", "| S-02 |", "S-02 is in no range of ids"),
        ("kit/bus.py", "kit/gone.py", "CG-01: kit/gone.py does not exist"),
        ("service/test_bus.py", "service/test_gone.py", "CG-01: tests/service/test_gone.py does not exist"),
        ("`tests/service/test_bus.py`", "by hand", "CG-01 names no file"),
        ("later (issue 4) | |", "later | `tests/service/test_bus.py` |", "CG-02 is shown and yet not built"),
        ("| three | later | |", "| three | later |", "S-01 has 3 columns"),
        ("Ids: CG-01…CG-02, S-01…S-01", "", "lists no ranges"),
    ],
)
def test_the_coverage_table_is_whole(tmp_path: Path, old: str, new: str, problem: str | None) -> None:
    """Every id has one row, and every row names files that exist or says later."""
    write(tmp_path, "services/frontdesk/kit/bus.py", "")
    write(tmp_path, "tests/service/test_bus.py", "")
    write(tmp_path, "docs/requirements.md", TABLE.replace(old, new, 1))
    found = list(checks_docs.requirements(tmp_path))
    if problem is None:
        assert found == []
    else:
        assert any(problem in line for line in found), found
