"""kit/secrets.py: encryption at rest, binding to a row, rotation, and errors that leak nothing."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.kit.errors import InvalidArgument
from frontdesk.kit.secrets import SecretBox, SecretError, generate_key

PLACE = "accounts:cookies:42"
KEY = generate_key()


@given(st.text(), st.text(min_size=1))
def test_what_goes_in_comes_out(text: str, place: str) -> None:
    """Any text decrypts to itself in its place."""
    box = SecretBox([KEY])
    assert box.decrypt_text(box.encrypt(text, place), place) == text


def test_bytes_come_out_as_bytes() -> None:
    """Bytes that are no text survive too."""
    box = SecretBox([KEY])
    assert box.decrypt(box.encrypt(b"\xff\x00", PLACE), PLACE) == b"\xff\x00"


def test_the_same_text_never_encrypts_the_same() -> None:
    """Two ciphertexts of one text differ and do not hold it."""
    box = SecretBox([KEY])
    one, two = box.encrypt("cookie-value", PLACE), box.encrypt("cookie-value", PLACE)
    assert one != two
    assert b"cookie-value" not in one


def test_a_ciphertext_does_not_work_in_another_row() -> None:
    """A token moved to another row is refused."""
    box = SecretBox([KEY])
    with pytest.raises(SecretError, match="another row"):
        box.decrypt(box.encrypt("x", PLACE), "accounts:cookies:43")


@pytest.mark.parametrize("position", [0, 3, 8, 20, -1])
def test_a_changed_byte_is_noticed(position: int) -> None:
    """Changing any part of a token, header included, makes it unreadable."""
    box = SecretBox([KEY])
    token = bytearray(box.encrypt("some secret", PLACE))
    token[position] ^= 1
    with pytest.raises(SecretError) as raised:
        box.decrypt(bytes(token), PLACE)
    assert "some secret" not in str(raised.value)
    assert KEY not in str(raised.value)


def test_keys_rotate() -> None:
    """With a new key in front, old tokens decrypt and ask for rotation; without the old key they are
    named."""
    new = generate_key()
    old_token = SecretBox([KEY]).encrypt("x", PLACE)
    both = SecretBox([new, KEY])
    assert both.decrypt_text(old_token, PLACE) == "x"
    assert both.needs_rotation(old_token)
    new_token = both.encrypt("x", PLACE)
    assert not both.needs_rotation(new_token)
    only_new = SecretBox([new])
    assert only_new.decrypt_text(new_token, PLACE) == "x"
    with pytest.raises(SecretError, match="put that key back"):
        only_new.decrypt(old_token, PLACE)


def test_url_safe_keys_are_the_same_keys() -> None:
    """A key in URL-safe base64 opens what the same key in plain base64 closed."""
    raw = bytes([251, 255] * 16)
    plain, url_safe = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()
    assert plain != url_safe
    assert SecretBox([url_safe]).decrypt_text(SecretBox([plain]).encrypt("x", PLACE), PLACE) == "x"


@pytest.mark.parametrize("bad", ["", "short", "ü" * 44, "A" * 60, "not base64 at all, is it?"])
def test_a_bad_key_is_named_by_its_position_only(bad: str) -> None:
    """A key of the wrong shape is refused with its index, not its text."""
    with pytest.raises(InvalidArgument) as raised:
        SecretBox([KEY, bad])
    assert raised.value.field == "secret_keys[1]"
    assert not bad or bad not in str(raised.value)


def test_no_key_and_a_repeated_key_are_refused() -> None:
    """An empty list, or one key twice, is a mistake of the configuration."""
    with pytest.raises(InvalidArgument, match="at least one"):
        SecretBox([])
    with pytest.raises(InvalidArgument, match="twice"):
        SecretBox([KEY, KEY])


@pytest.mark.parametrize("token", [b"", b"\x01short", b"plain text that someone stored before encryption"])
def test_what_is_no_token_is_told_apart(token: bytes) -> None:
    """Bytes that this module never made are refused as such."""
    box = SecretBox([KEY])
    with pytest.raises(SecretError, match="not an encrypted secret"):
        box.decrypt(token, PLACE)
    with pytest.raises(SecretError, match="not an encrypted secret"):
        box.needs_rotation(token)


def test_a_place_must_be_named() -> None:
    """Encrypting without a context is refused."""
    with pytest.raises(InvalidArgument, match="place"):
        SecretBox([KEY]).encrypt("x", "")
