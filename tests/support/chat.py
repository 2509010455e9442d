"""`/chat` for tests: gateways as they are wired, a scripted ai-proxy on real NATS, people with sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc.aio
import nats
from nats.aio.client import Client
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.api.ai.v1 import chat_pb2
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceServicer, add_AiServiceServicer_to_server
from frontdesk.connection_gateway.config import GatewaySettings
from frontdesk.connection_gateway.service import ConnectionGateway
from frontdesk.fleet import DoorPlan, Doors
from frontdesk.kit.clock import SystemClock
from frontdesk.kit.config import load
from frontdesk.kit.disconnect import disconnect
from frontdesk.kit.errors import ResourceExhausted, Unavailable
from frontdesk.kit.lifecycle import Service
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.principal import Principal, current_principal
from frontdesk.kit.rpc.server import RpcServer
from frontdesk.kit.secrets import generate_key
from frontdesk.kit.tokens import Role, generate_key_pair, mint

ORGANIZATION = "org"
OUTCOME = chat_pb2.Outcome(
    finish_reason=chat_pb2.FINISH_REASON_STOP,
    usage=chat_pb2.Usage(prompt_tokens=3, completion_tokens=5, cost="0.01", currency="CNY"),
    provider="offline",
    model="bm25",
)


def said(sequence: int, text: str, reasoning: str = "") -> pb.StreamCompleteResponse:
    """A piece."""
    return pb.StreamCompleteResponse(delta=pb.Delta(sequence=sequence, text=text, reasoning=reasoning))


def done() -> pb.StreamCompleteResponse:
    """The end."""
    return pb.StreamCompleteResponse(done=OUTCOME)


class ScriptedAi(AiServiceServicer):
    """Does what the first word of the question says.

    `hold` says two pieces and waits for `release` before the third; `echo` says every other word as a piece;
    `flood <pieces> <bytes>` says much and waits too; `break`, `die`, `refuse`, `bug` and `stop` fail, each in
    its way.
    """

    def __init__(self) -> None:
        self.asked: list[pb.StreamCompleteRequest] = []
        self.principals: list[Principal | None] = []
        self.cancelled: list[str] = []
        self.release = asyncio.Event()

    def turns(self, place: int = -1) -> list[str]:
        """What the model was shown with a question."""
        return [message.text for message in self.asked[place].prompt.messages]

    async def StreamComplete(
        self, request: pb.StreamCompleteRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[pb.StreamCompleteResponse, None]:
        self.asked.append(request)
        self.principals.append(current_principal.get())
        question = request.prompt.messages[-1].text
        try:
            async for event in self._answer(*question.split()):
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(question)
            raise

    async def _answer(self, kind: str, *words: str) -> AsyncGenerator[pb.StreamCompleteResponse, None]:
        if kind == "refuse":
            raise ResourceExhausted("The budget is used up.")
        if kind == "flood":
            for number in range(int(words[0])):
                yield said(number, "x" * int(words[1]))
            await self.release.wait()
            yield done()
            return
        if kind == "echo":
            for number, word in enumerate(words):
                yield said(number, word)
            yield done()
            return
        yield said(0, "one ")
        yield said(1, "two ", "thought")
        if kind == "hold":
            await self.release.wait()
            yield said(2, "three")
            yield done()
        elif kind == "break":
            error = pb.StreamError(code="UNAVAILABLE", message="It broke off.", retryable=True)
            yield pb.StreamCompleteResponse(error=error)
        elif kind == "die":
            raise Unavailable("secret detail")
        elif kind == "bug":
            raise RuntimeError("secret detail")


class LateClock(SystemClock):
    """The machine's, and so much later as a test wants."""

    late_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.late_ms


class Replica:
    """A gateway with its doors."""

    def __init__(self, service: Service, gateway: ConnectionGateway, doors: Doors) -> None:
        self.service = service
        self.gateway = gateway
        self._doors = doors

    @property
    def url(self) -> str:
        assert self._doors.http is not None
        return f"ws://127.0.0.1:{self._doors.http.port}/chat"


class Person:
    """A client of the typed protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            frame: dict[str, Any] = json.loads(await self.socket.recv())
        return frame

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """Frames up to the first of a kind."""
        frames = [await self.next()]
        while frames[-1]["type"] != kind:
            frames.append(await self.next())
        return frames

    async def ask(self, text: str, **more: str) -> str:
        """Ask; the answer's id."""
        await self.send(type="ask", text=text, **more)
        return str((await self.until("start"))[-1]["id"])

    async def code(self) -> int | None:
        """The code that the other side closes with; what it says before is read."""
        async with asyncio.timeout(10):
            async for _ in _to_the_end(self.socket):
                pass
        return self.socket.close_code


async def _to_the_end(socket: ClientConnection) -> AsyncGenerator[str | bytes, None]:
    try:
        while True:
            yield await socket.recv()
    except ConnectionClosed:
        return


class ChatBench:
    """Gateways on one NATS and one database, and an ai-proxy. A context: ends all of it."""

    def __init__(self, server: NatsServer, folder: Path, **settings: str) -> None:
        self._server = server
        self._private, self.public = generate_key_pair()
        self._environ = {
            "FRONTDESK_NATS_URL": f"nats://127.0.0.1:{server.port}",
            "FRONTDESK_NATS_USER": server.user,
            "FRONTDESK_NATS_PASSWORD": server.password,
            "FRONTDESK_DATABASE_URL": f"sqlite:///{folder}/gateway.db",
            "FRONTDESK_SECRET_KEYS": generate_key(),
            "FRONTDESK_JWT_PUBLIC_KEYS": self.public,
            "FRONTDESK_CHAT_WAKE_SECONDS": "2",
            "FRONTDESK_SHARDS": "2",
            **settings,
        }
        self.ai = ScriptedAi()  # type: ignore[abstract]  # what nobody calls here
        self.clock = LateClock()
        self.replicas: list[Replica] = []
        self._ai_server: RpcServer | None = None
        self._connections: list[Client] = []

    async def replica(self, name: str = "gateway-0", **settings: str) -> Replica:
        """A started gateway."""
        loaded = load(GatewaySettings, {**self._environ, "FRONTDESK_REPLICA": name, **settings})
        service = Service(name, drain_s=8)
        gateway = ConnectionGateway(loaded, service.spawn, self.clock)
        service.add(gateway)
        parts: Any = [gateway]
        doors = Doors(service, parts, DoorPlan(http_port=0), loaded)
        service.add(doors)
        await service.start()
        self.replicas.append(Replica(service, gateway, doors))
        return self.replicas[-1]

    async def start_ai(self) -> None:
        """Let ai-proxy answer."""
        nc = await nats.connect(
            self._server.url, reconnect_time_wait=0.05, max_reconnect_attempts=-1, error_cb=_quiet
        )
        self._connections.append(nc)
        self._ai_server = RpcServer(nc, "ai-proxy")
        self._ai_server.add(add_AiServiceServicer_to_server, self.ai)
        await self._ai_server.start()

    def token(self, subject: str = "ada", role: Role = Role.agent, **more: Any) -> str:
        return mint(
            self._private,
            subject=subject,
            organization_id=more.pop("organization_id", ORGANIZATION),
            role=role,
            **more,
        )

    def dial(
        self,
        *protocols: str,
        token: str | None = None,
        replica: int = 0,
        headers: Sequence[tuple[str, str]] = (),
        **more: Any,
    ) -> connect:
        """A socket; `token` None is Ada's, "" none."""
        token = self.token() if token is None else token
        credential = [("Authorization", f"Bearer {token}")] if token else []
        return connect(
            self.replicas[replica].url,
            subprotocols=[Subprotocol(name) for name in protocols] or None,
            additional_headers=[*credential, *headers],
            proxy=None,
            **more,
        )

    async def person(self, **more: Any) -> Person:
        """Somebody with the typed protocol."""
        return Person(await self.dial("frontdesk.v1", **more))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for replica in self.replicas:
            await replica.service.stop(5)
        if self._ai_server is not None:
            await self._ai_server.drain(0)
        for nc in self._connections:
            await disconnect(nc)


async def _quiet(_: Exception) -> None:
    """NATS is stopped on purpose in some tests."""
