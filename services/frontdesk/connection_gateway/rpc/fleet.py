"""FleetService: the fleet for whoever operates the installation."""

from __future__ import annotations

import logging
from typing import Any

import grpc.aio

from frontdesk.api.fleet.v1 import fleet_service_pb2 as pb
from frontdesk.api.fleet.v1.fleet_service_pb2_grpc import FleetServiceServicer
from frontdesk.connection_gateway.fleet.census import Census
from frontdesk.connection_gateway.fleet.report import Reporter
from frontdesk.kit.access import check_operator
from frontdesk.kit.errors import InvalidArgument
from frontdesk.kit.principal import current_principal
from frontdesk.kit.shards.manager import ShardManager

log = logging.getLogger(__name__)

NEED = "admin"
MAX_NAME = 128

Context = grpc.aio.ServicerContext[Any, Any]


class FleetServicer(FleetServiceServicer):
    """Any replica answers, but for GetReplica: that is for the one named. `operator` is an organization."""

    def __init__(self, census: Census, reporter: Reporter, shards: ShardManager, operator: str) -> None:
        self._census = census
        self._reporter = reporter
        self._shards = shards
        self._operator = operator

    async def GetFleet(self, request: pb.GetFleetRequest, context: Context) -> pb.GetFleetResponse:
        check_operator(self._operator, need=NEED)
        return await self._census.take()

    async def GetReplica(self, request: pb.GetReplicaRequest, context: Context) -> pb.GetReplicaResponse:
        check_operator(self._operator, need=NEED)
        return pb.GetReplicaResponse(replica=self._reporter.report())

    async def Cordon(self, request: pb.CordonRequest, context: Context) -> pb.CordonResponse:
        check_operator(self._operator, need=NEED)
        cordoned = await self._shards.cordon(_name(request.replica))
        log.info("%s cordoned %s", _caller(), request.replica)
        return pb.CordonResponse(cordoned=sorted(cordoned))

    async def Uncordon(self, request: pb.UncordonRequest, context: Context) -> pb.UncordonResponse:
        check_operator(self._operator, need=NEED)
        cordoned = await self._shards.uncordon(_name(request.replica))
        log.info("%s uncordoned %s", _caller(), request.replica)
        return pb.UncordonResponse(cordoned=sorted(cordoned))


def _name(replica: str) -> str:
    if not replica or len(replica) > MAX_NAME:
        raise InvalidArgument("replica", f"must be the name of a replica, 1 to {MAX_NAME} characters")
    return replica


def _caller() -> str:
    principal = current_principal.get()
    return principal.subject if principal is not None else "a service of the fleet"
