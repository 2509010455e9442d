"""Rules as the running engine uses them: facts in templates, several messages, stored rules that went bad."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import grpc
import grpc.aio
import pytest
from sqlalchemy import update

from frontdesk.api.replies.v1 import reply_service_pb2 as replies_pb
from frontdesk.api.replies.v1 import rule_pb2
from frontdesk.api.replies.v1 import rule_service_pb2 as rules_pb
from frontdesk.kit.nats_server import NatsServer
from frontdesk.reply_engine.configuration import change_configuration
from frontdesk.reply_engine.tables import default_replies, rules
from support.engine import ACCOUNT, ORGANIZATION, Calls, EngineBench
from support.waiting import until


async def test_templates_name_the_item_and_the_account(bench: EngineBench) -> None:
    """Title, price and the account's name are filled in; an item that is gone leaves them empty."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=0)
    await calls.rule("价", says="{account_name}：{item_title} {item_price}元")
    await calls.rule("在吗", says="在的")
    await bench.hear("在吗", item="i0")
    await until(lambda: bench.texts == ["在的"])
    assert bench.items.asked == 0
    await bench.hear("什么价", item="i1")
    await until(lambda: len(bench.said) == 2)
    await bench.hear("什么价", item="gone1", chat="chat2")
    await until(lambda: len(bench.said) == 3)
    assert bench.texts[1:] == ["shop：title of i1 9.90元", "shop： 元"]
    explained = await calls.rules.Explain(
        rules_pb.ExplainRequest(account_id=ACCOUNT, text="什么价", item_id="i1")
    )
    assert explained.parts[0].text == "shop：title of i1 9.90元"


async def test_an_exact_rule_hits_one_of_several_messages(bench: EngineBench) -> None:
    """A rule for anything does not shadow a rule for the exact text of one of the merged messages."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=400)
    await calls.rule(says="什么都行", match=rule_pb2.MATCH_ANY)
    await calls.rule("包邮", says="包邮的", match=rule_pb2.MATCH_EXACT)
    for text in ("你好", "包邮", "在吗"):
        await bench.hear(text)
    await until(lambda: bool(bench.said))
    assert bench.texts == ["包邮的"]


async def test_a_picture_alone_is_answered_by_a_rule_for_anything(bench: EngineBench) -> None:
    """A message without text but with an image is something sent."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=0)
    await calls.rule(says="图收到了", match=rule_pb2.MATCH_ANY)
    await bench.hear("", images=["https://example.com/1.jpg"])
    await until(lambda: bench.texts == ["图收到了"])


async def test_a_bad_stored_rule_keeps_no_other_from_answering(
    bench: EngineBench, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left out, named in the log once, shown as not valid, and can be deleted."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=0)
    bad = await calls.rule("价", says="坏")
    await calls.rule("价", says="一口价")
    default = rule_pb2.DefaultReply(
        scope=rule_pb2.SCOPE_GLOBAL, parts=[rule_pb2.Part(text="稍等")], enabled=True
    )
    await calls.rules.SetDefaultReply(rules_pb.SetDefaultReplyRequest(default_reply=default))
    async with bench.engines[0].database.write() as connection:
        body = {"keywords": ["("], "match": "regex", "name": "mine"}
        await connection.execute(update(rules).where(rules.c.rule_id == bad).values(body=body))
        await connection.execute(update(default_replies).values(body=[1]))
        await change_configuration(connection, ORGANIZATION)
    with caplog.at_level(logging.ERROR):
        for number in range(3):
            await bench.hear("什么价", chat=f"chat{number}")
            await calls.settings(debounce_ms=0)
        await until(lambda: len(bench.said) == 3)
    assert bench.texts == ["一口价"] * 3
    assert [bad in r.getMessage() for r in caplog.records].count(True) == 1
    listed = {r.rule_id: r for r in (await calls.rules.ListRules(rules_pb.ListRulesRequest())).rules}
    assert not listed[bad].enabled
    assert listed[bad].name.startswith("(not valid: keywords[0]: ")
    explained = await calls.rules.Explain(rules_pb.ExplainRequest(account_id=ACCOUNT, text="什么价"))
    reasons = {v.rule_id: v.reason for v in explained.verdicts}
    assert reasons[bad].startswith("is stored but not valid: keywords[0]")
    exported = json.loads(await _export(calls, rules_pb.FORMAT_JSON))
    assert [r["id"] for r in exported] == [i for i in listed if i != bad]
    assert not (await calls.rules.ListDefaultReplies(rules_pb.ListDefaultRepliesRequest())).default_replies
    await calls.rules.DeleteRule(rules_pb.DeleteRuleRequest(rule_id=bad))


async def _export(calls: Calls, kind: Any) -> bytes:
    return bytes((await calls.rules.ExportRules(rules_pb.ExportRulesRequest(format=kind))).data)


@pytest.mark.parametrize(
    ("field", "value"), [("scope", 77), ("match", 77)], ids=["a scope", "a way of matching"]
)
async def test_an_unknown_number_is_refused_with_its_field(
    bench: EngineBench, field: str, value: int
) -> None:
    """A value that this version does not know is no other value."""
    calls = Calls(bench)
    rule = rule_pb2.Rule(keywords=["价"], enabled=True)
    setattr(rule, field, value)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await calls.rules.CreateRule(rules_pb.CreateRuleRequest(rule=rule))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert f"rule.{field}" in str(refused.value.details())
    number: Any = value
    for call in (
        calls.rules.ExportRules(rules_pb.ExportRulesRequest(format=number)),
        calls.rules.ImportRules(rules_pb.ImportRulesRequest(format=number, data=b"[]")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "format" in str(refused.value.details())


async def test_default_replies_of_an_item_are_the_accounts_own(bench: EngineBench) -> None:
    """Two accounts that sell one item keep a default reply each; a foreign account is refused."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=0)

    def of(account_id: str, text: str) -> rules_pb.SetDefaultReplyRequest:
        default = rule_pb2.DefaultReply(
            scope=rule_pb2.SCOPE_ITEM,
            account_id=account_id,
            item_id="i1",
            parts=[rule_pb2.Part(text=text)],
            enabled=True,
        )
        return rules_pb.SetDefaultReplyRequest(default_reply=default)

    await calls.rules.SetDefaultReply(of(ACCOUNT, "一店"))
    await calls.rules.SetDefaultReply(of("acc2", "二店"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await calls.rules.SetDefaultReply(of("nobody", "x"))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    await bench.hear("在吗", item="i1")
    await until(lambda: bench.texts == ["一店"])


async def test_a_nul_is_no_internal_error(nats_server: NatsServer, postgres: str) -> None:
    """PostgreSQL takes no NUL in a text: ids with one are refused, and a buyer's message loses it."""
    bench = EngineBench(nats_server, postgres)
    await bench.start()
    try:
        calls = Calls(bench)
        await calls.settings(debounce_ms=0)
        await calls.rule("价", says="一口价")
        reply = replies_pb.ReplyRequest(
            account_id=ACCOUNT,
            user_url="u",
            send_user_id="s",
            send_user_name="n",
            send_message="价",
            chat_id="\x00",
        )
        for call in (
            calls.rules.GetRule(rules_pb.GetRuleRequest(rule_id="\x00")),
            calls.rules.DeleteDefaultReply(rules_pb.DeleteDefaultReplyRequest(default_reply_id="\x00")),
            calls.replies.Claim(replies_pb.ClaimRequest(outgoing_ids=["\x00"])),
            calls.replies.Reply(reply),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        await bench.hear("什么\x00价")
        await until(lambda: bench.texts == ["一口价"])
    finally:
        await bench.stop()


async def test_an_import_does_not_stop_the_engine(bench: EngineBench) -> None:
    """While a large file is checked, buyers are answered; a file over the limit is a problem of the file."""
    calls = Calls(bench)
    await calls.settings(debounce_ms=0)
    await calls.rule("价", says="一口价")
    lines = ["keywords,match,reply"] + [f"a{n}?(b|c){{9}}x*,regex,answer {n}" for n in range(4_000)]
    data = "\n".join(lines).encode()
    importing = calls.rules.ImportRules(
        rules_pb.ImportRulesRequest(format=rules_pb.FORMAT_CSV, data=data, dry_run=True), timeout=60
    )
    started = time.monotonic()
    await bench.hear("什么价")
    await until(lambda: bench.texts == ["一口价"], 5)
    answered = time.monotonic() - started
    assert (await importing).created == 4_000
    assert answered < 2.5
    large = await calls.rules.ImportRules(
        rules_pb.ImportRulesRequest(format=rules_pb.FORMAT_JSON, data=b"[" + b" " * 921_600 + b"]")
    )
    assert [p.field for p in large.problems] == ["file"]
