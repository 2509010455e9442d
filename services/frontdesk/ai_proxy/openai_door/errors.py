"""Errors in the shapes of OpenAI's API: `{"error": {"message", "type", "param", "code"}}`.

Its SDKs try again by themselves on 408, 409, 429 and 5xx unless `x-should-retry` says otherwise, so that
every error says it (https://platform.openai.com/docs/guides/error-codes, `_should_retry` of openai-python).
"""

from __future__ import annotations

import logging
from typing import Any

import orjson
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


def error_response(error: FrontdeskError) -> Response:
    """The answer for an error before anything was said."""
    status = BAD_GATEWAY if isinstance(error, UpstreamMisconfigured) else status_of(error)
    if status == 500:
        log.error("a request failed", exc_info=error, extra={"code": error.code})
    headers = {"x-should-retry": "true" if error.retryable else "false"}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    wait_s = error.facts.get("retry_after_s")
    if error.retryable and isinstance(wait_s, int | float):
        headers["retry-after"] = str(max(1, round(wait_s)))
    return Response(
        orjson.dumps({"error": error_body(error, status)}),
        status,
        headers=headers,
        media_type="application/json",
    )


def error_body(error: FrontdeskError, status: int = BAD_GATEWAY) -> dict[str, Any]:
    """The fields of an error; one that is our own fault says nothing of its inside."""
    if isinstance(error, BudgetExceeded):
        kind, code = "insufficient_quota", "insufficient_quota"
    else:
        kind, code = _TYPES.get(status, "api_error"), _CODES.get(error.code, error.code.lower())
    message = GENERIC_MESSAGE if status == 500 else error.message
    param = None
    if isinstance(error, InvalidArgument) and not isinstance(error, UpstreamError):
        message, param = error.problem, error.field
        message = f"{param}: {message}"
    return {"message": message, "type": kind, "param": param, "code": code}


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
