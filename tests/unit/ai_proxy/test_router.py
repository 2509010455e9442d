"""The router: each rule of trying again and elsewhere, with scripted providers and a clock that stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from frontdesk.ai_proxy.breaker import BreakerSettings, State
from frontdesk.ai_proxy.catalog import Catalog
from frontdesk.ai_proxy.errors import (
    UpstreamError,
    UpstreamLimited,
    UpstreamMisconfigured,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from frontdesk.ai_proxy.health import HealthView
from frontdesk.ai_proxy.model import Delta, Model, ModelMessage, Prompt, Provider, Role
from frontdesk.ai_proxy.router import Begun, Course, Held, Router, RouterSettings, capped
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.errors import FrontdeskError, ResourceExhausted, Unavailable
from support.scripted import Scripted, Step, forever, provider, says

PROMPT = Prompt((ModelMessage(Role.USER, "hi"),))
SETTINGS = RouterSettings(
    slot_wait_s=5,
    slot_waiters=2,
    backoff_s=1,
    backoff_most_s=3,
    retry_after_most_s=4,
    breaker=BreakerSettings(failures=3, cool_down_s=30),
)
AWAY = UpstreamUnavailable("away")


class Bench:
    """A router of scripted providers whose back-off is drawn in the middle."""

    def __init__(self, *providers: Provider, settings: RouterSettings = SETTINGS) -> None:
        self.clock = ManualClock()
        self.adapter = Scripted()
        self.providers = providers
        self.router = Router({"openai": self.adapter}, self.clock, settings, draws=lambda: 0.5)

    def course(self, seconds: float = 100, model: str = "default") -> Course:
        found = Catalog(self.providers).find(model, embeds=False)
        return Course(found, self.clock.monotonic() + seconds)

    async def complete(self, seconds: float = 100, model: str = "default") -> str:
        candidate, answer = await self.router.complete(self.course(seconds, model), PROMPT)
        assert answer.text == "ok"
        return candidate.provider.name

    async def stream(self) -> Held[Begun]:
        return await self.router.stream(self.course(), PROMPT)

    def states(self) -> list[State]:
        return [view.state for view in self._views()]

    def in_flight(self) -> list[int]:
        return [view.in_flight for view in self._views()]

    def _views(self) -> list[HealthView]:
        return self.router.health(one.provider_id for one in self.providers)


@pytest.fixture
async def two() -> AsyncIterator[Bench]:
    bench = Bench(provider("a"), provider("b", priority=1))
    yield bench
    assert bench.in_flight() == [0, 0]


async def test_the_first_choice_answers(two: Bench) -> None:
    assert await two.complete() == "a"
    assert two.adapter.asked == ["a"]


async def test_what_may_succeed_is_asked_again_after_a_back_off(two: Bench) -> None:
    """Full jitter: the middle draw waits half of the back-off."""
    two.adapter.plays("a", [AWAY])
    task = asyncio.create_task(two.complete())
    await two.clock.advance(0.49)
    assert two.adapter.asked == ["a"]
    await two.clock.advance(0.01)
    assert await task == "a"
    assert two.adapter.asked == ["a", "a"]


async def test_the_back_off_grows_up_to_its_most() -> None:
    one = provider("a")
    bench = Bench(
        replace(one, limits=replace(one.limits, attempts=4)),
        settings=replace(SETTINGS, breaker=BreakerSettings(failures=9)),
    )
    bench.adapter.plays("a", [AWAY], [AWAY], [AWAY])
    task = asyncio.create_task(bench.complete())
    moments = []
    for _ in range(40):
        before = len(bench.adapter.asked)
        await bench.clock.advance(0.125)
        if len(bench.adapter.asked) > max(before, 1):
            moments.append(bench.clock.monotonic())
    assert moments == [0.5, 1.5, 3.0]
    assert await task == "a"


async def test_after_its_attempts_another_is_asked(two: Bench) -> None:
    two.adapter.plays("a", [AWAY], [AWAY])
    task = asyncio.create_task(two.complete())
    await two.clock.advance(1)
    assert await task == "b"
    assert two.adapter.asked == ["a", "a", "b"]


@pytest.mark.parametrize(
    "error",
    [
        UpstreamTimeout("silent"),
        UpstreamMisconfigured("no key", status=401),
        UpstreamLimited("later", retry_after_s=4.1),
        UpstreamLimited("later", retry_after_s=99),
    ],
    ids=["timeout", "configuration", "retry-after over the setting", "retry-after over the deadline"],
)
async def test_what_helps_elsewhere_only_goes_there_at_once(two: Bench, error: UpstreamError) -> None:
    two.adapter.plays("a", [error])
    assert await two.complete() == "b"
    assert two.adapter.asked == ["a", "b"]


async def test_a_short_retry_after_is_waited_for(two: Bench) -> None:
    """The back-off comes on top, so that not all come back at once."""
    two.adapter.plays("a", [UpstreamLimited("later", retry_after_s=1.5)])
    task = asyncio.create_task(two.complete())
    await two.clock.advance(1.99)
    assert two.adapter.asked == ["a"]
    await two.clock.advance(0.01)
    assert await task == "a"


async def test_no_wait_goes_beyond_the_deadline(two: Bench) -> None:
    two.adapter.plays("a", [UpstreamLimited("later", retry_after_s=1.5)])
    assert await two.complete(seconds=1.9) == "b"


async def test_a_wrong_question_goes_to_the_caller_at_once(two: Bench) -> None:
    """And says nothing against the provider."""
    for _ in range(5):
        two.adapter.plays("a", [UpstreamRefused("too long")])
        with pytest.raises(UpstreamRefused):
            await two.complete()
    assert set(two.adapter.asked) == {"a"}
    assert two.states() == [State.CLOSED, State.CLOSED]


async def test_when_all_fail_the_last_error_is_the_callers(two: Bench) -> None:
    two.adapter.plays("a", [UpstreamTimeout("a")])
    two.adapter.plays("b", [UpstreamMisconfigured("b")])
    with pytest.raises(UpstreamMisconfigured):
        await two.complete()


async def test_an_open_breaker_is_passed_by_and_tried_later(two: Bench) -> None:
    for _ in range(3):
        two.adapter.plays("a", [UpstreamTimeout("silent")])
        assert await two.complete() == "b"
    assert two.states() == [State.OPEN, State.CLOSED]
    assert await two.complete() == "b"
    await two.clock.advance(30)
    assert two.states() == [State.HALF_OPEN, State.CLOSED]
    assert await two.complete() == "a"
    assert two.states() == [State.CLOSED, State.CLOSED]
    assert two.adapter.asked == ["a", "b"] * 3 + ["b", "a"]


async def test_a_breaker_that_opens_ends_the_tries() -> None:
    """Other calls' failures count: the provider is not asked again after the back-off."""
    bench = Bench(provider("a"))
    bench.adapter.plays("a", [AWAY], [UpstreamTimeout("x")], [UpstreamTimeout("x")])
    task = asyncio.create_task(bench.complete())
    await bench.clock.advance(0.1)
    for _ in range(2):
        with pytest.raises(UpstreamTimeout):
            await bench.complete()
    await bench.clock.advance(1)
    with pytest.raises(Unavailable, match="not asked for now") as caught:
        await task
    assert caught.value.facts == {"retry_after_s": 29.6}
    assert len(bench.adapter.asked) == 3


async def test_when_all_rest_the_caller_hears_until_when(two: Bench) -> None:
    for name in ("a", "b"):
        two.adapter.plays(name, [UpstreamMisconfigured("no key", status=401)])
    with pytest.raises(UpstreamMisconfigured):
        await two.complete()
    with pytest.raises(Unavailable) as caught:
        await two.complete()
    assert caught.value.facts["retry_after_s"] == 30
    assert two.adapter.asked == ["a", "b"]


async def test_a_provider_that_was_changed_is_asked_at_once() -> None:
    """A person mended the key: the cool-down of the wrong one is over."""
    bench = Bench(provider("a"))
    bench.adapter.plays("a", [UpstreamMisconfigured("no key", status=401)])
    with pytest.raises(UpstreamMisconfigured):
        await bench.complete()
    bench.providers = (replace(bench.providers[0]),)
    with pytest.raises(Unavailable):
        await bench.complete()
    bench.providers = (replace(bench.providers[0], api_key="right"),)
    assert await bench.complete() == "a"


async def test_an_unknown_model_shuts_out_that_model_only() -> None:
    """One wrong name must not silence the provider's other models; with all of them wrong it is open."""
    bench = Bench(provider("a", Model("default", "typo"), Model("cheap", "m")))
    missing = UpstreamMisconfigured("no such model", status=404)
    bench.adapter.plays("a", [missing])
    with pytest.raises(UpstreamMisconfigured):
        await bench.complete()
    with pytest.raises(Unavailable):
        await bench.complete()
    assert bench.states() == [State.CLOSED]
    bench.adapter.plays("a", says("ok"), [missing])
    assert await bench.complete(model="cheap") == "a"
    with pytest.raises(UpstreamMisconfigured):
        await bench.complete(model="cheap")
    assert bench.states() == [State.OPEN]
    await bench.clock.advance(30)
    assert await bench.complete() == "a"
    assert bench.states() == [State.CLOSED]


def narrow(name: str, **fields: int) -> Provider:
    """A provider for one call at once."""
    one = provider(name, **fields)
    return replace(one, limits=replace(one.limits, concurrency=1))


async def holding(bench: Bench, count: int) -> Sequence[Held[Begun]]:
    """Streams that have begun and hold their places."""
    return [await bench.stream() for _ in range(count)]


async def test_a_full_provider_is_passed_by() -> None:
    bench = Bench(narrow("a"), narrow("b", priority=1))
    held = await holding(bench, 2)
    assert [one.candidate.provider.name for one in held] == ["a", "b"]
    assert bench.in_flight() == [1, 1]


async def test_when_all_are_full_the_first_place_that_gets_free_is_taken() -> None:
    """In the order of waiting, and each place by one call."""
    bench = Bench(narrow("a"), narrow("b", priority=1))
    held = await holding(bench, 2)
    tasks = [asyncio.create_task(bench.complete()) for _ in range(2)]
    await bench.clock.advance(1)
    assert not any(task.done() for task in tasks)
    held[1].end()
    await bench.clock.advance(0)
    assert await tasks[0] == "b"
    assert await tasks[1] == "b"
    held[0].end()
    assert bench.in_flight() == [0, 0]


async def test_waiting_for_a_place_is_bounded() -> None:
    """In time, and in how many wait."""
    bench = Bench(narrow("a"))
    (held,) = await holding(bench, 1)
    tasks = [asyncio.create_task(bench.complete()) for _ in range(2)]
    await bench.clock.advance(0)
    with pytest.raises(ResourceExhausted, match="too many"):
        await bench.complete()
    await bench.clock.advance(5)
    for task in tasks:
        with pytest.raises(ResourceExhausted, match="busy"):
            await task
    held.end()
    assert await bench.complete() == "a"


async def test_a_place_is_not_lost_on_a_caller_who_left() -> None:
    """Neither one who waits, nor one who was just given it."""
    bench = Bench(narrow("a"))
    (held,) = await holding(bench, 1)
    left, stays = (asyncio.create_task(bench.complete()) for _ in range(2))
    await bench.clock.advance(0)
    held.end()
    left.cancel()
    await bench.clock.advance(0)
    assert left.cancelled()
    assert await stays == "a"
    assert bench.in_flight() == [0]


async def test_a_stream_falls_back_until_its_first_piece(two: Bench) -> None:
    """An answer that ends without a piece is a failure as any other."""
    two.adapter.plays("a", [UpstreamTimeout("silent")])
    held = await two.stream()
    assert (held.candidate.provider.name, held.value.first[0]) == ("b", Delta("ok"))
    held.end()
    two.adapter.plays("a", [], [])
    task = asyncio.create_task(two.stream())
    await two.clock.advance(1)
    (await task).end()
    assert two.adapter.asked == ["a", "b", "a", "a", "b"]


async def test_breaking_off_counts_against_the_provider(two: Bench) -> None:
    """peers.md 17: a stream that began well and broke is no success."""
    for _ in range(3):
        (await two.stream()).end(AWAY)
    assert two.states() == [State.OPEN, State.CLOSED]


async def test_leaving_says_nothing_about_the_provider(two: Bench) -> None:
    """Before the first piece and after it; the adapter is ended, the place free."""
    for _ in range(4):
        two.adapter.plays("a", [forever])
        task = asyncio.create_task(two.stream())
        await two.clock.advance(0)
        assert two.in_flight() == [1, 0]
        task.cancel()
        await two.clock.advance(0)
        assert task.cancelled()
        assert two.adapter.ended[-1] == ("a", "left")
        held = await two.stream()
        await held.value.source.aclose()
        held.end(asyncio.CancelledError())
    assert two.states() == [State.CLOSED, State.CLOSED]


async def test_a_lack_of_connections_of_our_own_is_nobodys_failure() -> None:
    """What a provider limits itself has a status or its word for it, and counts."""
    bench = Bench(provider("a"))
    for facts, state in (({}, State.CLOSED), ({"status": 429}, State.OPEN)):
        for _ in range(2):
            bench.adapter.plays("a", *[[UpstreamLimited("no more", **facts)]] * 2)
            task = asyncio.create_task(bench.complete())
            await bench.clock.advance(4)
            with pytest.raises(FrontdeskError):
                await task
        assert bench.states() == [state]


async def test_an_adapters_bug_keeps_no_place(two: Bench) -> None:
    two.adapter.plays("a", [ZeroDivisionError()])
    with pytest.raises(ZeroDivisionError):
        await two.complete()


HEDGED = replace(SETTINGS, hedge_after_s=2)


async def test_hedging_asks_a_second_provider_and_cancels_the_loser() -> None:
    bench = Bench(provider("a"), provider("b", priority=1), settings=HEDGED)
    bench.adapter.plays("a", [forever])
    task = asyncio.create_task(bench.stream())
    await bench.clock.advance(1.9)
    assert bench.adapter.asked == ["a"]
    await bench.clock.advance(0.1)
    held = await task
    assert held.candidate.provider.name == "b"
    assert bench.adapter.ended == [("a", "left")]
    assert bench.in_flight() == [0, 1]
    held.end()
    assert bench.clock.sleepers == 0


async def test_hedging_keeps_the_first_when_it_speaks_first() -> None:
    """The second is cancelled though it was asked last."""
    bench = Bench(provider("a"), provider("b", priority=1), settings=HEDGED)
    bench.adapter.plays("a", [lambda: bench.clock.sleep(3), *says("ok")])
    bench.adapter.plays("b", [forever])
    task = asyncio.create_task(bench.stream())
    await bench.clock.advance(3)
    held = await task
    assert (held.candidate.provider.name, bench.adapter.ended) == ("a", [("b", "left")])
    held.end()
    assert bench.in_flight() == [0, 0]


async def test_without_hedging_nobody_else_is_asked(two: Bench) -> None:
    two.adapter.plays("a", [lambda: two.clock.sleep(50), *says("ok")])
    task = asyncio.create_task(two.stream())
    await two.clock.advance(50)
    (await task).end()
    assert two.adapter.asked == ["a"]


async def test_of_two_that_speak_at_once_one_is_closed() -> None:
    """Also one that has begun is really cancelled."""
    bench = Bench(provider("a"), provider("b", priority=1), settings=HEDGED)
    late: list[Step] = [lambda: bench.clock.sleep(3), *says("ok", "more")]
    bench.adapter.plays("a", late)
    bench.adapter.plays("b", [lambda: bench.clock.sleep(1), *says("ok", "more")])
    task = asyncio.create_task(bench.stream())
    await bench.clock.advance(3)
    held = await task
    assert [how for _, how in bench.adapter.ended] == ["left"]
    held.end()
    assert bench.in_flight() == [0, 0]


async def test_hedging_ends_when_all_have_failed_or_the_question_is_wrong() -> None:
    bench = Bench(provider("a"), provider("b", priority=1), settings=HEDGED)
    bench.adapter.plays("a", [lambda: bench.clock.sleep(3), UpstreamTimeout("a")])
    bench.adapter.plays("b", [UpstreamMisconfigured("b", status=404)])
    task = asyncio.create_task(bench.stream())
    await bench.clock.advance(3)
    with pytest.raises(UpstreamTimeout):
        await task
    bench.adapter.plays("a", [forever])
    bench.adapter.plays("b", [UpstreamRefused("too long")])
    bench.providers = (bench.providers[0], replace(bench.providers[1], weight=2))
    task = asyncio.create_task(bench.stream())
    await bench.clock.advance(2)
    with pytest.raises(UpstreamRefused):
        await task
    assert bench.in_flight() == [0, 0]


async def test_leaving_a_hedged_call_ends_both() -> None:
    bench = Bench(provider("a"), provider("b", priority=1), settings=HEDGED)
    for name in ("a", "b"):
        bench.adapter.plays(name, [forever])
    task = asyncio.create_task(bench.stream())
    await bench.clock.advance(2)
    assert bench.in_flight() == [1, 1]
    task.cancel()
    await bench.clock.advance(0)
    assert task.cancelled()
    assert bench.in_flight() == [0, 0]
    assert sorted(bench.adapter.ended) == [("a", "left"), ("b", "left")]


async def test_a_kind_of_a_later_version_is_passed_by() -> None:
    bench = Bench(provider("new", kind="later"), provider("b", priority=1))
    assert await bench.complete() == "b"


@pytest.mark.parametrize(
    ("asked", "most", "sent"), [(None, 0, None), (None, 9, 9), (99, 9, 9), (5, 9, 5), (5, 0, 5)]
)
def test_no_answer_is_asked_for_that_is_longer_than_the_model_may(
    asked: int | None, most: int, sent: int | None
) -> None:
    """What budgets reserve counts on it."""
    assert capped(replace(PROMPT, max_tokens=asked), Model("m", "m", max_tokens=most)).max_tokens == sent
