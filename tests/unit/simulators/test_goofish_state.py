"""The simulated marketplace without its sockets: ids, codings, faults and the verdict."""

from __future__ import annotations

import base64
from typing import Any

import msgpack
import pytest

from frontdesk.kit.clock import ManualClock
from frontdesk.kit.errors import InvalidArgument
from frontdesk.simulators.goofish import payloads
from frontdesk.simulators.goofish.faults import FaultBook
from frontdesk.simulators.goofish.load import Load, Question, verdict
from frontdesk.simulators.goofish.state import MAX_CHAT_MESSAGES, Chat, Message, World

# Composed with an independent encoder (facts A24).
REMINDER = (
    "hAGzNTAwMDAwMDAwMDFAZ29vZmlzaAIBA4KrcmVkUmVtaW5kZXKy562J5b6F5Y2W5a625Y+R6LSnsHJlZFJlbWluZGVyU3R5bGWhMQTP"
    "AAABi8/laAA="
)


def test_reminder_is_the_golden_one() -> None:
    """Byte for byte what the facts have: old-spec MessagePack with integer keys."""
    chat = Chat("50000000001", "1", "2", "anna", "9", reminder="等待卖家发货")
    assert payloads.encode(payloads.reminder_payload(chat, 1_700_000_000_000), plain=False) == REMINDER


def test_payload_of_a_message_has_no_new_types() -> None:
    """Texts of 32 to 255 bytes are raw16, as the platform's encoder writes them, and keys are numbers."""
    message = Message("1.PNM", "5", "3", "anna", "x" * 40, 1_700_000_000_000)
    raw = base64.b64decode(
        payloads.encode(payloads.push_payload(message, Chat("5", "1", "3", "anna", "9")), plain=False)
    )
    assert b"\xda\x00(" + b"x" * 40 in raw
    decoded: Any = msgpack.unpackb(raw, strict_map_key=False)
    assert decoded[1][3] == "1.PNM"
    assert decoded[1][10]["senderUserId"] == "3"


def test_messages_have_their_own_moments() -> None:
    """Ids and times rise with every message although the clock stands; the id tells the time."""
    world = World(ManualClock())
    seller = world.add_seller()
    chat = world.chat(seller, "anna")
    said = [world.buyer_says(seller, chat, str(n)) for n in range(1_005)]
    assert len({m.message_id for m in said}) == len(said)
    assert [m.created_at_ms for m in said] == list(range(1_700_000_000_000, 1_700_000_001_005))
    assert all(m.message_id.startswith(str(m.created_at_ms)) for m in said)


def test_chats_are_bounded() -> None:
    """A chat forgets its oldest messages."""
    world = World(ManualClock())
    seller = world.add_seller()
    chat = world.chat(seller, "anna")
    for number in range(MAX_CHAT_MESSAGES + 1):
        world.buyer_says(seller, chat, str(number))
    assert len(chat.messages) == MAX_CHAT_MESSAGES
    assert chat.messages[0].text == "1"


def test_chat_is_found_by_name_and_id() -> None:
    """A buyer is the same by name and by id, and another for another seller."""
    world = World(ManualClock())
    first, second = world.add_seller(), world.add_seller()
    chat = world.chat(first, "anna")
    assert world.chat(first, chat.buyer_id) is world.chat(first, "anna") is chat
    assert world.chat(second, "anna") is not chat


def test_token_belongs_to_its_device() -> None:
    """A new token ends the earlier one of its device only."""
    world = World(ManualClock())
    seller = world.add_seller()
    one, other, again = (world.new_token(seller, device) for device in ("a", "b", "a"))
    assert set(seller.tokens) == {other, again}
    assert one not in seller.tokens


def test_account_with_the_same_id_is_one() -> None:
    """Adding an account twice keeps its login."""
    world = World(ManualClock())
    seller = world.add_seller("2200000000009", "books")
    assert world.add_seller("2200000000009").cookies == seller.cookies
    assert "unb=2200000000009" in seller.cookies


def test_faults_of_one_count_before_those_of_all() -> None:
    """An account's own faults begin with those of all; clearing ends both."""
    book = FaultBook()
    book.set(None, {"zombie": True})
    book.set("1", {"missed_pushes": 1})
    assert (book.of("1").zombie, book.of("1").missed_pushes, book.of("2").missed_pushes) == (True, 1.0, 0.0)
    book.clear()
    assert not book.of("1").zombie


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"zombie": "yes"}, "zombie"),
        ({"drop_send_answers": 1.5}, "drop_send_answers"),
        ({"repush_ms": True}, "repush_ms"),
        ({"mtop_errors": "x"}, "mtop_errors"),
    ],
)
def test_faults_that_do_not_exist_are_named(options: dict[str, object], field: str) -> None:
    """A wrong option changes nothing."""
    book = FaultBook()
    with pytest.raises(InvalidArgument, match=field):
        book.set(None, options)
    assert book.of("") == FaultBook().of("")


def _question(number: int, asked: float, *answers: str) -> Question:
    return Question(number, "c", asked, asked + 0.5 if answers else 0.0, len(answers), list(answers))


def test_verdict_counts() -> None:
    """Rates from the first question to the last answer, latencies in milliseconds."""
    load = Load("1", 4, 0, 64, "#{n}")
    asked = [_question(1, 10.0, "a"), _question(2, 11.0, "a", "b"), _question(3, 11.5, "a", "a")]
    load.questions = {q.number: q for q in (*asked, _question(4, 11.6))}
    found = verdict([load])
    counts = [found[name] for name in ("messages", "answered", "waiting", "lost", "answered_twice")]
    assert counts == [4, 3, 1, 1, 2]
    assert (found["duplicated_parts"], found["lost_tags"], found["twice_tags"]) == (1, [4], [2, 3])
    assert [verdict([load], words)["saying"] for words in ("", "a", "b", "c")] == [3, 3, 1, 0]
    assert found["rate_per_s"] == pytest.approx(3 / 2.0)
    assert found["p50_ms"] == found["p99_ms"] == found["max_ms"] == pytest.approx(500)


def test_verdict_of_nothing() -> None:
    """No load yet is no error."""
    assert verdict([])["messages"] == 0
