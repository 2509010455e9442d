"""The fleet as tables and as JSON."""

from __future__ import annotations

import io

from rich.console import Console

from frontdesk.api.events.v1 import event_pb2
from frontdesk.api.fleet.v1 import fleet_service_pb2 as pb
from frontdesk.cli.fleet_view import picture, plain
from frontdesk.cli.pods import Pod, Pods


def rendered(fleet: pb.GetFleetResponse, pods: Pods) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(picture(fleet, pods))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


TROUBLE = pb.GetFleetResponse(
    replicas=[
        pb.Replica(
            replica="gateway-0",
            presence=pb.PRESENCE_LIVE,
            cordoned=True,
            not_ready="NATS [red] is away",
            sessions=[pb.SessionCount(state=event_pb2.SESSION_STATE_FAILED, count=2)],
        ),
        pb.Replica(replica="gateway-1", presence=pb.PRESENCE_SILENT, shards=[pb.HeldShard(shard=7)]),
        pb.Replica(replica="gateway-2", presence=pb.PRESENCE_ABSENT, cordoned=True),
    ],
    shards=8,
    free_shards=[1, 2],
    dead=3,
    answered_by="gateway-0",
    streams=[
        pb.Stream(stream="INBOUND", problem="NATS did not answer"),
        pb.Stream(
            stream="TIMERS",
            messages=9,
            consumers=[pb.ConsumerLag(consumer="a", consumers=1), pb.ConsumerLag(consumer="b", consumers=1)],
        ),
    ],
)


def test_trouble_is_seen() -> None:
    """What is silent, absent, cordoned, not ready, held by nobody, unread or dead stands in the tables."""
    text = rendered(TROUBLE, Pods((Pod("p-0", "nats", "Pending", "0/1", 4, ""),)))
    for words in (
        *("live cordoned", "silent", "absent cordoned", "NATS [red] is away", "2 failed"),
        *("2 held by nobody", "3 in DEAD", "NATS did not answer", "Pending", "0/1"),
    ):
        assert words in text
    assert text.count("TIMERS") == 1
    assert "why not" in rendered(TROUBLE, Pods(note="why not"))


def test_json_has_every_field() -> None:
    """Enums by name without their type, 64-bit integers as numbers, empty fields too."""
    whole = plain(TROUBLE)
    assert set(whole) == {field.name for field in pb.GetFleetResponse.DESCRIPTOR.fields}
    assert [one["presence"] for one in whole["replicas"]] == ["LIVE", "SILENT", "ABSENT"]
    assert whole["replicas"][0]["sessions"] == [{"state": "FAILED", "count": 2}]
    assert whole["replicas"][1]["shards"] == [{"shard": 7, "epoch": 0}]
    assert (whole["dead"], whole["at_ms"], whole["free_shards"]) == (3, 0, [1, 2])
