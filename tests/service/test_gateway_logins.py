"""New cookies, refused questions, removals and looks, each in the middle of something else."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import grpc
import grpc.aio
import pytest

from frontdesk.api.accounts.v1 import account_service_pb2 as pb
from frontdesk.api.events.v1 import event_pb2
from frontdesk.connection_gateway.model import Account, Login, State
from frontdesk.connection_gateway.platforms.base import PlatformHttp
from frontdesk.connection_gateway.platforms.errors import ErrorKind, PlatformError
from frontdesk.connection_gateway.store import AccountStore
from frontdesk.kit.errors import Unavailable
from support.shop import Shop
from support.waiting import until


class SlowStore(AccountStore):
    """A store some of whose calls come to their end only when the test says so."""

    gate: asyncio.Event | None = None
    away = False

    async def _wait(self) -> None:
        if self.gate is not None:
            await self.gate.wait()

    async def save_login(self, account: Account, login: Login) -> bool:
        if self.away:
            raise Unavailable("the database is away")
        await self._wait()
        return await super().save_login(account, login)

    async def remove(self, account_id: str) -> None:
        await super().remove(account_id)
        await self._wait()

    async def of_shards(self, shards: Collection[int], changed_since_ms: int = 0) -> list[Account]:
        found = await super().of_shards(shards, changed_since_ms)
        await self._wait()
        return found


def store_of(shop: Shop) -> SlowStore:
    """The gateway's store, made slow."""
    store = shop.gateways[0].supervisor._shared.store
    store.__class__ = SlowStore
    assert isinstance(store, SlowStore)
    return store


def refusal(kind: ErrorKind) -> Any:
    """A question that the platform refuses."""

    async def ask(http: PlatformHttp) -> None:
        raise PlatformError(kind, "no")

    return ask


async def paste(shop: Shop, account_id: str, cookies: str) -> pb.UpdateAccountResponse:
    request = pb.UpdateAccountRequest(account_id=account_id, cookies=cookies)
    return await shop.accounts.UpdateAccount(request, timeout=10)


async def test_pasting_cookies_drops_no_answer(shop: Shop) -> None:
    """What is to be said while the cookies are stored is said afterwards."""
    seller, account = await shop.open()
    await shop.rule()
    store = store_of(shop)
    store.gate = asyncio.Event()
    pasting = asyncio.create_task(paste(shop, account.account_id, f"{seller.cookies}; fresh=1"))
    await until(shop.only_session.changing.locked)
    for number in range(5):
        shop.ask(seller, f"price #{number}", buyer=f"buyer-{number}")
    await asyncio.sleep(0.2)
    store.gate.set()
    await pasting
    for number in range(5):
        await shop.answered(seller, 1, f"buyer-{number}")
    assert not [e for e in shop.replies_of() if e.reply.state == event_pb2.SEND_STATE_DROPPED]


async def test_cookies_that_can_not_be_stored_leave_a_failed_account(shop: Shop) -> None:
    """The person is told; the account is not tried again with the cookies that the platform suspects."""
    seller, account = await shop.open()
    session = shop.only_session
    with pytest.raises(PlatformError):
        await session.call(refusal(ErrorKind.RISK_CONTROL))
    await until(lambda: session.account.state is State.FAILED)
    store = store_of(shop)
    store.away = True
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await paste(shop, account.account_id, f"{seller.cookies}; fresh=1")
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    await shop.gateways[0].supervisor.look()
    assert (session.account.state, session.running) == (State.FAILED, False)
    store.away = False
    await paste(shop, account.account_id, f"{seller.cookies}; fresh=1")
    await shop.until_state(account.account_id, event_pb2.SESSION_STATE_CONNECTED)


async def test_refused_questions_stop_nothing(shop: Shop) -> None:
    """Ten questions in a row that the platform refuses concern these questions, not the connection."""
    await shop.open()
    session = shop.only_session
    asked = (session.call(refusal(ErrorKind.AUTHENTICATION)) for _ in range(10))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, PlatformError) for answer in answers)
    assert session.account.state is State.CONNECTED


async def test_a_removal_that_is_given_up_is_done_all_the_same(shop: Shop) -> None:
    """The row is gone, so the session must be."""
    _, account = await shop.open()
    store = store_of(shop)
    store.gate = asyncio.Event()
    call = shop.accounts.DeleteAccount(pb.DeleteAccountRequest(account_id=account.account_id), timeout=10)
    waiting = asyncio.ensure_future(call)
    async with asyncio.timeout(5):
        while await store.get(account.account_id) is not None:
            await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    store.gate.set()
    await until(lambda: not list(shop.gateways[0].supervisor.sessions()))
    await until(lambda: not shop.simulator.hub.sessions)


async def test_a_session_without_a_row_is_ended(shop: Shop) -> None:
    """Whoever removed the account, and however it ended."""
    _, account = await shop.open()
    session = shop.only_session
    await store_of(shop).remove(account.account_id)
    await shop.gateways[0].supervisor.apply(session)
    assert not list(shop.gateways[0].supervisor.sessions())


async def test_a_look_does_not_undo_what_a_person_did_meanwhile(shop: Shop) -> None:
    """Rows that were read before the account was started say nothing of it now."""
    _, account = await shop.open()
    session = shop.only_session
    await shop.accounts.StopAccount(pb.StopAccountRequest(account_id=account.account_id), timeout=10)
    store = store_of(shop)
    store.gate = asyncio.Event()
    looking = asyncio.create_task(shop.gateways[0].supervisor.look())
    await asyncio.sleep(0.1)
    start = pb.StartAccountRequest(account_id=account.account_id, wait=True)
    started = asyncio.ensure_future(shop.accounts.StartAccount(start, timeout=20))
    await until(lambda: session.account.enabled)
    store.gate.set()
    await looking
    await started
    assert session.account.state is State.CONNECTED


async def test_buyers_between_two_first_logins_are_answered(shop: Shop) -> None:
    """A first login that needs a second connection: what is said between them is no history."""
    await shop.rule()
    shop.simulator.faults.set(None, {"slow_answers_ms": 400})
    seller, _ = await shop.open(wait=False)
    await until(lambda: bool(list(shop.gateways[0].supervisor.sessions())))
    session = shop.only_session
    await until(lambda: session.account.state is State.CONNECTED, timeout=20)
    assert session.account.synced_until_ms is None  # the history is still being read
    for socket in list(shop.simulator.hub.sessions):
        socket.close(1006)
    shop.simulator.faults.set(None, {"refuse_connections": True})
    await until(lambda: session.account.state is State.RECONNECTING)
    shop.ask(seller, "price?")
    shop.simulator.faults.clear()
    await shop.answered(seller, 1, timeout=30)


async def test_another_replicas_login_is_not_overwritten(shop: Shop) -> None:
    """A process that slept brings cookies of yesterday: the row of the new owner stays as it is."""
    _, account = await shop.open()
    store = store_of(shop)
    found = await store.get(account.account_id)
    assert found is not None
    before = await store.login(account.account_id)
    found.epoch -= 1
    assert not await store.save_login(found, Login("old=1", "old", 1))
    assert await store.login(account.account_id) == before
