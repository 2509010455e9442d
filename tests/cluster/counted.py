"""What models were asked beside the log of calls: nothing twice, and no more lost than was under way."""

from __future__ import annotations

import asyncio

from cluster.release import AI, Release
from frontdesk.api.ai.v1 import ai_service_pb2 as ai_pb
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceStub
from support.marketplace import ORGANIZATION

# Calls of one replica at a moment of the load; a replica that is killed takes their records with it.
UNDER_WAY = 20
PATIENCE_S = 30.0


async def ai_counted(release: Release) -> dict[str, object]:
    """Calls that the model got, and calls that were recorded."""
    asked = await release.models.calls()
    recorded = -1
    async with release.doors(services=[AI]) as doors:
        for _ in range(int(PATIENCE_S)):
            before, recorded = recorded, await _recorded(doors)
            if recorded >= asked or recorded == before:
                break
            await asyncio.sleep(1)
    wrong = []
    if not asked - UNDER_WAY <= recorded <= asked:
        wrong.append(f"the model was asked {asked} times, {recorded} calls are recorded")
    return {"step": "ai_counted", "asked": asked, "recorded": recorded, "wrong": wrong}


async def _recorded(doors: object) -> int:
    request = ai_pb.GetUsageRequest(organization_id=ORGANIZATION, group=ai_pb.USAGE_GROUP_PROVIDER)
    response = await AiServiceStub(doors).GetUsage(request, timeout=10)  # type: ignore[arg-type]
    return sum(one.calls for one in response.sums if one.key != "offline")
