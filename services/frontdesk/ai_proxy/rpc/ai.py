"""AiService: models, answers to buyers, and what they used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio

from frontdesk.ai_proxy import usage
from frontdesk.ai_proxy.answers.answer import Answers
from frontdesk.ai_proxy.callers import caller_of
from frontdesk.ai_proxy.completions import Completions
from frontdesk.ai_proxy.errors import BrokenOff
from frontdesk.ai_proxy.model import Delta, Outcome, ToolCall
from frontdesk.ai_proxy.protos import (
    outcome_to_proto,
    prompt_from_proto,
    tool_call_to_proto,
    tool_calls_to_proto,
    usage_to_proto,
)
from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceServicer
from frontdesk.kit.access import allowed_organization
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import InvalidArgument

MAX_EMBEDDED = 256

_Context = grpc.aio.ServicerContext[Any, Any]


class AiServicer(AiServiceServicer):
    """Validates, asks, and says what came in the contract's words."""

    def __init__(self, completions: Completions, answers: Answers, database: Database, clock: Clock) -> None:
        self._completions = completions
        self._answers = answers
        self._database = database
        self._clock = clock

    async def Complete(self, request: pb.CompleteRequest, context: _Context) -> pb.CompleteResponse:
        caller = caller_of(request.organization_id, request.account_id, "complete")
        prompt = prompt_from_proto(request.prompt)
        completion = await self._completions.complete(caller, request.model, prompt, context.time_remaining())
        answer = completion.answer
        return pb.CompleteResponse(
            text=answer.text,
            reasoning=answer.reasoning,
            tool_calls=tool_calls_to_proto(answer.tool_calls),
            outcome=outcome_to_proto(completion.outcome),
        )

    async def StreamComplete(
        self, request: pb.StreamCompleteRequest, context: _Context
    ) -> AsyncIterator[pb.StreamCompleteResponse]:
        caller = caller_of(request.organization_id, request.account_id, "stream")
        prompt = prompt_from_proto(request.prompt)
        sequence = 0
        stream = self._completions.stream(caller, request.model, prompt, context.time_remaining())
        async with aclosing(stream) as batches:
            try:
                async for batch in batches:
                    for piece in batch:
                        if isinstance(piece, Delta):
                            delta = pb.Delta(sequence=sequence, text=piece.text, reasoning=piece.reasoning)
                            sequence += 1
                            yield pb.StreamCompleteResponse(delta=delta)
                        elif isinstance(piece, ToolCall):
                            yield pb.StreamCompleteResponse(tool_call=tool_call_to_proto(piece))
                        elif isinstance(piece, Outcome):
                            yield pb.StreamCompleteResponse(done=outcome_to_proto(piece))
            except BrokenOff as broken:
                yield pb.StreamCompleteResponse(error=_broken(broken))

    async def Answer(self, request: pb.AnswerRequest, context: _Context) -> pb.AnswerResponse:
        request.organization_id = allowed_organization(request.organization_id, need="agent")
        return await self._answers.answer(request)

    async def Embed(self, request: pb.EmbedRequest, context: _Context) -> pb.EmbedResponse:
        caller = caller_of(request.organization_id, request.account_id, "embed")
        check_texts(request.texts)
        dimensions = request.dimensions if request.HasField("dimensions") else None
        found, outcome = await self._completions.embed(
            caller, request.model, request.texts, dimensions, context.time_remaining()
        )
        return pb.EmbedResponse(
            embeddings=[pb.Embedding(values=vector) for vector in found.vectors],
            outcome=outcome_to_proto(outcome),
        )

    async def ListModels(self, request: pb.ListModelsRequest, context: _Context) -> pb.ListModelsResponse:
        organization_id = allowed_organization(request.organization_id, need="viewer")
        models = await self._completions.models(organization_id)
        return pb.ListModelsResponse(
            models=[pb.AvailableModel(name=m.name, providers=m.providers, embeds=m.embeds) for m in models]
        )

    async def GetUsage(self, request: pb.GetUsageRequest, context: _Context) -> pb.GetUsageResponse:
        organization_id = allowed_organization(request.organization_id, need="viewer")
        return await usage.get_usage(self._database, organization_id, request, self._clock.now_ms())

    async def ListSpend(self, request: pb.ListSpendRequest, context: _Context) -> pb.ListSpendResponse:
        organization_id = allowed_organization(request.organization_id, need="viewer")
        return await usage.list_spend(self._database, organization_id, request)

    def Transcribe(
        self, request_iterator: AsyncIterator[pb.TranscribeRequest], context: _Context
    ) -> AsyncIterator[pb.TranscribeResponse]:
        """Comes with the voice service."""
        raise NotImplementedError

    def Speak(self, request: pb.SpeakRequest, context: _Context) -> AsyncIterator[pb.SpeakResponse]:
        """Comes with the voice service."""
        raise NotImplementedError


def check_texts(texts: Any, field: str = "texts") -> None:
    """Raise InvalidArgument unless there are 1 to 256 texts, none empty."""
    if not 1 <= len(texts) <= MAX_EMBEDDED:
        raise InvalidArgument(field, f"must be 1 to {MAX_EMBEDDED}")
    for index, text in enumerate(texts):
        if not text:
            raise InvalidArgument(f"{field}[{index}]", "must not be empty")


def _broken(broken: BrokenOff) -> pb.StreamError:
    return pb.StreamError(
        code=broken.code,
        message=broken.message,
        retryable=broken.retryable,
        partial_text=broken.text,
        usage=usage_to_proto(broken.usage),
    )
