"""The trace a message or call belongs to, as W3C `traceparent` and `tracestate` headers.

Baggage is not carried: a stranger's headers must not travel through the fleet.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_propagator = TraceContextTextMapPropagator()


def inject(headers: dict[str, str], context: Context | None = None) -> dict[str, str]:
    """Put the trace of `context` (the current one by default), if any, into `headers` and return them."""
    _propagator.inject(headers, context=context)
    return headers


def extract(headers: Mapping[str, str]) -> Context:
    """The context in `headers` (lower-case names), to be a span's parent; empty when there is none."""
    return _propagator.extract(headers, context=Context())


def trace_id() -> str:
    """The current trace's id, 32 hex digits; empty outside a trace."""
    span = trace.get_current_span().get_span_context()
    return trace.format_trace_id(span.trace_id) if span.is_valid else ""
