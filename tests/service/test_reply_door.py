"""`POST /xianyu/reply`: one message in, one reply out, by the code that decides every answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from frontdesk.api.replies.v1 import reply_service_pb2 as replies_pb
from frontdesk.api.replies.v1 import rule_pb2
from frontdesk.api.replies.v1 import rule_service_pb2 as rules_pb
from frontdesk.api.replies.v1.reply_service_pb2_grpc import ReplyServiceStub
from frontdesk.api.replies.v1.rule_service_pb2_grpc import RuleServiceStub
from frontdesk.kit.cache import ExpiringCache
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.http import create_app
from frontdesk.kit.lifecycle import Readiness
from frontdesk.kit.principal import Principal, current_principal
from frontdesk.kit.rpc.channel import NatsChannel
from support.engine import ACCOUNT, ORGANIZATION, EngineBench

BODY = {
    "cookie_id": ACCOUNT,
    "msg_time": "1700000000000",
    "user_url": "https://example.com/u",
    "send_user_id": "buyer1",
    "send_user_name": "小王",
    "item_id": "i1",
    "send_message": "还在吗",
    "chat_id": "chat1",
}


class Owner:
    """Takes every caller for the owner of the organization."""

    async def authenticate(self, metadata: Mapping[str, str]) -> Principal:
        return Principal("owner", ORGANIZATION, "owner")


@pytest.fixture
async def door(bench: EngineBench) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app("test", Owner(), readiness=Readiness())
    app.include_router(bench.engines[0].router)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def add_rule(bench: EngineBench, says: str, **fields: Any) -> str:
    current_principal.set(Principal("owner", ORGANIZATION, "owner"))
    stub = RuleServiceStub(NatsChannel(bench.bus.nc, shards=64, caller="test"))
    rule = rule_pb2.Rule(keywords=["在吗"], parts=[rule_pb2.Part(text=says)], enabled=True, **fields)
    response = await stub.CreateRule(rules_pb.CreateRuleRequest(rule=rule))
    return response.rule.rule_id


async def test_a_message_gets_its_reply(bench: EngineBench, door: httpx.AsyncClient) -> None:
    """RE-01, RE-04, RE-11: the reply of the rule, formatted, in `data`, with the trace id beside it."""
    rule_id = await add_rule(bench, "{send_user_name}，在的")
    answer = await door.post("/xianyu/reply", json=BODY)
    assert answer.status_code == 200
    said = answer.json()
    assert (said["code"], said["data"]["send_msg"]) == ("OK", "小王，在的")
    assert (said["data"]["rule_id"], said["data"]["step"]) == (rule_id, "global")
    assert "trace_id" in said
    assert not bench.said


async def test_the_account_s_rule_comes_first(bench: EngineBench, door: httpx.AsyncClient) -> None:
    """RE-06, RE-07: the account's keyword beats the global one."""
    await add_rule(bench, "global")
    await add_rule(bench, "mine", scope=rule_pb2.SCOPE_ACCOUNT, account_id=ACCOUNT)
    answer = await door.post("/xianyu/reply", json=BODY)
    assert answer.json()["data"]["send_msg"] == "mine"


@pytest.mark.parametrize("field", sorted(BODY))
async def test_every_field_is_needed(bench: EngineBench, door: httpx.AsyncClient, field: str) -> None:
    """RE-02, RE-03, RE-29: a missing field is 400, named, in the one form of errors."""
    answer = await door.post("/xianyu/reply", json={k: v for k, v in BODY.items() if k != field})
    assert answer.status_code == 400
    assert field in answer.json()["message"]
    assert {"code", "message", "data", "trace_id"} <= answer.json().keys()


async def test_nothing_answers(bench: EngineBench, door: httpx.AsyncClient) -> None:
    """RE-10: a miss with the default reply off is 404; with it on, it is the default reply (RE-09)."""
    assert (await door.post("/xianyu/reply", json=BODY)).status_code == 404
    current_principal.set(Principal("owner", ORGANIZATION, "owner"))
    stub = RuleServiceStub(NatsChannel(bench.bus.nc, shards=64, caller="test"))
    default = rule_pb2.DefaultReply(
        scope=rule_pb2.SCOPE_GLOBAL, parts=[rule_pb2.Part(text="in a moment")], enabled=True
    )
    await stub.SetDefaultReply(rules_pb.SetDefaultReplyRequest(default_reply=default))
    answer = await door.post("/xianyu/reply", json=BODY)
    assert answer.json()["data"]["send_msg"] == "in a moment"


async def test_a_disabled_account_does_not_answer(bench: EngineBench, door: httpx.AsyncClient) -> None:
    """RE-05: the account is asked for first."""
    await add_rule(bench, "yes")
    bench.accounts.disabled.add(ACCOUNT)
    assert (await door.post("/xianyu/reply", json=BODY)).status_code in (404, 409, 412)


async def test_settings_of_an_account(bench: EngineBench) -> None:
    """RE-21: how an account answers, AI among it, is set and read over the API."""
    current_principal.set(Principal("owner", ORGANIZATION, "owner"))
    stub = ReplyServiceStub(NatsChannel(bench.bus.nc, shards=64, caller="test"))
    settings = (await stub.GetReplySettings(replies_pb.GetReplySettingsRequest(account_id=ACCOUNT))).settings
    settings.ai_enabled = not settings.ai_enabled
    settings.debounce_ms = 250
    await stub.UpdateReplySettings(replies_pb.UpdateReplySettingsRequest(settings=settings))
    stored = await stub.GetReplySettings(replies_pb.GetReplySettingsRequest(account_id=ACCOUNT))
    assert stored.settings == settings


async def test_caches_forget(bench: EngineBench) -> None:
    """RE-22, RE-25: bounded, the least recently used goes first, and nothing is kept for ever."""
    clock = ManualClock()
    cache: ExpiringCache[int] = ExpiringCache(2, 10, clock)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    await clock.advance(11)
    assert cache.get("a") is None
