"""Rules in and out of files: CSV for a spreadsheet, JSON for a program. No I/O: bytes in, bytes out.

Export then import gives the same rules (without `updated_at_ms`, which is the store's). An import never
raises for what is in the file: it says row, field and problem, and the caller stores nothing while there is
any.

CSV: UTF-8, with or without a byte order mark, comma (or semicolon or tab as in the heading), one rule a row.

    id, name, scope, account_id, item_ids, match, keywords, reply, priority, enabled, cooldown_seconds,
    max_per_chat, active_hours

Columns may be left out or reordered; `keywords` and `reply` must be there. Several keywords or items stand on
lines of their own or with `|` between (regular expressions only on lines of their own); `\\|` is a bar and
`\\\\` a backslash. Messages of a reply are separated by a line `###`; a message
`[image 800x600] https://…` is an image; a text that would look like one begins with a backslash. An empty
scope follows from item_ids and account_id, an empty reply stays silent.

A spreadsheet runs a cell that begins with `=`, `+`, `-` or `@`. Export puts an apostrophe in front of such
cells (and of those that begin with an apostrophe), import takes it away.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from frontdesk.kit.errors import InvalidArgument
from frontdesk.reply_engine.rules.model import LIMITS, ImagePart, Limits, Match, Part, Rule
from frontdesk.reply_engine.rules.template import SEPARATOR, split_parts
from frontdesk.reply_engine.rules.validate import rule_to_raw, validate_rule

COLUMNS = (
    "id",
    "name",
    "scope",
    "account_id",
    "item_ids",
    "match",
    "keywords",
    "reply",
    "priority",
    "enabled",
    "cooldown_seconds",
    "max_per_chat",
    "active_hours",
)
NEEDED = ("keywords", "reply")

_RISKY = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_IMAGE = re.compile(r"\[image(?: ([0-9]{1,6})x([0-9]{1,6}))?\] (\S+)")
_LOOKS_SPECIAL = re.compile(r"\\|\[image\b")
_TRUE, _FALSE = frozenset(("true", "yes", "1", "on", "是")), frozenset(("false", "no", "0", "off", "否"))


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong: the row from 1 without the heading (0: the file as a whole), the field, the problem."""

    row: int
    field: str
    problem: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """Rules read from a file, with their rows; and what could not be read."""

    rules: tuple[tuple[int, Rule], ...] = ()
    errors: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import would do; shown as it is for a dry run.

    Rules in `create` have an empty id, for the store to give. With any `errors` nothing is to be stored.
    """

    create: tuple[Rule, ...] = ()
    update: tuple[Rule, ...] = ()
    unchanged: tuple[Rule, ...] = ()
    errors: tuple[Problem, ...] = ()


def plan(existing: Iterable[Rule], incoming: Parsed) -> ImportPlan:
    """Compare what a file says with the organization's rules.

    A row whose id is known updates that rule. Any other row (no id, or one of another installation) creates a
    rule, unless the very same rule is there already: importing a file twice changes nothing the second time.
    Rules that the file does not name stay.
    """
    known = {rule.id: rule for rule in existing}
    named = {rule.id for _row, rule in incoming.rules if rule.id in known}
    # How many rules with this content the file may still find in place of creating one.
    free: dict[Rule, list[str]] = {}
    for rule in known.values():
        if rule.id not in named:
            free.setdefault(_content(rule), []).append(rule.id)
    create: list[Rule] = []
    update: list[Rule] = []
    unchanged: list[Rule] = []
    for _row, rule in incoming.rules:
        before = known.get(rule.id)
        if before is None and free.get(_content(rule)):
            before = known[free[_content(rule)].pop(0)]
        if before is None:
            create.append(_content(rule))
        elif _content(before) == _content(rule):
            unchanged.append(before)
        else:
            update.append(rule)
    return ImportPlan(tuple(create), tuple(update), tuple(unchanged), incoming.errors)


def parse_json(data: bytes, organization_id: str, limits: Limits = LIMITS) -> Parsed:
    """Rules of a JSON list of objects in the raw form (`validate.py`), for one organization.

    `organization_id` and `updated_at_ms` in the file are not looked at.
    """
    if len(data) > limits.import_bytes:
        return _whole_file(f"has {len(data)} bytes, at most {limits.import_bytes} are allowed")
    try:
        rows = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        return _whole_file(f"is not JSON: {error}")
    if not isinstance(rows, list):
        return _whole_file("is not a list of rules")
    if len(rows) > limits.import_rows:
        return _whole_file(f"has {len(rows)} rules, at most {limits.import_rows} are allowed")
    return _read(enumerate(rows, 1), organization_id, limits)


def export_json(rules: Iterable[Rule]) -> bytes:
    """Rules as a JSON list, indented, that `parse_json` reads."""
    rows = [{k: v for k, v in rule_to_raw(rule).items() if k not in _OF_THE_STORE} for rule in rules]
    return orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def parse_csv(data: bytes, organization_id: str, limits: Limits = LIMITS) -> Parsed:
    """Rules of a CSV file, for one organization."""
    if len(data) > limits.import_bytes:
        return _whole_file(f"has {len(data)} bytes, at most {limits.import_bytes} are allowed")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _whole_file(f"is not UTF-8 (byte {error.start}); save it as CSV UTF-8")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)))
    except csv.Error as error:
        return _whole_file(f"is not CSV: {error}")
    heading = [cell.strip().lower() for cell in rows[0]] if rows else []
    problem = _heading_problem(heading)
    if problem:
        return _whole_file(problem)
    if len(rows) - 1 > limits.import_rows:
        return _whole_file(f"has {len(rows) - 1} rows, at most {limits.import_rows} are allowed")
    cells = (
        (n, _cells(heading, row)) for n, row in enumerate(rows[1:], 1) if any(cell.strip() for cell in row)
    )
    return _read(cells, organization_id, limits)


def export_csv(rules: Iterable[Rule]) -> bytes:
    """Rules as CSV that `parse_csv` and spreadsheets read; with a byte order mark, which Excel needs."""
    out = io.StringIO(newline="")
    # Every cell in quotes: a spreadsheet that splits at semicolons would cut a text into cells of its own.
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    for rule in rules:
        writer.writerow(guard(cell) for cell in _row(rule))
    return out.getvalue().encode("utf-8-sig")


def guard(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula; whole numbers stay as they are."""
    return f"'{cell}" if cell.startswith(("'", *_RISKY)) and not _INTEGER.fullmatch(cell) else cell


def unguard(cell: str) -> str:
    """What `guard` was given."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(("'", *_RISKY)) else cell


_OF_THE_STORE = frozenset(("organization_id", "updated_at_ms"))


def _whole_file(problem: str) -> Parsed:
    return Parsed(errors=(Problem(0, "file", problem),))


def _content(rule: Rule) -> Rule:
    """What two rules are compared by."""
    return replace(rule, id="", updated_at_ms=0)


def _read(rows: Iterable[tuple[int, object]], organization_id: str, limits: Limits) -> Parsed:
    """Validate row by row; a row with a problem yields it, and reading stops when there are too many."""
    rules: list[tuple[int, Rule]] = []
    errors: list[Problem] = []
    seen: dict[str, int] = {}
    for number, row in rows:
        try:
            rule = validate_rule(_raw(row, organization_id), limits)
            if rule.id and rule.id in seen:
                raise InvalidArgument("id", f"is the one of row {seen[rule.id]} too")
        except InvalidArgument as error:
            errors.append(Problem(number, error.field, error.problem))
            if len(errors) >= limits.import_errors:
                errors.append(Problem(number, "file", "has more problems; the rest was not read"))
                break
            continue
        if rule.id:
            seen[rule.id] = number
        rules.append((number, rule))
    return Parsed(tuple(rules), tuple(errors))


def _raw(row: object, organization_id: str) -> dict[str, object]:
    if isinstance(row, _Cells):
        raw = row.raw()
    elif isinstance(row, Mapping):
        raw = {str(key): value for key, value in row.items() if key not in _OF_THE_STORE}
    else:
        raise InvalidArgument("rule", "is not an object")
    return raw | {"organization_id": organization_id}


def _delimiter(text: str) -> str:
    """The separator of the heading: whichever of comma, semicolon and tab it has most of."""
    heading = text.split("\n", 1)[0]
    return max(",;\t", key=heading.count)


def _heading_problem(heading: Sequence[str]) -> str:
    unknown = [name for name in heading if name not in COLUMNS]
    if unknown:
        return f"has an unknown column {unknown[0][:60]!r}; known are {', '.join(COLUMNS)}"
    twice = [name for name in COLUMNS if heading.count(name) > 1]
    if twice:
        return f"has the column {twice[0]!r} twice"
    missing = [name for name in NEEDED if name not in heading]
    return f"lacks the column {missing[0]!r}" if missing else ""


@dataclass(frozen=True, slots=True)
class _Cells:
    """One row: cells by column, and how many there are too many."""

    cells: Mapping[str, str]
    surplus: int

    def raw(self) -> dict[str, object]:
        """The row in the raw form. InvalidArgument names the column."""
        if self.surplus:
            raise InvalidArgument("row", f"has {self.surplus} cells more than the heading")
        get = self.cells.get
        items = _split(get("item_ids", ""), bars=True)
        match = get("match", "").lower() or Match.CONTAINS.value
        scope = get("scope", "").lower() or (
            "item" if items else "account" if get("account_id") else "global"
        )
        return {
            "id": get("id", ""),
            "name": get("name", ""),
            "scope": scope,
            "account_id": get("account_id", ""),
            "item_ids": items,
            "match": match,
            "keywords": _split(get("keywords", ""), bars=match != Match.REGEX),
            "parts": [_part(text) for text in split_parts(get("reply", ""))],
            "priority": _integer(get("priority", ""), "priority"),
            "enabled": _boolean(get("enabled", ""), "enabled"),
            "cooldown_seconds": _integer(get("cooldown_seconds", ""), "cooldown_seconds"),
            "max_per_chat": _integer(get("max_per_chat", ""), "max_per_chat"),
            "active_hours": _split(get("active_hours", ""), bars=True),
        }


def _cells(heading: Sequence[str], row: Sequence[str]) -> _Cells:
    cells = {name: unguard(cell.strip(" \t\r\n")) for name, cell in zip(heading, row, strict=False)}
    return _Cells(cells, sum(1 for cell in row[len(heading) :] if cell.strip()))


def _row(rule: Rule) -> Iterator[str]:
    """The cells of a rule, in the order of COLUMNS."""
    bars = rule.match is not Match.REGEX
    yield rule.id
    yield rule.name
    yield rule.scope.value
    yield rule.account_id or ""
    yield _join(rule.item_ids, bars=True)
    yield rule.match.value
    yield _join(rule.keywords, bars=bars)
    yield f"\n{SEPARATOR}\n".join(_cell(part) for part in rule.reply.parts)
    yield str(rule.priority)
    yield "true" if rule.enabled else "false"
    yield str(rule.cooldown_seconds)
    yield "" if rule.max_per_chat is None else str(rule.max_per_chat)
    yield "|".join(rule.active_hours)


def _join(words: Iterable[str], *, bars: bool) -> str:
    return "\n".join(word.replace("\\", "\\\\").replace("|", "\\|") if bars else word for word in words)


def _split(cell: str, *, bars: bool) -> list[str]:
    """The words of a cell, trimmed, empty ones left out."""
    lines = cell.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    words = lines if not bars else [word for line in lines for word in _split_at_bars(line)]
    return [word.strip() for word in words if word.strip()]


def _split_at_bars(line: str) -> list[str]:
    words = [""]
    position = 0
    while position < len(line):
        if line[position] == "|":
            words.append("")
        else:
            if line[position] == "\\" and line[position + 1 : position + 2] in ("\\", "|"):
                position += 1
            words[-1] += line[position]
        position += 1
    return words


def _cell(part: Part) -> str:
    """A part as text; `_part` reads it."""
    if isinstance(part, ImagePart):
        size = f" {part.width}x{part.height}" if part.width or part.height else ""
        return f"[image{size}] {part.url}"
    return f"\\{part.text}" if _LOOKS_SPECIAL.match(part.text) else part.text


def _part(text: str) -> dict[str, Any]:
    image = _IMAGE.fullmatch(text)
    if image:
        width, height, url = image.groups()
        return {"image": {"url": url, "width": int(width or 0), "height": int(height or 0)}}
    return {"text": text[1:] if text.startswith("\\") and _LOOKS_SPECIAL.match(text[1:]) else text}


def _integer(cell: str, field: str) -> int | None:
    text = cell.strip()
    if not text:
        return None
    if not _INTEGER.fullmatch(text):
        raise InvalidArgument(field, f"{text[:40]!r} is not a whole number")
    return int(text)


def _boolean(cell: str, field: str) -> bool | None:
    text = cell.strip().lower()
    if text and text not in _TRUE | _FALSE:
        raise InvalidArgument(field, f"{text[:40]!r} is neither true nor false")
    return text in _TRUE if text else None
