"""uvicorn as a component of a service's lifecycle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Coroutine, Generator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from frontdesk.kit.errors import Unavailable
from frontdesk.kit.lifecycle import Spawn
from frontdesk.kit.requests import HttpProtocol
from frontdesk.kit.sockets import SocketProtocol

logger = logging.getLogger(__name__)


class HttpServer:
    """Serves `app` as a lifecycle component: no signal handlers, port 0 takes a free port, `port` tells it.

    `spawn` runs the server's task: give `Service.spawn`, so that a crash of the server ends the service.
    """

    def __init__(
        self,
        name: str,
        app: ASGIApp,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ws_max_bytes: int = 1024 * 1024,
        ws_compression: bool = True,
        max_connections: int = 10_000,
        spawn: Spawn | None = None,
    ) -> None:
        self.name = name
        self._host = host
        self._port = port
        self._spawn = spawn or _spawn
        self._server = _Server(
            uvicorn.Config(
                app,
                lifespan="on",
                loop="none",
                http=HttpProtocol,
                ws=SocketProtocol,
                ws_max_size=ws_max_bytes,
                ws_per_message_deflate=ws_compression,
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=max_connections,
            )
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port served; with 0 asked for it is known after `start`."""
        return self._port

    async def start(self) -> None:
        """Listen and return when requests are accepted; raises Unavailable when the address is taken."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self._port))
        except OSError as error:
            listener.close()
            raise Unavailable(
                f"{self.name} can't listen on {self._host}:{self._port}: {error.strerror}"
            ) from None
        self._port = listener.getsockname()[1]
        self._task = self._spawn(self.name, self._serve(listener))
        ready = asyncio.ensure_future(self._server.ready.wait())
        try:
            await asyncio.wait((self._task, ready), return_when=asyncio.FIRST_COMPLETED)
            if not self._server.ready.is_set():
                cause = None if self._task.cancelled() else self._task.exception()
                raise Unavailable(f"{self.name} could not start") from cause
        except BaseException:
            self._task.cancel()
            listener.close()
            raise
        finally:
            ready.cancel()
        logger.info("%s listens on %s:%d", self.name, self._host, self._port)

    async def stop(self, deadline_s: float) -> None:
        """Take no new connection, let requests finish, and cut what is left shortly before the deadline."""
        if self._task is None or self._task.done():
            return
        # What is cut needs a moment to end, and the lifespan of the application its own.
        self._server.config.timeout_graceful_shutdown = max(deadline_s - 0.5, 0.0)  # type: ignore[assignment]
        self._server.should_exit = True
        await asyncio.wait((self._task,), timeout=deadline_s)

    async def _serve(self, listener: socket.socket) -> None:
        try:
            await self._server.serve(sockets=[listener])
        except SystemExit:  # uvicorn's way to say that the application's lifespan failed
            raise Unavailable(f"the application of {self.name} did not start") from None


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, telling when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _spawn(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(work, name=name)
