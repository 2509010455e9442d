"""AccountService: accounts of an organization and their sessions. Credentials go in and never come out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from nats.aio.msg import Msg

from frontdesk.api.accounts.v1 import account_service_pb2 as pb
from frontdesk.api.accounts.v1.account_service_pb2_grpc import AccountServiceServicer
from frontdesk.api.events.v1.event_pb2 import Event
from frontdesk.connection_gateway.accounts.book import AccountBook, proto, session_proto
from frontdesk.connection_gateway.accounts.uptime import HOUR_MS
from frontdesk.connection_gateway.model import Account
from frontdesk.connection_gateway.store import AccountStore, SessionStore
from frontdesk.kit import subjects
from frontdesk.kit.access import allowed_organization
from frontdesk.kit.bus import Bus
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import InvalidArgument, ResourceExhausted

MAX_HOURS = 720
WATCH_QUEUE = 1_000
WATCH_PAGE = 500


class AccountServicer(AccountServiceServicer):
    """Any replica reads; what changes a session is called on the replica that holds the account."""

    def __init__(
        self, book: AccountBook, store: AccountStore, sessions: SessionStore, bus: Bus, clock: Clock
    ) -> None:
        self._book = book
        self._store = store
        self._sessions = sessions
        self._bus = bus
        self._clock = clock

    async def CreateAccount(
        self, request: pb.CreateAccountRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CreateAccountResponse:
        return pb.CreateAccountResponse(account=await self._book.create(request))

    async def GetAccount(
        self, request: pb.GetAccountRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetAccountResponse:
        return pb.GetAccountResponse(account=proto(await self._book.find(request.account_id, "viewer")))

    async def ListAccounts(
        self, request: pb.ListAccountsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListAccountsResponse:
        return await self._book.page(request)

    async def UpdateAccount(
        self, request: pb.UpdateAccountRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UpdateAccountResponse:
        return pb.UpdateAccountResponse(account=await self._book.update(request))

    async def DeleteAccount(
        self, request: pb.DeleteAccountRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DeleteAccountResponse:
        await self._book.delete(request.account_id)
        return pb.DeleteAccountResponse()

    async def StartAccount(
        self, request: pb.StartAccountRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.StartAccountResponse:
        return pb.StartAccountResponse(account=await self._book.start(request.account_id, wait=request.wait))

    async def StopAccount(
        self, request: pb.StopAccountRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.StopAccountResponse:
        return pb.StopAccountResponse(account=await self._book.stop(request.account_id))

    async def RestartAccount(
        self, request: pb.RestartAccountRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RestartAccountResponse:
        return pb.RestartAccountResponse(
            account=await self._book.restart(request.account_id, wait=request.wait)
        )

    async def WatchSessions(
        self, request: pb.WatchSessionsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.WatchSessionsResponse]:
        if request.account_id:
            organization_id = (await self._book.find(request.account_id, "viewer")).organization_id
        else:
            organization_id = allowed_organization(request.organization_id, need="viewer")
        changes: asyncio.Queue[Event] = asyncio.Queue(WATCH_QUEUE)
        full = asyncio.Event()

        async def receive(msg: Msg) -> None:
            event = Event.FromString(msg.data)
            if event.organization_id != organization_id:
                return
            try:
                changes.put_nowait(event)
            except asyncio.QueueFull:
                full.set()

        subject = subjects.event_filter("session", request.account_id or None)
        subscription = await self._bus.nc.subscribe(subject, cb=receive)
        try:
            async for account in self._standing(organization_id, request.account_id):
                yield _watched(account)
            while True:
                event = await changes.get()
                if full.is_set():
                    raise ResourceExhausted("the reader is too slow; watch again")
                account_now = await self._store.get(event.account_id)
                if account_now is not None:
                    yield _watched(account_now, event)
        finally:
            await subscription.unsubscribe()

    async def _standing(self, organization_id: str, account_id: str) -> AsyncIterator[Account]:
        if account_id:
            account = await self._store.get(account_id)
            if account is not None:
                yield account
            return
        after = ""
        while found := await self._store.page(organization_id, after, WATCH_PAGE):
            for account in found:
                yield account
            after = found[-1].account_id

    async def GetUptime(
        self, request: pb.GetUptimeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetUptimeResponse:
        if not 0 <= request.hours <= MAX_HOURS:
            raise InvalidArgument("hours", f"must be 1 to {MAX_HOURS}, or 0 for 24")
        account = await self._book.find(request.account_id, "viewer")
        now = self._clock.now_ms()
        since = now - now % HOUR_MS - ((request.hours or 24) - 1) * HOUR_MS
        rows = await self._sessions.hours(account.account_id, since)
        enabled = sum(row[2] for row in rows)
        return pb.GetUptimeResponse(
            hours=[
                pb.UptimeHour(start_ms=start, connected_seconds=connected, enabled_seconds=seconds)
                for start, connected, seconds in rows
            ],
            ratio=sum(row[1] for row in rows) / enabled if enabled else 1.0,
        )


def _watched(account: Account, event: Event | None = None) -> pb.WatchSessionsResponse:
    session = session_proto(account)
    if event is not None:
        change = event.session
        session.state, session.reason, session.reason_code = (
            change.new_state,
            change.reason,
            change.reason_code,
        )
        session.action_url, session.since_ms = change.action_url, event.occurred_at_ms
        session.failures = change.failures
    return pb.WatchSessionsResponse(account_id=account.account_id, session=session)
