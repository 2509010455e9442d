"""Log lines: JSON for machines, one coloured line for people, OTLP when a collector is set.

Facts go in `extra`: `logger.info("session lost", extra={"account": id})`. Nobody logs secrets; should one
slip in, `redact` takes known patterns out of every text, as a second line of defence.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Literal, TextIO

import orjson
from opentelemetry import trace
from opentelemetry._logs import LoggerProvider, SeverityNumber

from frontdesk.kit.clock import iso

REDACTED = "[redacted]"
MAX_TEXT_CHARS = 16 * 1024
MAX_ITEMS = 50
MAX_DEPTH = 4

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

_SECRET_KEY = re.compile(
    r"cookie|authorization|passw|secret|token|api_?key|private_?key|credential|x5sec|_m_h5_tk", re.IGNORECASE
)
_NAMES = (
    r"_m_h5_tk(?:_enc)?|x5sec\w*|cookie2|_tb_token_|sgcookie|(?:access|refresh|id)_?token|passw(?:or)?d"
    r"|client_?secret|api_?key|private_?key"
)
_PATTERNS: Final = (
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        "",
    ),
    (
        re.compile(
            r"\b((?:set-)?cookie|(?:proxy-)?authorization)\b[\"']?\s*[:=]\s*[\"']?[^\r\n\"']+", re.IGNORECASE
        ),
        r"\1: ",
    ),
    (re.compile(r"\b(bearer)\s+[\w.~+/=-]{16,}", re.IGNORECASE), r"\1 "),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*"), ""),
    (
        re.compile(rf"(?<![A-Za-z0-9])({_NAMES})([\"']?\s*[:=]\s*[\"']?)[^\s\"';,&}}]+", re.IGNORECASE),
        r"\1\2",
    ),
    (re.compile(r"(\w://)[^\s/@:]*:[^\s/@]+(?=@)"), r"\1"),
    (re.compile(r"\bsk-[\w-]{16,}"), ""),
)


# Nothing of a known shape is of these characters alone, and most facts are: routes, codes, names.
_PLAIN: Final = re.compile(r"[\w/{}]*")


def redact(text: str) -> str:
    """`text`, cut at 16 Ki characters, without cookies, tokens, keys and passwords of known shapes."""
    if len(text) <= MAX_TEXT_CHARS and _PLAIN.fullmatch(text):
        return text
    if len(text) > MAX_TEXT_CHARS:
        text = text[:MAX_TEXT_CHARS] + "…"
    for pattern, kept in _PATTERNS:
        text = pattern.sub(kept + REDACTED, text)
    return text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, logger, msg, service, trace_id and span_id inside a trace, the
    facts.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "ts": iso(int(record.created * 1000)),
            "level": record.levelname,
            "logger": record.name,
            "msg": redact(record.getMessage()),
            "service": self._service,
        }
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            entry["trace_id"] = trace.format_trace_id(span.trace_id)
            entry["span_id"] = trace.format_span_id(span.span_id)
        for key, value in facts(record).items():
            entry.setdefault(key, value)
        if stack := _stack(self, record):
            entry["stack"] = stack
        try:
            return orjson.dumps(entry).decode()
        except TypeError:
            # Lone surrogates; the escapes of the plain encoder can hold them.
            return json.dumps(entry)


class ConsoleFormatter(logging.Formatter):
    """`12:34:56.789 INFO     frontdesk.kit.http  message  key=value …`, in local time."""

    COLORS: Final = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}

    def __init__(self, *, color: bool) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname:<8}"
        if self._color:
            level = f"\033[{self.COLORS.get(record.levelname, '0')}m{level}\033[0m"
        # A line is a line: nobody's input starts a second one or steers the terminal.
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in redact(record.getMessage()))
        pairs = [f"{key}={value!r}" for key, value in facts(record).items()]
        line = "  ".join([f"{clock}.{int(record.msecs):03d} {level} {record.name}", text, *pairs])
        stack = _stack(self, record)
        return f"{line}\n{stack}" if stack else line


class OtlpHandler(logging.Handler):
    """Hands records to an OpenTelemetry logger provider; what the exporter itself says is left out."""

    SEVERITY: Final = (
        (logging.CRITICAL, SeverityNumber.FATAL),
        (logging.ERROR, SeverityNumber.ERROR),
        (logging.WARNING, SeverityNumber.WARN),
        (logging.INFO, SeverityNumber.INFO),
        (logging.NOTSET, SeverityNumber.DEBUG),
    )

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__()
        self._provider = provider
        self._stacks = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(("opentelemetry", "urllib3", "requests")):
            return
        attributes = facts(record)
        if stack := _stack(self._stacks, record):
            attributes["exception.stacktrace"] = stack
        self._provider.get_logger(record.name).emit(
            timestamp=int(record.created * 1e9),
            severity_number=next(number for level, number in self.SEVERITY if record.levelno >= level),
            severity_text=record.levelname,
            body=redact(record.getMessage()),
            attributes=attributes,
        )


def facts(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`, made safe: plain values, bounded, without secrets."""
    return {
        key: _safe(key, value, MAX_DEPTH)
        for key, value in vars(record).items()
        if key not in _STANDARD and not key.startswith("_")
    }


def configure_logging(
    service: str, *, level: str, style: Literal["json", "console"], stream: TextIO | None = None
) -> logging.Handler:
    """Make one handler on `stream` (stderr) the only one of the process, and return it.

    DEBUG is for Frontdesk's own lines: those of libraries show frames, with what customers wrote.
    """
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        JsonFormatter(service) if style == "json" else ConsoleFormatter(color=target.isatty())
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    least = logging.getLevelNamesMapping()[level]
    root.setLevel(max(least, logging.INFO))
    logging.getLogger("frontdesk").setLevel(least)
    logging.captureWarnings(True)
    # Nobody is shown where a line was logged, and by which thread: to find out costs as much as the rest
    # (https://docs.python.org/3/howto/logging.html#optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # Their DEBUG and INFO lines hold URLs and headers.
    for chatty in ("urllib3", "asyncio", "aiosqlite", "uvicorn", "httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    return handler


@lru_cache(maxsize=1024)
def _names_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _safe(key: str, value: object, depth: int) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if _names_secret(key):
        return REDACTED
    if isinstance(value, Mapping) and depth:
        pairs = list(value.items())[:MAX_ITEMS]
        return {redact(str(name)): _safe(str(name), item, depth - 1) for name, item in pairs}
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [_safe("", item, depth - 1) for item in list(value)[:MAX_ITEMS]]
    return redact(str(value))


def _stack(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return redact("\n".join(parts)) if parts else ""
