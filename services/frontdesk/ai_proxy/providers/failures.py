"""What a provider's refusal means, by its status and by what it says about itself.

A caller hears one plain sentence; what the provider said stays in `detail`, without its key. Its own word for
the error is the fact `upstream_code`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from frontdesk.ai_proxy.errors import (
    UpstreamError,
    UpstreamLimited,
    UpstreamMisconfigured,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from frontdesk.ai_proxy.model import Model, Provider
from frontdesk.ai_proxy.providers.sse import SseParser

DETAIL_CHARS = 300

_SENTENCES: Mapping[type[UpstreamError], str] = {
    UpstreamUnavailable: "the provider failed",
    UpstreamTimeout: "the provider was silent for too long",
    UpstreamLimited: "the provider takes no more calls for a while",
    UpstreamMisconfigured: "the provider does not accept its key, address or model",
    UpstreamRefused: "the provider does not accept it",
}

# The words of OpenAI and those who copy it, Anthropic, DashScope (up to the first dot) and Google.
_WORDS: Mapping[str, type[UpstreamError]] = {
    "insufficient_quota": UpstreamMisconfigured,
    "billing_not_active": UpstreamMisconfigured,
    "invalid_api_key": UpstreamMisconfigured,
    "model_not_found": UpstreamMisconfigured,
    "rate_limit_exceeded": UpstreamLimited,
    "context_length_exceeded": UpstreamRefused,
    "content_filter": UpstreamRefused,
    "content_policy_violation": UpstreamRefused,
    "invalid_request_error": UpstreamRefused,
    "authentication_error": UpstreamMisconfigured,
    "permission_error": UpstreamMisconfigured,
    "billing_error": UpstreamMisconfigured,
    "not_found_error": UpstreamMisconfigured,
    "request_too_large": UpstreamRefused,
    "rate_limit_error": UpstreamLimited,
    "overloaded_error": UpstreamUnavailable,
    "InvalidApiKey": UpstreamMisconfigured,
    "AccessDenied": UpstreamMisconfigured,
    "Arrearage": UpstreamMisconfigured,
    "AllocationQuota": UpstreamMisconfigured,
    "ModelNotFound": UpstreamMisconfigured,
    "Throttling": UpstreamLimited,
    "LimitRequests": UpstreamLimited,
    "InvalidParameter": UpstreamRefused,
    "DataInspectionFailed": UpstreamRefused,
    "API_KEY_INVALID": UpstreamMisconfigured,
    "FAILED_PRECONDITION": UpstreamMisconfigured,
    "UNAUTHENTICATED": UpstreamMisconfigured,
    "PERMISSION_DENIED": UpstreamMisconfigured,
    "NOT_FOUND": UpstreamMisconfigured,
    "RESOURCE_EXHAUSTED": UpstreamLimited,
    "INVALID_ARGUMENT": UpstreamRefused,
    "UNAVAILABLE": UpstreamUnavailable,
}
# A person has to mend these, whatever the status: no money, no key, no such model.
_DECISIVE = frozenset(word for word, kind in _WORDS.items() if kind is UpstreamMisconfigured)
_WORD = re.compile(r"[A-Za-z][\w.\-]{0,63}")
# Providers repeat keys, sometimes with stars in the middle.
_KEY = re.compile(r"\b(?:sk|ak|AIza|Bearer)[\s\-_]?[\w*.\-]{6,}")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a provider: `path` is appended to its address, `body` is JSON."""

    provider: Provider
    model: Model
    path: str
    # The key is in one, and what is asked in the other.
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def error(
        self, kind: type[UpstreamError], detail: str = "", sentence: str = "", /, **facts: object
    ) -> UpstreamError:
        """An error of this call; `detail` is what the provider said, `sentence` replaces that of the kind."""
        error = kind(
            sentence or _SENTENCES[kind], provider=self.provider.name, model=self.model.name, **facts
        )
        error.detail = _shown(detail, self.provider.api_key)
        return error


def of_status(call: Call, status: int, headers: Mapping[str, str], body: bytes, now_ms: int) -> UpstreamError:
    """The error that an answer with a status other than 200 stands for."""
    told = _json(body)
    kind = _kind_of_status(status, body)
    words = list(_words(told))
    if any(word in _DECISIVE for word in words) and kind is not UpstreamUnavailable:
        kind = UpstreamMisconfigured
    facts: dict[str, object] = {"status": status, **_code(words)}
    if kind is UpstreamLimited:
        wait = retry_after_s(headers, now_ms)
        if wait is None:
            wait = _retry_delay_s(told)
        if wait is not None:
            facts["retry_after_s"] = wait
    return call.error(kind, _message(told) or body[:2000].decode(errors="replace"), **facts)


def in_band(call: Call, told: Any) -> UpstreamError:
    """The error that an answer holds although its status is 200."""
    words = list(_words(told))
    kind = next((_WORDS[word] for word in words if word in _WORDS), None)
    if kind is None:
        status = _status_in(told)
        kind = _kind_of_status(status, b"") if status else UpstreamUnavailable
    return call.error(kind, _message(told), **_code(words))


def garbled(call: Call, what: str) -> UpstreamError:
    """The provider sent something that is no answer."""
    return call.error(UpstreamUnavailable, what, "the provider's answer can't be read")


def broken_off(call: Call, how: str = "") -> UpstreamError:
    """The answer ended before its end."""
    return call.error(UpstreamUnavailable, how, "the provider broke off its answer")


def retry_after_s(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Seconds that a provider asks to wait, by any of the ways to say so; None when it doesn't."""
    in_ms = _number(headers.get("retry-after-ms", ""))
    if in_ms is not None:
        return in_ms / 1000
    told = headers.get("Retry-After", "")
    wait = _number(told)
    if wait is not None or not told:
        return wait
    try:
        until = parsedate_to_datetime(told).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, until - now_ms / 1000)


def looks_like_html(body: bytes) -> bool:
    """Whether a page came where an answer should be."""
    return body[:200].lstrip().lower().startswith((b"<!doctype", b"<html"))


def _kind_of_status(status: int, body: bytes) -> type[UpstreamError]:
    if status == 429:
        return UpstreamLimited
    if status in {408, 409, 425} or status >= 500:
        return UpstreamUnavailable
    if status in {400, 413, 422} and not looks_like_html(body):
        return UpstreamRefused
    return UpstreamMisconfigured


def _json(body: bytes) -> Any:
    """What an error's body says; DashScope sends it as an event when a stream was asked for."""
    if b"data:" in body and not body.lstrip().startswith((b"{", b"[")):
        events = SseParser(len(body)).feed(body + b"\n\n")
        body = events[0][1] if events else b""
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def _inner(told: Any) -> Any:
    """The error in an answer: `{"error": {…}}`, `[{"error": {…}}]`, or the answer itself."""
    if isinstance(told, list) and told:
        told = told[0]
    if isinstance(told, dict) and told.get("error"):
        return told["error"]
    return told


def _words(told: Any) -> Iterator[str]:
    """What the provider calls the error, the most exact word first."""
    error = _inner(told)
    if not isinstance(error, dict):
        return
    reasons = [detail.get("reason") for detail in _details(error)]
    for word in (*reasons, error.get("code"), error.get("type"), error.get("status")):
        if isinstance(word, str) and _WORD.fullmatch(word):
            yield word
            if "." in word:
                yield word.partition(".")[0]


def _code(words: list[str]) -> dict[str, object]:
    return {"upstream_code": words[0]} if words else {}


def _status_in(told: Any) -> int:
    error = _inner(told)
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code <= 599 else 0


def _message(told: Any) -> str:
    error = _inner(told)
    if isinstance(error, str):
        return error
    if isinstance(error, dict):
        for name in ("message", "msg", "detail"):
            value = error.get(name)
            if value:
                return value if isinstance(value, str) else orjson.dumps(value).decode()
    return ""


def _retry_delay_s(told: Any) -> float | None:
    """Google's `RetryInfo`, e.g. `"retryDelay": "34.5s"`."""
    for detail in _details(_inner(told)):
        delay = detail.get("retryDelay")
        if isinstance(delay, str):
            return _number(delay.removesuffix("s"))
    return None


def _details(error: Any) -> list[dict[str, Any]]:
    details = error.get("details") if isinstance(error, dict) else None
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _shown(detail: str, api_key: str) -> str:
    if api_key:
        detail = detail.replace(api_key, "***")
    return _KEY.sub("***", detail)[:DETAIL_CHARS]
