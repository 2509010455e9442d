"""Bad input at the gateway's doors: a clear error or DEAD, never a crash, never a lost neighbour."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.api.accounts.v1 import account_service_pb2 as pb
from frontdesk.api.accounts.v1 import platform_service_pb2 as platform_pb
from frontdesk.api.events.v1.dead_pb2 import DeadLetter
from frontdesk.api.events.v1.outbound_pb2 import Outbound
from frontdesk.kit import subjects
from frontdesk.kit.http import create_app
from frontdesk.kit.http_server import HttpServer
from frontdesk.kit.lifecycle import Readiness
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.principal import Principal
from frontdesk.simulators.goofish import payloads
from support.shop import ORGANIZATION, Shop
from support.waiting import until

CLEAR = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAVAILABLE,
}


@pytest.fixture
async def shop(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(nats_server, tmp_path)
    await shop.start()
    await shop.rule()
    yield shop
    await shop.stop()
    assert not shop.crashes


def each(strategy: st.SearchStrategy[Any], count: int = 40) -> list[Any]:
    """Examples of a strategy; async code can't be driven by `given`, so they are drawn before."""
    drawn: list[Any] = []

    @settings(max_examples=count, deadline=None, database=None, derandomize=True)
    @given(strategy)
    def draw(example: Any) -> None:
        drawn.append(example)

    draw()
    return drawn


TEXTS = st.one_of(st.text(max_size=60), st.sampled_from(["", "unb=1", "unb=x", "\x00", "a" * 70_000, "😀;="]))


async def test_account_service(shop: Shop) -> None:
    """Whatever the fields hold, the answer is a success or a clear status."""
    seller, _ = await shop.open()
    requests = each(
        st.builds(
            pb.CreateAccountRequest,
            request_id=TEXTS,
            organization_id=TEXTS,
            platform=st.sampled_from(["", "goofish", "x"]),
            name=TEXTS,
            cookies=TEXTS,
            disabled=st.just(True),
        )
    )
    calls: list[tuple[Any, Any]] = [(shop.accounts.CreateAccount, request) for request in requests]
    for text in each(TEXTS, 20):
        calls += [
            (shop.accounts.GetAccount, pb.GetAccountRequest(account_id=text)),
            (shop.accounts.ListAccounts, pb.ListAccountsRequest(organization_id="org", page_token=text)),
            (shop.accounts.GetUptime, pb.GetUptimeRequest(account_id=text, hours=-1)),
        ]
        if text:
            calls += [
                (shop.accounts.UpdateAccount, pb.UpdateAccountRequest(account_id=text, cookies=text)),
                (shop.accounts.RestartAccount, pb.RestartAccountRequest(account_id=text)),
                (shop.platform.GetItem, platform_pb.GetItemRequest(account_id=text, item_id=text)),
            ]
    for method, request in calls:
        try:
            await method(request, timeout=5)
        except grpc.aio.AioRpcError as error:
            assert error.code() in CLEAR, f"{request}: {error.code()} {error.details()}"
    shop.ask(seller, "price?")
    await shop.answered(seller, 1)


async def test_cookies_over_http(shop: Shop) -> None:
    """Whatever the body is, the answer is JSON with a status below 500."""

    class Anna:
        async def authenticate(self, metadata: Any) -> Principal:
            return Principal("anna", ORGANIZATION, "owner")

    app: FastAPI = create_app("test", Anna(), readiness=Readiness())
    app.include_router(shop.gateways[0].router)
    server = HttpServer("http", app, host="127.0.0.1", port=0, spawn=shop.gateways[0]._spawn)
    await server.start()
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    )
    bodies = each(
        st.one_of(
            json_values,
            st.fixed_dictionaries(
                {"cookies": json_values}, optional={"name": json_values, "enabled": json_values}
            ),
        )
    )
    async with aiohttp.ClientSession() as session:
        for body in bodies:
            async with session.post(f"http://127.0.0.1:{server.port}/cookies/add", json=body) as response:
                assert response.status < 500
                assert {"code", "message", "trace_id"} <= (await response.json()).keys()
        for raw in (b"", b"{", b"\xff\xfe", b"[" * 2000):
            headers = {"Content-Type": "application/json"}
            url = f"http://127.0.0.1:{server.port}/cookies/add"
            async with session.post(url, data=raw, headers=headers) as response:
                assert 400 <= response.status < 500
        async with session.get(f"http://127.0.0.1:{server.port}/cookies/list?page_size=x") as response:
            assert response.status == 400
    await server.stop(2)


async def test_outbound_messages(shop: Shop) -> None:
    """What can't be read goes to DEAD with the field's name; what is behind it is sent."""
    seller, account = await shop.open()
    bus = shop.gateways[0].bus
    letters: list[DeadLetter] = []

    async def buried(msg: Any) -> None:
        letters.append(DeadLetter.FromString(msg.data))

    await bus.nc.subscribe(subjects.dead(subjects.OUTBOUND), cb=buried)
    subject = subjects.outbound(account.session.shard, account.account_id)
    broken = [
        b"\xff\xff",
        Outbound().SerializeToString(),
        Outbound(outgoing_id="d.1", decision_id="d", organization_id="o", account_id="a").SerializeToString(),
        *each(st.binary(min_size=1, max_size=60), 20),
    ]
    for number, payload in enumerate(broken):
        await bus.publish(subject, payload, msg_id=f"broken-{number}")
    await until(lambda: len(letters) == len(broken), timeout=20)
    assert all(letter.reason for letter in letters)
    shop.ask(seller, "price?")
    await shop.answered(seller, 1)


async def test_frames_of_the_platform(shop: Shop) -> None:
    """Frames that are none, payloads of nonsense: the session lives and the neighbour is heard."""
    seller, account = await shop.open()
    session = next(iter(shop.simulator.hub.sessions))
    values = st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.text(max_size=10)
        | st.binary(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.integers(0, 12) | st.text(max_size=3), inner, max_size=4)
        ),
        max_leaves=12,
    )
    items = [payloads.encode(value, plain=False) for value in each(values, 60) if isinstance(value, dict)]
    items += [base64.b64encode(raw).decode() for raw in each(st.binary(max_size=40), 30)]
    frames = [payloads.sync_frame("s", [(item, 40000)], 1)[1] for item in items]
    frames += each(st.text(max_size=40), 30)
    endless = shop.simulator.world.chat(seller, "anna")
    message = shop.simulator.world.buyer_says(seller, endless, "hello")
    for field, value in (("message_id", "9" * 5000), ("chat_id", "8" * 5000)):
        wrong = dataclasses.replace(message, **{field: value})  # type: ignore[arg-type]
        chat = dataclasses.replace(endless, chat_id=wrong.chat_id)
        item = payloads.encode(payloads.push_payload(wrong, chat), plain=False)
        frames.append(payloads.sync_frame("s", [(item, 40000)], 1)[1])
    for frame in frames:
        await session._write(frame)
    shop.ask(seller, "price?")
    await shop.answered(seller, 1)
    assert (await shop.account(account.account_id)).session.failures == 0
    assert seller.registrations == 1
