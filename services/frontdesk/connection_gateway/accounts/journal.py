"""What the gateway tells: session states into the database, events and alerts onto the bus.

A session never waits for either. Notes are kept in order and tried until both took them; while they are away
for long, the oldest events of the overflow are dropped, the newest state of each account never is.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque

from frontdesk.api.events.v1 import event_pb2
from frontdesk.api.events.v1.event_pb2 import Alert, Event, SessionChanged
from frontdesk.connection_gateway.model import STATE_NUMBERS, Account, State, new_id
from frontdesk.connection_gateway.store import SessionStore
from frontdesk.kit import subjects
from frontdesk.kit.bus import Bus
from frontdesk.kit.bus.connection import Outgoing
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import FrontdeskError

log = logging.getLogger(__name__)

MAX_NOTES = 10_000
_BATCH = 200
_PATIENCE_S = 5.0


class Journal:
    """Writes notes in the background; run `run` as a task."""

    def __init__(self, bus: Bus, store: SessionStore, clock: Clock) -> None:
        self._bus = bus
        self._store = store
        self._clock = clock
        self._changed: dict[str, Account] = {}
        self._events: deque[Event] = deque(maxlen=MAX_NOTES)
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def session(self, account: Account, old: State) -> None:
        """A session went from `old` to the state that `account` has now."""
        self._changed[account.account_id] = account
        event = self._event(account)
        event.session.CopyFrom(
            SessionChanged(
                old_state=STATE_NUMBERS[old],
                new_state=STATE_NUMBERS[account.state],
                reason=account.reason,
                reason_code=account.reason_code,
                action_url=account.action_url,
                failures=account.failures,
            )
        )
        self._add(event)

    def alert(self, account: Account, code: str, text: str, *, error: bool = True) -> None:
        """Call a person."""
        event = self._event(account)
        level = event_pb2.ALERT_LEVEL_ERROR if error else event_pb2.ALERT_LEVEL_WARNING
        event.alert.CopyFrom(Alert(level=level, code=code, text=text, action_url=account.action_url))
        self._add(event)

    async def run(self) -> None:
        """Write what was noted, for ever."""
        delay = 0.0
        while True:
            await self._some.wait()
            try:
                await self._write()
                delay = 0.0
            except FrontdeskError as error:
                log.warning("states and events wait: %s", error.message)
                delay = min(delay * 2 or 0.1, _PATIENCE_S)
                await self._clock.sleep(delay)

    async def flush(self, seconds: float) -> None:
        """Wait until everything is written, at most `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._none.wait()
        except TimeoutError:
            log.warning("%d states and %d events were not written", len(self._changed), len(self._events))

    async def _write(self) -> None:
        changed, self._changed = self._changed, {}
        if changed:
            try:
                await self._store.save_states(list(changed.values()))
            except FrontdeskError:
                self._changed = changed | self._changed
                raise
        events = list(itertools.islice(self._events, _BATCH))
        if events:
            await self._bus.publish_all([_outgoing(event) for event in events])
            for event in events:
                if self._events[0] is event:  # else the overflow dropped it meanwhile
                    self._events.popleft()
        if not self._changed and not self._events:
            self._some.clear()
            self._none.set()

    def _event(self, account: Account) -> Event:
        now = self._clock.now_ms()
        return Event(
            event_id=new_id(now),
            organization_id=account.organization_id,
            account_id=account.account_id,
            occurred_at_ms=now,
        )

    def _add(self, event: Event) -> None:
        self._events.append(event)
        self._none.clear()
        self._some.set()


def _outgoing(event: Event) -> Outgoing:
    kind = event.WhichOneof("kind") or "session"
    return Outgoing(subjects.event(kind, event.account_id), event.SerializeToString(), msg_id=event.event_id)
