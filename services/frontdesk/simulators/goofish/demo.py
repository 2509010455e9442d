"""A small marketplace that lives: three shops, and buyers who ask, wait for an answer, and sometimes buy."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from frontdesk.simulators.goofish.state import Chat, Seller, World

SHOPS: Sequence[tuple[str, str, Sequence[tuple[str, str]]]] = (
    ("2200000000101", "阿青的旧书店", (("二手《三体》全集", "45.00"), ("Python 编程入门", "28.00"))),
    ("2200000000102", "小鹿数码", (("机械键盘 87 键", "159.00"), ("Type-C 数据线", "12.50"))),
    ("2200000000103", "Lucy's closet", (("Vintage denim jacket", "120.00"), ("羊毛围巾", "39.00"))),
)
BUYERS = ("大熊", "小雨", "Tom", "阿杰", "橙子", "Mia", "老周", "木木")
QUESTIONS = (
    "还在吗?",
    "包邮吗?",
    "最低多少钱?",
    "什么时候发货?",
    "Is this still available?",
    "质量怎么样?",
    "可以便宜点吗?",
    "支持退货吗?",
)
GAP_S = (0.6, 2.2)
ORDER_CHANCE = 0.12


def build(world: World) -> list[Seller]:
    """Open the shops with their items."""
    sellers = []
    for user_id, name, items in SHOPS:
        seller = world.add_seller(user_id, name)
        for number, (title, price) in enumerate(items):
            world.add_item(seller, title, price, f"{900_000_000_000 + int(user_id[-3:]) * 10 + number}", 20)
        sellers.append(seller)
    return sellers


async def live(world: World, sellers: Sequence[Seller], seed: int = 7) -> None:
    """Let buyers ask for as long as this runs. A buyer who has no answer yet asks nothing more."""
    draw = random.Random(seed)
    while True:
        await asyncio.sleep(draw.uniform(*GAP_S))
        seller = draw.choice(sellers)
        if seller.listener is None:
            continue
        item_id = draw.choice(list(seller.items))
        chat = world.chat(seller, draw.choice(BUYERS), item_id)
        if _waits(seller, chat):
            continue
        if chat.messages and draw.random() < ORDER_CHANCE:
            order = world.place_order(seller, chat)
            await asyncio.sleep(draw.uniform(*GAP_S))
            world.move_order(order, "paid")
        else:
            world.buyer_says(seller, chat, draw.choice(QUESTIONS))


def _waits(seller: Seller, chat: Chat) -> bool:
    """Whether the chat's last plain message is the buyer's."""
    spoken = [m for m in chat.messages if m.order is None]
    return bool(spoken) and spoken[-1].sender_id != seller.user_id
