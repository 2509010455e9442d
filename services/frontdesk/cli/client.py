"""Calls from the command line: the gRPC door, a token, and errors that say what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import grpc
import grpc.aio
import typer
from rich.console import Console

from frontdesk.cli.local import Local
from frontdesk.kit.errors import FrontdeskError
from frontdesk.kit.tokens import Role

T = TypeVar("T")

console = Console()
errors = Console(stderr=True)

Data = Annotated[
    Path, typer.Option("--data", envvar="FRONTDESK_DATA", help="Folder of a local installation.")
]
Address = Annotated[
    str, typer.Option("--address", envvar="FRONTDESK_ADDRESS", help="host:port of the gRPC door.")
]
Token = Annotated[
    str,
    typer.Option("--token", envvar="FRONTDESK_TOKEN", help="A token; a local installation mints its own."),
]
DATA = Path("data")


@dataclass(frozen=True, slots=True)
class Target:
    """Which installation a command talks to."""

    data: Path = DATA
    address: str = ""
    token: str = ""

    def channel(self) -> grpc.aio.Channel:
        """A channel whose calls carry the token; raises FailedPrecondition when nothing runs here."""
        local = Local(self.data)
        address = self.address or local.endpoints()["grpc"]
        token = self.token or local.token(subject="cli", role=Role.owner)
        return grpc.aio.insecure_channel(address, interceptors=_bearer(token))


def _bearer(token: str) -> list[grpc.aio.ClientInterceptor]:
    def with_token(details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add("authorization", f"Bearer {token}")
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )

    class Unary(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, details, request):  # type: ignore[no-untyped-def]
            return await continuation(with_token(details), request)

    class Stream(grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(self, continuation, details, request):  # type: ignore[no-untyped-def]
            return await continuation(with_token(details), request)

    return [Unary(), Stream()]


def call(target: Target, work: Callable[[grpc.aio.Channel], Awaitable[T]]) -> T:
    """Run `work` with a channel; an error is printed as one sentence and ends the command with code 1."""

    async def run() -> T:
        async with target.channel() as channel:
            return await work(channel)

    try:
        return asyncio.run(run())
    except grpc.aio.AioRpcError as error:
        errors.print(f"[red]{error.code().name}[/red]: {error.details()}", highlight=False)
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            errors.print("Is it running? `frontdesk doctor` checks.", highlight=False)
        raise typer.Exit(1) from error
    except FrontdeskError as error:
        errors.print(f"[red]{error.code}[/red]: {error.message}", highlight=False)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
