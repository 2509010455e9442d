"""What to say, said once: the way of one outgoing id from the bus to the platform (never sent blindly).

    taken ─▶ row `sending` ─▶ still wanted? ─▶ lease held? ─▶ written ─▶ answer ─▶ row settled ─▶ event ─▶ ack
                 │ the row was there before: somebody began it
                 ▼
              history of the chat: there ─▶ confirmed;   not there ─▶ from "still wanted?" on

A row is committed before the frame is written, so whoever sees the id again, after whatever crash, looks into
the chat's history first. The parts of an answer go in order, and one chat has one speaker at a time.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from google.protobuf.message import DecodeError
from opentelemetry import trace

from frontdesk.api.events.v1 import outbound_pb2
from frontdesk.api.events.v1.event_pb2 import Event, ReplyChanged
from frontdesk.api.events.v1.outbound_pb2 import Outbound
from frontdesk.connection_gateway.accounts.intake import own_message
from frontdesk.connection_gateway.accounts.lanes import Lanes
from frontdesk.connection_gateway.accounts.ledger import SKEW_MS, Ledger
from frontdesk.connection_gateway.errors import AccountGone
from frontdesk.connection_gateway.model import SEND_NUMBERS, Account, Send, SendState, digest
from frontdesk.connection_gateway.platforms.base import PlatformConnection
from frontdesk.connection_gateway.platforms.errors import ErrorKind, PlatformError
from frontdesk.connection_gateway.platforms.model import ChatMessage, SendResult, UploadedImage
from frontdesk.connection_gateway.platforms.model import SendState as Outcome
from frontdesk.kit import subjects
from frontdesk.kit.backoff import exponential
from frontdesk.kit.bus import Bus, Delivery, Later, Release
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import AlreadyExists, Poison
from frontdesk.kit.telemetry import names
from frontdesk.kit.telemetry.propagation import extract

log = logging.getLogger(__name__)
_tracer = trace.get_tracer(names.GATEWAY_SCOPE)

MAX_WRITES = 3
SETTLE_S = 5.0
HISTORY_PAGES = 5
HISTORY_PAGE = 50
PART_AGAIN_S = 0.5
WAIT_AGAIN_S = 3.0
LINK_AGAIN_S = 0.1
MAX_REFUSED_LOOKS = 3
LOOK_WAIT = exponential(0.5, 10.0, jitter=0.2)
# A part whose predecessor is nowhere waits so long for it; that one may have gone to DEAD.
PART_PATIENCE_S = 300.0
MAX_ORPHANS = 10_000
MAX_SKEW_MS = 600_000

_SETTLED_BY = {
    Outcome.ACCEPTED: SendState.CONFIRMED,
    Outcome.REJECTED: SendState.REJECTED,
    Outcome.TEMPORARY: SendState.UNCONFIRMED,
    Outcome.UNANSWERED: SendState.UNCONFIRMED,
}


class Heard(Protocol):
    """What a session's intake tells whoever speaks."""

    @property
    def ahead_ms(self) -> int | None: ...
    def hand_typed_at(self, chat_id: str) -> int: ...
    def knows_own(self, message_id: str) -> None: ...


class Voice(Protocol):
    """What speaking needs of an account's session (session.py says what each does)."""

    account: Account
    lanes: Lanes
    waiting: int

    @property
    def intake(self) -> Heard: ...
    @property
    def is_ready(self) -> bool: ...
    def holds(self) -> bool: ...
    async def ready(self) -> PlatformConnection: ...


class Verdicts(Protocol):
    """The last question before a write (claims.py)."""

    async def ask(self, outgoing_id: str) -> str: ...


FindSession = Callable[[str], Awaitable[Voice | None]]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One try of a send: the row as it is now, and whether a write may have reached the platform."""

    row: Send
    written: bool


class Speaker:
    """Says what comes on OUTBOUND for the accounts of this replica."""

    def __init__(
        self,
        *,
        find: FindSession,
        ledger: Ledger,
        claims: Verdicts,
        bus: Bus,
        clock: Clock,
        max_waiting: int,
    ) -> None:
        self._find = find
        self._ledger = ledger
        self._claims = claims
        self._bus = bus
        self._clock = clock
        self._max_waiting = max_waiting
        self._orphans: OrderedDict[str, float] = OrderedDict()

    async def handle(self, deliveries: Sequence[Delivery]) -> None:
        """Handler of a shard's consumer; takes one delivery at a time."""
        for delivery in deliveries:
            outbound = parse(delivery.data)
            parent = extract(_lower(delivery.headers))
            with _tracer.start_as_current_span(names.GATEWAY_SEND, context=parent):
                await self._bring(outbound)

    async def _bring(self, outbound: Outbound) -> None:
        session = await self._find(outbound.account_id)
        if session is None:
            await self._report(outbound, self._row(outbound, SendState.FAILED, "the account was removed"))
            return
        if not session.is_ready and session.waiting >= self._max_waiting:
            raise Later(WAIT_AGAIN_S)
        session.waiting += 1
        try:
            row = await self._say(session, outbound)
        finally:
            session.waiting -= 1
        await self._report(outbound, row)

    async def _say(self, session: Voice, outbound: Outbound) -> Send:
        """Return the row when it has an end."""
        attempt: _Attempt | None = None
        failures = refusals = 0
        while True:
            try:
                connection = await session.ready()
            except AccountGone as gone:
                return await self._give_up(session, outbound, attempt, gone)
            async with session.lanes.hold(outbound.chat_id):
                if attempt is None:
                    attempt = await self._begin(session, outbound)
                else:  # its message may have been heard of since the lane was left
                    row = await self._ledger.get(outbound.outgoing_id) or attempt.row
                    attempt = replace(attempt, row=row)
                if attempt.row.terminal:
                    return attempt.row
                try:
                    attempt = await self._try(session, connection, outbound, attempt)
                    if attempt.row.terminal:
                        return attempt.row
                    failures = 0
                except PlatformError as error:
                    log.info("%s: the history can't be read: %s", outbound.outgoing_id, error)
                    failures += 1
                    refusals += error.kind is ErrorKind.BUSINESS
                    if refusals >= MAX_REFUSED_LOOKS:
                        reason = f"it may have been said, but the chat can't be read: {error.reason}"
                        return await self._end(attempt.row, SendState.FAILED, reason)
            if failures:  # not in the lane: others may say something in this chat meanwhile
                await self._clock.sleep(LOOK_WAIT.delay(failures))

    async def _begin(self, session: Voice, outbound: Outbound) -> _Attempt:
        """The row of the outgoing id, made or found."""
        if outbound.part > 1:
            before = await self._ledger.part(outbound.decision_id, outbound.part - 1)
            if not (before.terminal if before else self._orphaned(outbound)):
                raise Later(PART_AGAIN_S)
            if before is None or before.state is not SendState.CONFIRMED:
                row = self._row(outbound, SendState.DROPPED, "the part before it was not delivered")
                return _Attempt(await self._insert(row), written=False)
        row = self._row(outbound, SendState.SENDING, "")
        row.started_at_ms -= _ahead(session, outbound, row.started_at_ms)
        try:
            row = await self._ledger.insert(row)
        except AlreadyExists:
            known = await self._ledger.get(outbound.outgoing_id)
            if known is None:
                raise Later(PART_AGAIN_S) from None
            return _Attempt(known, written=True)
        return _Attempt(row, written=False)

    def _orphaned(self, outbound: Outbound) -> bool:
        """Whether the part before this one has not come for so long that it will not."""
        now = self._clock.monotonic()
        since = self._orphans.setdefault(outbound.outgoing_id, now)
        while len(self._orphans) > MAX_ORPHANS:
            self._orphans.popitem(last=False)
        if now - since < PART_PATIENCE_S:
            return False
        del self._orphans[outbound.outgoing_id]
        return True

    async def _try(
        self, session: Voice, connection: PlatformConnection, outbound: Outbound, attempt: _Attempt
    ) -> _Attempt:
        row = attempt.row
        if attempt.written:
            row = await self._look_up(session, connection, row)
            if row.terminal:
                return _Attempt(row, written=True)
            if row.attempts >= MAX_WRITES:
                reason = f"not seen in the chat after {row.attempts} attempts: {row.reason}"
                return _Attempt(await self._end(row, SendState.FAILED, reason), written=True)
        refusal = _overtaken(session, outbound) or await self._claims.ask(outbound.outgoing_id)
        if refusal:
            return _Attempt(
                await self._unsaid(row, SendState.DROPPED, refusal, attempt.written), attempt.written
            )
        if not session.holds():
            raise Release
        counted = row
        if attempt.written:  # counted before it is written again
            counted = await self._ledger.settle(replace(row, attempts=row.attempts + 1))
            if not session.holds():
                await self._ledger.settle(row)
                raise Release
        result = await _write(connection, outbound)
        if result.written:
            return _Attempt(await self._settle(session, counted, result), written=True)
        if counted is not row:
            row = await self._ledger.settle(row)
        await self._clock.sleep(LINK_AGAIN_S)
        return _Attempt(row, written=attempt.written)

    async def _settle(self, session: Voice, row: Send, result: SendResult) -> Send:
        if result.state is Outcome.ACCEPTED:
            session.intake.knows_own(result.message_id)
        return await self._ledger.settle(
            replace(
                row,
                state=_SETTLED_BY[result.state],
                platform_message_id=result.message_id or None,
                platform_created_at_ms=result.created_at_ms,
                reason=result.reason,
            )
        )

    async def _look_up(self, session: Voice, connection: PlatformConnection, row: Send) -> Send:
        """The row after a look into the chat's history. What was written a moment ago may still be on its
        way, so the look comes `SETTLE_S` after the last change of the row."""
        age_s = (self._clock.now_ms() - row.updated_at_ms) / 1000
        if age_s < SETTLE_S:
            await self._clock.sleep(SETTLE_S - max(age_s, 0))
        for message in await _own_messages(connection, row):
            await self._ledger.bind(own_message(session.account, message))
        return await self._ledger.get(row.outgoing_id) or row

    async def _give_up(
        self, session: Voice, outbound: Outbound, attempt: _Attempt | None, gone: AccountGone
    ) -> Send:
        """The account is stopped: nothing more is written. What may have been is told as it is."""
        async with session.lanes.hold(outbound.chat_id):
            row = await self._ledger.get(outbound.outgoing_id)
            if row is None:
                return await self._insert(self._row(outbound, gone.outcome, gone.reason))
            written = attempt is None or attempt.written
            return row if row.terminal else await self._unsaid(row, gone.outcome, gone.reason, written)

    async def _unsaid(self, row: Send, state: SendState, reason: str, written: bool) -> Send:
        """End a send that is not tried again; one that may stand in the chat is not told as dropped."""
        if written:
            return await self._end(row, SendState.FAILED, f"it may have been said; not repeated: {reason}")
        return await self._end(row, state, reason)

    async def _insert(self, row: Send) -> Send:
        try:
            return await self._ledger.insert(row)
        except AlreadyExists:
            return await self._ledger.get(row.outgoing_id) or row

    async def _end(self, row: Send, state: SendState, reason: str) -> Send:
        return await self._ledger.settle(replace(row, state=state, reason=reason))

    def _row(self, outbound: Outbound, state: SendState, reason: str) -> Send:
        return Send(
            outgoing_id=outbound.outgoing_id,
            organization_id=outbound.organization_id,
            account_id=outbound.account_id,
            chat_id=outbound.chat_id,
            decision_id=outbound.decision_id,
            part=outbound.part,
            state=state,
            digest=digest(outbound.text, image=outbound.HasField("image")),
            started_at_ms=self._clock.now_ms(),
            attempts=1 if state is SendState.SENDING else 0,
            reason=reason,
        )

    async def _report(self, outbound: Outbound, row: Send) -> None:
        event = Event(
            event_id=f"reply:{row.outgoing_id}:{row.state}",
            organization_id=outbound.organization_id,
            account_id=outbound.account_id,
            occurred_at_ms=self._clock.now_ms(),
            reply=ReplyChanged(
                outgoing_id=row.outgoing_id,
                chat_id=outbound.chat_id,
                state=SEND_NUMBERS[row.state],
                origin=outbound.origin,
                message_id=row.platform_message_id or "",
                created_at_ms=row.platform_created_at_ms,
                reason=row.reason,
                text=outbound.text,
            ),
        )
        await self._bus.publish(subjects.event("reply", outbound.account_id), event, msg_id=event.event_id)


def parse(data: bytes) -> Outbound:
    """A part that can be said; raises Poison naming the field otherwise."""
    try:
        outbound = Outbound.FromString(data)
    except DecodeError as error:
        raise Poison(f"payload: not an Outbound: {error}") from error
    for name in ("outgoing_id", "decision_id", "organization_id", "account_id", "chat_id", "buyer_id"):
        if not getattr(outbound, name):
            raise Poison(f"{name}: missing")
    if outbound.part < 1:
        raise Poison("part: counts from 1")
    if not outbound.text and not outbound.image.url:
        raise Poison("content: missing")
    return outbound


def _ahead(session: Voice, outbound: Outbound, now_ms: int) -> int:
    """How far our clock may be ahead of the platform's, milliseconds: a send must not seem to have begun
    after the platform dates it. Known by the quickest push, and by what is answered."""
    known = [] if session.intake.ahead_ms is None else [session.intake.ahead_ms]
    if outbound.answers_until_ms:
        known.append(now_ms - outbound.answers_until_ms)
    return min(max(min(known, default=0), 0), MAX_SKEW_MS)


def _overtaken(session: Voice, outbound: Outbound) -> str:
    """Whether the seller wrote after what an automatic answer answers, seen on this same socket."""
    if outbound.origin in (outbound_pb2.ORIGIN_PERSON, outbound_pb2.ORIGIN_DELIVERY):
        return ""
    typed_at = session.intake.hand_typed_at(outbound.chat_id)
    return "superseded" if typed_at and typed_at >= outbound.answers_until_ms else ""


async def _write(connection: PlatformConnection, outbound: Outbound) -> SendResult:
    with _tracer.start_as_current_span(names.GATEWAY_WRITE) as span:
        result = await _say(connection, outbound)
        span.set_attribute(names.GATEWAY_OUTCOME, result.state)
        return result


async def _say(connection: PlatformConnection, outbound: Outbound) -> SendResult:
    if outbound.HasField("image"):
        image = UploadedImage(outbound.image.url, outbound.image.width, outbound.image.height)
        return await connection.send_image(outbound.chat_id, outbound.buyer_id, image, outbound.outgoing_id)
    return await connection.send_text(
        outbound.chat_id, outbound.buyer_id, outbound.text, outbound.outgoing_id
    )


async def _own_messages(connection: PlatformConnection, row: Send) -> list[ChatMessage]:
    """The account's own messages of the chat since the send began, oldest first. Raises PlatformError."""
    since = row.started_at_ms - SKEW_MS
    own: list[ChatMessage] = []
    cursor: int | None = None
    for _ in range(HISTORY_PAGES):
        page = await connection.history(row.chat_id, limit=HISTORY_PAGE, cursor=cursor)
        own += [e for e in page.events if isinstance(e, ChatMessage) and e.own and e.created_at_ms >= since]
        if not page.has_more or any(e.created_at_ms < since for e in page.events):
            break
        cursor = page.next_cursor
    return own[::-1]


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
