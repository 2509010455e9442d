"""Server-sent events as bytes, in the ways that vendors and proxies on the road write them.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream. A line
may end with CRLF or LF, one space after the colon is optional, several `data` lines of an event are joined
with a line feed, and a line that begins with a colon is a comment.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

GARBAGE = b'{"choices": [{"delta": {"cont'


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `space` is what stands after a colon; `comment` is a line within the event."""

    data: bytes
    event: str = ""
    id: str = ""
    comment: str = ""
    space: bytes = b" "


def render(event: Event, framing: Collection[str] = ()) -> bytes:
    """The bytes of one event."""
    lines: list[bytes] = []
    if "comments" in framing:
        lines += [b": keep-alive", b""]
    if event.id:
        lines.append(b"id:" + event.space + event.id.encode())
    if event.event:
        lines.append(b"event:" + event.space + event.event.encode())
    if event.comment:
        lines.append(b":" + event.comment.encode())
    pieces = [event.data]
    # JSON allows a line feed after its first brace, which is what joining the lines puts there.
    if "lines" in framing and event.data.startswith(b"{"):
        pieces = [event.data[:1], event.data[1:]]
    lines += [b"data:" + event.space + piece for piece in pieces]
    end = b"\r\n" if "crlf" in framing else b"\n"
    return end.join([*lines, b"", b""])


def render_all(events: Sequence[Event], framing: Collection[str] = ()) -> bytes:
    """The bytes of several events."""
    return b"".join(render(event, framing) for event in events)
