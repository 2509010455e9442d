"""`frontdesk provider …`"""

from __future__ import annotations

from typing import Annotated

import grpc.aio
import typer
from rich.table import Table

from frontdesk.api.ai.v1 import provider_service_pb2 as pb
from frontdesk.api.ai.v1.provider_service_pb2_grpc import ProviderServiceStub
from frontdesk.cli.client import DATA, Address, Data, Target, Token, call, console

app = typer.Typer(no_args_is_help=True, help="Providers of models.")

KINDS = {
    "openai": pb.PROVIDER_KIND_OPENAI,
    "dashscope": pb.PROVIDER_KIND_DASHSCOPE,
    "anthropic": pb.PROVIDER_KIND_ANTHROPIC,
    "gemini": pb.PROVIDER_KIND_GEMINI,
}
TEST_S = 60


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="A name for people.")],
    base_url: Annotated[str, typer.Argument(help="Where its API begins, e.g. https://api.deepseek.com/v1.")],
    model: Annotated[
        list[str],
        typer.Option("--model", help="<name>=<the provider's name>; `default` answers buyers. May repeat."),
    ],
    kind: Annotated[str, typer.Option("--kind", help="openai, dashscope, anthropic or gemini.")] = "openai",
    key: Annotated[
        str, typer.Option("--key", envvar="FRONTDESK_PROVIDER_KEY", help="Its key; asked for when not given.")
    ] = "",
    embedding: Annotated[
        list[str] | None, typer.Option("--embedding", help="As --model, for vectors. May repeat.")
    ] = None,
    prompt_price: Annotated[
        str, typer.Option("--prompt-price", help="Price of a million tokens of questions.")
    ] = "",
    completion_price: Annotated[
        str, typer.Option("--completion-price", help="Price of a million tokens of answers.")
    ] = "",
    currency: Annotated[str, typer.Option("--currency", help="Of the prices, e.g. CNY.")] = "",
    priority: Annotated[int, typer.Option("--priority", help="Lower is asked first.")] = 0,
    weight: Annotated[int, typer.Option("--weight", help="Share among those of the same priority.")] = 1,
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Add a provider; its models answer within a second."""
    if kind not in KINDS:
        raise typer.BadParameter(f"must be {', '.join(KINDS)}", param_hint="--kind")
    secret = key or typer.prompt("Key (empty for none)", default="", hide_input=True, show_default=False)
    prices = pb.Model(prompt_price=prompt_price, completion_price=completion_price, currency=currency)
    provider = pb.Provider(
        name=name,
        kind=KINDS[kind],
        base_url=base_url,
        api_key=secret,
        priority=priority,
        weight=weight,
        models=[
            *(_model(entry, prices) for entry in model),
            *(_model(entry, prices, embeds=True) for entry in embedding or []),
        ],
    )

    async def work(channel: grpc.aio.Channel) -> pb.TestProviderResponse:
        stub = ProviderServiceStub(channel)
        response = await stub.CreateProvider(pb.CreateProviderRequest(provider=provider), timeout=10)
        console.print(f"added {response.provider.provider_id}; asking it something …")
        tested: pb.TestProviderResponse = await stub.TestProvider(
            pb.TestProviderRequest(provider_id=response.provider.provider_id), timeout=TEST_S
        )
        return tested

    _tell(call(Target(data, address, token), work))


@app.command("test")
def test(
    provider_id: str,
    model: Annotated[str, typer.Option("--model", help="By the name that callers ask for.")] = "",
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Ask a provider a short question and say what came."""

    async def work(channel: grpc.aio.Channel) -> pb.TestProviderResponse:
        request = pb.TestProviderRequest(provider_id=provider_id, model=model)
        response: pb.TestProviderResponse = await ProviderServiceStub(channel).TestProvider(
            request, timeout=TEST_S
        )
        return response

    _tell(call(Target(data, address, token), work))


@app.command("list")
def list_providers(data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """List providers, first choice first, and how they do."""

    async def work(channel: grpc.aio.Channel) -> pb.ListProvidersResponse:
        response: pb.ListProvidersResponse = await ProviderServiceStub(channel).ListProviders(
            pb.ListProvidersRequest(), timeout=10
        )
        return response

    found = call(Target(data, address, token), work)
    if not found.providers:
        console.print(
            "No provider: `offline` answers from what you wrote. `frontdesk provider add` adds one."
        )
        return
    states = {state.provider_id: state for state in found.states}
    table = Table("provider", "name", "kind", "models", "priority", "weight", "key", "state")
    for provider in found.providers:
        state = states.get(provider.provider_id)
        doing = "off" if provider.disabled else state.breaker if state else ""
        table.add_row(
            provider.provider_id,
            provider.name,
            pb.ProviderKind.Name(provider.kind).removeprefix("PROVIDER_KIND_").lower(),
            ", ".join(_shown(model) for model in provider.models),
            str(provider.priority),
            str(provider.weight),
            "✓" if provider.has_api_key else "",
            doing,
        )
    console.print(table)


@app.command("key")
def key(
    provider_id: str,
    value: Annotated[
        str,
        typer.Option("--key", envvar="FRONTDESK_PROVIDER_KEY", help="The new key; asked for when not given."),
    ] = "",
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove the key there is; it has none then.")
    ] = False,
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Give a provider another key, or none; it counts from the next call on."""
    secret = "" if clear else value or typer.prompt("New key", hide_input=True)

    async def work(channel: grpc.aio.Channel) -> None:
        stub = ProviderServiceStub(channel)
        found = await stub.GetProvider(pb.GetProviderRequest(provider_id=provider_id), timeout=10)
        provider = found.provider
        provider.api_key = secret
        request = pb.UpdateProviderRequest(provider=provider, clear_api_key=clear)
        await stub.UpdateProvider(request, timeout=10)

    call(Target(data, address, token), work)
    console.print("removed the key" if clear else "replaced the key")


@app.command("delete")
def delete(provider_id: str, data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """Remove a provider and its key."""

    async def work(channel: grpc.aio.Channel) -> None:
        request = pb.DeleteProviderRequest(provider_id=provider_id)
        await ProviderServiceStub(channel).DeleteProvider(request, timeout=10)

    call(Target(data, address, token), work)
    console.print("removed")


def _model(entry: str, prices: pb.Model, *, embeds: bool = False) -> pb.Model:
    """`<name>=<the provider's name>`, or one name for both."""
    name, _, upstream_name = entry.partition("=")
    model = pb.Model(name=name, upstream_name=upstream_name, embeds=embeds)
    model.MergeFrom(prices)
    if embeds:
        model.completion_price = ""
    return model


def _shown(model: pb.Model) -> str:
    other = model.upstream_name and model.upstream_name != model.name
    return f"{model.name}={model.upstream_name}" if other else model.name


def _tell(tested: pb.TestProviderResponse) -> None:
    if not tested.ok:
        console.print(f"[red]{tested.code}[/]: {tested.problem}", highlight=False)
        raise typer.Exit(1)
    console.print(f"it answered in {tested.duration_ms} ms")
