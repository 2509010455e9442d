"""What statuses and refusals mean."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from frontdesk.ai_proxy.errors import (
    UpstreamError,
    UpstreamLimited,
    UpstreamMisconfigured,
    UpstreamRefused,
    UpstreamUnavailable,
)
from frontdesk.ai_proxy.providers import failures
from support.providers import KEY, call

NOW_MS = 1_700_000_000_000
HTML = b"<!DOCTYPE html><html>nginx</html>"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (301, b"", UpstreamMisconfigured),
        (400, b"", UpstreamRefused),
        (400, HTML, UpstreamMisconfigured),
        (401, b"", UpstreamMisconfigured),
        (402, b"", UpstreamMisconfigured),
        (403, b"", UpstreamMisconfigured),
        (404, HTML, UpstreamMisconfigured),
        (405, b"", UpstreamMisconfigured),
        (408, b"", UpstreamUnavailable),
        (413, b"", UpstreamRefused),
        (422, b'{"detail":[{"loc":["body"]}]}', UpstreamRefused),
        (429, b"", UpstreamLimited),
        (429, b'{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}', UpstreamMisconfigured),
        (500, b"{", UpstreamUnavailable),
        (502, HTML, UpstreamUnavailable),
        (529, b'{"type":"error","error":{"type":"overloaded_error"}}', UpstreamUnavailable),
        (400, b'{"code":"Arrearage","message":"pay"}', UpstreamMisconfigured),
        (400, b'{"code":"InvalidParameter","message":"no"}', UpstreamRefused),
        (403, b'{"code":"AccessDenied.Unpurchased","message":"no"}', UpstreamMisconfigured),
        (400, b'id:1\nevent:error\n:HTTP_STATUS/400\ndata:{"code":"Arrearage"}\n\n', UpstreamMisconfigured),
        (
            400,
            b'{"error":{"status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}',
            UpstreamMisconfigured,
        ),
        (400, b'[{"error":{"code":400,"status":"INVALID_ARGUMENT"}}]', UpstreamRefused),
        (500, b'{"error":{"code":"invalid_api_key"}}', UpstreamUnavailable),
    ],
)
def test_a_status_says_what_to_do(status: int, body: bytes, kind: type[UpstreamError]) -> None:
    """Again, elsewhere, a person, or nobody; words that only a person can mend count before the status."""
    error = failures.of_status(call(), status, {}, body, NOW_MS)
    assert type(error) is kind
    assert error.facts["status"] == status


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"Retry-After": "7"}, b"", 7.0),
        ({"Retry-After": "1.5"}, b"", 1.5),
        ({"Retry-After": "-3"}, b"", 0.0),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:40 GMT"}, b"", 20.0),
        ({"Retry-After": "Tue, 14 Nov 2023 22:00:00 GMT"}, b"", 0.0),
        ({"Retry-After": "7", "retry-after-ms": "250"}, b"", 0.25),
        ({"Retry-After": "soon"}, b"", None),
        ({"Retry-After": "inf"}, b"", None),
        ({"Retry-After": "nan"}, b"", None),
        ({}, b"", None),
        ({}, b'{"error":{"details":[{"@type":"x","retryDelay":"34.5s"}]}}', 34.5),
        ({}, b'{"error":{"details":[{"retryDelay":"soon"}, 3]}}', None),
    ],
)
def test_how_long_to_wait_is_read_in_each_form(
    headers: dict[str, str], body: bytes, seconds: float | None
) -> None:
    """Seconds, milliseconds, a date, Google's details; nonsense is nothing."""
    error = failures.of_status(call(), 429, headers, body, NOW_MS)
    assert isinstance(error, UpstreamLimited)
    assert error.retry_after_s == seconds


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"error": {"code": 429}}, UpstreamLimited),
        ({"error": {"code": 402}}, UpstreamMisconfigured),
        ({"error": {"code": 502}}, UpstreamUnavailable),
        ({"error": {"code": 200}}, UpstreamUnavailable),
        ({"error": {"type": "invalid_request_error", "code": "context_length_exceeded"}}, UpstreamRefused),
        ({"error": {"message": "Provider returned error", "code": "???"}}, UpstreamUnavailable),
        ({"error": "words"}, UpstreamUnavailable),
        ({"code": "Throttling.AllocationQuota"}, UpstreamLimited),
        ({"code": "DataInspectionFailed"}, UpstreamRefused),
        (None, UpstreamUnavailable),
        ([], UpstreamUnavailable),
    ],
)
def test_an_error_in_an_answer_says_what_to_do(told: object, kind: type[UpstreamError]) -> None:
    """By its word, then by a status in it; the provider failed, when neither says anything."""
    assert type(failures.in_band(call(), told)) is kind


def test_what_is_kept_for_logs_is_short_and_holds_no_key() -> None:
    """Callers see none of it."""
    body = orjson.dumps(
        {"error": {"message": f"Incorrect API key {KEY}: Bearer sk-proj-99*****xyz " + "x" * 500}}
    )
    error = failures.of_status(call(), 401, {}, body, NOW_MS)
    assert error.detail.startswith("Incorrect API key ***: *** xxx")
    assert len(error.detail) == failures.DETAIL_CHARS
    assert "x" * 10 not in f"{error} {error.facts}"


def test_a_providers_word_is_a_fact_only_when_it_is_one() -> None:
    """Sentences and what people wrote stay out of the facts."""
    error = failures.of_status(call(), 400, {}, b'{"error":{"code":"she wrote: hello","type":"bad"}}', NOW_MS)
    assert error.facts["upstream_code"] == "bad"


def test_a_call_shows_neither_its_key_nor_what_is_asked() -> None:
    """Wherever it is printed."""
    shown = repr(replace(call(), headers={"Authorization": f"Bearer {KEY}"}, body=b"the buyer's words"))
    assert KEY not in shown
    assert "buyer" not in shown
