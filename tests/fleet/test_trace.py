"""The whole as real processes: one trace goes from the push on the socket to the answer on the socket."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.otlp import OtlpReceiver, ReceivedSpan
from support.processes import Fleet


@pytest.fixture
async def otlp() -> AsyncIterator[OtlpReceiver]:
    receiver = OtlpReceiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture
async def fleet(tmp_path: Path, otlp: OtlpReceiver) -> AsyncIterator[Fleet]:
    fleet = Fleet(
        tmp_path,
        settings={
            "OTEL_SDK_DISABLED": "false",
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        },
    )
    await fleet.start()
    yield fleet
    await fleet.stop()


HOPS = (
    ("connection-gateway", "gateway take in"),
    ("reply-engine", "reply-engine take in"),
    ("reply-engine", "reply-engine decide"),
    ("connection-gateway", "gateway send"),
    ("connection-gateway", "gateway write"),
)


async def test_one_trace_from_push_to_answer(fleet: Fleet, otlp: OtlpReceiver) -> None:
    """Every hop's span arrives at a real OTLP receiver, in one trace, each the child of the hop before."""
    await fleet.add_accounts(1)
    await fleet.add_rule("available", "yes: {send_message}")
    load = await fleet.load(messages=1, text="is #{n} available")
    verdict = await fleet.until_answered(load, 20)
    assert verdict["answered"] == 1

    def spans() -> list[ReceivedSpan]:
        sent = {s.trace_id for s in otlp.spans if s.name == "gateway send"}
        return [s for s in otlp.spans if s.trace_id in sent]

    await otlp.until(lambda: {(s.service, s.name) for s in spans()} >= set(HOPS), timeout_s=20)
    found = {(s.service, s.name): s for s in spans()}
    assert len({s.trace_id for s in found.values()}) == 1
    way = [found[hop] for hop in HOPS]
    assert not way[0].parent
    for before, after in itertools.pairwise(way):
        assert after.parent == before.span_id, f"{after.name} does not follow {before.name}"
