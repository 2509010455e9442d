"""`frontdesk doctor`: it ends whatever is away, and says what to do as it is typed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from frontdesk import fleet
from frontdesk.ai_proxy.config import AiProxySettings
from frontdesk.ai_proxy.tables import providers
from frontdesk.cli.doctor import models_of
from frontdesk.kit.config import load
from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.migrations import migrate
from frontdesk.kit.secrets import generate_key
from frontdesk.kit.tokens import generate_key_pair


def test_a_nats_that_is_away_is_a_finding(tmp_path: Path) -> None:
    """It is not waited for longer than a few seconds; what is well is said beside it."""
    environ = {
        "HOME": str(tmp_path),
        "COLUMNS": "300",
        "FRONTDESK_NATS_URL": "nats://127.0.0.1:1",
        "FRONTDESK_DATABASE_URL": f"sqlite:///{tmp_path}/service.db",
        "FRONTDESK_SECRET_KEYS": generate_key(),
        "FRONTDESK_JWT_PUBLIC_KEYS": generate_key_pair()[1],
        "FRONTDESK_GOOFISH_WS_URL": "ws://127.0.0.1:1",
        "FRONTDESK_GOOFISH_API_URL": "http://127.0.0.1:1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "frontdesk", "doctor"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "reply-engine settings: complete" in done.stdout
    assert done.stdout.count("NATS can't be reached") == 3
    assert "is it running, and are user and password right?" in done.stdout


async def test_providers_are_looked_at(tmp_path: Path) -> None:
    """Without one it says who answers; one that can't be reached is a finding, one that is off is none."""
    settings = load(
        AiProxySettings,
        {
            "FRONTDESK_NATS_URL": "nats://127.0.0.1:1",
            "FRONTDESK_DATABASE_URL": f"sqlite:///{tmp_path}/ai.db",
            "FRONTDESK_SECRET_KEYS": generate_key(),
            "FRONTDESK_JWT_PUBLIC_KEYS": generate_key_pair()[1],
        },
    )
    assert not await models_of(settings)  # no tables yet: the check of the database says so
    database = Database(DatabaseOptions(settings.database_url.get_secret_value(), "ai_proxy"))
    await migrate(database, fleet.SERVICES["ai-proxy"].versions)
    (nobody,) = await models_of(settings)
    assert nobody.well
    assert "`offline`" in nobody.seen
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    urls = {"near": (f"http://127.0.0.1:{port}/v1", False), "far": ("http://127.0.0.1:1", False)}
    async with database.write() as connection:
        for name, (url, disabled) in {**urls, "off": ("http://127.0.0.1:2", True)}.items():
            body = {"base_url": url, "disabled": disabled}
            await connection.execute(
                providers.insert().values(
                    provider_id=name, organization_id="org", name=name, body=body, updated_at_ms=1
                )
            )
    found = {finding.what.rpartition(" ")[2]: finding.well for finding in await models_of(settings)}
    assert found == {f"http://127.0.0.1:{port}/v1": True, "http://127.0.0.1:1": False}
    server.close()
    await database.close()
