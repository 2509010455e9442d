"""Rules to files and back."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.kit.errors import InvalidArgument
from frontdesk.reply_engine.rules.model import ImagePart, Limits, Match, Reply, Rule, Scope, TextPart
from frontdesk.reply_engine.rules.transfer import (
    COLUMNS,
    ImportPlan,
    Parsed,
    Problem,
    export_csv,
    export_json,
    guard,
    parse_csv,
    parse_json,
    plan,
    unguard,
)
from frontdesk.reply_engine.rules.validate import validate_rule

TEXTS = st.one_of(
    st.text(max_size=20),
    st.text(alphabet="a|\\'\"=+-@#\n\t,;{}[]图 ", max_size=12),
    st.sampled_from(
        ["=1+1", "'=x", "''", "[image] https://a.example", "\\[image]", "\\\\a", "-5", "＝1", "@x", "'"]
    ),
)
IDS = st.text(alphabet="abc|\\=-'@1", min_size=1, max_size=5)


@st.composite
def valid_rules(draw: st.DrawFn) -> Rule:
    """A rule in normal form, with every hostile character that the normal form allows."""
    scope, match = draw(st.sampled_from(Scope)), draw(st.sampled_from(Match))
    words = st.sampled_from(["a|b", "=x", r"\d+\|", "'q"]) if match is Match.REGEX else TEXTS
    raw: dict[str, object] = {
        "id": draw(IDS),
        "organization_id": "o1",
        "name": draw(TEXTS),
        "scope": scope.value,
        "account_id": draw(IDS) if scope is not Scope.GLOBAL else "",
        "item_ids": draw(st.lists(IDS, min_size=1, max_size=3)) if scope is Scope.ITEM else [],
        "keywords": [] if match is Match.ANY else draw(st.lists(words, min_size=1, max_size=4)),
        "match": match.value,
        "parts": draw(
            st.lists(
                st.builds(lambda text: {"text": text}, TEXTS)
                | st.sampled_from(
                    [
                        {"image": {"url": "https://a.example/x,y.png", "width": 3, "height": 0}},
                        {"image": {"url": "http://a.example"}},
                    ]
                ),
                max_size=3,
            )
        ),
        "priority": draw(st.integers(-5, 5)),
        "enabled": draw(st.booleans()),
        "cooldown_seconds": draw(st.integers(0, 100)),
        "max_per_chat": draw(st.none() | st.integers(1, 9)),
        "active_hours": draw(st.lists(st.sampled_from(["09:00-12:00", "22:00-06:00"]), max_size=2)),
    }
    try:
        return validate_rule(raw)
    except InvalidArgument:
        return Rule(draw(IDS), "o1", keywords=("k",), reply=Reply((TextPart("t"),)))


RULES = st.lists(valid_rules(), max_size=4, unique_by=lambda of: of.id)


@settings(max_examples=200, deadline=None)
@given(RULES)
def test_round_trips(rules: list[Rule]) -> None:
    """Export then import is the identity, in CSV and in JSON, and imports nothing anew."""
    for parsed in (parse_csv(export_csv(rules), "o1"), parse_json(export_json(rules), "o1")):
        assert parsed.errors == ()
        assert [rule for _row, rule in parsed.rules] == rules
        assert [row for row, _rule in parsed.rules] == list(range(1, len(rules) + 1))
        assert plan(rules, parsed) == ImportPlan(unchanged=tuple(rules))


@settings(max_examples=100, deadline=None)
@given(RULES)
def test_no_exported_cell_is_a_formula(rules: list[Rule]) -> None:
    """No cell of an export begins with what a spreadsheet would run, but for whole numbers."""
    for row in csv.reader(io.StringIO(export_csv(rules).decode("utf-8-sig"), newline="")):
        for cell in row:
            assert (
                not cell.startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r"))
                or cell.lstrip("-").isdigit()
            )


def test_every_cell_is_quoted() -> None:
    """A text with a semicolon stays one cell in a spreadsheet that separates by semicolons."""
    data = export_csv([Rule("r1", "o1", keywords=("k",), reply=Reply((TextPart("hi;=1+1"),)))])
    assert b'"hi;=1+1"' in data


@settings(deadline=None)
@given(st.text(alphabet="'=+-@1a\t ", max_size=5) | st.text())
def test_guard_is_undone(cell: str) -> None:
    """Taking the guard off gives the cell back."""
    assert unguard(guard(cell)) == cell


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200)
    | st.lists(st.lists(TEXTS, max_size=14), max_size=3).map(
        lambda rows: (",".join(COLUMNS) + "\n" + "\n".join(",".join(row) for row in rows)).encode(
            "utf-8", "replace"
        )
    )
)
def test_csv_fuzz(data: bytes) -> None:
    """Any bytes give rules or problems, never an exception."""
    parsed = parse_csv(data, "o1")
    assert isinstance(parsed, Parsed)
    assert all(problem.field and problem.problem and problem.row >= 0 for problem in parsed.errors)


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=100)
    | st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "keywords", "x"]), inner)
        ),
    ).map(orjson.dumps)
)
def test_json_fuzz(data: bytes) -> None:
    """Any bytes give rules or problems, never an exception."""
    parsed = parse_json(data, "o1")
    assert parsed.errors or len(parsed.rules) == len(orjson.loads(data))


def test_a_hand_written_file() -> None:
    """A short file as a person writes it is read: few columns, bars or lines between keywords, an image."""
    data = (
        "﻿Keywords;Reply;item_ids;Enabled\r\n"
        '包邮|邮费;"包邮的\n###\n[image 8x6] https://a.example/x.png";;是\r\n'
        ";;;\r\n"
        '"多少钱\n价格";;1|2;off\r\n'
    ).encode()
    parsed = parse_csv(data, "o1")
    assert parsed.errors == ()
    assert parsed.rules == (
        (
            1,
            Rule(
                "",
                "o1",
                keywords=("包邮", "邮费"),
                reply=Reply((TextPart("包邮的"), ImagePart("https://a.example/x.png", 8, 6))),
            ),
        ),
        (3, Rule("", "o1", Scope.ITEM, item_ids=("1", "2"), keywords=("多少钱", "价格"), enabled=False)),
    )


def test_account_scope_follows_from_the_account() -> None:
    """Without a scope the account makes it an account's rule; a regex keeps its bars."""
    parsed = parse_csv(b"account_id,match,keywords,reply\na1,regex,a|b,hi\n", "o1")
    rule = parsed.rules[0][1]
    assert (rule.scope, rule.account_id, rule.keywords) == (Scope.ACCOUNT, "a1", ("a|b",))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "lacks the column 'keywords'"),
        (b"keywords\n", "lacks the column 'reply'"),
        (b"keywords,reply,colour\n", "unknown column 'colour'"),
        (b"keywords,reply,Reply\n", "column 'reply' twice"),
        ("keywords,reply\n多少,1".encode("gbk"), "is not UTF-8 (byte 15)"),
        (b"keywords,reply\n" + b'"' + b"x" * 140_000 + b'"', "is not CSV: field larger than"),
        (b"x" * (900 * 1024 + 1), "at most 921600"),
    ],
)
def test_file_problems(data: bytes, problem: str) -> None:
    """What is wrong with a file as a whole is row 0."""
    parsed = parse_csv(data, "o1")
    assert parsed.rules == ()
    assert [(p.row, p.field) for p in parsed.errors] == [(0, "file")]
    assert problem in parsed.errors[0].problem


def test_row_problems() -> None:
    """Each bad row is reported by row, field and problem, and the good ones are still read."""
    data = (
        b"id,keywords,reply,priority,enabled,max_per_chat,match\n"
        b"r1,a,hello {nobody},,,,\n"
        b"r1,a,x,many,,,\n"
        b"r1,a,x,,maybe,,\n"
        b"r1,a,x,,,0,\n"
        b"r1,ok|,x,,,,\n"
        b"r1,b,x,,,,\n"
        b"r2,b,x,,,,,,surplus\n"
        b"r3,a(b,x,,,,REGEX\n"
    )
    parsed = parse_csv(data, "o1")
    assert [(row, rule.keywords) for row, rule in parsed.rules] == [(5, ("ok",))]
    assert [(p.row, p.field) for p in parsed.errors] == [
        (1, "parts[0].text"),
        (2, "priority"),
        (3, "enabled"),
        (4, "max_per_chat"),
        (6, "id"),
        (7, "row"),
        (8, "keywords[0]"),
    ]
    assert parsed.errors[4].problem == "is the one of row 5 too"


def test_json_problems() -> None:
    """JSON is reported alike; the organization is the caller's, whatever the file says."""
    rows = [
        {"organization_id": "o2", "keywords": ["a"]},
        5,
        {"keywords": [""]},
        {"colour": 1, "keywords": ["a"]},
    ]
    parsed = parse_json(b"\xef\xbb\xbf" + orjson.dumps(rows), "o1")
    assert [(row, rule.organization_id) for row, rule in parsed.rules] == [(1, "o1")]
    assert [(p.row, p.field) for p in parsed.errors] == [(2, "rule"), (3, "keywords[0]"), (4, "colour")]
    for data, problem in (
        (b"{}", "not a list"),
        (b"[", "not JSON"),
        (b"[" + b" " * 921_600 + b"]", "at most"),
    ):
        errors = parse_json(data, "o1").errors
        assert [(p.row, p.field) for p in errors] == [(0, "file")]
        assert problem in errors[0].problem


def test_bounds() -> None:
    """Too many rows are refused as a whole, and too many problems end the reading."""
    limits = Limits(import_rows=3, import_errors=2)
    for parsed in (
        parse_csv(b"keywords,reply\n" + b"a,b\n" * 4, "o1", limits),
        parse_json(b"[1,2,3,4]", "o1", limits),
    ):
        assert [(p.row, p.field) for p in parsed.errors] == [(0, "file")]
    errors = parse_json(b"[1,2,3]", "o1", limits).errors
    assert [(p.row, p.field) for p in errors] == [(1, "rule"), (2, "rule"), (2, "file")]


def test_plan() -> None:
    """A known id updates or stays, an unknown one creates with no id, the same content is found once."""
    one = Rule("r1", "o1", keywords=("a",), updated_at_ms=5)
    two = Rule("r2", "o1", keywords=("b",), updated_at_ms=6)
    changed = replace(one, keywords=("c",), updated_at_ms=0)
    foreign = Rule("elsewhere", "o1", keywords=("b",))
    problem = Problem(9, "keywords", "bad")
    result = plan([one, two], Parsed(((1, changed), (2, foreign), (3, foreign)), (problem,)))
    assert result == ImportPlan(
        create=(replace(foreign, id=""),), update=(changed,), unchanged=(two,), errors=(problem,)
    )
