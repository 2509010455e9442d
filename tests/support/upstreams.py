"""Providers in front of the models simulator."""

from __future__ import annotations

from frontdesk.api.ai.v1 import provider_service_pb2 as pb
from frontdesk.api.ai.v1.provider_service_pb2_grpc import ProviderServiceStub
from frontdesk.kit.rpc.channel import NatsChannel

# The simulator's model that answers with 50 pieces as fast as they are taken, a write each.
FAST_MODEL = "bench-50x1"


async def add_provider(
    channel: NatsChannel,
    organization_id: str,
    url: str,
    upstream_name: str = "sim",
    *,
    name: str = "simulated",
    model: str = "default",
    priority: int = 0,
    kind: pb.ProviderKind.ValueType = pb.PROVIDER_KIND_OPENAI,
    limits: pb.ProviderLimits | None = None,
    embeds: bool = False,
) -> pb.Provider:
    """Store a provider with one priced model; as stored."""
    base = f"{url}/v1" if kind == pb.PROVIDER_KIND_OPENAI else url
    response = await ProviderServiceStub(channel).CreateProvider(
        pb.CreateProviderRequest(
            provider=pb.Provider(
                organization_id=organization_id,
                name=name,
                kind=kind,
                base_url=base,
                api_key="sk-upstream",
                priority=priority,
                limits=limits,
                models=[
                    pb.Model(
                        name=model,
                        upstream_name=upstream_name,
                        prompt_price="2",
                        completion_price="8",
                        currency="CNY",
                        max_tokens=1000,
                        embeds=embeds,
                    )
                ],
            )
        ),
        timeout=10,
    )
    return response.provider
