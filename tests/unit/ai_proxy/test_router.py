"""The router: each rule of trying again and elsewhere, with scripted providers and a clock that stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from frontdesk.ai_proxy import router
from frontdesk.ai_proxy.breaker import BreakerSettings, State
from frontdesk.ai_proxy.errors import (
    UpstreamError,
    UpstreamLimited,
    UpstreamMisconfigured,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from frontdesk.ai_proxy.model import Delta, Model
from frontdesk.ai_proxy.router import capped
from frontdesk.kit.errors import FrontdeskError, Unavailable
from support.completions import PROMPT, forever, provider, says
from support.completions import ROUTER_SETTINGS as SETTINGS
from support.completions import RouterBench as Bench

AWAY = UpstreamUnavailable("away")


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


async def test_a_longer_retry_after_keeps_the_others_away_meanwhile(two: Bench) -> None:
    """The call that got it is the one that tries again."""
    two.adapter.plays("a", [UpstreamLimited("later", status=429, retry_after_s=3)])
    task = asyncio.create_task(two.complete())
    await two.clock.advance(1)
    assert two.states() == [State.OPEN, State.CLOSED]
    assert await two.complete() == "b"
    await two.clock.advance(2.5)
    assert await task == "a"
    assert two.states() == [State.CLOSED, State.CLOSED]


async def test_a_trial_that_fails_is_not_waited_for() -> None:
    """Its breaker is open again: the caller hears at once what was wrong."""
    bench = Bench(provider("a"))
    bench.adapter.plays("a", *[[UpstreamTimeout("silent")]] * 3, [AWAY])
    for _ in range(3):
        with pytest.raises(UpstreamTimeout):
            await bench.complete()
    await bench.clock.advance(30)
    with pytest.raises(UpstreamUnavailable, match="away"):
        await bench.complete()
    assert len(bench.adapter.asked) == 4


async def half_open() -> Bench:
    """One provider whose breaker was open and lets one call try."""
    bench = Bench(provider("a"))
    bench.adapter.plays("a", *[[UpstreamTimeout("silent")]] * 3)
    for _ in range(3):
        with pytest.raises(UpstreamTimeout):
            await bench.complete()
    await bench.clock.advance(30)
    assert bench.states() == [State.HALF_OPEN]
    return bench


async def test_a_trial_whose_caller_leaves_is_taken_over_by_the_next() -> None:
    bench = await half_open()
    bench.adapter.plays("a", [forever])
    task = asyncio.create_task(bench.complete())
    await bench.clock.advance(0)
    with pytest.raises(Unavailable, match="not asked for now"):
        await bench.complete()
    task.cancel()
    await bench.clock.advance(0)
    assert await bench.complete() == "a"


async def test_a_trial_stream_lets_the_others_in_with_its_first_piece() -> None:
    bench = await half_open()
    held = await bench.stream()
    assert bench.states() == [State.CLOSED]
    assert await bench.complete() == "a"
    held.end()


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


async def test_a_provider_that_is_left_alone_is_logged_once(
    two: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """By its id and its organization's, for how long and why; not by names or words of others."""
    wrong = UpstreamMisconfigured("the key is not accepted", status=401)
    wrong.detail = "key sk-1 of the shop"
    two.adapter.plays("a", [wrong])
    await two.complete()
    await two.complete()
    assert two.router.states() == {State.CLOSED: 1, State.OPEN: 1, State.HALF_OPEN: 0}
    await two.clock.advance(30)
    assert two.router.states() == {State.CLOSED: 1, State.OPEN: 0, State.HALF_OPEN: 1}
    two.adapter.plays("a", [AWAY])
    await two.complete()
    assert [one.getMessage() for one in caplog.records if one.name.endswith("health")] == [
        "provider id-a of org is not asked for 30 s: FAILED_PRECONDITION, status 401",
        "provider id-a of org is not asked for 60 s: UNAVAILABLE, status none",
    ]


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
    with pytest.raises(UpstreamUnavailable, match="away"):
        await task
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


async def test_a_failure_is_told_without_what_was_said(caplog: pytest.LogCaptureFixture) -> None:
    """Who runs the installation sees which provider, its status and its word for it; nothing of a chat."""
    bench = Bench(provider("a"))
    refused = UpstreamMisconfigured("not accepted", status=401, upstream_code="invalid_api_key")
    refused.detail = "the buyer's words"
    bench.adapter.plays("a", [refused])
    with pytest.raises(UpstreamMisconfigured):
        await bench.complete()
    (record,) = [record for record in caplog.records if record.name == router.__name__]
    names = ("code", "provider_id", "model", "status", "upstream_code")
    facts = [getattr(record, name) for name in names]
    assert facts == ["FAILED_PRECONDITION", bench.providers[0].provider_id, "a-large", 401, "invalid_api_key"]
    assert "buyer" not in repr(vars(record))
