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

HTTP_SCOPE = "frontdesk.kit.http"

HTTP_SERVER_DURATION = "http.server.request.duration"
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
ERROR_TYPE = "error.type"

# The bounds that the semantic conventions give for durations of requests, seconds.
DURATION_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
