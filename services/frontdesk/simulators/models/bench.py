"""The fast path for benches: the same APIs on a port of their own, where an answer costs almost nothing.

A request is cut from the stream by its `Content-Length`; its body is the key under which the bytes of the
answer are kept, made once by the doors that the other port has too. The model says how much is written:
`bench-50` is 50 pieces in one write, `bench-50x5` is five pieces a write, each write in its own turn of the
loop. Any other model is answered as it is on the other port without a script. There is no script, no log and
no fault here, and any key is right.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import orjson

from frontdesk.simulators.models.asked import Asked, Refused
from frontdesk.simulators.models.doors.anthropic import AnthropicDoor
from frontdesk.simulators.models.doors.base import Door, Received, Voice, dump
from frontdesk.simulators.models.doors.dashscope import DashScopeDoor
from frontdesk.simulators.models.doors.gemini import GeminiDoor
from frontdesk.simulators.models.doors.openai import OpenAIDoor
from frontdesk.simulators.models.events import render_all
from frontdesk.simulators.models.speech import bench_size, compose, prompt_tokens, vectors

CREATED_S = 1_700_000_000
KEPT = 4_096
MAX_HEAD = 16 * 1024
MAX_BODY = 4 * 1024 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,7})[ \t]*\r\n", re.IGNORECASE)
_GEMINI = re.compile(r"/v1\w*/models/(?P<model>[^/:]+):(?P<action>\w+)")


@dataclass(slots=True)
class Counts:
    """What the fast path did."""

    answers: int = 0
    connections: int = 0
    left: int = 0
    """Clients that left in the middle of an answer."""


class Answers:
    """Ready bytes by request."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Sequence[bytes]] = {}
        openai, dashscope, anthropic = OpenAIDoor(), DashScopeDoor(), AnthropicDoor()
        self._gemini = GeminiDoor()
        self._doors: dict[str, tuple[Door, bool]] = {
            "/api/v1/services/aigc/text-generation/generation": (dashscope, False),
            "/api/v1/services/embeddings/text-embedding/text-embedding": (dashscope, True),
            "/v1/messages": (anthropic, False),
        }
        for prefix in ("", "/v1", "/compatible-mode/v1"):
            self._doors[f"{prefix}/chat/completions"] = (openai, False)
            self._doors[f"{prefix}/embeddings"] = (openai, True)

    def of(self, head: bytes, body: bytes) -> Sequence[bytes]:
        """The writes of an answer."""
        target = head[: head.index(b"\r\n")]
        # The one header that changes what is said.
        streams = b"\r\nx-dashscope-sse: enable" in head.lower() if b"/aigc/" in target else False
        key = b"%b %d %b" % (target, streams, body)
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            found = self._kept[key] = self._make(head.decode("latin-1"), body)
        return found

    def _make(self, head: str, body: bytes) -> Sequence[bytes]:
        first, *lines = head.split("\r\n")
        target = first.split(" ")[1] if first.count(" ") == 2 else ""
        path, _, query = target.partition("?")
        gemini = _GEMINI.fullmatch(path)
        door, embeds = self._doors.get(path, (self._gemini, "mbed" in path))
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        match: Mapping[str, str] = gemini.groupdict() if gemini else {}
        pairs = dict(pair.partition("=")[::2] for pair in query.split("&"))
        try:
            if path not in self._doors and gemini is None:
                raise Refused(404, "There is nothing at this path.", kind="invalid_request_error")
            read = orjson.loads(body)
            received = Received(headers, read if isinstance(read, dict) else {}, match, pairs)
            asked = door.embed(received) if embeds else door.chat(received)
        except orjson.JSONDecodeError:
            return [_json(door, 400, dump(door.failure(Refused(400, "The body is no JSON."), 0)))]
        except Refused as refused:
            return [_json(door, refused.status, dump(door.failure(refused, 0)))]
        except (AttributeError, KeyError, TypeError, ValueError):
            return [_json(door, 400, dump(door.failure(Refused(400, "Invalid type of a field."), 0)))]
        if asked.kind == "embed":
            return [_json(door, 200, dump(door.embedded(asked, vectors(asked), prompt_tokens(asked), 1)))]
        voice = door.voice(asked, compose(asked, None), 1, CREATED_S)
        return _stream(door, asked, voice) if asked.stream else [_json(door, 200, dump(voice.whole()))]


class BenchServer:
    """The port; `counts` may be read at any time."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Transport] = set()
        self.counts = Counts()
        self.url = ""

    async def start(self) -> None:
        """Open it."""
        answers = Answers()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: BenchProtocol(answers, self.counts, self._open), self._host, self._port
        )
        self.url = f"http://{self._host}:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Close it, and every connection."""
        if self._server is not None:
            self._server.close()
            for transport in list(self._open):
                transport.abort()
            await self._server.wait_closed()


class BenchProtocol(asyncio.Protocol):
    """One connection: requests in turn, each answered with bytes that are ready."""

    def __init__(self, answers: Answers, counts: Counts, connections: set[asyncio.Transport]) -> None:
        self._answers = answers
        self._counts = counts
        self._open = connections
        self._buffer = b""
        self._rest: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no asyncio.Transport by their class.
        self._transport = cast(asyncio.Transport, transport)
        self._open.add(self._transport)
        self._counts.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._counts.left += bool(self._rest)
        self._rest = []
        if self._transport is not None:
            self._open.discard(self._transport)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._rest:
            self._serve()

    def _serve(self) -> None:
        """Answer what is in the buffer, one request after the other."""
        transport = self._transport
        while transport is not None and self._buffer:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MAX_HEAD:
                    transport.abort()
                return
            found = _LENGTH.search(self._buffer, 0, end + 2)
            length = int(found[1]) if found else 0
            if length > MAX_BODY:
                transport.abort()
                return
            whole = end + 4 + length
            if len(self._buffer) < whole:
                return
            first, *rest = self._answers.of(self._buffer[:end], self._buffer[end + 4 : whole])
            self._buffer = self._buffer[whole:]
            transport.write(first)
            if rest:
                self._rest = rest[::-1]
                self._loop.call_soon(self._go_on)
                return
            self._counts.answers += 1

    def _go_on(self) -> None:
        if self._transport is None or not self._rest:
            return
        self._transport.write(self._rest.pop())
        if self._rest:
            self._loop.call_soon(self._go_on)
            return
        self._counts.answers += 1
        self._serve()


def _stream(door: Door, asked: Asked, voice: Voice) -> Sequence[bytes]:
    """The writes of a stream: the head goes with the first."""
    parts = voice.parts()
    size = bench_size(asked.model)
    batch = size[1] if size and size[1] else max(len(parts), 1)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {door.sse_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    events = [voice.piece(part) for part in parts] or [[]]
    events[0] = voice.opening() + events[0]
    groups = [
        [event for piece in events[at : at + batch] for event in piece] for at in range(0, len(events), batch)
    ]
    groups[-1] = groups[-1] + voice.ending()
    writes = [_chunk(render_all(group)) for group in groups]
    writes[0] = head.encode() + writes[0]
    writes[-1] += b"0\r\n\r\n"
    return writes


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _json(door: Door, status: int, data: bytes) -> bytes:
    head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\nContent-Type: {door.json_type}\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data
