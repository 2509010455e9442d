"""Spans and trace context of calls, on OpenTelemetry's API alone.

Where no SDK is set up nothing is started; a trace that came in from outside is still passed on.
"""

from __future__ import annotations

from collections.abc import Mapping

from grpc import StatusCode
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, Tracer, TracerProvider
from opentelemetry.trace import StatusCode as SpanStatus

from frontdesk.kit.rpc.routing import Method
from frontdesk.kit.telemetry.propagation import extract, inject

SCOPE = "frontdesk.kit.rpc"


class Tracing:
    """Starts the spans of one end of one transport (`system` is `grpc` or `nats`).

    `provider` None means the process's own, looked for until there is one.
    """

    def __init__(self, system: str, kind: SpanKind, provider: TracerProvider | None = None) -> None:
        self._system = system
        self._kind = kind
        self._tracer = provider.get_tracer(SCOPE) if provider is not None else None

    def tracer(self) -> Tracer | None:
        """The tracer, or None as long as nobody set up an SDK."""
        if self._tracer is None:
            provider = trace.get_tracer_provider()
            if not isinstance(provider, trace.ProxyTracerProvider):
                self._tracer = provider.get_tracer(SCOPE)
        return self._tracer

    def start(self, method: Method, parent: Context | None = None) -> Span | None:
        """A span for a call of `method`, or None without an SDK."""
        tracer = self.tracer()
        if tracer is None:
            return None
        attributes = {"rpc.system": self._system, "rpc.service": method.service, "rpc.method": method.name}
        name = f"{method.service}/{method.name}"
        return tracer.start_span(name, context=parent, kind=self._kind, attributes=attributes)


def end(span: Span, code: StatusCode) -> None:
    """End `span` with the call's code."""
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if code is not StatusCode.OK:
        span.set_status(Status(SpanStatus.ERROR, code.name))
    span.end()


def headers_for(span: Span | None) -> dict[str, str]:
    """The headers that carry `span`, or without one the trace this code already runs in."""
    carrier: dict[str, str] = {}
    if span is not None:
        inject(carrier, trace.set_span_in_context(span))
    elif trace.get_current_span().get_span_context().is_valid:
        inject(carrier)
    return carrier


def context_of(headers: Mapping[str, str] | None) -> Context | None:
    """The trace context in `headers`, or None when there is none."""
    if headers is None or "traceparent" not in headers:
        return None
    return extract(headers)
