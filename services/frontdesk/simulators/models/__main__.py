"""The simulator alone: `python -m frontdesk.simulators.models`, or `frontdesk simulate models`."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

import orjson

from frontdesk.kit.errors import InvalidArgument
from frontdesk.kit.lifecycle import run_program
from frontdesk.simulators.models.script import behaviours_of
from frontdesk.simulators.models.server import ModelsServer


async def run(
    host: str,
    port: int,
    bench_port: int = 0,
    keys: tuple[str, ...] = (),
    control_token: str = "",
    script: Path | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; prints one line of JSON with the addresses when it is ready."""
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    server = ModelsServer(host, port, keys=keys, bench_port=bench_port, control_token=control_token)
    if script is not None:
        server.script.set(*behaviours_of(_read(script)))
    await server.start()
    sys.stdout.write(json.dumps({"url": server.url, "bench_url": server.bench_url}) + "\n")
    sys.stdout.flush()
    await stopping.wait()
    await server.stop()
    return 0


def main() -> int:
    """Read the words of the command."""
    parser = argparse.ArgumentParser(description="Model providers that behave, on loopback.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bench-port", type=int, default=0, help="the fast path of bench.py")
    parser.add_argument("--key", action="append", default=[], help="a right key; without, every key is right")
    parser.add_argument("--control-token", default="", help="needed on another address than loopback")
    parser.add_argument("--script", type=Path, help="behaviours as JSON, as PUT /control/script takes them")
    given = parser.parse_args()
    return run_program(
        lambda: run(
            given.host, given.port, given.bench_port, tuple(given.key), given.control_token, given.script
        )
    )


def _read(script: Path) -> object:
    try:
        return orjson.loads(script.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise InvalidArgument("script", f"cannot be read: {error}") from error


if __name__ == "__main__":
    raise SystemExit(main())
