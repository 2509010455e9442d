"""Speaks an answer over a connection at its pace, and breaks it where its fault says."""

from __future__ import annotations

import asyncio
import socket
import struct

from aiohttp import web

from frontdesk.kit.clock import Clock
from frontdesk.simulators.models.asked import Body, Refused
from frontdesk.simulators.models.doors.base import Door, Voice, dump
from frontdesk.simulators.models.events import GARBAGE, Event, render_all
from frontdesk.simulators.models.log import Call
from frontdesk.simulators.models.script import BEFORE_HEAD, Behaviour, Fault

PAGE = (
    "<html>\r\n<head><title>{status} {reason}</title></head>\r\n<body>\r\n<center><h1>{status} {reason}</h1>"
    "</center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


class Stage:
    """One call's way out. Raises CancelledError when the client leaves."""

    def __init__(
        self,
        request: web.Request,
        call: Call,
        door: Door,
        behaviour: Behaviour,
        clock: Clock,
        stopping: asyncio.Event,
    ) -> None:
        self._request = request
        self.call = call
        self._door = door
        self._does = behaviour
        self._clock = clock
        self._stopping = stopping
        self._response = web.StreamResponse()

    async def stream(self, voice: Voice) -> web.StreamResponse:
        """The answer in events."""
        early = await self._before_head()
        if early is not None:
            return early
        does, parts = self._does, voice.parts()
        self._response = self._head(200, self._door.sse_type)
        self._response.enable_chunked_encoding()
        await self._response.prepare(self._request)
        pending, waiting = voice.opening(), 0
        if does.batch == 1 or does.first_ms:
            await self._write(pending, 0)
            pending = []
        await self._wait(does.first_ms)
        for number, part in enumerate(parts):
            if self._breaks_at(number, len(parts)):
                await self._write(pending, waiting)
                pending, waiting = [], 0
                if await self._break(voice):
                    return self._response
            if number and not pending:
                await self._wait(does.between_ms)
            pending += voice.piece(part)
            waiting += 1
            if does.batch and waiting >= does.batch:
                await self._write(pending, waiting)
                pending, waiting = [], 0
        if self._breaks_at(len(parts), len(parts)):
            await self._write(pending, waiting)
            pending, waiting = [], 0
            if await self._break(voice):
                return self._response
        pending += voice.ending()
        for group in [pending] if does.batch != 1 else [[event] for event in pending]:
            await self._write(group, waiting)
            waiting = 0
        await self._response.write_eof()
        self.call.whole = True
        return self._response

    async def whole(self, body: Body, pieces: int) -> web.StreamResponse:
        """The answer at once."""
        early = await self._before_head()
        if early is not None:
            return early
        await self._wait(self._does.first_ms)
        data, fault = dump(body), self._does.fault
        kind = fault.kind if fault is not None else ""
        if fault is not None and kind == "garbage":
            data = GARBAGE
        elif fault is not None and kind == "error":
            data = dump(self._door.failure(self._refused(fault), self.call.number))
        elif fault is not None and kind == "error_chunk":
            data = dump(_chunk(self._refused(fault)))
        elif fault is not None and kind == "huge":
            data = dump(body | {"padding": "x" * fault.size})
        elif fault is not None and kind == "cut":
            data = data[: len(data) // 2]
        self._response = self._head(200, self._door.json_type)
        self._response.content_length = len(data)
        await self._response.prepare(self._request)
        if fault is not None and kind in ("reset", "close", "stall"):
            await self._response.write(data[: len(data) // 2])
            await self._leave(fault)
            return self._response
        await self._response.write(data)
        await self._response.write_eof()
        self.call.pieces, self.call.whole = pieces, True
        return self._response

    def refuse(self, refused: Refused, headers: dict[str, str] | None = None) -> web.Response:
        """An error of the vendor."""
        self.call.whole = True
        events = self._door.failure_events(refused, self.call.number) if self.call.stream else []
        body = render_all(events) or dump(self._door.failure(refused, self.call.number))
        response = web.Response(body=body, status=refused.status, headers=headers)
        response.headers["Content-Type"] = self._door.sse_type if events else self._door.json_type
        response.headers[self._door.request_id] = self._name()
        self.call.status = refused.status
        return response

    async def _before_head(self) -> web.StreamResponse | None:
        await self._wait(self._does.head_ms)
        fault = self._does.fault
        if fault is None:
            return None
        self.call.fault = fault.kind
        if fault.kind == "status":
            return self.refuse(self._refused(fault), dict(fault.headers))
        if fault.kind == "html":
            self.call.status, self.call.whole = fault.status or 404, True
            page = PAGE.format(
                status=self.call.status, reason="Not Found" if fault.status in (0, 404) else "Error"
            )
            return web.Response(
                text=page, status=self.call.status, content_type="text/html", headers=dict(fault.headers)
            )
        if fault.after == BEFORE_HEAD and fault.kind in ("reset", "close", "cut", "stall"):
            await self._leave(fault)
            return self._response
        return None

    def _breaks_at(self, number: int, parts: int) -> bool:
        fault = self._does.fault
        return fault is not None and number == min(max(fault.after, 0), parts)

    async def _break(self, voice: Voice) -> bool:
        """What the fault does in a stream; True when nothing follows."""
        fault = self._does.fault
        assert fault is not None
        if fault.kind == "garbage":
            await self._bytes(b"data: " + GARBAGE + b"\n\n")
            return False
        if fault.kind == "huge":
            await self._bytes(b'data: {"padding":"' + b"x" * fault.size + b'"}\n\n')
            return False
        if fault.kind == "error":
            await self._write(voice.error(self._refused(fault)), 0)
        if fault.kind == "error_chunk":
            await self._write([Event(dump(_chunk(self._refused(fault))))], 0)
        if fault.kind in ("error", "error_chunk", "cut"):
            await self._response.write_eof()
            self.call.whole = True
        else:
            await self._leave(fault)
        return True

    async def _leave(self, fault: Fault) -> None:
        """Stay silent until the client goes or the simulator stops, or leave without a proper end."""
        if fault.kind == "stall":
            await self._stopping.wait()
        else:
            self.call.whole = True
        transport = self._request.transport
        if transport is None:
            return
        if fault.kind == "reset":
            sock = transport.get_extra_info("socket")
            # Closing with a linger of no time sends RST instead of FIN.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()

    def _refused(self, fault: Fault) -> Refused:
        return self._door.fault(fault.status or 500, fault, self.call.model)

    def _head(self, status: int, kind: str) -> web.StreamResponse:
        self.call.status = status
        headers = {"Content-Type": kind, self._door.request_id: self._name()}
        if "event-stream" in kind:
            headers["Cache-Control"] = "no-cache"
        return web.StreamResponse(status=status, headers=headers)

    def _name(self) -> str:
        return f"req_{self.call.number:024d}"

    async def _wait(self, milliseconds: int) -> None:
        if milliseconds:
            await self._clock.sleep(milliseconds / 1000)

    async def _write(self, events: list[Event], pieces: int) -> None:
        if events:
            await self._bytes(render_all(events, self._does.framing))
        self.call.pieces += pieces

    async def _bytes(self, data: bytes) -> None:
        if "bytes" not in self._does.framing:
            await self._response.write(data)
            return
        for at in range(len(data)):
            await self._response.write(data[at : at + 1])
            await asyncio.sleep(0)


def _chunk(refused: Refused) -> Body:
    """An error in the middle of a stream as several providers and proxies write it."""
    return {"error": {"message": refused.message, "code": refused.code or str(refused.status)}}
