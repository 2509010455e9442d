"""Templates: filled in once, and nothing a buyer writes can break out."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from frontdesk.kit.errors import InvalidArgument
from frontdesk.reply_engine.rules.model import ImagePart, Reply, TextPart
from frontdesk.reply_engine.rules.template import (
    PLACEHOLDERS,
    RENDERED_LENGTH,
    VALUE_LENGTH,
    Values,
    check_template,
    clean_value,
    render,
    render_text,
    split_parts,
)

VALUES = Values(
    send_user_name="小王",
    send_user_id="u1",
    send_message="多少钱",
    item_id="42",
    item_title="旧相机",
    item_price="99.00",
    account_name="小店",
)
HOSTILE = st.one_of(
    st.text(),
    st.text(alphabet="{}#\n\r\x00 send_user_id\u202e\u2028"),
    st.sampled_from(["{send_user_id}", "\n###\n", "{{", "}}", "\ud800", "a" * 5000, "{" * 300]),
)


def test_every_placeholder() -> None:
    """Each placeholder stands for its value."""
    template = " ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    assert render_text(template, VALUES) == "小王 u1 多少钱 42 旧相机 99.00 小店"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{send_user_id}}", "{send_user_id}"),
        ("{{{send_user_id}}}", "{u1}"),
        ('{"a": 1} {} { x', '{"a": 1} {} { x'),
        ("{unknown}", "{unknown}"),
        ("}}{{", "}{"),
        ("{ send_user_id }", "{ send_user_id }"),
    ],
)
def test_braces(template: str, text: str) -> None:
    """Doubled braces stand for one, and what is no placeholder stays as it is."""
    assert render_text(template, VALUES) == text


@pytest.mark.parametrize(
    "template", ["hi {name}", "{Send_User_Name}", "{买家}", "{ item_id }", "{__class__}"]
)
def test_unknown_placeholder_is_refused(template: str) -> None:
    """A word in braces that is no placeholder is refused when a rule is stored, with the place."""
    with pytest.raises(InvalidArgument, match=r"unknown placeholder .* at position \d") as caught:
        check_template(template, "parts[0].text")
    assert caught.value.field == "parts[0].text"


def test_known_templates_are_accepted() -> None:
    """Placeholders, doubled braces and other braces pass the check."""
    for template in ("{send_user_name}", "{{name}}", '{"a":1}', "{}", "{{{item_id}}}"):
        check_template(template, "text")


def test_split() -> None:
    """A line that is only ### separates messages; empty ones vanish, other hashes stay."""
    assert split_parts("a\n###\nb\r\n ### \r\n\n###\nc ### d\n####") == ("a", "b", "c ### d\n####")


def test_buyer_cannot_make_parts() -> None:
    """A separator in the buyer's words stays inside the one message."""
    parts = render(Reply((TextPart("you said: {send_message}"),)), Values(send_message="a\n###\nb"))
    assert parts == (TextPart("you said: a ### b"),)


def test_parts_in_order() -> None:
    """Texts are split, images stay, and a text that comes out empty is left out."""
    image = ImagePart("https://example.com/a.png", 2, 3)
    reply = Reply((TextPart("one\n###\ntwo {item_id}"), image, TextPart("{item_title}")))
    assert render(reply, Values(item_id="7")) == (TextPart("one"), TextPart("two 7"), image)


def test_silent() -> None:
    """A reply without parts says nothing."""
    assert Reply().silent
    assert render(Reply(), VALUES) == ()


def test_value_is_cleaned() -> None:
    """Control and direction characters go, line ends become blanks, and the length is capped."""
    assert clean_value("a\x00b\u202ec\nd\te\u2028f\x1b[0m") == "abc d e f[0m"
    assert clean_value("👨‍👩‍👧") == "👨‍👩‍👧"
    assert clean_value("长" * 10_000) == "长" * VALUE_LENGTH


@settings(deadline=None)
@given(template=HOSTILE, value=HOSTILE)
def test_render_never_raises(template: str, value: str) -> None:
    """Whatever the template and the values, there is an answer, and it is bounded."""
    values = Values(*[value] * len(PLACEHOLDERS))
    assert len(render_text(template, values)) <= RENDERED_LENGTH
    assert all(isinstance(p, TextPart) and p.text for p in render(Reply((TextPart(template),)), values))


@settings(deadline=None)
@given(value=HOSTILE)
def test_buyer_text_is_not_expanded(value: str) -> None:
    """What a buyer writes appears cleaned and literally; no placeholder in it is ever filled in."""
    values = Values(send_message=value, send_user_id="SECRET", item_price="SECRET")
    parts = render(Reply((TextPart("<{send_message}>"),)), values)
    assert parts == (TextPart(f"<{clean_value(value)}>"),)
    assume("SECRET" not in value)
    assert all("SECRET" not in part.text for part in parts if isinstance(part, TextPart))


@settings(deadline=None)
@given(value=HOSTILE)
def test_clean_value_is_one_safe_line(value: str) -> None:
    """A cleaned value is one line without control characters, and cleaning it again changes nothing."""
    text = clean_value(value)
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text)
    assert clean_value(text) == text
