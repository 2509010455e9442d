"""`frontdesk account …`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import grpc.aio
import typer
from rich.table import Column, Table

from frontdesk.api.accounts.v1 import account_service_pb2 as pb
from frontdesk.api.accounts.v1.account_service_pb2_grpc import AccountServiceStub
from frontdesk.cli.client import DATA, Address, Data, Target, Token, call, console
from frontdesk.cli.words import moment, state_name

app = typer.Typer(no_args_is_help=True, help="Marketplace accounts.")

COLORS = {"CONNECTED": "green", "FAILED": "red", "CLOSED": "dim"}


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="A name for people.")],
    cookies_file: Annotated[
        Path | None,
        typer.Option(
            "--cookies-file", help="A file with the cookie line; without it, it is read from stdin."
        ),
    ] = None,
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Add an account by its cookies and connect it."""
    if cookies_file is None and sys.stdin.isatty():
        console.print("Paste the cookie line (k=v; k=v …) and press Enter:")
    cookies = (cookies_file.read_text() if cookies_file else sys.stdin.readline()).strip()

    async def work(channel: grpc.aio.Channel) -> pb.Account:
        request = pb.CreateAccountRequest(name=name, cookies=cookies, wait=True)
        response: pb.CreateAccountResponse = await AccountServiceStub(channel).CreateAccount(
            request, timeout=60
        )
        return response.account

    _show(call(Target(data, address, token), work))


@app.command("list")
def list_accounts(data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """List accounts with their sessions."""

    async def work(channel: grpc.aio.Channel) -> list[pb.Account]:
        found: list[pb.Account] = []
        page = ""
        while True:
            request = pb.ListAccountsRequest(page_size=500, page_token=page)
            response = await AccountServiceStub(channel).ListAccounts(request, timeout=10)
            found.extend(response.accounts)
            page = response.next_page_token
            if not page:
                return found

    # An id is there to be copied: whatever else is cut, it is not.
    table = Table(Column("account", no_wrap=True), "name", "state", Column("since", no_wrap=True), "why")
    for account in call(Target(data, address, token), work):
        session = account.session
        table.add_row(
            account.account_id,
            account.name,
            _state(account),
            moment(session.since_ms),
            session.reason,
        )
    console.print(table)


@app.command("start")
def start(account_id: str, data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """Enable an account and connect it."""

    async def work(channel: grpc.aio.Channel) -> pb.Account:
        request = pb.StartAccountRequest(account_id=account_id, wait=True)
        response: pb.StartAccountResponse = await AccountServiceStub(channel).StartAccount(
            request, timeout=60
        )
        return response.account

    _show(call(Target(data, address, token), work))


@app.command("stop")
def stop(account_id: str, data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """Close an account's session until it is started again."""

    async def work(channel: grpc.aio.Channel) -> pb.Account:
        request = pb.StopAccountRequest(account_id=account_id)
        response: pb.StopAccountResponse = await AccountServiceStub(channel).StopAccount(request, timeout=30)
        return response.account

    _show(call(Target(data, address, token), work))


@app.command("restart")
def restart(account_id: str, data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """Open a session anew; the only way out of FAILED."""

    async def work(channel: grpc.aio.Channel) -> pb.Account:
        request = pb.RestartAccountRequest(account_id=account_id, wait=True)
        response: pb.RestartAccountResponse = await AccountServiceStub(channel).RestartAccount(
            request, timeout=60
        )
        return response.account

    _show(call(Target(data, address, token), work))


@app.command("delete")
def delete(
    account_id: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Remove an account with its credentials."""
    if not yes:
        typer.confirm(f"Remove account {account_id} and its credentials?", abort=True)

    async def work(channel: grpc.aio.Channel) -> None:
        await AccountServiceStub(channel).DeleteAccount(
            pb.DeleteAccountRequest(account_id=account_id), timeout=30
        )

    call(Target(data, address, token), work)
    console.print("removed")


def _state(account: pb.Account) -> str:
    name = state_name(account.session.state)
    return f"[{COLORS.get(name, 'yellow')}]{name}[/]"


def _show(account: pb.Account) -> None:
    console.print(f"{account.account_id}  {account.name}  {_state(account)}  {account.session.reason}")
    if account.session.action_url:
        console.print(f"A person is needed: {account.session.action_url}")
