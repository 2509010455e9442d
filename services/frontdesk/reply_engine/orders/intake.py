"""Taking in what the platform says of orders: one row an order, its status only ever forward.

A notice without an order id (a red reminder) changes nothing here: the card that comes with it has the id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.api.events.v1 import inbound_pb2
from frontdesk.api.events.v1.inbound_pb2 import Inbound
from frontdesk.kit.upserts import upsert
from frontdesk.reply_engine.tables import deliveries, orders

STATUSES = {
    inbound_pb2.ORDER_STATUS_CREATED: "created",
    inbound_pb2.ORDER_STATUS_PAID: "paid",
    inbound_pb2.ORDER_STATUS_SHIPPED: "shipped",
    inbound_pb2.ORDER_STATUS_DONE: "done",
    inbound_pb2.ORDER_STATUS_CLOSED: "closed",
    inbound_pb2.ORDER_STATUS_REFUNDING: "refunding",
    inbound_pb2.ORDER_STATUS_REFUNDED: "refunded",
}
# A push that comes late must not take an order back.
RANK = {"created": 0, "paid": 1, "shipped": 2, "done": 3, "refunding": 4, "closed": 5, "refunded": 5}

_CHANGED = (
    "chat_id",
    "item_id",
    "buyer_id",
    "status",
    "delivery_state",
    "delivery_due_ms",
    "updated_at_ms",
)


async def store_orders(
    connection: AsyncConnection, batch: Sequence[Inbound], now_ms: int, due: set[tuple[str, str]]
) -> None:
    """Store order updates in the caller's transaction; `due` gets the orders whose delivery begins."""
    named = [i for i in batch if i.order.order_id and i.order.status in STATUSES]
    if not named:
        return
    rows = await connection.execute(
        select(orders)
        .where(
            orders.c.account_id.in_(sorted({i.account_id for i in named})),
            orders.c.order_id.in_(sorted({i.order.order_id for i in named})),
        )
        .order_by(orders.c.account_id, orders.c.order_id)
        .with_for_update()
    )
    state: dict[tuple[str, str], dict[str, Any]] = {
        (r.account_id, r.order_id): dict(r._mapping) for r in rows
    }
    sold = await _delivered_items(connection, {i.account_id for i in named})
    for inbound in sorted(named, key=lambda i: i.order.created_at_ms):
        identity = (inbound.account_id, inbound.order.order_id)
        row = state.setdefault(identity, _new_order(inbound, now_ms))
        _apply(row, inbound, now_ms)
        if _begins_delivery(row, sold, inbound.history):
            row["delivery_state"], row["delivery_due_ms"] = "pending", now_ms
            due.add(identity)
    statement = upsert(connection, orders, ("account_id", "order_id"), _CHANGED)
    await connection.execute(statement, [state[key] for key in sorted(state)])


async def _delivered_items(connection: AsyncConnection, account_ids: set[str]) -> dict[str, set[str]]:
    """The items of each account that are delivered automatically."""
    rows = await connection.execute(
        select(deliveries.c.account_id, deliveries.c.item_id).where(
            deliveries.c.account_id.in_(sorted(account_ids)), deliveries.c.enabled
        )
    )
    sold: dict[str, set[str]] = {}
    for row in rows:
        sold.setdefault(row.account_id, set()).add(row.item_id)
    return sold


def _begins_delivery(row: dict[str, Any], sold: dict[str, set[str]], history: bool) -> bool:
    # An order whose item is not known yet is looked up by the delivery itself.
    items = sold.get(row["account_id"], set())
    wanted = row["item_id"] in items if row["item_id"] else bool(items)
    return row["status"] == "paid" and not row["delivery_state"] and wanted and not history


def _new_order(inbound: Inbound, now_ms: int) -> dict[str, Any]:
    return {
        "account_id": inbound.account_id,
        "order_id": inbound.order.order_id,
        "organization_id": inbound.organization_id,
        "chat_id": "",
        "item_id": "",
        "buyer_id": "",
        "status": "created",
        "quantity": 0,
        "delivery_state": "",
        "delivery_reason": "",
        "delivery_decision_id": "",
        "delivery_tries": 0,
        "delivery_due_ms": 0,
        "created_at_ms": inbound.order.created_at_ms or now_ms,
        "updated_at_ms": now_ms,
    }


def _apply(row: dict[str, Any], inbound: Inbound, now_ms: int) -> None:
    order = inbound.order
    row["chat_id"] = inbound.chat_id or row["chat_id"]
    row["item_id"] = order.item_id or row["item_id"]
    row["buyer_id"] = order.buyer_id or row["buyer_id"]
    status = STATUSES[order.status]
    if RANK[status] >= RANK[row["status"]]:
        row["status"] = status
    row["updated_at_ms"] = now_ms
