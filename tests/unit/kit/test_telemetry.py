"""kit/telemetry: log lines, redaction, ids without an SDK, propagation."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace

from frontdesk.kit.config import TelemetrySettings
from frontdesk.kit.telemetry.ids import IdTracer
from frontdesk.kit.telemetry.logs import (
    MAX_TEXT_CHARS,
    ConsoleFormatter,
    JsonFormatter,
    configure_logging,
    redact,
)
from frontdesk.kit.telemetry.propagation import extract, inject, trace_id
from frontdesk.kit.telemetry.setup import Telemetry

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def record(
    message: str, *args: object, error: BaseException | None = None, **extra: Any
) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    return logging.getLogger("frontdesk.test").makeRecord(
        "frontdesk.test", logging.INFO, "f.py", 1, message, args, exc_info, extra=extra
    )


def as_json(**extra: Any) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(JsonFormatter("shop").format(record("hello", **extra)))
    return line


def test_a_json_line_has_its_fields_and_facts() -> None:
    """ts, level, logger, msg and service are there, and `extra` as plain fields; no trace outside a trace."""
    line = as_json(account="a1", count=3, sure=True, none=None, ratio=0.5, many=[1, "x"], more={"k": {"v"}})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("ts"))
    assert line == {
        "level": "INFO",
        "logger": "frontdesk.test",
        "msg": "hello",
        "service": "shop",
        "account": "a1",
        "count": 3,
        "sure": True,
        "none": None,
        "ratio": 0.5,
        "many": [1, "x"],
        "more": {"k": ["v"]},
    }


def test_a_line_in_a_trace_has_its_ids() -> None:
    """trace_id and span_id are those of the current span."""
    with IdTracer().start_as_current_span("work", context=extract({"traceparent": TRACEPARENT})):
        line = as_json()
    assert (line["trace_id"], line["span_id"]) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


def test_an_error_has_its_stack() -> None:
    """exc_info becomes one text field, redacted like all others."""
    try:
        raise ValueError("Cookie: unb=1; sgcookie=hunter2")
    except ValueError as error:
        line = json.loads(JsonFormatter("shop").format(record("failed", error=error)))
    assert "Traceback" in line["stack"]
    assert "ValueError" in line["stack"]
    assert "hunter2" not in line["stack"]


@pytest.mark.parametrize(
    "value", [2**70, float("nan"), "\ud800", b"\xff", object(), {1: {2: {3: {4: {5: 6}}}}}]
)
def test_no_fact_breaks_a_line(value: object) -> None:
    """Whatever is given as a fact, the line is one line of valid JSON."""
    text = JsonFormatter("shop").format(record("hello", odd=value))
    assert "\n" not in text
    assert json.loads(text)["msg"] == "hello"


def test_facts_are_bounded() -> None:
    """A huge text or list is cut."""
    line = as_json(text="x" * 100_000, many=list(range(1000)))
    assert len(line["text"]) == MAX_TEXT_CHARS + 1
    assert len(line["many"]) == 50


def test_a_fact_does_not_replace_a_field() -> None:
    """A fact named like a field of the line loses."""
    assert as_json(service="other", level="NONE")["service"] == "shop"


def test_facts_with_secret_names_are_hidden() -> None:
    """Texts under names like cookie or api_key are hidden at any depth; counts of tokens are shown."""
    line = as_json(cookie="a=1", api_key="k", nested={"Authorization": "x", "tokens": 12}, tokens_in=7)
    assert line["cookie"] == line["api_key"] == line["nested"]["Authorization"] == "[redacted]"
    assert (line["nested"]["tokens"], line["tokens_in"]) == (12, 7)


@pytest.mark.parametrize(
    "text",
    [
        "Cookie: unb=2200; cookie2=SECRET; t=SECRET",
        "headers {'Set-Cookie': 'sgcookie=SECRET; Path=/', 'x': 1}",
        '{"cookie": "a=SECRET; b=SECRET"}',
        "Authorization: Bearer SECRET.SECRET-SECRET",
        "authorization: basic U0VDUkVUSECRET==",
        "sent Bearer SECRETSECRETSECRET",
        "token eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.SECRET",
        "_m_h5_tk=SECRET_1700000000000; _m_h5_tk_enc=SECRET",
        "x5sec=7b22SECRET and x5secdata=SECRET",
        "https://h5api.m.goofish.com/?x=1&access_token=SECRET&y=2",
        '{"refreshToken": "SECRET", "password": "SECRET", "apiKey":"SECRET"}',
        "postgresql+asyncpg://frontdesk:SECRET@db/frontdesk",
        "key sk-SECRETSECRETSECRET1 failed",
        "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----",
        "-----BEGIN ED25519 PRIVATE KEY-----\nSECRET",
    ],
)
def test_known_secrets_are_taken_out(text: str) -> None:
    """No shape of secret that the product handles survives in a text."""
    assert "SECRET" not in redact(text)
    assert "[redacted]" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "account a1 lost its session after 30 s",
        "https://www.goofish.com/item?id=123",
        "token expired, tokens used: 12",
        "2026-01-02T03:04:05Z nats://127.0.0.1:4222 connected",
        "the cookie of account a1 is refused",
        "basic settings loaded",
    ],
)
def test_plain_texts_are_left_alone(text: str) -> None:
    """Ordinary lines are not touched."""
    assert redact(text) == text


def test_redaction_is_fast_on_hostile_text() -> None:
    """Texts made to let patterns run wild are done in far less than a second."""
    import time

    begun = time.process_time()
    for text in (
        "cookie: " * 50_000,
        "eyJ" + "a" * 100_000,
        "a://" * 50_000,
        "x5sec" * 50_000,
        "-----BEGIN " * 9999,
    ):
        redact(text)
    assert time.process_time() - begun < 1


def test_a_console_line_is_one_line() -> None:
    """A message can neither start a second line nor steer the terminal; facts follow as key=value."""
    line = ConsoleFormatter(color=False).format(record("hi\nfake \033[31mline", account="a1"))
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} INFO     frontdesk\.test  hi\\nfake \\x1b\[31mline  account='a1'", line
    )
    assert "\033[32mINFO" in ConsoleFormatter(color=True).format(record("hi"))


@pytest.fixture
def root_logging() -> Iterator[None]:
    """The root logger as it was before, after the test."""
    root = logging.getLogger()
    own = logging.getLogger("frontdesk")
    handlers, level, own_level = list(root.handlers), root.level, own.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    own.setLevel(own_level)


@pytest.mark.usefixtures("root_logging")
def test_logging_goes_to_one_stream_from_the_level_on() -> None:
    """Lines from the level on are written once; libraries' chatter below WARNING is not."""
    stream = io.StringIO()
    for _ in range(2):
        configure_logging("shop", level="INFO", style="json", stream=stream)
    logging.getLogger("frontdesk.x").debug("no")
    logging.getLogger("frontdesk.x").info("yes", extra={"n": 1})
    logging.getLogger("urllib3.connectionpool").info("no")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["msg"], line["n"]) for line in lines] == [("yes", 1)]


@pytest.mark.usefixtures("root_logging")
def test_debug_is_for_our_own_lines() -> None:
    """A library's DEBUG lines may show what a customer wrote."""
    stream = io.StringIO()
    configure_logging("shop", level="DEBUG", style="json", stream=stream)
    logging.getLogger("frontdesk.x").debug("yes")
    logging.getLogger("websockets.client").debug("< TEXT is it available")
    assert [json.loads(line)["msg"] for line in stream.getvalue().splitlines()] == ["yes"]


def test_without_an_sdk_a_root_span_gets_fresh_ids() -> None:
    """Two roots differ, both are valid, unsampled and not recording."""
    one, two = IdTracer().start_span("a"), IdTracer().start_span("b")
    assert one.get_span_context().is_valid
    assert one.get_span_context().trace_id != two.get_span_context().trace_id
    assert not one.get_span_context().trace_flags.sampled
    assert not one.is_recording()


def test_without_an_sdk_a_child_keeps_its_trace() -> None:
    """Inside a trace, also one from outside, the context passes through unchanged."""
    tracer = IdTracer()
    with tracer.start_as_current_span("root"):
        outer = trace_id()
        with tracer.start_as_current_span("child"):
            assert trace_id() == outer
    assert trace_id() == ""
    with tracer.start_as_current_span("hop", context=extract({"traceparent": TRACEPARENT})):
        assert inject({})["traceparent"] == TRACEPARENT


def test_propagation_carries_the_trace_and_nothing_else() -> None:
    """Headers without a good traceparent give no parent; no trace gives no header; baggage stays outside."""
    for headers in ({}, {"traceparent": "rubbish"}):
        assert not trace.get_current_span(extract(headers)).get_span_context().is_valid
    assert inject({"x": "1"}) == {"x": "1"}
    context = extract({"traceparent": TRACEPARENT, "baggage": "user=ada"})
    assert inject({}, context) == {"traceparent": TRACEPARENT}


async def test_prometheus_shows_what_was_counted() -> None:
    """With a metrics port the meter's numbers and the process's own are in the text; a port of none gives
    none."""
    telemetry = Telemetry("shop", TelemetrySettings(metrics_port=0))
    meter = telemetry.meter_provider.get_meter("test")
    meter.create_counter("answers", description="Answers given").add(3, {"kind": "rule"})
    meter.create_histogram("wait", unit="s", explicit_bucket_boundaries_advisory=[1, 2]).record(1.5)
    text = telemetry.prometheus().decode()
    assert 'answers_total{kind="rule"} 3.0' in text
    assert 'wait_seconds_bucket{le="2.0"} 1.0' in text or 'wait_seconds_bucket{le="2"} 1.0' in text
    assert "process_resident_memory_bytes" in text
    assert 'service_name="shop"' in text
    await telemetry.stop(5)
    assert Telemetry("shop", TelemetrySettings()).prometheus() == b""


def test_without_an_exporter_no_sdk_is_imported() -> None:
    """A service with no exporter and no metrics port starts without the SDK, and still has trace ids."""
    program = (
        "import sys\n"
        "from frontdesk.kit.config import TelemetrySettings\n"
        "from frontdesk.kit.telemetry.setup import setup_telemetry\n"
        "setup_telemetry('shop', TelemetrySettings())\n"
        "from opentelemetry import trace\n"
        "span = trace.get_tracer('t').start_span('x')\n"
        "heavy = ('opentelemetry.sdk', 'prometheus_client', 'requests')\n"
        "heavy = [module for module in sys.modules if module.startswith(heavy)]\n"
        "print(span.get_span_context().is_valid, heavy)\n"
        "try:\n"
        "    setup_telemetry('shop', TelemetrySettings())\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["True []", "telemetry is set up once a process"]
