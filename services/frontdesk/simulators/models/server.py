"""The simulator as a server: all vendors and the control API on one port, a fast path for benches on another.

server = ModelsServer()
await server.start()
server.url, server.bench_url, server.script, server.log
await server.stop()

A client takes `url` as the base address of a provider, with `/v1` for OpenAI's kind: the paths of the vendors
do not overlap, but for GET /v1/models, where `anthropic-version` tells the two apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.errors import InvalidArgument
from frontdesk.simulators.models.asked import Asked, Refused
from frontdesk.simulators.models.bench import BenchServer
from frontdesk.simulators.models.control import Control
from frontdesk.simulators.models.doors.anthropic import AnthropicDoor
from frontdesk.simulators.models.doors.base import Door, Received
from frontdesk.simulators.models.doors.dashscope import DashScopeDoor
from frontdesk.simulators.models.doors.gemini import GeminiDoor
from frontdesk.simulators.models.doors.openai import OpenAIDoor
from frontdesk.simulators.models.log import Log
from frontdesk.simulators.models.performance import Stage
from frontdesk.simulators.models.script import Behaviour, Script
from frontdesk.simulators.models.speech import bench_size, compose, prompt_tokens, vectors

MAX_BODY = 16 * 1024 * 1024
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MODELS = ("chat", "reasoner", "embedding")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Read = Callable[[Received], Asked]
Answer = Callable[[Stage, web.Request], Awaitable[web.StreamResponse]]


class ModelsServer:
    """Model providers on a port; a lifecycle component. A port of 0 takes a free one.

    `keys` are the keys that are right; without any, every key but an empty one is. `models` are the names
    that are listed; a model of any name answers.
    """

    name = "models simulator"

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
        *,
        keys: tuple[str, ...] = (),
        models: tuple[str, ...] = MODELS,
        bench_port: int = 0,
        control_token: str = "",
    ) -> None:
        if host not in LOOPBACK and not control_token:
            raise InvalidArgument("control_token", "is needed on another address than loopback")
        self._host, self._port = host, port
        self._clock = clock or SystemClock()
        self._keys = keys
        self._models = models
        self._token = control_token
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.script = Script()
        self.log = Log(self._clock)
        self.bench = BenchServer(host, bench_port)
        self.url = ""

    async def start(self) -> None:
        """Open both ports."""
        app = web.Application(client_max_size=MAX_BODY)
        app.add_routes(self._routes())
        app.add_routes(Control(self.script, self.log, self._token).routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port, reuse_address=True).start()
        self.url = f"http://{self._host}:{self._runner.addresses[0][1]}"
        await self.bench.start()

    @property
    def bench_url(self) -> str:
        """The fast path of bench.py."""
        return self.bench.url

    async def stop(self, deadline_s: float = 5.0) -> None:
        """Close everything; what stalls is let go."""
        self._stopping.set()
        await self.bench.stop()
        if self._runner is not None:
            await asyncio.wait_for(self._runner.cleanup(), deadline_s)

    def _routes(self) -> list[web.RouteDef]:
        openai, dashscope, anthropic, gemini = OpenAIDoor(), DashScopeDoor(), AnthropicDoor(), GeminiDoor()
        aigc, google = "/api/v1/services", "/{version:v1|v1beta|v1alpha}/models/{model}"
        routes = [
            web.post(f"{aigc}/aigc/text-generation/generation", self._door(dashscope, dashscope.chat)),
            web.post(
                f"{aigc}/embeddings/text-embedding/text-embedding", self._door(dashscope, dashscope.embed)
            ),
            web.post("/v1/messages", self._door(anthropic, anthropic.chat)),
            web.post(
                google + r":{action:generateContent|streamGenerateContent}", self._door(gemini, gemini.chat)
            ),
            web.post(google + r":{action:embedContent|batchEmbedContents}", self._door(gemini, gemini.embed)),
            web.get("/v1beta/models", self._lists(gemini)),
            web.get("/v1/models", self._either(self._lists(anthropic), self._lists(openai))),
            web.get("/models", self._lists(openai)),
            web.get("/compatible-mode/v1/models", self._lists(openai)),
        ]
        # DeepSeek has no prefix, DashScope's compatible mode has its own.
        for prefix in ("", "/v1", "/compatible-mode/v1"):
            routes.append(web.post(f"{prefix}/chat/completions", self._door(openai, openai.chat)))
            routes.append(web.post(f"{prefix}/embeddings", self._door(openai, openai.embed)))
        return routes

    def _either(self, anthropic: Handler, other: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await (anthropic if "anthropic-version" in request.headers else other)(request)

        return handle

    def _lists(self, door: Door) -> Handler:
        async def answer(stage: Stage, request: web.Request) -> web.StreamResponse:
            stage.call.kind = "models"
            return await stage.whole(door.listed(self._models, self._clock.now_ms() // 1000), 0)

        return self._handler(door, answer)

    def _right(self, key: str) -> bool:
        return bool(key) and (not self._keys or key in self._keys)

    def _door(self, door: Door, read: Read) -> Handler:
        async def answer(stage: Stage, request: web.Request) -> web.StreamResponse:
            return await self._answer(request, stage, door, read)

        return self._handler(door, answer)

    def _handler(self, door: Door, answer: Answer) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            key = door.key(Received(request.headers, {}, request.match_info, request.query))
            call = self.log.begin(request.method, request.path, door.name, key, request.headers)
            stage = Stage(request, call, door, Behaviour(), self._clock, self._stopping)
            try:
                if not self._right(key):
                    return stage.refuse(door.wrong_key(key))
                return await answer(stage, request)
            except (asyncio.CancelledError, ConnectionError):
                call.cancelled = not call.whole and not self._stopping.is_set()
                raise
            finally:
                self.log.end(call)

        return handle

    async def _answer(self, request: web.Request, stage: Stage, door: Door, read: Read) -> web.StreamResponse:
        call = stage.call
        try:
            body = orjson.loads(await request.read())
            if not isinstance(body, dict):
                raise Refused(400, "The body is no JSON object.")
            asked = read(Received(request.headers, body, request.match_info, request.query))
        except orjson.JSONDecodeError:
            return stage.refuse(Refused(400, "We could not parse the JSON body of your request."))
        except Refused as refused:
            return stage.refuse(refused)
        except (AttributeError, KeyError, TypeError, ValueError):
            # A field is of another shape than the vendor's: they all answer that with 400.
            return stage.refuse(Refused(400, "Invalid type of a field."))
        call.ask(asked, body)
        behaviour = self.script.choose(door.name, asked.model, asked.last_words) or _usual(asked.model)
        stage = Stage(request, call, door, behaviour, self._clock, self._stopping)
        if asked.kind == "embed":
            given = door.embedded(asked, vectors(asked), prompt_tokens(asked), call.number)
            return await stage.whole(given, len(asked.texts))
        blocked = door.blocked() if behaviour.blocked else None
        if blocked is not None:
            return stage.refuse(blocked)
        voice = door.voice(asked, compose(asked, behaviour), call.number, self._clock.now_ms() // 1000)
        if asked.stream:
            return await stage.stream(voice)
        return await stage.whole(voice.whole(), len(voice.parts()))


def _usual(model: str) -> Behaviour:
    bench = bench_size(model)
    return Behaviour(batch=bench[1]) if bench else Behaviour()
