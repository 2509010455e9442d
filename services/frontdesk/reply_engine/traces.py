"""A message's trace through the reply-engine, also across a debounce and a restart.

The traceparent of a buyer's message is kept with its chat, the decision's span continues it, and the outgoing
part carries the decision's; so the answer is in the trace of the question however long it waited.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace

from frontdesk.kit.telemetry import names
from frontdesk.kit.telemetry.ids import recording
from frontdesk.kit.telemetry.propagation import extract, inject
from frontdesk.reply_engine.model import Answer

log = logging.getLogger(__name__)
_tracer = trace.get_tracer(names.ENGINE_SCOPE)


def intake_trace(traceparent: str) -> str:
    """Record that a message was taken in; returns the traceparent to keep with its chat."""
    return _record(names.ENGINE_TAKE_IN, traceparent, {})


def decision_trace(traceparent: str, answer: Answer) -> str:
    """Record a decision in the trace of the message it answers; returns the traceparent of its parts."""
    return _record(names.ENGINE_DECIDE, traceparent, {names.ENGINE_STEP: answer.step})


@contextmanager
def ai_trace(traceparent: str) -> Iterator[None]:
    """A block in which the AI is asked, in the trace of the message that it answers."""
    if not traceparent:
        yield
        return
    with _tracer.start_as_current_span(names.ENGINE_ASK_AI, context=extract({"traceparent": traceparent})):
        yield


def _record(name: str, traceparent: str, attributes: dict[str, str]) -> str:
    if not traceparent or not recording():
        return traceparent
    parent = extract({"traceparent": traceparent})
    with _tracer.start_as_current_span(name, context=parent, attributes=attributes) as span:
        if not span.get_span_context().is_valid:
            return traceparent
        log.debug("%s", name)
        carrier: dict[str, str] = {}
        inject(carrier)
        return carrier.get("traceparent", traceparent)
