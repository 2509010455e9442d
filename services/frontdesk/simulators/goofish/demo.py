"""A small marketplace that lives: three shops, and buyers who ask, wait for an answer, and sometimes buy."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from frontdesk.simulators.goofish.state import Chat, Seller, World

SHOPS: Sequence[tuple[str, str, Sequence[tuple[str, str, str]]]] = (
    (
        "2200000000101",
        "阿青的旧书店",
        (
            ("二手《三体》全集", "45.00", "三册齐全，2010 年版。书页干净，没有笔记划线，封底有一点折痕。"),
            ("Python 编程入门", "28.00", "第三版，附习题答案。书页干净，没有笔记划线，书角略有磨损。"),
        ),
    ),
    (
        "2200000000102",
        "小鹿数码",
        (
            ("机械键盘 87 键", "159.00", "茶轴，背光正常，键帽没有打油。原装包装盒和数据线都在。"),
            ("Type-C 数据线", "12.50", "线长一米，支持快充。全新未拆，原装包装盒。"),
        ),
    ),
    (
        "2200000000103",
        "Lucy's closet",
        (
            ("Vintage denim jacket", "120.00", "Size M, fits a chest of 96 cm. Worn twice, no stains."),
            ("羊毛围巾", "39.00", "纯羊毛，长 180 厘米。只能手洗，不能机洗。"),
        ),
    ),
)
BUYERS = ("大熊", "小雨", "Tom", "阿杰", "橙子", "Mia", "老周", "木木")
QUESTIONS = (
    "还在吗?",
    "包邮吗?",
    "最低多少钱?",
    "什么时候发货?",
    "Is this still available?",
    "可以便宜点吗?",
    "能帮我留到周末吗?",
)
# What no rule answers, but the seller wrote: in its policy, its knowledge, or about the item.
KNOWN_QUESTIONS = ("支持七天无理由退货吗?", "可以开发票吗?", "默认用什么快递?")
ITEM_QUESTIONS = {
    "二手《三体》全集": "书页有没有笔记划线?",
    "Python 编程入门": "附习题答案吗?",
    "机械键盘 87 键": "背光正常吗?",
    "Type-C 数据线": "支持快充吗?",
    "Vintage denim jacket": "Any stains?",
    "羊毛围巾": "是纯羊毛吗?",
}
GAP_S = (0.6, 2.2)
ORDER_CHANCE = 0.12


def build(world: World) -> list[Seller]:
    """Open the shops with their items."""
    sellers = []
    for user_id, name, items in SHOPS:
        seller = world.add_seller(user_id, name)
        for number, (title, price, description) in enumerate(items):
            item_id = f"{900_000_000_000 + int(user_id[-3:]) * 10 + number}"
            world.add_item(seller, title, price, item_id, 20, description)
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
            own = ITEM_QUESTIONS[seller.items[item_id].title]
            world.buyer_says(seller, chat, draw.choice((*QUESTIONS, *KNOWN_QUESTIONS, own)))


def _waits(seller: Seller, chat: Chat) -> bool:
    """Whether the chat's last plain message is the buyer's."""
    spoken = [m for m in chat.messages if m.order is None]
    return bool(spoken) and spoken[-1].sender_id != seller.user_id
