"""A caller of chat completions that costs little: HTTP/1.1 on bare asyncio protocols.

It looks at no more than where an answer begins and ends, so that what is measured is the other side.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

CHUNKED_END = b"0\r\n\r\n"
MOST_S = 60.0


@dataclass(frozen=True)
class Target:
    """Where to ask, and what."""

    name: str
    port: int
    key: str
    model: str

    def request(self, *, stream: bool) -> bytes:
        """A whole request."""
        body = json.dumps(
            {
                "model": self.model,
                "stream": stream,
                "messages": [{"role": "user", "content": "Is this still available? 还在吗"}],
            }
        ).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass
class Load:
    """What calls took, milliseconds each."""

    first_ms: list[float] = field(default_factory=list)
    whole_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def calls(self) -> int:
        return len(self.whole_ms)

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds if self.seconds else 0.0


class Caller(asyncio.Protocol):
    """One connection, one call at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[None] | None = None
        self._buffer = bytearray()
        self._body_at = -1
        self._length: int | None = None
        self._tail = b""
        self.first_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    async def call(self, request: bytes) -> None:
        """Ask and wait for the end of the answer; raises RuntimeError unless it is a whole 200."""
        assert self._transport is not None
        self._buffer.clear()
        self._body_at, self._length, self.first_at = -1, None, 0.0
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(MOST_S):
            await self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._body_at < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                self._fail(f"not a 200: {bytes(self._buffer[:300])!r}")
                return
            self._body_at = end + 4
            for line in head.split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    self._length = int(line.split(b":")[1])
        if (
            not self.first_at
            and len(self._buffer) > self._body_at
            and b"content" in self._buffer[self._body_at :]
        ):
            self.first_at = time.perf_counter()
        whole = (
            self._buffer.endswith(CHUNKED_END)
            if self._length is None
            else len(self._buffer) - self._body_at >= self._length
        )
        if whole and self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection was closed: {exc}")

    def _fail(self, problem: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(RuntimeError(problem))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def run_load(target: Target, *, stream: bool, callers: int, calls: int) -> Load:
    """`calls` calls in all by `callers` connections at once."""
    loop = asyncio.get_running_loop()
    request = target.request(stream=stream)
    load = Load()
    left = iter(range(calls))

    async def work() -> None:
        try:
            _, caller = await loop.create_connection(Caller, "127.0.0.1", target.port)
        except OSError as error:
            raise RuntimeError(f"{target.name} at port {target.port}: {error}") from error
        for _ in left:
            begun = time.perf_counter()
            await caller.call(request)
            ended = time.perf_counter()
            load.whole_ms.append((ended - begun) * 1000)
            load.first_ms.append((caller.first_at - begun) * 1000)
        caller.close()

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(callers)))
    load.seconds = time.perf_counter() - begun
    return load


def joined(loads: Sequence[Load]) -> Load:
    """Several loads as one."""
    return Load(
        [ms for load in loads for ms in load.first_ms],
        [ms for load in loads for ms in load.whole_ms],
        sum(load.seconds for load in loads),
    )
