"""`/cookies/…`: accounts over HTTP as the sources have them (CG-53 to CG-55), by the code of AccountService.

The body of every answer is `{code, message, data, trace_id}`. Cookies go in and never come out.
"""

from __future__ import annotations

from typing import Annotated, Any

import grpc.aio
from fastapi import APIRouter, Depends
from google.protobuf.json_format import MessageToDict
from pydantic import BaseModel, ConfigDict, Field

from frontdesk.api.accounts.v1 import account_service_pb2 as pb
from frontdesk.api.accounts.v1.account_service_pb2_grpc import AccountServiceStub
from frontdesk.connection_gateway.accounts.book import MAX_COOKIES, MAX_NAME, OUTCOME_S, AccountBook
from frontdesk.kit.http import require
from frontdesk.kit.rpc.status import from_rpc_error
from frontdesk.kit.telemetry.propagation import trace_id
from frontdesk.kit.tokens import Role

AccountId = Annotated[str, Field(min_length=1, max_length=128)]


class NewCookies(BaseModel):
    """An account to add; `cookies` as the browser shows them."""

    model_config = ConfigDict(extra="forbid")

    cookies: Annotated[str, Field(min_length=1, max_length=MAX_COOKIES)]
    name: Annotated[str, Field(max_length=MAX_NAME)] = ""
    organization_id: Annotated[str, Field(max_length=128)] = ""
    enabled: bool = True


class ChangedCookies(BaseModel):
    """What to change of an account; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    cookies: Annotated[str, Field(min_length=1, max_length=MAX_COOKIES)] | None = None
    name: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    enabled: bool | None = None


class AccountsAnswer(BaseModel):
    """The body of every answer: accounts as AccountService shows them, without cookies."""

    code: str = "OK"
    message: str = ""
    data: list[dict[str, Any]]
    next_page_token: str = ""
    trace_id: str


def cookies_router(book: AccountBook, owners: AccountServiceStub) -> APIRouter:
    """The routes; `owners` reaches the replica that holds an account."""
    router = APIRouter(prefix="/cookies")

    @router.get("/list", dependencies=[Depends(require(Role.viewer))])
    async def list_cookies(
        organization_id: str = "", page_size: int = 100, page_token: str = ""
    ) -> AccountsAnswer:
        request = pb.ListAccountsRequest(
            organization_id=organization_id, page_size=page_size, page_token=page_token
        )
        found = await book.page(request)
        return _answer(*found.accounts, next_page_token=found.next_page_token)

    @router.post("/add", dependencies=[Depends(require(Role.manager))])
    async def add_cookies(body: NewCookies) -> AccountsAnswer:
        request = pb.CreateAccountRequest(
            organization_id=body.organization_id,
            name=body.name,
            cookies=body.cookies,
            disabled=not body.enabled,
            wait=True,
        )
        return _answer(await book.create(request))

    @router.put("/{account_id}", dependencies=[Depends(require(Role.manager))])
    async def change_cookies(account_id: AccountId, body: ChangedCookies) -> AccountsAnswer:
        account = (await _ask(owners.GetAccount, pb.GetAccountRequest(account_id=account_id))).account
        if body.cookies is not None or body.name is not None:
            update = pb.UpdateAccountRequest(account_id=account_id, name=body.name, cookies=body.cookies)
            account = (await _ask(owners.UpdateAccount, update)).account
        if body.enabled:
            start = pb.StartAccountRequest(account_id=account_id, wait=True)
            account = (await _ask(owners.StartAccount, start)).account
        elif body.enabled is not None:
            stop = pb.StopAccountRequest(account_id=account_id)
            account = (await _ask(owners.StopAccount, stop)).account
        return _answer(account)

    @router.post("/{account_id}/restart", dependencies=[Depends(require(Role.manager))])
    async def restart(account_id: AccountId) -> AccountsAnswer:
        request = pb.RestartAccountRequest(account_id=account_id, wait=True)
        return _answer((await _ask(owners.RestartAccount, request)).account)

    @router.delete("/{account_id}", dependencies=[Depends(require(Role.manager))])
    async def delete_cookies(account_id: AccountId) -> AccountsAnswer:
        await _ask(owners.DeleteAccount, pb.DeleteAccountRequest(account_id=account_id))
        return _answer()

    return router


async def _ask(method: Any, request: Any) -> Any:
    """Call the account's owner; raises the FrontdeskError that it answered with."""
    try:
        return await method(request, timeout=OUTCOME_S + 5)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


def _answer(*accounts: pb.Account, next_page_token: str = "") -> AccountsAnswer:
    data = [MessageToDict(a, preserving_proto_field_name=True) for a in accounts]
    return AccountsAnswer(data=data, next_page_token=next_page_token, trace_id=trace_id())
