"""What the reply-engine knows of accounts and items, asked from the connection-gateway and kept for a while.

Both caches are bounded, forget the least recently used first (RE-25) and expire, so a change at the platform
or in the gateway is seen within the time to live.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import grpc
import grpc.aio

from frontdesk.api.accounts.v1.account_service_pb2 import GetAccountRequest
from frontdesk.api.accounts.v1.account_service_pb2_grpc import AccountServiceStub
from frontdesk.api.accounts.v1.platform_service_pb2 import (
    ConfirmShippingRequest,
    GetItemRequest,
    GetItemResponse,
    GetOrderRequest,
)
from frontdesk.api.accounts.v1.platform_service_pb2_grpc import PlatformServiceStub
from frontdesk.kit.cache import ExpiringCache
from frontdesk.kit.clock import Clock
from frontdesk.kit.rpc.status import from_rpc_error
from frontdesk.reply_engine.orders.delivery import OrderDetails

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account as the reply-engine needs it."""

    account_id: str
    organization_id: str
    name: str
    enabled: bool


class Accounts:
    """Accounts by id, from AccountService."""

    def __init__(
        self, stub: AccountServiceStub, clock: Clock, *, limit: int = 10_000, seconds: float = 5.0
    ) -> None:
        self._stub = stub
        self._cache: ExpiringCache[AccountView] = ExpiringCache(limit, seconds, clock)

    async def get(self, account_id: str) -> AccountView | None:
        """The account, None when there is none; raises Unavailable when the gateway does not answer."""
        if (known := self._cache.get(account_id)) is not None:
            return known
        try:
            response = await self._stub.GetAccount(GetAccountRequest(account_id=account_id), timeout=5)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise from_rpc_error(error) from error
        account = response.account
        view = AccountView(account.account_id, account.organization_id, account.name, account.enabled)
        self._cache.put(account_id, view)
        return view


class GatewayPlatform:
    """The platform through the gateway that holds the account."""

    def __init__(
        self, stub: PlatformServiceStub, clock: Clock, *, limit: int = 10_000, seconds: float = 600.0
    ) -> None:
        self._stub = stub
        self._items: ExpiringCache[GetItemResponse] = ExpiringCache(limit, seconds, clock)

    async def order(self, account_id: str, order_id: str) -> OrderDetails:
        """Read an order; raises FrontdeskError."""
        try:
            response = await self._stub.GetOrder(
                GetOrderRequest(account_id=account_id, order_id=order_id), timeout=15
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return OrderDetails(response.item_id, response.buyer_id, response.quantity, response.to_ship)

    async def confirm_shipping(self, account_id: str, order_id: str) -> None:
        """Tell the platform that an order is shipped; raises FrontdeskError."""
        try:
            await self._stub.ConfirmShipping(
                ConfirmShippingRequest(account_id=account_id, order_id=order_id), timeout=15
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def item(self, account_id: str, item_id: str) -> GetItemResponse:
        """An item's title, price and variants, cached (RE-22); raises FrontdeskError."""
        if (known := self._items.get(item_id)) is not None:
            return known
        try:
            response = await self._stub.GetItem(
                GetItemRequest(account_id=account_id, item_id=item_id), timeout=10
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        self._items.put(item_id, response)
        return response
