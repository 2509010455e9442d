"""The command's groups, and what belongs to none of them."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from frontdesk import fleet
from frontdesk.cli import (
    accounts,
    ai,
    chats,
    fleet_view,
    knowledge,
    policies,
    providers,
    rules,
    simulate,
    tokens,
)
from frontdesk.cli.client import DATA, Data, console, errors
from frontdesk.kit.config import environment
from frontdesk.kit.errors import FrontdeskError
from frontdesk.kit.lifecycle import run_program

app = typer.Typer(
    no_args_is_help=True,
    help="Keeps every marketplace account online and answers every buyer exactly once.",
    pretty_exceptions_show_locals=False,
)
app.add_typer(accounts.app, name="account")
app.add_typer(ai.app, name="ai")
app.add_typer(chats.app, name="chat")
app.add_typer(fleet_view.app, name="fleet")
app.add_typer(knowledge.app, name="knowledge")
app.add_typer(policies.app, name="policy")
app.add_typer(providers.app, name="provider")
app.add_typer(rules.app, name="rule")
app.add_typer(simulate.app, name="simulate")
app.command("token")(tokens.token)


@app.command("up")
def up(
    demo: Annotated[bool, typer.Option("--demo", help="With a simulated marketplace and buyers.")] = False,
    http_port: Annotated[int, typer.Option("--http-port", help="Port of the HTTP door; 0: free.")] = 8000,
    grpc_port: Annotated[int, typer.Option("--grpc-port", help="Port of the gRPC door; 0: free.")] = 50051,
    data: Data = DATA,
) -> None:
    """Run everything on this machine: NATS, all services, one HTTP and one gRPC port. Ctrl-C stops."""
    from frontdesk.cli import up as everything

    options = everything.UpOptions(data, http_port, grpc_port, demo)
    try:
        code = run_program(lambda: everything.run(options, console))
    except FrontdeskError as error:
        errors.print(error.message, highlight=False)
        raise typer.Exit(2) from error
    raise typer.Exit(code)


@app.command("doctor")
def doctor(data: Data = DATA) -> None:
    """Check configuration, NATS, databases and the platform, and say what to do."""
    from frontdesk.cli.doctor import examine

    raise typer.Exit(asyncio.run(examine(data, console)))


@app.command("migrate")
def migrate() -> None:
    """Bring the databases of the services up to date, with the settings of the environment."""

    async def work() -> None:
        await fleet.migrate_all(list(fleet.SERVICES), lambda _: environment())

    try:
        asyncio.run(work())
    except FrontdeskError as error:
        errors.print(error.message, highlight=False)
        raise typer.Exit(1) from error
    console.print("up to date")


@app.command("provision")
def provision() -> None:
    """Prepare a fleet: database roles, schemas, NATS streams and consumers, migrations. Again is harmless."""
    from frontdesk import provision as provisioning

    raise typer.Exit(asyncio.run(provisioning.run(environment(), typer.echo)))


def _service(name: str) -> None:
    def run() -> None:
        raise typer.Exit(fleet.run_service(name, environment()))

    run.__doc__ = f"Run the service {name} alone, with the settings of the environment."
    app.command(name)(run)


for _name in fleet.SERVICES:
    _service(_name)
