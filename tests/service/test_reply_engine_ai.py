"""The AI step of the reply-engine: every buyer is answered once, by the AI or by what follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from frontdesk.ai_proxy.errors import UpstreamUnavailable
from frontdesk.api.ai.v1 import ai_service_pb2 as ai_pb
from frontdesk.api.chats.v1 import chat_service_pb2 as chats_pb
from frontdesk.api.events.v1 import inbound_pb2, outbound_pb2
from frontdesk.api.events.v1.event_pb2 import SendState
from frontdesk.api.replies.v1 import reply_service_pb2 as replies_pb
from frontdesk.api.replies.v1 import rule_pb2
from frontdesk.api.replies.v1 import rule_service_pb2 as rules_pb
from frontdesk.kit.errors import ResourceExhausted, Unavailable
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.principal import Principal, current_principal
from frontdesk.reply_engine.tables import chats, decisions, messages
from support.ai import ScriptedAi, answer, offer, person
from support.engine import ACCOUNT, ORGANIZATION, Calls, EngineBench
from support.waiting import until, until_async

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def settings() -> dict[str, str]:
    """Settings of the engine; a test parametrizes what it wants others of."""
    return {}


@pytest.fixture
async def desk(
    nats_server: NatsServer, tmp_path: Path, settings: dict[str, str]
) -> AsyncIterator[EngineBench]:
    """One engine on SQLite whose AI step is on."""
    bench = EngineBench(nats_server, f"sqlite:///{tmp_path}/engine.db", **settings)
    await bench.start()
    await Calls(bench).settings(debounce_ms=0, ai_enabled=True)
    yield bench
    await bench.stop()


@pytest.fixture
async def ai(desk: EngineBench) -> AsyncIterator[ScriptedAi]:
    scripted = await ScriptedAi.started(desk)
    await scripted.watch(desk)
    yield scripted
    await scripted.stop()


def with_settings(**settings: str) -> pytest.MarkDecorator:
    named = {f"FRONTDESK_{name.upper()}": value for name, value in settings.items()}
    return pytest.mark.parametrize("settings", [named], ids=["-".join(named.values())])


async def default_reply(calls: Calls, text: str, **fields: Any) -> None:
    reply = rule_pb2.DefaultReply(
        scope=rule_pb2.SCOPE_GLOBAL, enabled=True, parts=[rule_pb2.Part(text=text)], **fields
    )
    await calls.rules.SetDefaultReply(rules_pb.SetDefaultReplyRequest(default_reply=reply))


async def stored(bench: EngineBench) -> list[Any]:
    async with bench.engines[0].database.read() as connection:
        return list((await connection.execute(select(decisions).order_by(decisions.c.decision_id))).all())


async def waiting_reason(calls: Calls, reason: str, chat: str = "chat1") -> None:
    async def waits() -> bool:
        listed = await calls.chats.ListChats(chats_pb.ListChatsRequest())
        return any(c.chat_id == chat and c.waiting_reason == reason for c in listed.chats)

    await until_async(waits)


async def test_the_ai_answers_once_and_says_who(desk: EngineBench, ai: ScriptedAi) -> None:
    """AI-24, RE-16: a question without a rule is answered by the AI, once, in the trace of the question, with
    the item's facts; the decision names who answered."""
    header = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    await desk.hear("包邮吗", item="i1", message_id="m1", headers=header)
    await until(lambda: len(desk.said) == 1)
    await desk.hear("包邮吗", item="i1", message_id="m1", chat="chat1")
    await desk.engines[0].engine.decide([f"{ACCOUNT}/chat1"])
    await desk.hear("在吗", message_id="m2", chat="chat2")
    await until(lambda: len(desk.said) == 2)
    assert desk.texts == ["AI：包邮吗", "AI：在吗"]
    assert desk.said[0].origin == outbound_pb2.ORIGIN_AI
    request = ai.requests[0]
    assert (request.organization_id, request.account_id, request.chat_id) == (ORGANIZATION, ACCOUNT, "chat1")
    item = request.item
    assert (item.item_id, item.title, item.price) == ("i1", "title of i1", "9.90")
    assert item.description == "description of i1\n规格 颜色:红：9.90 元，剩 2 件"
    assert 15 < ai.seconds_left[0] <= 20
    assert ai.trace_ids[0] == TRACE
    first = (await stored(desk))[0]
    assert (first.origin, first.intent, first.provider, first.model) == ("ai", "other", "offline", "bm25")
    assert first.trace[-1] == "ai: answered by offline/bm25"
    await until(lambda: len(ai.events) == 4)
    assert ai.states[:2] == [("processing", ""), ("done", "")]
    begun, done = ai.events[:2]
    assert begun.event_id.removesuffix("processing") == done.event_id.removesuffix("done")
    assert (begun.ai.provider, done.ai.provider, done.ai.chat_id) == ("", "offline", "chat1")


async def test_rules_come_before_and_the_default_after(desk: EngineBench, ai: ScriptedAi) -> None:
    """X-10: a rule keeps the AI from being asked; what the AI can't answer for reasons of its own, such as a
    spent budget, the default reply answers, and no person is called."""
    calls = Calls(desk)
    await calls.rule("多少钱", says="一口价")
    await default_reply(calls, "稍等")
    await desk.hear("多少钱")
    await until(lambda: desk.texts == ["一口价"])
    assert not ai.requests
    ai.script = [ResourceExhausted("the budget is spent")]
    await desk.hear("包邮吗", chat="chat2")
    await until(lambda: desk.texts == ["一口价", "稍等"])
    assert len(ai.requests) == 1
    assert (await stored(desk))[1].trace[-2] == "ai: unavailable: resource_exhausted"
    await until(lambda: ai.states == [("processing", ""), ("failed", "resource_exhausted")])
    assert (await calls.chat("chat2")).waiting_reason == ""
    assert not desk.alerts


async def test_a_person_is_called_and_the_buyer_is_told(desk: EngineBench, ai: ScriptedAi) -> None:
    """Where the AI wants a person the buyer gets the default reply, one alert calls, and the chat waits for a
    person until one writes, whatever is answered meanwhile."""
    calls = Calls(desk)
    await default_reply(calls, "稍等，马上回复您")
    ai.script = [person("low_confidence", "The AI is not sure."), answer("在的"), person("asked")]
    for number, text in enumerate(("能修吗", "在吗", "找人工"), 1):
        await desk.hear(text)
        await until(lambda many=number: len(desk.said) == many)  # type: ignore[misc]
        chat = await calls.chat()
        expected = "needs_person: asked" if number == 3 else "needs_person: low_confidence"
        assert chat.waiting_reason == expected
        assert chat.waiting_since_ms > 0
    assert desk.texts == ["稍等，马上回复您", "在的", "稍等，马上回复您"]
    first = (await stored(desk))[0]
    assert (first.origin, first.provider, first.offered_price) == ("default", "offline", "")
    assert first.trace[-2:] == [
        "ai: needs a person by offline/bm25: low_confidence (The AI is not sure.)",
        f"default: {first.rule_id}, until a person comes",
    ]
    await until(lambda: len(ai.events) == 6 and bool(desk.alerts))
    assert ai.states[1] == ("failed", "low_confidence")
    assert [alert.alert.code for alert in desk.alerts] == ["chat_waiting"]
    assert desk.alerts[0].alert.text == "A buyer waits for a person: The AI is not sure."
    await desk.hear("我来", author=inbound_pb2.AUTHOR_SELLER)
    await waiting_reason(calls, "")
    assert (await calls.chat()).waiting_since_ms == 0


async def test_a_person_is_called_without_a_default(desk: EngineBench, ai: ScriptedAi) -> None:
    """Without a default reply the chat waits for a person, and the decision says why nothing was said."""
    calls = Calls(desk)
    ai.script = [person("under_floor", "The price is too low."), answer("x" * 2001)]
    await desk.hear("10块卖吗")
    await waiting_reason(calls, "needs_person: under_floor")
    await desk.hear("说长一点", chat="chat2")
    await waiting_reason(calls, "needs_person: unreadable", "chat2")
    await until(lambda: len(desk.alerts) == 2)
    assert not desk.said
    found = await stored(desk)
    assert [(d.step, d.intent) for d in found] == [("person", "other"), ("person", "other")]
    async with desk.engines[0].database.read() as connection:
        rows = (await connection.execute(select(messages.c.state, messages.c.decision_id))).all()
    assert sorted(rows) == sorted([("person", d.decision_id) for d in found])


async def test_the_rounds_of_a_bargain_are_counted(desk: EngineBench, ai: ScriptedAi) -> None:
    """Each offer that may have reached the buyer is a round of its item; one that was dropped is none, and a
    preview uses none up."""
    calls = Calls(desk)
    desk.confirm = False
    ai.script = [offer("90"), offer("9.5"), offer("80")]
    bargains = []
    for number, item in enumerate(("i1", "i1", "i1", "i1", "i2"), 1):
        if number == 3:
            await desk.report(desk.said[0], SendState.SEND_STATE_CONFIRMED)
            await desk.report(desk.said[1], SendState.SEND_STATE_DROPPED, "paused")

            async def reported() -> bool:
                return await calls.claim(desk.said[1].outgoing_id) == ["paused"]

            await until_async(reported)
            await calls.rules.Explain(
                rules_pb.ExplainRequest(account_id=ACCOUNT, chat_id="chat1", item_id="i1", text="便宜点")
            )
            bargains.append(ai.requests[-1].bargain)
        await desk.hear("便宜点", item=item)
        await until(lambda many=number: len(desk.said) == many)  # type: ignore[misc]
        bargains.append(ai.requests[-1].bargain)
    assert [(b.rounds, b.lowest_offer) for b in bargains] == [
        (0, ""),
        (1, "90"),
        (1, "90"),
        (1, "90"),
        (1, "90"),
        (0, ""),
    ]
    assert [d.offered_price for d in await stored(desk)][:2] == ["90", "9.5"]


Arrow = Callable[[EngineBench, Calls], Awaitable[None]]


async def typed(bench: EngineBench, calls: Calls) -> None:
    await bench.hear("我来", author=inbound_pb2.AUTHOR_SELLER)
    await until_async(lambda: waits_no_more(calls))


async def wrote(bench: EngineBench, calls: Calls) -> None:
    request = chats_pb.SendRequest(
        request_id="r1", account_id=ACCOUNT, chat_id="chat1", parts=[rule_pb2.Part(text="本人")]
    )
    await calls.chats.Send(request)


async def paused(bench: EngineBench, calls: Calls) -> None:
    await calls.chats.PauseChat(chats_pb.PauseChatRequest(account_id=ACCOUNT, chat_id="chat1", minutes=5))


async def stopped(bench: EngineBench, calls: Calls) -> None:
    await calls.replies.SetSwitch(replies_pb.SetSwitchRequest(switch=replies_pb.SWITCH_STOP))


async def turned_off(bench: EngineBench, calls: Calls) -> None:
    await calls.settings(ai_enabled=False)


async def waits_no_more(calls: Calls) -> bool:
    return (await calls.chat()).waiting_since_ms == 0


@pytest.mark.parametrize(
    ("meanwhile", "reason", "waits"),
    [
        (typed, "answered", ""),
        (wrote, "answered", ""),
        (paused, "paused", ""),
        (stopped, "stopped", "stopped"),
        (turned_off, "turned_off", "no_answer"),
    ],
    ids=["typed", "wrote", "paused", "stopped", "turned-off"],
)
async def test_a_late_answer_is_dropped(
    desk: EngineBench, ai: ScriptedAi, meanwhile: Arrow, reason: str, waits: str
) -> None:
    """What the AI says after a person took the chat over, or a switch was turned, never leaves."""
    calls = Calls(desk)
    ai.open.clear()
    await desk.hear("包邮吗")
    await until(lambda: len(ai.requests) == 1)
    await meanwhile(desk, calls)
    ai.open.set()
    await until(lambda: ai.states[1:] == [("failed", reason)])
    await waiting_reason(calls, waits)
    assert [text for text in desk.texts if text != "本人"] == []


async def test_a_paused_question_is_asked_again_after_it(desk: EngineBench, ai: ScriptedAi) -> None:
    """A buyer who waited through a pause is answered after it, by a new question to the AI."""
    calls = Calls(desk)
    ai.open.clear()
    await desk.hear("包邮吗")
    await until(lambda: len(ai.requests) == 1)
    await paused(desk, calls)
    ai.open.set()
    await until(lambda: ("failed", "paused") in ai.states)
    await calls.chats.ResumeChat(chats_pb.ResumeChatRequest(account_id=ACCOUNT, chat_id="chat1"))
    await until(lambda: desk.texts == ["AI：包邮吗"])
    assert len(ai.requests) == 2


async def test_more_words_make_the_ai_begin_anew(desk: EngineBench, ai: ScriptedAi) -> None:
    """RE-15: what a buyer adds while the AI works is answered with the rest, by one answer."""
    ai.open.clear()
    await desk.hear("这个")
    await until(lambda: len(ai.requests) == 1)
    await desk.hear("包邮吗", message_id="later")
    await until_async(lambda: has_message(desk, "later"))
    ai.open.set()
    await until(lambda: len(desk.said) == 1)
    assert desk.texts == ["AI：这个\n包邮吗"]
    assert [t.text for t in ai.requests[1].turns] == ["这个\n包邮吗"]
    await until(lambda: len(ai.events) == 4)
    assert ai.states[1] == ("failed", "asked_again")


@with_settings(ai_again_seconds="0")
async def test_a_buyer_who_never_stops_is_answered_bit_by_bit(desk: EngineBench, ai: ScriptedAi) -> None:
    """After `ai_again_seconds` an answer leaves for what it has seen, and the rest waits for its own."""
    calls = Calls(desk)
    ai.open.clear()
    await desk.hear("这个")
    await until(lambda: len(ai.requests) == 1)
    await desk.hear("包邮吗", message_id="later")
    await until_async(lambda: has_message(desk, "later"))
    ai.open.set()
    await until(lambda: len(desk.said) == 2)
    assert desk.texts == ["AI：这个", "AI：包邮吗"]
    assert await waits_no_more(calls)


async def has_message(bench: EngineBench, message_id: str) -> bool:
    query = select(messages.c.message_id).where(messages.c.message_id == message_id)
    async with bench.engines[0].database.read() as connection:
        return (await connection.execute(query)).first() is not None


def stopping(request: ai_pb.AnswerRequest) -> ai_pb.AnswerResponse:
    """As a call ends whose replica's time to stop is over."""
    raise asyncio.CancelledError


async def test_a_call_whose_replica_goes_away_is_made_once_more(desk: EngineBench, ai: ScriptedAi) -> None:
    """A replica of ai-proxy that stops in the middle of a call costs a second call and nothing else; where
    that one is lost too the default reply follows."""
    await default_reply(Calls(desk), "稍等")
    ai.script = [stopping]
    await desk.hear("包邮吗")
    await until(lambda: desk.texts == ["AI：包邮吗"])
    assert len(ai.requests) == 2
    ai.script = [stopping, stopping]
    await desk.hear("包邮吗", chat="chat2")
    await until(lambda: desk.texts == ["AI：包邮吗", "稍等"])
    assert len(ai.requests) == 4


async def test_what_ai_proxy_lacked_itself_is_asked_once_more(desk: EngineBench, ai: ScriptedAi) -> None:
    """Its database or NATS was away for a moment, and no provider was asked; the second time counts."""
    await default_reply(Calls(desk), "稍等")
    away = Unavailable("the database is away")
    ai.script = [away]
    await desk.hear("包邮吗")
    await until(lambda: desk.texts == ["AI：包邮吗"])
    assert len(ai.requests) == 2
    ai.script = [away, away]
    await desk.hear("包邮吗", chat="chat2")
    await until(lambda: desk.texts == ["AI：包邮吗", "稍等"])
    assert len(ai.requests) == 4


async def test_what_a_provider_failed_at_is_not_asked_again(desk: EngineBench, ai: ScriptedAi) -> None:
    """ai-proxy has asked every provider by then: another call would only ask each once more."""
    await default_reply(Calls(desk), "稍等")
    ai.script = [UpstreamUnavailable("the provider is overloaded", provider="deep", model="m")]
    await desk.hear("包邮吗")
    await until(lambda: desk.texts == ["稍等"])
    assert len(ai.requests) == 1
    assert (await stored(desk))[0].trace[-2] == "ai: unavailable: unavailable"


@with_settings(ai_seconds="1")
async def test_an_ai_that_is_killed_loses_nothing(desk: EngineBench, ai: ScriptedAi) -> None:
    """ai-proxy dies with calls in work and comes back: each buyer is answered once, by the default reply at
    the deadline or by the AI."""
    await default_reply(Calls(desk), "稍等")
    ai.open.clear()
    asked = [f"chat{n}" for n in range(5)]
    for chat in asked:
        await desk.hear("包邮吗", chat=chat)
    await until(lambda: len(ai.requests) == 5)
    await ai.kill()
    await until(lambda: len(desk.said) == 5)
    assert sorted(said.chat_id for said in desk.said) == asked
    assert set(desk.texts) == {"稍等"}
    await desk.hear("还在吗", chat="chat9")  # while nobody answers for ai-proxy
    back = await ScriptedAi.started(desk)
    await until(lambda: len(desk.said) == 6)
    assert desk.texts[5:] == ["AI：还在吗"]
    await back.stop()


async def test_a_slow_ai_holds_up_no_rule(desk: EngineBench, ai: ScriptedAi) -> None:
    """Chats that rules answer do not wait for those that the AI is asked about."""
    calls = Calls(desk)
    await calls.rule("多少钱", says="一口价")
    ai.open.clear()
    for number in range(80):  # more than one replica asks at once
        await desk.hear("包邮吗", chat=f"slow{number}")
    await until(lambda: len(ai.requests) == 64)
    for number in range(20):
        await desk.hear("多少钱", chat=f"fast{number}")
    await until(lambda: len(desk.said) == 20)
    assert set(desk.texts) == {"一口价"}
    ai.open.set()
    await until(lambda: len(desk.said) == 100)
    assert len(ai.requests) == 80


@with_settings(ai_parallel="1", ai_waiting="1")
async def test_over_the_limit_the_chain_goes_on(desk: EngineBench, ai: ScriptedAi) -> None:
    """One question is asked, one waits for its place, and a third is answered without the AI at once."""
    await default_reply(Calls(desk), "稍等")
    ai.open.clear()
    for number in range(3):
        await desk.hear("包邮吗", chat=f"chat{number}")
    await until(lambda: len(desk.said) == 1)
    assert desk.texts == ["稍等"]
    assert (await stored(desk))[0].trace[-2] == "ai: unavailable: busy"
    ai.open.set()
    await until(lambda: len(desk.said) == 3)
    assert len(ai.requests) == 2


async def test_ai_answers_are_throttled_too(desk: EngineBench, ai: ScriptedAi) -> None:
    """RE-27: the AI's answers count like a rule's."""
    calls = Calls(desk)
    await calls.settings(replies_per_minute=1)
    await desk.hear("包邮吗")
    await until(lambda: len(desk.said) == 1)
    await desk.hear("在吗")
    await waiting_reason(calls, "throttled")
    assert len(ai.requests) == 1


async def test_an_engine_that_stops_gives_its_turns_back(desk: EngineBench, ai: ScriptedAi) -> None:
    """What an engine asked and can't wait for, another one asks at once; the buyer is answered once."""
    ai.open.clear()
    await desk.hear("包邮吗")
    await until(lambda: len(ai.requests) == 1)
    await desk.add_engine()
    first = desk.engines.pop(0)
    await first.stop(0.5)
    await until(lambda: len(ai.requests) == 2)
    ai.open.set()
    await until(lambda: len(desk.said) == 1)
    assert desk.texts == ["AI：包邮吗"]


async def test_the_sweep_finds_turns_of_an_engine_that_died(desk: EngineBench, ai: ScriptedAi) -> None:
    """A token whose engine is gone runs out; the AI is asked again, and who comes late is not heard."""
    ai.open.clear()
    await desk.hear("包邮吗")
    await until(lambda: len(ai.requests) == 1)
    gone = {"deciding_token": "gone", "deciding_until_ms": 1, "due_at_ms": 1}
    async with desk.engines[0].database.write() as connection:
        await connection.execute(update(chats).values(gone))
    await desk.engines[0].engine.sweep()
    await until(lambda: len(ai.requests) == 2)
    ai.open.set()
    await until(lambda: len(ai.events) == 4 and bool(desk.said))
    assert desk.texts == ["AI：包邮吗"]
    assert sorted(ai.states) == [("done", ""), ("failed", "late"), ("processing", ""), ("processing", "")]


async def test_two_engines_ask_once(nats_server: NatsServer, postgres: str) -> None:
    """Two replicas on PostgreSQL that decide the same chats ask the AI once a chat and answer once."""
    bench = EngineBench(nats_server, postgres)
    await bench.start(engines=2)
    ai = await ScriptedAi.started(bench)
    try:
        await Calls(bench).settings(debounce_ms=0, ai_enabled=True)
        asked = [f"chat{n}" for n in range(20)]
        await asyncio.gather(*(bench.hear("包邮吗", chat=chat) for chat in asked))
        keys = [f"{ACCOUNT}/{chat}" for chat in asked]
        await asyncio.gather(*(engine.engine.decide(keys) for engine in bench.engines))
        await until(lambda: len(bench.said) >= 20)
        assert sorted(said.chat_id for said in bench.said) == sorted(asked)
        assert len(ai.requests) == 20
    finally:
        await ai.stop()
        await bench.stop()


async def test_a_preview_asks_as_a_buyer_would(desk: EngineBench, ai: ScriptedAi) -> None:
    """Reply and Explain show what the AI would say, with the item's facts, and store nothing; a viewer sees
    which step it is and spends nothing."""
    calls = Calls(desk)
    request = replies_pb.ReplyRequest(
        account_id=ACCOUNT,
        user_url="https://example.com/u",
        send_user_id="buyer1",
        send_user_name="小王",
        item_id="i1",
        send_message="包邮吗",
        chat_id="chat1",
    )
    reply = await calls.replies.Reply(request, timeout=10)
    assert (reply.step, reply.parts[0].text) == ("ai", "AI：包邮吗")
    question = rules_pb.ExplainRequest(account_id=ACCOUNT, item_id="i1", text="在吗")
    explained = await calls.rules.Explain(question, timeout=10)
    assert (explained.step, explained.parts[0].text) == ("ai", "AI：在吗")
    assert [r.item.title for r in ai.requests] == ["title of i1", "title of i1"]
    current_principal.set(Principal("v", ORGANIZATION, "viewer"))
    explained = await calls.rules.Explain(question, timeout=10)
    assert (explained.step, len(explained.parts), len(ai.requests)) == ("ai", 0, 2)
    assert not await stored(desk)
    assert not ai.events
