"""What this replica says of itself: its shards and their sessions, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from frontdesk.api.fleet.v1 import fleet_service_pb2 as pb
from frontdesk.connection_gateway.accounts.supervisor import Supervisor
from frontdesk.connection_gateway.model import STATE_NUMBERS, State
from frontdesk.kit.shards.manager import ShardManager


class Reporter:
    """Reads what is in memory; `not_ready` is the readiness check of the replica."""

    def __init__(
        self, replica: str, shards: ShardManager, supervisor: Supervisor, not_ready: Callable[[], str | None]
    ) -> None:
        self.replica = replica
        self._shards = shards
        self._supervisor = supervisor
        self._not_ready = not_ready

    def states(self) -> Counter[State]:
        """How many accounts of this replica are in each state."""
        return Counter(session.account.state for session in self._supervisor.sessions())

    def report(self) -> pb.Replica:
        """This replica."""
        shards, members = self._shards, self._shards.members()
        states = self.states()
        return pb.Replica(
            replica=self.replica,
            presence=pb.PRESENCE_LIVE,
            cordoned=shards.cordoned,
            since_ms=next((member.since_ms for member in members if member.id == self.replica), 0),
            not_ready=self._not_ready() or "",
            shards=[pb.HeldShard(shard=n, epoch=shards.epoch(n) or 0) for n in sorted(shards.owned)],
            accounts=states.total(),
            sessions=[
                pb.SessionCount(state=number, count=states[state])
                for state, number in STATE_NUMBERS.items()
                if states[state]
            ],
        )

    def held(self) -> tuple[int, int]:
        """How many sessions are open or being opened here, and how many shards."""
        running = sum(session.running for session in self._supervisor.sessions())
        return running, len(self._shards.owned)
