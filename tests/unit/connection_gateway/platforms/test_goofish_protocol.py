"""The session protocol: one test an arrow of its state table."""

from __future__ import annotations

import contextlib
import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.connection_gateway.platforms.errors import ErrorKind, NotConnectedError, WireError
from frontdesk.connection_gateway.platforms.goofish.wire import frames
from frontdesk.connection_gateway.platforms.goofish.wire.connection import GoofishProtocol, State
from frontdesk.connection_gateway.platforms.goofish.wire.events import (
    HeartbeatAnswered,
    Kicked,
    PushReceived,
    Ready,
    Registered,
    Rejected,
    Response,
    SessionRemoved,
)
from frontdesk.connection_gateway.platforms.goofish.wire.ids import Mids
from frontdesk.connection_gateway.platforms.model import Typing
from frontdesk.kit.clock import ManualClock

TYPING = "gQGRhAGzNTAwMDAwMDAwMDFAZ29vZmlzaAIBAwEEtTMzMDAwMDAwMDAwMDJAZ29vZmlzaA=="
STATE_BODY = {"pipeline": "sync", "topic": "sync", "pts": 1795227257468000, "seq": 0}


def _new() -> GoofishProtocol:
    return GoofishProtocol("2200000000001", Mids(ManualClock(), Random(1)))


def _mid(frame: str) -> str:
    mid = json.loads(frame)["headers"]["mid"]
    assert isinstance(mid, str)
    return mid


def _answer(frame: str, code: int | None = 200, body: object = None, **headers: str) -> str:
    answer: dict[str, Any] = {"headers": {"mid": _mid(frame), **headers}}
    if code is not None:
        answer["code"] = code
    if body is not None:
        answer["body"] = body
    return json.dumps(answer)


def _push(lwp: str, body: object = None) -> str:
    return json.dumps(
        {"lwp": lwp, "headers": {"mid": "7951795227258478 0", "sid": "s", "dt": "j"}, "body": body}
    )


def _sync(*data: str, **extra: object) -> dict[str, object]:
    return {"syncPushPackage": {"data": [{"data": item, "objectType": 40006} for item in data]}, **extra}


def _registered() -> GoofishProtocol:
    protocol = _new()
    protocol.receive(_answer(protocol.register("tok", "DID"), sid="s"))
    return protocol


def _ready() -> GoofishProtocol:
    protocol = _registered()
    protocol.receive(_push(frames.READY))
    (get_state,) = protocol.take_outgoing()
    protocol.receive(_answer(get_state, body=STATE_BODY))
    (ack_diff,) = protocol.take_outgoing()
    assert protocol.receive(_answer(ack_diff, body={})) == [Ready()]
    return protocol


def test_new_to_registering() -> None:
    """`register` writes `/reg` once."""
    protocol = _new()
    assert json.loads(protocol.register("tok", "DID"))["lwp"] == "/reg"
    assert protocol.state is State.REGISTERING
    with pytest.raises(NotConnectedError):
        protocol.register("tok", "DID")


def test_registering_to_wait_ready() -> None:
    """An accepted `/reg` waits for the signal and writes nothing, as requests would be answered 400."""
    protocol = _new()
    assert protocol.receive(_answer(protocol.register("t", "D"), sid="s1")) == [Registered("s1")]
    assert protocol.state is State.WAIT_READY
    assert protocol.take_outgoing() == []
    with pytest.raises(NotConnectedError):
        protocol.request(frames.HISTORY, [])


def test_wait_ready_to_syncing() -> None:
    """The signal is answered by getState, and what it carries is a push to store."""
    protocol = _registered()
    (event,) = protocol.receive(_push(frames.READY, _sync(TYPING)))
    assert isinstance(event, PushReceived)
    assert event.events == (Typing("50000000001"),)
    assert protocol.state is State.SYNCING
    (get_state,) = protocol.take_outgoing()
    assert json.loads(get_state)["lwp"] == "/r/SyncStatus/getState"
    assert json.loads(get_state)["body"] == [{"topic": "sync"}]


def test_signal_before_the_answer_to_register() -> None:
    """A signal that overtakes the answer is remembered."""
    protocol = _new()
    register = protocol.register("t", "D")
    protocol.receive(_push(frames.READY))
    assert protocol.take_outgoing() == []
    protocol.receive(_answer(register))
    assert protocol.state is State.SYNCING
    assert len(protocol.take_outgoing()) == 1


def test_syncing_acknowledges_the_servers_own_cursor() -> None:
    """ackDiff carries exactly the body of getState's answer; nothing is forged."""
    protocol = _registered()
    protocol.receive(_push(frames.READY))
    (get_state,) = protocol.take_outgoing()
    assert protocol.receive(_answer(get_state, body=STATE_BODY)) == []
    (ack_diff,) = protocol.take_outgoing()
    assert json.loads(ack_diff)["lwp"] == "/r/SyncStatus/ackDiff"
    assert json.loads(ack_diff)["body"] == [STATE_BODY]
    assert protocol.state is State.SYNCING


def test_syncing_to_ready() -> None:
    """After ackDiff's answer requests are possible and their answers are matched by mid."""
    protocol = _ready()
    assert protocol.state is State.READY
    mid, frame = protocol.request(frames.HISTORY, ["5@goofish"])
    assert protocol.receive(_answer(frame, None, {"x": 1})) == [Response(mid, 200, {"x": 1})]
    assert _mid(frame).startswith(mid)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("invalid token", ErrorKind.AUTHENTICATION),
        ("not auth", ErrorKind.AUTHENTICATION),
        ("device id or appkey is not equal", ErrorKind.AUTHENTICATION),
        ("connect limit", ErrorKind.FLOW_CONTROL),
        ("session remove", ErrorKind.FLOW_CONTROL),
        ("too many", ErrorKind.FLOW_CONTROL),
    ],
)
def test_registering_to_closed(reason: str, kind: ErrorKind) -> None:
    """A refused `/reg` ends the session with the class of its reason."""
    protocol = _new()
    (event,) = protocol.receive(_answer(protocol.register("t", "D"), 401, {"reason": reason}))
    assert isinstance(event, Rejected)
    assert event.error.kind is kind
    assert protocol.state is State.CLOSED


@pytest.mark.parametrize("step", [1, 2])
def test_syncing_to_closed(step: int) -> None:
    """Flow control in either step of the synchronisation ends the session, classed."""
    protocol = _registered()
    protocol.receive(_push(frames.READY))
    (frame,) = protocol.take_outgoing()
    if step == 2:
        protocol.receive(_answer(frame, body=STATE_BODY))
        (frame,) = protocol.take_outgoing()
    (event,) = protocol.receive(_answer(frame, 200, {"code": "400600001"}))
    assert isinstance(event, Rejected)
    assert event.error.kind is ErrorKind.FLOW_CONTROL
    assert protocol.state is State.CLOSED


@pytest.mark.parametrize(
    ("lwp", "expected"), [("/push/kickout", Kicked()), ("/s/session/remove", SessionRemoved())]
)
def test_ready_to_closed_by_the_platform(lwp: str, expected: object) -> None:
    """A kick and a removal end the session; nothing can be written afterwards."""
    protocol = _ready()
    assert protocol.receive(_push(lwp)) == [expected]
    assert protocol.state is State.CLOSED
    for write in (protocol.heartbeat, lambda: protocol.request("/r/x", [])):
        with pytest.raises(NotConnectedError):
            write()
    assert protocol.receive(_push("/s/sync", _sync(TYPING))) == []


def test_a_push_is_acknowledged_only_when_asked() -> None:
    """Receiving writes nothing; `ack` echoes all headers; after the end it cannot be written."""
    protocol = _ready()
    (event,) = protocol.receive(_push("/s/sync", _sync(TYPING, TYPING)))
    assert isinstance(event, PushReceived)
    assert len(event.events) == 2
    assert protocol.take_outgoing() == []
    ack = json.loads(protocol.ack(event.push))
    assert ack == {"code": 200, "headers": {"mid": "7951795227258478 0", "sid": "s", "dt": "j"}}
    protocol.closed()
    with pytest.raises(NotConnectedError):
        protocol.ack(event.push)


@pytest.mark.parametrize("lwp", ["/s/para", "/s/sync_failover", "/s/unheard/of"])
def test_every_push_path_is_a_push(lwp: str) -> None:
    """Also an unknown path wants its acknowledgement."""
    (event,) = _ready().receive(_push(lwp))
    assert isinstance(event, PushReceived)
    assert event.push.path == lwp


def test_only_its_own_mid_answers_a_heartbeat() -> None:
    """An answer to anything else with code 200 is none, whatever many clients take it for."""
    protocol = _ready()
    beat = protocol.heartbeat()
    _, request = protocol.request("/r/x", [])
    assert not any(isinstance(e, HeartbeatAnswered) for e in protocol.receive(_answer(request)))
    assert protocol.receive('{"headers":{"mid":"1 0"},"code":200}') == [Response("1", 200, None)]
    assert protocol.receive(_answer(beat)) == [HeartbeatAnswered()]
    assert not any(isinstance(e, HeartbeatAnswered) for e in protocol.receive(_answer(beat)))


def test_a_late_or_refused_heartbeat_answer_still_counts() -> None:
    """The answer to the later of two beats covers the earlier; its code does not matter."""
    protocol = _ready()
    first, second = protocol.heartbeat(), protocol.heartbeat()
    assert protocol.receive(_answer(second, 500)) == [HeartbeatAnswered()]
    assert isinstance(protocol.receive(_answer(first))[0], Response)


def test_a_heartbeat_of_the_peer_is_answered_and_counts() -> None:
    """The passive heartbeat confirms the link."""
    protocol = _ready()
    assert protocol.receive(_push("/!")) == [HeartbeatAnswered()]
    (answer,) = protocol.take_outgoing()
    assert json.loads(answer)["code"] == 200


def test_heartbeats_start_with_the_registration() -> None:
    """The platform kicks who is silent after `/reg`, so a beat is possible while waiting, not before."""
    with pytest.raises(NotConnectedError):
        _new().heartbeat()
    assert json.loads(_registered().heartbeat())["lwp"] == "/!"


@pytest.mark.parametrize("kind", [1, 2])
def test_a_push_that_lost_its_place_asks_for_resynchronisation(kind: int) -> None:
    """`syncExtraType` 1 or 2 marks the push and repeats getState once, even when said twice."""
    protocol = _ready()
    (event,) = protocol.receive(_push("/s/sync", _sync(syncExtraType={"type": kind})))
    protocol.receive(_push("/s/sync", _sync(syncExtraType={"type": kind})))
    assert isinstance(event, PushReceived)
    assert event.push.resync
    (get_state,) = protocol.take_outgoing()
    protocol.receive(_answer(get_state, body=STATE_BODY))
    (ack_diff,) = protocol.take_outgoing()
    assert protocol.receive(_answer(ack_diff, 400)) == []
    assert protocol.state is State.READY


def test_a_plain_push_does_not_ask_for_it() -> None:
    """Type 0 is normal."""
    (event,) = _ready().receive(_push("/s/sync", _sync(syncExtraType={"type": 0})))
    assert isinstance(event, PushReceived)
    assert not event.push.resync


def test_garbage_leaves_the_session_as_it_was() -> None:
    """A frame that is none raises WireError and the session goes on."""
    protocol = _ready()
    with pytest.raises(WireError):
        protocol.receive("garbage")
    assert protocol.state is State.READY


_PATHS = st.sampled_from(["/s/sync", "/s/vulcan", "/!", "/s/para", "/reg", ""])
_BODIES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["syncPushPackage", "data", "syncExtraType", "type", "code", "reason"]), inner
        )
    ),
    max_leaves=10,
)


@given(st.lists(st.tuples(_PATHS, st.none() | st.integers(0, 600), _BODIES), max_size=8))
def test_no_sequence_of_frames_raises(sequence: list[tuple[str, int | None, object]]) -> None:
    """Frames of any shape in any order raise nothing but WireError."""
    protocol = _new()
    mid = _mid(protocol.register("t", "D"))
    for lwp, code, body in sequence:
        frame: dict[str, object] = {"lwp": lwp, "headers": {"mid": mid}, "body": body}
        if code is not None:
            frame["code"] = code
        with contextlib.suppress(WireError):
            protocol.receive(json.dumps(frame))
        for text in protocol.take_outgoing():
            mid = str(json.loads(text)["headers"]["mid"])
