"""Sessions of the gateway when several things happen at once, or something breaks in the middle."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import NoReturn, cast

import pytest

from frontdesk.api.accounts.v1 import account_service_pb2 as pb
from frontdesk.api.events.v1 import event_pb2
from frontdesk.api.events.v1.inbound_pb2 import Inbound
from frontdesk.connection_gateway.accounts.login import AccountLogin
from frontdesk.connection_gateway.errors import NotOwned
from frontdesk.connection_gateway.model import State
from frontdesk.connection_gateway.platforms.model import ChatMessage, Push
from frontdesk.kit.errors import Unavailable
from frontdesk.kit.nats_server import NatsServer
from support.shop import Shop
from support.waiting import until


def spoken(text: str, at_ms: int, message_id: str) -> ChatMessage:
    """What a buyer said."""
    return ChatMessage("c@goofish", message_id, "b", "ben", text, 1, (), "", at_ms, False, False, "b")


async def test_restarts_at_once_and_restarts_nobody_waits_for(shop: Shop) -> None:
    """Five at once and one that is given up: one session, online, and buyers are answered."""
    seller, account = await shop.open()
    await shop.rule()
    request = pb.RestartAccountRequest(account_id=account.account_id)
    given_up = shop.accounts.RestartAccount(request, timeout=10)
    waiting = asyncio.ensure_future(given_up)
    await asyncio.sleep(0.005)
    given_up.cancel()
    await asyncio.gather(*(shop.accounts.RestartAccount(request, timeout=10) for _ in range(5)))
    await asyncio.gather(waiting, return_exceptions=True)
    await shop.until_state(account.account_id, event_pb2.SESSION_STATE_CONNECTED)
    shop.ask(seller, "price?")
    await shop.answered(seller, 1)
    assert len(shop.simulator.hub.sessions) == 1


async def test_answers_survive_a_restart(shop: Shop) -> None:
    """What waits to be said while the account is restarted is said afterwards."""
    seller, account = await shop.open()
    await shop.rule()
    restarting = shop.accounts.RestartAccount(
        pb.RestartAccountRequest(account_id=account.account_id, wait=True), timeout=30
    )
    for number in range(5):
        shop.ask(seller, f"price #{number}", buyer=f"buyer-{number}")
    await restarting
    for number in range(5):
        await shop.answered(seller, 1, f"buyer-{number}")


async def test_a_session_that_died_is_started_again(shop: Shop) -> None:
    """Whatever ended its task, an enabled account is brought online again."""
    seller, account = await shop.open()
    session = shop.only_session
    assert session._task is not None
    session._task.cancel()
    await until(lambda: not session.running)
    await until(lambda: session.running and session.account.state is State.CONNECTED)
    await shop.until_state(account.account_id, event_pb2.SESSION_STATE_CONNECTED)
    assert seller.registrations == 2


@pytest.mark.parametrize("error", [Unavailable("the database is away"), ValueError("a bug")])
async def test_a_fault_is_no_reason_for_a_person(shop: Shop, error: Exception) -> None:
    """An outage, or a bug, in the middle of a connection leads to the next attempt, not to FAILED."""
    _, account = await shop.open()
    session = shop.only_session

    class Broken:
        """A login that can't be used."""

        due = unsaved = False

        async def token(self) -> NoReturn:
            raise error

    good, session.login = session.login, cast("AccountLogin", Broken())
    session.reconnect("a test")
    await until(
        lambda: session.account.state is State.RECONNECTING and "next attempt" in session.account.reason
    )
    assert session.account.reason_code == "connection"
    session.login = good
    await shop.until_state(account.account_id, event_pb2.SESSION_STATE_CONNECTED)


async def test_a_lost_shard_is_silent_at_once(shop: Shop) -> None:
    """Before anything is waited for, its sessions may neither speak nor hear."""
    _, account = await shop.open()
    session = shop.only_session
    supervisor = shop.gateways[0].supervisor
    assert session.holds()
    losing = asyncio.create_task(supervisor.lost(session.account.shard))
    await asyncio.sleep(0)
    assert not session.holds()
    losing.cancel()  # however its caller hurries
    await until(lambda: not session.running and not shop.simulator.hub.sessions)
    with pytest.raises(NotOwned):
        await supervisor.get(account.account_id)


async def test_a_session_of_an_older_epoch_holds_nothing(shop: Shop) -> None:
    """A shard that went away and came back is held by the sessions made for it, not by older ones."""
    await shop.open()
    session = shop.only_session
    session.account.epoch -= 1
    assert not session.holds()
    session.account.epoch += 1


async def test_an_account_over_the_limit_is_told_once(nats_server: NatsServer, tmp_path: Path) -> None:
    """However often it is looked at; it starts when there is a place."""
    shop = Shop(nats_server, tmp_path, FRONTDESK_MAX_ACCOUNTS="1")
    await shop.start()
    _, first = await shop.open()
    _, second = await shop.open("second", wait=False)
    for _ in range(3):
        await shop.gateways[0].supervisor.look()
    await shop.gateways[0].journal.flush(5)
    await until(lambda: bool(shop.replies_of("alert")))
    assert [e.alert.code for e in shop.replies_of("alert")] == ["too_many_accounts"]
    await shop.accounts.StopAccount(pb.StopAccountRequest(account_id=first.account_id), timeout=10)
    await shop.until_state(second.account_id, event_pb2.SESSION_STATE_CONNECTED)
    await shop.stop()


async def test_a_backlog_pushed_at_a_first_login_is_history(shop: Shop) -> None:
    """What a buyer said before the account was added is stored; what comes after is answered."""
    await shop.open()
    inbound = await shop.gateways[0].bus.nc.subscribe("inbound.>")
    session = shop.only_session
    assert session.intake.history_before_ms > 0
    push = Push("/s/sync", {})
    old = spoken("hello of yesterday", session.intake.history_before_ms - 60_000, "old.1")
    await session.intake.on_push(push, [old])
    new = spoken("hello of today", session.intake.history_before_ms + 60_000, "new.1")
    await session.intake.on_push(push, [new])
    kept = [Inbound.FromString((await inbound.next_msg(5)).data) for _ in range(2)]
    assert {i.message.message_id: i.history for i in kept} == {"old.1": True, "new.1": False}
    session.reconnect("a test")
    await until(lambda: session.intake.history_before_ms == 0)


async def test_what_waits_for_nats_was_heard(shop: Shop, nats_server: NatsServer) -> None:
    """A push that can't be stored yet is no push that was missed, nor is one that is long stored."""
    await shop.open()
    session = shop.only_session
    message = spoken("hello", round(time.time() * 1000) - 60, "new.1")
    assert not session.intake.has_heard(message)
    await nats_server.stop()
    await session.intake.on_push(Push("/s/sync", {}), [message])
    assert session.intake.has_heard(message)
    assert 50 <= (session.intake.ahead_ms or 0) < 10_000
    await nats_server.start()
    await until(lambda: not session.intake._tasks, timeout=30)


async def test_new_cookies_replace_the_old(shop: Shop) -> None:
    """Pasted cookies are used at once, and a token is asked for with them."""
    seller, account = await shop.open()
    before = shop.simulator.hub.calls["mtop.taobao.idlemessage.pc.login.token"]
    await shop.accounts.UpdateAccount(
        pb.UpdateAccountRequest(account_id=account.account_id, cookies=f"{seller.cookies}; fresh=1"),
        timeout=10,
    )
    await shop.until_state(account.account_id, event_pb2.SESSION_STATE_CONNECTED)
    store = shop.only_session.login._store
    assert "fresh=1" in (await store.login(account.account_id)).cookies
    assert shop.simulator.hub.calls["mtop.taobao.idlemessage.pc.login.token"] == before + 1


async def test_a_removed_account_is_gone(shop: Shop) -> None:
    """Its session ends, its row too, and nothing brings it back."""
    _, account = await shop.open()
    await shop.accounts.DeleteAccount(pb.DeleteAccountRequest(account_id=account.account_id), timeout=10)
    await shop.gateways[0].supervisor.look()
    assert not list(shop.gateways[0].supervisor.sessions())
    await until(lambda: not shop.simulator.hub.sessions)
