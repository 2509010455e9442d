"""How a service starts as a process of its own: what it loads, and what it says when it can't."""

from __future__ import annotations

import subprocess
import sys

import pytest

from frontdesk.fleet import SERVICES

COMMAND = "import sys; sys.argv[1:] = [{!r}]\nfrom frontdesk.__main__ import main\n"


def started(service: str, environ: dict[str, str], after: str) -> subprocess.CompletedProcess[str]:
    program = f"{COMMAND.format(service)}try:\n    main()\nfinally:\n    {after}\n"
    return subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_service_starts_without_the_command_line(service: str) -> None:
    """Neither the command line nor Alembic is loaded; a missing setting ends with 2 and its name."""
    done = started(service, {}, "print(*sys.modules)")
    assert done.returncode == 2
    assert "FRONTDESK_NATS_URL" in done.stderr
    assert not {"typer", "rich", "alembic", "frontdesk.cli"} & set(done.stdout.split())


def test_the_fleet_knows_services_without_loading_them() -> None:
    """What only prepares or lists services does not pay for their libraries."""
    program = "import frontdesk.fleet, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"fastapi", "grpc", "sqlalchemy", "aiohttp", "nats"} & set(done.stdout.split())
