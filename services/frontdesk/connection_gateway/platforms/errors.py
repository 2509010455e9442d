"""What a marketplace may answer instead of success, and what each kind means to an account's session.

PlatformError(FrontdeskError)   kind:
├── NETWORK          the platform was not reached, or did not answer; try again with back-off
├── AUTHENTICATION   cookie or token is no longer good; get new ones, then try again
├── CONNECTION       the platform ended or refused the session; connect again
├── BUSINESS         the platform understood and said no to this one call; go on
├── RISK_CONTROL     the platform suspects a robot; stop the account, tell a person, never try again by itself
└── FLOW_CONTROL     too many calls; back off
NotConnectedError(PlatformError)     NETWORK, and nothing at all was written
LoginGone(PlatformError)             AUTHENTICATION, and only a person can log in again
WireError                       bytes that are no frame or payload of the platform

The rows follow what public implementations of the Goofish protocol observe (A7, A22).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from urllib.parse import urlsplit

from frontdesk.kit.errors import FrontdeskError


class ErrorKind(enum.StrEnum):
    """What an account's session does about an error; the values are reason codes of session events."""

    NETWORK = "network"
    AUTHENTICATION = "authentication"
    CONNECTION = "connection"
    BUSINESS = "business"
    RISK_CONTROL = "risk_control"
    FLOW_CONTROL = "flow_control"


_CODES = {
    ErrorKind.NETWORK: "UNAVAILABLE",
    ErrorKind.CONNECTION: "UNAVAILABLE",
    ErrorKind.FLOW_CONTROL: "RESOURCE_EXHAUSTED",
    ErrorKind.AUTHENTICATION: "FAILED_PRECONDITION",
    ErrorKind.BUSINESS: "FAILED_PRECONDITION",
    ErrorKind.RISK_CONTROL: "FAILED_PRECONDITION",
}
_RETRYABLE = {ErrorKind.NETWORK, ErrorKind.CONNECTION, ErrorKind.FLOW_CONTROL}


class PlatformError(FrontdeskError):
    """The platform did not do what was asked.

    `kind` says what to do, `reason` is the platform's own code or a short sentence, `url` is the page where a
    person can act (risk control only). The page's query holds secrets: `str()` and `facts` show it without.
    """

    def __init__(self, kind: ErrorKind, reason: str, /, *, url: str = "") -> None:
        shown = redact_url(url)
        super().__init__(
            f"{kind.value}: {reason}" + (f" ({shown})" if shown else ""), kind=kind.value, reason=reason
        )
        self.kind = kind
        self.reason = reason
        self.url = url
        self.code = _CODES[kind]
        self.retryable = kind in _RETRYABLE


class NotConnectedError(PlatformError):
    """There is no session to write to: nothing reached the platform."""

    def __init__(self, reason: str = "not connected", /) -> None:
        super().__init__(ErrorKind.NETWORK, reason)


class LoginGone(PlatformError):
    """The login ran out and can't be renewed."""

    def __init__(self) -> None:
        super().__init__(ErrorKind.AUTHENTICATION, "the login is gone")


class WireError(FrontdeskError):
    """Bytes that are no frame or payload of the platform; the message never quotes them."""


def redact_url(url: str) -> str:
    """The address without user, query and fragment; empty when it is none."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    return f"{parts.scheme}://{host}{port}{parts.path}" if host else ""


# mtop `ret` codes by substring, first match wins (A22). The platform's own spelling is "EXOIRED".
STALE_TOKEN = (
    "FAIL_SYS_TOKEN_EXOIRED",
    "FAIL_SYS_TOKEN_EXPIRED",
    "FAIL_SYS_TOKEN_EMPTY",
    "FAIL_SYS_TOKEN_ILLEGAL",
)
_RET_KINDS: tuple[tuple[str, ErrorKind], ...] = (
    ("FAIL_SYS_USER_VALIDATE", ErrorKind.RISK_CONTROL),
    ("RGV587", ErrorKind.RISK_CONTROL),
    ("FAIL_SYS_ILLEGAL_ACCESS", ErrorKind.RISK_CONTROL),
    ("FAIL_BIZ_WUA_IS_MACHINE", ErrorKind.RISK_CONTROL),
    ("FAIL_SYS_SESSION_EXPIRED", ErrorKind.AUTHENTICATION),
    *((code, ErrorKind.AUTHENTICATION) for code in STALE_TOKEN),
    ("FAIL_SYS_TRAFFIC_LIMIT", ErrorKind.FLOW_CONTROL),
    ("FAIL_SYS_USER_LIMIT", ErrorKind.FLOW_CONTROL),
)
IM_FLOW_CONTROL = "400600001"  # body.code of an IM answer that came too early or too often (A7, A22)

# Reasons of a refused /reg (A7): a limit backs off, everything else is the credential.
_REGISTER_LIMITS = ("connect limit", "session remove", "too many")


def is_stale_token(ret: Sequence[str]) -> bool:
    """Whether the mtop token alone is stale, so that the same call with the new one succeeds (A22)."""
    return any(code in entry for entry in ret for code in STALE_TOKEN)


def from_ret(ret: Sequence[str], *, url: str = "") -> PlatformError:
    """The error of a failed mtop answer: its `CODE::text` entries and its `data.url` (A3, A22)."""
    reason = "; ".join(ret)[:500] or "answer without ret"
    for code, kind in _RET_KINDS:
        if any(code in entry for entry in ret):
            return PlatformError(kind, reason, url=url if kind is ErrorKind.RISK_CONTROL else "")
    return PlatformError(ErrorKind.BUSINESS, reason)


def from_register(code: int, reason: str) -> PlatformError:
    """The error of a refused /reg (A7)."""
    words = reason.lower()
    if any(limit in words for limit in _REGISTER_LIMITS):
        kind = ErrorKind.FLOW_CONTROL
    elif code in (401, 403) or not 500 <= code < 600:
        kind = ErrorKind.AUTHENTICATION
    else:
        kind = ErrorKind.CONNECTION
    return PlatformError(kind, f"register refused with {code}: {reason}"[:500])


def from_im(code: int, body: object) -> PlatformError | None:
    """The error of an IM answer, or None when it is a success (A7, A22).

    401 means that the access token is no longer good; `body.code` 400600001 that calls come too often.
    """
    inner = body if isinstance(body, dict) else {}
    if str(inner.get("code", "")) == IM_FLOW_CONTROL:
        return PlatformError(ErrorKind.FLOW_CONTROL, IM_FLOW_CONTROL)
    if code == 200:
        return None
    reason = f"answer {code}: {inner.get('reason') or inner.get('message') or ''}"[:500]
    if code == 401:
        return PlatformError(ErrorKind.AUTHENTICATION, reason)
    if code == 429:
        return PlatformError(ErrorKind.FLOW_CONTROL, reason)
    return PlatformError(ErrorKind.CONNECTION if code >= 500 else ErrorKind.BUSINESS, reason)


def from_http(status: int, content: str, *, location: str = "") -> PlatformError | None:
    """The error of an HTTP answer by status and the start of its body, or None for JSON worth reading.

    HTML and redirects where JSON is due are the gateway's risk page (A22), unless the status says that
    a server behind it is away (500, 502, 503, 504): that is an outage, and stopping the account for a
    person would not help.
    """
    looks_json = content.lstrip()[:1] in ("{", "[")
    if status == 429:
        return PlatformError(ErrorKind.FLOW_CONTROL, "HTTP 429")
    if status in (500, 502, 503, 504):
        return PlatformError(ErrorKind.NETWORK, f"HTTP {status}")
    if 300 <= status < 400:
        return PlatformError(ErrorKind.RISK_CONTROL, f"HTTP {status} redirect instead of JSON", url=location)
    if looks_json:
        return None if status < 400 else PlatformError(_client_error(status), f"HTTP {status}")
    if status == 404:
        return PlatformError(ErrorKind.BUSINESS, "HTTP 404")
    return PlatformError(ErrorKind.RISK_CONTROL, f"HTTP {status} page instead of JSON")


def _client_error(status: int) -> ErrorKind:
    return ErrorKind.AUTHENTICATION if status in (401, 403) else ErrorKind.BUSINESS
