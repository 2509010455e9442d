"""What the services really tell Prometheus: a fleet of real processes, once something came through a door."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import grpc.aio

from frontdesk.api.ai.v1 import ai_service_pb2 as ai_pb
from frontdesk.api.ai.v1 import chat_pb2 as chat_pb
from frontdesk.api.ai.v1 import provider_service_pb2 as provider_pb
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceStub
from frontdesk.api.ai.v1.provider_service_pb2_grpc import ProviderServiceStub
from support.metrics import Labels, parse
from support.processes import Fleet, free_port

PATIENCE_S = 20.0
# A request that is counted by each service's HTTP door; without a token, so that nothing needs to be there.
DOORS = {
    "connection-gateway": "/cookies/list",
    "reply-engine": "/xianyu/reply",
    "ai-proxy": "/v1/chat/completions",
}
ORGANIZATION = "metrics"
# Nobody listens there.
AWAY = "http://127.0.0.1:9/v1"

Scraped = dict[str, dict[Labels, float]]


def metrics(enough: Callable[[Scraped], bool]) -> Scraped:
    """Values by labels by name, of all services together; when that is `enough`, or after a while."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_scraped(Path(folder), enough))


async def _scraped(folder: Path, enough: Callable[[Scraped], bool]) -> Scraped:
    settings = {
        "OTEL_SDK_DISABLED": "false",
        "FRONTDESK_READINGS_SECONDS": "1",
        "FRONTDESK_AI_PRIVATE_UPSTREAMS": "true",
        "FRONTDESK_AI_FRESH_MILLISECONDS": "0",
    }
    fleet = Fleet(folder, gateways=0, engines=0, models=True, settings=settings)
    await fleet.start()
    found: Scraped = {}
    try:
        for service, path in DOORS.items():
            port = free_port()
            await fleet.add(service, service, FRONTDESK_HTTP_PORT=str(port))
            await fleet.until_ready(service)
            async with fleet.http.post(f"http://127.0.0.1:{port}{path}"):
                pass
        await _ask(fleet, "good", f"{fleet.models_url}/v1")
        await _ask(fleet, "away", AWAY)
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


async def _ask(fleet: Fleet, model: str, url: str) -> None:
    """A streamed answer of a model with a price, or that its provider fails."""
    priced = provider_pb.Model(name=model, prompt_price="2", completion_price="8", currency="CNY")
    provider = provider_pb.Provider(
        organization_id=ORGANIZATION,
        name=model,
        kind=provider_pb.PROVIDER_KIND_OPENAI,
        base_url=url,
        api_key="sk-simulated",
        models=[priced],
    )
    await ProviderServiceStub(fleet.channel).CreateProvider(
        provider_pb.CreateProviderRequest(provider=provider), timeout=10
    )
    question = chat_pb.ModelMessage(role=chat_pb.ROLE_USER, text="Is it still there?")
    request = ai_pb.StreamCompleteRequest(
        organization_id=ORGANIZATION, model=model, prompt=chat_pb.Prompt(messages=[question])
    )
    with suppress(grpc.aio.AioRpcError):
        async for _ in AiServiceStub(fleet.channel).StreamComplete(request, timeout=20):
            pass
