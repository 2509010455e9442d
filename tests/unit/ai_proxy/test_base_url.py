"""Which addresses a provider may have."""

from __future__ import annotations

import pytest

from frontdesk.ai_proxy.base_url import check_base_url, check_new_base_url, server_of
from frontdesk.kit.errors import InvalidArgument


@pytest.mark.parametrize(
    "url",
    [
        "",
        "models.example/v1",
        "//models.example/v1",
        "ftp://models.example",
        "https://",
        "https://?a=1",
        "http://[::1",
        "https://user:pass@models.example/v1",
        "https://user@models.example",
        "https://@models.example",
        "https://models.example/v 1",
        "https://models.example/v1\n",
        "https://models.example\\@other.example/v1",
        "https://models.example/v1#here",
        "https://models.example/v1#",
        "https://models.example:port/",
        "https://models.example:65536/",
        "https://models.example/" + "x" * 2048,
    ],
)
def test_what_is_no_address_of_an_api_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_base_url(url, "provider.base_url")
    assert caught.value.field == "provider.base_url"


@pytest.mark.parametrize(
    "query",
    [
        "key=sk-4711",
        "%6bey=sk-4711",
        "api-version=2&api_key=sk-4711",
        "apiKey=sk-4711",
        "access_token=sk-4711",
        "client-secret=sk-4711",
        "sig=sk-4711",
        "X-Amz-Signature=sk-4711",
        "code=sk-4711",
        "password=sk-4711",
        "passwd=sk-4711",
        "aws_credentials=sk-4711",
        "Authorization=sk-4711",
        "x-auth=sk-4711",
    ],
)
def test_a_secret_has_no_place_in_an_address(query: str) -> None:
    """It would be shown to all who list providers; the error says where it belongs and does not repeat it."""
    with pytest.raises(InvalidArgument, match="api_key") as caught:
        check_new_base_url(f"https://models.example/v1?{query}", "base_url")
    assert "4711" not in str(caught.value)


def test_an_address_of_before_with_a_secret_goes_on_working() -> None:
    """It was allowed when it was stored; it is refused where it is written again."""
    url = "https://models.example/v1?api_key=sk-4711"
    assert str(check_base_url(url, "base_url")) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:11434/v1",
        "http://[::1]:11434",
        "https://models.example/openai/v1?api-version=2024-10-21",
        "https://models.example/v1?region=eu&language_code=zh&design=1&key=",
        "https://models.example/v1?author=me&keyspace=a&tokens=5&authority=b&passwordless=1&codec=x&signal=1",
        "https://models.example/v1/@org",
        "HTTPS://模型.example/",
    ],
)
def test_other_addresses_are_allowed(url: str) -> None:
    check_new_base_url(url, "base_url")


def test_a_server_is_scheme_host_and_port() -> None:
    """However they are written."""
    assert server_of("https://MODELS.example/v1") == server_of("https://models.example:443/v2?a=1")
    assert len({server_of(f"{start}/v1") for start in ("http://a.b", "https://a.b", "https://a.b:8443")}) == 3
