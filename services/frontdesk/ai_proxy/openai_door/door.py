"""`/v1`: OpenAI's API over every model of the caller's organization.

The key is a token of this installation. `OpenAI-Project`, which the SDKs set by `project=`, names the account
that pays. Streams are written as they come, a read of the provider's a write to the caller; what fails before
the first piece has a status, what fails later ends the stream with an error event and without `[DONE]`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from frontdesk.ai_proxy.callers import caller_of
from frontdesk.ai_proxy.completions import Completions
from frontdesk.ai_proxy.errors import BrokenOff
from frontdesk.ai_proxy.model import Caller, Outcome, Piece
from frontdesk.ai_proxy.openai_door.errors import broken_body, error_response
from frontdesk.ai_proxy.openai_door.requests import read_chat, read_embeddings
from frontdesk.ai_proxy.openai_door.responses import (
    Chunks,
    completion_body,
    embeddings_body,
    error_event,
    model_body,
    models_body,
)
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import FrontdeskError, NotFound
from frontdesk.kit.http import require
from frontdesk.kit.presence import CallerLeft, WhileThere
from frontdesk.kit.tokens import Role

Batch = Sequence[Piece | Outcome]
Endpoint = Callable[[Request], Awaitable[Response]]

# Nobody reads it; the log and the metrics do.
LEFT = 499

_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class OpenAiDoor:
    """The routes. `write_s`: a caller that takes nothing for so long is cut off."""

    def __init__(self, completions: Completions, clock: Clock, *, write_s: float) -> None:
        self._completions = completions
        self._clock = clock
        self._write_s = write_s
        self._enter = require(Role.agent)

    @property
    def router(self) -> APIRouter:
        """Routes without FastAPI's reading of bodies: errors have OpenAI's shapes, and a call costs less."""
        router = APIRouter()
        routes: Sequence[tuple[str, str, Endpoint]] = (
            ("POST", "/v1/chat/completions", self._chat),
            ("POST", "/v1/embeddings", self._embeddings),
            ("GET", "/v1/models", self._models),
            ("GET", "/v1/models/{name:path}", self._model),
        )
        for method, path, endpoint in routes:
            router.add_route(path, self._guarded(endpoint), methods=[method])
        return router

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        async def guarded(request: Request) -> Response:
            try:
                await self._enter(request)
                return await endpoint(request)
            except FrontdeskError as error:
                return error_response(error)

        return guarded

    async def _chat(self, request: Request) -> Response:
        asked = read_chat(await request.body())
        caller = _caller(request, "stream" if asked.stream else "complete")
        answer_id, now = f"chatcmpl-{uuid.uuid4().hex}", self._clock.now_ms() // 1000
        if asked.stream:
            batches = self._completions.stream(caller, asked.model, asked.prompt)
            chunks = Chunks(answer_id, now, asked.model, include_usage=asked.include_usage)
            return _Streamed(batches, chunks, self._write_s)
        try:
            async with WhileThere(request.receive):
                completion = await self._completions.complete(caller, asked.model, asked.prompt)
        except CallerLeft:
            return Response(status_code=LEFT)
        return _json(completion_body(answer_id, now, asked.model, completion))

    async def _embeddings(self, request: Request) -> Response:
        asked = read_embeddings(await request.body())
        caller = _caller(request, "embed")
        found, outcome = await self._completions.embed(caller, asked.model, asked.texts, asked.dimensions)
        return _json(embeddings_body(asked.model, found, outcome, as_base64=asked.base64))

    async def _models(self, request: Request) -> Response:
        caller = _caller(request, "models")
        return _json(models_body(await self._completions.models(caller.organization_id)))

    async def _model(self, request: Request) -> Response:
        caller = _caller(request, "models")
        name = request.path_params["name"]
        for model in await self._completions.models(caller.organization_id):
            if model.name == name:
                return _json(model_body(model))
        raise NotFound(f"there is no model {name[:64]!r}; GET /v1/models lists them")


class _Streamed(Response):
    """A streamed answer; what fails before the first piece is an answer with a status."""

    def __init__(self, batches: AsyncGenerator[Batch, None], chunks: Chunks, write_s: float) -> None:
        super().__init__(status_code=200, headers=_STREAM_HEADERS, media_type="text/event-stream")
        # Response counts its empty body.
        self.raw_headers = [header for header in self.raw_headers if header[0] != b"content-length"]
        self._batches = batches
        self._chunks = chunks
        self._write_s = write_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._batches):
            try:
                async with WhileThere(receive):
                    try:
                        first = await anext(self._batches)
                    except FrontdeskError as error:
                        await error_response(error)(scope, receive, send)
                        return
                    await self._write(first, send)
            except (CallerLeft, TimeoutError):
                # Gone, or too slow: nobody reads what would be said, so the provider is stopped too.
                return

    async def _write(self, first: Batch, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await self._send(send, self._chunks.write(first))
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
