"""AiService over both transports: the same servicer, the same answers, the same errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.api.ai.v1 import chat_pb2 as chat
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceStub
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.tokens import Role
from frontdesk.simulators.models.script import Behaviour, Tokens, ToolSaid
from support.ai_proxy import ORGANIZATION, AiBench
from support.upstreams import add_provider


class Doors:
    """One ai-proxy, and its stubs over NATS and gRPC."""

    def __init__(self, bench: AiBench) -> None:
        self.bench = bench
        self.metadata: Any = None
        self.stub = bench.ai


@pytest.fixture(params=["nats", "grpc"])
async def doors(
    request: pytest.FixtureRequest, nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[Doors]:
    async with AsyncExitStack() as stack:
        bench = AiBench(nats_server, f"sqlite:///{tmp_path}/ai.db")
        stack.push_async_callback(bench.stop)
        await bench.start()
        await add_provider(bench.channel, ORGANIZATION, bench.models.url)
        found = Doors(bench)
        if request.param == "grpc":
            address = await bench.open_grpc()
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            found.stub = AiServiceStub(channel)
            found.metadata = (("authorization", f"Bearer {bench.key()}"),)
        yield found


def prompt(text: str = "还在吗") -> chat.Prompt:
    return chat.Prompt(messages=[chat.ModelMessage(role=chat.ROLE_USER, text=text)])


async def test_whole_and_streamed_answers(doors: Doors) -> None:
    """Text, tools, reason, usage and cost; deltas are numbered without gaps."""
    doors.bench.models.script.add(
        Behaviour(
            pieces=("在", "的"),
            tool_calls=(ToolSaid("stock", "{}", "c1"),),
            usage=Tokens(1000, 500, 100),
            between_ms=5,
        )
    )
    asked = pb.CompleteRequest(organization_id=ORGANIZATION, prompt=prompt())
    whole = await doors.stub.Complete(asked, timeout=10, metadata=doors.metadata)
    assert (whole.text, [call.name for call in whole.tool_calls]) == ("在的", ["stock"])
    assert whole.outcome.finish_reason == chat.FINISH_REASON_TOOL_CALLS
    assert (whole.outcome.usage.prompt_tokens, whole.outcome.usage.cached_tokens) == (1000, 100)
    # 900 fresh and 100 kept at 2, 500 at 8, of a million.
    assert (whole.outcome.usage.cost, whole.outcome.usage.currency) == ("0.006", "CNY")
    call = doors.stub.StreamComplete(
        pb.StreamCompleteRequest(organization_id=ORGANIZATION, prompt=prompt()),
        timeout=10,
        metadata=doors.metadata,
    )
    events = [event async for event in call]
    assert [e.delta.sequence for e in events if e.HasField("delta")] == [0, 1]
    assert "".join(e.delta.text for e in events) == "在的"
    assert [e.tool_call.name for e in events if e.HasField("tool_call") and e.tool_call.name] == ["stock"]
    assert events[-1].done.usage == whole.outcome.usage


async def test_models_vectors_and_what_they_used(doors: Doors) -> None:
    """The list names `offline`; vectors come in order; the log has each call."""
    await add_provider(
        doors.bench.channel,
        ORGANIZATION,
        doors.bench.models.url,
        name="vectors",
        model="embedding",
        embeds=True,
    )
    listed = await doors.stub.ListModels(
        pb.ListModelsRequest(organization_id=ORGANIZATION), timeout=10, metadata=doors.metadata
    )
    assert [(m.name, m.embeds) for m in listed.models] == [
        ("default", False),
        ("embedding", True),
        ("offline", False),
    ]
    found = await doors.stub.Embed(
        pb.EmbedRequest(organization_id=ORGANIZATION, model="embedding", texts=["a", "b"]),
        timeout=10,
        metadata=doors.metadata,
    )
    assert len(found.embeddings) == 2
    assert found.embeddings[0] != found.embeddings[1]


async def test_what_is_wrong_is_named(doors: Doors) -> None:
    """A field, an unknown model, and what the voice service will bring: each with its own code."""
    wrong = pb.CompleteRequest(
        organization_id=ORGANIZATION, prompt=chat.Prompt(messages=[chat.ModelMessage(text="no role")])
    )
    assert await refused(doors, wrong) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "prompt.messages[0].role: is needed",
    )
    unknown = pb.CompleteRequest(organization_id=ORGANIZATION, model="nobody-has-this", prompt=prompt())
    assert (await refused(doors, unknown))[0] is grpc.StatusCode.NOT_FOUND
    for call in (
        doors.stub.Speak(pb.SpeakRequest(text="hello"), timeout=10, metadata=doors.metadata),
        doors.stub.Transcribe(iter([pb.TranscribeRequest()]), timeout=10, metadata=doors.metadata),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def refused(doors: Doors, request: pb.CompleteRequest) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await doors.stub.Complete(request, timeout=10, metadata=doors.metadata)
    return caught.value.code(), caught.value.details() or ""


@pytest.mark.parametrize("doors", ["grpc"], indirect=True)
async def test_who_may(doors: Doors) -> None:
    """Without a token nothing, as a viewer only what is read, and never another organization."""
    request = pb.CompleteRequest(organization_id=ORGANIZATION, prompt=prompt())
    doors.metadata = None
    assert (await refused(doors, request))[0] is grpc.StatusCode.UNAUTHENTICATED
    doors.metadata = (("authorization", f"Bearer {doors.bench.key(role=Role.viewer)}"),)
    assert (await refused(doors, request))[0] is grpc.StatusCode.PERMISSION_DENIED
    await doors.stub.GetUsage(pb.GetUsageRequest(), timeout=10, metadata=doors.metadata)
    doors.metadata = (("authorization", f"Bearer {doors.bench.key('other')}"),)
    assert (await refused(doors, request))[0] is grpc.StatusCode.PERMISSION_DENIED
