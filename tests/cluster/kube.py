"""kubectl and helm on the current context, as coroutines."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools"
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class CommandError(Exception):
    """A command failed; its words and what it said."""


def program(name: str) -> str:
    """A tool of the checks (tools/chart), or the one on PATH."""
    own = sorted(TOOLS.glob(f"{name}-[0-9]*"))
    found = str(own[-1]) if own else shutil.which(name)
    if found is None:
        raise CommandError(f"{name} is needed: `make test-cluster` brings it, or put it on PATH")
    return found


async def run(*words: str, stdin: str = "", seconds: float = 120.0) -> str:
    """What a command printed; raises CommandError with what it complained about."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate(stdin.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise CommandError(f"{' '.join(words[:6])} … took longer than {seconds:g} s") from None
    if process.returncode:
        raise CommandError(f"{' '.join(words[:6])} …: {err.decode(errors='replace')[-2000:]}")
    return out.decode()


class Kube:
    """One namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    async def __call__(self, *words: str, stdin: str = "", seconds: float = 120.0) -> str:
        """Run kubectl in the namespace."""
        return await run(program("kubectl"), "-n", self.namespace, *words, stdin=stdin, seconds=seconds)

    async def helm(self, *words: str, seconds: float = 400.0) -> str:
        """Run helm in the namespace."""
        return await run(program("helm"), "-n", self.namespace, *words, seconds=seconds)

    async def get(self, kind: str, selector: str = "", name: str = "") -> list[dict[str, Any]]:
        """Objects of a kind."""
        words = [
            "get",
            kind,
            *([name] if name else []),
            *(["-l", selector] if selector else []),
            "-o",
            "json",
        ]
        found = json.loads(await self(*words))
        return [found] if name else list(found["items"])

    async def secret(self, name: str) -> dict[str, str]:
        """The texts of a Secret."""
        (secret,) = await self.get("secret", name=name)
        return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}

    async def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        await self("apply", "-f", "-", stdin=json.dumps(listed))

    async def lines(self, *words: str) -> AsyncGenerator[str, None]:
        """The lines that kubectl prints, as they come; it is ended with the iteration."""
        process = await asyncio.create_subprocess_exec(
            *(program("kubectl"), "-n", self.namespace, *words), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            async for line in process.stdout:
                yield line.decode().rstrip("\n")
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    @asynccontextmanager
    async def forward(self, target: str, port: int) -> AsyncIterator[int]:
        """A port of this machine that leads to `target` (`service/name`, `pod/name`) in the block."""
        words = (program("kubectl"), "-n", self.namespace, "port-forward", target, f":{port}")
        process = await asyncio.create_subprocess_exec(
            *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(30):
                line = (await process.stdout.readline()).decode()
            found = _FORWARDING.match(line)
            if found is None:
                raise CommandError(f"port-forward to {target} said {line!r}")
            yield int(found[1])
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
