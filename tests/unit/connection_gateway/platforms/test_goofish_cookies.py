"""The cookies of one account."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.connection_gateway.platforms.goofish.cookies import Cookies
from frontdesk.kit.errors import InvalidArgument

NOW = 1_700_000_000_000


@pytest.mark.parametrize(
    "text",
    [
        "unb=22; cookie2=a=b; t=1",
        "unb=22;cookie2=a=b;t=1",
        " Cookie: unb=22;; cookie2=a=b ;\n t=1; broken; =x\r\n",
    ],
)
def test_pasted_text_is_parsed_leniently(text: str) -> None:
    """Separators, spaces, line ends, a leading header name and parts that are no cookie do not matter."""
    cookies = Cookies.parse(text)
    assert cookies.user_id == "22"
    assert cookies.header() == "unb=22; cookie2=a=b; t=1"
    assert not cookies.changed


@pytest.mark.parametrize("text", ["", "cookie2=a", "unb=", "unb=abc", "unb=٣", "unb=1; x=" + "y" * 20_000])
def test_unusable_text_names_the_field(text: str) -> None:
    """Missing or odd `unb` and too long a text are the caller's error on field `cookies`."""
    with pytest.raises(InvalidArgument) as caught:
        Cookies.parse(text)
    assert caught.value.field == "cookies"
    assert "yyy" not in str(caught.value)


def test_values_cannot_break_out_of_the_header() -> None:
    """Control characters and raw Chinese are percent-encoded, percent-encoded text stays."""
    cookies = Cookies.parse("unb=1; tracknick=张三; enc=%E5%BC%A0; tab=a\tb")
    assert cookies.header() == "unb=1; tracknick=%E5%BC%A0%E4%B8%89; enc=%E5%BC%A0; tab=a%09b"


def test_set_cookie_is_merged() -> None:
    """New values replace, expired ones remove, and the change is flagged until it is saved."""
    cookies = Cookies.parse("unb=1; _m_h5_tk=old_1; a=1; b=2; c=3")
    assert cookies.merge(
        [
            "_m_h5_tk=new_2; Path=/; Domain=.goofish.com; Max-Age=604800",
            "a=; Max-Age=0",
            "b=deleted; Expires=Thu, 01-Jan-1970 00:00:10 GMT",
            "c=4; Expires=Fri, 01 Jan 2100 00:00:00 GMT",
            "nonsense",
        ],
        NOW,
    )
    assert cookies.header() == "unb=1; _m_h5_tk=new_2; c=4"
    assert cookies.changed
    cookies.mark_saved()
    assert not cookies.merge(["c=4"], NOW)
    assert not cookies.changed


def test_the_user_never_changes() -> None:
    """Neither another user's id nor a logout replaces `unb`."""
    cookies = Cookies.parse("unb=1")
    assert not cookies.merge(["unb=2", "unb=; Max-Age=0"], NOW)
    assert cookies.user_id == "1"


def test_a_flood_of_cookies_is_refused() -> None:
    """A merge that would make the header too long changes nothing."""
    cookies = Cookies.parse("unb=1")
    assert not cookies.merge([f"k{i}={'v' * 1000}" for i in range(50)], NOW)
    assert cookies.header() == "unb=1"


def test_repr_shows_no_value() -> None:
    """A log line with the object holds no secret."""
    assert repr(Cookies.parse("unb=1; cookie2=secret")) == "<Cookies of 1, 2 values>"


@given(st.text(), st.lists(st.text(), max_size=5))
def test_any_text_gives_a_clean_header(text: str, lines: list[str]) -> None:
    """Whatever is pasted or set, the header is printable ASCII and parses to itself."""
    cookies = Cookies.parse("unb=1;" + text.replace("unb", ""))
    cookies.merge(lines, NOW)
    header = cookies.header()
    assert header.isascii()
    assert header.isprintable()
    assert Cookies.parse(header).header() == header
