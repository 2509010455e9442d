"""`/v1`: OpenAI's API over every model of the caller's organization.

The key is a token of this installation. `OpenAI-Project`, which the SDKs set by `project=`, names the account
that pays. Streams are written as they come, a read of the provider's a write to the caller; what fails before
the first piece has a status, what fails later ends the stream with an error event and without `[DONE]`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from frontdesk.ai_proxy.callers import caller_of
from frontdesk.ai_proxy.completions import Completions
from frontdesk.ai_proxy.deadline import Alarm
from frontdesk.ai_proxy.errors import BrokenOff
from frontdesk.ai_proxy.model import Caller, Outcome, Piece
from frontdesk.ai_proxy.openai_door.errors import broken_body, broken_response, error_response
from frontdesk.ai_proxy.openai_door.requests import read_chat, read_embeddings
from frontdesk.ai_proxy.openai_door.responses import (
    Chunks,
    completion_body,
    embeddings_body,
    error_event,
    model_body,
    models_body,
)
from frontdesk.ai_proxy.openai_door.room import Place, Room
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import DeadlineExceeded, FrontdeskError, NotFound
from frontdesk.kit.http import LEFT, read_body, require
from frontdesk.kit.presence import CallerLeft, WhileThere
from frontdesk.kit.tokens import Role

log = logging.getLogger(__name__)

Batch = Sequence[Piece | Outcome]

MODEL_PATH = "/v1/models/"
MIB = 1024 * 1024

_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """`write_s`: a caller that takes nothing for so long, or has not sent its whole question, is cut off.
    `body_bytes`: the largest question; `room_bytes`: memory that all questions under way may take."""

    write_s: float = 30.0
    body_bytes: int = 16 * MIB
    room_bytes: int = 256 * MIB


class OpenAiDoor:
    """An ASGI application, made for one event loop."""

    def __init__(self, completions: Completions, clock: Clock, limits: DoorLimits) -> None:
        self._completions = completions
        self._limits = limits
        self._room = Room(limits.room_bytes)
        self._clock = clock
        self._enter = require(Role.agent)
        self._model_route = Route(MODEL_PATH + "{name}", self._model, methods=["GET"])
        routes = (
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/embeddings", self._embeddings, methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
        )
        self._routes = {route.path: route for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Below FastAPI a call would cost a fifth more."""
        request = Request(scope, receive)
        place: Place | None = None
        try:
            try:
                route = scope["route"] = self._route(scope["method"], scope["path"])
                principal = await self._enter(request)
                place = request.state.place = self._room.place(principal.organization_id)
                response = await route.endpoint(request)
            except (FrontdeskError, HTTPException) as error:
                response = error_response(error)
            except (CallerLeft, ClientDisconnect):
                response = Response(status_code=LEFT)
            except Exception:  # the boundary of a request: the log has the trace, the caller a sentence
                log.exception("a request failed")
                response = broken_response()
            await response(scope, receive, send)
        finally:
            if place is not None:
                place.end()

    async def _body(self, request: Request) -> bytes:
        place: Place = request.state.place
        alarm = Alarm(self._limits.write_s)
        try:
            body = await alarm.within(lambda: read_body(request, self._limits.body_bytes, place.arrived))
        except DeadlineExceeded:
            problem = f"the question did not come within {self._limits.write_s:g} s"
            raise HTTPException(408, problem) from None
        finally:
            alarm.close()
        place.whole(body)
        return body

    def _route(self, method: str, path: str) -> Route:
        route = self._routes.get(path)
        if route is None and path.startswith(MODEL_PATH):
            route = self._model_route
        if route is None:
            raise HTTPException(404, f"there is no {path[:128]!r} here")
        if method not in (route.methods or ()):
            allow = ", ".join(sorted(route.methods or ()))
            raise HTTPException(405, f"{path[:128]!r} is there for {allow} only", {"allow": allow})
        return route

    async def _chat(self, request: Request) -> Response:
        asked = read_chat(await self._body(request))
        caller = _caller(request, "stream" if asked.stream else "complete")
        answer_id, now = f"chatcmpl-{os.urandom(16).hex()}", self._clock.now_ms() // 1000
        async with WhileThere(request.receive):
            if not asked.stream:
                completion = await self._completions.complete(caller, asked.model, asked.prompt)
                return _json(completion_body(answer_id, now, asked.model, completion))
            batches = self._completions.stream(caller, asked.model, asked.prompt)
            first = await anext(batches)
        chunks = Chunks(answer_id, now, asked.model, include_usage=asked.include_usage)
        return _Streamed(first, batches, chunks, self._limits.write_s)

    async def _embeddings(self, request: Request) -> Response:
        asked = read_embeddings(await self._body(request))
        caller = _caller(request, "embed")
        async with WhileThere(request.receive):
            found, outcome = await self._completions.embed(caller, asked.model, asked.texts, asked.dimensions)
        return _json(embeddings_body(asked.model, found, outcome, as_base64=asked.base64))

    async def _models(self, request: Request) -> Response:
        caller = _caller(request, "models")
        return _json(models_body(await self._completions.models(caller.organization_id)))

    async def _model(self, request: Request) -> Response:
        caller = _caller(request, "models")
        name = request.scope["path"].removeprefix(MODEL_PATH)
        for model in await self._completions.models(caller.organization_id):
            if model.name == name:
                return _json(model_body(model))
        raise NotFound(f"there is no model {name[:64]!r}; GET /v1/models lists them")


class _Streamed(Response):
    """A streamed answer that has begun."""

    def __init__(
        self, first: Batch, batches: AsyncGenerator[Batch, None], chunks: Chunks, write_s: float
    ) -> None:
        super().__init__(status_code=200, headers=_STREAM_HEADERS, media_type="text/event-stream")
        # Response counts its empty body.
        self.raw_headers = [header for header in self.raw_headers if header[0] != b"content-length"]
        self._first = first
        self._batches = batches
        self._chunks = chunks
        self._write_s = write_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._batches):
            try:
                async with WhileThere(receive):
                    await self._write(send)
            except (CallerLeft, TimeoutError):
                # Gone, or too slow: nobody reads what would be said, so the provider is stopped too.
                return

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await self._send(send, self._chunks.write(self._first))
        try:
            async for batch in self._batches:
                await self._send(send, self._chunks.write(batch))
        except BrokenOff as broken:
            await self._send(send, error_event(broken_body(broken)))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, body: bytes) -> None:
        async with asyncio.timeout(self._write_s):
            await send({"type": "http.response.body", "body": body, "more_body": True})


def _caller(request: Request, operation: str) -> Caller:
    return caller_of("", request.headers.get("openai-project", ""), operation)


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
