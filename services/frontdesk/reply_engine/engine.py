"""The reply-engine's handlers of subjects: stateless, so any replica may run any of them, twice if need be.

    on_inbound   INBOUND             intake.py, then timers or decisions
    on_due       TIMERS due.*        a chat, a delivery or the sweep is due
    on_reports   EVENTS event.reply  receipts.py

Each stores in one transaction, publishes after it, and is acknowledged after that. Whatever fails in between
is repeated: ids make the repeat harmless, and the sweep finds what nobody repeats.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from frontdesk.kit import subjects
from frontdesk.kit.bus import Delivery, Timers
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import FrontdeskError
from frontdesk.reply_engine.ai import Ai
from frontdesk.reply_engine.decide import Decided, Decider, due_chats
from frontdesk.reply_engine.events import Events
from frontdesk.reply_engine.facts import FactSource
from frontdesk.reply_engine.intake import IntakeLimits, Taken, parse, take_in
from frontdesk.reply_engine.orders.delivery import Deliveries, due_orders
from frontdesk.reply_engine.outbox import Outbox, queued_in_chats, stuck
from frontdesk.reply_engine.receipts import parse_report, store_reports
from frontdesk.reply_engine.rules.model import LIMITS, Limits
from frontdesk.reply_engine.snapshot import SnapshotCache
from frontdesk.reply_engine.sweep import SweepTimer, next_work
from frontdesk.reply_engine.topology import CHAT_TIMER, ORDER_TIMER
from frontdesk.reply_engine.traces import intake_trace
from frontdesk.reply_engine.turns import AiTurns

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Numbers of the engine; times in milliseconds."""

    intake: IntakeLimits = field(default_factory=IntakeLimits)
    # A waiting chat whose timer did not fire, and a part that nobody reported on, are taken up after these.
    overdue_ms: int = 5_000
    unreported_ms: int = 60_000
    sweep_batch: int = 500
    # AI turns of one replica, asking and waiting for a place.
    ai_turns: int = 1_064
    rules: Limits = LIMITS


class Engine:
    """Takes in, decides, publishes; see the module's docstring."""

    def __init__(
        self,
        *,
        timers: Timers,
        sweep: SweepTimer,
        database: Database,
        snapshots: SnapshotCache,
        decider: Decider,
        outbox: Outbox,
        ai: Ai,
        facts: FactSource,
        deliveries: Deliveries,
        events: Events,
        clock: Clock,
        limits: EngineLimits,
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._decider = decider
        self._outbox = outbox
        self._turns = AiTurns(
            database=database,
            decider=decider,
            ai=ai,
            facts=facts,
            events=events,
            publish=self._publish,
            clock=clock,
            most=limits.ai_turns,
        )
        self._facts = facts
        self._deliveries = deliveries
        self._events = events
        self._timers = timers
        self.sweep_timer = sweep
        self._clock = clock
        self._limits = limits

    async def on_inbound(self, batch: Sequence[Delivery]) -> None:
        """Take in a batch, then decide what is due; raises Poison for a message that can't be read."""
        parsed = [parse(d.data) for d in batch]
        traces = {
            id(inbound): intake_trace(d.headers["traceparent"])
            for inbound, d in zip(parsed, batch, strict=True)
            if "traceparent" in d.headers
        }
        now = self._clock.now_ms()
        async with self._database.write() as connection:
            taken = await take_in(connection, parsed, self._snapshots, self._limits.intake, now, traces)
        await self._follow_up(taken, now)

    async def _follow_up(self, taken: Taken, now: int) -> None:
        if taken.due_later or taken.due_now or taken.due_orders:
            await self.sweep_timer.keep()
        if taken.due_later:
            await self._timers.set_all(CHAT_TIMER, list(taken.due_later.items()))
        if taken.due_now:
            await self.decide(taken.due_now)
        if taken.repeated:
            await self._publish_again(taken.repeated)
        if taken.new:
            await self._events.taken_in(taken.new, taken.waiting, now)
        for account_id, order_id in sorted(taken.due_orders):
            await self._timers.set(ORDER_TIMER, f"{account_id}/{order_id}", now)

    async def _publish_again(self, chat_keys: Collection[str]) -> None:
        """A repeated message may mean that a process died between its commit and its publish."""
        async with self._database.read() as connection:
            parts = await queued_in_chats(connection, chat_keys)
        await self._outbox.publish(parts)

    async def decide(self, chat_keys: Collection[str]) -> None:
        """Decide the chats that wait and are due; those that the AI is asked about are answered later."""
        async with self._database.write() as connection:
            decided = await self._decider.decide(connection, chat_keys, self._clock.now_ms())
        await self._publish(decided)
        if decided.lacking:
            await self._facts.find(decided.lacking.values())
            async with self._database.write() as connection:
                rest = await self._decider.decide(connection, decided.lacking.keys(), self._clock.now_ms())
            await self._publish(rest)
            decided.ai_turns += rest.ai_turns
        await self._turns.begin(decided.ai_turns)

    async def drain(self, seconds: float) -> None:
        """Let the AI's turns end; those that can't are another replica's at once."""
        try:
            given_back = await self._turns.drain(seconds)
            now = self._clock.now_ms()
            await self._timers.set_all(CHAT_TIMER, [(key, now) for key in given_back])
        except FrontdeskError as error:
            log.warning("the sweep will find what the AI was asked about: %s", error)

    async def _publish(self, decided: Decided) -> None:
        await self._outbox.publish(decided.outgoing)
        if decided.later:
            await self._timers.set_all(CHAT_TIMER, list(decided.later.items()))
        now = self._clock.now_ms()
        for call in decided.for_person:
            await self._events.alert(
                organization_id=call.chat.organization_id,
                account_id=call.chat.account_id,
                chat_id=call.chat.chat_id,
                code="chat_waiting",
                text=call.text,
                now_ms=now,
                event_id=call.event_id,
            )

    async def on_due(self, batch: Sequence[Delivery]) -> None:
        """A due message is a hint: the row decides what there is to do."""
        chat_keys: set[str] = set()
        order_keys: set[str] = set()
        sweep = False
        for delivery in batch:
            _, what, _ = delivery.subject.split(".", 2)
            timer_id = subjects.timer_id_of(delivery.subject)
            if what == CHAT_TIMER:
                chat_keys.add(timer_id)
            elif what == ORDER_TIMER:
                order_keys.add(timer_id)
            else:
                sweep = True
        if chat_keys:
            await self.decide(chat_keys)
        for key in sorted(order_keys):
            account_id, _, order_id = key.partition("/")
            await self._deliveries.proceed(account_id, order_id)
        if sweep:
            await self.sweep()
        else:  # what is not done yet goes on later
            await self.sweep_timer.keep()

    async def on_reports(self, batch: Sequence[Delivery]) -> None:
        """Store what became of answers."""
        events = [parse_report(d.data) for d in batch]
        now = self._clock.now_ms()
        async with self._database.write() as connection:
            receipts = await store_reports(connection, events, now)
        for row, reason in receipts.undelivered:
            await self._events.alert(
                organization_id=row.organization_id,
                account_id=row.account_id,
                chat_id=row.chat_id,
                code="send_failed",
                text=f"An answer did not reach the buyer: {reason}.",
                now_ms=now,
                event_id=f"send_failed:{row.outgoing_id}",
            )
        for decision_id in sorted(receipts.delivery_decisions):
            await self._deliveries.reported(decision_id)

    async def sweep(self) -> None:
        """Find what was stored and never went on; come again when what is open is due."""
        now, limits = self._clock.now_ms(), self._limits
        async with self._database.read() as connection:
            overdue = await due_chats(connection, now, limits.overdue_ms, limits.sweep_batch)
            unreported = await stuck(connection, now - limits.unreported_ms, limits.sweep_batch)
            orders = await due_orders(connection, now, limits.sweep_batch)
            due_ms = await next_work(connection)
        if overdue or unreported or orders:
            log.info("sweep: %d chats, %d parts, %d orders", len(overdue), len(unreported), len(orders))
        if overdue:
            await self.decide(overdue)
        await self._outbox.publish(unreported)
        for account_id, order_id in orders:
            await self._deliveries.proceed(account_id, order_id)
        if due_ms is not None:  # its own timer or report comes first, if it comes
            await self.sweep_timer.set(due_ms + limits.overdue_ms)
