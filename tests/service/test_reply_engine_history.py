"""What the AI is told of a chat: what was said in it, by whom, and nothing of another one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import update

from frontdesk.api.ai.v1 import ai_service_pb2 as ai_pb
from frontdesk.api.chats.v1 import chat_service_pb2 as chats_pb
from frontdesk.api.events.v1.event_pb2 import SendState
from frontdesk.kit.nats_server import NatsServer
from frontdesk.reply_engine.model import Origin
from frontdesk.reply_engine.tables import decisions, outgoing
from support.ai import ScriptedAi
from support.engine import ACCOUNT, Calls, EngineBench
from support.waiting import until, until_async


@pytest.fixture
async def desk(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[EngineBench]:
    """One engine on SQLite whose AI step is on."""
    bench = EngineBench(nats_server, f"sqlite:///{tmp_path}/engine.db")
    await bench.start()
    await Calls(bench).settings(debounce_ms=0, ai_enabled=True)
    yield bench
    await bench.stop()


@pytest.fixture
async def ai(desk: EngineBench) -> AsyncIterator[ScriptedAi]:
    scripted = await ScriptedAi.started(desk)
    yield scripted
    await scripted.stop()


async def test_the_history_goes_with_the_question(desk: EngineBench, ai: ScriptedAi) -> None:
    """What was said before is told, who said it, and a picture as such; other chats are not."""
    calls = Calls(desk)
    await desk.hear("别的聊天", chat="chat2")
    for number, (text, image) in enumerate((("", ["https://example.com/1.png"]), ("第二句", [])), 1):
        await desk.hear(text, images=image)
        await until(lambda many=number + 1: len(desk.said) == many)  # type: ignore[misc]

        async def confirmed(many: int = 2 * number) -> bool:
            request = chats_pb.ListMessagesRequest(account_id=ACCOUNT, chat_id="chat1")
            return len((await calls.chats.ListMessages(request)).messages) == many

        await until_async(confirmed)
    assert [(turn.author, turn.text) for turn in ai.requests[-1].turns] == [
        (ai_pb.AUTHOR_BUYER, "[图片]"),
        (ai_pb.AUTHOR_SELLER, "AI：[图片]"),
        (ai_pb.AUTHOR_BUYER, "第二句"),
    ]


async def test_an_answer_on_its_way_is_told(desk: EngineBench, ai: ScriptedAi) -> None:
    """What was answered and not shown by the platform yet is no open question for the AI, and is told once
    when it was; what never reached the buyer is not told."""
    desk.confirm = False
    for number, text in enumerate(("第一句", "第二句"), 1):
        await desk.hear(text)
        await until(lambda many=number: len(desk.said) == many)  # type: ignore[misc]
    turns = [(turn.author, turn.text) for turn in ai.requests[-1].turns]
    first = [(ai_pb.AUTHOR_BUYER, "第一句"), (ai_pb.AUTHOR_SELLER, "AI：第一句")]
    assert turns == [*first, (ai_pb.AUTHOR_BUYER, "第二句")]
    await desk.report(desk.said[0], SendState.SEND_STATE_CONFIRMED)
    await desk.report(desk.said[1], SendState.SEND_STATE_DROPPED, "paused")

    async def reported() -> bool:
        return await Calls(desk).claim(desk.said[1].outgoing_id) == ["paused"]

    await until_async(reported)
    await desk.hear("第三句")
    await until(lambda: len(desk.said) == 3)
    turns = [(turn.author, turn.text) for turn in ai.requests[-1].turns]
    assert turns[-1] == (ai_pb.AUTHOR_BUYER, "第三句")
    assert sorted(turns[:-1]) == sorted([*first, (ai_pb.AUTHOR_BUYER, "第二句")])


@pytest.mark.parametrize("confirm", [True, False], ids=["delivered", "on its way"])
async def test_what_was_delivered_is_not_told(desk: EngineBench, ai: ScriptedAi, confirm: bool) -> None:
    """A model reads that something was delivered, and never a card's code."""
    desk.confirm = confirm
    await desk.hear("第一句")
    await until(lambda: len(desk.said) == 1)
    async with desk.engines[0].database.write() as connection:
        for table in (decisions, outgoing):
            await connection.execute(update(table).values(origin=Origin.DELIVERY))

    async def confirmed() -> bool:
        request = chats_pb.ListMessagesRequest(account_id=ACCOUNT, chat_id="chat1")
        return not confirm or len((await Calls(desk).chats.ListMessages(request)).messages) == 2

    await until_async(confirmed)
    await desk.hear("第二句")
    await until(lambda: len(ai.requests) == 2)
    assert [turn.text for turn in ai.requests[-1].turns] == ["第一句", "[已发货]", "第二句"]
