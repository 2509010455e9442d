"""Reading back: everything that was said is taken in, whatever happens while it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from frontdesk.connection_gateway.accounts import catchup
from frontdesk.connection_gateway.accounts.catchup import OVERLAP_MS, PAGE, ReadBack
from frontdesk.connection_gateway.model import Account
from frontdesk.connection_gateway.platforms.errors import ErrorKind, PlatformError
from frontdesk.connection_gateway.platforms.model import (
    ChatMessage,
    Conversation,
    ConversationPage,
    HistoryPage,
    OrderStatus,
    OrderUpdate,
)
from frontdesk.kit.clock import ManualClock

NOW = 1_700_000_000_000
SYNCED = NOW - 3_600_000


def message(chat: str, number: int, at_ms: int) -> ChatMessage:
    """A buyer's message."""
    message_id = f"{chat}-{number}"
    return ChatMessage(chat, message_id, "b", "buyer", "hi", 1, (), "", at_ms, False, False, "b")


class Platform:
    """Chats by id, each with its messages; listed by their last change, in pages."""

    def __init__(self) -> None:
        self.chats: dict[str, list[ChatMessage]] = {}
        self.errors: dict[str, list[PlatformError]] = {}
        self.after_page: Callable[[], None] | None = None
        self.lists = 0

    def say(self, chat: str, at_ms: int) -> None:
        messages = self.chats.setdefault(chat, [])
        messages.append(message(chat, len(messages), at_ms))

    async def conversations(self, cursor: int | None, limit: int) -> ConversationPage:
        self.lists += 1
        ordered = sorted(self.chats, key=lambda chat: -self.chats[chat][-1].created_at_ms)
        start = cursor or 0
        page = tuple(
            Conversation(chat, "b", "", "", 0, self.chats[chat][-1].created_at_ms, OrderStatus.UNKNOWN, None)
            for chat in ordered[start : start + limit]
        )
        answer = ConversationPage(page, start + limit, start + limit < len(ordered))
        if self.after_page is not None:
            self.after_page()
        return answer

    async def history(self, chat_id: str, limit: int, cursor: int | None) -> HistoryPage:
        if self.errors.get(chat_id):
            raise self.errors[chat_id].pop(0)
        newest_first = self.chats[chat_id][::-1]
        start = cursor or 0
        more = start + limit < len(newest_first)
        return HistoryPage(tuple(newest_first[start : start + limit]), start + limit, more)


class Basket:
    """What was taken in."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.heard: set[str] = set()

    def has_heard(self, message: ChatMessage) -> bool:
        return message.message_id in self.heard

    async def store(self, events: Sequence[ChatMessage | OrderUpdate], *, history_before_ms: int) -> None:
        self.ids += [event.message_id for event in events]


class Desk:
    """An account with its platform."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.platform = Platform()
        self.basket = Basket()
        self.account = Account("a", "org", "goofish", "1", "shop", True, "device", 0)
        self.account.synced_until_ms = SYNCED

    async def read_back(self) -> ReadBack:
        reading = ReadBack(self.platform, self.account, self.basket, self.clock)
        await reading.run()
        return reading


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_all_since_the_mark_oldest_chat_first(desk: Desk) -> None:
    """What is older than the mark less its overlap is left, what a push had brought is no surprise."""
    desk.platform.say("x", SYNCED - OVERLAP_MS - 1)
    desk.platform.say("x", SYNCED + 1)
    desk.platform.say("y", SYNCED - OVERLAP_MS + 1)
    desk.basket.heard.add("x-1")
    reading = await desk.read_back()
    assert desk.basket.ids == ["y-0", "x-1"]
    assert [m.message_id for m in reading.missed] == ["y-0"]
    assert desk.account.synced_until_ms == SYNCED + 1


async def test_a_chat_that_jumps_to_the_top_is_read(desk: Desk) -> None:
    """While page one is read, a buyer of page two writes: the earlier words of that buyer are not lost."""
    for number in range(PAGE + 1):
        desk.platform.say(f"chat-{number:03}", SYNCED + 1_000 + number)

    def jump() -> None:
        desk.platform.after_page = None
        desk.platform.say("chat-000", NOW)

    desk.platform.after_page = jump
    await desk.read_back()
    assert {"chat-000-0", "chat-000-1"} <= set(desk.basket.ids)
    # A mark beyond the jump would hide the chat from the next read-back.
    assert desk.account.synced_until_ms == SYNCED + 1_000 + PAGE


async def test_a_time_to_come_does_not_move_the_mark_beyond_now(desk: Desk) -> None:
    """A wrong date of one chat must not hide what is said until then."""
    desk.platform.say("x", NOW + 86_400_000)
    await desk.read_back()
    assert desk.account.synced_until_ms == NOW


async def test_what_has_no_date_ends_nothing(desk: Desk) -> None:
    """A message without a time is no sign that the rest is old."""
    desk.platform.say("x", SYNCED + 1)
    for _ in range(PAGE):
        desk.platform.say("x", 0)
    desk.platform.say("x", SYNCED + 2)
    await desk.read_back()
    assert {"x-0", f"x-{PAGE + 1}"} <= set(desk.basket.ids)


async def test_a_chat_that_is_refused_is_left_out(desk: Desk) -> None:
    """The others are read; the mark moves, and a person can be told."""
    desk.platform.say("good", SYNCED + 1)
    desk.platform.say("bad", SYNCED + 2)
    desk.platform.errors["bad"] = [PlatformError(ErrorKind.BUSINESS, "no such chat")]
    reading = await desk.read_back()
    assert desk.basket.ids == ["good-0"]
    assert "no such chat" in reading.left_out


async def test_too_many_questions_are_asked_again_slowly(desk: Desk) -> None:
    """Flow control is waited out."""
    desk.platform.say("x", SYNCED + 1)
    desk.platform.errors["x"] = [PlatformError(ErrorKind.FLOW_CONTROL, "400600001")] * 2
    reading = asyncio.create_task(desk.read_back())
    await desk.clock.advance(10)
    assert not (await reading).left_out
    assert desk.basket.ids == ["x-0"]


@pytest.mark.parametrize("kind", [ErrorKind.NETWORK, ErrorKind.RISK_CONTROL, ErrorKind.AUTHENTICATION])
async def test_other_errors_leave_the_mark(desk: Desk, kind: ErrorKind) -> None:
    """Nothing is taken for read that was not."""
    desk.platform.say("x", SYNCED + 1)
    desk.platform.errors["x"] = [PlatformError(kind, "no")]
    with pytest.raises(PlatformError):
        await desk.read_back()
    assert desk.account.synced_until_ms == SYNCED


async def test_what_is_too_much_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit is a limit, and says so; the first login's is on purpose."""
    monkeypatch.setattr(catchup, "MAX_MESSAGES", PAGE)
    monkeypatch.setattr(catchup, "MAX_CHATS", PAGE)
    for _ in range(PAGE + 1):
        desk.platform.say("x", SYNCED + 1)
    assert "messages" in (await desk.read_back()).left_out
    for number in range(PAGE + 1):
        desk.platform.say(f"chat-{number}", SYNCED + 1)
    assert "chats" in (await desk.read_back()).left_out
    desk.account.synced_until_ms = None
    assert not (await desk.read_back()).left_out


async def test_a_first_login_marks_an_empty_shop_too(desk: Desk) -> None:
    """Whoever writes to it next is answered, not taken for history."""
    desk.account.synced_until_ms = None
    await desk.read_back()
    assert desk.account.synced_until_ms == 0
