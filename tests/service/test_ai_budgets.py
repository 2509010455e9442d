"""Budgets of ai-proxy on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.budgets import Budgets, Directories
from frontdesk.ai_proxy.errors import BudgetExceeded
from frontdesk.ai_proxy.model import Caller, Model, Price, Usage
from frontdesk.ai_proxy.retention import Retention
from frontdesk.api.ai.v1 import budget_service_pb2 as pb
from frontdesk.api.events.v1.event_pb2 import Event
from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.errors import Poison, Unavailable
from support.budgets import CALLER, DAY_S, YUAN, Broker, Replica, replicas
from support.waiting import until

DOLLARS = replace(YUAN, upstream_name="big-2", price=Price(completion=Decimal(2000), currency="USD"))
LOCAL = replace(YUAN, upstream_name="big-3", price=Price())


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ai.db"
    address: str = request.getfixturevalue("postgres")
    return address


@pytest.fixture
async def two(url: str) -> AsyncIterator[list[Replica]]:
    async with replicas(url, 2) as (made, _):
        yield made


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Replica]:
    """For what does not depend on the database."""
    async with replicas(f"sqlite:///{tmp_path}/ai.db") as ((replica,), _):
        yield replica


@pytest.fixture
def broker(one: Replica) -> Broker:
    return one.broker


async def test_fifty_calls_race_for_a_budget_on_two_replicas(two: list[Replica]) -> None:
    """Of fifty calls at once exactly those begin that there is room for, and the sums are exact."""
    await two[0].budget("20")
    await two[0].budget("7000", scope=pb.BUDGET_SCOPE_ACCOUNT, subject="acc1", currency="tokens")

    async def call(number: int) -> str:
        replica = two[number % 2]
        try:
            await replica.reserve(f"c{number}", 350)
        except BudgetExceeded as error:
            assert not error.retryable
            return str(error.facts["scope"])
        # Each uses a little more than was expected: the one thing that may pass a limit.
        await replica.settle(f"c{number}", 351 + number)
        return "ok"

    said = await asyncio.gather(*(call(number) for number in range(50)))
    begun = [number for number, word in enumerate(said) if word == "ok"]
    used = sum(351 + number for number in begun)
    assert 14 <= len(begun) <= 20
    assert set(said) == {"ok", "account"}
    assert used - 7000 < 20 * 50  # not more than what each used beyond what was set aside
    state = await two[1].state()
    assert state == [(f"{Decimal(used) / 1000}", "0"), (str(used), "0")]
    rows = await two[0].rows()
    assert sum(row.completion_tokens for row in rows) == used
    assert await two[0].counts() == (2, 0, len(begun))


async def test_all_budgets_of_a_call_or_none(one: Replica) -> None:
    """A call that one of its budgets refuses sets nothing aside in the others."""
    await one.budget("100")
    account = await one.budget("1", scope=pb.BUDGET_SCOPE_ACCOUNT, subject="acc1", fallback_model="mini")
    await one.budget("1000000", currency="tokens")
    await one.reserve("a", 900)
    with pytest.raises(BudgetExceeded, match=r"the account acc1 .* anew at 2026-11-21 00:00 UTC") as caught:
        await one.reserve("b", 101)
    assert caught.value.facts == {
        "budget_id": account.budget_id,
        "scope": "account",
        "fallback_model": "mini",
    }
    assert await one.state() == [("0", "0.9"), ("0", "0.9"), ("0", "900")]
    await one.reserve("c", 100)
    await one.reserve("d", 5000, Caller("org", "acc2"))
    assert await one.state() == [("0", "6"), ("0", "1"), ("0", "6000")]


async def test_every_currency_that_may_answer_is_set_aside(one: Replica) -> None:
    """Each budget counts its own, tokens count once; what the call did not cost is given back."""
    await one.budget("1")
    await one.budget("5", currency="USD")
    await one.budget("4000", currency="tokens")
    await one.budgets.reserve("a", CALLER, YUAN, 0, 1000, [(DOLLARS, 1500)])
    assert await one.state() == [("0", "1"), ("0", "3"), ("0", "1500")]
    assert await one.budgets.reserve("b", CALLER, YUAN, 0, 10, [(DOLLARS, 20)]) == {"USD"}
    assert await one.state() == [("0", "1"), ("0", "3.04"), ("0", "1520")]
    await one.budgets.release("b")
    await one.settle("a", 900, cost=Decimal("1.8"), currency="USD")
    assert await one.state() == [("0", "0"), ("1.8", "0"), ("900", "0")]


async def test_a_currency_without_room_is_left_out(one: Replica) -> None:
    """In the order of the models; what all of them count in, tokens, refuses those that are too long."""
    await one.budget("1", fallback_model="mini")
    await one.budget("5", currency="USD")
    await one.budget("3000", currency="tokens")
    reserve = one.budgets.reserve
    assert await reserve("a", CALLER, YUAN, 0, 1001, [(DOLLARS, 3001), (LOCAL, 1)]) == {""}
    assert await one.state() == [("0", "0"), ("0", "0"), ("0", "1")]
    assert await reserve("b", CALLER, DOLLARS, 0, 2499, [(YUAN, 600)]) == {"CNY", "USD"}
    assert await one.state() == [("0", "0.6"), ("0", "4.998"), ("0", "2500")]
    for first, second, fallback in ((YUAN, DOLLARS, "mini"), (DOLLARS, YUAN, "")):
        with pytest.raises(BudgetExceeded) as caught:
            await reserve("c", CALLER, first, 0, 500, [(second, 500)])
        assert caught.value.facts["fallback_model"] == fallback
    assert await one.state() == [("0", "0.6"), ("0", "4.998"), ("0", "2500")]


async def test_calls_that_race_for_several_currencies_pass_no_budget(two: list[Replica]) -> None:
    """Of fifty at once, each with models of several currencies: what is set aside is what they were told, and
    no more than there is; nor is what they use of it."""
    limits = {"CNY": Decimal(12), "USD": Decimal(9), "tokens": Decimal(16_000)}
    for currency, limit in limits.items():
        await two[0].budget(str(limit), currency=currency)
    chance = random.Random(11)
    told: dict[str, dict[str, int]] = {}

    async def call(number: int) -> None:
        models = chance.sample((YUAN, DOLLARS, LOCAL), chance.randint(1, 3))
        tokens = {model.price.currency: chance.randint(1, 1500) for model in models}
        asked = [(model, tokens[model.price.currency]) for model in models]
        with contextlib.suppress(BudgetExceeded):
            kept = await two[number % 2].budgets.reserve(f"c{number}", CALLER, *_first(asked))
            told[f"c{number}"] = {currency: tokens[currency] for currency in kept}

    def sums() -> list[Decimal]:
        yuan, dollars = (sum(kept.get(currency, 0) for kept in told.values()) for currency in ("CNY", "USD"))
        most = sum(max(kept.values()) for kept in told.values())
        return [Decimal(yuan) / 1000, Decimal(dollars) / 500, Decimal(most)]

    await asyncio.gather(*(call(number) for number in range(50)))
    assert [Decimal(reserved) for _, reserved in await two[1].state()] == sums()
    assert all(held <= limit for held, limit in zip(sums(), limits.values(), strict=True))
    assert {len(kept) for kept in told.values()} >= {1, 2}
    assert len(told) < 50
    for name, kept in told.items():
        currency = chance.choice(sorted(kept))
        cost = {"CNY": Decimal(kept[currency]) / 1000, "USD": Decimal(kept[currency]) / 500}.get(currency)
        await two[0].settle(name, kept[currency], cost=cost, currency=currency)
    state = await two[1].state()
    assert [Decimal(reserved) for _, reserved in state] == [0, 0, 0]
    assert all(0 < Decimal(spent) <= limit for (spent, _), limit in zip(state, limits.values(), strict=True))


def _first(asked: list[tuple[Model, int]]) -> tuple[Model, int, int, list[tuple[Model, int]]]:
    """The models of a call as `reserve` takes them."""
    (model, tokens), *others = asked
    return model, 0, tokens, others


async def test_a_cost_that_is_none_is_in_the_log_all_the_same(one: Replica) -> None:
    """Of a provider that tells of a million million tokens; what it set aside does not stay."""
    await one.budget("1")
    await one.reserve("a", 900)
    await one.settle("a", 10**12, cost=Decimal(10) ** 9)
    (row,) = await one.rows()
    assert row.cost_pico == 2**63 - 1
    assert await one.state() == [("9223372.036854775807", "0")]


async def test_a_budget_without_a_fall_back_decides(one: Replica) -> None:
    """Of two that refuse, the one that wants calls refused is told of."""
    await one.budget("1", fallback_model="mini")
    strict = await one.budget("1", scope=pb.BUDGET_SCOPE_MODEL, subject="big")
    with pytest.raises(BudgetExceeded) as caught:
        await one.reserve("a", 2000)
    assert caught.value.facts["budget_id"] == strict.budget_id
    assert caught.value.facts["fallback_model"] == ""


async def test_zero_lets_nothing_through_and_no_budget_lets_all(two: list[Replica]) -> None:
    """A change counts from the next call on every replica; a free call is refused too."""
    first, second = two
    await second.reserve("a", 10**9)
    budget = await first.budget("0")
    with pytest.raises(BudgetExceeded):
        await second.reserve("b", 0)
    await first.update(budget, limit="1")
    await second.reserve("c", 1000)
    await second.budgets.release("c")
    await first.update(budget, limit="0", disabled=True)
    await second.reserve("d", 10**9)
    await first.service.DeleteBudget(pb.DeleteBudgetRequest(budget_id=budget.budget_id), None)  # type: ignore[arg-type]
    await second.reserve("e", 10**9)
    assert await first.counts() == (0, 0, 0)


async def test_what_other_calls_cost_is_another_budget(one: Replica) -> None:
    """Budgets count their own currency; a call that cost another gives back what it set aside."""
    await one.budget("1")
    await one.budget("5", currency="USD")
    dollars = replace(YUAN, price=Price(completion=Decimal(1000), currency="USD"))
    await one.reserve("a", 4000, model=dollars)
    await one.reserve("b", 1000)
    await one.reserve("c", 10**6, model=replace(YUAN, price=Price()))
    assert await one.state() == [("0", "1"), ("0", "4")]
    await one.settle("b", 500, currency="USD")
    assert await one.state() == [("0", "0"), ("0.5", "4")]


async def test_nothing_was_used_so_nothing_stays(one: Replica) -> None:
    """A release gives all back, once; a failed call that used nothing is written and costs nothing."""
    await one.budget("10")
    await asyncio.gather(*(one.reserve(f"c{n}", 1000) for n in range(10)))
    await asyncio.gather(*(one.budgets.release(f"c{n}") for n in range(9)), one.budgets.release("c0"))
    await one.budgets.release("unknown")
    assert await one.state() == [("0", "1")]
    await one.settle("c9", 0, code="UNAVAILABLE", cost=None, currency="")
    assert await one.state() == [("0", "0")]
    assert [(row.code, row.cost_pico) for row in await one.rows()] == [("UNAVAILABLE", 0)]


class Held(Database):
    """Lets nobody write before `go`."""

    def __init__(self, options: DatabaseOptions) -> None:
        super().__init__(options)
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        self.asked.set()
        await self.go.wait()
        async with super().write() as connection:
            yield connection


@pytest.mark.parametrize("waits", [False, True])
async def test_a_caller_that_gives_up_leaves_nothing(one: Replica, waits: bool) -> None:
    """Cancelled in its transaction, a reservation is given back; cancelled before, it is not made."""
    await one.budget("100")
    held = Held(one.database.options)
    budgets = Budgets(held, Directories(one.configuration.get), one.alerts, one.clock)
    tasks = [asyncio.create_task(budgets.reserve("a", CALLER, YUAN, 0, 1000))]
    await held.asked.wait()
    if waits:
        tasks.append(asyncio.create_task(budgets.reserve("b", CALLER, YUAN, 0, 1000)))
        for _ in range(3):  # one round trip to the database is before its place in the queue
            await one.listed()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    held.go.set()
    await asyncio.sleep(0)
    await budgets.close()
    await held.close()
    assert all(task.cancelled() for task in tasks)
    assert await one.state() == [("0", "0")]
    assert await one.counts() == (1, 0, 0)


async def test_an_event_counts_once_however_often_it_comes(two: list[Replica]) -> None:
    """In one batch, in a later one, and on two replicas at once."""
    await two[0].budget("100")
    await two[0].reserve("a", 1000)
    payloads = [await two[0].payload(call, 700) for call in ("a", "b", "a")]
    await asyncio.gather(two[0].writer.store(payloads), two[1].writer.store(payloads[::-1]))
    await two[1].writer.store(payloads)
    assert await two[0].state() == [("1.4", "0")]
    assert [row.call_id for row in await two[0].rows()] == ["a", "b"]


async def test_what_a_dead_replica_set_aside_counts_until_it_is_settled(two: list[Replica]) -> None:
    """It counts as used when its time is over, and exactly when its event comes after all."""
    await two[0].budget("10")
    await two[0].reserve("lost", 3000)
    await two[0].reserve("alive", 1000)
    await two[0].clock.advance(899)
    assert await two[1].state() == [("0", "4")]
    await two[1].settle("alive", 1000)
    await two[0].clock.advance(1)
    assert await two[1].state() == [("4", "0")]
    await two[1].settle("lost", 500)
    assert await two[1].state() == [("1.5", "0")]


async def test_an_expired_reservation_is_found_by_whoever_settles(one: Replica, broker: Broker) -> None:
    """And its warning is told, though nobody lists budgets."""
    await one.budget("10")
    await one.reserve("lost", 9000)
    await one.clock.advance(900)
    await one.settle("other", 1)
    assert [code for code, _ in broker.alerts] == ["budget_80"]
    assert await one.state() == [("9.001", "0")]


async def test_a_call_settles_into_the_period_it_was_reserved_in(one: Replica) -> None:
    """The next day begins with nothing used; what comes late from the old one does not count in it."""
    await one.budget("10", time_zone="Asia/Shanghai")
    await one.budget("10", period=pb.BUDGET_PERIOD_TOTAL)
    await one.clock.advance(4 * 3600 - 60)
    await one.reserve("late", 1000)
    await one.settle("early", 2000)
    began = one.clock.now_ms()
    await one.clock.advance(120)
    assert await one.state() == [("0", "0"), ("2", "1")]
    await one.reserve("new", 4000)
    await one.settle("late", 900)
    await one.settle("latest", 70, started_at_ms=began)  # without a reservation: by when it began
    await one.settle("new", 3000)
    assert await one.state() == [("3", "0"), ("5.97", "0")]
    starts = [budget.period_start_ms for budget in await one.listed()]
    assert starts == [1_795_190_400_000, 0]  # 2026-11-21 00:00 in Shanghai


async def test_a_budget_made_while_calls_run_counts_them(one: Replica) -> None:
    """A call without a reservation counts when it is settled."""
    await one.reserve("a", 1000)
    await one.budget("10")
    await one.settle("a", 1000)
    assert await one.state() == [("1", "0")]


async def test_each_warning_comes_once_a_period(two: list[Replica]) -> None:
    """At 80, 95 and 100 percent, of whichever replica settles; the next day anew."""
    first, second = two
    broker = first.broker
    budget = await first.budget("10", scope=pb.BUDGET_SCOPE_ACCOUNT, subject="acc1")
    for number, tokens in enumerate((5000, 3500, 200, 800, 100, 300, 100, 1000)):
        await two[number % 2].settle(f"c{number}", tokens)
    with pytest.raises(BudgetExceeded):
        await second.reserve("more", 1)
    await second.budgets.close()
    assert [code for code, _ in broker.alerts] == ["budget_80", "budget_95", "budget_100"]
    event = broker.events[0]
    assert broker.published[0].subject == "event.alert.acc1"
    assert (event.organization_id, event.account_id) == ("org", "acc1")
    assert event.alert.text == "The AI budget of 10 CNY a day for the account acc1 is 85 % used."
    await first.clock.advance(DAY_S)
    await first.settle("next day", 20_000)
    assert [code for code, _ in broker.alerts[3:]] == ["budget_100"]
    assert len({event_id for _, event_id in broker.alerts}) == 4
    assert budget.budget_id in broker.alerts[0][1]


async def test_a_raised_limit_warns_again(one: Replica, broker: Broker) -> None:
    """Only of what does not hold any more."""
    budget = await one.budget("10")
    await one.settle("a", 10_000)
    budget = await one.update(budget, limit="12")
    await one.settle("b", 100)
    await one.settle("c", 1400)
    assert [code for code, _ in broker.alerts] == ["budget_100", "budget_95"]
    await one.update(budget, fallback_model="mini")
    await one.settle("d", 500)
    assert [code for code, _ in broker.alerts] == ["budget_100", "budget_95", "budget_100"]


async def test_calls_that_are_refused_call_people(one: Replica, broker: Broker) -> None:
    """Once, when most of the budget is used, though it is not all used."""
    await one.budget("10")
    await one.settle("a", 9000)
    for number in range(3):
        with pytest.raises(BudgetExceeded):
            await one.reserve(f"b{number}", 2000)
    await until(lambda: len(broker.alerts) == 2)
    await one.settle("c", 1500)
    assert [code for code, _ in broker.alerts] == ["budget_80", "budget_100"]


async def test_a_warning_that_could_not_be_told_is_told_by_the_repeat(one: Replica, broker: Broker) -> None:
    """The row is stored, NATS is away: the event comes again, counts no more, and warns."""
    await one.budget("10")
    payload = await one.payload("a", 9600)
    broker.down = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            await one.writer.store([payload])
    broker.down = False
    await one.writer.store([payload])
    await one.writer.store([payload])
    assert [code for code, _ in broker.alerts] == ["budget_95"]
    assert await one.state() == [("9.6", "0")]


async def test_a_changed_period_keeps_what_was_used(two: list[Replica]) -> None:
    """And a call that was under way is settled in the new one."""
    one = two[0]
    budget = await one.budget("10")
    await one.settle("a", 1000)
    await one.reserve("b", 2000)
    await one.update(budget, period=pb.BUDGET_PERIOD_MONTH, time_zone="Asia/Shanghai")
    assert await one.state() == [("1", "2")]
    await one.settle("b", 1500)
    assert await one.state() == [("2.5", "0")]
    await one.clock.advance(10 * DAY_S)
    assert await one.state() == [("2.5", "0")]
    await one.clock.advance(DAY_S)
    assert await one.state() == [("0", "0")]


async def test_a_call_that_no_column_holds_is_still_counted(two: list[Replica]) -> None:
    """Names that are too long are cut; money and tokens are exact."""
    one = two[0]
    await one.budget("10")
    long = "长" * 500 + "\x00"
    await one.settle(
        "a", 1, provider=long, requested_model=long, model=long, usage=Usage(3, 1, 2, counted=True)
    )
    row = (await one.rows())[0]
    assert (len(row.provider), len(row.requested_model), len(row.model)) == (64, 64, 128)
    assert (row.cost_pico, row.currency, row.prompt_tokens, row.counted) == (10**9, "CNY", 3, True)
    assert await one.state() == [("0.001", "0")]


@pytest.mark.parametrize("payload", [b"\xff", b"", b"\n\x01x"])
async def test_what_is_no_spend_is_poison(one: Replica, payload: bytes) -> None:
    """It goes to DEAD and is not tried for ever."""
    with pytest.raises(Poison):
        await one.writer.store([payload])
    event = Event.FromString(await one.payload("a", 1))
    event.usage.usage.cost = "1000000000"
    with pytest.raises(Poison):
        await one.writer.store([event.SerializeToString()])


async def test_a_cached_answer_used_nothing(one: Replica) -> None:
    """It has a row, and no budget counts it."""
    await one.budget("10", currency="tokens")
    await one.settle("a", 500, cached=True)
    assert await one.state() == [("0", "0")]
    assert [row.cached for row in await one.rows()] == [True]


async def test_what_is_too_old_goes(two: list[Replica]) -> None:
    """Rows after the setting's days; expired reservations when no event of their call can come any more."""
    one = two[0]
    await one.budget("100", period=pb.BUDGET_PERIOD_TOTAL)
    await one.reserve("lost", 1000)
    await one.settle("old", 1000)
    retention = Retention(one.database, one.clock, spend_days=10)
    await one.clock.advance(7 * DAY_S)
    await one.settle("new", 1000)
    assert await retention.sweep() == 0
    await one.clock.advance(4 * DAY_S)
    assert await retention.sweep() == 2
    assert [row.call_id for row in await one.rows()] == ["new"]
    assert await one.state() == [("3", "0")]


async def test_many_budgets_and_calls_at_random_stay_in_order(two: list[Replica]) -> None:
    """Replicas that hold many rows at once never wait for each other for ever."""
    for number in range(6):
        await two[0].budget("1000", scope=pb.BUDGET_SCOPE_ACCOUNT, subject=f"acc{number}")
    await two[0].budget("1000", currency="tokens", scope=pb.BUDGET_SCOPE_MODEL, subject="big")
    chance = random.Random(7)

    async def call(number: int) -> None:
        caller = Caller("org", f"acc{chance.randrange(6)}")
        await chance.choice(two).reserve(f"c{number}", 1, caller)
        await chance.choice(two).settle(f"c{number}", 1, caller=caller)

    await asyncio.gather(*(call(number) for number in range(80)))
    state = await two[0].state()
    assert sum(Decimal(spent) for spent, _ in state[:6]) == Decimal("0.08")
    assert state[6] == ("80", "0")


async def test_of_a_stranger_nothing_counts(one: Replica) -> None:
    """Another organization's calls, accounts with the same id included."""
    await one.budget("1", scope=pb.BUDGET_SCOPE_ACCOUNT, subject="acc1")
    stranger = replace(CALLER, organization_id="other")
    await one.reserve("a", 10**6, stranger)
    await one.settle("a", 10**6, caller=stranger)
    assert await one.state() == [("0", "0")]
