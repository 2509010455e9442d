"""A scripted Goofish WebSocket server, and a connection to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from frontdesk.connection_gateway.platforms.goofish.adapter import Goofish
from frontdesk.connection_gateway.platforms.goofish.client import GoofishConnection
from frontdesk.connection_gateway.platforms.goofish.cookies import Cookies
from frontdesk.connection_gateway.platforms.goofish.settings import GoofishSettings
from frontdesk.connection_gateway.platforms.model import (
    ChatEvent,
    Push,
)
from frontdesk.kit.clock import SystemClock

OWN, BUYER, CHAT = "2200000000001", "3300000000002", "50000000001"
TYPING = "gQGRhAGzNTAwMDAwMDAwMDFAZ29vZmlzaAIBAwEEtTMzMDAwMDAwMDAwMDJAZ29vZmlzaA=="
COOKIES = f"unb={OWN}; cookie2=secret"

Frame = dict[str, Any]
Handler = Callable[["Script", ServerConnection, Frame], Coroutine[Any, Any, object]]


@dataclass
class Script:
    """What the server saw, and how it behaves; `answers` override the default of a path."""

    frames: list[Frame] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: dict[str, Handler] = field(default_factory=dict)
    sockets: list[ServerConnection] = field(default_factory=list)
    order: list[str] = field(default_factory=list)

    def seen(self, lwp: str) -> list[Frame]:
        """Requests of one path."""
        return [frame for frame in self.frames if frame.get("lwp") == lwp]

    @property
    def acks(self) -> list[Frame]:
        """Acknowledgements of pushes."""
        return [frame for frame in self.frames if "lwp" not in frame]


async def answer(
    ws: ServerConnection, frame: Frame, code: int = 200, body: object = None, **headers: str
) -> None:
    """Answer a request."""
    await ws.send(
        json.dumps({"headers": {"mid": frame["headers"]["mid"], **headers}, "code": code, "body": body})
    )


async def push(ws: ServerConnection, lwp: str, *data: str) -> None:
    """Push data items."""
    body = {"syncPushPackage": {"data": [{"data": item, "objectType": 40006} for item in data]}}
    await ws.send(json.dumps({"lwp": lwp, "headers": {"mid": f"9{len(data)} 0", "sid": "s"}, "body": body}))


async def _default(script: Script, ws: ServerConnection, frame: Frame) -> None:
    lwp = frame.get("lwp")
    if lwp == "/reg":
        await answer(ws, frame, sid="s")
        await push(ws, "/s/vulcan")
    elif lwp == "/r/SyncStatus/getState":
        await answer(ws, frame, body={"pts": 7})
    elif lwp == "/r/MessageSend/sendByReceiverScope":
        await answer(ws, frame, body={"messageId": f"{len(script.frames)}.PNM", "createAt": 5})
    elif lwp is not None:
        await answer(ws, frame, body={})


@asynccontextmanager
async def platform(script: Script) -> AsyncIterator[str]:
    """A server that follows the script; its address."""

    async def handle(ws: ServerConnection) -> None:
        assert ws.request is not None
        script.headers.append({name.lower(): value for name, value in ws.request.headers.raw_items()})
        script.sockets.append(ws)
        try:
            async for text in ws:
                frame = json.loads(text)
                script.frames.append(frame)
                await script.answers.get(frame.get("lwp", ""), _default)(script, ws, frame)
        except ConnectionClosed:
            return

    server: Server
    async with serve(handle, "127.0.0.1", 0, ping_interval=None, close_timeout=0.2) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/"


class Inbox:
    """Collects pushes; `hold` makes the receiver wait."""

    def __init__(self) -> None:
        self.pushes: list[tuple[Push, Sequence[ChatEvent]]] = []
        self.arrived = asyncio.Event()
        self.hold: asyncio.Event | None = None

    async def __call__(self, push: Push, said: Sequence[ChatEvent]) -> None:
        self.pushes.append((push, said))
        self.arrived.set()
        if self.hold is not None:
            await self.hold.wait()


@asynccontextmanager
async def connection(
    url: str, inbox: Inbox | None = None, **changes: Any
) -> AsyncIterator[tuple[GoofishConnection, Cookies]]:
    """A connection that is not open yet."""
    settings = replace(
        GoofishSettings(
            ws_url=url, open_timeout=2, close_timeout=0.3, ready_timeout=2, request_timeout=2, http_timeout=2
        ),
        **changes,
    )
    goofish = Goofish(settings, SystemClock())
    made = goofish.connection(OWN, inbox or Inbox())
    try:
        yield made, goofish.credentials(COOKIES)
    finally:
        await made.close()
        await goofish.close()


@asynccontextmanager
async def ready(
    script: Script, inbox: Inbox | None = None, **changes: Any
) -> AsyncIterator[GoofishConnection]:
    """An open connection to a scripted server."""
    async with platform(script) as url, connection(url, inbox, **changes) as (made, cookies):
        await made.connect(cookies, "tok", "DID-1")
        yield made


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is true, at most two seconds."""
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.005)
