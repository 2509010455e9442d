"""Reading back: what was said while nobody listened, taken from the chats' histories.

`synced_until_ms` of an account is a time of the platform up to which everything is stored. A read-back takes
all chats that changed since then, less an overlap for messages whose order in time is not their order of
arrival, and each one's messages since then, and hands them to the same intake as pushes: whatever came before
is dropped there. The first one of an account only stores history (rule: a first login answers nothing old).
"""

from __future__ import annotations

import logging

from frontdesk.connection_gateway.accounts.intake import Intake
from frontdesk.connection_gateway.model import Account
from frontdesk.connection_gateway.platforms.base import PlatformConnection
from frontdesk.connection_gateway.platforms.model import ChatMessage, Conversation, OrderUpdate

log = logging.getLogger(__name__)

OVERLAP_MS = 30_000
PAGE = 50
FIRST_CHATS = 100
MAX_CHATS = 5_000
MAX_MESSAGES = 2_000


async def read_back(
    connection: PlatformConnection, account: Account, intake: Intake, registered_at_ms: int
) -> list[ChatMessage]:
    """Bring what was missed to INBOUND and move the account's mark; the caller stores the mark.

    Returns buyers' messages that were new to the intake. Raises PlatformError; the mark stays then.
    """
    first = account.synced_until_ms is None
    since = max((account.synced_until_ms or 0) - OVERLAP_MS, 0)
    history_before = registered_at_ms if first else 0
    newest = account.synced_until_ms or 0
    missed: list[ChatMessage] = []
    for conversation in await _changed_chats(connection, since, FIRST_CHATS if first else MAX_CHATS):
        newest = max(newest, conversation.modified_at_ms)
        events = await _messages(connection, conversation, since, PAGE if first else MAX_MESSAGES)
        missed += [
            e for e in events if isinstance(e, ChatMessage) and _asks(e) and not intake.has_seen(e.message_id)
        ]
        await intake.store(events, history_before_ms=history_before)
    account.synced_until_ms = newest
    return missed


async def _changed_chats(connection: PlatformConnection, since: int, limit: int) -> list[Conversation]:
    """Chats that changed after `since`, at most `limit`, the longest unchanged first."""
    changed: list[Conversation] = []
    cursor: int | None = None
    while True:
        page = await connection.conversations(cursor, limit=PAGE)
        changed += [c for c in page.conversations if c.modified_at_ms > since]
        past = any(c.modified_at_ms <= since for c in page.conversations)
        if past or not page.has_more or not page.conversations or len(changed) >= limit:
            break
        cursor = page.next_cursor
    if len(changed) > limit:
        log.warning("more than %d chats changed; the oldest are left out", limit)
    return changed[:limit][::-1]


async def _messages(
    connection: PlatformConnection, conversation: Conversation, since: int, limit: int
) -> list[ChatMessage | OrderUpdate]:
    """The chat's messages after `since`, at most `limit`, oldest first."""
    found: list[ChatMessage | OrderUpdate] = []
    cursor: int | None = None
    while True:
        page = await connection.history(conversation.chat_id, limit=PAGE, cursor=cursor)
        found += [e for e in page.events if e.created_at_ms > since]
        past = any(e.created_at_ms <= since for e in page.events)
        if past or not page.has_more or not page.events or len(found) >= limit:
            break
        cursor = page.next_cursor
    return found[:limit][::-1]


def _asks(message: ChatMessage) -> bool:
    return not message.own and not message.system
