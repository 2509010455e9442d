"""Write the locks from pyproject.toml, or check without a network that they still belong to it.

python tools/lock.py             keeps the versions that are locked and adds or removes what changed
python tools/lock.py --upgrade   takes the newest versions
python tools/lock.py --check     exits 1 and says what is missing, unpinned or outside its bounds

`requirements.lock` holds what runs (with the extras `laptop` and `postgres`), `requirements-dev.lock` that
and the tools. Every pin has hashes; no lock names an index, so each machine uses its own.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = "requirements.lock"
DEV = "requirements-dev.lock"
RUNTIME_EXTRAS = ("laptop", "postgres")
COMPILE = (
    *("--universal", "--python-version", "3.11", "--generate-hashes", "--quiet"),
    *("--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate"),
)
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)")


def compile_locks(root: Path, *, upgrade: bool) -> None:
    """Write both locks with uv; raises CalledProcessError when nothing fits together."""
    uv = [str(Path(sys.executable).parent / "uv"), "pip", "compile", "pyproject.toml", *COMPILE]
    more = ["--upgrade"] if upgrade else []
    extras = [part for extra in RUNTIME_EXTRAS for part in ("--extra", extra)]
    subprocess.run([*uv, *extras, *more, "-o", RUNTIME], cwd=root, check=True)
    subprocess.run([*uv, "--all-extras", "-c", RUNTIME, *more, "-o", DEV], cwd=root, check=True)


def pins(lock: str) -> dict[str, str]:
    """Name and version of everything that a lock's text pins."""
    found = (_PIN.match(line) for line in lock.splitlines())
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def problems(pyproject: str, runtime: str, dev: str) -> list[str]:
    """What keeps the texts of the two locks from belonging to the text of pyproject.toml."""
    project = tomllib.loads(pyproject)["project"]
    extras: dict[str, list[str]] = project.get("optional-dependencies", {})
    run = [*project["dependencies"], *(line for name in RUNTIME_EXTRAS for line in extras.get(name, []))]
    everything = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
    found = [
        *_unmet(RUNTIME, run, pins(runtime)),
        *_unmet(DEV, everything, pins(dev)),
        *_unhashed(RUNTIME, runtime),
        *_unhashed(DEV, dev),
    ]
    developed = pins(dev)
    for name, version in pins(runtime).items():
        if developed.get(name) != version:
            found.append(f"{DEV}: {name} is {developed.get(name, 'missing')}, {RUNTIME} has {version}")
    return found


def _unmet(lock: str, wanted: Sequence[str], pinned: dict[str, str]) -> list[str]:
    found = []
    for line in wanted:
        requirement = Requirement(line)
        version = pinned.get(canonicalize_name(requirement.name))
        if version is None:
            found.append(f"{lock}: {requirement.name} is missing; run: make lock")
        elif not requirement.specifier.contains(version, prereleases=True):
            found.append(
                f"{lock}: {requirement.name} {version} is not {requirement.specifier}; run: make lock"
            )
    return found


def _unhashed(lock: str, text: str) -> list[str]:
    found = []
    for block in re.split(r"\n(?=\S)", text.strip()):
        first = block.split("\n", 1)[0]
        if not _PIN.match(first):
            found.append(f"{lock}: not a pin: {first[:80]}")
        elif "--hash=sha256:" not in block:
            found.append(f"{lock}: without a hash: {first[:80]}")
    return found


def main(argv: Sequence[str], root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only compare, offline")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    options = parser.parse_args(argv)
    if not options.check:
        compile_locks(root, upgrade=options.upgrade)
        return 0
    found = problems(*((root / name).read_text() for name in ("pyproject.toml", RUNTIME, DEV)))
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
