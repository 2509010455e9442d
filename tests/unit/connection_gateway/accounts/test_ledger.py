"""Which own message is which send."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from frontdesk.connection_gateway.accounts.ledger import GIVEN_UP_MS, SKEW_MS, Ledger, OwnMessage
from frontdesk.connection_gateway.model import Send, SendState, digest
from frontdesk.connection_gateway.service import VERSIONS
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.migrations import migrate


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def ledger(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Ledger]:
    database = Database(DatabaseOptions(f"sqlite:///{tmp_path}/l.db", "connection_gateway"))
    await migrate(database, VERSIONS)
    ledger = Ledger(database, clock)
    yield ledger
    await ledger.close()
    await database.close()


def send(clock: ManualClock, state: SendState, outgoing_id: str = "o-1") -> Send:
    """A send of "hi" that was written once."""
    return Send(
        outgoing_id, "org", "a", "chat", "d", 1, state, digest("hi"), started_at_ms=clock.now_ms(), attempts=1
    )


def own(clock: ManualClock, message_id: str = "m-1", early_ms: int = 0) -> OwnMessage:
    """An own message "hi" of now."""
    return OwnMessage("a", "chat", message_id, digest("hi"), clock.now_ms() - early_ms)


async def test_one_message_is_one_send(ledger: Ledger, clock: ManualClock) -> None:
    """The oldest open send with these words; the same id again is the same send, another id the next."""
    for name in ("o-1", "o-2"):
        await ledger.insert(send(clock, SendState.SENDING, name))
        await clock.advance(1)
    found = [await ledger.bind(own(clock, m)) for m in ("m-1", "m-1", "m-2", "m-3")]
    assert [bound.row.outgoing_id if bound else None for bound in found] == ["o-1", "o-1", "o-2", None]


async def test_what_was_said_before_is_the_sellers_own(ledger: Ledger, clock: ManualClock) -> None:
    """But for the little that the platform's clocks differ."""
    await ledger.insert(send(clock, SendState.SENDING))
    assert await ledger.bind(own(clock, early_ms=SKEW_MS + 1)) is None
    assert await ledger.bind(own(clock, early_ms=SKEW_MS)) is not None


async def test_a_send_that_was_given_up_may_still_show_up_for_a_while(
    ledger: Ledger, clock: ManualClock
) -> None:
    """Days later the same words are the seller's own, and pause the chat."""
    await ledger.insert(send(clock, SendState.FAILED))
    await clock.advance(GIVEN_UP_MS / 1000)
    assert await ledger.bind(own(clock)) is None
    await ledger.insert(send(clock, SendState.FAILED, "o-2"))
    await clock.advance(GIVEN_UP_MS / 1000 - 1)
    bound = await ledger.bind(own(clock))
    assert bound is not None
    assert (bound.row.outgoing_id, bound.was) == ("o-2", SendState.FAILED)


@pytest.mark.parametrize("state", [SendState.DROPPED, SendState.REJECTED])
async def test_what_was_never_said_is_no_send(ledger: Ledger, clock: ManualClock, state: SendState) -> None:
    """A dropped or refused send has no message."""
    await ledger.insert(send(clock, state))
    assert await ledger.bind(own(clock)) is None
