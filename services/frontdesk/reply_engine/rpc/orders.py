"""OrderService: orders, and the cards that answer them."""

from __future__ import annotations

import hashlib
from typing import Any

import grpc.aio
from sqlalchemy import func, select, tuple_, update

from frontdesk.api.chats.v1 import order_service_pb2 as pb
from frontdesk.api.chats.v1.order_service_pb2_grpc import OrderServiceServicer
from frontdesk.kit import pages
from frontdesk.kit.access import allowed_organization, check_owner
from frontdesk.kit.bus import Timers
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import FailedPrecondition, InvalidArgument
from frontdesk.kit.secrets import SecretBox
from frontdesk.kit.upserts import insert_ignoring, upsert
from frontdesk.reply_engine.accounts import Accounts
from frontdesk.reply_engine.model import new_ids
from frontdesk.reply_engine.orders.intake import STATUSES
from frontdesk.reply_engine.rpc.parts import check_id, number_of
from frontdesk.reply_engine.tables import cards, deliveries, orders

STATUS_NUMBERS = {name: number for number, name in STATUSES.items()}
DELIVERY_NUMBERS = {
    "": pb.DELIVERY_STATE_UNSPECIFIED,
    "pending": pb.DELIVERY_STATE_PENDING,
    "sending": pb.DELIVERY_STATE_SENDING,
    "delivered": pb.DELIVERY_STATE_DELIVERED,
    "shipped": pb.DELIVERY_STATE_SHIPPED,
    "failed": pb.DELIVERY_STATE_FAILED,
}
MAX_CARDS = 5_000
MAX_CARD = 2_000
MAX_TEMPLATE = 1_000


class OrderServicer(OrderServiceServicer):
    """Orders of an organization and their automatic delivery."""

    def __init__(
        self, database: Database, accounts: Accounts, timers: Timers, secrets: SecretBox, clock: Clock
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._timers = timers
        self._secrets = secrets
        self._clock = clock

    async def ListOrders(
        self, request: pb.ListOrdersRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListOrdersResponse:
        organization_id = allowed_organization(request.organization_id, need="viewer")
        size = pages.page_size(request.page_size, default=50, most=500)
        after = pages.decode(request.page_token, 3)
        query = select(orders).where(orders.c.organization_id == organization_id)
        if request.account_id:
            check_id(request.account_id, "account_id")
            query = query.where(orders.c.account_id == request.account_id)
        key = tuple_(orders.c.updated_at_ms, orders.c.account_id, orders.c.order_id)
        if after:
            query = query.where(key < (number_of(after[0]), after[1], after[2]))
        columns = (orders.c.updated_at_ms.desc(), orders.c.account_id.desc(), orders.c.order_id.desc())
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(*columns).limit(size + 1))).all()
        token = ""
        if len(rows) > size:
            last = rows[size - 1]
            token = pages.encode(last.updated_at_ms, last.account_id, last.order_id)
        return pb.ListOrdersResponse(orders=[_proto(r) for r in rows[:size]], next_page_token=token)

    async def GetOrder(
        self, request: pb.GetOrderRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetOrderResponse:
        return pb.GetOrderResponse(
            order=_proto(await self._find(request.account_id, request.order_id, "viewer"))
        )

    async def SetDelivery(
        self, request: pb.SetDeliveryRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.SetDeliveryResponse:
        wanted = request.delivery
        organization_id = await self._organization(wanted.account_id, "manager")
        check_id(wanted.item_id, "delivery.item_id")
        if len(wanted.template) > MAX_TEMPLATE:
            raise InvalidArgument("delivery.template", f"at most {MAX_TEMPLATE} characters")
        if "\x00" in wanted.template:
            raise InvalidArgument("delivery.template", "has a NUL in it")
        if len(wanted.fixed_card) > MAX_CARD:
            raise InvalidArgument("delivery.fixed_card", f"at most {MAX_CARD} characters")
        place = f"deliveries:fixed_card:{wanted.account_id}/{wanted.item_id}"
        row = {
            "account_id": wanted.account_id,
            "item_id": wanted.item_id,
            "organization_id": organization_id,
            "template": wanted.template,
            "enabled": wanted.enabled,
            "confirm_shipping": wanted.confirm_shipping,
            "fixed_card": self._secrets.encrypt(wanted.fixed_card, place) if wanted.fixed_card else None,
        }
        async with self._database.write() as connection:
            changed = ("template", "enabled", "confirm_shipping", "fixed_card")
            statement = upsert(connection, deliveries, ("account_id", "item_id"), changed)
            await connection.execute(statement, [row])
            left = await _stock(connection, wanted.account_id)
        return pb.SetDeliveryResponse(delivery=_delivery(row, left))

    async def ListDeliveries(
        self, request: pb.ListDeliveriesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListDeliveriesResponse:
        await self._organization(request.account_id, "viewer")
        async with self._database.read() as connection:
            rows = await connection.execute(
                select(deliveries)
                .where(deliveries.c.account_id == request.account_id)
                .order_by(deliveries.c.item_id)
            )
            found = [dict(r._mapping) for r in rows]
            left = await _stock(connection, request.account_id)
        return pb.ListDeliveriesResponse(deliveries=[_delivery(r, left) for r in found])

    async def AddCards(
        self, request: pb.AddCardsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.AddCardsResponse:
        organization_id = await self._organization(request.account_id, "manager")
        check_id(request.item_id, "item_id")
        if not 1 <= len(request.cards) <= MAX_CARDS:
            raise InvalidArgument("cards", f"1 to {MAX_CARDS} of them")
        for number, card in enumerate(request.cards):
            if not card.strip() or len(card) > MAX_CARD:
                raise InvalidArgument(f"cards[{number}]", f"1 to {MAX_CARD} characters")
        given = list(dict.fromkeys(request.cards))
        # Their ids sort as they were given: first in, first handed over.
        ids = new_ids(len(given), self._clock.now_ms())
        rows = [self._card(organization_id, request, *one) for one in zip(ids, given, strict=True)]
        async with self._database.write() as connection:
            before = (await _stock(connection, request.account_id)).get(request.item_id, 0)
            await connection.execute(insert_ignoring(connection, cards), rows)
            after = (await _stock(connection, request.account_id)).get(request.item_id, 0)
        return pb.AddCardsResponse(added=after - before, cards_left=after)

    def _card(
        self, organization_id: str, request: pb.AddCardsRequest, card_id: str, card: str
    ) -> dict[str, Any]:
        digest = hashlib.sha256(f"{request.account_id}\x00{request.item_id}\x00{card}".encode()).hexdigest()
        return {
            "card_id": card_id,
            "organization_id": organization_id,
            "account_id": request.account_id,
            "item_id": request.item_id,
            "secret": self._secrets.encrypt(card, f"cards:secret:{card_id}"),
            "digest": digest,
            "order_id": None,
            "taken_at_ms": 0,
        }

    async def RetryDelivery(
        self, request: pb.RetryDeliveryRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RetryDeliveryResponse:
        order = await self._find(request.account_id, request.order_id, "agent")
        if order.delivery_state not in ("failed", "delivered"):
            raise FailedPrecondition(f"the delivery is {order.delivery_state or 'not set'}, not failed")
        now = self._clock.now_ms()
        async with self._database.write() as connection:
            await connection.execute(
                update(orders)
                .where(orders.c.account_id == request.account_id, orders.c.order_id == request.order_id)
                .values(
                    delivery_state="pending" if order.delivery_state == "failed" else "delivered",
                    delivery_reason="",
                    delivery_due_ms=now,
                    delivery_tries=order.delivery_tries + 1,
                    updated_at_ms=now,
                )
            )
        await self._timers.set("order", f"{request.account_id}/{request.order_id}", now)
        return pb.RetryDeliveryResponse(
            order=_proto(await self._find(request.account_id, request.order_id, "viewer"))
        )

    async def _organization(self, account_id: str, need: str) -> str:
        check_id(account_id, "account_id")
        account = await self._accounts.get(account_id)
        return check_owner(account.organization_id if account else None, need=need, what="account")

    async def _find(self, account_id: str, order_id: str, need: str) -> Any:
        check_id(account_id, "account_id")
        check_id(order_id, "order_id")
        query = select(orders).where(orders.c.account_id == account_id, orders.c.order_id == order_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        check_owner(row.organization_id if row else None, need=need, what="order")
        return row


async def _stock(connection: Any, account_id: str) -> dict[str, int]:
    rows = await connection.execute(
        select(cards.c.item_id, func.count().label("left"))
        .where(cards.c.account_id == account_id, cards.c.order_id.is_(None))
        .group_by(cards.c.item_id)
    )
    return {row.item_id: row.left for row in rows}


def _delivery(row: dict[str, Any], left: dict[str, int]) -> pb.Delivery:
    return pb.Delivery(
        account_id=row["account_id"],
        item_id=row["item_id"],
        template=row["template"],
        enabled=row["enabled"],
        confirm_shipping=row["confirm_shipping"],
        cards_left=left.get(row["item_id"], 0),
    )


def _proto(row: Any) -> pb.Order:
    return pb.Order(
        order_id=row.order_id,
        account_id=row.account_id,
        chat_id=row.chat_id,
        item_id=row.item_id,
        buyer_id=row.buyer_id,
        status=STATUS_NUMBERS[row.status],
        quantity=row.quantity,
        delivery_state=DELIVERY_NUMBERS[row.delivery_state],
        delivery_reason=row.delivery_reason,
        created_at_ms=row.created_at_ms,
        updated_at_ms=row.updated_at_ms,
    )
