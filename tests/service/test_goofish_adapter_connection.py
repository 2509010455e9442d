"""The Goofish connection against a scripted WebSocket server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from frontdesk.connection_gateway.platforms.base import PlatformConnection
from frontdesk.connection_gateway.platforms.errors import ErrorKind, NotConnectedError, PlatformError
from frontdesk.connection_gateway.platforms.goofish.adapter import Goofish
from frontdesk.connection_gateway.platforms.goofish.cookies import Cookies
from frontdesk.connection_gateway.platforms.goofish.settings import GoofishSettings
from frontdesk.connection_gateway.platforms.goofish.wire.heartbeat import HeartbeatSettings
from frontdesk.connection_gateway.platforms.goofish.wire.ids import send_uuid
from frontdesk.connection_gateway.platforms.model import (
    ChatEvent,
    CloseCause,
    Push,
    SendState,
    Typing,
    UploadedImage,
)
from frontdesk.kit.clock import SystemClock
from support.goofish_server import (
    BUYER,
    CHAT,
    COOKIES,
    OWN,
    TYPING,
    Frame,
    Inbox,
    Script,
    answer,
    connection,
    platform,
    push,
    ready,
    until,
)


async def test_connect_registers_waits_and_synchronises() -> None:
    """The frames of a connect in their order, and the headers of the upgrade, each once."""
    script = Script()
    async with ready(script) as made:
        protocol: PlatformConnection = made
        assert protocol.ready
        assert [f["lwp"] for f in script.frames] == [
            "/reg",
            "/r/SyncStatus/getState",
            "/r/SyncStatus/ackDiff",
        ]
        assert script.frames[0]["headers"]["did"] == "DID-1"
        assert script.frames[2]["body"] == [{"pts": 7}]
        headers = script.headers[0]
        assert headers["cookie"] == COOKIES
        assert headers["authorization"] == "Bearer tok"
        assert headers["origin"] == "https://www.goofish.com"
        assert "sec-websocket-extensions" not in headers


async def test_no_request_before_the_ready_signal() -> None:
    """Without `/s/vulcan` connect fails in time as NETWORK and leaves no socket open."""

    async def silent(script: Script, ws: ServerConnection, frame: Frame) -> None:
        await answer(ws, frame, sid="s")

    script = Script(answers={"/reg": silent})
    async with platform(script) as url, connection(url, ready_timeout=0.2) as (made, cookies):
        with pytest.raises(PlatformError) as caught:
            await made.connect(cookies, "tok", "D")
        assert caught.value.kind is ErrorKind.NETWORK
        assert "wait_ready" in caught.value.reason
        assert [f["lwp"] for f in script.frames] == ["/reg"]
        await script.sockets[0].wait_closed()


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("invalid token", ErrorKind.AUTHENTICATION), ("connect limit", ErrorKind.FLOW_CONTROL)],
)
async def test_refused_register_is_classed(reason: str, kind: ErrorKind) -> None:
    """Connect raises the class of the refusal, although the platform closes right after it."""

    async def refuse(script: Script, ws: ServerConnection, frame: Frame) -> None:
        await answer(ws, frame, 401, {"reason": reason})
        await ws.close()

    async with platform(Script(answers={"/reg": refuse})) as url, connection(url) as (made, cookies):
        with pytest.raises(PlatformError) as caught:
            await made.connect(cookies, "tok", "D")
        assert caught.value.kind is kind
        assert (await made.wait_closed()).cause is CloseCause.REJECTED


async def test_nobody_listens_is_network() -> None:
    """A refused TCP connection is NETWORK, and the message holds no secret."""
    async with platform(Script()) as url:
        pass
    async with connection(url) as (made, cookies):
        with pytest.raises(PlatformError) as caught:
            await made.connect(cookies, "tok", "D")
        assert caught.value.kind is ErrorKind.NETWORK
        assert "secret" not in str(caught.value)


async def test_upgrade_refused_by_status() -> None:
    """A status instead of the upgrade is classed."""

    def deny(ws: ServerConnection, request: object) -> Any:
        return ws.respond(429, "slow down\n")

    async with serve(lambda ws: ws.wait_closed(), "127.0.0.1", 0, process_request=deny) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connection(f"ws://127.0.0.1:{port}/") as (made, cookies):
            with pytest.raises(PlatformError) as caught:
                await made.connect(cookies, "tok", "D")
            assert caught.value.kind is ErrorKind.FLOW_CONTROL


async def test_pushes_are_acknowledged_only_by_the_caller() -> None:
    """A push with two items arrives whole; its ack is written when asked and echoes the headers."""
    script, inbox = Script(), Inbox()
    async with ready(script, inbox) as made:
        inbox.pushes.clear()
        await push(script.sockets[0], "/s/sync", TYPING, TYPING)
        await until(lambda: inbox.pushes)
        received, said = inbox.pushes[0]
        assert list(said) == [Typing(CHAT), Typing(CHAT)]
        assert script.acks == []
        await made.ack(received)
        await until(lambda: script.acks)
        assert script.acks == [{"code": 200, "headers": {"mid": "92 0", "sid": "s"}}]


async def test_send_is_accepted_with_id_and_time() -> None:
    """A text reaches the platform with its derived uuid and both receivers; the frame's writing is told."""
    script, written = Script(), []
    async with ready(script) as made:
        result = await made.send_text(CHAT, BUYER, "在的", "d.1", lambda: written.append(True))
        assert (result.state, result.created_at_ms, written) == (SendState.ACCEPTED, 5, [True])
        assert result.message_id.endswith(".PNM")
        message, receivers = script.seen("/r/MessageSend/sendByReceiverScope")[0]["body"]
        assert message["uuid"] == send_uuid("d.1")
        assert len(receivers["actualReceivers"]) == 2


async def test_sends_go_out_in_call_order_and_answers_match_by_mid() -> None:
    """Fifty sends at once arrive in order, and answers given in reverse reach their own callers."""
    held: list[Frame] = []

    async def reverse(script: Script, ws: ServerConnection, frame: Frame) -> None:
        held.append(frame)
        if len(held) == 50:
            for earlier in reversed(held):
                await answer(ws, earlier, body={"messageId": earlier["body"][0]["uuid"], "createAt": 1})

    script = Script(answers={"/r/MessageSend/sendByReceiverScope": reverse})
    async with ready(script) as made:
        results = await asyncio.gather(*(made.send_text(CHAT, BUYER, "x", f"d.{i}") for i in range(50)))
        assert [f["body"][0]["uuid"] for f in held] == [send_uuid(f"d.{i}") for i in range(50)]
        assert [r.message_id for r in results] == [send_uuid(f"d.{i}") for i in range(50)]


async def test_image_send() -> None:
    """An image goes out like a text."""
    async with ready(Script()) as made:
        result = await made.send_image(CHAT, BUYER, UploadedImage("https://img/1.png", 3, 4), "d.1")
        assert result.state is SendState.ACCEPTED


async def test_send_without_an_answer_is_unanswered() -> None:
    """A missing answer says that the frame was written and nothing more."""

    async def silent(script: Script, ws: ServerConnection, frame: Frame) -> None:
        return None

    script = Script(answers={"/r/MessageSend/sendByReceiverScope": silent})
    async with ready(script, request_timeout=0.1) as made:
        result = await made.send_text(CHAT, BUYER, "x", "d.1")
        assert (result.state, result.written) == (SendState.UNANSWERED, True)


async def test_connection_lost_during_a_send_is_unanswered() -> None:
    """The far side vanishing after the write leaves the outcome open, at once and not after a time-out."""

    async def vanish(script: Script, ws: ServerConnection, frame: Frame) -> None:
        ws.transport.abort()

    script = Script(answers={"/r/MessageSend/sendByReceiverScope": vanish})
    async with ready(script, request_timeout=30) as made:
        async with asyncio.timeout(2):
            result = await made.send_text(CHAT, BUYER, "x", "d.1")
            closed = await made.wait_closed()
        assert result.state is SendState.UNANSWERED
        assert (closed.cause, closed.code) == (CloseCause.PEER, 1006)
        assert closed.error is not None
        assert closed.error.kind is ErrorKind.NETWORK


async def test_send_on_a_closed_connection_is_not_written() -> None:
    """After the end nothing is written and the caller knows it."""
    script, written = Script(), []
    async with ready(script) as made:
        await made.close()
        result = await made.send_text(CHAT, BUYER, "x", "d.1", lambda: written.append(True))
        assert (result.state, written) == (SendState.NOT_WRITTEN, [])
        with pytest.raises(NotConnectedError):
            await made.history(CHAT)
        assert script.seen("/r/MessageSend/sendByReceiverScope") == []


async def test_too_many_requests_in_flight_are_not_written() -> None:
    """The map of waiting requests is bounded."""

    async def silent(script: Script, ws: ServerConnection, frame: Frame) -> None:
        return None

    script = Script(answers={"/r/MessageSend/sendByReceiverScope": silent})
    async with ready(script, max_in_flight=2, request_timeout=0.2) as made:
        results = await asyncio.gather(*(made.send_text(CHAT, BUYER, "x", f"d.{i}") for i in range(3)))
        assert [r.state for r in results] == [
            SendState.UNANSWERED,
            SendState.UNANSWERED,
            SendState.NOT_WRITTEN,
        ]


async def test_pages_chats_and_read_marks() -> None:
    """The other requests reach their paths and give the neutral model."""

    async def create(script: Script, ws: ServerConnection, frame: Frame) -> None:
        await answer(ws, frame, body={"singleChatConversation": {"cid": f"{CHAT}@goofish"}})

    async def page(script: Script, ws: ServerConnection, frame: Frame) -> None:
        await answer(
            ws, frame, body={"hasMore": 1, "nextCursor": 9, "userMessageModels": [], "userConvs": []}
        )

    script = Script(
        answers={
            "/r/SingleChatConversation/create": create,
            "/r/MessageManager/listUserMessages": page,
            "/r/Conversation/listNewestPagination": page,
        }
    )
    async with ready(script) as made:
        assert await made.create_chat("9", BUYER) == CHAT
        history, chats = await made.history(CHAT, 5, 3), await made.conversations(limit=7)
        assert (history.next_cursor, history.has_more, chats.next_cursor) == (9, True, 9)
        await made.mark_read(CHAT, ["1.PNM"])
        assert script.seen("/r/MessageManager/listUserMessages")[0]["body"] == [
            f"{CHAT}@goofish",
            False,
            3,
            5,
            False,
        ]
        assert script.seen("/r/Conversation/listNewestPagination")[0]["body"][1] == 7
        assert script.seen("/r/MessageStatus/read")[0]["body"] == [["1.PNM"]]
        assert script.seen("/r/Conversation/clearRedPoint")[0]["body"] == [[f"{CHAT}@goofish"]]


async def test_failed_request_is_classed() -> None:
    """A 400 to creating a chat is the platform's no to this one call."""

    async def refuse(script: Script, ws: ServerConnection, frame: Frame) -> None:
        await answer(ws, frame, 400, {"reason": "no"})

    async with ready(Script(answers={"/r/SingleChatConversation/create": refuse})) as made:
        with pytest.raises(PlatformError) as caught:
            await made.create_chat("9", BUYER)
        assert caught.value.kind is ErrorKind.BUSINESS
        assert made.ready


async def test_401_later_ends_the_connection_as_authentication() -> None:
    """A token that is no longer good is not used any further."""

    async def expired(script: Script, ws: ServerConnection, frame: Frame) -> None:
        await answer(ws, frame, 401, {})

    async with ready(Script(answers={"/r/MessageManager/listUserMessages": expired})) as made:
        with pytest.raises(PlatformError) as caught:
            await made.history(CHAT)
        assert caught.value.kind is ErrorKind.AUTHENTICATION
        assert (await made.wait_closed()).cause is CloseCause.TOKEN


@pytest.mark.parametrize(
    ("lwp", "cause"),
    [("/push/kickout", CloseCause.KICKED), ("/s/session/remove", CloseCause.SESSION_REMOVED)],
)
async def test_kick_and_removal_have_their_own_causes(lwp: str, cause: CloseCause) -> None:
    """The session can tell a takeover from a limit and from a lost network."""
    script = Script()
    async with ready(script) as made:
        await push(script.sockets[0], lwp)
        async with asyncio.timeout(2):
            closed = await made.wait_closed()
        assert closed.cause is cause
        assert not made.ready


async def test_clean_close_of_the_platform_is_an_end_too() -> None:
    """Code 1000 is reported with its code, not mistaken for our own close."""
    script = Script()
    async with ready(script) as made:
        await script.sockets[0].close(1000, "bye")
        async with asyncio.timeout(2):
            closed = await made.wait_closed()
        assert (closed.cause, closed.code) == (CloseCause.PEER, 1000)
        assert closed.error is not None
        assert closed.error.kind is ErrorKind.CONNECTION


async def test_own_close_is_local_and_says_goodbye() -> None:
    """A deliberate end does the closing handshake and carries no error."""
    script = Script()
    async with ready(script) as made:
        await made.close()
        await made.close()
        closed = await made.wait_closed()
        assert (closed.cause, closed.error) == (CloseCause.LOCAL, None)
        await script.sockets[0].wait_closed()
        assert script.sockets[0].close_code == 1000


async def test_a_half_open_socket_is_found() -> None:
    """A server that stops reading and writing is noticed after the time-out, although TCP stays up."""

    async def freeze(script: Script, ws: ServerConnection, frame: Frame) -> None:
        ws.transport.pause_reading()
        await asyncio.sleep(2)

    script = Script(answers={"/!": freeze})
    beat = HeartbeatSettings(interval=0.1, timeout=0.3, max_missed=3)
    async with ready(script, heartbeat=beat) as made:
        async with asyncio.timeout(1.5):
            closed = await made.wait_closed()
        assert closed.cause is CloseCause.HEARTBEAT
        assert closed.error is not None
        assert closed.error.kind is ErrorKind.NETWORK


async def test_a_zombie_that_answers_no_heartbeat_is_found() -> None:
    """Pushes alone do not keep a session alive whose heartbeats stay unanswered."""

    async def other(script: Script, ws: ServerConnection, frame: Frame) -> None:
        await ws.send('{"headers":{"mid":"1 0"},"code":200}')

    beat = HeartbeatSettings(interval=0.05, timeout=5, max_missed=3)
    async with ready(Script(answers={"/!": other}), heartbeat=beat) as made:
        async with asyncio.timeout(1.5):
            closed = await made.wait_closed()
        assert closed.cause is CloseCause.HEARTBEAT
        assert made.last_heartbeat_ms == 0


async def test_answered_heartbeats_keep_the_connection() -> None:
    """Heartbeats go out at the interval, and their answers are recorded."""
    script = Script()
    beat = HeartbeatSettings(interval=0.02, timeout=1, max_missed=30)
    async with ready(script, heartbeat=beat) as made:
        await until(lambda: len(script.seen("/!")) >= 40)
        assert made.ready
        assert made.last_heartbeat_ms > 0


async def test_a_waiting_receiver_holds_the_reader_not_the_connection() -> None:
    """While a push waits for room nothing else is read, and the peer is not blamed for the silence."""
    script, inbox = Script(), Inbox()
    beat = HeartbeatSettings(interval=0.05, timeout=0.3, max_missed=5)
    async with ready(script, inbox, heartbeat=beat) as made:
        inbox.pushes.clear()
        inbox.hold = asyncio.Event()
        await push(script.sockets[0], "/s/sync", TYPING)
        await push(script.sockets[0], "/s/sync", TYPING)
        await until(lambda: inbox.pushes)
        await asyncio.sleep(0.6)
        assert made.ready
        assert len(inbox.pushes) == 1
        inbox.hold.set()
        await until(lambda: len(inbox.pushes) == 2)


async def test_a_failing_receiver_ends_the_connection_visibly() -> None:
    """An error in the receiver is an INTERNAL end, not a silent dead reader."""

    async def fail(push: Push, said: Sequence[ChatEvent]) -> None:
        if said:
            raise ValueError("boom")

    script = Script()
    async with platform(script) as url:
        goofish = Goofish(GoofishSettings(ws_url=url, close_timeout=0.2), SystemClock())
        made = goofish.connection(OWN, fail)
        await made.connect(goofish.credentials(COOKIES), "tok", "D")
        await push(script.sockets[0], "/s/sync", TYPING)
        async with asyncio.timeout(2):
            assert (await made.wait_closed()).cause is CloseCause.INTERNAL
        await goofish.close()


async def test_garbage_and_oversized_frames() -> None:
    """A frame that is none is skipped; one over the limit ends the connection with 1009."""
    script, inbox = Script(), Inbox()
    async with ready(script, inbox, max_frame=4096) as made:
        inbox.pushes.clear()
        await script.sockets[0].send("garbage")
        await push(script.sockets[0], "/s/sync", TYPING)
        await until(lambda: inbox.pushes)
        assert made.ready
        await script.sockets[0].send("x" * 5000)
        async with asyncio.timeout(2):
            closed = await made.wait_closed()
        assert (closed.cause, closed.code) == (CloseCause.PEER, 1009)


async def test_a_cancelled_connect_leaves_nothing_open() -> None:
    """Cancelling the caller during registration closes the socket and ends both tasks."""

    async def silent(script: Script, ws: ServerConnection, frame: Frame) -> None:
        return None

    script = Script(answers={"/reg": silent})
    async with platform(script) as url, connection(url) as (made, cookies):
        task = asyncio.create_task(made.connect(cookies, "tok", "D"))
        await until(lambda: script.frames)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await script.sockets[0].wait_closed()


async def test_a_connection_is_used_once() -> None:
    """A second connect on the same object is refused and the first stays."""
    async with ready(Script()) as made:
        with pytest.raises(NotConnectedError):
            await made.connect(Cookies.parse(COOKIES), "tok", "D")
        assert made.ready
