"""Trace ids without an SDK: what a service uses when no exporter is set.

Each root span gets a fresh id, so that log lines, error bodies and all services a message passes share one
trace id; nothing is recorded and no sampled flag is set. A span inside a trace is the trace's own context,
unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextvars import Token

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Tracer, TracerProvider
from opentelemetry.util.types import Attributes


class _Current:
    """Makes a span the current one for a block. A class, as generators showed in the profile of a message."""

    __slots__ = ("_span", "_token")
    _token: Token[Context]

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> Span:
        self._token = otel.attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(self, *_error: object) -> None:
        otel.detach(self._token)


class IdTracer(Tracer):
    """Gives spans that have ids and record nothing."""

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        parent = trace.get_current_span(context).get_span_context()
        if parent.is_valid:
            return NonRecordingSpan(parent)
        random = os.urandom(24)
        return NonRecordingSpan(
            SpanContext(
                trace_id=int.from_bytes(random[:16]) or 1,
                span_id=int.from_bytes(random[16:]) or 1,
                is_remote=False,
            )
        )

    def start_as_current_span(  # type: ignore[override]  # a context manager is enough, nobody decorates with it
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> _Current:
        return _Current(self.start_span(name, context))


class IdTracerProvider(TracerProvider):
    """Gives everybody the same `IdTracer`."""

    def __init__(self) -> None:
        self._tracer = IdTracer()

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Tracer:
        return self._tracer


def recording() -> bool:
    """Whether spans go anywhere: without an SDK only their ids matter, which a trace keeps by itself."""
    return not isinstance(trace.get_tracer_provider(), IdTracerProvider)
