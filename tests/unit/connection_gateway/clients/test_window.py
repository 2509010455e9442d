"""What of a conversation a model is shown."""

from __future__ import annotations

from frontdesk.connection_gateway.clients.history import ConnectionHistory, window
from frontdesk.connection_gateway.clients.limits import ChatLimits
from frontdesk.connection_gateway.clients.model import Turn

TALK = [Turn(number % 2 == 0, f"{number}" * 10) for number in range(10)]


def test_the_newest_turns_within_both_bounds() -> None:
    """In number and in bytes, and from a person's turn on."""
    assert window(TALK, 100, 10_000) == tuple(TALK)
    assert window(TALK, 4, 10_000) == tuple(TALK[6:])
    assert window(TALK, 5, 10_000) == tuple(TALK[6:])
    assert window(TALK, 100, 40) == tuple(TALK[6:])
    assert window(TALK, 100, 39) == tuple(TALK[8:])
    assert window(TALK, 100, 9) == ()
    assert window([Turn(True, "好" * 10)], 1, 29) == ()


async def test_a_connection_keeps_no_more_than_it_shows() -> None:
    """However long it lasts."""
    history = ConnectionHistory(ChatLimits(turns=6, history_bytes=100))
    for number in range(50):
        await history.add(f"q{number}", "a" * 30)
    assert [turn.text[:3] for turn in await history.read()] == ["q47", "aaa", "q48", "aaa", "q49", "aaa"]
    await history.add("q", "a" * 200)
    assert list(await history.read()) == []
