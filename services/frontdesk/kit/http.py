"""HTTP doors: one shape of error, a verified caller, and limits.

Every error leaves as `{code, message, data, trace_id}` (X-11). What a FrontdeskError says is for the caller;
any other exception is logged with its trace id and leaves as a generic sentence (X-12).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol

from fastapi import FastAPI, HTTPException, Request, WebSocket
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frontdesk.kit.errors import FrontdeskError, InvalidArgument, PermissionDenied
from frontdesk.kit.lifecycle import Readiness
from frontdesk.kit.principal import Principal, current_principal
from frontdesk.kit.security_headers import SecurityHeaders
from frontdesk.kit.telemetry import names
from frontdesk.kit.telemetry.propagation import extract, trace_id
from frontdesk.kit.tokens import Role

logger = logging.getLogger(__name__)

GENERIC_MESSAGE = "Something went wrong on our side. Give support the trace id."
RESTART_MESSAGE = "The service restarts. Try again in a moment."
GZIP_FROM_BYTES = 1024
WS_POLICY_VIOLATION = 1008
# The caller has left. Nobody reads it; the log and the metrics do.
LEFT = 499
API_CONTENT_POLICY = "default-src 'none'; frame-ancestors 'none'"

_STATUS: Final = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "FAILED_PRECONDITION": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_CODE: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Authenticator(Protocol):
    """Says who calls, from headers or metadata with lower-case names."""

    async def authenticate(self, metadata: Mapping[str, str]) -> Principal:
        """The caller; raises Unauthenticated."""
        ...


def create_app(
    title: str,
    authenticator: Authenticator,
    *,
    readiness: Readiness,
    max_body_bytes: int = 1024 * 1024,
    content_policy: str = API_CONTENT_POLICY,
    lifespan: Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]] | None = None,
    tracer: Tracer | None = None,
) -> FastAPI:
    """An application whose routes use `Depends(require(role))`.

    It answers `/healthz` and `/readyz`. Interactive documentation and the schema are not served;
    `app.openapi()` gives the schema. `content_policy` is the Content-Security-Policy header of every answer.
    """
    app = FastAPI(
        title=title,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        exception_handlers=_HANDLERS,
        middleware=_middleware(max_body_bytes, content_policy, tracer),
        # FastAPI's own spans and logs would be a second set, with queries and exception texts in them.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    app.state.authenticator = authenticator
    app.router.routes.extend(_health_routes(readiness))
    return app


def ops_app(readiness: Readiness, prometheus: Callable[[], bytes]) -> Starlette:
    """`/healthz`, `/readyz`, `/metrics` for the port that only the cluster reaches; asks for no token."""

    async def serve_metrics(_: Request) -> Response:
        body = await run_in_threadpool(prometheus)
        return Response(body, media_type="text/plain; version=1.0.0; charset=utf-8")

    return Starlette(
        routes=[*_health_routes(readiness), Route("/metrics", serve_metrics)],
        exception_handlers=_HANDLERS,
        middleware=_middleware(0, API_CONTENT_POLICY, None),
    )


class Beside:
    """`app`, and beside it doors of another protocol: below a door's path every request is the door's.

    A door gets headers, span, log line and compression as every request, and `require` works on it. Bodies
    (`read_body`), paths and the shapes of errors are its own. FastAPI's layers cost a call as much as a door.
    """

    def __init__(self, app: FastAPI, doors: Mapping[str, ASGIApp], tracer: Tracer | None = None) -> None:
        self._app = app
        self._doors = tuple(
            (path, SecurityHeaders(_RequestScope(_compressed(door), tracer), API_CONTENT_POLICY))
            for path, door in doors.items()
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for path, door in self._doors:
                if scope["path"].startswith(path):
                    # Where `require` looks for who authenticates.
                    scope["app"] = self._app
                    await door(scope, receive, send)
                    return
        await self._app(scope, receive, send)


async def read_body(request: Request, limit: int, arrived: Callable[[int], None] | None = None) -> bytes:
    """The whole body; raises BodyTooLarge above `limit` bytes, by its announced length or as it arrives, and
    ClientDisconnect. `arrived` is told the size of each part."""
    return await Request(request.scope, _bounded(request, limit, arrived)).body()


def require(role: Role) -> Callable[[HTTPConnection], Coroutine[Any, Any, Principal]]:
    """A dependency that gives the caller and sets `current_principal`.

    Raises Unauthenticated without a valid token and PermissionDenied when the caller's role is below `role`.
    """

    async def dependency(connection: HTTPConnection) -> Principal:
        authenticator: Authenticator = connection.app.state.authenticator
        principal = await authenticator.authenticate(connection.headers)
        if principal.role not in list(Role) or not Role(principal.role).at_least(role):
            raise PermissionDenied(f"this needs the role {role} or one above it", role=str(principal.role))
        current_principal.set(principal)
        return principal

    return dependency


def status_of(error: FrontdeskError) -> int:
    """The HTTP status of an error's code; 500 for a code that is our own fault."""
    return _STATUS.get(error.code, 500)


def _body(code: str, message: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {"code": code, "message": message, "data": _plain(data), "trace_id": trace_id()}


def _plain(value: object) -> Any:
    """`value` as JSON can hold it; what it can't is shown as text."""
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if isinstance(value, float) and math.isfinite(value) else str(value)


async def _frontdesk_error(connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, FrontdeskError)
    status = status_of(error)
    if isinstance(connection, WebSocket):
        return await _close(connection, error.code)
    if status == 500:
        logger.error("a request failed", exc_info=error, extra={"code": error.code})
        return JSONResponse(_body(error.code, GENERIC_MESSAGE, {}), status)
    headers = {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if error.retryable:
        wait_s = error.facts.get("retry_after_s", 1)
        headers["retry-after"] = str(max(1, round(wait_s))) if isinstance(wait_s, int | float) else "1"
    return JSONResponse(_body(error.code, error.message, error.facts), status, headers=headers)


async def _invalid_request(connection: HTTPConnection, error: Exception) -> Response:
    """What FastAPI found wrong, as INVALID_ARGUMENT with the field; the input is not repeated."""
    assert isinstance(error, RequestValidationError | WebSocketRequestValidationError)
    problems = [{"field": _field(item["loc"]), "problem": str(item["msg"])} for item in error.errors()]
    first = InvalidArgument(problems[0]["field"], problems[0]["problem"], problems=problems)
    return await _frontdesk_error(connection, first)


async def _http_exception(connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    code = _CODE.get(error.status_code, "INTERNAL" if error.status_code >= 500 else "INVALID_ARGUMENT")
    if isinstance(connection, WebSocket):
        return await _close(connection, code)
    return JSONResponse(_body(code, str(error.detail), {}), error.status_code, headers=error.headers)


async def _close(socket_: WebSocket, reason: str) -> Response:
    await socket_.close(WS_POLICY_VIOLATION, reason)
    return Response()  # a websocket's answer is its close; Starlette drops this


def _field(loc: Sequence[int | str]) -> str:
    """`("body", "rule", "keywords", 2)` as `rule.keywords[2]`."""
    path = ""
    for part in loc[1:] if len(loc) > 1 else loc:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path if not path.startswith("[") else f"body{path}"


_HANDLERS: Final[dict[int | type[Exception], Callable[[Any, Any], Coroutine[Any, Any, Response]]]] = {
    FrontdeskError: _frontdesk_error,
    RequestValidationError: _invalid_request,
    WebSocketRequestValidationError: _invalid_request,
    StarletteHTTPException: _http_exception,
}


def _health_routes(readiness: Readiness) -> list[Route]:
    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        failures = readiness.failures()
        return JSONResponse(
            {"status": "not ready" if failures else "ready", "failures": failures}, 503 if failures else 200
        )

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def _middleware(max_body_bytes: int, content_policy: str, tracer: Tracer | None) -> list[Middleware]:
    """Outermost first: every answer gets the headers, also those the scope and the limit give themselves."""
    return [
        Middleware(SecurityHeaders, content_policy=content_policy),
        Middleware(_RequestScope, tracer=tracer),
        Middleware(_compressed),
        Middleware(_BodyLimit, limit=max_body_bytes),
    ]


def _compressed(app: ASGIApp) -> ASGIApp:
    return GZipMiddleware(app, minimum_size=GZIP_FROM_BYTES)


class _RequestScope:
    """A server span, a log line, a duration, and the last resort for exceptions, per request."""

    QUIET: Final = ("/healthz", "/readyz", "/metrics")

    def __init__(self, app: ASGIApp, tracer: Tracer | None) -> None:
        self._app = app
        self._tracer = tracer or trace.get_tracer(names.HTTP_SCOPE)
        self._duration = metrics.get_meter(names.HTTP_SCOPE).create_histogram(
            names.HTTP_SERVER_DURATION,
            unit="s",
            description="Time from a request's head to the end of its answer.",
            explicit_bucket_boundaries_advisory=names.DURATION_BOUNDS_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self.QUIET:
            await self._app(scope, receive, send)
            return
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        begun = time.perf_counter()
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        with self._tracer.start_as_current_span(
            method, context=_trace_of(scope), kind=SpanKind.SERVER, record_exception=False
        ) as span:
            try:
                await self._app(scope, receive, watch)
            except asyncio.CancelledError:
                # The server stops and the deadline is over.
                if not status:
                    answer = JSONResponse(_body("UNAVAILABLE", RESTART_MESSAGE, {}), 503)
                    await answer(scope, receive, watch)
                raise
            except ClientDisconnect:
                # Gone before its body was here: nobody reads an answer, and nothing is wrong with us.
                status = status or LEFT
            except Exception:  # the boundary of a request: the log has the trace, the caller a sentence
                logger.exception("a request failed")
                if status:
                    raise
                answer = JSONResponse(_body("INTERNAL", GENERIC_MESSAGE, {}), 500)
                await answer(scope, receive, watch)
            finally:
                route = getattr(scope.get("route"), "path", "")
                span.update_name(f"{method} {route}".strip())
                span.set_attributes(
                    {names.HTTP_METHOD: method, names.HTTP_ROUTE: route, names.HTTP_STATUS: status}
                )
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))
                self._tell(method, route, status, time.perf_counter() - begun)

    def _tell(self, method: str, route: str, status: int, seconds: float) -> None:
        labels: dict[str, str | int] = {names.HTTP_METHOD: method, names.HTTP_STATUS: status}
        if route:
            labels[names.HTTP_ROUTE] = route
        if status >= 500:
            labels[names.ERROR_TYPE] = str(status)
        self._duration.record(seconds, labels)
        # The route, not the path or the query: those may hold what is nobody's business.
        logger.info(
            "request",
            extra={"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 1)},
        )


def _trace_of(scope: Scope) -> Context:
    """The trace that a request belongs to; most belong to none, and to look for one costs."""
    if any(name == b"traceparent" for name, _ in scope["headers"]):
        return extract(Headers(scope=scope))
    return Context()


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class BodyTooLarge(HTTPException):
    """413; an HTTPException because FastAPI passes on no other while it reads a body."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"the body is larger than {limit} bytes")


def _bounded(connection: Request, limit: int, arrived: Callable[[int], None] | None = None) -> Receive:
    """The connection's `receive`, which raises BodyTooLarge above `limit` bytes; an announced length above it
    raises at once."""
    announced = connection.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise BodyTooLarge(limit)
    size = 0

    async def receive() -> Message:
        nonlocal size
        message = await connection.receive()
        part = len(message.get("body", b""))
        size += part
        if size > limit:
            raise BodyTooLarge(limit)
        if arrived is not None:
            arrived(part)
        return message

    return receive


class _BodyLimit:
    """Refuses a body above `limit` bytes, by its announced length or as it arrives."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)
            try:
                receive = _bounded(request, self._limit)
            except BodyTooLarge as too_large:
                await (await _http_exception(request, too_large))(scope, receive, send)
                return
        await self._app(scope, receive, send)
