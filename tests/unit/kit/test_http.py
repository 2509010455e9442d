"""Errors, verified callers, limits, headers (security_headers.py) and the server (http_server.py) of HTTP."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import aiohttp
import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response, WebSocket
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from frontdesk.kit import errors
from frontdesk.kit.http import GENERIC_MESSAGE, Beside, create_app, ops_app, read_body, require
from frontdesk.kit.http_server import HttpServer
from frontdesk.kit.lifecycle import Readiness, Service
from frontdesk.kit.principal import Principal, current_principal
from frontdesk.kit.telemetry.ids import IdTracer
from frontdesk.kit.telemetry.propagation import trace_id
from frontdesk.kit.tokens import Role

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Names:
    """Takes the bearer token for the caller's role."""

    async def authenticate(self, metadata: Mapping[str, str]) -> Principal:
        role = metadata.get("authorization", "").removeprefix("Bearer ")
        if not role:
            raise errors.Unauthenticated("send a token")
        return Principal(subject="ada", organization_id="org-1", role=role, kind="user")


class Rule(BaseModel):
    keywords: list[Annotated[str, Field(min_length=2)]]


class Order(BaseModel):
    rule: Rule
    count: int = 1


RAISED: dict[str, Exception] = {
    "invalid": errors.InvalidArgument("rule.keywords[2]", "is empty"),
    "missing": errors.NotFound("no such rule", rule_id="r1"),
    "exists": errors.AlreadyExists("there already"),
    "state": errors.FailedPrecondition("stop it first"),
    "unauthenticated": errors.Unauthenticated("sign in"),
    "denied": errors.PermissionDenied("not yours"),
    "limit": errors.ResourceExhausted("too many", retry_after_s=7, odd=float("nan"), who={"a", "b"} - {"b"}),
    "away": errors.Unavailable("the database is away"),
    "late": errors.DeadlineExceeded("no answer"),
    "internal": errors.FrontdeskError("secret detail", path="/etc"),
    "poison": errors.Poison("secret detail"),
    "bug": RuntimeError("secret detail"),
    "teapot": HTTPException(418, "short and stout"),
}


def add_routes(app: FastAPI) -> None:
    router = APIRouter(prefix="/v1")

    @router.get("/raise/{what}")
    async def raise_it(what: str) -> None:
        raise RAISED[what]

    @router.post("/orders")
    async def order(order: Order, page: Annotated[int, Query(ge=1)] = 1) -> dict[str, int]:
        return {"count": order.count, "page": page}

    @router.get("/me")
    async def me(principal: Annotated[Principal, Depends(require(Role.agent))]) -> dict[str, Any]:
        return {
            "subject": principal.subject,
            "current": current_principal.get() == principal,
            "trace": trace_id(),
        }

    @router.get("/text")
    async def text(size: int) -> Response:
        return Response("x" * size, media_type="text/plain", headers={"cache-control": "max-age=60"})

    @router.websocket("/live")
    async def live(socket: WebSocket, _: Annotated[Principal, Depends(require(Role.viewer))]) -> None:
        await socket.accept()
        await socket.send_text("hello")
        await socket.receive()

    app.include_router(router)


@pytest.fixture
def readiness() -> Readiness:
    return Readiness()


@pytest.fixture
def app(readiness: Readiness) -> FastAPI:
    app = create_app("Test", Names(), readiness=readiness, max_body_bytes=2048, tracer=IdTracer())
    add_routes(app)
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.mark.parametrize(
    ("what", "status", "code", "data"),
    [
        ("invalid", 400, "INVALID_ARGUMENT", {"field": "rule.keywords[2]"}),
        ("missing", 404, "NOT_FOUND", {"rule_id": "r1"}),
        ("exists", 409, "ALREADY_EXISTS", {}),
        ("state", 409, "FAILED_PRECONDITION", {}),
        ("unauthenticated", 401, "UNAUTHENTICATED", {}),
        ("denied", 403, "PERMISSION_DENIED", {}),
        ("limit", 429, "RESOURCE_EXHAUSTED", {"retry_after_s": 7, "odd": "nan", "who": ["a"]}),
        ("away", 503, "UNAVAILABLE", {}),
        ("late", 504, "DEADLINE_EXCEEDED", {}),
        ("teapot", 418, "INVALID_ARGUMENT", {}),
    ],
)
async def test_an_error_has_one_shape(
    client: httpx.AsyncClient, what: str, status: int, code: str, data: dict[str, Any]
) -> None:
    """Each kind of error has its status and the body {code, message, data, trace_id} (X-11)."""
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    answer = await client.get(f"/v1/raise/{what}", headers=headers)
    error = RAISED[what]
    message = error.detail if isinstance(error, HTTPException) else str(error)
    assert answer.status_code == status
    assert answer.json() == {"code": code, "message": message, "data": data, "trace_id": TRACE}


async def test_errors_tell_how_to_go_on(client: httpx.AsyncClient) -> None:
    """401 names the scheme, a retryable error the seconds to wait."""
    assert (await client.get("/v1/raise/unauthenticated")).headers["www-authenticate"] == "Bearer"
    assert (await client.get("/v1/raise/limit")).headers["retry-after"] == "7"
    assert (await client.get("/v1/raise/away")).headers["retry-after"] == "1"


@pytest.mark.parametrize("what", ["internal", "poison", "bug"])
async def test_our_own_faults_leave_as_a_sentence(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """The caller gets a generic sentence and a trace id, the log the detail (X-12)."""
    answer = await client.get(f"/v1/raise/{what}")
    body = answer.json()
    assert answer.status_code == 500
    assert (body["message"], body["data"]) == (GENERIC_MESSAGE, {})
    assert re.fullmatch("[0-9a-f]{32}", body["trace_id"])
    assert "secret detail" not in answer.text
    assert "secret detail" in caplog.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("query", "body", "field"),
    [
        ("", {"rule": {"keywords": ["ok", "ok", "x"]}}, "rule.keywords[2]"),
        ("", {"rule": {}}, "rule.keywords"),
        ("", {}, "rule"),
        ("", [1], "body"),
        ("", None, "body"),
        ("?page=0", {"rule": {"keywords": []}}, "page"),
    ],
)
async def test_bad_input_names_the_field(
    client: httpx.AsyncClient, query: str, body: object, field: str
) -> None:
    """What FastAPI refuses is a 400 with the path of the field."""
    answer = await client.post(f"/v1/orders{query}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT")
    assert answer.json()["data"]["field"] == field


async def test_all_bad_fields_are_named_and_no_input_is_repeated(client: httpx.AsyncClient) -> None:
    """Two problems are both listed; what was sent does not come back."""
    answer = await client.post("/v1/orders?page=no", json={"rule": {"keywords": []}, "count": "hunter2"})
    problems = answer.json()["data"]["problems"]
    assert sorted(problem["field"] for problem in problems) == ["count", "page"]
    assert "hunter2" not in answer.text


async def test_a_body_that_is_no_json_is_a_clear_error(client: httpx.AsyncClient) -> None:
    """Broken JSON is a 400 in the same shape."""
    answer = await client.post(
        "/v1/orders", content=b'{"rule": ', headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT")


async def test_unknown_paths_and_methods_have_the_same_shape(client: httpx.AsyncClient) -> None:
    """404 and 405 of the router look like every other error."""
    assert (await client.get("/nowhere")).json()["code"] == "NOT_FOUND"
    answer = await client.delete("/v1/me")
    assert (answer.status_code, answer.json()["code"]) == (405, "UNIMPLEMENTED")


async def test_a_role_opens_what_it_may(client: httpx.AsyncClient) -> None:
    """Agents and those above get in with `current_principal` set; a viewer, a stranger and nobody do not."""
    for role in ("agent", "owner"):
        answer = await client.get("/v1/me", headers={"authorization": f"Bearer {role}"})
        assert answer.json()["subject"] == "ada"
        assert answer.json()["current"] is True
        assert re.fullmatch("[0-9a-f]{32}", answer.json()["trace"])
    for role in ("viewer", "emperor"):
        answer = await client.get("/v1/me", headers={"authorization": f"Bearer {role}"})
        assert (answer.status_code, answer.json()["code"]) == (403, "PERMISSION_DENIED")
    assert (await client.get("/v1/me")).status_code == 401


async def chunks(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 512):
        yield b" " * 512


async def test_a_large_body_is_refused(client: httpx.AsyncClient) -> None:
    """Above the limit is 413, by the announced length and by what really comes."""
    json = {"content-type": "application/json"}
    announced = await client.post("/v1/orders", content=b" " * 2049, headers=json)
    streamed = await client.post("/v1/orders", content=chunks(4096), headers=json)
    for answer in (announced, streamed):
        assert (answer.status_code, answer.json()["code"]) == (413, "INVALID_ARGUMENT")
        assert answer.json()["message"] == "the body is larger than 2048 bytes"
        assert re.fullmatch("[0-9a-f]{32}", answer.json()["trace_id"])
    fits = await client.post("/v1/orders", content=b'{"rule":{"keywords":[]}}'.ljust(2048), headers=json)
    assert fits.status_code == 200


async def test_answers_above_a_kibibyte_are_compressed(client: httpx.AsyncClient) -> None:
    """gzip from 1 KiB on, when the client takes it (X-22)."""
    assert (await client.get("/v1/text?size=1024")).headers.get("content-encoding") == "gzip"
    assert "content-encoding" not in (await client.get("/v1/text?size=1023")).headers
    plain = await client.get("/v1/text?size=4096", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers


async def test_every_answer_has_the_security_headers(client: httpx.AsyncClient, app: FastAPI) -> None:
    """Also errors have them; a route's own header wins; HSTS only on https."""
    answer = await client.get("/nowhere")
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert "strict-transport-security" not in answer.headers
    assert (await client.get("/v1/text?size=1")).headers["cache-control"] == "max-age=60"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://test") as secure:
        assert "strict-transport-security" in (await secure.get("/healthz")).headers


async def test_no_schema_and_no_documentation_are_served(client: httpx.AsyncClient) -> None:
    """The usual addresses of FastAPI answer 404."""
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert (await client.get(path)).status_code == 404


async def test_health_and_readiness(client: httpx.AsyncClient, readiness: Readiness) -> None:
    """/healthz is always well; /readyz names what is not ready."""
    reason: list[str] = ["connecting"]
    readiness.add("nats", lambda: reason[0] if reason else None)
    assert (await client.get("/healthz")).status_code == 200
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["failures"]) == (503, {"nats": "connecting"})
    reason.clear()
    assert (await client.get("/readyz")).status_code == 200


async def test_a_request_is_one_log_line_without_its_content(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The line has method, route template, status and time; path values, query and body are not in it."""
    caplog.set_level(logging.INFO, "frontdesk")
    await client.post("/v1/orders?page=1", json={"rule": {"keywords": ["hunter2"]}})
    await client.get("/v1/raise/missing?token=hunter2")
    await client.get("/healthz")
    lines = [record for record in caplog.records if record.name == "frontdesk.kit.http"]
    seen = [(vars(line)["method"], vars(line)["route"], vars(line)["status"]) for line in lines]
    assert seen == [("POST", "/v1/orders", 200), ("GET", "/v1/raise/{what}", 404)]
    assert not any("hunter2" in repr(vars(line)) for line in lines)


async def test_the_operations_app_serves_metrics(readiness: Readiness) -> None:
    """/metrics is the given text, in Prometheus' type, beside health and readiness; nothing else is there."""
    ops = ops_app(readiness, lambda: b"answers_total 3\n")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(ops), base_url="http://test") as client:
        answer = await client.get("/metrics")
        assert answer.text == "answers_total 3\n"
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/v1/me")).status_code == 404


async def test_the_server_serves_and_stops(app: FastAPI) -> None:
    """Port 0 becomes a real port, requests are answered, and after stop nobody listens."""
    server = HttpServer("http", app)
    await server.start()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{server.port}/healthz") as answer:
            assert answer.status == 200
            assert "server" not in answer.headers
        await server.stop(5)
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"http://127.0.0.1:{server.port}/healthz")


async def test_a_websocket_is_verified_too(app: FastAPI) -> None:
    """With a token the socket opens; without one the handshake is refused."""
    server = HttpServer("http", app)
    await server.start()
    url = f"http://127.0.0.1:{server.port}/v1/live"
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url, headers={"authorization": "Bearer viewer"}) as socket:
            assert await socket.receive_str() == "hello"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(url)
        assert refused.value.status == 403
    await server.stop(5)


@pytest.mark.parametrize("finishes", [True, False])
async def test_a_request_in_flight_is_finished_or_told(readiness: Readiness, finishes: bool) -> None:
    """Stop lets a running request answer; one that takes longer than the deadline gets a 503."""
    app = create_app("Test", Names(), readiness=readiness)
    arrived, go_on = asyncio.Event(), asyncio.Event()

    @app.get("/slow")
    async def slow() -> str:
        arrived.set()
        await go_on.wait()
        return "done"

    server = HttpServer("http", app)
    await server.start()
    async with aiohttp.ClientSession() as session, asyncio.timeout(5):
        request = asyncio.create_task(session.get(f"http://127.0.0.1:{server.port}/slow"))
        await arrived.wait()
        stopping = asyncio.create_task(server.stop(4 if finishes else 0.6))
        if finishes:
            go_on.set()
        answer = await request
        body = await answer.json()
        await stopping
    assert (answer.status, body if finishes else body["code"]) == (
        (200, "done") if finishes else (503, "UNAVAILABLE")
    )


async def test_a_taken_port_is_told(app: FastAPI) -> None:
    """Listening where somebody listens already raises Unavailable with the address."""
    first = HttpServer("first", app)
    await first.start()
    with pytest.raises(errors.Unavailable, match=f"second can't listen on 127.0.0.1:{first.port}"):
        await HttpServer("second", app, port=first.port).start()
    await first.stop(5)


async def test_an_application_that_does_not_start_is_told(readiness: Readiness) -> None:
    """An error in the lifespan is raised by start, and does not end the process."""

    @asynccontextmanager
    async def broken(_: FastAPI) -> AsyncIterator[None]:
        if not readiness.failures():
            raise RuntimeError("boom")
        yield

    app = create_app("Test", Names(), readiness=readiness, lifespan=broken)
    with pytest.raises(errors.Unavailable, match="http could not start"):
        await HttpServer("http", app).start()


async def test_the_server_is_a_part_of_a_service(app: FastAPI) -> None:
    """In a service it starts, serves its readiness, and drains with the rest."""
    service = Service("shop", drain_s=5)
    server = HttpServer("http", ops_app(service.readiness, lambda: b""), spawn=service.spawn)
    service.add(server)
    running = asyncio.create_task(service.run())
    async with asyncio.timeout(5), aiohttp.ClientSession() as session:
        while service.readiness.failures():
            await asyncio.sleep(0)
        async with session.get(f"http://127.0.0.1:{server.port}/readyz") as answer:
            assert answer.status == 200
        service.request_stop()
        assert await running == 0


async def test_a_head_without_end_is_refused() -> None:
    """Headers that go on and on are answered with 400 and the connection is closed; others go on."""
    server = HttpServer("http", FastAPI())
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    endless = "".join(f"x-{number}: {'y' * 1000}\r\n" for number in range(33))
    writer.write(f"GET / HTTP/1.1\r\nhost: x\r\n{endless}".encode())
    async with asyncio.timeout(5):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 400")
    writer.close()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        assert (await client.get("/", headers={"x": "y" * 8_000})).status_code == 404
        assert (await client.post("/", content=b"z" * 100_000)).status_code == 404
    await server.stop(1)


class Echo:
    """A door of a protocol of its own: says what it got, and who sent it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._enter = require(Role.agent)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if scope["path"] == "/echo/bug":
            raise RuntimeError("secret detail")
        if scope["path"] == "/echo/large":
            await Response("x" * 2000)(scope, receive, send)
            return
        who = await self._enter(request)
        try:
            body = await read_body(request, self._limit)
        except HTTPException as error:
            await Response(str(error.detail), error.status_code)(scope, receive, send)
            return
        await Response(who.subject.encode() + b":" + body)(scope, receive, send)


@pytest.fixture
async def beside(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    doors = Beside(app, {"/echo/": Echo(8)}, IdTracer())
    transport = httpx.ASGITransport(doors)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_a_door_beside_the_application(beside: httpx.AsyncClient) -> None:
    """It knows its callers and has the headers of every door; the application has what is not its own."""
    headers = {"authorization": "Bearer agent"}
    answer = await beside.post("/echo/any", content=b"hello", headers=headers)
    assert answer.text == "ada:hello"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await beside.get("/healthz")).status_code == 200
    assert (await beside.get("/echoes")).json()["code"] == "NOT_FOUND"


async def test_what_a_door_beside_says_is_compressed_too(beside: httpx.AsyncClient) -> None:
    """Where it is long, and the caller takes it."""
    answer = await beside.get("/echo/large")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text == "x" * 2000
    plain = await beside.get("/echo/large", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers


async def test_a_door_beside_is_safe(beside: httpx.AsyncClient) -> None:
    """What it did not think of says nothing of its inside."""
    answer = await beside.get("/echo/bug")
    assert (answer.status_code, answer.json()["message"]) == (500, GENERIC_MESSAGE)
    assert "secret detail" not in answer.text


async def _in_parts(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_door_bounds_its_bodies(beside: httpx.AsyncClient) -> None:
    """By the announced length, and as it arrives when none is announced."""
    headers = {"authorization": "Bearer agent"}
    announced = await beside.post("/echo/a", content=b"123456789", headers=headers)
    arriving = await beside.post("/echo/a", content=_in_parts(b"12345", b"6789"), headers=headers)
    just = await beside.post("/echo/a", content=_in_parts(b"1234", b"5678"), headers=headers)
    assert (announced.status_code, arriving.status_code, just.status_code) == (413, 413, 200)
