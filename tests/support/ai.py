"""An ai-proxy for tests: says what it is told to, when it is told to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

import grpc.aio

from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceServicer, add_AiServiceServicer_to_server
from frontdesk.api.ai.v1.chat_pb2 import Outcome
from frontdesk.api.events.v1.event_pb2 import AiState, Event
from frontdesk.kit import subjects
from frontdesk.kit.bus import Bus, BusSettings
from frontdesk.kit.errors import FrontdeskError
from frontdesk.kit.rpc.server import RpcServer
from frontdesk.kit.telemetry.propagation import trace_id
from support.engine import EngineBench

Says = Callable[[pb.AnswerRequest], pb.AnswerResponse]
OFFLINE = Outcome(provider="offline", model="bm25")


def answer(text: str, **fields: Any) -> pb.AnswerResponse:
    """An answer of `offline`."""
    return pb.AnswerResponse(text=text, intent=pb.INTENT_OTHER, confidence=0.9, outcome=OFFLINE, **fields)


def offer(price: str) -> pb.AnswerResponse:
    """An answer that offers a price."""
    return answer(f"最低{price}元", offered_price=price)


def person(reason: str, text: str = "") -> pb.AnswerResponse:
    """No answer: a person should."""
    return pb.AnswerResponse(
        needs_person=True, reason=reason, reason_text=text, intent=pb.INTENT_OTHER, outcome=OFFLINE
    )


class ScriptedAi(AiServiceServicer):
    """AiService.Answer on a connection of its own.

    `script` is used up first, an answer, an error or a function of the request each; then `says` answers
    whatever comes. While `open` is not set, calls wait; `requests` has them from the moment they arrive.
    """

    def __init__(self, bench: EngineBench) -> None:
        self._url = bench.nats_url
        self.says: Says = lambda request: answer(f"AI：{request.turns[-1].text}")
        self.script: list[pb.AnswerResponse | FrontdeskError | Says] = []
        self.requests: list[pb.AnswerRequest] = []
        self.seconds_left: list[float] = []
        self.trace_ids: list[str] = []
        self.events: list[Event] = []
        self.open = asyncio.Event()
        self.open.set()

    @classmethod
    async def started(cls, bench: EngineBench) -> Self:
        """One that the bench's engines reach."""
        ai = cls(bench)
        await ai._start()
        return ai

    async def _start(self) -> None:
        self.bus = await Bus.connect(BusSettings(self._url))
        self.server = RpcServer(self.bus.nc, "ai-proxy")
        self.server.add(add_AiServiceServicer_to_server, self)
        await self.server.start()

    async def watch(self, bench: EngineBench) -> None:
        """Note the events of AI turns."""

        async def heard(msg: Any) -> None:
            self.events.append(Event.FromString(msg.data))

        await bench.bus.nc.subscribe(subjects.event_filter("ai"), cb=heard)
        await bench.bus.nc.flush()

    async def kill(self) -> None:
        """Go away without a word: calls in work are never answered."""
        await self.bus.nc.close()

    async def stop(self) -> None:
        self.open.set()
        if not self.bus.nc.is_closed:
            await self.server.drain(1)
            await self.bus.close()

    async def Answer(
        self, request: pb.AnswerRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.AnswerResponse:
        self.requests.append(request)
        self.seconds_left.append(context.time_remaining() or 0.0)
        self.trace_ids.append(trace_id())
        said = self.script.pop(0) if self.script else self.says
        await self.open.wait()
        if isinstance(said, FrontdeskError):
            raise said
        return said if isinstance(said, pb.AnswerResponse) else said(request)

    @property
    def states(self) -> list[tuple[str, str]]:
        """The events so far, as (state, reason)."""
        names = {
            AiState.AI_STATE_PROCESSING: "processing",
            AiState.AI_STATE_DONE: "done",
            AiState.AI_STATE_FAILED: "failed",
        }
        return [(names[event.ai.state], event.ai.reason) for event in self.events]
