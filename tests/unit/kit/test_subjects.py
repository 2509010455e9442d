"""Subjects: any id becomes one safe token and comes back."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.kit import subjects


@given(st.text(min_size=1).filter(lambda t: t < "\ud800" or t.isprintable()))
def test_an_id_survives_as_one_token(text: str) -> None:
    """No id, whatever it holds, makes a second token or a wildcard."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    token = subjects.encode_token(text)
    assert not set(token) & set(". *>\t\r\n")
    assert subjects.decode_token(token) == text


def test_an_empty_id_is_refused() -> None:
    """A subject with an empty token would be another subject."""
    with pytest.raises(ValueError, match="empty"):
        subjects.inbound("", "chat")


def test_a_shard_is_the_crc_of_the_account() -> None:
    """The shard of an account is fixed by its id and the number of shards."""
    assert subjects.shard_of("acc1", 64) == zlib.crc32(b"acc1") % 64


def test_a_due_subject_gives_its_timer_back() -> None:
    """Whoever is called by a timer learns which one it was."""
    assert subjects.timer_id_of(subjects.due("chat", "a.1/东西")) == "a.1/东西"


def test_events_have_known_kinds_only() -> None:
    """An event of an unknown kind is a bug, not a new subject."""
    with pytest.raises(ValueError, match="kind"):
        subjects.event("gossip", "acc1")
