"""Automatic delivery: a paid order is answered with its cards, each card handed over once.

    pending ─ details from the platform ─▶ sending ─ every part confirmed ─▶ delivered ─ platform told ─▶
    shipped
       └──────────── no cards, refused, given up ────────────▶ failed (a person is called)

Cards are taken in the transaction that stores the decision, and never go back into stock: a repeat finds the
order's own cards. Steps that call the platform are repeated with back-off by the order's timer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.kit.bus import Timers
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import FrontdeskError
from frontdesk.kit.secrets import SecretBox
from frontdesk.reply_engine.events import Events
from frontdesk.reply_engine.model import OPEN_DELIVERIES, SETTLED, Answer, Origin, SendState, chat_key, new_id
from frontdesk.reply_engine.outbox import Outbox, Stored, store_answer
from frontdesk.reply_engine.rules.model import TextPart
from frontdesk.reply_engine.tables import cards, decisions, deliveries, orders, outgoing

log = logging.getLogger(__name__)

MAX_PART = 1_500


@dataclass(frozen=True, slots=True)
class OrderDetails:
    """What the platform says of an order."""

    item_id: str
    buyer_id: str
    quantity: int
    to_ship: bool


class Platform(Protocol):
    """The platform as a delivery needs it; every method may raise FrontdeskError."""

    async def order(self, account_id: str, order_id: str) -> OrderDetails:
        """Read an order."""
        ...

    async def confirm_shipping(self, account_id: str, order_id: str) -> None:
        """Tell the platform that an order is shipped; done before counts as done."""
        ...


class Deliveries:
    """Brings orders forward, one step at a time."""

    def __init__(
        self,
        *,
        database: Database,
        platform: Platform,
        outbox: Outbox,
        events: Events,
        timers: Timers,
        secrets: SecretBox,
        clock: Clock,
        max_tries: int = 10,
    ) -> None:
        self._database = database
        self._platform = platform
        self._outbox = outbox
        self._events = events
        self._timers = timers
        self._secrets = secrets
        self._clock = clock
        self._max_tries = max_tries

    async def proceed(self, account_id: str, order_id: str) -> None:
        """Do an order's next step, if it is due; an early or repeated call does nothing."""
        async with self._database.read() as connection:
            order = await _order(connection, account_id, order_id)
        if order is None or order.delivery_due_ms > self._clock.now_ms():
            return
        try:
            if order.delivery_state == "pending":
                await self._send(order)
            elif order.delivery_state == "delivered":
                await self._platform.confirm_shipping(account_id, order_id)
                await self._move(order, "delivered", "shipped", status="shipped")
        except FrontdeskError as error:
            await self._again(order, error)

    async def _send(self, order: Any) -> None:
        details = await self._platform.order(order.account_id, order.order_id)
        if not details.to_ship:
            await self._move(order, "pending", "shipped", reason="shipped before")
            return
        now = self._clock.now_ms()
        async with self._database.write() as connection:
            current = await _order(connection, order.account_id, order.order_id, lock=True)
            if current is None or current.delivery_state != "pending":
                return
            item_id = details.item_id or current.item_id
            delivery = await _delivery(connection, order.account_id, item_id)
            if delivery is None:
                await _set(connection, current, now, delivery_state="", item_id=item_id)
                return
            secrets = await self._take_cards(connection, current, delivery, max(1, details.quantity), now)
            if secrets is None:
                await _set(connection, current, now, delivery_state="failed", delivery_reason="no cards left")
                parts: list[Stored] = []
            else:
                parts = await self._store(connection, current, delivery, secrets, details, now)
        if parts:
            await self._outbox.publish(parts)
        else:
            await self._call_person(order, "no cards left")

    async def _take_cards(
        self, connection: AsyncConnection, order: Any, delivery: Any, quantity: int, now: int
    ) -> list[str] | None:
        """The order's cards, taken from the stock now if it has none yet; None when there are too few."""
        if delivery.fixed_card is not None:
            context = f"deliveries:fixed_card:{order.account_id}/{delivery.item_id}"
            return [self._secrets.decrypt_text(delivery.fixed_card, context)] * quantity
        mine = select(cards).where(cards.c.account_id == order.account_id, cards.c.order_id == order.order_id)
        taken = (await connection.execute(mine.order_by(cards.c.card_id))).all()
        if len(taken) < quantity:
            stock = (
                select(cards)
                .where(
                    cards.c.account_id == order.account_id,
                    cards.c.item_id == delivery.item_id,
                    cards.c.order_id.is_(None),
                )
                .order_by(cards.c.card_id)
                .limit(quantity - len(taken))
                .with_for_update(skip_locked=True)
            )
            more = (await connection.execute(stock)).all()
            if len(taken) + len(more) < quantity:
                return None
            await connection.execute(
                update(cards)
                .where(cards.c.card_id.in_([c.card_id for c in more]))
                .values(order_id=order.order_id, taken_at_ms=now)
            )
            taken = [*taken, *more]
        return [self._secrets.decrypt_text(c.secret, f"cards:secret:{c.card_id}") for c in taken]

    async def _store(
        self,
        connection: AsyncConnection,
        order: Any,
        delivery: Any,
        secrets: Sequence[str],
        details: OrderDetails,
        now: int,
    ) -> list[Stored]:
        decision_id = new_id(now)
        await connection.execute(
            decisions.insert().values(
                decision_id=decision_id,
                organization_id=order.organization_id,
                chat_key=chat_key(order.account_id, order.chat_id),
                origin=Origin.DELIVERY,
                step="delivery",
                rule_id="",
                trace=[f"order {order.order_id} is paid: {len(secrets)} cards of item {delivery.item_id}"],
                created_at_ms=now,
                request_id=f"delivery:{order.account_id}:{order.order_id}:{order.delivery_tries}",
            )
        )
        chat = SimpleNamespace(
            organization_id=order.organization_id,
            account_id=order.account_id,
            chat_id=order.chat_id,
            chat_key=chat_key(order.account_id, order.chat_id),
            buyer_id=details.buyer_id or order.buyer_id,
        )
        texts = render(delivery.template, secrets, order.order_id)
        answer = Answer(Origin.DELIVERY, "delivery", tuple(TextPart(t) for t in texts))
        parts = store_answer(
            decision_id=decision_id, chat=chat, answer=answer, answers_until_ms=0, now_ms=now
        )
        await Stored.insert(connection, parts)
        await _set(
            connection,
            order,
            now,
            delivery_state="sending",
            delivery_decision_id=decision_id,
            item_id=delivery.item_id,
            buyer_id=chat.buyer_id,
            quantity=len(secrets),
        )
        return parts

    async def reported(self, decision_id: str) -> None:
        """A part of a delivery came to its end: see whether all did."""
        async with self._database.write() as connection:
            found = await connection.execute(
                select(orders).where(orders.c.delivery_decision_id == decision_id).with_for_update()
            )
            order = found.one_or_none()
            if order is None or order.delivery_state != "sending":
                return
            rows = await connection.execute(
                select(outgoing.c.state, outgoing.c.reason).where(outgoing.c.decision_id == decision_id)
            )
            parts = rows.all()
            if any(p.state not in SETTLED for p in parts):
                return
            now = self._clock.now_ms()
            bad = next((p for p in parts if p.state != SendState.CONFIRMED), None)
            if bad is not None:
                reason = f"{bad.state}: {bad.reason}"
                await _set(connection, order, now, delivery_state="failed", delivery_reason=reason)
            else:
                delivery = await _delivery(connection, order.account_id, order.item_id)
                confirm = delivery is None or delivery.confirm_shipping
                reason = ""
                await _set(
                    connection,
                    order,
                    now,
                    delivery_state="delivered",
                    delivery_due_ms=now if confirm else 0,
                    delivery_tries=0,
                )
        if reason:
            await self._call_person(order, reason)
        elif confirm:
            await self.proceed(order.account_id, order.order_id)

    async def _again(self, order: Any, error: FrontdeskError) -> None:
        """Try a failed step again later, or call a person when it is no use."""
        tries = order.delivery_tries + 1
        now = self._clock.now_ms()
        if not error.retryable or tries >= self._max_tries:
            # What was delivered stays delivered: only the platform could not be told.
            state = "failed" if order.delivery_state == "pending" else "delivered"
            async with self._database.write() as connection:
                await _set(
                    connection,
                    order,
                    now,
                    delivery_state=state,
                    delivery_reason=error.message,
                    delivery_due_ms=0,
                    delivery_tries=tries,
                )
            await self._call_person(order, error.message)
            return
        due = now + min(2**tries, 300) * 1000
        async with self._database.write() as connection:
            await _set(connection, order, now, delivery_due_ms=due, delivery_tries=tries)
        await self._timers.set("order", f"{order.account_id}/{order.order_id}", due)

    async def _move(self, order: Any, old: str, new: str, *, reason: str = "", status: str = "") -> None:
        now = self._clock.now_ms()
        values: dict[str, Any] = {"delivery_state": new, "delivery_reason": reason, "delivery_due_ms": 0}
        if status:
            values["status"] = status
        async with self._database.write() as connection:
            current = await _order(connection, order.account_id, order.order_id, lock=True)
            if current is not None and current.delivery_state == old:
                await _set(connection, current, now, **values)

    async def _call_person(self, order: Any, reason: str) -> None:
        await self._events.alert(
            organization_id=order.organization_id,
            account_id=order.account_id,
            chat_id=order.chat_id,
            code="delivery_failed",
            text=f"Order {order.order_id} needs a person: {reason}.",
            now_ms=self._clock.now_ms(),
            event_id=f"delivery:{order.account_id}:{order.order_id}:{order.delivery_tries}:{reason}"[:120],
        )


def render(template: str, secrets: Sequence[str], order_id: str) -> list[str]:
    """The delivery's messages: cards one a line where `{card}` stands, split so that none is over the
    limit."""
    pattern = template if "{card}" in template else f"{template}\n{{card}}".strip()
    room = MAX_PART - len(pattern)
    groups: list[list[str]] = [[]]
    for secret in secrets:
        if groups[-1] and sum(map(len, groups[-1])) + len(groups[-1]) + len(secret) > room:
            groups.append([])
        groups[-1].append(secret)
    first, *rest = ["\n".join(group) for group in groups]
    return [pattern.replace("{order_id}", order_id).replace("{card}", first), *rest]


async def _order(connection: AsyncConnection, account_id: str, order_id: str, *, lock: bool = False) -> Any:
    query = select(orders).where(orders.c.account_id == account_id, orders.c.order_id == order_id)
    return (await connection.execute(query.with_for_update() if lock else query)).one_or_none()


async def _delivery(connection: AsyncConnection, account_id: str, item_id: str) -> Any:
    rows = await connection.execute(
        select(deliveries).where(
            deliveries.c.account_id == account_id, deliveries.c.item_id == item_id, deliveries.c.enabled
        )
    )
    return rows.one_or_none()


async def _set(connection: AsyncConnection, order: Any, now: int, **values: Any) -> None:
    await connection.execute(
        update(orders)
        .where(orders.c.account_id == order.account_id, orders.c.order_id == order.order_id)
        .values(updated_at_ms=now, **values)
    )


async def due_orders(connection: AsyncConnection, now_ms: int, limit: int) -> list[tuple[str, str]]:
    """Orders whose next step is overdue by more than a few seconds."""
    rows = await connection.execute(
        select(orders.c.account_id, orders.c.order_id)
        .where(
            orders.c.delivery_state.in_(OPEN_DELIVERIES),
            orders.c.delivery_due_ms > 0,
            orders.c.delivery_due_ms < now_ms - 5_000,
        )
        .order_by(orders.c.delivery_due_ms)
        .limit(limit)
    )
    return [(row.account_id, row.order_id) for row in rows]
