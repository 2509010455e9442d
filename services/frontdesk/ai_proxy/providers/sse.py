"""Server-sent events without I/O: bytes in, events out, however they were cut.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation, except that an
event that the end of the stream cuts off counts too (`end`): several servers leave out the last blank line.
"""

from __future__ import annotations

from frontdesk.kit.errors import FrontdeskError

# The event's name, empty for the unnamed ones, and its data.
Event = tuple[bytes, bytes]

_BOM = b"\xef\xbb\xbf"


class EventTooLong(FrontdeskError):
    """An event is longer than the limit."""


class SseParser:
    """One stream. An event may have at most `limit` bytes; more raises EventTooLong."""

    __slots__ = ("_after_cr", "_begun", "_data", "_limit", "_name", "_partial", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begun = False
        self._after_cr = False
        # The event that is under way: its name, its data lines with their ends, a line without one, and how
        # many bytes they have. Small pieces are joined as they come: an object each takes many times as much.
        self._name = b""
        self._data = bytearray()
        self._partial = bytearray()
        self._size = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes."""
        if not self._begun:
            chunk = self._without_bom(chunk)
        if self._after_cr or b"\r" in chunk:
            chunk = self._plain(chunk)
        events: list[Event] = []
        start = 0
        while self._partial or self._data or self._name:
            end = chunk.find(b"\n", start)
            if end < 0:
                self._keep(chunk[start:])
                return events
            self._line(self._completed(chunk[start:end]), events)
            start = end + 1
        end = chunk.rfind(b"\n\n", start)
        if end >= 0:
            self._blocks(chunk[start:end], events)
            start = end + 2
        *lines, partial = chunk[start:].split(b"\n")
        for line in lines:
            self._line(line, events)
        self._keep(partial)
        return events

    def end(self) -> list[Event]:
        """The event that the stream's end leaves without its blank line, if any."""
        return self.feed(b"\n\n")

    def _blocks(self, whole: bytes, events: list[Event]) -> None:
        """Whole events; nearly all are one line of data, with or without a name."""
        for block in whole.split(b"\n\n"):
            if len(block) > self._limit:
                raise EventTooLong("an event is too long")
            lines = block.count(b"\n")
            if lines == 0 and block.startswith(b"data: "):
                events.append((b"", block[6:]))
                continue
            if lines == 1 and block.startswith(b"event: "):
                name, _, data = block.partition(b"\n")
                if data.startswith(b"data: "):
                    events.append((name[7:], data[6:]))
                    continue
            for line in block.split(b"\n"):
                self._line(line, events)
            self._line(b"", events)

    def _line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._data:
                del self._data[-1]
                events.append((self._name, bytes(self._data)))
                self._data.clear()
            self._name = b""
            self._size = 0
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data += value
            self._data += b"\n"
            self._grow(len(line))
        elif field == b"event":
            self._name = value
            self._grow(len(line))

    def _keep(self, partial: bytes) -> None:
        if partial:
            self._partial += partial
            self._grow(len(partial))

    def _completed(self, rest: bytes) -> bytes:
        if not self._partial:
            return rest
        self._size -= len(self._partial)
        self._partial += rest
        whole = bytes(self._partial)
        self._partial.clear()
        return whole

    def _grow(self, length: int) -> None:
        self._size += length
        if self._size > self._limit:
            raise EventTooLong("an event is too long")

    def _without_bom(self, chunk: bytes) -> bytes:
        chunk = self._completed(chunk)
        if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
            self._keep(chunk)
            return b""
        self._begun = True
        return chunk.removeprefix(_BOM)

    def _plain(self, chunk: bytes) -> bytes:
        """With LF in place of CRLF and CR; a CR at the end may get its LF in the next chunk."""
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if chunk.endswith(b"\r"):
            self._after_cr = True
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
