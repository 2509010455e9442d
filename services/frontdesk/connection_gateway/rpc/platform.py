"""PlatformService: what only the holder of an account's session may ask the platform."""

from __future__ import annotations

from typing import Any

import grpc.aio

from frontdesk.api.accounts.v1 import platform_service_pb2 as pb
from frontdesk.api.accounts.v1.platform_service_pb2_grpc import PlatformServiceServicer
from frontdesk.connection_gateway.accounts.session import Session
from frontdesk.connection_gateway.accounts.supervisor import Supervisor
from frontdesk.kit.access import check_owner
from frontdesk.kit.errors import InvalidArgument

MAX_IMAGE = 900 * 1024
MAX_ID = 128
MAX_FILE_NAME = 200


class PlatformServicer(PlatformServiceServicer):
    """Runs on the replica that holds the account."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def GetItem(
        self, request: pb.GetItemRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetItemResponse:
        session = await self._session(request.account_id, "viewer")
        item_id = _id("item_id", request.item_id)
        item = await session.call(lambda http: http.item(item_id))
        return pb.GetItemResponse(
            item_id=item.item_id,
            title=item.title,
            description=item.description,
            price=item.price,
            quantity=item.quantity,
            skus=[pb.Sku(spec=s.spec, price=s.price, quantity=s.quantity) for s in item.skus],
        )

    async def GetOrder(
        self, request: pb.GetOrderRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetOrderResponse:
        session = await self._session(request.account_id, "viewer")
        order_id = _id("order_id", request.order_id)
        order = await session.call(lambda http: http.order(order_id))
        return pb.GetOrderResponse(
            order_id=order.order_id,
            item_id=order.item_id,
            buyer_id=order.buyer_id,
            quantity=order.quantity,
            sku=order.sku,
            price=order.price,
            to_ship=order.to_ship,
        )

    async def ConfirmShipping(
        self, request: pb.ConfirmShippingRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ConfirmShippingResponse:
        session = await self._session(request.account_id, "agent")
        order_id = _id("order_id", request.order_id)
        already = await session.call(lambda http: http.confirm_shipping(order_id))
        return pb.ConfirmShippingResponse(already_shipped=already)

    async def UploadImage(
        self, request: pb.UploadImageRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UploadImageResponse:
        session = await self._session(request.account_id, "agent")
        if not 0 < len(request.data) <= MAX_IMAGE:
            raise InvalidArgument("data", f"must have 1 to {MAX_IMAGE} bytes")
        if len(request.name) > MAX_FILE_NAME:
            raise InvalidArgument("name", f"at most {MAX_FILE_NAME} characters")
        image = await session.call(lambda http: http.upload_image(request.data, request.name))
        return pb.UploadImageResponse(url=image.url, width=image.width, height=image.height)

    async def _session(self, account_id: str, need: str) -> Session:
        if not account_id:
            raise InvalidArgument("account_id", "is needed")
        session = await self._supervisor.find(account_id)
        organization_id = session.account.organization_id if session is not None else None
        check_owner(organization_id, need=need, what="account")
        assert session is not None
        return session


def _id(field: str, value: str) -> str:
    if not value or len(value) > MAX_ID or not value.isalnum():
        raise InvalidArgument(field, f"must be 1 to {MAX_ID} letters or digits")
    return value
