"""Facts of accounts and items: fetched once, kept, and missed for a short time only."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from frontdesk.api.accounts.v1.platform_service_pb2 import GetItemResponse, Sku
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.errors import Unavailable
from frontdesk.reply_engine.accounts import Accounts, AccountView, GatewayPlatform
from frontdesk.reply_engine.facts import DESCRIPTION_LENGTH, Facts, FactSource


class Gateway:
    """Accounts and items; while `away`, neither answers."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()

    async def get(self, account_id: str) -> AccountView:
        return AccountView(account_id, "org", "shop", True)

    async def item(self, account_id: str, item_id: str) -> GetItemResponse:
        self.asked += 1
        await self.open.wait()
        if self.away:
            raise Unavailable("away")
        return GetItemResponse(
            item_id=item_id,
            title="台灯",
            price="9.90",
            description="长" * (DESCRIPTION_LENGTH + 1),
            skus=[Sku(spec="颜色:红", price="9.90", quantity=2), Sku(spec="颜色:蓝", price="8", quantity=0)],
        )


def source(gateway: Gateway, clock: ManualClock) -> FactSource:
    return FactSource(cast("Accounts", gateway), cast("GatewayPlatform", cast("Any", gateway)), clock)


async def test_an_item_in_words() -> None:
    """The description is bounded, and each variant is a line with its price and what is left."""
    facts = (await source(Gateway(), ManualClock()).find([("a", "i")]))["a", "i"]
    assert (facts.item_title, facts.item_price, facts.account_name) == ("台灯", "9.90", "shop")
    first, *variants = facts.item_description.split("\n")
    assert len(first) == DESCRIPTION_LENGTH
    assert variants == ["规格 颜色:红：9.90 元，剩 2 件", "规格 颜色:蓝：8 元，已售完"]


async def test_who_asks_at_once_shares_a_call() -> None:
    """One call for many, and whoever gives up takes nothing from the others."""
    gateway = Gateway()
    gateway.open.clear()
    facts = source(gateway, ManualClock())
    asking = [asyncio.create_task(facts.find([("a", "i")])) for _ in range(5)]
    for _ in range(5):
        await asyncio.sleep(0)
    asking[0].cancel()
    gateway.open.set()
    found = await asyncio.gather(*asking[1:])
    assert gateway.asked == 1
    assert {f["a", "i"].item_title for f in found} == {"台灯"}


async def test_what_can_not_be_had_is_asked_for_again_soon() -> None:
    """A gateway that is away leaves the account's name, and is asked again after ten seconds."""
    gateway, clock = Gateway(), ManualClock()
    gateway.away = True
    facts = source(gateway, clock)
    assert (await facts.find([("a", "i")]))["a", "i"] == Facts(account_name="shop")
    gateway.away = False
    await clock.advance(9)
    assert (await facts.find([("a", "i")]))["a", "i"] == Facts(account_name="shop")
    await clock.advance(2)
    assert (await facts.find([("a", "i")]))["a", "i"].item_title == "台灯"
    await clock.advance(50)
    await facts.find([("a", "i")])
    assert gateway.asked == 2
