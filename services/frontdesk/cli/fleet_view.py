"""`frontdesk fleet …`: replicas, shards, sessions, lag and pods, and the cordon."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import grpc
import grpc.aio
import typer
from google.protobuf.message import Message
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from frontdesk.api.fleet.v1 import fleet_service_pb2 as pb
from frontdesk.api.fleet.v1.fleet_service_pb2_grpc import FleetServiceStub
from frontdesk.cli.client import DATA, Address, Data, Target, Token, call, console, errors
from frontdesk.cli.cluster import Where
from frontdesk.cli.pods import SELECTOR, Pods, read_pods
from frontdesk.cli.words import moment, state_name
from frontdesk.kit.config import environment

app = typer.Typer(no_args_is_help=True, help="The fleet: replicas, shards, what waits; for its operator.")

EVERY_S = 2.0
CALL_S = 10.0
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_PRESENCE = {
    pb.PRESENCE_LIVE: "[green]live[/]",
    pb.PRESENCE_SILENT: "[red]silent[/]",
    pb.PRESENCE_ABSENT: "[dim]absent[/]",
}

Name = Annotated[str, typer.Argument(help="The replica's name, as `frontdesk fleet show` has it.")]
Show = Callable[[pb.GetFleetResponse, Pods], None]


@app.command("show")
def show(
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds; Ctrl-C ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one line a picture.")] = False,
    kubeconfig: Annotated[
        str, typer.Option("--kubeconfig", envvar="KUBECONFIG", help="For the pods; kubectl's by default.")
    ] = "",
    context: Annotated[str, typer.Option("--context", help="Of the kubeconfig; the current one.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of the pods; the context's.")] = "",
    selector: Annotated[str, typer.Option("--selector", "-l", help="Labels of the pods.")] = SELECTOR,
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Show replicas with their shards and sessions, what waits in the streams, and the pods."""
    in_cluster = bool(environment().get("KUBERNETES_SERVICE_HOST"))
    ask = partial(read_pods, Where(kubeconfig, context, namespace, in_cluster), selector)
    target = Target(data, address, token)
    if as_json or not (watch and console.is_terminal):
        tell = _print_json if as_json else _print
        call(target, lambda channel: _look(channel, ask, tell, watch=watch))
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:

        def draw(fleet: pb.GetFleetResponse, pods: Pods) -> None:
            live.update(picture(fleet, pods), refresh=True)

        call(target, lambda channel: _look(channel, ask, draw, watch=True))


@app.command("cordon")
def cordon(
    name: Name,
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait until it holds no shard; 0: do not.")
    ] = 0,
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Let a replica hand its shards over one by one and take none, until it is uncordoned."""

    async def work(channel: grpc.aio.Channel) -> int:
        stub = FleetServiceStub(channel)
        await stub.Cordon(pb.CordonRequest(replica=name), timeout=CALL_S)
        end = time.monotonic() + wait
        while True:
            left = await _shards_of(stub, name)
            if not left or time.monotonic() >= end:
                return left
            await asyncio.sleep(0.5)

    left = call(Target(data, address, token), work)
    console.print(f"{name} is cordoned and holds {left or 'no'} shard{'' if left == 1 else 's'}")
    if left and wait:
        errors.print(f"It did not hand over everything within {wait:g} s.", highlight=False)
        raise typer.Exit(1)


@app.command("uncordon")
def uncordon(name: Name, data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """Let a replica take its shards again."""

    async def work(channel: grpc.aio.Channel) -> None:
        await FleetServiceStub(channel).Uncordon(pb.UncordonRequest(replica=name), timeout=CALL_S)

    call(Target(data, address, token), work)
    console.print(f"{name} takes its shards again")


async def _shards_of(stub: FleetServiceStub, name: str) -> int:
    fleet: pb.GetFleetResponse = await stub.GetFleet(pb.GetFleetRequest(), timeout=CALL_S)
    return sum(len(one.shards) for one in fleet.replicas if one.replica == name)


async def _look(channel: grpc.aio.Channel, ask: Callable[[], Pods], tell: Show, *, watch: bool) -> None:
    """Take a picture and tell it; with `watch` again and again, over outages of the door."""
    stub, seen = FleetServiceStub(channel), False
    while True:
        try:
            fleet: pb.GetFleetResponse = await stub.GetFleet(pb.GetFleetRequest(), timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            if not (watch and seen and error.code() in _PASSING):
                raise
        else:
            tell(fleet, await asyncio.to_thread(ask))
            seen = True
        if not watch:
            return
        await asyncio.sleep(EVERY_S)


def _print(fleet: pb.GetFleetResponse, pods: Pods) -> None:
    console.print(picture(fleet, pods))


def _print_json(fleet: pb.GetFleetResponse, pods: Pods) -> None:
    whole = {**plain(fleet), "pods": [asdict(pod) for pod in pods.pods], "pods_note": pods.note}
    typer.echo(json.dumps(whole))


def plain(message: Message) -> dict[str, Any]:
    """A message as JSON has it, every field there; enums by name without their type, integers as such."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        found[field.name] = (
            [_plain(field, one) for one in value] if field.is_repeated else _plain(field, value)
        )
    return found


def _plain(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", field.enum_type.name).upper()
        known = field.enum_type.values_by_number.get(value)
        return known.name.removeprefix(f"{prefix}_") if known is not None else value
    return value


def picture(fleet: pb.GetFleetResponse, pods: Pods) -> RenderableType:
    """The fleet as tables."""
    dead = f"[red]{fleet.dead} in DEAD[/]" if fleet.dead else "nothing in DEAD"
    free = len(fleet.free_shards)
    held = f"[red]{free} held by nobody[/]" if free else "all held"
    last = f"{fleet.shards} shards, {held}; {dead}; told by {fleet.answered_by}"
    lines = [_replicas(fleet), _streams(fleet), *([_pods(pods)] if pods.pods else [])]
    return Group(*lines, Text.from_markup(last), *([Text(pods.note, style="dim")] if pods.note else []))


def _replicas(fleet: pb.GetFleetResponse) -> Table:
    # A name is there to be copied: whatever else is cut, it is not.
    table = Table(
        Column("replica", no_wrap=True),
        "state",
        Column("since", no_wrap=True),
        Column("shards", justify="right"),
        Column("accounts", justify="right"),
        "sessions",
        "not ready",
    )
    for one in fleet.replicas:
        state = _PRESENCE.get(one.presence, "?") + (" [yellow]cordoned[/]" if one.cordoned else "")
        silent = one.presence != pb.PRESENCE_LIVE
        sessions = ", ".join(f"{row.count} {state_name(row.state).lower()}" for row in one.sessions)
        accounts = "" if silent else str(one.accounts)
        table.add_row(
            Text(one.replica),
            state,
            moment(one.since_ms),
            str(len(one.shards)),
            accounts,
            sessions,
            Text(one.not_ready),
        )
    return table


def _streams(fleet: pb.GetFleetResponse) -> Table:
    table = Table(
        Column("stream", no_wrap=True),
        Column("messages", justify="right"),
        Column("consumer", no_wrap=True),
        Column("pending", justify="right"),
        Column("in work", justify="right"),
        Column("redelivered", justify="right"),
    )
    for stream in fleet.streams:
        first = (stream.stream, "?" if stream.problem else str(stream.messages))
        if not stream.consumers:
            table.add_row(*first, Text(stream.problem, style="red"))
        for number, one in enumerate(stream.consumers):
            name = one.consumer if one.consumers == 1 else f"{one.consumer} ({one.consumers})"
            figures = (str(one.pending), str(one.ack_pending), str(one.redelivered))
            table.add_row(*(("", "") if number else first), Text(name), *figures)
    return table


def _pods(pods: Pods) -> Table:
    table = Table(
        Column("pod", no_wrap=True),
        "component",
        "phase",
        "ready",
        Column("restarts", justify="right"),
        "node",
    )
    for pod in pods.pods:
        phase = pod.phase if pod.phase in ("Running", "Succeeded") else f"[yellow]{pod.phase}[/]"
        restarts = f"[yellow]{pod.restarts}[/]" if pod.restarts else "0"
        table.add_row(pod.name, pod.component, phase, pod.ready, restarts, pod.node)
    return table
