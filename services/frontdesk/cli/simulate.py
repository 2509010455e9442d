"""`frontdesk simulate …`: a marketplace, and model providers, to try things on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from frontdesk.cli.client import errors
from frontdesk.kit.errors import FrontdeskError
from frontdesk.kit.lifecycle import run_program

app = typer.Typer(no_args_is_help=True, help="Simulated marketplaces and models.")


@app.callback()
def simulate() -> None:
    """Simulated marketplaces and models, steered over HTTP: `GET /control` lists the calls."""


@app.command("goofish")
def goofish(
    ws_port: Annotated[int, typer.Option("--ws-port", help="Port of the socket; 0: free.")] = 0,
    http_port: Annotated[int, typer.Option("--http-port", help="Port of HTTP and control; 0: free.")] = 0,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="Certificate, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key, PEM.")] = None,
    control_token: Annotated[
        str, typer.Option("--control-token", help="Needed on another address than loopback.")
    ] = "",
    accounts: Annotated[int, typer.Option("--accounts", help="Accounts to begin with.")] = 0,
    demo: Annotated[bool, typer.Option("--demo", help="Three shops, and buyers who ask.")] = False,
) -> None:
    """Simulate Goofish until Ctrl-C; prints its addresses as one line of JSON."""
    from frontdesk.simulators.goofish.__main__ import run
    from frontdesk.simulators.goofish.server import SimulatorSettings

    settings = SimulatorSettings(host, ws_port, http_port, tls_cert, tls_key, control_token, accounts, demo)
    _run(lambda: run(settings))


@app.command("models")
def models(
    port: Annotated[int, typer.Option("--port", help="Port; 0: free.")] = 0,
    bench_port: Annotated[int, typer.Option("--bench-port", help="Port of the fast path; 0: free.")] = 0,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    key: Annotated[
        list[str] | None, typer.Option("--key", help="A right key; without, every key is right.")
    ] = None,
    control_token: Annotated[
        str, typer.Option("--control-token", help="Needed on another address than loopback.")
    ] = "",
    script: Annotated[Path | None, typer.Option("--script", help="Behaviours, JSON.")] = None,
) -> None:
    """Simulate OpenAI, DashScope, Anthropic and Gemini until Ctrl-C; prints its addresses as JSON."""
    from frontdesk.simulators.models.__main__ import run

    _run(lambda: run(host, port, bench_port, tuple(key or ()), control_token, script))


def _run(program: Callable[[], Coroutine[Any, Any, int]]) -> None:
    try:
        code = run_program(program)
    except FrontdeskError as error:
        errors.print(error.message, highlight=False)
        raise typer.Exit(2) from error
    raise typer.Exit(code)
