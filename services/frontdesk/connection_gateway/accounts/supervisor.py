"""Which accounts run on this replica: those of the shards it holds (kit/shards), each in its own task.

Taking a shard: fence its rows, make its OUTBOUND consumer anew, take its calls, start its accounts. Giving it
up goes the other way round. A look at the database every few seconds finds accounts that were added or
changed by other replicas.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from frontdesk.connection_gateway.accounts.outbound import Speaker
from frontdesk.connection_gateway.accounts.session import Session
from frontdesk.connection_gateway.accounts.shared import Shared
from frontdesk.connection_gateway.errors import NotOwned
from frontdesk.connection_gateway.model import Account, State
from frontdesk.kit import subjects, tasks
from frontdesk.kit.bus import Bus, Consumer, ConsumerSpec
from frontdesk.kit.bus.pull import ConsumerGone
from frontdesk.kit.errors import NotFound
from frontdesk.kit.rpc.server import RpcServer

log = logging.getLogger(__name__)

# Together less than the shard may take to drain (kit/shards: drain_seconds).
GRACE_S = 0.5
DRAIN_S = 2.0
FLUSH_S = 1.0
SPEAK_AGAIN_S = 1.0
LOOK_OVERLAP_MS = 10_000


@dataclass(slots=True)
class _Shard:
    epoch: int
    accounts: dict[str, Session] = field(default_factory=dict)
    consumer: Consumer | None = None
    speaking: asyncio.Task[None] | None = None
    leaving: bool = False


class Supervisor:
    """ShardListener that keeps the sessions of the owned shards."""

    def __init__(
        self,
        shared: Shared,
        *,
        bus: Bus,
        rpc: RpcServer,
        replica: str,
        shards: int,
        sends_in_work: int,
        max_accounts: int,
    ) -> None:
        self._shared = shared
        self._bus = bus
        self._rpc = rpc
        self._replica = replica
        self._count = shards
        self._sends_in_work = sends_in_work
        self._max_accounts = max_accounts
        self._shards: dict[int, _Shard] = {}
        self._looked_at_ms = 0
        self._without_place: set[str] = set()
        self.speaker: Speaker | None = None

    # Looking up.

    @property
    def owned(self) -> list[int]:
        """The shards that work here."""
        return sorted(self._shards)

    def sessions(self) -> Iterator[Session]:
        """All sessions of this replica."""
        for shard in list(self._shards.values()):
            yield from list(shard.accounts.values())

    def deaf(self) -> list[int]:
        """Shards whose consumer gives no sign of life."""
        return [n for n, s in self._shards.items() if s.consumer is not None and not s.consumer.healthy]

    async def find(self, account_id: str) -> Session | None:
        """The account's session; None when there is no such account. Raises NotOwned."""
        number = subjects.shard_of(account_id, self._count)
        shard = self._shards.get(number)
        if shard is None or shard.leaving:
            raise NotOwned
        if (session := shard.accounts.get(account_id)) is not None:
            return session
        account = await self._shared.store.get(account_id)
        return await self._add(shard, account) if account is not None else None

    async def get(self, account_id: str) -> Session:
        """The account's session; raises NotFound and NotOwned."""
        session = await self.find(account_id)
        if session is None:
            raise NotFound("no such account")
        return session

    # ShardListener.

    async def acquired(self, shard: int, epoch: int) -> None:
        """Begin to work for a shard."""
        if not self._shared.holds(shard, epoch):  # a process that slept must not write over its heir
            raise NotOwned
        await self._shared.sessions.take_shard(shard, self._replica, epoch)
        mine = self._shards[shard] = _Shard(epoch)
        for account in await self._shared.store.of_shards([shard]):
            await self._add(mine, account)
        assert self.speaker is not None
        mine.speaking = asyncio.create_task(self._speak(shard, mine), name=f"outbound {shard}")
        await self._rpc.own_shard(shard)

    async def release(self, shard: int) -> None:
        """Finish what is being sent, close the sessions."""
        mine = self._shards[shard]
        mine.leaving = True
        await self._rpc.disown_shard(shard, grace_s=GRACE_S)
        for session in mine.accounts.values():
            session.leave()
        if mine.consumer is not None:
            await mine.consumer.drain(DRAIN_S)
        await self._stop_speaking(mine)
        await asyncio.gather(*(self._hand_over(session) for session in mine.accounts.values()))
        del self._shards[shard]
        # What became of the sessions has to be there before the next owner reads it.
        await self._shared.journal.flush(FLUSH_S)

    async def _hand_over(self, session: Session) -> None:
        session.leave()
        async with session.changing:
            await session.close(State.DISCONNECTED, "moves to another replica", "handover")

    async def lost(self, shard: int) -> None:
        """The shard is somebody else's: fall silent at once, whatever waits for an answer."""
        mine = self._shards.pop(shard, None)
        if mine is not None:
            if mine.speaking is not None:
                mine.speaking.cancel()
            for session in mine.accounts.values():
                session.silence()
        await self._rpc.disown_shard(shard, grace_s=0)
        if mine is not None:
            await self._stop_speaking(mine)
            await asyncio.gather(*(session.abandon() for session in mine.accounts.values()))

    async def _stop_speaking(self, shard: _Shard) -> None:
        if shard.speaking is not None:
            await tasks.end([shard.speaking])

    async def _speak(self, number: int, shard: _Shard) -> None:
        """Consume the shard's OUTBOUND, made anew for this owner."""
        assert self.speaker is not None
        spec = ConsumerSpec(
            subjects.OUTBOUND,
            subjects.gateway_consumer(number),
            (subjects.outbound_filter(number),),
            memory=True,  # each owner makes it anew, and a repeat looks before it speaks
        )
        while True:
            shard.consumer = Consumer(
                self._bus,
                spec,
                self.speaker.handle,
                max_batch=1,
                parallel=self._sends_in_work,
                remake=True,
                clock=self._shared.clock,
            )
            try:
                await shard.consumer.run()
                return  # it was drained
            except ConsumerGone as gone:
                # Either NATS lost it, or a new owner re-made it and our lease is about to be found lost.
                log.warning("shard %d: %s", number, gone.message)
            except Exception:  # a task's boundary: a shard that says nothing is worse than a fault in the log
                log.exception("shard %d: its OUTBOUND is consumed anew", number)
                await self._shared.clock.sleep(SPEAK_AGAIN_S)
            while not self._shared.holds(number, shard.epoch):
                await self._shared.clock.sleep(SPEAK_AGAIN_S)

    # Accounts.

    async def look(self) -> None:
        """Take up accounts that were added, enabled or disabled elsewhere, and what went wrong on the way."""
        looked_at = self._shared.clock.now_ms() - LOOK_OVERLAP_MS
        for account in await self._shared.store.of_shards(self.owned, self._looked_at_ms):
            shard = self._shards.get(account.shard)
            if shard is None:
                continue
            session = shard.accounts.get(account.account_id)
            if session is None:
                await self._add(shard, account)
            elif session.account.enabled != account.enabled:
                await self.apply(session)
        self._looked_at_ms = looked_at  # only now: what could not be taken up is seen again
        await self._heal()

    async def apply(self, session: Session) -> None:
        """Bring a session to what its row says now: its name, online or closed, or gone."""
        async with session.changing:
            there = await self._read(session)
            if there:
                await self._settle(session)
        if not there:
            await self.forget(session.account.account_id)

    async def restart(self, session: Session, reason: str, cookies: str = "") -> None:
        """Close and open the session, the only way out of FAILED; with new cookies if there are any.

        Cookies that can't be stored change nothing: Unavailable.
        """
        async with session.changing:
            if not await self._read(session) or not session.holds():
                raise NotOwned
            if cookies:
                await session.login.replace(cookies)
            await session.close(State.CLOSED, reason, "restart")
            await self._settle(session)

    async def _read(self, session: Session) -> bool:
        """Take over what people changed in the account's row; False when it is gone."""
        known = session.account
        account = await self._shared.store.get(known.account_id)
        if account is None:
            return False
        now = self._shared.clock.now_ms()
        connected = known.state is State.CONNECTED
        session.uptime.account_for(now, connected=connected, enabled=known.enabled)
        known.name, known.enabled = account.name, account.enabled
        return True

    async def _heal(self) -> None:
        """Bring sessions to what they should be: whatever went wrong on the way, an enabled account works."""
        for session in list(self.sessions()):
            if session.as_wanted or session.changing.locked():
                continue
            if session.account.account_id not in self._without_place or self._running() < self._max_accounts:
                await self.apply(session)

    async def forget(self, account_id: str) -> None:
        """Close the session of an account that was removed."""
        shard = self._shards.get(subjects.shard_of(account_id, self._count))
        session = shard.accounts.pop(account_id, None) if shard is not None else None
        if session is not None:
            self._without_place.discard(account_id)
            session.leave()
            async with session.changing:
                await session.close(State.CLOSED, "removed", "removed")

    async def _add(self, shard: _Shard, account: Account) -> Session | None:
        """The session of an account of this shard; None when the account is gone. Raises NotOwned."""
        known = shard.accounts.get(account.account_id)
        if known is not None:
            return known
        if (account.replica, account.epoch) != (self._replica, shard.epoch):
            self._demand(shard, account)
            if not await self._shared.sessions.take_account(account.account_id, self._replica, shard.epoch):
                return None
        self._demand(shard, account)
        account.replica, account.epoch = self._replica, shard.epoch
        session = shard.accounts.setdefault(account.account_id, Session(account, self._shared))
        async with session.changing:
            await self._settle(session)
        return session

    def _demand(self, shard: _Shard, account: Account) -> None:
        """Raise NotOwned unless the shard is this replica's, and stays."""
        mine = self._shards.get(account.shard) is shard and not shard.leaving
        if not mine or not self._shared.holds(account.shard, shard.epoch):
            raise NotOwned

    async def _settle(self, session: Session) -> None:
        """Online or closed, as the account is enabled or not; one that needs a person stays as it is.

        `session.changing` must be held.
        """
        if not session.account.enabled:
            await session.close(State.CLOSED, "stopped on purpose", "stopped")
        elif session.account.state is not State.FAILED:
            self._start(session)

    def _start(self, session: Session) -> None:
        """Bring an account online, if this replica has a place for it."""
        if session.running:
            return
        running, account = self._running(), session.account
        if running < self._max_accounts:
            self._without_place.discard(account.account_id)
            session.start()
        elif account.account_id not in self._without_place:
            self._without_place.add(account.account_id)
            text = f"this replica holds {running} accounts, its limit: {account.name} stays offline"
            log.error(text)
            self._shared.journal.alert(account, "too_many_accounts", text)

    def _running(self) -> int:
        return sum(1 for session in self.sessions() if session.running)

    async def stop(self) -> None:
        """Close whatever is left."""
        for shard in list(self._shards):
            with contextlib.suppress(asyncio.CancelledError):
                await self.lost(shard)
