"""BudgetService, sums of what was used and the log of calls, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from frontdesk.ai_proxy.model import Usage
from frontdesk.ai_proxy.rpc.budgets import BudgetServicer
from frontdesk.ai_proxy.usage import get_usage, list_spend
from frontdesk.api.ai.v1 import ai_service_pb2 as ai_pb
from frontdesk.api.ai.v1 import budget_service_pb2 as pb
from frontdesk.api.ai.v1.spend_pb2 import Spend
from frontdesk.kit.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied, ResourceExhausted
from frontdesk.kit.principal import Principal, current_principal
from support.budgets import CALLER, DAY_S, NO_CONTEXT, NOON, Replica, replicas

VALID: dict[str, Any] = {
    "organization_id": "org",
    "scope": pb.BUDGET_SCOPE_ACCOUNT,
    "subject": "acc1",
    "period": pb.BUDGET_PERIOD_MONTH,
    "time_zone": "Asia/Shanghai",
    "limit": "12.50",
    "currency": "CNY",
    "fallback_model": "mini",
}


@pytest.fixture(params=["sqlite", "postgresql"])
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Replica]:
    url = f"sqlite:///{tmp_path}/ai.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres")
    async with replicas(url) as ((replica,), _):
        yield replica


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Replica]:
    """For what does not depend on the database."""
    async with replicas(f"sqlite:///{tmp_path}/ai.db") as ((replica,), _):
        yield replica


def be(organization_id: str, role: str) -> None:
    """Call from outside from now on."""
    current_principal.set(Principal("someone", organization_id, role))


async def create(one: Replica, request_id: str = "", **fields: Any) -> pb.Budget:
    request = pb.CreateBudgetRequest(request_id=request_id, budget=pb.Budget(**{**VALID, **fields}))
    return (await one.service.CreateBudget(request, NO_CONTEXT)).budget


async def get(one: Replica, budget_id: str) -> pb.Budget:
    return (await one.service.GetBudget(pb.GetBudgetRequest(budget_id=budget_id), NO_CONTEXT)).budget


async def test_a_budget_is_kept_as_it_was_set(both: Replica) -> None:
    """Created, read, listed, changed and deleted; what was used stays through a change."""
    made = await create(both)
    assert made.limit == "12.5"
    assert (made.spent, made.reserved, made.period_start_ms) == ("0", "0", 1_793_462_400_000)
    await both.settle("a", 1250)
    changed = await both.update(
        made, limit="20", period=pb.BUDGET_PERIOD_TOTAL, fallback_model="", disabled=True
    )
    assert (changed.spent, changed.limit, changed.disabled) == ("1.25", "20", True)
    assert await get(both, made.budget_id) == changed
    assert await both.listed() == [changed]
    await both.service.DeleteBudget(pb.DeleteBudgetRequest(budget_id=made.budget_id), NO_CONTEXT)
    assert await both.listed() == []
    with pytest.raises(NotFound):
        await get(both, made.budget_id)
    with pytest.raises(NotFound):
        await both.update(made)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("scope", {"scope": 0}),
        ("scope", {"scope": 99}),
        ("subject", {"subject": ""}),
        ("subject", {"subject": "x" * 129}),
        ("subject", {"subject": "a\x00b"}),
        ("subject", {"scope": pb.BUDGET_SCOPE_ORGANIZATION}),
        ("subject", {"scope": pb.BUDGET_SCOPE_MODEL, "subject": "x" * 65}),
        ("period", {"period": 0}),
        ("time_zone", {"time_zone": "Mars/Olympus"}),
        ("limit", {"limit": ""}),
        ("limit", {"limit": "-1"}),
        ("limit", {"limit": "1e3"}),
        ("limit", {"limit": "1.5", "currency": "tokens"}),
        ("currency", {"currency": ""}),
        ("currency", {"currency": "cny"}),
        ("currency", {"currency": "Tokens"}),
        ("currency", {"currency": "元元元"}),
        ("fallback_model", {"fallback_model": "x" * 65}),
        ("fallback_model", {"scope": pb.BUDGET_SCOPE_MODEL, "subject": "mini"}),
        ("budget_id", {"budget_id": "mine"}),
    ],
)
async def test_what_is_wrong_is_named(one: Replica, field: str, changes: dict[str, Any]) -> None:
    """And nothing is stored."""
    with pytest.raises(InvalidArgument) as caught:
        await create(one, **changes)
    assert caught.value.field == f"budget.{field}"
    assert await one.listed() == []


async def test_a_repeated_request_makes_one_budget(both: Replica) -> None:
    """The same request id returns what it made; without one a second budget of the same is refused."""
    made = await create(both, "r1")
    assert await create(both, "r1", limit="99") == made
    with pytest.raises(AlreadyExists):
        await create(both)
    other = await create(both, currency="tokens", limit="5")
    with pytest.raises(AlreadyExists):
        third = await create(both, period=pb.BUDGET_PERIOD_DAY)
        await both.update(third, period=pb.BUDGET_PERIOD_MONTH)
    for field, value in (("subject", "acc2"), ("currency", "USD"), ("scope", pb.BUDGET_SCOPE_API_KEY)):
        with pytest.raises(InvalidArgument) as caught:
            await both.update(made, **{field: value})
        assert caught.value.field == f"budget.{field}"
    assert (await get(both, made.budget_id), await get(both, other.budget_id)) == (made, other)


async def test_only_the_organizations_own_people_touch_budgets(one: Replica) -> None:
    """A viewer reads, a manager writes, a stranger sees nothing."""
    made = await create(one)
    be("org", "viewer")
    assert await one.listed() == [made]
    with pytest.raises(PermissionDenied):
        await create(one, currency="USD")
    with pytest.raises(PermissionDenied):
        await one.update(made, limit="99")
    be("other", "owner")
    request = pb.DeleteBudgetRequest(budget_id=made.budget_id)
    for attempt in (
        get(one, made.budget_id),
        one.update(made),
        one.service.DeleteBudget(request, NO_CONTEXT),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert list((await one.service.ListBudgets(pb.ListBudgetsRequest(), NO_CONTEXT)).budgets) == []
    be("org", "manager")
    assert (await one.update(made, limit="99")).limit == "99"


async def test_there_is_a_most_of_budgets(one: Replica) -> None:
    """An organization has at most so many."""
    one.service = BudgetServicer(one.database, one.configuration, one.alerts, one.clock, most=1)
    await create(one)
    with pytest.raises(ResourceExhausted):
        await create(one, currency="USD")


async def spent(one: Replica) -> None:
    """Seven calls of two accounts, two models, two currencies, three days; one of a stranger."""
    calls: list[dict[str, Any]] = [
        {"cost": Decimal("0.1"), "usage": Usage(10, 5)},
        {"cost": Decimal("0.2"), "usage": Usage(20, 5)},
        {"cost": Decimal("0.000000000001"), "started_at_ms": NOON - int(DAY_S * 1000)},
        {"cost": Decimal("9000000.5"), "started_at_ms": NOON - 2 * int(DAY_S * 1000)},
        {"cost": Decimal("9000000.25"), "caller": replace(CALLER, account_id="acc2", api_key_id="key2")},
        {"cost": Decimal("7"), "currency": "USD", "model": "other", "provider": "q", "code": "UNAVAILABLE"},
        {"cost": None, "currency": "", "model": "other", "provider": "q", "cached": True},
        {"cost": Decimal("5"), "caller": replace(CALLER, organization_id="stranger")},
    ]
    for number, fields in enumerate(calls):
        default = {"started_at_ms": NOON + number, "usage": Usage(1, 1)}
        await one.settle(f"c{number}", 0, **{**default, **fields})


async def sums(one: Replica, group: int = 0, **fields: Any) -> list[tuple[str, int, str, str]]:
    """Key, calls, cost and currency of each sum."""
    request = ai_pb.GetUsageRequest(group=group, **fields)  # type: ignore[arg-type]
    response = await get_usage(one.database, "org", request, NOON + 1000)
    return [(one.key, one.calls, one.cost, one.currency) for one in response.sums]


async def test_sums_are_exact_and_by_what_was_asked(both: Replica) -> None:
    """Beyond what 64 bits or a float would hold, currencies apart, the most calls first."""
    await spent(both)
    whole = [("", 5, "18000001.050000000001", "CNY"), ("", 1, "0", ""), ("", 1, "7", "USD")]
    assert await sums(both) == whole
    response = await get_usage(both.database, "org", ai_pb.GetUsageRequest(), NOON + 1000)
    assert [(s.failed, s.cached, s.prompt_tokens, s.completion_tokens) for s in response.sums] == [
        (0, 0, 33, 13),
        (0, 1, 1, 1),
        (1, 0, 1, 1),
    ]
    assert await sums(both, ai_pb.USAGE_GROUP_ACCOUNT, from_ms=NOON) == [
        ("acc1", 2, "0.3", "CNY"),
        ("acc1", 1, "0", ""),
        ("acc1", 1, "7", "USD"),
        ("acc2", 1, "9000000.25", "CNY"),
    ]
    assert await sums(both, ai_pb.USAGE_GROUP_API_KEY, account_id="acc2") == [
        ("key2", 1, "9000000.25", "CNY")
    ]
    assert [key for key, *_ in await sums(both, ai_pb.USAGE_GROUP_MODEL)] == ["big-1", "other", "other"]
    assert [key for key, *_ in await sums(both, ai_pb.USAGE_GROUP_PROVIDER)] == ["p", "q", "q"]
    assert await sums(both, ai_pb.USAGE_GROUP_DAY, until_ms=NOON) == [
        ("2026-11-18", 1, "9000000.5", "CNY"),
        ("2026-11-19", 1, "0.000000000001", "CNY"),
    ]


@pytest.mark.parametrize(
    ("field", "fields"),
    [("group", {"group": 99}), ("from_ms", {"from_ms": -1}), ("until_ms", {"from_ms": 5, "until_ms": 4})],
)
async def test_a_wrong_question_is_named(one: Replica, field: str, fields: dict[str, Any]) -> None:
    """Which field is wrong."""
    with pytest.raises(InvalidArgument) as caught:
        await sums(one, **fields)
    assert caught.value.field == field


async def test_calls_are_listed_newest_first_page_by_page(both: Replica) -> None:
    """Each once, with all that is known of it; a token of somebody else's is refused."""
    await spent(both)
    found: list[Spend] = []
    token = ""
    while True:
        request = ai_pb.ListSpendRequest(page_size=3, page_token=token)
        page = await list_spend(both.database, "org", request)
        found += page.spend
        if not (token := page.next_page_token):
            break
    assert [call.call_id for call in found] == ["c6", "c5", "c4", "c1", "c0", "c2", "c3"]
    first = found[4]
    assert (first.provider, first.model, first.requested_model, first.operation) == (
        "p",
        "big-1",
        "big",
        "complete",
    )
    assert (first.duration_ms, first.first_token_ms, first.code) == (1200, 300, "OK")
    assert (first.usage.cost, first.usage.currency, first.usage.prompt_tokens) == ("0.1", "CNY", 10)
    assert (found[0].cached, found[0].usage.cost) == (True, "")
    of_account = await list_spend(both.database, "org", ai_pb.ListSpendRequest(account_id="acc2"))
    assert [call.call_id for call in of_account.spend] == ["c4"]
    for token in ("x", "eA==", "LTEAYQ=="):
        with pytest.raises(InvalidArgument):
            await list_spend(both.database, "org", ai_pb.ListSpendRequest(page_token=token))
