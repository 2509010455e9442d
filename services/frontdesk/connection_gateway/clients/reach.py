"""Answers wherever they are: an answer's id names the replica that has it, which is asked over NATS."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing

import grpc.aio

from frontdesk.api.ai.v1 import ai_service_pb2 as ai_pb
from frontdesk.api.clients.v1 import client_service_pb2 as pb
from frontdesk.api.clients.v1.client_service_pb2_grpc import ClientServiceStub
from frontdesk.connection_gateway.clients.answers import Answers
from frontdesk.connection_gateway.clients.model import Done, Event, Failed, Piece
from frontdesk.kit.errors import FrontdeskError, NotFound, Unavailable
from frontdesk.kit.principal import Principal
from frontdesk.kit.rpc.status import from_rpc_error

STOP_S = 5.0
MOST_REPLICA = 128


class Reach:
    """Follows and stops answers of any replica. `alive` are the replicas that are there now; calls go out as
    `current_principal`."""

    def __init__(
        self, answers: Answers, peers: ClientServiceStub, replica: str, alive: Callable[[], Collection[str]]
    ) -> None:
        self._answers = answers
        self._peers = peers
        self._replica = replica
        self._alive = alive

    async def follow(self, answer_id: str, since: int, principal: Principal) -> AsyncGenerator[Event, None]:
        """As `Answer.follow`; raises NotFound for an answer that is not kept, or not the principal's, and
        Unavailable when its replica can't be asked now."""
        replica = _replica_of(answer_id)
        if replica == self._replica:
            async with aclosing(self._answers.find(answer_id, principal).follow(since)) as events:
                async for event in events:
                    yield event
            return
        request = pb.ReadAnswerRequest(replica=replica, answer_id=answer_id, since=since)
        call = self._peers.ReadAnswer(request, wait_for_ready=False)
        try:
            async for response in call:
                yield _event(response)
        except grpc.aio.AioRpcError as error:
            raise self._explained(error, replica) from error
        finally:
            call.cancel()

    async def stop(self, answer_id: str, why: Failed, principal: Principal) -> None:
        """End an answer; raises as `follow` does. Elsewhere it ends as cancelled, whatever `why` says."""
        replica = _replica_of(answer_id)
        if replica == self._replica:
            self._answers.stop(self._answers.find(answer_id, principal), why)
            return
        request = pb.CancelAnswerRequest(replica=replica, answer_id=answer_id)
        try:
            await self._peers.CancelAnswer(request, timeout=STOP_S, wait_for_ready=False)
        except grpc.aio.AioRpcError as error:
            raise self._explained(error, replica) from error

    def _explained(self, error: grpc.aio.AioRpcError, replica: str) -> FrontdeskError:
        """A replica that is gone took its answers along."""
        found = from_rpc_error(error)
        if isinstance(found, Unavailable) and replica not in self._alive():
            return NotFound("There is no such answer, or it is not kept any more.")
        return found


def _replica_of(answer_id: str) -> str:
    _, _, replica = answer_id.partition("@")
    if not 0 < len(replica) <= MOST_REPLICA:
        raise NotFound("There is no such answer, or it is not kept any more.")
    return replica


def to_response(event: Event) -> pb.ReadAnswerResponse:
    """An event as it travels between replicas."""
    if isinstance(event, Piece):
        delta = ai_pb.Delta(sequence=event.seq, text=event.text, reasoning=event.reasoning)
        return pb.ReadAnswerResponse(delta=delta)
    if isinstance(event, Done):
        return pb.ReadAnswerResponse(done=event.outcome, text_length=event.length)
    error = ai_pb.StreamError(
        code=event.code, message=event.message, retryable=event.retryable, partial_text=event.partial
    )
    return pb.ReadAnswerResponse(error=error)


def _event(response: pb.ReadAnswerResponse) -> Event:
    kind = response.WhichOneof("event")
    if kind == "delta":
        return Piece(response.delta.sequence, response.delta.text, response.delta.reasoning)
    if kind == "done":
        return Done(response.done, response.text_length)
    error = response.error
    return Failed(error.code, error.message, error.retryable, error.partial_text, error.code != "INTERNAL")
