"""The simulated Goofish against a client written as the public ones are."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import aiohttp
import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frontdesk.kit.errors import InvalidArgument
from frontdesk.simulators.goofish.server import GoofishSimulator, SimulatorSettings
from support.certificates import self_signed
from support.goofish_client import KEY, TOKEN_API, Market, market, sign
from support.waiting import until, until_async

NEWEST = 9007199254740991


def test_signature_is_the_golden_one() -> None:
    """The client of these tests signs as the facts say, so the simulator's check is held to them too."""
    wanted = "c56c45bd3a9f28ac33d74c99fb7c0ced"
    data = '{"itemId":"900000000001"}'
    assert sign("0123456789abcdef0123456789abcdef", "1700000000000", data) == wanted


async def test_question_is_pushed_and_answered() -> None:
    """A buyer's message comes once, is acknowledged; the answer is stored, echoed and in the transcript."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            said = await shop.control("/say", {"account": seller.user_id, "buyer": "anna", "text": "在吗"})
            await until(lambda: client.texts() == ["在吗"])
            await until(lambda: shop.simulator.hub.acks >= 1)
            message = client.messages()[0]
            assert message["3"] == said["message_id"]
            assert message["2"] == f"{said['chat_id']}@goofish"
            buyer = message["10"]["senderUserId"]
            answer = await client.send(seller, buyer, said["chat_id"], "在的")
            assert answer["code"] == 200
            assert answer["body"]["messageId"].endswith(".PNM")
            await until(lambda: client.texts() == ["在吗", "在的"])
            assert client.messages()[1]["10"]["senderUserId"] == seller.user_id
            chat = f"/chats?account={seller.user_id}&chat={said['chat_id']}"
            found = (await shop.control(chat))["messages"]
            assert [(m["author"], m["text"]) for m in found] == [("buyer", "在吗"), ("seller", "在的")]
            status = await shop.control("/status")
            assert (status["connected"], status["sends"], status["registrations"]) == (1, 1, 1)


async def test_hand_typed_message_is_told_apart() -> None:
    """What the seller types in the app comes as an own push and is `hand` in the transcript."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            words = {"account": seller.user_id, "buyer": "anna", "text": "I am here myself"}
            said = await shop.control("/type", words)
            await until(lambda: client.texts() == ["I am here myself"])
            assert client.messages()[0]["10"]["senderUserId"] == seller.user_id
            chat = f"/chats?account={seller.user_id}&chat={said['chat_id']}"
            assert [m["author"] for m in (await shop.control(chat))["messages"]] == ["hand"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("token", "invalid token"),
        ("device", "device id or appkey is not equal"),
        ("expired", "invalid token"),
        ("session", "token invalid"),
    ],
)
async def test_register_is_refused(spoil: str, reason: str) -> None:
    """A wrong token, another device and a login that is gone are 401, and the socket is closed."""
    async with market() as shop:
        seller = shop.world.add_seller()
        token = await shop.token(seller)
        if spoil in ("expired", "session"):
            what = "im_token" if spoil == "expired" else "session"
            await shop.control("/expire", {"account": seller.user_id, "what": what})
        async with shop.socket() as client:
            device = "OTHER" if spoil == "device" else "DID"
            answer = await client.register("nonsense" if spoil == "token" else token, device)
            assert (answer["code"], answer["body"]) == (401, {"reason": reason})
            await until(lambda: client.code == 1000)


async def test_requests_before_register_are_refused() -> None:
    """Nobody asks before logging in."""
    async with market() as shop, shop.socket() as client:
        assert (await client.ask("/r/SyncStatus/getState", [{"topic": "sync"}]))["code"] == 401
        assert (await client.ask("/!"))["code"] == 200


async def test_second_login_kicks_the_first() -> None:
    """One account has one session; the first is told, and what comes next goes to the second."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as first, shop.login(seller) as second:
            await until(lambda: first.code == 1000)
            assert first.pushed[-1]["lwp"] == "/push/kickout"
            await shop.control("/say", {"account": seller.user_id, "buyer": "anna", "text": "hi"})
            await until(lambda: second.texts() == ["hi"])
            assert first.texts() == []
            listed = (await shop.control("/accounts"))["accounts"][0]
            assert (listed["connected"], listed["registrations"]) == (True, 2)


@pytest.mark.parametrize(("how", "path"), [("kickout", "/push/kickout"), ("remove", "/s/session/remove")])
async def test_kick(how: str, path: str) -> None:
    """The platform ends a session in two ways."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            assert (await shop.control("/kick", {"account": seller.user_id, "how": how}))["kicked"]
            await until(lambda: client.code == 1000)
            assert client.pushed[-1]["lwp"] == path


async def test_missed_message_is_in_list_and_history_only() -> None:
    """What was said in an absence is not pushed after a login with a forged ackDiff, but can be read."""
    async with market() as shop:
        seller = shop.world.add_seller()
        said = await shop.control("/say", {"account": seller.user_id, "buyer": "anna", "text": "anyone?"})
        async with shop.login(seller) as client:
            forged = await client.ask("/r/SyncStatus/ackDiff", [{"pts": 1}])
            assert forged["code"] == 200
            listed = (await client.ask("/r/Conversation/listNewestPagination", [NEWEST, 20]))["body"]
            own_view = listed["userConvs"][0]["singleChatUserConversation"]
            assert own_view["redPoint"] == 1
            cid = own_view["singleChatConversation"]["cid"]
            assert cid == f"{said['chat_id']}@goofish"
            body = [cid, False, NEWEST, 20, False]
            history = (await client.ask("/r/MessageManager/listUserMessages", body))["body"]
            assert history["hasMore"] == 0
            found = history["userMessageModels"][0]["message"]
            assert found["messageId"] == said["message_id"]
            assert "anyone?" in base64.b64decode(found["content"]["custom"]["data"]).decode()
            assert client.texts() == []


async def test_the_ready_signal_tells_of_unread_chats() -> None:
    """After a login, /s/vulcan carries a notice without words for each chat with something unread."""
    async with market() as shop:
        seller = shop.world.add_seller()
        said = await shop.control("/say", {"account": seller.user_id, "buyer": "anna", "text": "anyone?"})
        async with shop.login(seller) as client:
            ready = next(frame for frame in client.pushed if frame["lwp"] == "/s/vulcan")
            (item,) = ready["body"]["syncPushPackage"]["data"]
            notice = msgpack.unpackb(base64.b64decode(item["data"]), strict_map_key=False)
            assert notice[1] == f"{said['chat_id']}@goofish"
            assert (notice[2], notice[3]) == (1, said["message_id"])


async def test_history_has_pages() -> None:
    """Pages go backwards from the newest without a gap or a repetition."""
    async with market() as shop:
        seller = shop.world.add_seller()
        chat = shop.world.chat(seller, "anna")
        for number in range(5):
            shop.world.buyer_says(seller, chat, str(number))
        async with shop.login(seller) as client:
            seen, cursor, more = [], NEWEST, 1
            while more:
                body = [f"{chat.chat_id}@goofish", False, cursor, 2, False]
                page = (await client.ask("/r/MessageManager/listUserMessages", body))["body"]
                seen += [m["message"]["extension"]["reminderContent"] for m in page["userMessageModels"]]
                cursor, more = page["nextCursor"], page["hasMore"]
            assert seen == ["4", "3", "2", "1", "0"]


async def test_created_chat_is_the_same_for_both_orders_of_the_pair() -> None:
    """Creating a chat is idempotent, and the order of the two users does not matter."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            pair = [f"{seller.user_id}@goofish", "3300000000009@goofish"]
            cids = set()
            for first, second in (pair, pair[::-1]):
                body = [{"pairFirst": first, "pairSecond": second, "extension": {"itemId": "900000000001"}}]
                answer = await client.ask("/r/SingleChatConversation/create", body)
                cids.add(answer["body"]["singleChatConversation"]["cid"])
            assert len(cids) == 1
            stranger = [{"pairFirst": "1@goofish", "pairSecond": "2@goofish"}]
            assert (await client.ask("/r/SingleChatConversation/create", stranger))["code"] == 400


async def test_send_needs_both_users_and_a_chat() -> None:
    """A send without the seller, or into an unknown chat, is refused and stores nothing."""
    async with market() as shop:
        seller = shop.world.add_seller()
        chat = shop.world.chat(seller, "anna")
        async with shop.login(seller) as client:
            assert (await client.send(seller, seller.user_id, chat.chat_id, "x"))["code"] == 500
            assert (await client.send(seller, chat.buyer_id, "1", "x"))["code"] == 400
            assert list(chat.messages) == []


async def test_order_goes_its_way() -> None:
    """Each step of an order is a card in the chat and a red reminder."""
    async with market() as shop:
        seller = shop.world.add_seller()
        item = await shop.control("/items", {"account": seller.user_id, "title": "book", "price": "9.90"})
        words = {"account": seller.user_id, "buyer": "anna", "item_id": item["item_id"], "quantity": 2}
        async with shop.login(seller) as client:
            order = await shop.control("/orders", words)
            for state in ("paid", "shipped", "done"):
                await shop.control(f"/orders/{order['order_id']}/{state}", {})
            await until(lambda: len(client.payloads()) == 8)
            assert client.texts() == [
                "[我已拍下，待付款]",
                "[我已付款，等待你发货]",
                "[你已发货]",
                "[买家确认收货，交易成功]",
            ]
            assert f"order_detail?id={order['order_id']}" in client.messages()[0]["6"]["3"]["5"]
            marks = [p["3"]["redReminder"] for p in client.payloads() if isinstance(p["1"], str)]
            assert marks[:2] == ["等待买家付款", "等待卖家发货"]
            found = (await shop.control(f"/orders?account={seller.user_id}"))["orders"]
            assert [(o["state"], o["price"], o["quantity"]) for o in found] == [("done", "9.90", 2)]


async def test_signing_token_is_given_checked_and_renewed() -> None:
    """No `_m_h5_tk` and a stale one are answered with a new one; a wrong signature is not."""
    async with market() as shop:
        seller = shop.world.add_seller()
        data = {"appKey": KEY, "deviceId": "DID"}
        answer, cookies = await shop.mtop(f"unb={seller.user_id}", TOKEN_API, data)
        assert answer["ret"] == ["FAIL_SYS_TOKEN_EMPTY::令牌为空"]
        fresh = f"unb={seller.user_id}; _m_h5_tk={cookies['_m_h5_tk'].value}"
        assert (await shop.mtop(fresh, TOKEN_API, data))[0]["ret"] == ["SUCCESS::调用成功"]
        await shop.control("/expire", {"account": seller.user_id, "what": "m_h5_tk"})
        answer, cookies = await shop.mtop(fresh, TOKEN_API, data)
        assert answer["ret"] == ["FAIL_SYS_TOKEN_EXOIRED::令牌过期"]
        assert "_m_h5_tk" in cookies
        forged, _ = await shop.mtop(seller.cookies, TOKEN_API, data, token="0" * 32)
        assert forged["ret"] == ["FAIL_SYS_ILLEGAL_ACCESS::非法请求"]


async def test_load_is_counted() -> None:
    """A load is answered once each; a second answer to a question and a missing one are seen."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            words = {"messages": 6, "in_flight": 100, "text": "is #{n} there"}
            load = (await shop.control("/load", words))["load_id"]
            await until(lambda: len(client.texts()) == 6)
            chat = next(iter(seller.chats.values()))
            questions = [m["10"]["reminderContent"] for m in client.messages()]
            for question in questions[:5]:
                await client.send(seller, chat.buyer_id, chat.chat_id, f"yes: {question}")
            shop.world.seller_says(seller, chat, questions[5], hand=True)
            verdict = await shop.control(f"/verdict?load={load}")
            assert (verdict["messages"], verdict["answered"], verdict["lost"]) == (6, 5, 1)
            assert verdict["answered_twice"] == verdict["duplicated_parts"] == 0
            assert verdict["max_ms"] >= verdict["p99_ms"] >= verdict["p50_ms"] > 0
            await client.send(seller, chat.buyer_id, chat.chat_id, f"yes: {questions[0]}")
            await client.send(seller, chat.buyer_id, chat.chat_id, f"really: {questions[1]}")
            verdict = await shop.control("/verdict")
            assert (verdict["answered_twice"], verdict["duplicated_parts"]) == (2, 1)
            assert (await shop.control(f"/loads/{load}"))["done"]


async def test_merged_answer_counts_for_every_question() -> None:
    """One answer may name several questions; a number inside a longer one is not its answer."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            await shop.control("/load", {"messages": 12, "in_flight": 100})
            await until(lambda: len(client.texts()) == 12)
            chat = next(iter(seller.chats.values()))
            await client.send(seller, chat.buyer_id, chat.chat_id, "yes to #11 and #12")
            verdict = await shop.control("/verdict")
            assert (verdict["answered"], verdict["answered_twice"]) == (2, 0)
            assert verdict["lost_tags"] == list(range(1, 11))


async def test_in_flight_bounds_a_load() -> None:
    """A load without a rate asks no more than may be open; an answer makes room."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            load = (await shop.control("/load", {"messages": 10, "in_flight": 2}))["load_id"]
            await until(lambda: len(client.texts()) == 2)
            assert (await shop.control(f"/loads/{load}"))["sent"] == 2
            chat = next(iter(seller.chats.values()))
            await client.send(seller, chat.buyer_id, chat.chat_id, client.texts()[0])
            await until_async(lambda: _sent(shop, load, 3))
            await shop.control(f"/loads/{load}/stop", {})
            assert (await shop.control(f"/loads/{load}"))["done"]


async def _sent(shop: Market, load: str, count: int) -> bool:
    return bool((await shop.control(f"/loads/{load}"))["sent"] == count)


async def test_live_view() -> None:
    """Every message is a line of JSON as it is written."""
    async with market() as shop:
        seller = shop.world.add_seller(nickname="books")
        async with shop.http.get(f"{shop.simulator.http_url}/control/live") as response:
            shop.world.buyer_says(seller, shop.world.chat(seller, "anna"), "hi")
            async with asyncio.timeout(5):
                line = await response.content.readline()
            assert b'"nickname":"books"' in line
            assert b'"text":"hi"' in line


async def test_demo_asks_and_buys() -> None:
    """The demo's buyers speak to a shop that is connected."""
    async with market(demo=True) as shop:
        sellers = list(shop.world.sellers.values())
        assert [len(s.items) for s in sellers] == [2, 2, 2]
        async with shop.login(sellers[0]) as a, shop.login(sellers[1]) as b, shop.login(sellers[2]) as c:
            await until(lambda: bool(a.texts() or b.texts() or c.texts()), 20)


async def test_tls_on_both_ports(tmp_path: Path) -> None:
    """With a certificate both ports speak TLS."""
    paths = self_signed(tmp_path)
    async with market(tls_cert=paths[0], tls_key=paths[1]) as shop:
        assert shop.simulator.ws_url.startswith("wss://")
        connector = aiohttp.TCPConnector(ssl=False)
        async with (
            aiohttp.ClientSession(connector=connector) as http,
            http.get(f"{shop.simulator.http_url}/control/status") as response,
        ):
            assert response.status == 200


def test_other_addresses_need_a_control_token() -> None:
    """The control API is never open to a network without a token."""
    with pytest.raises(InvalidArgument, match="control_token"):
        GoofishSimulator(SimulatorSettings(host="0.0.0.0"))  # noqa: S104 - it is refused


async def test_control_token_is_asked_for() -> None:
    """With a token, calls without it are refused and change nothing."""
    async with market(control_token="secret") as shop:
        await shop.control("/accounts", {"count": 1}, status=401)
        assert shop.world.sellers == {}
        headers = {"Authorization": "Bearer secret"}
        async with shop.http.get(f"{shop.simulator.http_url}/control/status", headers=headers) as response:
            assert response.status == 200


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.text(max_size=60) | st.binary(max_size=60), min_size=1, max_size=20))
def test_noise_does_not_end_a_session(noise: list[str | bytes]) -> None:
    """What is no frame is passed over; the session answers the next heartbeat."""

    async def talk() -> None:
        async with market() as shop, shop.socket() as client:
            for frame in noise:
                await client.ws.send(frame)
            assert (await client.ask("/!"))["code"] == 200

    asyncio.run(talk())
