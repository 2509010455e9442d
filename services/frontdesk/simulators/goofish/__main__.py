"""The simulator alone: `python -m frontdesk.simulators.goofish`, or `frontdesk simulate goofish`."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from frontdesk.kit.lifecycle import run_program
from frontdesk.simulators.goofish.server import GoofishSimulator, SimulatorSettings


async def run(settings: SimulatorSettings) -> int:
    """Serve until SIGTERM or SIGINT; prints one line of JSON with the addresses when it is ready."""
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    simulator = GoofishSimulator(settings)
    await simulator.start()
    sys.stdout.write(json.dumps({"ws_url": simulator.ws_url, "http_url": simulator.http_url}) + "\n")
    sys.stdout.flush()
    await stopping.wait()
    await simulator.stop()
    return 0


def main() -> int:
    """Read the words of the command."""
    parser = argparse.ArgumentParser(description="A marketplace that behaves like Goofish, on loopback.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--ws-port", type=int, default=0)
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--control-token", default="", help="needed on another address than loopback")
    parser.add_argument("--accounts", type=int, default=0, help="accounts to begin with")
    parser.add_argument("--demo", action="store_true", help="three shops, and buyers who ask")
    settings = SimulatorSettings(**vars(parser.parse_args()))
    return run_program(lambda: run(settings))


if __name__ == "__main__":
    raise SystemExit(main())
