"""What holds where: the narrowest scope that says something."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from frontdesk.ai_proxy.answers.defaults import PERSON_WORDS, PRICE
from frontdesk.ai_proxy.answers.policy import (
    Policy,
    StoredPolicy,
    effective,
    effective_to_proto,
    money,
    policy_from_proto,
    policy_to_body,
    policy_to_proto,
)
from frontdesk.api.ai.v1 import policy_service_pb2 as pb
from frontdesk.kit.errors import InvalidArgument

ORGANIZATION = StoredPolicy(
    "o1", persona="shop", max_rounds=3, max_discount_percent="10", blocked_words=("bad",), floor_price="50"
)
ACCOUNT = StoredPolicy("o1", "a1", persona="account", statements=("ships from here",))
ITEM = StoredPolicy("o1", "a1", "i1", max_rounds=0, max_discount_percent="0", blocked_words=(), persona="")
OTHER = StoredPolicy("o1", "a2", persona="somebody else")
ALL = (ITEM, OTHER, ACCOUNT, ORGANIZATION)


def test_the_narrowest_that_says_something_counts() -> None:
    """An item's word beats its account's, which beats the organization's; what it does not say stays."""
    account = effective(ALL, "a1", "i2")
    assert (account.persona, account.max_rounds, account.floor_price) == ("account", 3, Decimal(50))
    assert account.statements == ("ships from here",)
    assert effective(ALL, "a9", "i1").persona == "shop"
    assert effective(ALL, "", "").persona == "shop"


def test_zero_and_empty_are_something_said() -> None:
    """Zero rounds, zero percent, an empty list and an empty text of an item hide what the wider ones say."""
    item = effective(ALL, "a1", "i1")
    assert (item.max_rounds, item.max_discount_percent, item.blocked_words, item.persona) == (
        0,
        Decimal(0),
        (),
        "",
    )


def test_nothing_said_is_the_default() -> None:
    """Without any policy the defaults hold, and no discount is said."""
    policy = effective((), "a1", "i1")
    assert policy == Policy()
    assert (policy.model, policy.min_confidence, policy.max_rounds) == ("default", 0.5, 0)
    assert (policy.max_discount_percent, policy.max_discount_amount, policy.floor_price) == (None, None, None)
    assert policy.price_prompt == PRICE
    assert policy.person_words == PERSON_WORDS


def test_an_item_without_its_account_is_nobody() -> None:
    """An item's policy is not found by its id alone."""
    assert effective(ALL, "", "i1") == effective(ALL, "", "")


def test_what_was_said_comes_back() -> None:
    """A policy goes through proto, value and body and keeps apart what was said and what was not."""
    said = pb.Policy(
        account_id="a1",
        item_id="i1",
        model="",
        temperature=0.0,
        persona=" kind ",
        max_rounds=0,
        floor_price="12.50",
        contacts_allowed=False,
        blocked_words=pb.Words(),
        statements=pb.Words(words=["one", "two", "one"]),
    )
    stored = policy_from_proto(said, "o1")
    assert stored.statements == ("one", "two")
    assert policy_to_body(stored) == {
        "model": "default",
        "temperature": 0.0,
        "persona": "kind",
        "max_rounds": 0,
        "floor_price": "12.50",
        "contacts_allowed": False,
        "blocked_words": (),
        "statements": ("one", "two"),
    }
    back = policy_to_proto(stored)
    assert policy_from_proto(back, "o1") == stored
    assert back.HasField("blocked_words")
    assert not back.HasField("person_words")
    assert not back.HasField("max_discount_percent")


def test_the_effective_policy_shows_its_defaults() -> None:
    """Callers see what holds, and that no discount was said anywhere."""
    shown = effective_to_proto(effective(ALL, "a1", "i1"), "o1", "a1", "i1")
    assert (shown.organization_id, shown.account_id, shown.item_id) == ("o1", "a1", "i1")
    assert shown.floor_price == "50"
    assert shown.min_confidence == 0.5
    assert shown.HasField("blocked_words")
    assert not shown.HasField("max_discount_amount")


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"item_id": "i1"}, "policy.account_id"),
        ({"account_id": "a" * 129}, "policy.account_id"),
        ({"account_id": "a\x00"}, "policy.account_id"),
        ({"account_id": "a1", "item_id": "i\n"}, "policy.item_id"),
        ({"model": "no spaces"}, "policy.model"),
        ({"temperature": 2.1}, "policy.temperature"),
        ({"temperature": float("nan")}, "policy.temperature"),
        ({"min_confidence": -0.1}, "policy.min_confidence"),
        ({"max_rounds": -1}, "policy.max_rounds"),
        ({"max_rounds": 101}, "policy.max_rounds"),
        ({"max_discount_percent": "101"}, "policy.max_discount_percent"),
        ({"max_discount_percent": "-1"}, "policy.max_discount_percent"),
        ({"max_discount_percent": ""}, "policy.max_discount_percent"),
        ({"max_discount_amount": "1e3"}, "policy.max_discount_amount"),
        ({"max_discount_amount": "٥"}, "policy.max_discount_amount"),
        ({"floor_price": "12,50"}, "policy.floor_price"),
        ({"floor_price": "NaN"}, "policy.floor_price"),
        ({"persona": "x" * 4001}, "policy.persona"),
        ({"other_prompt": "a\x00b"}, "policy.other_prompt"),
        ({"statements": pb.Words(words=["s"] * 101)}, "policy.statements"),
        ({"statements": pb.Words(words=["fine", "x" * 501])}, "policy.statements.words[1]"),
        ({"blocked_words": pb.Words(words=["fine", "  "])}, "policy.blocked_words.words[1]"),
        ({"person_words": pb.Words(words=["x" * 65])}, "policy.person_words.words[0]"),
        (
            dict.fromkeys(("persona", "price_prompt", "technical_prompt"), "x" * 4000)
            | {"after_sale_prompt": "x" * 4000, "other_prompt": "x" * 4000, "floor_price": "1"},
            "policy",
        ),
    ],
)
def test_bad_input_names_the_field(said: dict[str, Any], field: str) -> None:
    """Whatever is wrong is named by its path."""
    with pytest.raises(InvalidArgument) as raised:
        policy_from_proto(pb.Policy(**said), "o1")
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.50", "12.50"),
        ("¥99", "99"),
        ("1,280元", "1280"),
        ("", None),
        ("0", None),
        ("-5", None),
        ("面议", None),
        ("inf", None),
        ("nan", None),
        ("1E+999999", None),
        ("9" * 13, None),
        ("0." + "1" * 9, None),
    ],
)
def test_prices_of_a_platform(text: str, value: str | None) -> None:
    """A listed price is a number above zero, or unknown."""
    assert money(text) == (None if value is None else Decimal(value))
