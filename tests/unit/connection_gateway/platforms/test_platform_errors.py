"""Classes of what a platform answers."""

from __future__ import annotations

import pytest

from frontdesk.connection_gateway.platforms.errors import (
    ErrorKind,
    NotConnectedError,
    PlatformError,
    from_http,
    from_im,
    from_register,
    from_ret,
    is_stale_token,
    redact_url,
)

PUNISH = "https://h5api.m.goofish.com:443//h5/x/1.0/_____tmd_____/punish?x5secdata=SECRET&x5step=2"


@pytest.mark.parametrize(
    ("ret", "kind"),
    [
        (["FAIL_SYS_TOKEN_EXOIRED::令牌过期"], ErrorKind.AUTHENTICATION),
        (["FAIL_SYS_TOKEN_EMPTY::令牌为空"], ErrorKind.AUTHENTICATION),
        (["FAIL_SYS_TOKEN_ILLEGAL::x"], ErrorKind.AUTHENTICATION),
        (["FAIL_SYS_SESSION_EXPIRED::Session过期"], ErrorKind.AUTHENTICATION),
        (["FAIL_SYS_USER_VALIDATE", "RGV587_ERROR::SM::哎哟喂,被挤爆啦,请稍后重试"], ErrorKind.RISK_CONTROL),
        (["RGV587_ERROR::SM::x"], ErrorKind.RISK_CONTROL),
        (["FAIL_SYS_ILLEGAL_ACCESS::x"], ErrorKind.RISK_CONTROL),
        (["FAIL_BIZ_WUA_IS_MACHINE::x"], ErrorKind.RISK_CONTROL),
        (["FAIL_SYS_TRAFFIC_LIMIT::x"], ErrorKind.FLOW_CONTROL),
        (["FAIL_SYS_USER_LIMIT::x"], ErrorKind.FLOW_CONTROL),
        (["ORDER_NOT_EXIST::x"], ErrorKind.BUSINESS),
        ([], ErrorKind.BUSINESS),
    ],
)
def test_ret_codes_have_kinds(ret: list[str], kind: ErrorKind) -> None:
    """Every documented code has its class, and the reason keeps the platform's words."""
    error = from_ret(ret)
    assert error.kind is kind
    assert all(entry in error.reason for entry in ret)


def test_stale_tokens_are_recognised() -> None:
    """Only the signing token's codes ask for a repeat."""
    assert is_stale_token(["FAIL_SYS_TOKEN_EXPIRED::x"])
    assert not is_stale_token(["FAIL_SYS_SESSION_EXPIRED::x"])


def test_risk_page_is_kept_whole_and_shown_redacted() -> None:
    """A person needs the whole address, a log must not hold its secrets."""
    error = from_ret(["FAIL_SYS_USER_VALIDATE"], url=PUNISH)
    assert error.url == PUNISH
    assert "https://h5api.m.goofish.com:443//h5/x/1.0/_____tmd_____/punish" in str(error)
    assert "SECRET" not in str(error) + repr(error) + repr(error.facts)
    assert from_ret(["ORDER_NOT_EXIST"], url=PUNISH).url == ""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h/x?y#z", "https://h/x"),
        ("", ""),
        ("not a url", ""),
        ("http://[", ""),
        ("http://h:99999/", ""),
    ],
)
def test_redaction_keeps_host_and_path(url: str, shown: str) -> None:
    """User, query and fragment go; what is no address goes whole."""
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (200, {}, None),
        (200, None, None),
        (200, {"code": "400600001"}, ErrorKind.FLOW_CONTROL),
        (200, {"code": 400600001}, ErrorKind.FLOW_CONTROL),
        (400, {"reason": "no"}, ErrorKind.BUSINESS),
        (401, {}, ErrorKind.AUTHENTICATION),
        (429, {}, ErrorKind.FLOW_CONTROL),
        (500, [], ErrorKind.CONNECTION),
    ],
)
def test_im_answers_have_kinds(code: int, body: object, kind: ErrorKind | None) -> None:
    """200 is a success unless its body says flow control."""
    error = from_im(code, body)
    assert (error.kind if error else None) is kind


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (401, "invalid token", ErrorKind.AUTHENTICATION),
        (400, "token invalid", ErrorKind.AUTHENTICATION),
        (401, "Connect Limit reached", ErrorKind.FLOW_CONTROL),
        (500, "oops", ErrorKind.CONNECTION),
    ],
)
def test_register_refusals_have_kinds(code: int, reason: str, kind: ErrorKind) -> None:
    """Limits back off, a server fault connects again, the rest is the credential."""
    assert from_register(code, reason).kind is kind


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (200, '{"ret":[]}', None),
        (200, "  [1]", None),
        (200, "<!doctype html>", ErrorKind.RISK_CONTROL),
        (403, "<html>", ErrorKind.RISK_CONTROL),
        (200, "", ErrorKind.RISK_CONTROL),
        (302, "", ErrorKind.RISK_CONTROL),
        (502, "<html>bad gateway", ErrorKind.NETWORK),
        (503, "{}", ErrorKind.NETWORK),
        (429, "<html>", ErrorKind.FLOW_CONTROL),
        (404, "<html>", ErrorKind.BUSINESS),
        (401, "{}", ErrorKind.AUTHENTICATION),
        (400, "{}", ErrorKind.BUSINESS),
    ],
)
def test_http_answers_have_kinds(status: int, content: str, kind: ErrorKind | None) -> None:
    """A page where JSON is due is the risk page, unless the status says that a server is away."""
    error = from_http(status, content)
    assert (error.kind if error else None) is kind


def test_kinds_decide_whether_a_caller_may_retry() -> None:
    """Only what can heal by itself is retryable."""
    retryable = {kind for kind in ErrorKind if PlatformError(kind, "x").retryable}
    assert retryable == {ErrorKind.NETWORK, ErrorKind.CONNECTION, ErrorKind.FLOW_CONTROL}
    assert PlatformError(ErrorKind.RISK_CONTROL, "x").code == "FAILED_PRECONDITION"
    assert (NotConnectedError().kind, NotConnectedError().code) == (ErrorKind.NETWORK, "UNAVAILABLE")
