"""What becomes of a send when something is away, refused, stopped or late: said once, told as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from frontdesk.api.events.v1 import outbound_pb2
from frontdesk.api.events.v1.event_pb2 import Event
from frontdesk.api.events.v1.outbound_pb2 import Outbound
from frontdesk.connection_gateway.accounts.intake import own_message
from frontdesk.connection_gateway.accounts.lanes import Lanes
from frontdesk.connection_gateway.accounts.ledger import Ledger
from frontdesk.connection_gateway.accounts.outbound import (
    LOOK_WAIT,
    MAX_SKEW_MS,
    PART_PATIENCE_S,
    SETTLE_S,
    Speaker,
)
from frontdesk.connection_gateway.errors import AccountGone
from frontdesk.connection_gateway.model import Account, Send, SendState, digest
from frontdesk.connection_gateway.platforms.base import PlatformConnection
from frontdesk.connection_gateway.platforms.errors import ErrorKind, PlatformError
from frontdesk.connection_gateway.platforms.model import ChatMessage, HistoryPage, SendResult
from frontdesk.connection_gateway.platforms.model import SendState as Outcome
from frontdesk.connection_gateway.service import VERSIONS
from frontdesk.kit.bus import Bus, Delivery, Later
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.errors import FrontdeskError, Unavailable
from frontdesk.kit.migrations import migrate

ACCEPTED = SendResult(Outcome.ACCEPTED, "m-1", 1)
UNANSWERED = SendResult(Outcome.UNANSWERED, reason="no answer")


class Chat:
    """A connection with one chat: says what it is told to, and shows its books."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.results: list[SendResult] = []
        self.books: list[ChatMessage] = []
        self.errors: list[PlatformError] = []
        self.on_said: Callable[[], None] = lambda: None

    async def send_text(self, chat_id: str, peer_id: str, text: str, outgoing_id: str) -> SendResult:
        self.said.append(text)
        self.on_said()
        return self.results.pop(0) if self.results else ACCEPTED

    async def history(self, chat_id: str, limit: int = 20, cursor: int | None = None) -> HistoryPage:
        if self.errors:
            raise self.errors.pop(0)
        return HistoryPage(tuple(self.books[::-1]), 0, has_more=False)


class Session:
    """An account's session: ready, until it is gone."""

    def __init__(self, chat: Chat) -> None:
        self.account = Account("a", "org", "goofish", "1", "shop", True, "device", 0)
        self.lanes = Lanes()
        self.waiting = 0
        self.intake = self
        self.ahead_ms: int | None = None
        self.is_ready = True
        self.gone: AccountGone | None = None
        self._chat = chat

    def hand_typed_at(self, chat_id: str) -> int:
        return 0

    def knows_own(self, message_id: str) -> None: ...

    def holds(self) -> bool:
        return True

    async def ready(self) -> PlatformConnection:
        if self.gone is not None:
            raise self.gone
        return cast("PlatformConnection", self._chat)


class Claims:
    """Says what to say; each entry of `answers` is one answer."""

    def __init__(self) -> None:
        self.answers: list[str | FrontdeskError] = []

    async def ask(self, outgoing_id: str) -> str:
        answer = self.answers.pop(0) if self.answers else ""
        if isinstance(answer, FrontdeskError):
            raise answer
        return answer


class Events:
    """The bus, as far as a speaker needs it."""

    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []

    async def publish(self, subject: str, message: Event, **_: Any) -> None:
        self.states.append((message.reply.outgoing_id, message.reply.reason))


class Desk:
    """A speaker with all that it stands on."""

    def __init__(self, ledger: Ledger, clock: ManualClock) -> None:
        self.ledger, self.clock = ledger, clock
        self.chat, self.claims, self.events = Chat(), Claims(), Events()
        self.session = Session(self.chat)
        self.speaker = Speaker(
            find=self._find,
            ledger=ledger,
            claims=self.claims,
            bus=cast("Bus", self.events),
            clock=clock,
            max_waiting=10,
        )

    async def _find(self, account_id: str) -> Session | None:
        return self.session if account_id == "a" else None

    async def say(self, outgoing_id: str = "d.1", part: int = 1, answers_until_ms: int = 0) -> SendState:
        """Handle one delivery, with all the time that it wants; the row's state then."""
        outbound = Outbound(
            outgoing_id=outgoing_id,
            decision_id="d",
            part=part,
            organization_id="org",
            account_id="a",
            chat_id="chat",
            buyer_id="b",
            text=f"part {part}",
            origin=outbound_pb2.ORIGIN_RULE,
            answers_until_ms=answers_until_ms,
        )
        delivery = Delivery("outbound.0.a", outbound.SerializeToString(), {}, 1, 1, "")
        await self.speaker.handle([delivery])
        row = await self.ledger.get(outgoing_id)
        assert row is not None
        return row.state


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    clock = HastyClock()
    database = Database(DatabaseOptions(f"sqlite:///{tmp_path}/l.db", "connection_gateway"))
    await migrate(database, VERSIONS)
    ledger = Ledger(database, clock)
    yield Desk(ledger, clock)
    await ledger.close()
    await database.close()


class HastyClock(ManualClock):
    """A clock that moves on by itself whenever somebody sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.advance(seconds)


def own(clock: ManualClock, text: str, message_id: str = "m-9", ago_ms: int = 0) -> ChatMessage:
    """A message of the account, as the books show it."""
    at_ms = clock.now_ms() - ago_ms
    return ChatMessage("chat", message_id, "1", "", text, 1, (), "", at_ms, True, False, "b")


async def test_an_engine_that_is_away_spends_no_attempt(desk: Desk) -> None:
    """A send that was written once is written again when the engine is back, however long it was away."""
    desk.chat.results = [UNANSWERED]
    desk.claims.answers = ["", *[Unavailable("the engine is away")] * 10, ""]
    for _ in range(10):
        with pytest.raises(Unavailable):
            await desk.say()
    assert await desk.say() is SendState.CONFIRMED
    assert len(desk.chat.said) == 2


async def test_a_send_that_may_be_in_the_chat_is_not_told_as_dropped(desk: Desk) -> None:
    """Written without an answer, then no longer wanted: a person has to look."""
    desk.chat.results = [UNANSWERED]
    desk.claims.answers = ["", "paused"]
    assert await desk.say() is SendState.FAILED
    assert "may have been said" in desk.events.states[-1][1]
    assert "paused" in desk.events.states[-1][1]


async def test_an_unwritten_send_is_dropped(desk: Desk) -> None:
    """Nothing was said, and that is told."""
    desk.claims.answers = ["paused"]
    assert await desk.say() is SendState.DROPPED
    assert not desk.chat.said


async def test_an_account_that_is_stopped_after_a_write(desk: Desk) -> None:
    """What may have been said is told as it is; what was not begun is dropped."""
    desk.chat.results = [UNANSWERED]

    def stop() -> None:
        desk.session.gone = AccountGone(SendState.DROPPED, "the account is stopped")

    desk.chat.on_said = stop
    assert await desk.say() is SendState.FAILED
    assert await desk.say("d.2", part=1) is SendState.DROPPED


async def test_books_that_are_closed_for_good_end_a_send(desk: Desk) -> None:
    """A history that the platform refuses is asked for three times, not for ever."""
    desk.chat.results = [UNANSWERED]
    desk.chat.errors = [PlatformError(ErrorKind.BUSINESS, "no such chat")] * 5
    assert await desk.say() is SendState.FAILED
    assert len(desk.chat.errors) == 2
    assert len(desk.chat.said) == 1


async def test_books_that_are_busy_are_waited_for(desk: Desk) -> None:
    """Flow control is no answer: the look comes again, later each time, and the send is found."""
    desk.chat.results = [UNANSWERED]
    desk.chat.errors = [PlatformError(ErrorKind.FLOW_CONTROL, "400600001")] * 6
    desk.chat.on_said = lambda: desk.chat.books.append(own(desk.clock, "part 1"))
    assert await desk.say() is SendState.CONFIRMED
    assert len(desk.chat.said) == 1
    assert isinstance(desk.clock, HastyClock)
    assert sum(desk.clock.slept) > SETTLE_S + LOOK_WAIT.first_s * 10


async def test_a_part_whose_first_never_comes(desk: Desk) -> None:
    """It waits its time, in case the first is only late, and is dropped then."""
    with pytest.raises(Later):
        await desk.say("d.2", part=2)
    await desk.clock.advance(PART_PATIENCE_S - 1)
    with pytest.raises(Later):
        await desk.say("d.2", part=2)
    await desk.clock.advance(1)
    assert await desk.say("d.2", part=2) is SendState.DROPPED
    assert not desk.chat.said


async def test_parts_follow_each_other(desk: Desk) -> None:
    """The second goes when the first is confirmed, and not when it was refused."""
    assert await desk.say("d.1", part=1) is SendState.CONFIRMED
    assert await desk.say("d.2", part=2) is SendState.CONFIRMED
    assert desk.chat.said == ["part 1", "part 2"]


@pytest.mark.parametrize("known_by", ["a push", "what is answered"])
async def test_a_clock_that_is_ahead_says_nothing_twice(desk: Desk, known_by: str) -> None:
    """Our clock is a minute ahead of the platform's: the send is found in the books all the same."""
    ahead = 60_000
    desk.chat.results = [UNANSWERED]
    desk.chat.on_said = lambda: desk.chat.books.append(own(desk.clock, "part 1", ago_ms=ahead))
    until = 0
    if known_by == "a push":
        desk.session.ahead_ms = ahead + 40
    else:
        until = desk.clock.now_ms() - ahead - 500
    assert await desk.say(answers_until_ms=until) is SendState.CONFIRMED
    assert len(desk.chat.said) == 1


async def test_a_clock_is_not_thought_to_be_hours_wrong(desk: Desk) -> None:
    """An answer to yesterday's question is not yesterday's message with the same words."""
    desk.chat.results = [UNANSWERED]
    desk.chat.books = [own(desk.clock, "part 1", ago_ms=MAX_SKEW_MS + 10_000)]
    assert await desk.say(answers_until_ms=desk.clock.now_ms() - 86_400_000) is SendState.CONFIRMED
    assert len(desk.chat.said) == 2


async def test_a_given_up_send_takes_no_later_ones_message(desk: Desk) -> None:
    """The same words again, after a send that failed: the message is the later one's, and is not repeated."""
    failed = Send(
        "old.1",
        "org",
        "a",
        "chat",
        "old",
        1,
        SendState.FAILED,
        digest("part 1"),
        started_at_ms=desk.clock.now_ms() - 60_000,
        attempts=3,
    )
    await desk.ledger.insert(failed)
    desk.chat.results = [UNANSWERED]
    desk.chat.on_said = lambda: desk.chat.books.append(own(desk.clock, "part 1"))
    assert await desk.say() is SendState.CONFIRMED
    assert desk.chat.said == ["part 1"]


async def test_what_was_heard_meanwhile_stands(desk: Desk) -> None:
    """The echo comes after the answer was missed and before the account is stopped: it was said."""
    desk.chat.results = [UNANSWERED]
    ready = desk.session.ready
    asked = 0

    async def gone_at_the_second_time() -> PlatformConnection:
        nonlocal asked
        asked += 1
        if asked == 1:
            return await ready()
        await desk.ledger.bind(own_message(desk.session.account, own(desk.clock, "part 1")))
        raise AccountGone(SendState.DROPPED, "the account is stopped")

    desk.session.ready = gone_at_the_second_time  # type: ignore[method-assign]
    assert await desk.say() is SendState.CONFIRMED


async def test_a_write_that_never_happened_is_no_attempt(desk: Desk) -> None:
    """A link that dies before the frame costs nothing but time."""
    unwritten = SendResult(Outcome.NOT_WRITTEN, reason="too many requests in flight")
    desk.chat.results = [SendResult(Outcome.TEMPORARY, reason="busy"), *[unwritten] * 5, ACCEPTED]
    assert await desk.say() is SendState.CONFIRMED
    row = await desk.ledger.get("d.1")
    assert row is not None
    assert row.attempts == 2
