"""PostgreSQL roles: each service has one of its own, owns one schema, and has no right on any other's.

`ensure_roles` works with an administrator's connection, may be run again at any time, and changes only what
is not as it should be. The server quotes every name and value itself (`format` with %I and %L), and gets a
password only as the verifier it would store (RFC 5803), so that none stands in its log.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.errors import FailedPrecondition, Unavailable

ITERATIONS = 4096
LOCK = 0x66726F6E74  # two provisions at a time take turns

_REFUSED_LOGIN = "28"
_NO_RIGHT = "42501"


@dataclass(frozen=True, slots=True)
class ServiceRole:
    """A service's role, its password, and the schema it owns."""

    name: str
    schema: str
    url: str = field(repr=False)
    password: str = field(repr=False)


async def ensure_roles(admin: Database, roles: Sequence[ServiceRole]) -> list[str]:
    """Make roles and schemas; returns a line for each change.

    Raises Unavailable when the server is away, FailedPrecondition with what to do when the administrator may
    not, or when a role is of a kind that no service should have.
    """
    changes: list[str] = []
    try:
        async with admin.write() as connection:
            work = _Work(connection, changes)
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            await work.close_to_the_public()
            for role in roles:
                await work.ensure_role(role)
                await work.ensure_schema(role)
            await work.part(roles)
    except DBAPIError as error:
        raise _explained(error) from error
    return changes


class _Work:
    """The steps, inside the administrator's transaction."""

    def __init__(self, connection: AsyncConnection, changes: list[str]) -> None:
        self._connection = connection
        self._changes = changes

    async def close_to_the_public(self) -> None:
        """A database is open to every role of its server until it is told otherwise."""
        database = str(await self._one("SELECT current_database()"))
        for right in ("CONNECT", "TEMPORARY"):
            question = "SELECT has_database_privilege('public', current_database(), :right)"
            if await self._one(question, right=right):
                await self._do("REVOKE ALL ON DATABASE %I FROM PUBLIC", database)
                self._changes.append(f"database {database}: closed to the public")
        if await self._one(
            "SELECT has_schema_privilege('public', oid, 'USAGE') FROM pg_namespace WHERE nspname = 'public'"
        ):
            await self._do("REVOKE ALL ON SCHEMA %I FROM PUBLIC", "public")
            self._changes.append("schema public: closed to the public")

    async def ensure_role(self, role: ServiceRole) -> None:
        """A role that may log in with its password, and nothing else."""
        found = (
            await self._connection.execute(
                text(
                    "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls AS mighty, rolcanlogin "
                    "FROM pg_roles WHERE rolname = :name"
                ),
                {"name": role.name},
            )
        ).first()
        if found is None:
            await self._do("CREATE ROLE %I LOGIN PASSWORD %L", role.name, _verifier(role.password))
            self._changes.append(f"role {role.name}: made")
        elif found.mighty:
            raise FailedPrecondition(
                f"the role {role.name} may do more than a service should: name another in the service's URL, "
                "which provision makes, or take the rights away"
            )
        elif not found.rolcanlogin or not await _logs_in(role):
            await self._do("ALTER ROLE %I LOGIN PASSWORD %L", role.name, _verifier(role.password))
            self._changes.append(f"role {role.name}: password changed")
        # Whoever is no superuser must be a member to give something to the role.
        if not await self._one("SELECT pg_has_role(current_user, :name, 'USAGE')", name=role.name):
            await self._do("GRANT %I TO CURRENT_USER", role.name)
        if not await self._one(
            "SELECT has_database_privilege(:name, current_database(), 'CONNECT')", name=role.name
        ):
            database = str(await self._one("SELECT current_database()"))
            await self._do("GRANT CONNECT ON DATABASE %I TO %I", database, role.name)

    async def ensure_schema(self, role: ServiceRole) -> None:
        """A schema that is the role's, with all that is in it (after a restore it may be somebody else's)."""
        owner = await self._one(
            "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = :name", name=role.schema
        )
        if owner is None:
            await self._do("CREATE SCHEMA %I AUTHORIZATION %I", role.schema, role.name)
            self._changes.append(f"schema {role.schema}: made")
            return
        if owner != role.name:
            await self._do("ALTER SCHEMA %I OWNER TO %I", role.schema, role.name)
            self._changes.append(f"schema {role.schema}: given to {role.name}")
        strangers = await self._connection.execute(
            text(
                "SELECT relname FROM pg_class WHERE relnamespace = CAST(:schema AS regnamespace) "
                "AND relkind IN ('r', 'p', 'v', 'm', 'f') AND pg_get_userbyid(relowner) <> :name"
            ),
            {"schema": role.schema, "name": role.name},
        )
        for table in strangers.scalars().all():
            await self._do("ALTER TABLE %I.%I OWNER TO %I", role.schema, table, role.name)
            self._changes.append(f"table {role.schema}.{table}: given to {role.name}")

    async def part(self, roles: Sequence[ServiceRole]) -> None:
        """Take from each role what it may do in the others' schemas; raises when it comes from elsewhere."""
        for role in roles:
            for other in roles:
                if role.schema != other.schema and await self._may_use(role, other.schema):
                    await self._shut(role, other.schema)

    async def _shut(self, role: ServiceRole, schema: str) -> None:
        await self._do("REVOKE ALL ON SCHEMA %I FROM PUBLIC, %I", schema, role.name)
        self._changes.append(f"schema {schema}: closed to {role.name}")
        if await self._may_use(role, schema):
            raise FailedPrecondition(
                f"the role {role.name} still has rights on the schema {schema}, as a member of another role: "
                f"REVOKE that role from {role.name}"
            )

    async def _may_use(self, role: ServiceRole, schema: str) -> bool:
        question = "SELECT has_schema_privilege(:name, :schema, 'USAGE, CREATE')"  # either of them
        return bool(await self._one(question, name=role.name, schema=schema))

    async def _one(self, statement: str, **values: object) -> object:
        return (await self._connection.execute(text(statement), values)).scalar()

    async def _do(self, template: str, *values: str) -> None:
        """Run a statement whose values the server itself quotes."""
        names = [f"v{number}" for number in range(len(values))]
        marks = ", ".join(f"CAST(:{name} AS text)" for name in names)
        statement = await self._one(
            f"SELECT format(CAST(:template AS text), {marks})",
            template=template,
            **dict(zip(names, values, strict=True)),
        )
        await self._connection.exec_driver_sql(str(statement))


async def _logs_in(role: ServiceRole) -> bool:
    """Whether the role's own URL opens the database; raises Unavailable."""
    database = Database(DatabaseOptions(role.url, role.schema, pool_size=1))
    try:
        await database.check()
    except DBAPIError as error:
        state = str(getattr(error.orig, "sqlstate", ""))
        if state.startswith(_REFUSED_LOGIN):
            return False
        if state != _NO_RIGHT:  # which is told after the password was found right
            raise
    finally:
        await database.close()
    return True


def _verifier(password: str) -> str:
    """What the server stores of a password: SCRAM-SHA-256 with a salt of its own."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    texts = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(ITERATIONS, *texts)


def _explained(error: DBAPIError) -> FailedPrecondition | Unavailable:
    state = str(getattr(error.orig, "sqlstate", "") or "")
    first = (str(error.orig).splitlines() or [""])[0]
    if state.startswith(_REFUSED_LOGIN):
        advice = "are user and password of FRONTDESK_ADMIN_DATABASE_URL right?"
    elif state == _NO_RIGHT:
        advice = "FRONTDESK_ADMIN_DATABASE_URL needs a superuser, or the database's owner with CREATEROLE"
    elif state == "3D000":
        advice = "make the database first: `CREATE DATABASE …`"
    else:
        advice = "see the server's log"
    return FailedPrecondition(f"PostgreSQL refused: {first}; {advice}", sqlstate=state)
