"""`frontdesk provision`: all that must exist before a service of the fleet starts, made by one command.

It runs before the first pods and, at an upgrade, before the new ones; again changes nothing. In this order:
PostgreSQL's roles and schemas (with an administrator's URL only), NATS's streams, buckets and consumers, and
the migrations of every schema. What is not there yet is waited for, up to a deadline. Services then work with
fewer rights than this: they neither make streams nor see each other's schemas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from pydantic import Field, SecretStr, create_model
from sqlalchemy import make_url

from frontdesk import fleet
from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.config import ConfigError, NatsSettings, load
from frontdesk.kit.errors import FrontdeskError
from frontdesk.kit.patience import Patience

ADMIN_KEY = "FRONTDESK_ADMIN_DATABASE_URL"
TELL_EVERY_S = 10.0
CONNECT_S = 5.0

Say = Callable[[str], None]


class _Common(NatsSettings):
    """Settings that do not depend on which services there are."""

    service: ClassVar[str] = "`frontdesk provision`"
    command: ClassVar[bool] = True

    nats_stream_megabytes: int = Field(
        default=1024,
        ge=16,
        description="Largest size of a stream, MiB; NATS sets it aside for each of six.",
    )
    admin_database_url: SecretStr | None = Field(
        default=None,
        description=(
            "PostgreSQL as a user who may make roles, in the database of the services; not set: roles and "
            "schemas are made by hand."
        ),
    )
    provision_seconds: float = Field(
        default=300.0, gt=0, description="How long to wait for PostgreSQL and NATS before giving up."
    )


def _url_field(name: str) -> tuple[Any, Any]:
    return (
        SecretStr,
        Field(description=f"The database of the {name}, with the user and password that the service has."),
    )


_URLS: Any = {f"{entry.schema}_database_url": _url_field(name) for name, entry in fleet.SERVICES.items()}
ProvisionSettings: type[_Common] = create_model("ProvisionSettings", __base__=_Common, **_URLS)


async def provision(environ: Mapping[str, str], say: Say, clock: Clock | None = None) -> None:
    """Make everything; `say` hears a line for each change and for what is waited for.

    Raises ConfigError, FailedPrecondition with what to do, DeadlineExceeded with what did not come.
    """
    settings = load(ProvisionSettings, environ)
    urls = _database_urls(settings)
    patience = Patience(
        say,
        clock or SystemClock(),
        seconds=settings.provision_seconds,
        setting="FRONTDESK_PROVISION_SECONDS",
        again_s=TELL_EVERY_S,
    )
    if settings.admin_database_url is not None:
        await _roles(settings.admin_database_url.get_secret_value(), urls, patience, say)
    await patience.until("NATS", lambda: _topology(settings, say))
    await _migrations(urls, patience, say)


def _database_urls(settings: _Common) -> dict[str, str]:
    """The database of each service; raises ConfigError when they can't be told apart, or are on a disk of
    somebody else."""
    urls = {
        name: getattr(settings, f"{entry.schema}_database_url").get_secret_value()
        for name, entry in fleet.SERVICES.items()
    }
    problems: dict[str, str] = {}
    users: dict[str, str] = {}
    if settings.admin_database_url is not None:
        admin = _parts(ADMIN_KEY, settings.admin_database_url.get_secret_value(), problems)
        users[admin.get("username", "")] = ADMIN_KEY
        for name, url in urls.items():
            key = _key(name)
            parts = _parts(key, url, problems)
            if not parts:
                continue
            if not parts["username"] or not parts["password"]:
                problems[key] = "must have a user and a password"
            elif not (parts["password"].isascii() and parts["password"].isprintable()):
                problems[key] = "the password may hold letters, digits and signs of ASCII only"
            elif parts["database"] != admin.get("database"):
                problems[key] = f"must name the same database as {ADMIN_KEY}"
            elif (first := users.setdefault(parts["username"], key)) != key:
                problems[key] = f"must have a user of its own, not that of {first}"
    if problems:
        raise ConfigError(problems)
    return urls


def _key(name: str) -> str:
    return f"FRONTDESK_{fleet.SERVICES[name].schema.upper()}_DATABASE_URL"


def _parts(key: str, url: str, problems: dict[str, str]) -> dict[str, str]:
    """User, password and database of a PostgreSQL URL; notes a problem with any other."""
    try:
        parts = make_url(url)
        if parts.get_backend_name() != "postgresql":
            raise ValueError(url)
    except Exception:  # noqa: BLE001 - SQLAlchemy's own kinds, whose texts show the URL with its password
        problems[key] = f"must look like postgresql://user:password@host/db, as {ADMIN_KEY} is set"
        return {}
    return {
        "username": parts.username or "",
        "password": str(parts.password or ""),
        "database": parts.database or "",
    }


async def _roles(admin_url: str, urls: Mapping[str, str], patience: Patience, say: Say) -> None:
    from frontdesk.kit.database import Database, DatabaseOptions
    from frontdesk.kit.database_roles import ServiceRole, ensure_roles

    roles = []
    for name, url in urls.items():
        parts = make_url(url)
        roles.append(
            ServiceRole(parts.username or "", fleet.SERVICES[name].schema, url, str(parts.password or ""))
        )
    admin = Database(DatabaseOptions(admin_url, "public", pool_size=1))
    where = make_url(admin_url)
    try:
        changes = await patience.until(
            f"PostgreSQL at {where.host}:{where.port or 5432}", lambda: ensure_roles(admin, roles)
        )
    finally:
        await admin.close()
    for change in changes:
        say(change)


async def _topology(settings: _Common, say: Say) -> None:
    """Streams, buckets and consumers; raises Unavailable."""
    from frontdesk.kit.bus.connection import Bus, bus_settings
    from frontdesk.kit.bus.topology import (
        BUCKETS,
        MIB,
        STREAMS,
        ensure_bucket,
        ensure_consumer,
        ensure_stream,
        wake_consumer,
    )

    copies, patience = settings.nats_replicas, min(CONNECT_S, settings.provision_seconds)
    where = replace(bus_settings(settings, "provision", copies), connect_patience=patience)
    bus = await Bus.connect(where, ensure=False)
    try:
        most = settings.nats_stream_megabytes * MIB
        for spec in STREAMS:
            stream = replace(spec, max_bytes=min(spec.max_bytes, most))
            _tell(say, f"stream {stream.name}", await ensure_stream(bus.js, stream, copies))
        for bucket in BUCKETS:
            _tell(say, f"bucket {bucket.name}", await ensure_bucket(bus.js, bucket, copies))
        for name, entry in fleet.SERVICES.items():
            for consumer in (*entry.consumers, wake_consumer(name)):
                change = await ensure_consumer(bus.js, consumer)
                _tell(say, f"consumer {consumer.name} of {consumer.stream}", change)
    finally:
        await bus.close()


async def _migrations(urls: Mapping[str, str], patience: Patience, say: Say) -> None:
    for name, url in urls.items():
        await patience.until(f"the database of the {name}", partial(_migrate, fleet.SERVICES[name], url, say))


async def _migrate(entry: fleet.Entry, url: str, say: Say) -> None:
    from frontdesk.kit.database import Database, DatabaseOptions
    from frontdesk.kit.migrations import head, migrate

    database = Database(DatabaseOptions(url, entry.schema, pool_size=1))
    try:
        if await migrate(database, entry.versions):
            say(f"schema {entry.schema}: migrated to {head(entry.versions)}")
    finally:
        await database.close()


def _tell(say: Say, what: str, change: str | None) -> None:
    if change:
        say(f"{what}: {change}")


async def run(environ: Mapping[str, str], say: Say) -> int:
    """`provision` as a command: says what is wrong and returns the exit code."""
    clock = SystemClock()
    begun = clock.monotonic()
    try:
        await provision(environ, say, clock)
    except FrontdeskError as error:
        say(error.message)
        return 1
    say(f"all is there, after {clock.monotonic() - begun:.1f} s")
    return 0


__all__ = ["ProvisionSettings", "provision", "run"]
