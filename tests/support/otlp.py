"""A real OTLP/HTTP receiver for tests: takes what exporters send and keeps it as plain values."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """Ids are lower-case hex; `parent` is empty for a root."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent: str
    attributes: dict[str, object]


@dataclass(frozen=True, slots=True)
class ReceivedLog:
    """Ids are lower-case hex, empty outside a trace."""

    service: str
    severity: str
    body: str
    trace_id: str
    span_id: str
    attributes: dict[str, object]


class OtlpReceiver:
    """Start it, give its `url` as OTEL_EXPORTER_OTLP_ENDPOINT, read `spans`, `logs` and `metrics`.

    `metrics` are (service, metric name) pairs. `until` waits for what is still on its way.
    """

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self.logs: list[ReceivedLog] = []
        self.metrics: set[tuple[str, str]] = set()
        self.url = ""
        self._arrived = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/traces", self._traces)
        app.router.add_post("/v1/logs", self._logs)
        app.router.add_post("/v1/metrics", self._metrics)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Return when `condition` holds, looked at after each arrival; raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._arrived.clear()
                await self._arrived.wait()

    async def _traces(self, request: web.Request) -> web.Response:
        export = ExportTraceServiceRequest.FromString(await request.read())
        for resource in export.resource_spans:
            service = _service(resource.resource.attributes)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        ReceivedSpan(
                            service=service,
                            name=span.name,
                            trace_id=span.trace_id.hex(),
                            span_id=span.span_id.hex(),
                            parent=span.parent_span_id.hex(),
                            attributes=_values(span.attributes),
                        )
                    )
        return self._answer(ExportTraceServiceResponse().SerializeToString())

    async def _logs(self, request: web.Request) -> web.Response:
        export = ExportLogsServiceRequest.FromString(await request.read())
        for resource in export.resource_logs:
            service = _service(resource.resource.attributes)
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    self.logs.append(
                        ReceivedLog(
                            service=service,
                            severity=record.severity_text,
                            body=record.body.string_value,
                            trace_id=record.trace_id.hex(),
                            span_id=record.span_id.hex(),
                            attributes=_values(record.attributes),
                        )
                    )
        return self._answer(ExportLogsServiceResponse().SerializeToString())

    async def _metrics(self, request: web.Request) -> web.Response:
        export = ExportMetricsServiceRequest.FromString(await request.read())
        for resource in export.resource_metrics:
            service = _service(resource.resource.attributes)
            for scope in resource.scope_metrics:
                self.metrics.update((service, metric.name) for metric in scope.metrics)
        return self._answer(ExportMetricsServiceResponse().SerializeToString())

    def _answer(self, body: bytes) -> web.Response:
        self._arrived.set()
        return web.Response(body=body, content_type="application/x-protobuf")


def _service(attributes: Iterable[KeyValue]) -> str:
    return str(_values(attributes).get("service.name", ""))


def _values(attributes: Iterable[KeyValue]) -> dict[str, object]:
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _values(value.kvlist_value.values)
    return getattr(value, kind) if kind else None
