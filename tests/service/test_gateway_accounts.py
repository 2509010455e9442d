"""Accounts of the gateway on the simulated platform: online, answering once, stopping for people."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest

from frontdesk.api.accounts.v1 import account_service_pb2 as pb
from frontdesk.api.accounts.v1 import platform_service_pb2 as platform_pb
from frontdesk.api.chats.v1 import order_service_pb2 as orders_pb
from frontdesk.api.events.v1 import event_pb2
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.principal import Principal, current_principal
from support.shop import ORGANIZATION, Shop
from support.waiting import until


async def test_a_buyer_is_answered_once(shop: Shop) -> None:
    """From the push on the socket to the answer in the chat, with every step told."""
    seller, account = await shop.open()
    assert account.session.state == event_pb2.SESSION_STATE_CONNECTED
    await shop.rule()
    shop.ask(seller, "what is the price #1")
    await shop.answered(seller, 1)
    assert shop.answers(seller) == ["it is 5: what is the price #1"]
    await until(lambda: len(shop.replies_of()) == 1)
    reply = shop.replies_of()[0].reply
    assert reply.state == event_pb2.SEND_STATE_CONFIRMED
    chat = shop.simulator.world.chat(seller, "anna")
    assert reply.message_id == chat.messages[-1].message_id
    # The echo of our own send is no take-over: the next question is answered too.
    shop.ask(seller, "and the price now?")
    await shop.answered(seller, 2)


async def test_all_parts_come_in_order(shop: Shop) -> None:
    """An answer of three parts stands in the chat as three messages, in order."""
    seller, _ = await shop.open()
    await shop.rule("price", "one|two|three")
    shop.ask(seller, "price?")
    await shop.answered(seller, 3)
    assert shop.answers(seller) == ["one", "two", "three"]


async def test_what_the_seller_types_pauses_the_chat(shop: Shop) -> None:
    """A message typed by hand is told from our own echo, and keeps the machine silent in that chat only."""
    seller, _ = await shop.open()
    await shop.rule()
    world = shop.simulator.world
    shop.ask(seller, "price?")
    await shop.answered(seller, 1)
    world.seller_says(seller, world.chat(seller, "anna"), "I take over", hand=True)
    await until(lambda: any(e.message.message.text == "I take over" for e in shop.replies_of("message")))
    shop.ask(seller, "price again?")
    shop.ask(seller, "price?", buyer="ben")
    await shop.answered(seller, 1, "ben")
    assert len(shop.answers(seller)) == 1


async def test_pushes_twice_late_broken_and_in_one_frame(shop: Shop) -> None:
    """Duplicates, reordering, batches, plain payloads and broken frames change nothing for buyers."""
    seller, _ = await shop.open()
    await shop.rule()
    shop.simulator.faults.set(
        None,
        {
            "duplicate_pushes": 0.7,
            "reorder_pushes": 0.3,
            "batch_pushes": 3,
            "plain_payloads": 0.5,
            "malformed_frames": 12,
        },
    )
    for number in range(20):
        shop.ask(seller, f"price #{number}", buyer=f"buyer-{number}")
    for number in range(20):
        await shop.answered(seller, 1, f"buyer-{number}")
    assert all(len(shop.answers(seller, f"buyer-{n}")) == 1 for n in range(20))


async def test_what_was_missed_is_read_back(shop: Shop) -> None:
    """Messages of an absence are answered after it, once; the token is used again."""
    seller, account = await shop.open()
    await shop.rule()
    shop.ask(seller, "price #1")
    await shop.answered(seller, 1)
    shop.simulator.faults.set(None, {"refuse_connections": True})
    for session in list(shop.simulator.hub.sessions):
        session.close(1006)
    await shop.until_state(account.account_id, event_pb2.SESSION_STATE_RECONNECTING)
    shop.ask(seller, "price #2")
    shop.ask(seller, "price #3", buyer="ben")
    shop.simulator.faults.clear()
    await shop.answered(seller, 2)
    await shop.answered(seller, 1, "ben")
    assert shop.answers(seller)[1] == "it is 5: price #2"
    assert shop.simulator.hub.calls["mtop.taobao.idlemessage.pc.login.token"] == 1


async def test_messages_before_the_first_login_are_history(shop: Shop) -> None:
    """What stood in a chat before the account was added is stored and not answered."""
    seller = shop.simulator.world.add_seller()
    shop.ask(seller, "price of yesterday")
    await shop.rule()
    created = await shop.accounts.CreateAccount(
        pb.CreateAccountRequest(organization_id=ORGANIZATION, cookies=seller.cookies, wait=True), timeout=30
    )
    assert created.account.session.state == event_pb2.SESSION_STATE_CONNECTED
    await until(lambda: len(shop.replies_of("message")) == 1)
    shop.ask(seller, "price?", buyer="ben")
    await until(lambda: len(shop.answers(seller, "ben")) == 1)
    assert not shop.answers(seller)


async def test_a_send_without_an_answer_is_looked_up(shop: Shop) -> None:
    """A send whose answer never comes is found in the chat's history and not written again."""
    seller, _ = await shop.open()
    await shop.rule()
    shop.simulator.faults.set(None, {"drop_send_answers": 1.0})
    shop.ask(seller, "price #1")
    await shop.answered(seller, 1)
    await until(lambda: len(shop.replies_of()) == 1, timeout=25)
    assert shop.replies_of()[0].reply.state == event_pb2.SEND_STATE_CONFIRMED
    assert len(shop.answers(seller)) == 1


async def test_a_refused_text_calls_a_person(shop: Shop) -> None:
    """The platform's refusal of a content is reported, not repeated."""
    seller, _ = await shop.open()
    await shop.rule()
    shop.simulator.faults.set(None, {"reject_sends": "CSI_FORBID||安全拦截"})
    shop.ask(seller, "price #1")
    await until(lambda: len(shop.replies_of()) == 1)
    reply = shop.replies_of()[0].reply
    assert reply.state == event_pb2.SEND_STATE_REJECTED
    assert "CSI_FORBID" in reply.reason
    await until(lambda: any(e.alert.code == "send_failed" for e in shop.replies_of("alert")))
    assert shop.simulator.hub.sends == 1


async def test_risk_control_stops_the_account(shop: Shop) -> None:
    """FAILED at once, with the page for a person, one alert, and no further call; a restart leads out."""
    shop.simulator.faults.set(None, {"risk_control": True})
    seller, account = await shop.open()
    assert account.session.state == event_pb2.SESSION_STATE_FAILED
    assert account.session.reason_code == "risk_control"
    assert "punish" in account.session.action_url
    calls = dict(shop.simulator.hub.calls)
    await until(lambda: len(shop.replies_of("alert")) == 1)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shop.platform.GetItem(
            platform_pb.GetItemRequest(account_id=account.account_id, item_id="900000000001"), timeout=5
        )
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert shop.simulator.hub.calls == calls
    shop.simulator.faults.clear()
    restarted = await shop.accounts.RestartAccount(
        pb.RestartAccountRequest(account_id=account.account_id, wait=True), timeout=30
    )
    assert restarted.account.session.state == event_pb2.SESSION_STATE_CONNECTED
    assert seller.listener is not None


async def test_a_login_that_can_be_renewed_is(shop: Shop) -> None:
    """An expired session is renewed by hasLogin once; one that is gone needs a person."""
    seller, account = await shop.open()
    seller.logged_in = False
    seller.tokens.clear()
    await shop.accounts.RestartAccount(
        pb.RestartAccountRequest(account_id=account.account_id, wait=True), timeout=30
    )
    await shop.until_state(account.account_id, event_pb2.SESSION_STATE_CONNECTED)
    assert shop.simulator.hub.calls["hasLogin.do"] == 1
    seller.logged_in = seller.renewable = False
    seller.tokens.clear()
    failed = await shop.accounts.RestartAccount(
        pb.RestartAccountRequest(account_id=account.account_id, wait=True), timeout=30
    )
    if failed.account.session.state != event_pb2.SESSION_STATE_FAILED:
        await shop.until_state(account.account_id, event_pb2.SESSION_STATE_FAILED)
    assert (await shop.account(account.account_id)).session.reason_code == "login_gone"
    assert shop.simulator.hub.calls["hasLogin.do"] == 2


async def test_people_steer_accounts(shop: Shop) -> None:
    """Stop, start, rename, watch, remove; cookies are shown nowhere."""
    seller, account = await shop.open("first")
    watch = shop.accounts.WatchSessions(pb.WatchSessionsRequest(organization_id=ORGANIZATION))
    standing = await watch.read()
    assert isinstance(standing, pb.WatchSessionsResponse)
    assert standing.session.state == event_pb2.SESSION_STATE_CONNECTED
    stopped = await shop.accounts.StopAccount(
        pb.StopAccountRequest(account_id=account.account_id), timeout=10
    )
    assert stopped.account.session.state == event_pb2.SESSION_STATE_CLOSED
    change = await watch.read()
    assert isinstance(change, pb.WatchSessionsResponse)
    assert change.session.state == event_pb2.SESSION_STATE_CLOSED
    watch.cancel()
    await until(lambda: seller.listener is None)
    started = await shop.accounts.StartAccount(
        pb.StartAccountRequest(account_id=account.account_id, wait=True), timeout=30
    )
    assert started.account.session.state == event_pb2.SESSION_STATE_CONNECTED
    renamed = await shop.accounts.UpdateAccount(
        pb.UpdateAccountRequest(account_id=account.account_id, name="second"), timeout=10
    )
    assert renamed.account.name == "second"
    listed = await shop.accounts.ListAccounts(pb.ListAccountsRequest(organization_id=ORGANIZATION), timeout=5)
    assert seller.session not in str(listed)
    await shop.accounts.DeleteAccount(pb.DeleteAccountRequest(account_id=account.account_id), timeout=10)
    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await shop.account(account.account_id)
    assert gone.value.code() == grpc.StatusCode.NOT_FOUND


async def test_strangers_and_bad_input(shop: Shop, tmp_path: Path) -> None:
    """Another organization's account does not exist; bad fields are named; nothing is stored in clear."""
    seller, account = await shop.open()
    current_principal.set(Principal("eve", "other", "owner"))
    with pytest.raises(grpc.aio.AioRpcError) as hidden:
        await shop.account(account.account_id)
    assert hidden.value.code() == grpc.StatusCode.NOT_FOUND
    for request, field in (
        (pb.CreateAccountRequest(cookies="no user"), "cookies"),
        (pb.CreateAccountRequest(cookies="unb=1", platform="ebay"), "platform"),
        (pb.CreateAccountRequest(cookies="unb=1", name="x" * 201), "name"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await shop.accounts.CreateAccount(request, timeout=5)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert str(refused.value.details()).startswith(field)
    with pytest.raises(grpc.aio.AioRpcError) as twice:
        await shop.accounts.CreateAccount(pb.CreateAccountRequest(cookies=seller.cookies), timeout=5)
    assert twice.value.code() == grpc.StatusCode.ALREADY_EXISTS
    files = ("gateway.db", "gateway.db-wal")
    stored = b"".join([await asyncio.to_thread((tmp_path / name).read_bytes) for name in files])
    assert account.account_id.encode() in stored
    assert seller.session.encode() not in stored


async def test_two_gateways_share_the_accounts(shop: Shop) -> None:
    """A second replica takes its share, each account has one socket, and all are answered on the way."""
    sellers = [(await shop.open(f"shop-{n}"))[0] for n in range(12)]
    await shop.rule()
    second = await shop.add_gateway("gateway-1")
    for number in range(4):
        for seller in sellers:
            shop.ask(seller, f"price #{number}")
        await asyncio.sleep(0.4)
    for seller in sellers:  # four answers, or fewer to questions that were asked together
        await until(lambda seller=seller: "#3" in " ".join(shop.answers(seller)), timeout=30)  # type: ignore[misc]
    await until(lambda: len(second.supervisor.owned) > 10, timeout=30)
    first = shop.gateways[0]
    await until(lambda: not set(first.supervisor.owned) & set(second.supervisor.owned))
    await until(lambda: all(s.listener is not None for s in sellers), timeout=20)
    await asyncio.sleep(1)
    for seller in sellers:
        questions = " ".join(shop.answers(seller))
        assert [questions.count(f"#{n}") for n in range(4)] == [1, 1, 1, 1]


async def test_a_paid_order_is_delivered_once(shop: Shop) -> None:
    """A card goes to the buyer when the order is paid, and the platform hears that it is shipped."""
    seller, account = await shop.open()
    world = shop.simulator.world
    item = world.add_item(seller, "a code", "9.90")
    delivery = orders_pb.Delivery(
        account_id=account.account_id,
        item_id=item.item_id,
        enabled=True,
        confirm_shipping=True,
        template="yours: {card}",
    )
    await shop.orders.SetDelivery(orders_pb.SetDeliveryRequest(delivery=delivery), timeout=10)
    await shop.orders.AddCards(
        orders_pb.AddCardsRequest(account_id=account.account_id, item_id=item.item_id, cards=["C-1", "C-2"]),
        timeout=10,
    )
    chat = world.chat(seller, "anna", item.item_id)
    order = world.place_order(seller, chat)
    world.move_order(order, "paid")
    await until(lambda: order.state == "shipped", timeout=20)
    world.move_order(order, "paid")  # the platform repeats itself
    await asyncio.sleep(1)
    assert [text.strip() for text in shop.answers(seller)] == ["yours: C-1"]


async def test_a_deaf_connection_is_read_back(nats_server: NatsServer, tmp_path: Path) -> None:
    """Heartbeats are answered, pushes are not sent: the regular read-back finds what was said."""
    shop = Shop(nats_server, tmp_path, FRONTDESK_READ_BACK_SECONDS="10")
    await shop.start()
    seller, _ = await shop.open()
    await shop.rule()
    shop.simulator.faults.set(None, {"zombie": True})
    shop.ask(seller, "price #1")
    await shop.answered(seller, 1, timeout=25)
    assert seller.registrations == 1
    await shop.stop()


async def test_a_kick_is_answered_after_a_while(shop: Shop) -> None:
    """Another login takes the account: it is FAILED only when that goes on, and comes back before."""
    seller, account = await shop.open()
    session = next(iter(shop.simulator.hub.sessions))
    session.kick()
    await shop.until_state(account.account_id, event_pb2.SESSION_STATE_RECONNECTING)
    assert (await shop.account(account.account_id)).session.reason_code == "kicked"
    await shop.until_state(account.account_id, event_pb2.SESSION_STATE_CONNECTED)
    assert seller.registrations == 2
    assert shop.simulator.hub.calls["mtop.taobao.idlemessage.pc.login.token"] == 1


async def test_uptime_is_kept(shop: Shop) -> None:
    """Seconds online are stored by the hour and shown as a ratio."""
    _, account = await shop.open()
    await shop.gateways[0].monitor.store()
    answer = await shop.accounts.GetUptime(pb.GetUptimeRequest(account_id=account.account_id), timeout=5)
    assert len(answer.hours) >= 1
    assert 0 < answer.ratio <= 1


async def test_a_replica_holds_so_many_accounts(nats_server: NatsServer, tmp_path: Path) -> None:
    """CG-45: over the limit an account stays offline and a person is told; the others go on."""
    shop = Shop(nats_server, tmp_path, FRONTDESK_MAX_ACCOUNTS="1")
    await shop.start()
    first, _ = await shop.open()
    second, _ = await shop.open("second", wait=False)
    await until(lambda: any(e.alert.code == "too_many_accounts" for e in shop.replies_of("alert")))
    await shop.rule()
    shop.ask(first, "price?")
    await shop.answered(first, 1)
    assert second.listener is None
    await shop.stop()


async def test_a_short_lived_token_is_no_storm(shop: Shop) -> None:
    """A token that lives shorter than the margin is used until its last tenth, and renewed once."""
    shop.simulator.faults.set(None, {"token_life_ms": 60_000})
    seller, _ = await shop.open()
    await shop.rule()
    shop.ask(seller, "price?")
    await shop.answered(seller, 1)
    await asyncio.sleep(2.5)  # two rounds of the monitor
    assert shop.simulator.hub.calls["mtop.taobao.idlemessage.pc.login.token"] == 1
    assert seller.registrations == 1


async def test_a_token_that_runs_out_is_renewed(nats_server: NatsServer, tmp_path: Path) -> None:
    """Before its end a new token is fetched and the connection made anew with it; nothing is lost."""
    shop = Shop(nats_server, tmp_path, FRONTDESK_TOKEN_PAUSE_SECONDS="1")
    await shop.start()
    shop.simulator.faults.set(None, {"token_life_ms": 2_000})
    seller, _ = await shop.open()
    shop.simulator.faults.clear()
    await shop.rule()
    await until(lambda: seller.registrations == 2, timeout=15)
    shop.ask(seller, "price?")
    await shop.answered(seller, 1)
    assert shop.simulator.hub.calls["mtop.taobao.idlemessage.pc.login.token"] == 2
    await shop.stop()


async def test_a_login_that_ran_out_between_calls(shop: Shop) -> None:
    """A question over HTTP renews the login once and is asked again; the connection stays."""
    seller, account = await shop.open()
    item = shop.simulator.world.add_item(seller, "a lamp", "12.00")
    seller.logged_in = False
    request = platform_pb.GetItemRequest(account_id=account.account_id, item_id=item.item_id)
    assert (await shop.platform.GetItem(request, timeout=10)).title == "a lamp"
    assert shop.simulator.hub.calls["hasLogin.do"] == 1
    assert seller.registrations == 1
