"""Defects that the simulated Goofish had."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from support.goofish_client import TOKEN_API, market
from support.waiting import until

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=8), c, max_size=3),
    max_leaves=6,
)
PATHS = (
    "/r/MessageSend/sendByReceiverScope",
    "/r/SingleChatConversation/create",
    "/r/MessageManager/listUserMessages",
    "/r/Conversation/listNewestPagination",
    "/r/MessageStatus/read",
    "/r/Conversation/clearRedPoint",
    "/r/SyncStatus/ackDiff",
)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/r/SingleChatConversation/create", [{"pairFirst": "OWN", "pairSecond": "33", "extension": "x"}]),
        ("/r/Conversation/listNewestPagination", [1e300, 20]),
        ("/r/Conversation/listNewestPagination", ["9" * 5000, 20]),
        ("/r/MessageManager/listUserMessages", ["CID", False, 1e300, 20, False]),
    ],
)
async def test_wrong_types_in_a_request_are_400(path: str, body: list[Any]) -> None:
    """A request of the wrong shape has an answer, and the session goes on."""
    async with market() as shop:
        seller = shop.world.add_seller()
        chat = shop.world.chat(seller, "anna")
        for place, value in enumerate(body):
            if value == "CID":
                body[place] = chat.chat_id
            if isinstance(value, dict):
                value["pairFirst"] = seller.user_id
        async with shop.login(seller) as client:
            assert (await client.ask(path, body))["code"] in (200, 400)
            assert (await client.ask("/!"))["code"] == 200


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(PATHS), JSON), min_size=1, max_size=10))
def test_any_body_has_an_answer(requests: list[tuple[str, Any]]) -> None:
    """No body ends a session."""

    async def talk() -> None:
        async with market() as shop:
            seller = shop.world.add_seller()
            async with shop.login(seller) as client:
                for path, body in requests:
                    await client.ask(path, body)
                assert (await client.ask("/!"))["code"] == 200

    asyncio.run(talk())


async def test_image_of_the_wrong_shape_is_400() -> None:
    """A send whose picture is a text is refused, and the session goes on."""
    async with market() as shop:
        seller = shop.world.add_seller()
        chat = shop.world.chat(seller, "anna")
        async with shop.login(seller) as client:
            inner = {"contentType": 2, "image": {"pics": [{"url": "u", "width": None}]}}
            data = base64.b64encode(json.dumps(inner).encode()).decode()
            body = [
                {"cid": chat.chat_id, "content": {"custom": {"data": data}}},
                {"actualReceivers": [seller.user_id, chat.buyer_id]},
            ]
            assert (await client.ask("/r/MessageSend/sendByReceiverScope", body))["code"] == 400
            assert (await client.ask("/!"))["code"] == 200


async def test_loads_side_by_side_keep_their_bounds() -> None:
    """A second load does not let the first one ask more, nor do late answers to one that was stopped."""
    async with market() as shop:
        one, two = shop.world.add_seller(), shop.world.add_seller()
        async with shop.login(one) as a, shop.login(two) as b:
            words = {"messages": 50, "in_flight": 2}
            first = (await shop.control("/load", words | {"accounts": [one.user_id]}))["load_id"]
            await until(lambda: len(a.texts()) == 2)
            await shop.control(f"/loads/{first}/stop", {})
            second = (await shop.control("/load", words | {"accounts": [two.user_id]}))["load_id"]
            await until(lambda: len(b.texts()) == 2)
            chat = next(iter(one.chats.values()))
            for text in a.texts()[:2]:
                await a.send(one, chat.buyer_id, chat.chat_id, text)
            assert (await b.ask("/!"))["code"] == 200
            assert (await shop.control(f"/loads/{second}"))["sent"] == 2


async def test_replay_has_all_that_was_not_acknowledged() -> None:
    """An order card after a question does not take its place in the replay."""
    async with market() as shop:
        seller = shop.world.add_seller()
        await shop.faults(replay_on_reconnect=True)
        chat = shop.world.chat(seller, "anna")
        shop.world.buyer_says(seller, chat, "question")
        shop.world.place_order(seller, chat)
        async with shop.login(seller) as client:
            await client.ask("/r/SyncStatus/getState", [{"topic": "sync"}])
            await client.ask("/r/SyncStatus/ackDiff", [{}])
            await until(lambda: "question" in client.texts(), 2)


async def test_order_card_has_the_platforms_marks() -> None:
    """taskName and updateKey are those that clients look for (A14)."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            order = shop.world.place_order(seller, shop.world.chat(seller, "anna"))
            await until(lambda: len(client.messages()) == 1)
            note = client.messages()[0]["10"]
            assert f"{order.chat_id}:{order.order_id}:1_not_pay_seller" in note["extJson"]
            assert "已拍下_未付款_卖家" in note["bizTag"]


async def test_refused_connections_of_one_account() -> None:
    """The fault of an account refuses that account's upgrade, known by its cookie."""
    async with market() as shop:
        seller = shop.world.add_seller()
        await shop.faults(seller.user_id, refuse_connections=True)
        with pytest.raises(InvalidStatus):
            await connect(shop.simulator.ws_url, additional_headers={"Cookie": seller.cookies}, proxy=None)


async def test_mtop_errors_must_be_texts() -> None:
    """A `ret` that is no text is refused when it is set, not when it is used."""
    async with market() as shop:
        await shop.control("/faults", {"mtop_errors": {TOKEN_API: 5}}, status=400)


async def test_slow_watcher_is_ended() -> None:
    """A live view that cannot follow is closed, not left open and silent."""
    async with market() as shop:
        seller = shop.world.add_seller()
        chat = shop.world.chat(seller, "anna")
        async with shop.http.get(f"{shop.simulator.http_url}/control/live") as response:
            for number in range(2_500):
                shop.world.buyer_says(seller, chat, str(number))
            async with asyncio.timeout(5):
                while await response.content.readline():
                    pass


async def test_clock_of_messages_keeps_to_the_wall() -> None:
    """A burst over many sellers does not date messages into the future."""
    async with market() as shop:
        chats = [(s, shop.world.chat(s, "anna")) for s in (shop.world.add_seller() for _ in range(200))]
        for number in range(2_000):
            last = shop.world.buyer_says(*chats[number % 200], str(number))
        assert last.created_at_ms - shop.world.now_ms() < 100


async def test_second_register_on_a_socket_moves_it() -> None:
    """One socket serves one seller: logging in as another ends the first login."""
    async with market() as shop:
        one, two = shop.world.add_seller(), shop.world.add_seller()
        token = await shop.token(two)
        async with shop.login(one) as client:
            await client.register(token)
            await until(lambda: two.listener is not None)
            assert one.listener is None
