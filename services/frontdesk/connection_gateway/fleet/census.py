"""The whole fleet: every replica asked what it holds, every stream what waits in it, all at once and bounded.

What does not answer stands there as silent: a picture with a gap that shows is better than one without it.
"""

from __future__ import annotations

import asyncio
import logging

import grpc.aio

from frontdesk.api.fleet.v1 import fleet_service_pb2 as pb
from frontdesk.api.fleet.v1.fleet_service_pb2_grpc import FleetServiceStub
from frontdesk.connection_gateway.fleet.report import Reporter
from frontdesk.kit import subjects
from frontdesk.kit.bus import Bus
from frontdesk.kit.bus.lag import StreamLag, read_lag
from frontdesk.kit.clock import Clock
from frontdesk.kit.shards.manager import ShardManager
from frontdesk.kit.shards.model import Member

log = logging.getLogger(__name__)

ANSWER_S = 2.0


class Census:
    """Takes the picture. `peers` calls the other replicas; `count` is the installation's number of shards."""

    def __init__(
        self,
        reporter: Reporter,
        *,
        shards: ShardManager,
        peers: FleetServiceStub,
        bus: Bus,
        count: int,
        clock: Clock,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._reporter = reporter
        self._shards = shards
        self._peers = peers
        self._bus = bus
        self._count = count
        self._clock = clock
        self._answer_s = answer_s

    async def take(self) -> pb.GetFleetResponse:
        """The fleet now."""
        replicas, streams = await asyncio.gather(self._replicas(), read_lag(self._bus.js, self._answer_s))
        held = self._shards.holders()
        return pb.GetFleetResponse(
            replicas=replicas,
            shards=self._count,
            free_shards=[shard for shard in range(self._count) if shard not in held],
            streams=[_stream(stream) for stream in streams],
            dead=next((stream.messages for stream in streams if stream.name == subjects.DEAD), 0),
            answered_by=self._reporter.replica,
            at_ms=self._clock.now_ms(),
        )

    async def _replicas(self) -> list[pb.Replica]:
        me, cordons = self._reporter.replica, self._shards.cordons()
        others = [member for member in self._shards.members() if member.id != me]
        found = [self._reporter.report(), *await asyncio.gather(*map(self._ask, others))]
        away = cordons - {me, *(member.id for member in others)}
        found += [pb.Replica(replica=name, presence=pb.PRESENCE_ABSENT) for name in away]
        for replica in found:
            replica.cordoned = replica.replica in cordons  # one list for all of the picture
        return sorted(found, key=lambda replica: replica.replica)

    async def _ask(self, member: Member) -> pb.Replica:
        request = pb.GetReplicaRequest(replica=member.id)
        try:
            answer: pb.GetReplicaResponse = await self._peers.GetReplica(
                request, timeout=self._answer_s, wait_for_ready=False
            )
        except grpc.aio.AioRpcError as error:
            log.info("replica %s says nothing of itself: %s %s", member.id, error.code(), error.details())
        else:
            return answer.replica
        leases = sorted(shard for shard, holder in self._shards.holders().items() if holder == member.id)
        return pb.Replica(
            replica=member.id,
            presence=pb.PRESENCE_SILENT,
            since_ms=member.since_ms,
            shards=[pb.HeldShard(shard=shard) for shard in leases],
        )


def _stream(lag: StreamLag) -> pb.Stream:
    return pb.Stream(
        stream=lag.name,
        messages=lag.messages,
        bytes=lag.bytes,
        problem=lag.problem,
        consumers=[
            pb.ConsumerLag(
                consumer=one.name,
                consumers=one.consumers,
                pending=one.pending,
                ack_pending=one.ack_pending,
                redelivered=one.redelivered,
            )
            for one in lag.consumers
        ],
    )
