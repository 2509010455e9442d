"""Raw values become rules in normal form, or an error that names the field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.kit.errors import InvalidArgument
from frontdesk.reply_engine.rules.model import (
    DefaultReply,
    ImagePart,
    Limits,
    Match,
    Reply,
    Rule,
    Scope,
    TextPart,
)
from frontdesk.reply_engine.rules.validate import (
    default_to_raw,
    is_web_address,
    rule_to_raw,
    validate_default,
    validate_rule,
)

IMAGE = {"url": "https://img.example.com/a.png", "width": 8, "height": 6}


def raw(**changes: object) -> dict[str, Any]:
    """A valid rule in raw form, with changes."""
    return {"organization_id": "o1", "keywords": ["多少钱"], "parts": [{"text": "99"}]} | changes


def test_smallest_rule() -> None:
    """What is missing has its default: global, contains, enabled, no limits, always."""
    assert validate_rule(raw()) == Rule(
        id="", organization_id="o1", keywords=("多少钱",), reply=Reply((TextPart("99"),))
    )


def test_whole_rule() -> None:
    """Every field is read and brought into normal form."""
    rule = validate_rule(
        raw(
            id="r1",
            name=" price ",
            scope="item",
            account_id="a1",
            item_ids=["1", "2", "1"],
            keywords=[" 多少钱 ", "Price", "ＰＲＩＣＥ"],
            match="exact",
            parts=[{"text": "one\r\n###\r\n two "}, {"image": IMAGE}],
            priority=-3,
            enabled=False,
            cooldown_seconds=60,
            max_per_chat=1,
            active_hours=["9:00-12:00", "13:00 - 24:00"],
            updated_at_ms=5,
        )
    )
    assert rule == Rule(
        id="r1",
        organization_id="o1",
        name="price",
        scope=Scope.ITEM,
        account_id="a1",
        item_ids=("1", "2"),
        keywords=("多少钱", "Price"),
        match=Match.EXACT,
        reply=Reply((TextPart("one"), TextPart("two"), ImagePart(IMAGE["url"].__str__(), 8, 6))),
        priority=-3,
        enabled=False,
        cooldown_seconds=60,
        max_per_chat=1,
        active_hours=("09:00-12:00", "13:00-24:00"),
        updated_at_ms=5,
    )
    assert validate_rule(rule_to_raw(rule)) == rule


def test_silence_and_catch_all() -> None:
    """No parts mean silence, and a catch-all has no keywords."""
    rule = validate_rule(raw(match="any", keywords=[], parts=[]))
    assert rule.match is Match.ANY
    assert rule.reply.silent


PROBLEMS: list[tuple[dict[str, object], str, str]] = [
    ({"organization_id": ""}, "organization_id", "missing"),
    ({"organisation": "x"}, "organisation", "not a field"),
    ({"scope": "planet"}, "scope", "one of global, account, item"),
    ({"scope": "account"}, "account_id", "missing in scope account"),
    ({"scope": "global", "account_id": "a"}, "account_id", "must be empty"),
    ({"scope": "item"}, "item_ids", "names no item"),
    (
        {"scope": "account", "account_id": "a", "item_ids": ["1"]},
        "item_ids",
        "must be empty in scope account",
    ),
    ({"scope": "item", "item_ids": ["1", "a b"]}, "item_ids[1]", "not an id"),
    ({"scope": "item", "item_ids": [str(n) for n in range(201)]}, "item_ids", "at most 200"),
    ({"match": "sounds like"}, "match", "one of contains"),
    ({"keywords": []}, "keywords", "names no keyword"),
    ({"keywords": "多少钱"}, "keywords", "must be a list"),
    ({"keywords": ["a", "b", " \u3000"]}, "keywords[2]", "is empty"),
    ({"keywords": ["a", 5]}, "keywords[1]", "must be a text"),
    ({"keywords": ["a\x00b"]}, "keywords[0]", "control character (U+0000) at position 1"),
    ({"keywords": ["a\ud800"]}, "keywords[0]", "control character (U+D800)"),
    ({"keywords": [str(n) for n in range(51)]}, "keywords", "has 51 entries, at most 50"),
    ({"keywords": ["长" * 201]}, "keywords[0]", "has 201 characters, at most 200"),
    ({"keywords": ["ok", "a(b"], "match": "regex"}, "keywords[1]", "position 3"),
    ({"keywords": ["((a{99}){99}){99}"], "match": "regex"}, "keywords[0]", "too big"),
    ({"keywords": ["a" * 301], "match": "regex"}, "keywords[0]", "at most 300"),
    ({"match": "any"}, "keywords", "must be empty when anything matches"),
    ({"parts": [{"text": "ok"}, {"text": "hi {name}"}]}, "parts[1].text", "unknown placeholder {name}"),
    ({"parts": [{"text": " \n###\n "}]}, "parts[0].text", "is empty"),
    ({"parts": [{"text": "x" * 2001}]}, "parts[0].text", "at most 2000"),
    ({"parts": [{"text": "x" * 99_999}]}, "parts[0].text", "at most"),
    ({"parts": [{"text": "a\x1bb"}]}, "parts[0].text", "control character"),
    ({"parts": [{"text": "1\n###\n2\n###\n3"}, {"text": "4\n###\n5\n###\n6"}]}, "parts", "are 6 messages"),
    ({"parts": [{"text": "x"}] * 6}, "parts", "has 6 entries, at most 5"),
    ({"parts": [{}]}, "parts[0]", "exactly one of"),
    ({"parts": [{"text": "a", "image": IMAGE}]}, "parts[0]", "exactly one of"),
    ({"parts": ["a"]}, "parts[0]", "exactly one of"),
    ({"parts": [{"image": "https://x.example"}]}, "parts[0].image", "must be an object"),
    ({"parts": [{"image": IMAGE | {"url": "javascript:alert(1)"}}]}, "parts[0].image.url", "web address"),
    ({"parts": [{"image": IMAGE | {"width": -1}}]}, "parts[0].image.width", "must be 0 to"),
    ({"parts": [{"image": IMAGE | {"alt": ""}}]}, "parts[0].image.alt", "not a field"),
    ({"priority": "high"}, "priority", "whole number"),
    ({"priority": True}, "priority", "whole number"),
    ({"priority": 10**9}, "priority", "must be"),
    ({"enabled": 1}, "enabled", "true or false"),
    ({"cooldown_seconds": -1}, "cooldown_seconds", "must be 0 to"),
    ({"max_per_chat": 0}, "max_per_chat", "at least 1"),
    ({"max_per_chat": -1}, "max_per_chat", "must be 1 to"),
    ({"active_hours": ["09:00-18:00", "9-18"]}, "active_hours[1]", "HH:MM-HH:MM"),
    ({"name": "n" * 101}, "name", "at most 100"),
    ({"name": "a\nb"}, "name", "control character"),
]


@pytest.mark.parametrize(("changes", "field", "problem"), PROBLEMS)
def test_problems(changes: dict[str, object], field: str, problem: str) -> None:
    """Each bad value is refused with the path of its field, behind the caller's prefix."""
    with pytest.raises(InvalidArgument) as caught:
        validate_rule(raw(**changes), prefix="rule.")
    assert caught.value.field == f"rule.{field}"
    assert problem in caught.value.problem


def test_limits_are_arguments() -> None:
    """The limits are the caller's: exactly at the limit is accepted, one more is not."""
    limits = Limits(keywords=2, keyword_length=3, parts=1, text_length=4)
    assert validate_rule(raw(keywords=["abc", "b"], parts=[{"text": "1234"}]), limits).keywords == (
        "abc",
        "b",
    )
    for changes in ({"keywords": ["a", "b", "c"]}, {"keywords": ["abcd"]}, {"parts": [{"text": "12345"}]}):
        with pytest.raises(InvalidArgument):
            validate_rule(raw(**changes), limits)


def test_default_reply() -> None:
    """A default reply is read alike, for one item, and goes back into the same raw form."""
    default = validate_default(
        {
            "id": "d1",
            "organization_id": "o1",
            "scope": "item",
            "item_id": "7",
            "parts": [{"text": "hello {send_user_name}"}],
            "max_per_chat": 1,
        }
    )
    assert default == DefaultReply(
        id="d1",
        organization_id="o1",
        scope=Scope.ITEM,
        item_id="7",
        reply=Reply((TextPart("hello {send_user_name}"),)),
        max_per_chat=1,
    )
    assert validate_default(default_to_raw(default)) == default


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"parts": []}, "parts"),
        ({"scope": "item"}, "item_id"),
        ({"item_id": "7"}, "item_id"),
        ({"max_per_chat": 0}, "max_per_chat"),
        ({"keywords": ["x"]}, "keywords"),
    ],
)
def test_default_reply_problems(changes: dict[str, object], field: str) -> None:
    """A default reply that says nothing or is out of place is refused by field."""
    with pytest.raises(InvalidArgument) as caught:
        validate_default({"organization_id": "o1", "parts": [{"text": "hi"}]} | changes)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://a.example/x.png?y=1", True),
        ("http://[::1]:80/x", True),
        ("ftp://a.example", False),
        ("https://", False),
        ("https://a.example:99999/", False),
        ("https://[a/", False),
        ("https://a.example/a b", False),
        ("//a.example/x", False),
    ],
)
def test_web_address(url: str, good: bool) -> None:
    """Only http and https addresses with a host are images' addresses."""
    assert is_web_address(url) is good


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*rule_to_raw(Rule("", "o")), "other"]), JUNK, max_size=6))
def test_junk_is_an_error(junk: dict[str, Any]) -> None:
    """Whatever JSON can say, the outcome is a rule in normal form or InvalidArgument."""
    try:
        rule = validate_rule(raw() | junk)
    except InvalidArgument as error:
        assert error.field
    else:
        assert validate_rule(rule_to_raw(rule)) == rule
