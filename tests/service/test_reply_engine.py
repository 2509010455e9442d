"""The reply-engine on real NATS and databases: every buyer is answered once, or a person is called."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import grpc
import grpc.aio
import pytest

from frontdesk.api.chats.v1 import chat_service_pb2 as chats_pb
from frontdesk.api.events.v1 import inbound_pb2
from frontdesk.api.events.v1.event_pb2 import SendState
from frontdesk.api.replies.v1 import reply_service_pb2 as replies_pb
from frontdesk.api.replies.v1 import rule_pb2
from frontdesk.api.replies.v1 import rule_service_pb2 as rules_pb
from frontdesk.kit import subjects
from frontdesk.kit.bus.timers import SCHEDULE
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.principal import Principal, current_principal
from frontdesk.reply_engine.sweep import SWEEP_ID
from frontdesk.reply_engine.topology import SWEEP_TIMER
from support.engine import ACCOUNT, Calls, EngineBench, now_ms
from support.waiting import until, until_async


async def test_a_question_is_answered_once(bench: EngineBench) -> None:
    """A rule's answer leaves once however often the message comes, and the chat waits no longer."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=0)
    await calls.rule("多少钱", says="{send_user_name}，{send_message}？一口价")
    await bench.hear("多少钱", message_id="m1")
    await until(lambda: len(bench.said) == 1)
    for engine in bench.engines:  # past the server's window: the database decides
        await engine.engine.decide([f"{ACCOUNT}/chat1"])
    await bench.hear("多少钱", message_id="m1", chat="chat1")
    await bench.hear("在吗", message_id="m2", chat="chat2")
    await until(lambda: len(bench.alerts) == 1)
    assert bench.texts == ["小王，多少钱？一口价"]
    assert (await calls.chat()).waiting_since_ms == 0
    assert (await calls.chat("chat2")).waiting_reason == "no_answer"


async def test_debounce_merges_what_a_buyer_writes_in_a_row(bench: EngineBench) -> None:
    """Messages within the debounce are answered together, with all their words."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=400)
    await calls.rule("包邮", says="收到：{send_message}")
    for text in ("你好", "这个还在吗", "包邮不"):
        await bench.hear(text)
    await until(lambda: bool(bench.said))
    assert bench.texts == ["收到：你好 这个还在吗 包邮不"]


async def test_typing_by_hand_settles_and_pauses_the_chat(bench: EngineBench) -> None:
    """After the seller typed, what waited is settled, the chat is paused, and a queued answer is dropped."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=0)
    await calls.rule("价", says="一口价")
    bench.confirm = False
    await bench.hear("什么价")
    await until(lambda: len(bench.said) == 1)
    await bench.hear("我来回答", author=inbound_pb2.AUTHOR_SELLER)

    async def paused() -> bool:
        return (await calls.chat()).pause_seconds > 500

    await until_async(paused)
    assert await calls.claim(bench.said[0].outgoing_id) == ["answered"]
    await bench.hear("还能少点价吗")

    async def waits() -> bool:
        return (await calls.chat()).waiting_since_ms > 0

    await until_async(waits)
    assert len(bench.said) == 1
    await calls.chats.ResumeChat(chats_pb.ResumeChatRequest(account_id=ACCOUNT, chat_id="chat1"))
    await until(lambda: len(bench.said) == 2)


async def test_a_person_overtakes(bench: EngineBench) -> None:
    """A person's words leave, once for one request, and the automatic answer in flight is dropped."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=0)
    await calls.rule("价", says="一口价")
    bench.confirm = False
    await bench.hear("什么价")
    await until(lambda: len(bench.said) == 1)
    request = chats_pb.SendRequest(
        request_id="r1", account_id=ACCOUNT, chat_id="chat1", parts=[rule_pb2.Part(text="我是本人 {item_id}")]
    )
    first = await calls.chats.Send(request)
    again = await calls.chats.Send(request)
    assert first.outgoing_ids == again.outgoing_ids
    await until(lambda: len(bench.said) == 2)
    assert bench.said[1].text == "我是本人 {item_id}"
    assert await calls.claim(bench.said[0].outgoing_id, bench.said[1].outgoing_id) == ["answered", "send"]


async def test_old_messages_and_history_wait_for_a_person(bench: EngineBench) -> None:
    """What is older than half an hour is shown as waiting; the history of a first login is only stored."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=0)
    await calls.rule("价", says="一口价")
    await bench.hear("什么价", created_at_ms=now_ms() - 31 * 60_000)
    await bench.hear("老问题 价", chat="chat2", history=True)
    await bench.hear("什么价", chat="chat3")
    await until(lambda: len(bench.said) == 1)
    assert bench.said[0].chat_id == "chat3"
    assert (await calls.chat()).waiting_reason == "too_old"
    assert (await calls.chat("chat2")).waiting_since_ms == 0


async def test_the_switches_hold_everything_back(bench: EngineBench) -> None:
    """STOP leaves chats to people and drops what is queued; OBSERVE decides and sends nothing."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=0)
    await calls.rule("价", says="一口价")
    bench.confirm = False
    await bench.hear("什么价")
    await until(lambda: len(bench.said) == 1)
    await calls.replies.SetSwitch(replies_pb.SetSwitchRequest(switch=replies_pb.SWITCH_STOP))
    assert await calls.claim(bench.said[0].outgoing_id) == ["stopped"]
    assert (await calls.chat()).waiting_reason == "stopped"
    await calls.replies.SetSwitch(replies_pb.SetSwitchRequest(switch=replies_pb.SWITCH_OBSERVE))
    await bench.hear("什么价", chat="chat2")

    async def observed() -> bool:
        chats = await calls.chats.ListChats(chats_pb.ListChatsRequest(waiting_only=True))
        return any(c.chat_id == "chat2" and c.waiting_reason == "observed" for c in chats.chats)

    await until_async(observed)
    assert len(bench.said) == 1


async def test_parts_leave_in_order_and_a_refusal_calls_a_person(bench: EngineBench) -> None:
    """An answer of several messages leaves in order; one the platform refused calls a person."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=0)
    await calls.rule("价", says="一|二|三")
    bench.confirm = False
    await bench.hear("什么价")
    await until(lambda: len(bench.said) == 3)
    assert [(o.part, o.text) for o in bench.said] == [(1, "一"), (2, "二"), (3, "三")]
    await bench.report(bench.said[0], SendState.SEND_STATE_REJECTED, "CSI_FORBID")
    await until(lambda: bool(bench.alerts))
    assert bench.alerts[0].alert.code == "send_failed"
    assert (await calls.chat()).waiting_reason == "send_failed"


async def test_the_default_reply_keeps_its_limit(bench: EngineBench) -> None:
    """The default reply answers what no rule does, as often in a chat as it may."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=0)
    default = rule_pb2.DefaultReply(
        scope=rule_pb2.SCOPE_GLOBAL, parts=[rule_pb2.Part(text="稍等")], enabled=True, max_per_chat=1
    )
    await calls.rules.SetDefaultReply(rules_pb.SetDefaultReplyRequest(default_reply=default))
    await bench.hear("有人吗")
    await until(lambda: len(bench.said) == 1)
    await bench.hear("还在吗")
    await until(lambda: len(bench.alerts) == 1)
    assert bench.texts == ["稍等"]


async def test_explain_names_the_winner_and_why_the_others_lost(bench: EngineBench) -> None:
    """Explain agrees with the decision and gives every rule a reason."""
    calls = Calls(bench)
    narrow = await calls.rule("价", says="店价", scope=rule_pb2.SCOPE_ACCOUNT, account_id=ACCOUNT)
    wide = await calls.rule("价", says="通用")
    answer = await calls.rules.Explain(rules_pb.ExplainRequest(account_id=ACCOUNT, text="什么价"))
    assert (answer.step, answer.rule_id) == ("account", narrow)
    verdicts = {v.rule_id: v for v in answer.verdicts}
    assert verdicts[narrow].wins
    assert not verdicts[wide].wins
    assert verdicts[wide].reason


async def test_bad_rules_are_refused_with_the_field(bench: EngineBench) -> None:
    """A rule that can't work is refused naming the field, and nothing is stored."""
    calls = Calls(bench)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await calls.rule("(", says="x", match=rule_pb2.MATCH_REGEX)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "rule.keywords[0]" in str(refused.value.details())
    listed = await calls.rules.ListRules(rules_pb.ListRulesRequest())
    assert not listed.rules


async def test_other_organizations_see_nothing(bench: EngineBench) -> None:
    """A chat of another organization does not exist for the caller."""
    calls = Calls(bench)
    await bench.hear("你好")
    await until(lambda: bool(bench.alerts))
    current_principal.set(Principal("stranger", "other", "owner"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await calls.chat()
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


async def test_the_sweep_finds_what_was_left_behind(bench: EngineBench) -> None:
    """A chat whose timer was lost is decided by the sweep."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=5_000)
    await calls.rule("价", says="一口价")
    await bench.hear("什么价")

    async def waits() -> bool:
        chats = await calls.chats.ListChats(chats_pb.ListChatsRequest())
        return bool(chats.chats)

    await until_async(waits)
    await bench.bus.js.purge_stream("TIMERS")  # every timer is lost, the sweep's own too
    await bench.engines[0].engine.sweep_timer.set()
    await until(lambda: len(bench.said) == 1, 20)


async def test_an_engine_without_work_sets_no_timer(bench: EngineBench) -> None:
    """While an answer is not reported on, sweeps come; afterwards nothing would wake a sleeping service."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=0)
    await calls.rule("价", says="一口价")

    async def timers() -> int:
        return int((await bench.bus.stream_info("TIMERS")).state.messages)

    async def none() -> bool:
        return await timers() == 0

    await until_async(none)
    bench.confirm = False
    await bench.hear("什么价")
    await until(lambda: len(bench.said) == 1)
    await asyncio.sleep(2.5)  # two sweeps
    assert await timers() == 1
    await bench.report(bench.said[0], SendState.SEND_STATE_CONFIRMED)
    await until_async(none)
    await asyncio.sleep(1.5)
    assert await none()


async def test_no_sweep_comes_before_what_waits_is_due(bench: EngineBench) -> None:
    """While a chat waits for its debounce, sweeps every second would only keep the service from sleeping."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=8_000)
    heard = datetime.now(UTC)
    await bench.hear("什么价")
    await asyncio.sleep(2.5)  # two sweeps, of which the first saw when the chat is due
    timer = await bench.bus.js.get_last_msg(subjects.TIMERS, subjects.timer(SWEEP_TIMER, SWEEP_ID))
    assert timer.headers is not None
    comes = datetime.fromisoformat(timer.headers[SCHEDULE].removeprefix("@at "))
    assert timedelta(seconds=8) < comes - heard < timedelta(seconds=16)


async def test_two_engines_answer_once(nats_server: NatsServer, postgres: str) -> None:
    """Two replicas on PostgreSQL share the work, and each question is answered by one part."""
    bench = EngineBench(nats_server, postgres)
    await bench.start(engines=2)
    try:
        calls = Calls(bench)
        await calls.settings(debounce_ms=0)
        await calls.rule("#", says="{send_message}")
        questions = [f"#{n}" for n in range(120)]
        await asyncio.gather(*(bench.hear(q, chat=f"chat{n % 40}") for n, q in enumerate(questions)))
        await until(lambda: sum(t.count("#") for t in bench.texts) >= 120, 30)
        heard = sorted(" ".join(bench.texts).split())
        assert heard == sorted(questions)
    finally:
        await bench.stop()


async def test_a_flood_is_throttled(bench: EngineBench) -> None:
    """RE-27: over the limit of answers a chat and minute a person is called, other chats go on."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=0, replies_per_minute=2)
    await calls.rule("价", says="一口价")
    for number in range(2):
        await bench.hear(f"什么价 {number}")
        await until(lambda count=number + 1: len(bench.said) == count)  # type: ignore[misc]
    await bench.hear("什么价 3")

    async def throttled() -> bool:
        return (await calls.chat()).waiting_reason == "throttled"

    await until_async(throttled)
    await bench.hear("什么价", chat="chat2")
    await until(lambda: len(bench.said) == 3)
    assert bench.said[2].chat_id == "chat2"
