"""What the services really tell Prometheus: a fleet of real processes, once something came through a door."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

from support.metrics import Labels, parse
from support.processes import Fleet, free_port

PATIENCE_S = 20.0
# A request that is counted by each service's HTTP door; without a token, so that nothing needs to be there.
DOORS = {"connection-gateway": "/cookies/list", "reply-engine": "/xianyu/reply"}

Scraped = dict[str, dict[Labels, float]]


def metrics(enough: Callable[[Scraped], bool]) -> Scraped:
    """Values by labels by name, of all services together; when that is `enough`, or after a while."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_scraped(Path(folder), enough))


async def _scraped(folder: Path, enough: Callable[[Scraped], bool]) -> Scraped:
    settings = {"OTEL_SDK_DISABLED": "false", "FRONTDESK_READINGS_SECONDS": "1"}
    fleet = Fleet(folder, gateways=0, engines=0, settings=settings)
    await fleet.start()
    found: Scraped = {}
    try:
        for service, path in DOORS.items():
            port = free_port()
            await fleet.add(service, service, FRONTDESK_HTTP_PORT=str(port))
            await fleet.until_ready(service)
            async with fleet.http.post(f"http://127.0.0.1:{port}{path}"):
                pass
        clock = asyncio.get_running_loop()
        end = clock.time() + PATIENCE_S
        while not enough(found) and clock.time() < end:
            for service in DOORS:
                port = int(fleet.programs[service].environ["FRONTDESK_METRICS_PORT"])
                async with fleet.http.get(f"http://127.0.0.1:{port}/metrics") as response:
                    for name, samples in parse(await response.text()).items():
                        found.setdefault(name, {}).update(samples)
            await asyncio.sleep(0.2)
    finally:
        await fleet.stop()
    return found
