"""What calls do to a budget, without a database."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from frontdesk.ai_proxy.budget_alerts import warning_text
from frontdesk.ai_proxy.ledger import BudgetDefinition, Scope, Standing
from frontdesk.ai_proxy.money import amount_text
from frontdesk.ai_proxy.periods import Period, period_start
from frontdesk.ai_proxy.stored_budgets import Directory

DAY_MS = 86_400_000
NOW = 20_000 * DAY_MS + 3_600_000


def budget(
    limit: str = "10", *, scope: Scope = Scope.ORGANIZATION, subject: str = "", currency: str = "CNY"
) -> BudgetDefinition:
    return BudgetDefinition(
        f"{scope}/{subject}/{currency}", "org", scope, subject, Period.DAY, "", Decimal(limit), currency
    )


def standing(limit: str = "10", spent: str = "0") -> Standing:
    return Standing(budget(limit), period_start(Period.DAY, "", NOW), Decimal(spent))


def amounts(one: Standing) -> tuple[str, str]:
    """Used and set aside."""
    return amount_text(one.spent), amount_text(one.reserved)


def test_the_last_of_a_budget_can_be_used_and_no_more() -> None:
    """What is set aside counts as what is used does."""
    one = standing(spent="4")
    assert one.has_room(Decimal(6))
    one.set_aside("a", Decimal(3), NOW)
    assert one.has_room(Decimal(3))
    assert not one.has_room(Decimal("3.000000000001"))


@pytest.mark.parametrize("amount", ["0", "0.01"])
def test_a_limit_of_zero_lets_nothing_through(amount: str) -> None:
    """Not even a call that costs nothing."""
    assert not standing("0").has_room(Decimal(amount))


def test_what_was_used_replaces_what_was_set_aside() -> None:
    """More or less than expected, it is what counts."""
    one = standing()
    first = one.set_aside("a", Decimal(3), NOW)
    second = one.set_aside("b", Decimal(3), NOW)
    one.use(Decimal(1), first, NOW)
    one.use(Decimal(7), second, NOW)
    assert amounts(one) == ("8", "0")


def test_a_call_of_the_old_period_does_not_count_in_the_new_one() -> None:
    """Neither what it set aside nor what it used."""
    one = standing(spent="4")
    late = one.set_aside("a", Decimal(3), NOW)
    one.roll(NOW + DAY_MS)
    assert amounts(one) == ("0", "0")
    one.use(Decimal(2), late, NOW)
    assert amounts(one) == ("0", "0")
    one.use(Decimal(2), None, NOW)
    assert one.spent == 0
    one.use(Decimal(2), None, NOW + DAY_MS)
    assert one.spent == 2


def test_a_clock_that_is_behind_does_not_bring_a_period_back() -> None:
    """Replicas' clocks differ a little around midnight."""
    one = standing()
    one.roll(NOW + DAY_MS)
    one.use(Decimal(2), None, NOW + DAY_MS)
    one.roll(NOW)
    assert one.spent == 2


def test_what_expired_counts_until_it_is_settled_after_all() -> None:
    """Too much rather than too little, and exact in the end."""
    one = standing()
    lost = one.set_aside("a", Decimal(3), NOW)
    one.expire(lost)
    assert amounts(one) == ("3", "0")
    one.use(Decimal(1), lost, NOW)
    assert amounts(one) == ("1", "0")


def test_what_is_switched_off_counts_nothing_but_gives_back() -> None:
    """A call that was under way when its budget was switched off."""
    one = standing(spent="1")
    held = one.set_aside("a", Decimal(3), NOW)
    one.budget = replace(one.budget, disabled=True)
    one.use(Decimal(2), held, NOW)
    assert amounts(one) == ("1", "0")


def test_warnings_rise_with_what_is_used() -> None:
    """80, 95 and 100 percent; a higher one stands for those below."""
    one = standing()
    seen = []
    for amount in ("7.99", "0.01", "1", "0.5", "0.4", "0.1", "5"):
        one.use(Decimal(amount), None, NOW)
        seen.append(one.warned)
    assert seen == [0, 80, 80, 95, 95, 100, 100]


def test_a_raised_limit_arms_what_does_not_hold_any_more() -> None:
    """At 10 of 12 the warnings of 95 and 100 come again, that of 80 does not; at 10 of 20 all do."""
    one = standing(spent="10")
    one.warn()
    one.told = one.warned
    one.budget = replace(one.budget, limit=Decimal(12))
    one.rearm()
    assert (one.warned, one.told) == (80, 80)
    one.budget = replace(one.budget, limit=Decimal(20))
    one.rearm()
    assert (one.warned, one.told) == (0, 0)


def test_a_refusal_calls_people_when_most_is_used() -> None:
    """One call that is too large for an unused budget is its caller's business."""
    fresh, worn = standing(spent="1"), standing(spent="9")
    fresh.refuse()
    worn.refuse()
    assert (fresh.warned, worn.warned) == (0, 100)


def test_warnings_are_sentences() -> None:
    """With what, whose, how much and until when."""
    one = standing(spent="8.7")
    one.warn()
    assert warning_text(one, NOW) == "The AI budget of 10 CNY a day for the organization is 87 % used."
    one.refuse()
    assert warning_text(one, NOW) == (
        "The AI budget of 10 CNY a day for the organization has too little left for a call (1.3 CNY): "
        "calls that it counts are refused; it begins anew at 2024-10-05 00:00 UTC."
    )
    one.spent = Decimal(11)
    one.budget = replace(
        one.budget, period=Period.TOTAL, scope=Scope.ACCOUNT, subject="acc1", fallback_model="mini"
    )
    assert warning_text(one, NOW) == (
        "The AI budget of 10 CNY for the account acc1 is used up: calls go to the model mini, as far as its "
        "budgets allow; it does not begin anew, so its limit has to be raised."
    )


def test_a_call_belongs_to_all_that_count_it() -> None:
    """By organization, account, key and model, in its currency or in tokens; switched off ones left out."""
    everything = [
        budget(),
        budget(currency="USD"),
        budget(currency="tokens"),
        budget(scope=Scope.ACCOUNT, subject="acc1"),
        budget(scope=Scope.ACCOUNT, subject="acc2"),
        replace(budget(scope=Scope.API_KEY, subject="key"), disabled=True),
        budget(scope=Scope.MODEL, subject="big"),
    ]
    directory = Directory.of(everything)

    def covering(*call: str) -> list[str]:
        return [one.budget_id for one in directory.covering(*call)]

    assert covering("acc1", "key", "big", "CNY") == [
        "organization//CNY",
        "organization//tokens",
        "account/acc1/CNY",
        "model/big/CNY",
    ]
    assert covering("", "", "small", "") == ["organization//tokens"]
    assert covering("acc2", "", "small", "USD") == ["organization//USD", "organization//tokens"]
