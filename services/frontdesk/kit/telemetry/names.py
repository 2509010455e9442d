"""Every name of a metric, span attribute and instrumentation scope; no other file has one.

Names that exist in OpenTelemetry's semantic conventions are taken from there, the rest begin with
`frontdesk.`. Metrics say their unit; a time is in seconds. No attribute holds what a customer wrote, a cookie
or a token.
"""

from __future__ import annotations

# The way of a message, span by span; ARCHITECTURE.md tells what happens in each.
GATEWAY_SCOPE = "frontdesk.connection_gateway"
GATEWAY_TAKE_IN = "gateway take in"
GATEWAY_SEND = "gateway send"
GATEWAY_WRITE = "gateway write"
GATEWAY_OUTCOME = "frontdesk.outcome"
GATEWAY_CHAT = "gateway chat answer"
ENGINE_SCOPE = "frontdesk.reply_engine"
ENGINE_TAKE_IN = "reply-engine take in"
ENGINE_ASK_AI = "reply-engine ask ai"
ENGINE_DECIDE = "reply-engine decide"
ENGINE_STEP = "frontdesk.step"

# What waits, read at an interval (kit/telemetry/readings.py).
READINGS_SCOPE = "frontdesk.kit.telemetry.readings"
READING = "frontdesk.reading"
READING_AGE = "frontdesk.reading.age"
STREAM = "messaging.destination.name"
CONSUMER = "messaging.consumer.group.name"
STREAM_MESSAGES = "frontdesk.stream.messages"
STREAM_SIZE = "frontdesk.stream.size"
CONSUMER_WAITING = "frontdesk.consumer.waiting"
CONSUMER_IN_WORK = "frontdesk.consumer.in_work"
ACCOUNTS = "frontdesk.accounts"
ACCOUNT_STATE = "frontdesk.account.state"
CHATS_WAITING = "frontdesk.chats.waiting"
CHATS_WAITING_AGE = "frontdesk.chats.waiting.age"
SENDS_UNREPORTED = "frontdesk.sends.unreported"
CHAT_SOCKETS = "frontdesk.chat.sockets"
CHAT_ANSWERS = "frontdesk.chat.answers"
CHAT_ANSWERS_SIZE = "frontdesk.chat.answers.size"
AI_CALLS = "frontdesk.ai.calls"
AI_PROVIDERS = "frontdesk.ai.providers"
AI_BREAKER = "frontdesk.ai.breaker"
AI_SPEND_WAITING = "frontdesk.ai.spend.waiting"

HTTP_SCOPE = "frontdesk.kit.http"

HTTP_SERVER_DURATION = "http.server.request.duration"
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
ERROR_TYPE = "error.type"

# The bounds that the semantic conventions give for durations of requests, seconds.
DURATION_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

# Models: https://opentelemetry.io/docs/specs/semconv/gen-ai/, names and bounds. No attribute holds a word of
# a question or an answer.
AI_SCOPE = "frontdesk.ai_proxy"
AI_CHAT = "chat"
AI_EMBEDDINGS = "embeddings"
AI_OPERATION = "gen_ai.operation.name"
AI_PROVIDER = "gen_ai.provider.name"
AI_REQUEST_MODEL = "gen_ai.request.model"
AI_RESPONSE_MODEL = "gen_ai.response.model"
AI_FINISH_REASONS = "gen_ai.response.finish_reasons"
AI_INPUT_TOKENS = "gen_ai.usage.input_tokens"
AI_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
AI_TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - a kind of token of a language model
AI_COST = "frontdesk.ai.cost"
AI_CURRENCY = "frontdesk.ai.currency"
AI_CACHED = "frontdesk.ai.cached"
AI_DURATION = "gen_ai.client.operation.duration"
AI_TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105 - as above
AI_FIRST_TOKEN = "gen_ai.server.time_to_first_token"  # noqa: S105 - as above
AI_DURATION_BOUNDS_S = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
)
AI_FIRST_TOKEN_BOUNDS_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)
AI_TOKEN_BOUNDS = tuple(4**power for power in range(14))
