"""Reading back: what was said while nobody listened, taken from the chats' histories.

`synced_until_ms` of an account is a time of the platform up to which everything is stored. A read-back takes
all chats that changed since then, less an overlap for messages whose order in time is not their order of
arrival, and each one's messages since then, and hands them to the same intake as pushes: whatever came before
is dropped there. The list is sorted by the last change, so a chat in which somebody writes while the list is
read jumps to its top, away from the page where it would have come: the top is read again until it shows no
chat that was not read. The first read-back of an account only stores history (rule 9).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from frontdesk.connection_gateway.model import Account
from frontdesk.connection_gateway.platforms.errors import ErrorKind, PlatformError
from frontdesk.connection_gateway.platforms.model import (
    ChatMessage,
    Conversation,
    ConversationPage,
    HistoryPage,
    OrderUpdate,
)
from frontdesk.kit.backoff import exponential
from frontdesk.kit.clock import Clock

T = TypeVar("T")

log = logging.getLogger(__name__)

OVERLAP_MS = 30_000
PAGE = 50
FIRST_CHATS = 100
MAX_CHATS = 5_000
MAX_MESSAGES = 2_000
_LOOKS = 20
_FLOW_ATTEMPTS = 6
_FLOW_WAIT = exponential(1.0, 15.0, jitter=0.2)


class Books(Protocol):
    """The platform's books, as a connection shows them (platforms/base.py)."""

    async def history(self, chat_id: str, limit: int, cursor: int | None) -> HistoryPage: ...
    async def conversations(self, cursor: int | None, limit: int) -> ConversationPage: ...


class Taker(Protocol):
    """Who takes in what was read (intake.py)."""

    def has_heard(self, message: ChatMessage) -> bool: ...
    async def store(self, events: Sequence[ChatMessage | OrderUpdate], *, history_before_ms: int) -> None: ...


class ReadBack:
    """One read-back of an account over its connection.

    `missed` are buyers' messages that no push had brought, `left_out` says what could not be read: a chat
    that the platform refuses, or more than `MAX_CHATS` and `MAX_MESSAGES`.
    """

    def __init__(self, books: Books, account: Account, intake: Taker, clock: Clock) -> None:
        self._books = books
        self._account = account
        self._intake = intake
        self._clock = clock
        self._first = account.synced_until_ms is None
        self._mark = account.synced_until_ms or 0
        self._since = max(self._mark - OVERLAP_MS, 0)
        self._read: set[str] = set()
        self.missed: list[ChatMessage] = []
        self.left_out = ""

    async def run(self, history_before_ms: int = 0) -> None:
        """Bring what was missed to INBOUND and move the account's mark; the caller stores the mark.

        What is dated before `history_before_ms` is stored, not answered. Raises PlatformError and
        Unavailable; the mark stays then.
        """
        chats = await self._changed_since(self._since)
        newest = max((chat.modified_at_ms for chat in chats), default=0)
        for _ in range(_LOOKS):
            if not chats:
                break
            for chat in chats[::-1]:  # the longest unchanged first
                await self._take(chat, history_before_ms)
                self._read.add(chat.chat_id)
            chats = await self._changed_since(newest - OVERLAP_MS)
        # A time to come would hide what is said until then.
        self._account.synced_until_ms = max(self._mark, min(newest, self._clock.now_ms()))

    async def _changed_since(self, since: int) -> list[Conversation]:
        """Chats that changed after `since` and were not read yet, the newest first."""
        limit = FIRST_CHATS if self._first else MAX_CHATS
        changed: dict[str, Conversation] = {}
        cursor: int | None = None
        while True:
            page = await self._ask(partial(self._books.conversations, cursor, limit=PAGE))
            past = any(_before(c.modified_at_ms, since) for c in page.conversations)
            changed |= {c.chat_id: c for c in page.conversations if not _before(c.modified_at_ms, since)}
            if past or not page.has_more or not page.conversations:
                break
            if len(changed) >= limit:
                self._leave_out(f"more than {limit} chats changed")
                break
            cursor = page.next_cursor
        return [chat for chat in changed.values() if chat.chat_id not in self._read]

    async def _take(self, chat: Conversation, history_before_ms: int) -> None:
        try:
            events = await self._messages(chat)
        except PlatformError as error:
            if error.kind is not ErrorKind.BUSINESS:
                raise
            # One chat that can't be read must not keep all others from being answered.
            self._leave_out(f"the platform does not show a chat: {error.reason}")
            return
        self.missed += [
            e for e in events if isinstance(e, ChatMessage) and _asks(e) and not self._intake.has_heard(e)
        ]
        await self._intake.store(events, history_before_ms=history_before_ms)

    async def _messages(self, chat: Conversation) -> list[ChatMessage | OrderUpdate]:
        """The chat's messages since the mark, oldest first."""
        limit = PAGE if self._first else MAX_MESSAGES
        found: list[ChatMessage | OrderUpdate] = []
        cursor: int | None = None
        while True:
            page = await self._ask(partial(self._books.history, chat.chat_id, limit=PAGE, cursor=cursor))
            found += [e for e in page.events if not _before(e.created_at_ms, self._since)]
            past = any(_before(e.created_at_ms, self._since) for e in page.events)
            if past or not page.has_more or not page.events:
                break
            if len(found) >= limit:
                self._leave_out(f"a chat has more than {limit} messages")
                break
            cursor = page.next_cursor
        return found[::-1]

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask; again after a while when the platform says that questions come too fast."""
        for attempt in range(1, _FLOW_ATTEMPTS):
            try:
                return await question()
            except PlatformError as error:
                if error.kind is not ErrorKind.FLOW_CONTROL:
                    raise
            await self._clock.sleep(_FLOW_WAIT.delay(attempt))
        return await question()

    def _leave_out(self, what: str) -> None:
        if not self._first:  # a first login takes the newest of all there is, on purpose
            self.left_out = what
            log.warning("account %s: read back in part: %s", self._account.account_id, what)


def _before(at_ms: int, since: int) -> bool:
    """Whether something is dated, and not after `since`."""
    return 0 < at_ms <= since


def _asks(message: ChatMessage) -> bool:
    return not message.own and not message.system
