"""Server-sent events, cut anywhere."""

from __future__ import annotations

import re
import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.ai_proxy.providers.sse import Event, EventTooLong, SseParser

STREAM = (
    b'\xef\xbb\xbf: hello\n\ndata: {"a":1}\n\nevent: ping\ndata: {}\n\n'
    b"id: 7\nretry: 100\ndata:one\ndata: two\ndata\n\nevent: lonely\n\ndata:  spaced\n\n:\ndata: last\n\n"
)
EVENTS = [
    (b"", b'{"a":1}'),
    (b"ping", b"{}"),
    (b"", b"one\ntwo\n"),
    (b"", b" spaced"),
    (b"", b"last"),
]


def parsed(*chunks: bytes, limit: int = 10_000) -> list[Event]:
    """What a parser makes of `chunks`."""
    parser = SseParser(limit)
    return [event for chunk in chunks for event in parser.feed(chunk)]


def plainly(stream: bytes) -> list[Event]:
    """The specification, word by word, of a whole stream."""
    events: list[Event] = []
    name, data = b"", list[bytes]()
    for line in re.split(rb"\r\n|\r|\n", stream.removeprefix(b"\xef\xbb\xbf"))[:-1]:
        if not line:
            if data:
                events.append((name, b"\n".join(data)))
            name, data = b"", []
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return events


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_a_stream_is_read_the_same_wherever_it_is_cut(newline: bytes) -> None:
    """Two parts, cut at every byte, and every byte alone, with each kind of line end."""
    stream = STREAM.replace(b"\n", newline)
    assert parsed(stream) == EVENTS
    for cut in range(len(stream)):
        assert parsed(stream[:cut], stream[cut:]) == EVENTS
    assert parsed(*(bytes((byte,)) for byte in stream)) == EVENTS


LINES = st.sampled_from(
    [
        b"data: a",
        b"data:b",
        b"data",
        b"data: ",
        b"event: x",
        b"event",
        b": c",
        b"id: 1",
        b"",
        b"odd",
        b"data: \xef\xbb",
    ]
)


@given(st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"]))), st.lists(st.integers(0, 200)))
def test_any_stream_is_read_as_the_specification_reads_it(
    lines: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    """Any lines, any line ends, cut anywhere."""
    stream = b"".join(line + end for line, end in lines)
    at = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    chunks = [stream[begin:end] for begin, end in pairwise(at)]
    assert parsed(*chunks) == plainly(stream)


@given(st.lists(st.binary(max_size=40)))
def test_no_bytes_are_too_odd(chunks: list[bytes]) -> None:
    """Any bytes, in any parts, read as the specification reads the whole."""
    assert parsed(*chunks) == plainly(b"".join(chunks))


@pytest.mark.parametrize("begin", [b"data: x\n", b"data: x", b"data: x\r\n", b"data: x\r"])
def test_the_end_completes_an_event_without_its_blank_line(begin: bytes) -> None:
    """As servers end that forget it."""
    parser = SseParser(100)
    assert parser.feed(begin) == []
    assert parser.end() == [(b"", b"x")]
    assert parser.end() == []


@pytest.mark.parametrize(
    "chunks",
    [
        (b"data: " + b"x" * 100 + b"\n\n",),
        (b"data: " + b"x" * 50, b"x" * 50),
        (b"data: " + b"x" * 40 + b"\n",) * 3,
        (b"x" * 101,),
        (b"event: " + b"x" * 100 + b"\n\n",),
    ],
)
def test_an_event_that_is_too_long_ends_the_stream(chunks: tuple[bytes, ...]) -> None:
    """In one read, in many, of one line or of several."""
    with pytest.raises(EventTooLong):
        parsed(*chunks, limit=100)


def test_short_events_never_add_up_to_a_long_one() -> None:
    """The limit is one event's, and comments keep no memory."""
    assert len(parsed(*(b"data: " + b"x" * 80 + b"\n\n" for _ in range(50)), limit=100)) == 50
    assert parsed(*(b": ping\n" for _ in range(50)), limit=100) == []


LONG = 1024 * 1024


@pytest.mark.parametrize("end", [b"", b"\ndata:"], ids=["one line", "many lines"])
def test_a_long_event_in_tiny_reads_takes_time_by_its_length(end: bytes) -> None:
    """Some 0.3 s of CPU; to copy at each read what came before would take minutes."""
    parser = SseParser(4 * LONG)
    chunk = b"x" * (16 - len(end)) + end
    before = time.thread_time()
    assert parser.feed(b"data:") == []
    for _ in range(4 * LONG // 16 - 1):
        parser.feed(chunk)
    ((_, data),) = parser.feed(b"\n\n")
    assert time.thread_time() - before < 2
    assert data.count(b"x") == (4 * LONG // 16 - 1) * (16 - len(end))


@pytest.mark.parametrize("chunk", [b"xy", b"xy\ndata:", b"xy\ndata:" * 100])
def test_a_long_event_in_tiny_reads_takes_memory_by_its_length(chunk: bytes) -> None:
    """What is kept until its end, however small the reads or its lines are."""
    size = LONG // 8
    parser = SseParser(size)
    tracemalloc.start()
    try:
        parser.feed(b"data:")
        for _ in range(size // len(chunk) - 10):
            parser.feed(bytes(bytearray(chunk)))
        assert tracemalloc.get_traced_memory()[1] < 2 * size
        assert len(parser.feed(b"\n\n")) == 1
        assert tracemalloc.get_traced_memory()[1] < 5 * size
    finally:
        tracemalloc.stop()
