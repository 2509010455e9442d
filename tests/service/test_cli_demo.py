"""What a newcomer sees of `frontdesk up --demo`."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rich.console import Console

from frontdesk.cli.demo import DEFAULT, KNOWLEDGE, STATEMENTS, Demo
from frontdesk.kit.nats_server import NatsServer
from frontdesk.simulators.goofish import demo
from support.ai_shop import AiShop
from support.waiting import until


@pytest.fixture
async def shop(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[AiShop]:
    shop = AiShop(nats_server, tmp_path)
    await shop.start()
    yield shop
    await shop.stop()
    assert not shop.crashes


async def test_what_the_seller_wrote_is_quoted_by_offline(shop: AiShop) -> None:
    """Every question of the demo that no rule answers is answered with the seller's own words; the live view
    names `offline`, and says when a person is called instead."""
    sellers = demo.build(shop.simulator.world)
    screen = io.StringIO()
    view = Demo(Console(file=screen, width=300), shop.simulator, shop.gateways[0])
    await view.start()
    asked = [
        (number, demo.ITEM_QUESTIONS[item.title], item.item_id)
        for number, seller in enumerate(sellers)
        for item in seller.items.values()
    ]
    asked += [(0, question, "") for question in demo.KNOWN_QUESTIONS]
    asked.append((0, demo.QUESTIONS[-1], ""))
    for n, (number, question, item_id) in enumerate(asked):
        seller = sellers[number]
        chat = shop.simulator.world.chat(seller, f"buyer-{n}", item_id)
        shop.simulator.world.buyer_says(seller, chat, question)
    for n, (number, _, _) in enumerate(asked):
        await shop.answered(sellers[number], 1, f"buyer-{n}")
    await until(lambda: screen.getvalue().count("→") == len(asked))
    await until(lambda: "! A buyer waits for a person" in screen.getvalue())
    answers = [shop.answers(sellers[number], f"buyer-{n}")[0] for n, (number, _, _) in enumerate(asked)]
    assert answers[-1] == DEFAULT
    written = [*STATEMENTS, KNOWLEDGE, *(i.description for s in sellers for i in s.items.values())]
    unquoted = [
        (question, answer)
        for (_, question, _), answer in zip(asked[:-1], answers[:-1], strict=True)
        if not any(line in text for text in written for line in answer.splitlines())
    ]
    assert not unquoted
    shown = [line for line in screen.getvalue().splitlines() if "→" in line]
    assert sum("· offline" in line for line in shown) == len(asked) - 1
    await view.stop(1)
    assert f"{len(asked)} answers were sent" in screen.getvalue()
