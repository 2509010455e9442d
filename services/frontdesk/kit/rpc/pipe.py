"""One end of a stream over NATS: order, credit, half-close, and noticing that the other end is gone.

Each frame is one NATS message whose payload starts with a kind (1 byte) and how many messages its sender has
sent before it (8 bytes); numbers are big endian. NATS keeps the order between two addresses, so a number that
is not the one expected means loss, and the stream ends.

    D data        then messages, each after its length (4 bytes): all written in one turn of the loop
    A accept      then the credit (8 bytes); server to client, first of all; the reply subject is the server's
                  end
    S state       then the credit (8 bytes): how many messages the other may have sent in all; also the
                  heartbeat
    I initial     headers hold the initial metadata; server to client
    H half-close  the client has sent all it will
    E end         headers hold status and trailing metadata; server to client, last of all
    C cancel      client to server

Credit is a total, not a step, so a repeat is harmless. A state frame names its sender's address as reply
subject: when nobody listens at the other end any more, the NATS server says so at once.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import weakref
from collections import deque
from typing import Protocol

from nats.aio.msg import Msg

from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import FrontdeskError, ResourceExhausted, Unavailable
from frontdesk.kit.wire import Mailbox, Wire, nobody_answered

_log = logging.getLogger(__name__)

DATA, ACCEPT, STATE, INITIAL, HALF, END, CANCEL = b"DASIHEC"
_HEAD = struct.Struct(">BQ")
_HEAD_CREDIT = struct.Struct(">BQQ")
_LENGTH = struct.Struct(">I")

MOST_BATCH_BYTES = 32 * 1024


class PipeClosed(Exception):
    """The stream ended while somebody wanted to write."""


class Owner(Protocol):
    """Who is told what happens to a stream besides its messages."""

    def on_accept(self) -> None:
        """The server took the call."""

    def on_initial(self, message: Msg) -> None:
        """Initial metadata came."""

    def on_end(self, message: Msg) -> None:
        """The server ended the call; messages before it may still be read."""

    def on_cancel(self) -> None:
        """The client gave the call up."""

    def on_lost(self, reason: str) -> None:
        """The other end is gone, or a message was lost."""

    def on_nobody(self) -> None:
        """Nobody listens where the call was sent to."""


class Signal:
    """Lets one coroutine wait for a change; a second one is a fault of the caller."""

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("two coroutines read, or two write, the same stream at once")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class Pipe:
    """See the module. `owner` is held weakly, so that a stream nobody holds any more can be cancelled."""

    def __init__(self, wire: Wire, mailbox: Mailbox, window: int, owner: Owner) -> None:
        self.address = mailbox.open(self._deliver)
        self.peer = ""
        self._wire = wire
        self._mailbox = mailbox
        self._owner = weakref.ref(owner)
        self._window = window
        self._sent = 0
        self._allowed = 0
        self._received = 0
        self._consumed = 0
        self._granted = window
        self._queue: deque[bytes] = deque()
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._no_more = False
        self._closed = False
        self._readable = Signal()
        self._credit = Signal()
        self._heard = True
        self._said = True
        self._silent = 0

    # What the two ends say.

    def accept(self, peer: str) -> None:
        """Server: tell the client at `peer` that the call is taken, and how much it may send."""
        self.peer = peer
        self._wire.send(peer, _HEAD_CREDIT.pack(ACCEPT, 0, self._granted), self.address)

    def say(self, kind: int, headers: bytes = b"") -> None:
        """Send a frame without a message; nothing happens where the peer is not known or NATS is away."""
        self._flush()
        if self.peer:
            try:
                self._wire.send(self.peer, _HEAD.pack(kind, self._sent), self.address, headers)
            except Unavailable as error:
                _log.debug("a frame was not sent: %s", error)

    def allow(self, credit: int) -> None:
        """Let this end send `credit` messages in all."""
        self._allowed = max(self._allowed, credit)
        self._credit.set()

    async def write(self, message: bytes) -> None:
        """Send one message, waiting for credit.

        Raises ResourceExhausted for a message over the NATS server's limit and PipeClosed when the stream
        ended.
        """
        size = len(message)
        limit = self._wire.max_payload - _HEAD.size - _LENGTH.size
        if size > limit:
            raise ResourceExhausted(f"a message of {size} bytes is over the limit of {limit}")
        while self._sent >= self._allowed and not self._closed:
            await self._credit.wait()
        if self._closed:
            raise PipeClosed
        if self._batch_bytes + size > MOST_BATCH_BYTES:
            self._flush()
        if not self._batch:
            asyncio.get_running_loop().call_soon(self._flush)
        self._batch += (_LENGTH.pack(size), message)
        self._batch_bytes += size
        self._sent += 1
        if self._wire.congested:
            self._flush()
            await self._wire.relieve()

    def _flush(self) -> None:
        """Send what was written since the last turn of the loop."""
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch and not self._closed:
            self._said = True
            first = self._sent - len(batch) // 2
            try:
                self._wire.send(self.peer, b"".join((_HEAD.pack(DATA, first), *batch)))
            except Unavailable as error:
                self._lost(error.message)

    async def read(self) -> bytes | None:
        """The next message; None after the last."""
        while not self._queue:
            if self._no_more:
                return None
            await self._readable.wait()
        message = self._queue.popleft()
        self._consumed += 1
        if self._granted - self._consumed <= self._window // 2 and not self._no_more:
            self._granted = self._consumed + self._window
            self._state()
        return message

    def no_more(self, *, discard: bool = False) -> None:
        """Nothing more will come; with `discard` what came and was not read is dropped too."""
        self._no_more = True
        if discard:
            self._queue.clear()
        self._readable.set()

    def close(self) -> None:
        """Forget the stream; who waits to write gets PipeClosed."""
        self._closed = True
        self._no_more = True
        self._mailbox.close(self.address)
        self._readable.set()
        self._credit.set()

    def _state(self) -> None:
        self._flush()
        if self.peer and not self._closed:
            self._said = True
            frame = _HEAD_CREDIT.pack(STATE, self._sent, self._granted)
            try:
                self._wire.send(self.peer, frame, self.address)
            except Unavailable as error:
                self._lost(error.message)

    # What the other end says.

    def _deliver(self, message: Msg) -> None:
        data = message.data
        self._heard = True
        if data and data[0] == DATA and len(data) >= _HEAD.size:
            self._data(data)
        elif nobody_answered(message):
            self._nobody()
        elif len(data) >= _HEAD.size:
            self._control(message)

    def _data(self, data: bytes) -> None:
        messages = []
        end = _HEAD.size
        while end + _LENGTH.size <= len(data):
            start = end + _LENGTH.size
            end = start + _LENGTH.unpack_from(data, end)[0]
            messages.append(data[start:end])
        in_order = _HEAD.unpack_from(data)[1] == self._received and end == len(data)
        self._received += len(messages)
        if not in_order or self._received > self._granted:
            self._lost("a message of the stream was lost")
        elif not self._no_more:
            self._queue.extend(messages)
            self._readable.set()

    def _control(self, message: Msg) -> None:
        kind, sent = _HEAD.unpack_from(message.data)
        owner = self._owner()
        if owner is None:
            return
        if kind == CANCEL:
            owner.on_cancel()
            return
        if sent != self._received:
            self._lost("a message of the stream was lost")
            return
        if kind in (ACCEPT, STATE) and len(message.data) == _HEAD_CREDIT.size:
            self.allow(_HEAD_CREDIT.unpack(message.data)[2])
            if kind == ACCEPT and not self.peer:
                self.peer = message.reply
                owner.on_accept()
        elif kind == INITIAL:
            owner.on_initial(message)
        elif kind == HALF:
            self.no_more()
        elif kind == END:
            owner.on_end(message)

    def _nobody(self) -> None:
        owner = self._owner()
        if owner is not None and not self.peer:
            owner.on_nobody()
        else:
            self._lost("the other end is gone")

    def _lost(self, reason: str) -> None:
        owner = self._owner()
        if owner is not None and not self._closed:
            owner.on_lost(reason)

    def pulse(self, dead_after: int) -> None:
        """A heartbeat's time has come: say something if nothing was said, and count the other's silence."""
        if not self.peer:
            return
        self._silent = 0 if self._heard else self._silent + 1
        if self._silent >= dead_after:
            self._lost("the other end is silent")
            return
        if not self._said:
            self._state()
        self._heard = self._said = False

    def disconnected(self) -> None:
        """The connection to NATS was lost meanwhile; what was under way may be too."""
        self._lost("the connection to NATS was lost")


class Pulse:
    """One timer for the heartbeats of all streams of a channel or server; it runs only while there are
    streams."""

    def __init__(self, wire: Wire, clock: Clock, heartbeat_s: float, dead_after_s: float) -> None:
        self._wire = wire
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._dead_after = max(1, round(dead_after_s / heartbeat_s))
        self._pipes: dict[Pipe, int] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, pipe: Pipe) -> None:
        self._pipes[pipe] = self._wire.nc.stats["reconnects"]
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="rpc-pulse")

    def discard(self, pipe: Pipe) -> None:
        self._pipes.pop(pipe, None)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while self._pipes:
            await self._clock.sleep(self._heartbeat_s)
            reconnects = self._wire.nc.stats["reconnects"]
            for pipe, at_start in list(self._pipes.items()):
                try:
                    if reconnects != at_start or self._wire.nc.is_closed:
                        pipe.disconnected()
                    else:
                        pipe.pulse(self._dead_after)
                except FrontdeskError as error:
                    _log.warning("a heartbeat failed: %s", error)


def answer_stray(wire: Wire, message: Msg, kind: int, headers: bytes = b"") -> None:
    """Tell the sender of a frame that this end knows no such stream; replies to calls long over are
    ignored."""
    if message.reply and len(message.data) >= _HEAD.size and message.data[0] in (ACCEPT, STATE):
        wire.send(message.reply, _HEAD.pack(kind, 0), "", headers)


def bare(kind: int) -> bytes:
    """A frame of an end that has sent nothing before."""
    return _HEAD.pack(kind, 0)
