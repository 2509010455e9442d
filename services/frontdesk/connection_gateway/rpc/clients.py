"""ClientService: answers of `/chat` that this replica has, for other replicas and for programs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc.aio

from frontdesk.api.clients.v1 import client_service_pb2 as pb
from frontdesk.api.clients.v1.client_service_pb2_grpc import ClientServiceServicer
from frontdesk.connection_gateway.clients.answers import Answers
from frontdesk.connection_gateway.clients.model import CANCELLED
from frontdesk.connection_gateway.clients.reach import to_response
from frontdesk.kit.principal import current_principal

Context = grpc.aio.ServicerContext[Any, Any]


class ClientServicer(ClientServiceServicer):
    """Both methods are for the replica that is named."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def ReadAnswer(
        self, request: pb.ReadAnswerRequest, context: Context
    ) -> AsyncGenerator[pb.ReadAnswerResponse, None]:
        answer = self._answers.find(request.answer_id, current_principal.get())
        async with aclosing(answer.follow(request.since)) as events:
            async for event in events:
                yield to_response(event)

    async def CancelAnswer(
        self, request: pb.CancelAnswerRequest, context: Context
    ) -> pb.CancelAnswerResponse:
        self._answers.stop(self._answers.find(request.answer_id, current_principal.get()), CANCELLED)
        return pb.CancelAnswerResponse()
