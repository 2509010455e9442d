"""The session protocol of one connection, without I/O.

| state       | meaning                               | leaves by                                    |
| ----------- | ------------------------------------- | -------------------------------------------- |
| NEW         | nothing written yet                   | `register()` -> REGISTERING                  |
| REGISTERING | `/reg` written                        | 200 -> WAIT_READY, or SYNCING if signalled   |
| WAIT_READY  | `/reg` accepted                       | `/s/vulcan` -> SYNCING                       |
| SYNCING     | getState written, then ackDiff        | 200 to ackDiff -> READY                      |
| READY       | requests and sends are possible       | CLOSED only                                  |
| CLOSED      | the end                               | nothing                                      |

Every state leaves to CLOSED by `closed()`, `/push/kickout` and `/s/session/remove`; REGISTERING and
SYNCING also by a refusal.

Requests wait for `/s/vulcan`, because the platform answers them 400 before (A7). The cursor is taken from
getState, never forged, so that the platform does not count what we missed as seen (A8). A later push with
`syncExtraType` 1 or 2 repeats getState and ackDiff (A8) and is marked `resync`.

Pushes are decoded in every state but CLOSED, since `/s/vulcan` may carry messages itself (A7); nothing is
acknowledged but by `ack(push)`.
"""

from __future__ import annotations

import enum
from collections import deque

from frontdesk.connection_gateway.platforms.errors import NotConnectedError, from_im, from_register
from frontdesk.connection_gateway.platforms.goofish.wire import frames
from frontdesk.connection_gateway.platforms.goofish.wire.decode import decode_push
from frontdesk.connection_gateway.platforms.goofish.wire.events import (
    Event,
    HeartbeatAnswered,
    Kicked,
    PushReceived,
    Ready,
    Registered,
    Rejected,
    Response,
    SessionRemoved,
)
from frontdesk.connection_gateway.platforms.goofish.wire.ids import Mids, mid_key
from frontdesk.connection_gateway.platforms.model import Push

_REMEMBERED_HEARTBEATS = 8


class State(enum.Enum):
    """See the module's table."""

    NEW = "new"
    REGISTERING = "registering"
    WAIT_READY = "wait_ready"
    SYNCING = "syncing"
    READY = "ready"
    CLOSED = "closed"


class GoofishProtocol:
    """Feed `receive` with every frame, write what the methods and `take_outgoing` return, in that order."""

    __slots__ = ("_heartbeats", "_internal", "_mids", "_outgoing", "_own_id", "_signalled", "state")

    def __init__(self, own_id: str, mids: Mids) -> None:
        self.state = State.NEW
        self._own_id = own_id
        self._mids = mids
        self._outgoing: list[str] = []
        self._internal: dict[str, str] = {}  # mid -> path of our own /reg, getState and ackDiff; at most 3
        self._heartbeats: deque[str] = deque(maxlen=_REMEMBERED_HEARTBEATS)
        self._signalled = False

    def register(self, token: str, device_id: str) -> str:
        """The first frame to write. Raises NotConnectedError unless NEW."""
        self._expect(State.NEW)
        self.state = State.REGISTERING
        return frames.register(token, device_id, self._internal_mid(frames.REGISTER))

    def request(self, lwp: str, body: object) -> tuple[str, str]:
        """A request: the key of its answer, and its frame. Raises NotConnectedError unless READY."""
        self._expect(State.READY)
        mid = self._mids.new()
        return mid_key(mid), frames.request(lwp, mid, body)

    def heartbeat(self) -> str:
        """A heartbeat. Raises NotConnectedError before `/reg` was accepted and after the end."""
        self._expect(State.WAIT_READY, State.SYNCING, State.READY)
        mid = self._mids.new()
        self._heartbeats.append(mid_key(mid))
        return frames.heartbeat(mid)

    def ack(self, push: Push) -> str:
        """The acknowledgement of a push whose events are stored. Raises NotConnectedError after the end."""
        if self.state is State.CLOSED:
            raise NotConnectedError
        return frames.ack(push.headers)

    def take_outgoing(self) -> list[str]:
        """Frames the protocol itself wants written after a `receive`."""
        taken, self._outgoing = self._outgoing, []
        return taken

    def closed(self) -> None:
        """The transport is gone."""
        self.state = State.CLOSED
        self._internal.clear()
        self._outgoing.clear()

    def receive(self, text: str | bytes) -> list[Event]:
        """What one frame says. Raises WireError for a frame that is none; the session goes on."""
        if self.state in (State.NEW, State.CLOSED):
            return []
        frame = frames.parse(text)
        if isinstance(frame, frames.LwpResponse):
            return self._response(frame)
        return self._push(frame)

    def _expect(self, *states: State) -> None:
        if self.state not in states:
            raise NotConnectedError(f"session is {self.state.value}")

    def _internal_mid(self, lwp: str) -> str:
        mid = self._mids.new()
        self._internal[mid_key(mid)] = lwp
        return mid

    def _response(self, frame: frames.LwpResponse) -> list[Event]:
        lwp = self._internal.pop(frame.mid, None)
        if lwp is not None:
            return self._internal_answer(lwp, frame)
        if frame.mid in self._heartbeats:
            # Whatever its code: an answer that is not 200 still proves the session (A9).
            while self._heartbeats.popleft() != frame.mid:
                pass
            return [HeartbeatAnswered()]
        return [Response(frame.mid, frame.code, frame.body)]

    def _internal_answer(self, lwp: str, frame: frames.LwpResponse) -> list[Event]:
        if lwp == frames.REGISTER:
            return self._register_answer(frame)
        error = from_im(frame.code, frame.body)
        if error is not None:
            if self.state is State.READY:
                return []  # a repeated synchronisation is advice; the read-back of `resync` does not need it
            self.closed()
            return [Rejected(error)]
        if lwp == frames.GET_STATE:
            self._outgoing.append(
                frames.request(frames.ACK_DIFF, self._internal_mid(frames.ACK_DIFF), [frame.body])
            )
            return []
        if self.state is State.SYNCING:
            self.state = State.READY
            return [Ready()]
        return []

    def _register_answer(self, frame: frames.LwpResponse) -> list[Event]:
        if frame.code != 200:
            body = frame.body if isinstance(frame.body, dict) else {}
            self.closed()
            return [Rejected(from_register(frame.code, str(body.get("reason", ""))))]
        self.state = State.WAIT_READY
        if self._signalled:
            self._synchronise()
        return [Registered(str(frame.headers.get("sid", "")))]

    def _synchronise(self) -> None:
        if self.state is State.WAIT_READY:
            self.state = State.SYNCING
        if frames.GET_STATE in self._internal.values() or frames.ACK_DIFF in self._internal.values():
            return
        mid = self._internal_mid(frames.GET_STATE)
        self._outgoing.append(frames.request(frames.GET_STATE, mid, frames.get_state_body()))

    def _push(self, frame: frames.LwpRequest) -> list[Event]:
        if frame.lwp == frames.HEARTBEAT:
            self._outgoing.append(frames.ack(frame.headers))
            return [HeartbeatAnswered()]
        if frame.lwp in (frames.KICKOUT, frames.SESSION_REMOVE):
            self.closed()
            return [Kicked() if frame.lwp == frames.KICKOUT else SessionRemoved()]
        resync = False
        if frame.lwp == frames.READY:
            self._signalled = True
            if self.state is State.WAIT_READY:
                self._synchronise()
        elif _wants_resync(frame.body):
            resync = True
            if self.state is State.READY:
                self._synchronise()
        return [PushReceived(frame.push(resync=resync), decode_push(frame.body, self._own_id))]


def _wants_resync(body: object) -> bool:
    extra = body.get("syncExtraType") if isinstance(body, dict) else None
    return isinstance(extra, dict) and extra.get("type") in (1, 2)
