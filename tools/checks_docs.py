"""The rules of tools/checks.py about documents: what they name exists, and the coverage table is whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

# Paths in documents may leave this out, as every sentence is about it.
SOURCE = "services/frontdesk"
_NAMED = re.compile(r"`([\w./-]+/?)`")
_FILE = re.compile(r"\.(py|proto|md|toml|lock|yaml|json|tsx?)$")
_RANGE = re.compile(r"\b([A-Z]{1,2})-(\d\d)…\1-(\d\d)\b")
_ROW = re.compile(r"^\| ([A-Z]{1,2}-\d\d) \|(.*)\|\s*$")
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


def _find(root: Path, name: str) -> bool:
    return any((base / name).exists() for base in (root, root / SOURCE))


def _files_named(text: str) -> list[str]:
    """What stands in back-quotes and looks like a file, or like a folder with a slash at its end."""
    return [name for name in _NAMED.findall(text) if _FILE.search(name) or name.endswith("/")]


def architecture(root: Path) -> Iterator[str]:
    """Every file that ARCHITECTURE.md names exists."""
    name = "ARCHITECTURE.md"
    if not (root / name).exists():
        yield f"{name}:1: is missing"
        return
    for number, line in enumerate((root / name).read_text().splitlines(), 1):
        for named in _files_named(line):
            if not _find(root, named):
                yield f"{name}:{number}: {named} does not exist"


def requirements(root: Path) -> Iterator[str]:
    """docs/requirements.md has a row for each of its ids, and every file in a row exists.

    A row is `| id | requirement | built in | shown by |`; both last columns name files, or `built in` begins
    with `later`.
    """
    name = "docs/requirements.md"
    if not (root / name).exists():
        yield f"{name}:1: is missing"
        return
    text = (root / name).read_text()
    wanted = {
        f"{area}-{number:02d}"
        for area, first, last in _RANGE.findall(text)
        for number in range(int(first), int(last) + 1)
    }
    if not wanted:
        yield f"{name}:1: lists no ranges of ids (like CG-01…CG-63)"
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not (match := _ROW.match(line)):
            continue
        row, cells = match[1], [cell.strip() for cell in re.split(r"(?<!\\)\|", match[2])]
        if row in seen:
            yield f"{name}:{number}: {row} stands twice"
        seen.add(row)
        if row not in wanted:
            yield f"{name}:{number}: {row} is in no range of ids"
        yield from (f"{name}:{number}: {problem}" for problem in _row_problems(root, row, cells))
    yield from (f"{name}:1: {row} has no row" for row in sorted(wanted - seen))


def _row_problems(root: Path, row: str, cells: list[str]) -> Iterator[str]:
    if len(cells) != 3:
        yield f"{row} has {len(cells) + 1} columns, not 4"
        return
    _, built_in, shown_by = cells
    later = built_in.startswith("later")
    if later and _files_named(shown_by):
        yield f"{row} is shown and yet not built"
    if not later and not (_files_named(built_in) and _files_named(shown_by)):
        yield f"{row} names no file that builds it and one that shows it, and is not `later`"
    for named in _files_named(built_in) + _files_named(shown_by):
        if not _find(root, named):
            yield f"{row}: {named} does not exist"


def links(root: Path) -> Iterator[str]:
    """Every relative link of a document leads somewhere."""
    documents = [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "services").glob("*.md")]
    for path in sorted(documents):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for target in _LINK.findall(line):
                if not (path.parent / target).exists():
                    yield f"{path.relative_to(root).as_posix()}:{number}: the link to {target} leads nowhere"
