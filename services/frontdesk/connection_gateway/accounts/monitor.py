"""The regular round over all sessions: duties that are due, seconds online, heartbeats, what is too old.

It is one task for all accounts, because a task and a timer an account would cost more than the sessions.
"""

from __future__ import annotations

import logging

from frontdesk.connection_gateway.accounts.journal import Journal
from frontdesk.connection_gateway.accounts.ledger import Ledger
from frontdesk.connection_gateway.accounts.supervisor import Supervisor
from frontdesk.connection_gateway.accounts.uptime import HOUR_MS
from frontdesk.connection_gateway.model import State
from frontdesk.connection_gateway.store import SessionStore
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import FrontdeskError
from frontdesk.kit.lifecycle import TaskSet

log = logging.getLogger(__name__)

ROUND_S = 1.0
LOOK_ROUNDS = 5
STORE_ROUNDS = 30
PRUNE_ROUNDS = 3600
DUTIES_AT_ONCE = 16
GOAL = 0.999
LEAST_ENABLED_S = 600.0
UPTIME_DAYS = 90
DAY_MS = 86_400_000


class Monitor:
    """Goes round once a second; run `run` as a task."""

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        store: SessionStore,
        ledger: Ledger,
        journal: Journal,
        clock: Clock,
        keep_days: int,
    ) -> None:
        self._supervisor = supervisor
        self._store = store
        self._ledger = ledger
        self._journal = journal
        self._clock = clock
        self._keep_ms = keep_days * DAY_MS
        self._duties = TaskSet(DUTIES_AT_ONCE, name="duty of an account")
        self._hour = 0

    async def run(self) -> None:
        """Go round for ever; a dependency that is away costs a round, not the task."""
        rounds = 0
        while True:
            await self._clock.sleep(ROUND_S)
            rounds += 1
            try:
                await self._round(rounds)
            except FrontdeskError as error:
                log.warning("a round over the accounts was cut short: %s", error.message)

    async def _round(self, rounds: int) -> None:
        for session in self._supervisor.sessions():
            if session.due():
                await self._duties.start(session.do_duties())
        if rounds % LOOK_ROUNDS == 0:
            await self._supervisor.look()
        if rounds % STORE_ROUNDS == 0:
            await self.store()
            await self._judge_last_hour()
        if rounds % PRUNE_ROUNDS == 0:
            now = self._clock.now_ms()
            await self._ledger.prune(now - self._keep_ms)
            await self._store.prune(now - UPTIME_DAYS * DAY_MS)

    async def store(self) -> None:
        """Store heartbeats and seconds online."""
        now = self._clock.now_ms()
        active, hours = [], []
        for session in self._supervisor.sessions():
            account = session.account
            connected = account.state is State.CONNECTED
            session.uptime.account_for(now, connected=connected, enabled=account.enabled)
            hours += session.uptime.take()
            if connected:
                account.last_heartbeat_ms = session.last_heartbeat_ms
                account.accounted_until_ms = now
                active.append(account)
        if active or hours:
            await self._store.flush(active, hours)

    async def _judge_last_hour(self) -> None:
        """An hour that ended below 99.9 % calls a person, once an account and hour (X-34)."""
        now = self._clock.now_ms()
        hour = now - now % HOUR_MS
        if self._hour in (0, hour):
            self._hour = hour
            return
        last, self._hour = self._hour, hour
        for session in self._supervisor.sessions():
            account = session.account
            for start, connected, enabled in await self._store.hours(account.account_id, last):
                if start == last and enabled >= LEAST_ENABLED_S and connected / enabled < GOAL:
                    text = f"{account.name} was online {connected / enabled:.2%} of the last hour"
                    self._journal.alert(account, "uptime", text, error=False)

    async def stop(self, seconds: float) -> None:
        """Finish duties and store what was counted."""
        await self._duties.close(seconds)
        await self.store()
