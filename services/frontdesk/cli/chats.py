"""`frontdesk chat …`"""

from __future__ import annotations

import uuid
from typing import Annotated

import grpc.aio
import typer
from rich.table import Table
from rich.text import Text

from frontdesk.api.chats.v1 import chat_service_pb2 as pb
from frontdesk.api.chats.v1.chat_service_pb2_grpc import ChatServiceStub
from frontdesk.api.events.v1 import inbound_pb2
from frontdesk.api.events.v1.event_pb2 import AiState, Event, SendState
from frontdesk.api.events.v1.inbound_pb2 import OrderStatus
from frontdesk.api.replies.v1.rule_pb2 import Part
from frontdesk.cli.client import DATA, Address, Data, Target, Token, call, console
from frontdesk.kit.clock import iso

app = typer.Typer(no_args_is_help=True, help="Chats with buyers.")


@app.command("tail")
def tail(
    account: Annotated[str, typer.Option("--account", help="Only this account.")] = "",
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Show messages and answers as they happen, until Ctrl-C."""

    async def work(channel: grpc.aio.Channel) -> None:
        stream = ChatServiceStub(channel).WatchChats(pb.WatchChatsRequest(account_id=account))
        async for response in stream:
            if (line := describe(response.event)) is not None:
                console.print(line)

    call(Target(data, address, token), work)


def describe(event: Event) -> Text | None:
    """One line for people: who said what to whom, or how far an answer got."""
    line = Text(f"{iso(event.occurred_at_ms)[11:19]} {event.account_id:<14.14} ", style="dim")
    kind = event.WhichOneof("kind")
    if kind == "message":
        message = event.message.message
        arrow, style = {
            inbound_pb2.AUTHOR_BUYER: ("→", "bold"),
            inbound_pb2.AUTHOR_SELLER: ("✎", "magenta"),
        }.get(message.author, ("·", "dim"))
        who = message.sender_name or message.sender_id
        line.append(f"{arrow} {who}: {message.text or '[图片]'}", style)
        return line
    if kind == "reply":
        state = SendState.Name(event.reply.state).removeprefix("SEND_STATE_").lower()
        style = {"confirmed": "green", "rejected": "red", "failed": "red"}.get(state, "yellow")
        why = f" ({event.reply.reason})" if event.reply.reason else ""
        line.append(f"← {event.reply.text or '[图片]'}", "green" if state == "confirmed" else "")
        line.append(f"  {state}{why}", style)
        return line
    if kind == "order":
        status = OrderStatus.Name(event.order.order.status).removeprefix("ORDER_STATUS_").lower()
        line.append(f"¥ order {event.order.order.order_id}: {status}", "cyan")
        return line
    if kind == "ai":
        state = AiState.Name(event.ai.state).removeprefix("AI_STATE_").lower()
        by = " ".join(name for name in (event.ai.provider, event.ai.model) if name)
        line.append(f"… AI {state}" + (f" by {by}" if by else ""), "dim")
        line.append(f" ({event.ai.reason})" if event.ai.reason else "", "yellow")
        return line
    if kind == "alert":
        line.append(f"! {event.alert.text}", "red")
        return line
    return None


@app.command("list")
def list_chats(
    waiting: Annotated[bool, typer.Option("--waiting", help="Only chats that wait for a person.")] = False,
    account: Annotated[str, typer.Option("--account", help="Only this account.")] = "",
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """List chats, the newest message first."""

    async def work(channel: grpc.aio.Channel) -> list[pb.Chat]:
        request = pb.ListChatsRequest(account_id=account, waiting_only=waiting)
        response: pb.ListChatsResponse = await ChatServiceStub(channel).ListChats(request, timeout=10)
        return list(response.chats)

    table = Table("account", "chat", "buyer", "last", "waits for a person", "paused")
    for chat in call(Target(data, address, token), work):
        pause = f"{chat.pause_seconds} s" if chat.pause_seconds else ""
        table.add_row(
            chat.account_id, chat.chat_id, chat.buyer_name, chat.last_text[:40], chat.waiting_reason, pause
        )
    console.print(table)


@app.command("send")
def send(
    account_id: str,
    chat_id: str,
    text: str,
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Say something in a chat yourself; automatic answers keep out for a while."""

    async def work(channel: grpc.aio.Channel) -> list[str]:
        request = pb.SendRequest(
            request_id=uuid.uuid4().hex, account_id=account_id, chat_id=chat_id, parts=[Part(text=text)]
        )
        response: pb.SendResponse = await ChatServiceStub(channel).Send(request, timeout=10)
        return list(response.outgoing_ids)

    console.print("queued:", *call(Target(data, address, token), work))


@app.command("pause")
def pause(
    account_id: str,
    chat_id: str,
    minutes: Annotated[int, typer.Argument(help="1 to 1440.")] = 10,
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Keep automatic answers out of a chat."""

    async def work(channel: grpc.aio.Channel) -> pb.Chat:
        request = pb.PauseChatRequest(account_id=account_id, chat_id=chat_id, minutes=minutes)
        response: pb.PauseChatResponse = await ChatServiceStub(channel).PauseChat(request, timeout=10)
        return response.chat

    console.print(f"paused for {call(Target(data, address, token), work).pause_seconds} s")


@app.command("resume")
def resume(
    account_id: str, chat_id: str, data: Data = DATA, address: Address = "", token: Token = ""
) -> None:
    """End a pause; what waits is answered."""

    async def work(channel: grpc.aio.Channel) -> None:
        request = pb.ResumeChatRequest(account_id=account_id, chat_id=chat_id)
        await ChatServiceStub(channel).ResumeChat(request, timeout=10)

    call(Target(data, address, token), work)
    console.print("resumed")
