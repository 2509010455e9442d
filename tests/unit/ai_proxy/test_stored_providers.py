"""What of a provider is refused, and by which name of its field."""

from __future__ import annotations

from typing import Any

import pytest

from frontdesk.ai_proxy.stored_providers import body_from_proto
from frontdesk.api.ai.v1 import provider_service_pb2 as pb
from frontdesk.kit.errors import InvalidArgument


def wanted(*models: pb.Model, **fields: Any) -> pb.Provider:
    plain = {"name": "a", "kind": pb.PROVIDER_KIND_OPENAI, "base_url": "http://127.0.0.1:11434/v1"}
    return pb.Provider(**{**plain, "models": models or [pb.Model(name="m")], **fields})


def model(**fields: Any) -> pb.Provider:
    """A provider whose third model is so."""
    return wanted(pb.Model(name="a"), pb.Model(name="b"), pb.Model(**{"name": "m", **fields}))


def priced(**fields: Any) -> pb.Provider:
    return model(**{"currency": "CNY", **fields})


@pytest.mark.parametrize(
    ("field", "provider"),
    [
        ("kind", wanted(kind=0)),
        ("base_url", wanted(base_url="ftp://models.example")),
        ("base_url", wanted(base_url="https://models.example/v1?key=sk-4711")),
        ("models", wanted(models=[])),
        ("models", wanted(*(pb.Model(name=f"m{number}") for number in range(65)))),
        ("models[1].name", wanted(pb.Model(name="m"), pb.Model(name="m", embeds=True))),
        *(
            ("models[2].name", model(name=name))
            for name in ("", "x" * 65, "two words", "价", "a\n", "offline")
        ),
        ("models[2].upstream_name", model(upstream_name="x" * 129)),
        ("models[2].upstream_name", model(upstream_name="a\nb")),
        *(
            ("models[2].prompt_price", priced(prompt_price=price))
            for price in ("-1", "1e3", "NaN", "1,5", ".5", "1.", " 1", "1000000", "0.0000001", "１", "1\n")
        ),
        ("models[2].cached_price", priced(cached_price="x")),
        ("models[2].completion_price", priced(completion_price="-0")),
        ("models[2].currency", model(prompt_price="1")),
        ("models[2].currency", model(cached_price="0")),
        *(("models[2].currency", model(currency=code)) for code in ("cny", "CN", "YUAN", "tokens", "¥¥¥")),
        ("models[2].max_tokens", model(max_tokens=-1)),
        ("priority", wanted(priority=101)),
        ("priority", wanted(priority=-1)),
        ("weight", wanted(weight=1001)),
        ("weight", wanted(weight=-1)),
        *(
            (f"limits.{name}", wanted(limits=pb.ProviderLimits(**{name: value})))
            for name in ("concurrency", "connect_ms", "first_token_ms", "idle_ms", "attempts")
            for value in (-1, 2_000_000_000)
        ),
    ],
)
def test_what_is_refused_names_its_field(field: str, provider: pb.Provider) -> None:
    with pytest.raises(InvalidArgument) as caught:
        body_from_proto(provider, "provider.")
    assert caught.value.field == f"provider.{field}"


def test_the_bounds_themselves_are_allowed() -> None:
    provider = wanted(
        pb.Model(name="x" * 64, prompt_price="0", completion_price="999999.999999", currency="USD"),
        *(pb.Model(name=f"org/m-{number}_v1.0:latest") for number in range(63)),
        priority=100,
        weight=1000,
        limits=pb.ProviderLimits(concurrency=100, attempts=10),
        base_url="https://models.example:8443/openai/v1?api-version=2",
    )
    body = body_from_proto(provider, "")
    assert (body["weight"], body["limits"]["attempts"], len(body["models"])) == (1000, 10, 64)
    assert body_from_proto(wanted(), "")["weight"] == 1
