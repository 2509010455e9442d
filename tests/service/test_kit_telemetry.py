"""kit/telemetry against a real OTLP/HTTP receiver: a process's spans, logs and metrics arrive, joined by a
trace."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator

import pytest

from support.otlp import OtlpReceiver

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"

# A whole small service: telemetry first, then an HTTP door; one request comes with a trace, then it drains.
PROGRAM = f"""
import asyncio, logging
import aiohttp
from fastapi import Depends
from opentelemetry import trace
from frontdesk.kit.config import TelemetrySettings, load
from frontdesk.kit.http import create_app
from frontdesk.kit.http_server import HttpServer
from frontdesk.kit.lifecycle import Service, run_program
from frontdesk.kit.telemetry.setup import setup_telemetry

class Nobody:
    async def authenticate(self, metadata):
        raise AssertionError

async def main():
    telemetry = setup_telemetry("shop", load(TelemetrySettings))
    service = Service("shop", drain_s=8)
    app = create_app("Shop", Nobody(), readiness=service.readiness)

    @app.get("/things/{{thing}}")
    async def get(thing: str):
        with trace.get_tracer("shop").start_as_current_span("look up", attributes={{"n": 1}}):
            logging.getLogger("shop").warning("asked", extra={{"n": 1, "cookie": "SECRET"}})
        return thing

    server = HttpServer("http", app, spawn=service.spawn)
    service.add(telemetry)
    service.add(server)
    running = asyncio.create_task(service.run())
    while service.readiness.failures():
        await asyncio.sleep(0.01)
    headers = {{"traceparent": "00-{TRACE}-{PARENT}-01"}}
    async with aiohttp.ClientSession() as session:
        await session.get(f"http://127.0.0.1:{{server.port}}/things/hidden?q=SECRET", headers=headers)
    service.request_stop()
    return await running

raise SystemExit(run_program(main))
"""


@pytest.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    receiver = OtlpReceiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


async def run(**environ: str) -> tuple[int, str]:
    """Exit code and log of PROGRAM with `environ` and no other setting."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "FRONTDESK_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        env=clean | environ,
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(60):
        _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, errors.decode()


async def test_all_three_signals_arrive_in_one_trace(receiver: OtlpReceiver) -> None:
    """With an endpoint set, spans, log and metric arrive before the process ends, under the caller's
    trace."""
    code, log = await run(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    assert code == 0, log
    assert {span.name for span in receiver.spans} == {"GET /things/{thing}", "look up"}
    assert len(receiver.spans) == 2
    server, inner = sorted(receiver.spans, key=lambda span: span.name)
    assert {span.service for span in receiver.spans} == {"shop"}
    assert {span.trace_id for span in receiver.spans} == {TRACE}
    assert (server.parent, inner.parent) == (PARENT, server.span_id)
    assert inner.attributes == {"n": 1}
    assert server.attributes["http.response.status_code"] == 200
    [asked] = [entry for entry in receiver.logs if entry.body == "asked"]
    assert (asked.service, asked.severity, asked.trace_id, asked.span_id) == (
        "shop",
        "WARNING",
        TRACE,
        inner.span_id,
    )
    assert asked.attributes == {"n": 1, "cookie": "[redacted]"}
    assert ("shop", "http.server.request.duration") in receiver.metrics
    everything = repr([receiver.spans, receiver.logs])
    assert "SECRET" not in everything
    assert "hidden" not in everything


async def test_the_standard_variables_choose(receiver: OtlpReceiver) -> None:
    """A sampler that is off, exporters set to none and another service name are obeyed."""
    code, log = await run(
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_TRACES_SAMPLER="always_off",
        OTEL_METRICS_EXPORTER="none",
        OTEL_SERVICE_NAME="other",
    )
    assert code == 0, log
    assert receiver.spans == []
    assert receiver.metrics == set()
    assert {entry.service for entry in receiver.logs} == {"other"}
    assert {entry.trace_id for entry in receiver.logs if entry.body == "asked"} == {TRACE}


async def test_the_sdk_can_be_disabled(receiver: OtlpReceiver) -> None:
    """OTEL_SDK_DISABLED sends nothing although an endpoint is set; the log still has the trace."""
    code, log = await run(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_SDK_DISABLED="true")
    assert code == 0, log
    assert (receiver.spans, receiver.logs, receiver.metrics) == ([], [], set())
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["trace_id"] for line in lines if line["msg"] == "asked"] == [TRACE]


async def test_a_dead_collector_does_not_hold_the_exit() -> None:
    """With nobody at the endpoint the service still drains within its deadline."""
    begun = asyncio.get_running_loop().time()
    code, log = await run(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert code == 0, log
    assert asyncio.get_running_loop().time() - begun < 20
