"""A span and the metrics of each call, as OpenTelemetry's conventions for generative AI name them.

Nothing that was asked or said is in them, and no name that a stranger chose: only the models that answered.
What a call cost is exact in its span, which holds decimal text; the metric is a float, for pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context as otel
from opentelemetry import metrics, trace
from opentelemetry.metrics import Meter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from frontdesk.ai_proxy.model import FinishReason
from frontdesk.ai_proxy.spending import SpendRecord
from frontdesk.kit.telemetry import names
from frontdesk.kit.telemetry.ids import recording

# The conventions' names where they differ from our kinds.
_PROVIDERS = {"gemini": "gcp.gemini"}
# Sellers name their models and currencies: metrics tell this many of both apart.
_NAMES = 200
_OTHER = "_OTHER"
_MS = 1_000_000  # nanoseconds


class CallTraces:
    """Begins and ends the spans of calls, and measures them."""

    def __init__(self, tracer: Tracer | None = None, meter: Meter | None = None) -> None:
        self._tracer = tracer or trace.get_tracer(names.AI_SCOPE)
        self._always = tracer is not None
        meter = meter or metrics.get_meter(names.AI_SCOPE)
        self._duration = meter.create_histogram(
            names.AI_DURATION,
            unit="s",
            description="Time of a call of a model.",
            explicit_bucket_boundaries_advisory=names.AI_DURATION_BOUNDS_S,
        )
        self._first_token = meter.create_histogram(
            names.AI_FIRST_TOKEN,
            unit="s",
            description="Time until the first piece of a streamed answer.",
            explicit_bucket_boundaries_advisory=names.AI_FIRST_TOKEN_BOUNDS_S,
        )
        self._tokens = meter.create_histogram(
            names.AI_TOKEN_USAGE,
            unit="{token}",
            description="Tokens that a call used.",
            explicit_bucket_boundaries_advisory=names.AI_TOKEN_BOUNDS,
        )
        self._cost = meter.create_counter(names.AI_COST, description="What calls cost, by currency.")
        self._names: set[str] = set()

    def begin(self, operation: str, model: str, at_ns: int | None = None) -> Span | None:
        """The span of a call that begins now, or `at_ns`; None where no spans go anywhere."""
        if not (self._always or recording()):
            return None
        attributes = {names.AI_OPERATION: operation, names.AI_REQUEST_MODEL: model}
        return self._tracer.start_span(
            f"{operation} {model}", kind=SpanKind.CLIENT, attributes=attributes, start_time=at_ns
        )

    def past(self, operation: str, kind: str, spend: SpendRecord) -> None:
        """A call that nobody began here, and that is over."""
        span = self.begin(operation, spend.requested_model, spend.started_at_ms * _MS)
        self.end(span, operation, kind, spend, None, (spend.started_at_ms + spend.duration_ms) * _MS)

    def end(
        self,
        span: Span | None,
        operation: str,
        kind: str,
        spend: SpendRecord,
        finish: FinishReason | None,
        at_ns: int | None = None,
    ) -> None:
        """The call is over, since `at_ns`. `kind`: the provider's."""
        provider = _PROVIDERS.get(kind, kind)
        if span is not None:
            if span.is_recording():
                _tell(span, provider, spend, finish)
            span.end(at_ns)
        labels = {
            names.AI_OPERATION: operation,
            names.AI_PROVIDER: provider,
            names.AI_REQUEST_MODEL: self._bounded(spend.requested_model),
            names.AI_RESPONSE_MODEL: self._bounded(spend.model),
        }
        usage = spend.usage
        if usage.prompt_tokens:
            self._tokens.record(usage.prompt_tokens, {**labels, names.AI_TOKEN_TYPE: "input"})
        if usage.completion_tokens:
            self._tokens.record(usage.completion_tokens, {**labels, names.AI_TOKEN_TYPE: "output"})
        if spend.first_token_ms:
            self._first_token.record(spend.first_token_ms / 1000, labels)
        if spend.cost:
            currency = self._bounded(spend.currency)
            self._cost.add(float(spend.cost), {**labels, names.AI_CURRENCY: currency})
        if spend.code != "OK":
            labels[names.ERROR_TYPE] = spend.code
        self._duration.record(spend.duration_ms / 1000, labels)

    def _bounded(self, name: str) -> str:
        if name in self._names:
            return name
        if len(self._names) >= _NAMES:
            return _OTHER
        self._names.add(name)
        return name


def _tell(span: Span, provider: str, spend: SpendRecord, finish: FinishReason | None) -> None:
    span.set_attributes(
        {
            names.AI_PROVIDER: provider,
            names.AI_RESPONSE_MODEL: spend.model,
            names.AI_INPUT_TOKENS: spend.usage.prompt_tokens,
            names.AI_OUTPUT_TOKENS: spend.usage.completion_tokens,
            names.AI_CACHED: spend.cached,
        }
    )
    if finish is not None:
        span.set_attribute(names.AI_FINISH_REASONS, [finish.value])
    if spend.cost is not None:
        span.set_attributes({names.AI_COST: f"{spend.cost:f}", names.AI_CURRENCY: spend.currency})
    if spend.code != "OK":
        span.set_attribute(names.ERROR_TYPE, spend.code)
        span.set_status(Status(StatusCode.ERROR))


@contextmanager
def current(span: Span | None) -> Iterator[None]:
    """Make `span` the current one for a block that hands nothing to a caller meanwhile."""
    if span is None:
        yield
        return
    token = otel.attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        otel.detach(token)
