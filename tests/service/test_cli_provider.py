"""`frontdesk provider …` against a running ai-proxy."""

from __future__ import annotations

import asyncio

from typer.testing import CliRunner

from frontdesk.cli.providers import app
from support.ai_proxy import ORGANIZATION, AiBench
from support.upstreams import add_provider


async def test_a_key_is_replaced_and_removed(ai: AiBench) -> None:
    """What the provider is sent is the new key, typed or given, then none; a key is never printed."""
    provider = await add_provider(ai.channel, ORGANIZATION, ai.models.url)
    environ = {"FRONTDESK_ADDRESS": await ai.open_grpc(), "FRONTDESK_TOKEN": ai.key()}
    calls = ai.models.log.calls

    async def run(*words: str, typed: str = "", code: int = 0) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, app, list(words), input=typed, env=environ)
        assert result.exit_code == code, result.output
        return result.output

    typed, given = f"sk-{'x' * 20}-TYPE", f"sk-{'x' * 20}-GIVE"
    for last, words in (("…TYPE", ()), ("…GIVE", ("--key", given))):
        said = await run("key", provider.provider_id, *words, typed=f"{typed}\n")
        assert "replaced the key" in said
        assert "sk-" not in said
        await run("test", provider.provider_id)
        assert calls[-1].key == last
    assert "✓" in await run("list")
    assert "removed the key" in await run("key", provider.provider_id, "--clear")
    assert "FAILED_PRECONDITION" in await run("test", provider.provider_id, code=1)
    assert calls[-1].key == ""
    assert "✓" not in await run("list")
