"""`make lint` runs its steps, shows what failed and says so by its exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lint

ROOT = Path(lint.__file__).parent.parent
BAD_MODULE = "import os\n\ndef f(x):\n    return undefined\n"
PROTO = """syntax = "proto3";
// A package.
package frontdesk.api.replies.v1;
// A message.
message Thing {
  // A name.
  string name = 1;
}
"""


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with this project's own configuration, committed."""
    for checked in lint.CHECKED:
        (tmp_path / checked).mkdir(parents=True)
        (tmp_path / checked / f"fine_{Path(checked).name}.py").write_text('"""Fine."""\n')
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "services/frontdesk/__init__.py").write_text("")
    folder = tmp_path / "protos/frontdesk/api/replies/v1"
    folder.mkdir(parents=True)
    (tmp_path / "protos/buf.yaml").write_text((ROOT / "protos/buf.yaml").read_text())
    (folder / "thing.proto").write_text(PROTO)
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def outcome(tree: Path, name: str) -> lint.Outcome:
    (step,) = [step for step in lint.steps(tree) if step.name == name]
    return lint.run(step, tree)


@pytest.mark.parametrize("name", ["mypy", "ruff format", "ruff check"])
def test_a_bad_module_fails(tree: Path, name: str) -> None:
    """Types, format and rules each find their fault in a module that has one of each."""
    assert outcome(tree, name).ok, outcome(tree, name).output
    (tree / "services/frontdesk/bad.py").write_text(BAD_MODULE)
    assert not outcome(tree, name).ok


def test_untyped_tests_and_tools_fail_too(tree: Path) -> None:
    """mypy is strict over tests and tools as over the source."""
    (tree / "tests/test_a.py").write_text("def test_a():\n    pass\n")
    (tree / "tools/b.py").write_text("def b(x):\n    return x\n")
    output = outcome(tree, "mypy").output
    assert "tests/test_a.py:1" in output
    assert "tools/b.py:1" in output


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("kit", "import frontdesk.reply_engine"),
        ("reply_engine", "import frontdesk.connection_gateway"),
        ("connection_gateway", "import frontdesk.simulators"),
        ("simulators", "import frontdesk.api"),
    ],
)
def test_an_import_against_the_layers_fails(tree: Path, module: str, line: str) -> None:
    """Services never import each other, the kit imports none, simulators know no contract."""
    for name in ("cli", "connection_gateway", "reply_engine", "ai_proxy", "simulators", "kit", "api"):
        (tree / "services/frontdesk" / name).mkdir()
        (tree / "services/frontdesk" / name / "__init__.py").write_text("")
    for name in ("__main__", "fleet", "provision"):
        (tree / f"services/frontdesk/{name}.py").write_text("")
    (step,) = [step for step in lint.steps(tree) if step.name == "layers"]
    layered = lint.Step(step.name, ("env", "PYTHONPATH=services", *step.command))
    assert lint.run(layered, tree).ok, lint.run(layered, tree).output
    (tree / "services/frontdesk" / module / "a.py").write_text(f"{line}\n")
    assert not lint.run(layered, tree).ok


def test_a_proto_without_a_comment_fails(tree: Path) -> None:
    """buf's lint wants a comment on every field."""
    assert outcome(tree, "buf lint").ok, outcome(tree, "buf lint").output
    path = tree / "protos/frontdesk/api/replies/v1/thing.proto"
    path.write_text(PROTO.replace("  // A name.\n", ""))
    assert not outcome(tree, "buf lint").ok


def test_a_proto_that_breaks_main_fails_and_the_last_release_counts_more(tree: Path) -> None:
    """A field's type may not change against main; once something is tagged, against the last tag."""
    path = tree / "protos/frontdesk/api/replies/v1/thing.proto"
    assert outcome(tree, "buf breaking").ok, outcome(tree, "buf breaking").output
    path.write_text(PROTO.replace("string", "int32"))
    assert not outcome(tree, "buf breaking").ok
    git(tree, "commit", "-q", "-a", "-m", "second")
    assert outcome(tree, "buf breaking").ok
    git(tree, "tag", "v1", "HEAD~1")
    assert not outcome(tree, "buf breaking").ok


def test_every_generated_thing_and_every_rule_has_a_step() -> None:
    """What other tests show to fail is what `make lint` runs."""
    scripts = {part for step in lint.steps(ROOT) for part in step.command if part.startswith("tools/")}
    assert scripts == {
        "tools/chart/values_docs.py",
        "tools/checks.py",
        "tools/config_docs.py",
        "tools/lock.py",
        "tools/protos.py",
    }
    assert all((ROOT / script).exists() for script in scripts)


def test_a_failed_step_shows_its_output_and_a_good_one_is_one_line() -> None:
    """The line says ok or FAIL, the name and the seconds."""
    good = lint.run(lint.Step("good", (sys.executable, "-c", "print('quiet')")), ROOT)
    bad = lint.run(lint.Step("bad", (sys.executable, "-c", "raise SystemExit('because')")), ROOT)
    assert str(good).startswith("ok    good")
    assert "quiet" not in str(good)
    assert str(bad).startswith("FAIL  bad")
    assert "because" in str(bad)


def test_lint_fails_when_one_step_does(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`main` returns 1 for a failed step and names how many failed."""
    assert lint.main(["ruff check"], tree) == 0
    (tree / "tools/bad.py").write_text(BAD_MODULE)
    assert lint.main(["ruff check"], tree) == 1
    assert "1 of 1 checks failed" in capsys.readouterr().out
