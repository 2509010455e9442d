"""Errors in the shapes of OpenAI's API: `{"error": {"message", "type", "param", "code"}}`.

Its SDKs try again by themselves on 408, 409, 429 and 5xx unless `x-should-retry` says otherwise, so that
every error says it (https://platform.openai.com/docs/guides/error-codes, `_should_retry` of openai-python).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from frontdesk.ai_proxy.errors import BrokenOff, BudgetExceeded, UpstreamError, UpstreamMisconfigured
from frontdesk.kit.errors import FrontdeskError, InvalidArgument
from frontdesk.kit.http import GENERIC_MESSAGE, status_of

log = logging.getLogger(__name__)

BAD_GATEWAY = 502

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    409: "invalid_request_error",
    429: "rate_limit_error",
}
_CODES = {
    "UNAUTHENTICATED": "invalid_api_key",
    "NOT_FOUND": "model_not_found",
    "RESOURCE_EXHAUSTED": "rate_limit_exceeded",
}
_HTTP_CODES = {404: "unknown_url", 405: "method_not_supported", 413: "request_too_large"}


def error_response(error: FrontdeskError | HTTPException) -> Response:
    """The answer for an error before anything was said, an HTTPException: for what no path here takes."""
    if isinstance(error, HTTPException):
        body = _body(str(error.detail), error.status_code, _HTTP_CODES.get(error.status_code))
        return _response(body, error.status_code, dict(error.headers or {}))
    status = BAD_GATEWAY if isinstance(error, UpstreamMisconfigured) else status_of(error)
    if status == 500:
        log.error("a request failed", exc_info=error, extra={"code": error.code})
    headers = {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    wait_s = error.facts.get("retry_after_s")
    if error.retryable and isinstance(wait_s, int | float):
        headers["retry-after"] = str(max(1, round(wait_s)))
    return _response(error_body(error, status), status, headers, again=error.retryable)


def broken_response() -> Response:
    """The answer for what is our own fault."""
    return _response(_body(GENERIC_MESSAGE, 500, FrontdeskError.code.lower()), 500, {})


def error_body(error: FrontdeskError, status: int = BAD_GATEWAY) -> dict[str, Any]:
    """The fields of an error; one that is our own fault says nothing of its inside."""
    message = GENERIC_MESSAGE if status == 500 else error.message
    body = _body(message, status, _CODES.get(error.code, error.code.lower()))
    if isinstance(error, BudgetExceeded):
        body["type"] = body["code"] = "insufficient_quota"
    if isinstance(error, InvalidArgument) and not isinstance(error, UpstreamError):
        body["param"], body["message"] = error.field, f"{error.field}: {error.problem}"
    return body


def broken_body(broken: BrokenOff) -> dict[str, Any]:
    """The error that ends a stream: its SDKs raise it, and it says how far the answer came."""
    return {
        "message": f"{broken.message} (the answer broke off after {len(broken.text)} characters)",
        "type": "api_error",
        "param": None,
        "code": broken.code.lower(),
        "retryable": broken.retryable,
        "partial_text": broken.text,
    }


def _body(message: str, status: int, code: str | None) -> dict[str, Any]:
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"message": message, "type": kind, "param": None, "code": code}


def _response(
    body: Mapping[str, Any], status: int, headers: Mapping[str, str], *, again: bool = False
) -> Response:
    return Response(
        orjson.dumps({"error": body}),
        status,
        headers={"x-should-retry": "true" if again else "false", **headers},
        media_type="application/json",
    )
