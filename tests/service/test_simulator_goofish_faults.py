"""Every fault of the simulated Goofish does what it says, and bad input of the control API is named."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from support.goofish_client import KEY, TOKEN_API, Client, Market, market
from support.waiting import until

TOKEN_DATA = {"appKey": KEY, "deviceId": "DID"}


async def _say(shop: Market, account: str, *texts: str) -> str:
    """A buyer's messages; the chat's id."""
    for text in texts:
        said = await shop.control("/say", {"account": account, "buyer": "anna", "text": text})
    return str(said["chat_id"])


async def _answers(client: Client) -> bool:
    """Whether heartbeats are answered."""
    return bool((await client.ask("/!"))["code"] == 200)


async def test_zombie_answers_heartbeats_only() -> None:
    """Pushes stop without any other sign; the messages are kept."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            await shop.faults(seller.user_id, zombie=True)
            await _say(shop, seller.user_id, "hi")
            assert await _answers(client)
            assert client.texts() == []
            assert [m.text for c in seller.chats.values() for m in c.messages] == ["hi"]


async def test_missed_pushes_are_stored() -> None:
    """A message that is not pushed is in the chat all the same."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            await shop.faults(missed_pushes=1)
            await _say(shop, seller.user_id, "lost")
            await shop.control("/faults", method="DELETE")
            await _say(shop, seller.user_id, "seen")
            await until(lambda: client.texts() == ["seen"])


async def test_half_open_is_silent_and_heals() -> None:
    """The socket stays open, nothing is answered; afterwards it goes on where it stood."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            await shop.faults(seller.user_id, half_open=True)
            waiting = asyncio.create_task(_answers(client))
            done, _ = await asyncio.wait({waiting}, timeout=0.2)
            assert not done
            assert client.code is None
            await shop.faults(seller.user_id, half_open=False)
            assert await waiting


async def test_duplicate_pushes_carry_one_id() -> None:
    """The same message comes in two frames with the same message id."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            await shop.faults(duplicate_pushes=1)
            await _say(shop, seller.user_id, "hi")
            await until(lambda: client.texts() == ["hi", "hi"])
            assert len({m["3"] for m in client.messages()}) == 1
            assert len({f["headers"]["mid"] for f in client.pushed}) == len(client.pushed)


async def test_reordered_pushes_come_late() -> None:
    """A late push is overtaken by the next."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            await shop.faults(reorder_pushes=1)
            await _say(shop, seller.user_id, "first")
            await shop.faults(reorder_pushes=0)
            await _say(shop, seller.user_id, "second")
            await until(lambda: client.texts() == ["second", "first"])


async def test_batches_share_a_frame() -> None:
    """Several messages come in one frame; an unfilled batch comes after a moment."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            await shop.faults(batch_pushes=3)
            chat = shop.world.chat(seller, "anna")
            for number in range(4):
                shop.world.buyer_says(seller, chat, str(number))
            await until(lambda: client.texts() == ["0", "1", "2", "3"])
            frames = [f["body"]["syncPushPackage"]["data"] for f in client.pushed if f["lwp"] == "/s/sync"]
            assert [len(data) for data in frames] == [3, 1]


async def test_unacknowledged_push_comes_again() -> None:
    """It has the same mid and id; an acknowledgement ends it."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            client.acks = False
            await shop.faults(repush_ms=30)
            await _say(shop, seller.user_id, "hi")
            await until(lambda: len(client.texts()) >= 3)
            assert len({m["3"] for m in client.messages()}) == 1
            client.acks = True
            await until(lambda: shop.simulator.hub.acks == 1)


async def test_plain_payloads_are_json() -> None:
    """The payload says the same, coded as JSON."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            await shop.faults(plain_payloads=1)
            await _say(shop, seller.user_id, "hi")
            await until(lambda: client.texts() == ["hi"])
            data = client.pushed[-1]["body"]["syncPushPackage"]["data"][0]["data"]
            assert data.startswith("eyI")  # base64 of `{"`


async def test_malformed_frames_come_before_pushes() -> None:
    """Each is broken in its own way; the real push follows."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            await shop.faults(seller.user_id, malformed_frames=6)
            await _say(shop, seller.user_id, *"abcdef")
            await until(lambda: client.texts() == list("abcdef"))
            assert "{" in client.broken
            assert len(client.pushed) + len(client.broken) >= 12


async def test_replay_after_a_login_with_get_state() -> None:
    """What came in an absence is pushed when the client asked for its state, and only then."""
    async with market() as shop:
        seller = shop.world.add_seller()
        await shop.faults(replay_on_reconnect=True)
        await _say(shop, seller.user_id, "anyone?")
        async with shop.login(seller) as client:
            await client.ask("/r/SyncStatus/ackDiff", [{"pts": 1}])
            assert client.texts() == []
            state = await client.ask("/r/SyncStatus/getState", [{"topic": "sync"}])
            await client.ask("/r/SyncStatus/ackDiff", [state["body"]])
            await until(lambda: client.texts() == ["anyone?"])


async def test_forged_ack_diff_is_refused_on_request() -> None:
    """400 without a getState before it, 200 after one."""
    async with market() as shop:
        seller = shop.world.add_seller()
        await shop.faults(forged_ackdiff_400=True)
        async with shop.login(seller) as client:
            assert (await client.ask("/r/SyncStatus/ackDiff", [{"pts": 1}]))["code"] == 400
            await client.ask("/r/SyncStatus/getState", [{"topic": "sync"}])
            assert (await client.ask("/r/SyncStatus/ackDiff", [{}]))["code"] == 200


async def test_send_without_an_answer_is_stored() -> None:
    """The buyer has the message, the client hears nothing but its own echo."""
    async with market() as shop:
        seller = shop.world.add_seller()
        chat = shop.world.chat(seller, "anna")
        await shop.faults(drop_send_answers=1)
        async with shop.login(seller) as client:
            sending = asyncio.create_task(client.send(seller, chat.buyer_id, chat.chat_id, "x"))
            await until(lambda: client.texts() == ["x"])
            assert await _answers(client)
            assert not sending.done()
            sending.cancel()
            assert [m.text for m in chat.messages] == ["x"]


async def test_refused_send_is_not_stored() -> None:
    """Content that the platform forbids has a reason and reaches nobody."""
    async with market() as shop:
        seller = shop.world.add_seller()
        chat = shop.world.chat(seller, "anna")
        await shop.faults(reject_sends="CSI_FORBID||安全拦截")
        async with shop.login(seller) as client:
            answer = await client.send(seller, chat.buyer_id, chat.chat_id, "x")
            assert answer["body"]["moreInfo"] == "CSI_FORBID||安全拦截"
            assert list(chat.messages) == []


async def test_temporary_send_errors_are_used_up() -> None:
    """So many sends fail, the next is taken."""
    async with market() as shop:
        seller = shop.world.add_seller()
        chat = shop.world.chat(seller, "anna")
        await shop.faults(temporary_send_errors=1)
        async with shop.login(seller) as client:
            codes = [
                (await client.send(seller, chat.buyer_id, chat.chat_id, text))["code"] for text in ("x", "x")
            ]
            assert codes == [500, 200]
            assert [m.text for m in chat.messages] == ["x"]


async def test_register_is_refused_with_a_reason() -> None:
    """A limit of the platform."""
    async with market() as shop:
        seller = shop.world.add_seller()
        token = await shop.token(seller)
        await shop.faults(seller.user_id, reg_reject="connect limit")
        async with shop.socket() as client:
            answer = await client.register(token)
            assert (answer["code"], answer["body"]["reason"]) == (401, "connect limit")
            listed = (await shop.control("/accounts"))["accounts"][0]
            assert listed["last_error"] == "connect limit"


async def test_connections_are_refused() -> None:
    """The upgrade is answered with 503."""
    async with market() as shop:
        await shop.faults(refuse_connections=True)
        with pytest.raises(InvalidStatus):
            async with shop.socket():
                pass


async def test_slow_answers() -> None:
    """Answers come so late, and in their order to others."""
    async with market() as shop, shop.socket() as client:
        await shop.faults(slow_answers_ms=60)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert await _answers(client)
        assert loop.time() - begun >= 0.06


@pytest.mark.parametrize(
    ("fault", "ret"),
    [
        ({"risk_control": True}, "RGV587_ERROR::SM::哎哟喂,被挤爆啦,请稍后重试"),
        ({"mtop_errors": {TOKEN_API: "FAIL_SYS_TRAFFIC_LIMIT::限流"}}, "FAIL_SYS_TRAFFIC_LIMIT::限流"),
    ],
)
async def test_mtop_calls_fail(fault: dict[str, Any], ret: str) -> None:
    """`ret` has the platform's words; risk control has the page to open."""
    async with market() as shop:
        seller = shop.world.add_seller()
        await shop.faults(seller.user_id, **fault)
        answer, _ = await shop.mtop(seller.cookies, TOKEN_API, TOKEN_DATA)
        assert answer["ret"][-1] == ret
        assert ("punish" in answer["data"].get("url", "")) == ("risk_control" in fault)


@pytest.mark.parametrize(("fault", "status"), [({"html": True}, 200), ({"http_status": 502}, 502)])
async def test_http_answers_no_json(fault: dict[str, Any], status: int) -> None:
    """A gateway in front of the platform speaks for it."""
    async with market() as shop:
        await shop.faults(**fault)
        async with shop.http.post(f"{shop.simulator.http_url}/h5/{TOKEN_API}/1.0/", data={}) as response:
            assert response.status == status
            assert response.content_type == ("text/html" if status == 200 else "application/json")


async def test_session_expired_is_said_and_renewed() -> None:
    """A session that ended is renewed by hasLogin; a login that ended is not."""
    async with market() as shop:
        seller = shop.world.add_seller()
        for what, good in (("session", True), ("login", False)):
            await shop.control("/expire", {"account": seller.user_id, "what": what})
            answer, _ = await shop.mtop(seller.cookies, TOKEN_API, TOKEN_DATA)
            assert answer["ret"] == ["FAIL_SYS_SESSION_EXPIRED::Session过期"]
            url = f"{shop.simulator.http_url}/newlogin/hasLogin.do"
            async with shop.http.post(url, headers={"Cookie": seller.cookies}) as response:
                assert (await response.json())["content"]["success"] is good


async def test_token_life() -> None:
    """A token whose life is over no longer logs in."""
    async with market() as shop:
        seller = shop.world.add_seller()
        await shop.faults(token_life_ms=1)
        token = await shop.token(seller)
        await until(lambda: seller.tokens[token][1] < shop.world.now_ms())
        async with shop.socket() as client:
            assert (await client.register(token))["body"]["reason"] == "token invalid"


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, 1012, 1013, 4000])
async def test_sockets_close_with_a_code(code: int) -> None:
    """1006 is the end of the connection without a word."""
    async with market() as shop:
        seller = shop.world.add_seller()
        async with shop.login(seller) as client:
            closed = await shop.control("/sockets/close", {"account": seller.user_id, "code": code})
            assert closed == {"closed": 1}
            await until(lambda: client.code == code)
            await until(lambda: seller.listener is None)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/say", {"account": "", "text": "x"}, "account"),
        ("/faults", {"zombi": True}, "zombi"),
        ("/faults", {"zombie": 1}, "zombie"),
        ("/faults", {"missed_pushes": 2}, "missed_pushes"),
        ("/faults", {"repush_ms": -1}, "repush_ms"),
        ("/accounts", {"count": 0}, "count"),
        ("/accounts", {"accounts": [{"user_id": "x"}]}, "user_id"),
        ("/accounts", {"accounts": ["x"]}, "body"),
        ("/items", {"title": "x", "price": "1"}, "account"),
        ("/load", {"text": "no mark"}, "text"),
        ("/load", {"accounts": "all"}, "accounts"),
        ("/load", {"in_flight": 0}, "in_flight"),
        ("/sockets/close", {"code": 1002}, "code"),
        ("/expire", {"what": "all"}, "account"),
        ("/accounts", [], "body"),
    ],
)
async def test_bad_input_names_its_field(path: str, body: object, field: str) -> None:
    """400 (404 for what does not exist) with the field in words."""
    async with market() as shop:
        shop.world.add_seller()
        url = f"{shop.simulator.http_url}/control{path}"
        async with shop.http.post(url, json=body) as response:
            assert response.status in (400, 404)
            assert field in (await response.json())["error"]


async def test_unknown_things_are_404() -> None:
    """Loads, orders, chats and accounts that are not there."""
    async with market() as shop:
        seller = shop.world.add_seller()
        for path in ("/loads/9", "/verdict?load=9", "/accounts/9", f"/chats?account={seller.user_id}&chat=9"):
            await shop.control(path, status=404)
        await shop.control("/orders/9/paid", {}, status=404)
