"""Which shards this member owns: rendezvous hashing proposes, leases decide.

    manager = ShardManager(nc, "gateway-0", listener)
    await manager.start()
    if manager.holds(shard): ...        # right before each write to a platform
    await manager.stop()

Four loops, each restarted if it should crash:
- pulse: writes the own member record, then reads the whole bucket. The answers prove that NATS is there (the
  observer's clocks run only then), the read heals what the watch missed and finds out that it is deaf.
- watch: hears of changes at once; made anew after each reconnect and when it is deaf.
- take: starts to own what is free and proposed to this member. The member next in order takes a shard that
  the one before left free for a ttl, and then keeps it for a while, so that it does not go to and fro.
- give: hands over, one by one, what is proposed to another member.

A cordoned member stays alive and is proposed nothing (kit/shards/cordons.py); the list of cordons is in the
bucket, so that it outlives every process. Should only cordoned members be left alive, they hold the shards.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from nats.aio.client import Client

from frontdesk.kit import subjects, tasks
from frontdesk.kit.backoff import exponential
from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.errors import Unavailable
from frontdesk.kit.shards import metrics, rendezvous
from frontdesk.kit.shards.cordons import Cordons
from frontdesk.kit.shards.holding import Holding, State
from frontdesk.kit.shards.model import Member, ShardListener, ShardSettings, lease_value
from frontdesk.kit.shards.store import BucketGone, Conflict, Record, ShardStore
from frontdesk.kit.shards.view import View

log = logging.getLogger(__name__)

# In ttls. A member's record outlives the member for so long on the server.
_RECORD_TTLS = 6
# In ttls. A shard taken out of turn stays for so long; its proposed member is not well.
_KEEP_TTLS = 30
_LOOP_RESTART_S = 1.0


class ShardManager:
    """Owns shards for this process; see the module's text. `member_id` is unique in the fleet and stable over
    restarts, so that a member that comes back gets its own shards again."""

    def __init__(
        self,
        nc: Client,
        member_id: str,
        listener: ShardListener,
        settings: ShardSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._nc = nc
        self._id = member_id
        self._listener = listener
        self._settings = settings or ShardSettings()
        self._clock = clock or SystemClock()
        self._incarnation = secrets.token_hex(8)
        self._view = View(self._settings, self._clock.monotonic)
        self._store = ShardStore(
            nc,
            timeout=self._settings.request_timeout,
            storage=self._settings.storage,
            replicas=self._settings.replicas,
            on_record=self._record,
            on_contact=lambda: self._view.clocks.contact(self._clock.monotonic()),
        )
        self._cordons = Cordons(self._store, self._alive)
        self._held: dict[int, Holding] = {}
        self._busy: dict[int, asyncio.Task[None]] = {}
        self._failures: dict[int, int] = {}
        self._not_before: dict[int, float] = {}
        self._keep_until: dict[int, float] = {}
        self._backoff = exponential(self._settings.ttl / 10, 6 * self._settings.ttl, jitter=0.2)
        self._loops: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._rewatch = asyncio.Event()
        self._pulse_now = asyncio.Event()
        self._since_ms = self._clock.now_ms()
        self._stopping = False
        self._twin = False
        self._announced = 0
        self._heard = 0
        self._must_hear = 0
        self._watching = False
        self._reconnects = 0
        self._candidates: frozenset[str] = frozenset()
        self._candidates_since = 0.0

    @property
    def owned(self) -> frozenset[int]:
        """The shards whose lease this member has, as far as it knows."""
        return frozenset(shard for shard, holding in self._held.items() if holding.owned)

    @property
    def cordoned(self) -> bool:
        """Whether this member is to give all shards away and take none."""
        return self._id in self._view.cordoned()

    def holds(self, shard: int) -> bool:
        """Whether this member may use the shard right now: only while its own deadline is not passed."""
        holding = self._held.get(shard)
        return holding is not None and holding.holds()

    def epoch(self, shard: int) -> int | None:
        """The epoch of an owned shard, larger at each acquisition by whomever; None when it is not owned."""
        holding = self._held.get(shard)
        return holding.epoch if holding is not None and holding.owned else None

    def members(self) -> tuple[Member, ...]:
        """The members alive as this one sees them, by id."""
        return self._view.members()

    def cordons(self) -> frozenset[str]:
        """The ids that are cordoned, those of members that are away too."""
        return self._view.cordoned()

    def holders(self) -> dict[int, str]:
        """The member that holds each shard, as this one sees it; a shard that nobody holds is not there."""
        return self._view.holders()

    def problem(self) -> str | None:
        """None when shards are looked after, else why not; a check for readiness."""
        if not self._loops:
            return "not running"
        if not self._nc.is_connected or not self._view.clocks.connected(self._clock.monotonic()):
            return "NATS does not answer"
        return None

    async def start(self) -> None:
        """Announce this member and begin to take shards; raises Unavailable when NATS does not answer."""
        self._reconnects = self._nc.stats["reconnects"]
        metrics.losses.add(0)  # a series that begins with its first loss shows no increase
        await self._store.open()
        await self._announce()
        await self._audit()
        loops = (self._pulse, self._watch, self._take, self._give)
        self._loops = [
            asyncio.create_task(self._forever(loop), name=f"shards {loop.__name__}") for loop in loops
        ]

    async def stop(self, seconds: float | None = None) -> None:
        """Hand over all shards, within `seconds` (`stop_seconds` when None), and leave."""
        budget = self._settings.stop_seconds if seconds is None else seconds
        self._stopping = True
        await tasks.end(self._loops)
        self._loops = []
        try:
            async with asyncio.timeout(budget / 4):
                await self._store.drop(subjects.member_key(self._id))
        except (Unavailable, TimeoutError) as error:
            log.info("member %s leaves unannounced: %s", self._id, error)
        await self._hand_over_all(budget * 3 / 4)

    async def cordon(self, member_id: str) -> frozenset[str]:
        """Let a member give its shards away one by one and take none, over restarts, until `uncordon`.

        Returns all cordons when they are stored; its `holders` tell when the member is empty. Raises NotFound
        for a member that is not alive, FailedPrecondition for the last one that is not cordoned, Unavailable.
        """
        return await self._cordons.add(member_id)

    async def uncordon(self, member_id: str) -> frozenset[str]:
        """Let a member take part again; returns all cordons. Raises NotFound for a member that is neither
        cordoned nor alive, Unavailable."""
        return await self._cordons.remove(member_id)

    def _alive(self) -> frozenset[str]:
        """The members alive, this one among them whatever became of its record."""
        return frozenset({self._id, *(member.id for member in self.members())})

    # The bucket.

    def _record(self, record: Record) -> None:
        if not self._view.observe(record):
            return
        self._changed.set()
        if (
            record.key == subjects.member_key(self._id)
            and record.value
            and record.revision > self._announced > 0
        ):
            member = Member.from_bytes(record.value)
            if member is not None and member.incarnation != self._incarnation and not self._twin:
                self._twin = True
                log.error("another process is member %s too; ids must be unique in the fleet", self._id)

    async def _announce(self) -> None:
        member = Member(self._id, self._incarnation, self._since_ms)
        expires = _RECORD_TTLS * self._settings.ttl
        self._announced = await self._store.put(subjects.member_key(self._id), member.to_bytes(), expires)

    async def _audit(self) -> None:
        """Read everything; find out whether the bucket began anew and whether the watch is deaf."""
        before = self._view.newest
        records, upto = await self._store.read_all()
        if upto < before and await self._store.last_revision() < before:
            log.warning("the bucket of shards began anew")
            self._view.begin_anew()
            self._heard = self._must_hear = 0
            self._rewatch.set()
        self._view.take_in(records, upto)
        self._changed.set()
        if self._heard < self._must_hear:
            log.warning("the watch of shards is deaf, watching anew")
            self._rewatch.set()
        self._must_hear = upto if self._watching else 0

    def _hear(self, revision: int) -> None:
        self._heard = max(self._heard, revision)

    # The loops.

    async def _forever(self, loop: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await loop()
            except Exception:  # a task's boundary: shards without a keeper are worse than a fault in the log
                log.exception("a loop of the shards crashed, starting it again")
            await self._clock.sleep(_LOOP_RESTART_S)

    async def _pulse(self) -> None:
        while True:
            try:
                await self._announce()
                await self._audit()
                wait = self._settings.renew_every
            except Unavailable as error:
                log.info("shards: %s", error)
                if isinstance(error, BucketGone):
                    await self._reopen()
                wait = self._settings.retry_every
            await _event_or_timeout(self._pulse_now, wait)

    async def _reopen(self) -> None:
        try:
            await self._store.open()
        except Unavailable as error:
            log.warning("shards: %s", error)

    async def _watch(self) -> None:
        while True:
            self._rewatch.clear()
            try:
                watch = await self._store.watch(self._hear)
            except Unavailable as error:
                log.info("shards: %s", error)
                await self._clock.sleep(self._settings.retry_every)
                continue
            self._watching = True
            try:
                await self._rewatch.wait()
            finally:
                self._watching, self._must_hear = False, 0
                await self._store.unwatch(watch)

    async def _take(self) -> None:
        while True:
            self._notice_reconnect()
            self._note_candidates()
            if self._nc.is_connected and self._view.clocks.connected(self._clock.monotonic()):
                self._take_what_is_due()
            await _event_or_timeout(self._changed, self._settings.retry_every)

    def _notice_reconnect(self) -> None:
        reconnects = self._nc.stats["reconnects"]
        if reconnects != self._reconnects:
            self._reconnects = reconnects
            self._view.clocks.restart(self._clock.monotonic())
            self._rewatch.set()
            self._pulse_now.set()

    def _note_candidates(self) -> None:
        candidates = rendezvous.candidates(self._alive(), self._view.cordoned())
        if candidates != self._candidates:
            self._candidates, self._candidates_since = candidates, self._clock.monotonic()

    def _take_what_is_due(self) -> None:
        if self._id not in self._candidates:
            return
        now = self._clock.monotonic()
        for shard in range(self._settings.shards):
            if shard in self._busy or now < self._not_before.get(shard, now):
                continue
            rank = rendezvous.order(shard, self._candidates).index(self._id)
            due = self._view.free_since(shard, self._incarnation)
            if rank:
                due = max(due, self._candidates_since) + rank * self._settings.ttl
            if now >= due:
                task = asyncio.create_task(self._own(shard, out_of_turn=rank > 0), name=f"shard {shard}")
                self._busy[shard] = task
                task.add_done_callback(lambda _, shard=shard: self._ended(shard))  # type: ignore[misc]

    def _ended(self, shard: int) -> None:
        del self._busy[shard]
        self._changed.set()

    async def _own(self, shard: int, out_of_turn: bool) -> None:
        """Acquire a shard and serve it to its end."""
        key = subjects.lease_key(shard)
        value = lease_value(self._id, self._incarnation, secrets.token_hex(8))
        asked = self._clock.monotonic()
        try:
            epoch = await self._store.swap(key, value, self._view.revision(shard))
        except Conflict:
            await self._look_again(key)
            return
        except Unavailable as error:
            log.info("shard %d is not taken: %s", shard, error)
            return
        holding = Holding(
            shard,
            value=value,
            epoch=epoch,
            asked=asked,
            store=self._store,
            listener=self._listener,
            settings=self._settings,
            clock=self._clock,
        )
        if self._stopping:
            await holding.give_back()
            return
        if out_of_turn:
            log.warning("shard %d is taken out of turn: the member it is proposed to left it free", shard)
            self._keep_until[shard] = self._clock.monotonic() + _KEEP_TTLS * self._settings.ttl
        self._held[shard] = holding
        metrics.acquisitions.add(1)
        metrics.owned.add(1)
        try:
            await holding.live()
        finally:
            del self._held[shard]
            self._keep_until.pop(shard, None)
            metrics.owned.add(-1)
            metrics.losses.add(int(holding.lost))
            self._count_failure(holding)

    async def _look_again(self, key: str) -> None:
        try:
            await self._store.read(key)
        except Unavailable as error:
            log.debug("shards: %s", error)

    def _count_failure(self, holding: Holding) -> None:
        """Only a shard that did not open although its lease was there is taken later than at once."""
        if holding.opened or holding.lost:
            self._failures.pop(holding.shard, None)
            self._not_before.pop(holding.shard, None)
            return
        failures = self._failures[holding.shard] = self._failures.get(holding.shard, 0) + 1
        self._not_before[holding.shard] = self._clock.monotonic() + self._backoff.delay(failures)

    async def _give(self) -> None:
        while True:
            shard = self._proposed_to_another()
            if shard is None:
                await self._clock.sleep(self._settings.retry_every)
                continue
            self._held[shard].leave()
            await asyncio.wait({self._busy[shard]})
            await self._clock.sleep(self._settings.handover_pause)

    def _proposed_to_another(self) -> int | None:
        """An open shard to hand over now. Without contact to NATS nobody could take it."""
        now = self._clock.monotonic()
        if not self._nc.is_connected or not self._view.clocks.connected(now):
            return None
        for shard, holding in self._held.items():
            if holding.state is not State.OPEN:
                continue
            if self._id not in self._candidates or (
                now >= self._keep_until.get(shard, now)
                and rendezvous.order(shard, self._candidates)[:1] != (self._id,)
            ):
                return shard
        return None

    async def _hand_over_all(self, budget: float) -> None:
        """Start the handovers spread over a part of `budget`, if anybody can take; all end within it."""
        loop = asyncio.get_running_loop()
        end = loop.time() + budget
        holdings = list(self._held.values())
        others = self._alive() != {self._id}
        pause = min(self._settings.handover_pause, budget / 3 / max(1, len(holdings))) if others else 0.0
        for holding in holdings:
            holding.leave()
            await asyncio.sleep(pause)
        await _wait_all(self._busy, end - loop.time() - budget / 3)
        for holding in self._held.values():
            holding.hurry()
        await _wait_all(self._busy, end - loop.time())
        await tasks.end(self._busy.values())


async def _event_or_timeout(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
    event.clear()


async def _wait_all(busy: dict[int, asyncio.Task[None]], seconds: float) -> None:
    if busy:
        await asyncio.wait(set(busy.values()), timeout=max(0.0, seconds))
