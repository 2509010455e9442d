"""What this replica's own pod says of it in Kubernetes: two annotations, kept current.

`controller.kubernetes.io/pod-deletion-cost` is the number of sessions held, `frontdesk.io/shards` that of
shards. One PATCH with the ServiceAccount's token, over aiohttp, which is loaded anyway; docs/adr/0008 has the
figures of the alternatives. Nobody waits for it and nothing fails with it: what goes wrong is logged and
tried again.

https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-deletion-cost
https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable

import aiohttp
import orjson

from frontdesk.connection_gateway.fleet.address import PodAddress
from frontdesk.kit.backoff import exponential
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import Unavailable

log = logging.getLogger(__name__)

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
SHARDS = "frontdesk.io/shards"
EVERY_S = 10.0
TIMEOUT_S = 5.0
MOST_WAIT_S = 300.0
_SHOWN = 300


class Annotator:
    """Keeps the annotations. `held` gives the sessions and shards that this replica has now."""

    def __init__(self, pod: PodAddress, held: Callable[[], tuple[int, int]], clock: Clock) -> None:
        self._pod = pod
        self._held = held
        self._clock = clock
        self._told: tuple[int, int] | None = None
        self._problem = ""
        self._backoff = exponential(EVERY_S, MOST_WAIT_S, jitter=0.2)

    async def run(self) -> None:
        """Look every ten seconds, and write what is different; for ever."""
        failures = 0
        while True:
            try:
                await self.tell()
                failures = 0
            except Exception as error:  # noqa: BLE001 - an annotation must never take a gateway down
                failures += 1
                self._complain(error)
            await self._clock.sleep(max(EVERY_S, self._backoff.delay(failures)) if failures else EVERY_S)

    async def tell(self) -> bool:
        """Write the annotations if they are other ones than before; whether they were. Raises Unavailable."""
        held = self._held()
        if held == self._told:
            return False
        sessions, shards = held
        await self._patch({DELETION_COST: str(sessions), SHARDS: str(shards)})
        self._told = held
        if self._problem:
            log.info("the pod is annotated again")
            self._problem = ""
        return True

    async def _patch(self, annotations: dict[str, str]) -> None:
        # Both are rotated while the pod runs, so they are read each time.
        token, tls = await asyncio.to_thread(self._credentials)
        headers = {
            "authorization": f"Bearer {token}",
            "content-type": "application/merge-patch+json",
            "accept": "application/json",
            "user-agent": "frontdesk-connection-gateway",
        }
        body = orjson.dumps({"metadata": {"annotations": annotations}})
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.patch(
                    self._pod.url, data=body, headers=headers, ssl=tls, allow_redirects=False
                ) as response,
            ):
                if response.status != 200:
                    said = (await response.content.read(_SHOWN)).decode(errors="replace")
                    raise Unavailable(f"the API server answered {response.status}: {said}")
        except TimeoutError as error:
            raise Unavailable(f"the API server did not answer within {TIMEOUT_S:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"the API server can't be asked: {type(error).__name__}: {error}") from error

    def _credentials(self) -> tuple[str, ssl.SSLContext]:
        folder = self._pod.credentials
        try:
            token = (folder / "token").read_text().strip()
            return token, ssl.create_default_context(cafile=str(folder / "ca.crt"))
        except (OSError, ssl.SSLError) as error:
            raise Unavailable(f"no ServiceAccount in {folder}: {error}") from error

    def _complain(self, error: Exception) -> None:
        """A warning for each new problem; the same one again is only for who looks closely."""
        problem = str(error)
        level = logging.DEBUG if problem == self._problem else logging.WARNING
        log.log(level, "the pod %s is not annotated: %s", self._pod.name, problem)
        self._problem = problem
