"""The last question before a write: is this answer still wanted? Many questions share a call."""

from __future__ import annotations

from collections.abc import Sequence

import grpc.aio

from frontdesk.api.replies.v1 import reply_service_pb2 as pb
from frontdesk.api.replies.v1.reply_service_pb2_grpc import ReplyServiceStub
from frontdesk.kit.batch import Batcher
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import FrontdeskError, Unavailable
from frontdesk.kit.rpc.status import from_rpc_error

MAX_CLAIMS = 500
TIMEOUT_S = 10.0


class Claims:
    """Asks ReplyService.Claim."""

    def __init__(self, stub: ReplyServiceStub, clock: Clock) -> None:
        self._stub = stub
        self._batcher: Batcher[str, str] = Batcher(self._ask, max_size=MAX_CLAIMS, clock=clock)

    async def ask(self, outgoing_id: str) -> str:
        """Why it is not to be sent, empty when it is; raises Unavailable while nobody can tell."""
        return await self._batcher.submit(outgoing_id)

    async def close(self) -> None:
        """Finish what is asked."""
        await self._batcher.close()

    async def _ask(self, outgoing_ids: list[str]) -> Sequence[str | FrontdeskError]:
        request = pb.ClaimRequest(outgoing_ids=outgoing_ids)
        try:
            response = await self._stub.Claim(request, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            known = from_rpc_error(error)
            # Whatever is wrong over there, the answers that wait here are not to be buried for it.
            raise known if known.retryable else Unavailable(f"Claim: {known.message}") from error
        reasons = {
            verdict.outgoing_id: verdict.reason or "unwanted"
            for verdict in response.verdicts
            if verdict.verdict != pb.VERDICT_SEND
        }
        return [reasons.get(outgoing_id, "") for outgoing_id in outgoing_ids]
