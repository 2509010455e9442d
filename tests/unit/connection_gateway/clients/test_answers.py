"""Answers: followed exactly once, given up in time, and bounded in number and bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode

from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.connection_gateway.clients.answers import Answer, Answers, Question
from frontdesk.connection_gateway.clients.limits import ChatLimits
from frontdesk.connection_gateway.clients.model import CANCELLED, Done, Event, Failed, Piece, Turn
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable
from frontdesk.kit.principal import Principal
from support.chat import done, said

ADA = Principal("ada", "org", "agent")
QUESTION = Question(ADA, (Turn(True, "hi"),))


class Call:
    """A stream that a test writes into; as grpc.aio has them."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[pb.StreamCompleteResponse | Exception | None] = asyncio.Queue()
        self.cancelled = False
        self._over = False

    def say(self, *events: pb.StreamCompleteResponse | Exception | None) -> None:
        for event in events:
            self.events.put_nowait(event)

    def __aiter__(self) -> AsyncIterator[pb.StreamCompleteResponse]:
        return self

    async def __anext__(self) -> pb.StreamCompleteResponse:
        event = await self.events.get()
        if event is None:
            self._over = True
            raise StopAsyncIteration
        if isinstance(event, Exception):
            raise event
        return event

    async def code(self) -> StatusCode:
        self._over = True
        return StatusCode.OK

    def cancel(self) -> bool:
        self.cancelled = not self._over
        return self.cancelled


class Ai:
    """Gives calls out in order."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def StreamComplete(self, request: pb.StreamCompleteRequest) -> Call:
        self.calls.append(Call())
        return self.calls[-1]


class Bench:
    """Answers of one replica, and what was stored of them."""

    def __init__(self, **limits: Any) -> None:
        self.ai = Ai()
        self.clock = ManualClock()
        self.stored: list[str] = []
        self.answers = Answers(self.ai, "r", ChatLimits(**limits), self.clock)  # type: ignore[arg-type]

    async def begin(self, *, keep: bool = True) -> tuple[Answer, Call]:
        answer = self.answers.begin(QUESTION, self._record, keep=keep)
        await settle()
        return answer, self.ai.calls[-1]

    async def whole(self, text: str = "x") -> Answer:
        """An answer that ended."""
        answer, call = await self.begin()
        call.say(said(0, text), done(), None)
        await settle()
        assert answer.end is not None
        return answer

    async def _record(self, text: str) -> None:
        self.stored.append(text)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def read(answer: Answer, since: int = -1) -> list[Event]:
    return [event async for event in answer.follow(since)]


async def test_followers_get_each_piece_once() -> None:
    """Whenever they come, from wherever they want, in order and to the end."""
    bench = Bench()
    answer, call = await bench.begin()
    followers = [asyncio.create_task(read(answer))]
    for number in range(5):
        call.say(said(number, str(number)))
        await settle()
        followers.append(asyncio.create_task(read(answer, number)))
    call.say(done(), None)
    await settle()
    whole, *later = [await follower for follower in followers]
    assert [event.text for event in whole if isinstance(event, Piece)] == list("01234")
    assert isinstance(whole[-1], Done)
    assert later == [whole[number + 1 :] for number in range(5)]
    assert bench.stored == ["01234"]
    with pytest.raises(InvalidArgument):
        await read(answer, 5)


async def test_the_end_is_told_after_the_store() -> None:
    """So that the next question finds this one; a store that fails or hangs costs nobody the answer."""
    bench = Bench()

    async def fails(_: str) -> None:
        assert answer.end is None
        raise Unavailable("the database is away")

    answer = bench.answers.begin(QUESTION, fails, keep=True)
    await settle()
    bench.ai.calls[0].say(said(0, "x"), done(), None)
    await settle()
    assert isinstance(answer.end, Done)


async def test_a_stream_without_an_end_is_no_answer() -> None:
    """It broke off, whatever its status was; an error of our own is told as a fault with no detail."""
    bench = Bench()
    first, call = await bench.begin()
    call.say(said(0, "half"), None)
    await settle()
    assert isinstance(first.end, Failed)
    assert (first.end.code, first.end.partial, first.end.retryable) == ("UNAVAILABLE", "half", True)
    second, call = await bench.begin()
    call.say(said(0, "half"), ValueError("secret"))
    await settle()
    assert isinstance(second.end, Failed)
    assert (second.end.code, second.end.expected) == ("INTERNAL", False)
    assert "secret" not in second.end.message
    assert bench.stored == ["half", "half"]


async def test_nobody_reads() -> None:
    """It goes on for the grace time from when its last follower left, then its call is cancelled."""
    bench = Bench(grace_s=30)
    answer, call = await bench.begin()
    follower = asyncio.create_task(read(answer))
    await settle()
    await bench.clock.advance(100)
    bench.answers.sweep()
    await settle()
    assert answer.end is None
    follower.cancel()
    await settle()
    for seconds, over in ((29, False), (1, True)):
        await bench.clock.advance(seconds)
        bench.answers.sweep()
        await settle()
        assert (answer.end is not None, call.cancelled) == (over, over)


async def test_kept_for_a_while() -> None:
    """`find` gives an answer to who asked it, until it is too old; a plain one is forgotten at its end."""
    bench = Bench(keep_s=300)
    answer = await bench.whole()
    assert bench.answers.find(answer.answer_id, ADA) is answer
    for stranger in (
        None,
        Principal("eve", "org", "owner"),
        Principal("ada", "other", "agent"),
        Principal("ada", "org", "agent", kind="api_key"),
    ):
        with pytest.raises(NotFound):
            bench.answers.find(answer.answer_id, stranger)
    await bench.clock.advance(299)
    bench.answers.sweep()
    bench.answers.find(answer.answer_id, ADA)
    await bench.clock.advance(1)
    bench.answers.sweep()
    with pytest.raises(NotFound):
        bench.answers.find(answer.answer_id, ADA)
    plain, call = await bench.begin(keep=False)
    with pytest.raises(NotFound):
        bench.answers.find(plain.answer_id, ADA)
    call.say(said(0, "x"), done(), None)
    await settle()
    assert bench.answers.size == 0


async def test_bounded_in_number() -> None:
    """The oldest that ended makes room; running ones do not, and then there is none."""
    bench = Bench(answers=2)
    old, new = await bench.whole(), await bench.whole()
    third, call = await bench.begin()
    with pytest.raises(NotFound):
        bench.answers.find(old.answer_id, ADA)
    bench.answers.find(new.answer_id, ADA)
    await bench.begin()
    with pytest.raises(ResourceExhausted):
        await bench.begin()
    call.say(said(0, "x"), done(), None)
    await settle()
    assert isinstance(third.end, Done)
    await bench.begin()


async def test_bounded_in_bytes() -> None:
    """Kept answers make room for those that grow; one that is too long, or finds no room, is cancelled."""
    bench = Bench(kept_bytes=5000, answer_bytes=4000)
    for _ in range(50):
        await bench.whole("x" * 1000)
        assert bench.answers.size <= 5000
    long, call = await bench.begin()
    call.say(said(0, "x" * 3000), said(1, "x" * 3000))
    await settle()
    assert isinstance(long.end, Failed)
    assert (long.end.code, call.cancelled) == ("RESOURCE_EXHAUSTED", True)
    bench.answers.sweep()
    running = [await bench.begin() for _ in range(3)]
    for _, call in running:
        call.say(said(0, "x" * 2000))
    await settle()
    assert [answer.end is None for answer, _ in running] == [True, True, False]
    assert bench.answers.size <= 5000 + 2200


async def test_stopped_before_it_began() -> None:
    """A task that never ran has an end too."""
    bench = Bench()
    answer = bench.answers.begin(QUESTION, bench._record, keep=True)
    bench.answers.stop(answer, CANCELLED)
    await settle()
    assert answer.end == CANCELLED
    assert not bench.ai.calls
    bench.answers.stop(answer, CANCELLED)


async def test_too_long_in_time() -> None:
    """Its call is cancelled, and it may be tried again."""
    bench = Bench(answer_s=0)
    answer, _ = await bench.begin()
    await settle()
    assert isinstance(answer.end, Failed)
    assert (answer.end.code, answer.end.retryable) == ("DEADLINE_EXCEEDED", True)


async def test_drain() -> None:
    """Answers may end within the time; what is left breaks off, and nothing new begins."""
    bench = Bench()
    first, call = await bench.begin()
    second, _ = await bench.begin()
    call.say(said(0, "x"), done(), None)
    await bench.answers.drain(0.01)
    assert isinstance(first.end, Done)
    assert isinstance(second.end, Failed)
    assert (second.end.code, second.end.retryable) == ("UNAVAILABLE", True)
    with pytest.raises(Unavailable):
        await bench.begin()
