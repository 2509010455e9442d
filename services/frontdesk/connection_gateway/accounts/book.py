"""What people may do with accounts, whichever door they come by: checked, stored, and brought to the session.

Any replica reads and creates. What changes a session runs on the replica that holds the account.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import grpc.aio

from frontdesk.api.accounts.v1 import account_service_pb2 as pb
from frontdesk.api.accounts.v1.account_service_pb2_grpc import AccountServiceStub
from frontdesk.connection_gateway.accounts.session import Session
from frontdesk.connection_gateway.accounts.supervisor import Supervisor
from frontdesk.connection_gateway.model import STATE_NUMBERS, Account, State
from frontdesk.connection_gateway.platforms.base import Platform
from frontdesk.connection_gateway.store import AccountStore, NewAccount
from frontdesk.kit import pages, tasks
from frontdesk.kit.access import allowed_organization, check_owner
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import InvalidArgument
from frontdesk.kit.rpc.status import from_rpc_error

PLATFORM = "goofish"
MAX_NAME = 200
MAX_COOKIES = 64 * 1024
MAX_REQUEST_ID = 128
OUTCOME_S = 25.0
NOTICE_S = 2.0
_ENDS = (State.CONNECTED, State.FAILED)


class AccountBook:
    """The accounts as their owners manage them. Every method checks the caller (kit/access)."""

    def __init__(
        self,
        *,
        store: AccountStore,
        supervisor: Supervisor,
        platform: Platform,
        owners: AccountServiceStub,
        clock: Clock,
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._platform = platform
        self._owners = owners
        self._clock = clock

    async def create(self, request: pb.CreateAccountRequest) -> pb.Account:
        """Store an account, and have its owner start it."""
        organization_id = allowed_organization(request.organization_id, need="manager")
        if request.platform not in ("", PLATFORM):
            raise InvalidArgument("platform", f"only {PLATFORM} is there")
        if len(request.request_id) > MAX_REQUEST_ID:
            raise InvalidArgument("request_id", f"at most {MAX_REQUEST_ID} characters")
        cookies, user_id = self._cookies(request.cookies)
        account = await self._store.create(
            NewAccount(
                organization_id=organization_id,
                platform=PLATFORM,
                platform_user_id=user_id,
                name=_name(request.name) or user_id,
                cookies=cookies,
                device_id=self._platform.device_id(user_id),
                enabled=not request.disabled,
                request_id=request.request_id,
            )
        )
        if request.disabled:
            return proto(account)
        start = pb.StartAccountRequest(account_id=account.account_id, wait=request.wait)
        try:
            response = await self._owners.StartAccount(
                start, timeout=OUTCOME_S + 5 if request.wait else NOTICE_S
            )
        except grpc.aio.AioRpcError as error:
            if request.wait:
                raise from_rpc_error(error) from error
            return proto(account)  # its owner sees the row within seconds
        return response.account

    async def page(self, request: pb.ListAccountsRequest) -> pb.ListAccountsResponse:
        """A page of the caller's accounts."""
        organization_id = allowed_organization(request.organization_id, need="viewer")
        size = pages.page_size(request.page_size, default=100, most=500)
        after = pages.decode(request.page_token, 1)
        found = await self._store.page(organization_id, after[0] if after else "", size + 1)
        token = pages.encode(found[size - 1].account_id) if len(found) > size else ""
        return pb.ListAccountsResponse(accounts=[proto(a) for a in found[:size]], next_page_token=token)

    async def update(self, request: pb.UpdateAccountRequest) -> pb.Account:
        """Rename; new cookies must be of the same user, and restart the session."""
        account = await self.find(request.account_id, "manager")
        session = await self._supervisor.get(account.account_id)
        if request.HasField("cookies"):
            cookies, user_id = self._cookies(request.cookies)
            if user_id != account.platform_user_id:
                raise InvalidArgument("cookies", "belong to another user (unb) than this account")
        name = _name(request.name) if request.HasField("name") else None
        account = await self._store.change(account.account_id, name=name)
        session.account.name = account.name
        if request.HasField("cookies"):
            await self._to_its_end(self._supervisor.restart(session, "new cookies", cookies))
        return proto(session.account)

    async def delete(self, account_id: str) -> None:
        """Close and remove an account."""
        account = await self.find(account_id, "manager")
        await self._to_its_end(self._remove(account.account_id))

    async def start(self, account_id: str, *, wait: bool) -> pb.Account:
        """Enable an account and bring it online; a FAILED one needs RestartAccount."""
        session = await self._session(account_id, "manager")
        await self._to_its_end(self._enable(session, True))
        return await self._outcome(session) if wait else proto(session.account)

    async def stop(self, account_id: str) -> pb.Account:
        """Disable an account and close its session."""
        session = await self._session(account_id, "manager")
        await self._to_its_end(self._enable(session, False))
        return proto(session.account)

    async def restart(self, account_id: str, *, wait: bool) -> pb.Account:
        """Close and open the session; the only way out of FAILED (CG-09, CG-61)."""
        session = await self._session(account_id, "manager")
        await self._to_its_end(self._restart(session))
        return await self._outcome(session) if wait else proto(session.account)

    async def find(self, account_id: str, need: str) -> Account:
        if not account_id:
            raise InvalidArgument("account_id", "is needed")
        account = await self._store.get(account_id)
        check_owner(account.organization_id if account else None, need=need, what="account")
        assert account is not None
        return account

    async def _remove(self, account_id: str) -> None:
        await self._store.remove(account_id)
        await self._supervisor.forget(account_id)

    async def _restart(self, session: Session) -> None:
        await self._store.change(session.account.account_id, enabled=True)
        await self._supervisor.restart(session, "restarted by a person")

    async def _enable(self, session: Session, enabled: bool) -> None:
        await self._store.change(session.account.account_id, enabled=enabled)
        await self._supervisor.apply(session)

    async def _session(self, account_id: str, need: str) -> Session:
        await self.find(account_id, need)
        return await self._supervisor.get(account_id)

    async def _to_its_end(self, change: Coroutine[Any, Any, None]) -> None:
        """Change a session. A caller that gives up meanwhile must not leave it half way."""
        await asyncio.shield(tasks.background(change))

    async def _outcome(self, session: Session) -> pb.Account:
        """The account when it is connected or failed, or as it stands after `OUTCOME_S`."""
        end = self._clock.monotonic() + OUTCOME_S
        while session.running and session.account.state not in _ENDS and self._clock.monotonic() < end:
            await self._clock.sleep(0.05)
        return proto(session.account)

    def _cookies(self, text: str) -> tuple[str, str]:
        """Cookies put in order, and whose they are; raises InvalidArgument naming `cookies`."""
        if len(text) > MAX_COOKIES:
            raise InvalidArgument("cookies", f"at most {MAX_COOKIES} characters")
        credentials = self._platform.credentials(text)
        return credentials.header(), credentials.user_id


def proto(account: Account) -> pb.Account:
    """An account as it is shown."""
    return pb.Account(
        account_id=account.account_id,
        organization_id=account.organization_id,
        platform=account.platform,
        platform_user_id=account.platform_user_id,
        name=account.name,
        enabled=account.enabled,
        session=session_proto(account),
        created_at_ms=account.created_at_ms,
        updated_at_ms=account.updated_at_ms,
    )


def session_proto(account: Account) -> pb.Session:
    """A session as it is shown."""
    return pb.Session(
        state=STATE_NUMBERS[account.state],
        reason=account.reason,
        reason_code=account.reason_code,
        action_url=account.action_url,
        since_ms=account.state_since_ms,
        failures=account.failures,
        last_heartbeat_ms=account.last_heartbeat_ms,
        replica=account.replica,
        shard=account.shard,
    )


def _name(text: str) -> str:
    name = text.strip()
    if len(name) > MAX_NAME:
        raise InvalidArgument("name", f"at most {MAX_NAME} characters")
    return name
