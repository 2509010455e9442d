"""Traces, metrics and logs of a process, by the standard OTEL_* variables.

Nothing set: spans cost next to nothing (ids only, see `ids`), no SDK is imported, logs go to stderr. With an
OTLP endpoint all three signals go there, over HTTP, from background threads. With a metrics port, Prometheus
can fetch the metrics (`Telemetry.prometheus`, served by `kit.http.ops_app`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from typing import TYPE_CHECKING, Literal

from opentelemetry import metrics, trace

from frontdesk.kit.config import TelemetrySettings
from frontdesk.kit.telemetry.ids import IdTracerProvider
from frontdesk.kit.telemetry.logs import OtlpHandler, configure_logging

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource
    from prometheus_client import CollectorRegistry

logger = logging.getLogger(__name__)

# A collector that is away must not make every exit as long as the drain's deadline.
MAX_DELIVERY_S = 5.0

Exporter = Literal["otlp", "console", "none"]


class Telemetry:
    """The providers of a process; a lifecycle component that delivers what is buffered when it stops.

    `tracer_provider` and `meter_provider` do nothing costly without an exporter.
    """

    name = "telemetry"

    def __init__(self, service_name: str, settings: TelemetrySettings) -> None:
        self.service_name = settings.otel_service_name or service_name
        self.tracer_provider: trace.TracerProvider = IdTracerProvider()
        self.meter_provider: metrics.MeterProvider = metrics.NoOpMeterProvider()
        self.logger_provider: LoggerProvider | None = None
        self._registry: CollectorRegistry | None = None
        self._shutdowns: list[Callable[[], None]] = []
        self._log_handler: OtlpHandler | None = None
        off = settings.otel_sdk_disabled
        default: Exporter = "otlp" if settings.otel_endpoint else "none"
        traces = "none" if off else settings.otel_traces_exporter or default
        pushed = settings.pushed_metrics
        logs = "none" if off else settings.otel_logs_exporter or default
        if traces != "none":
            self._set_up_traces(traces)
        if pushed != "none" or settings.metrics_port is not None:
            self._set_up_metrics(pushed, pulled=settings.metrics_port is not None)
        if logs != "none":
            self._set_up_logs()

    def prometheus(self) -> bytes:
        """The metrics in Prometheus' text format; empty when no metrics port is set. Thread-safe."""
        if self._registry is None:
            return b""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

    async def start(self) -> None:
        """Nothing: the providers work from the first line on."""

    async def stop(self, deadline_s: float) -> None:
        """Deliver what is buffered; what the collector does not take in time, at most 5 s, is dropped."""
        if self._log_handler is not None:
            logging.getLogger().removeHandler(self._log_handler)
        if not self._shutdowns:
            return
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def deliver() -> None:
            for shutdown in self._shutdowns:
                shutdown()
            with suppress(RuntimeError):  # the loop may have ended first
                loop.call_soon_threadsafe(done.set)

        # A daemon, not the executor: a collector that hangs must not hold the exit of the process.
        threading.Thread(target=deliver, name="telemetry-stop", daemon=True).start()
        try:
            async with asyncio.timeout(min(deadline_s * 0.9, MAX_DELIVERY_S)):
                await done.wait()
        except TimeoutError:
            logger.warning("the collector did not take the last telemetry in time")

    def attach_log_handler(self) -> None:
        """Send the process's log lines to the collector too, when one is set."""
        if self.logger_provider is not None:
            self._log_handler = OtlpHandler(self.logger_provider)
            logging.getLogger().addHandler(self._log_handler)

    def _set_up_traces(self, exporter: Exporter) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

        chosen: SpanExporter
        if exporter == "otlp":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            chosen = OTLPSpanExporter()
        else:
            chosen = ConsoleSpanExporter(out=sys.stderr)
        provider = TracerProvider(resource=self._resource(), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(chosen))
        self.tracer_provider = provider
        self._shutdowns.append(provider.shutdown)

    def _set_up_metrics(self, exporter: Exporter, *, pulled: bool) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import (
            ConsoleMetricExporter,
            MetricExporter,
            PeriodicExportingMetricReader,
        )

        readers: list[MetricReader] = []
        if exporter != "none":
            chosen: MetricExporter
            if exporter == "otlp":
                from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

                chosen = OTLPMetricExporter()
            else:
                chosen = ConsoleMetricExporter(out=sys.stderr)
            readers.append(PeriodicExportingMetricReader(chosen))
        if pulled:
            from opentelemetry.exporter.prometheus import PrometheusMetricReader
            from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

            self._registry = CollectorRegistry()
            ProcessCollector(registry=self._registry)
            GCCollector(registry=self._registry)
            readers.append(PrometheusMetricReader(registry=self._registry, scope_info_enabled=False))
        provider = MeterProvider(readers, resource=self._resource(), shutdown_on_exit=False)
        self.meter_provider = provider
        self._shutdowns.append(provider.shutdown)

    def _set_up_logs(self) -> None:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

        provider = LoggerProvider(resource=self._resource(), shutdown_on_exit=False)
        provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
        self.logger_provider = provider
        self._shutdowns.append(provider.shutdown)

    def _resource(self) -> Resource:
        from opentelemetry.sdk.resources import Resource

        return Resource.create(
            {
                "service.name": self.service_name,
                "service.namespace": "frontdesk",
                "service.version": metadata.version("frontdesk"),
                "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            }
        )


def setup_telemetry(service_name: str, settings: TelemetrySettings) -> Telemetry:
    """Set up logging and make the providers the process's own; once a process, raises RuntimeError after
    that.

    Add the result to the service first, so that it stops last.
    """
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        raise RuntimeError("telemetry is set up once a process")
    telemetry = Telemetry(service_name, settings)
    configure_logging(telemetry.service_name, level=settings.log_level, style=settings.log_format)
    trace.set_tracer_provider(telemetry.tracer_provider)
    metrics.set_meter_provider(telemetry.meter_provider)
    telemetry.attach_log_handler()
    return telemetry
