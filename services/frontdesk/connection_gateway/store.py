"""Accounts in the database, and the columns that only the owner of an account's shard writes.

Secrets are encrypted before they come here as values and are read by `login` alone. Writes of a session carry
the replica and epoch that took the shard: a replica that lost it changes nothing, however late it wakes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from frontdesk.connection_gateway.model import Account, Login, State, new_id
from frontdesk.connection_gateway.tables import accounts, sends, uptime
from frontdesk.kit import subjects
from frontdesk.kit.batch import Batcher
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import AlreadyExists, NotFound
from frontdesk.kit.secrets import SecretBox

_SECRET = ("credentials", "token", "token_expires_at_ms", "request_id")
_COLUMNS = [column for column in accounts.c if column.name not in _SECRET]


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What a person gives to make an account; `cookies` as they were checked and put in order."""

    organization_id: str
    platform: str
    platform_user_id: str
    name: str
    cookies: str
    device_id: str
    enabled: bool
    request_id: str = ""


class AccountStore:
    """Rows of accounts. Every method raises Unavailable when the database is away."""

    def __init__(self, database: Database, secrets: SecretBox, shards: int, clock: Clock) -> None:
        self._database = database
        self._secrets = secrets
        self._shards = shards
        self._clock = clock

    async def create(self, new: NewAccount) -> Account:
        """Store an account; the same `request_id` again gives the same account.

        Raises AlreadyExists when the platform's user has an account here, whoever owns it.
        """
        now = self._clock.now_ms()
        account_id = new_id(now)
        values = {
            "account_id": account_id,
            "organization_id": new.organization_id,
            "platform": new.platform,
            "platform_user_id": new.platform_user_id,
            "name": new.name,
            "enabled": new.enabled,
            "credentials": self._secrets.encrypt(new.cookies, _context("credentials", account_id)),
            "token": None,
            "token_expires_at_ms": 0,
            "device_id": new.device_id,
            "state": State.DISCONNECTED,
            "state_since_ms": now,
            "shard": subjects.shard_of(account_id, self._shards),
            "accounted_until_ms": now,
            "request_id": new.request_id or None,
            "created_at_ms": now,
            "updated_at_ms": now,
        }
        try:
            async with self._database.write() as connection:
                if new.request_id:
                    query = select(*_COLUMNS).where(
                        accounts.c.organization_id == new.organization_id,
                        accounts.c.request_id == new.request_id,
                    )
                    if (row := (await connection.execute(query)).one_or_none()) is not None:
                        return _account(row)
                await connection.execute(accounts.insert().values(values))
        except IntegrityError:
            raise AlreadyExists("this user of the platform has an account here already") from None
        found = await self.get(account_id)
        if found is None:
            raise NotFound("the account was removed at once")
        return found

    async def get(self, account_id: str) -> Account | None:
        """One account."""
        async with self._database.read() as connection:
            query = select(*_COLUMNS).where(accounts.c.account_id == account_id)
            row = (await connection.execute(query)).one_or_none()
        return _account(row) if row is not None else None

    async def page(self, organization_id: str, after: str, limit: int) -> list[Account]:
        """Accounts of an organization by id, those after `after`."""
        query = (
            select(*_COLUMNS)
            .where(accounts.c.organization_id == organization_id, accounts.c.account_id > after)
            .order_by(accounts.c.account_id)
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [_account(row) for row in await connection.execute(query)]

    async def of_shards(self, shards: Collection[int], changed_since_ms: int = 0) -> list[Account]:
        """Accounts of some shards, or only those that were changed at or after a time."""
        query = select(*_COLUMNS).where(
            accounts.c.shard.in_(sorted(shards)), accounts.c.updated_at_ms >= changed_since_ms
        )
        async with self._database.read() as connection:
            return [_account(row) for row in await connection.execute(query)]

    async def login(self, account_id: str) -> Login:
        """The account's secrets; raises NotFound, and SecretError when they can't be decrypted."""
        query = select(accounts.c.credentials, accounts.c.token, accounts.c.token_expires_at_ms).where(
            accounts.c.account_id == account_id
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound("no such account")
        cookies = self._secrets.decrypt_text(row.credentials, _context("credentials", account_id))
        token = self._secrets.decrypt_text(row.token, _context("token", account_id)) if row.token else ""
        return Login(cookies, token, row.token_expires_at_ms)

    async def save_login(self, account: Account, login: Login) -> bool:
        """Keep cookies and token; False, and nothing is kept, when another replica holds the account now."""
        account_id = account.account_id
        token = self._secrets.encrypt(login.token, _context("token", account_id)) if login.token else None
        values = {
            "credentials": self._secrets.encrypt(login.cookies, _context("credentials", account_id)),
            "token": token,
            "token_expires_at_ms": login.token_expires_at_ms,
        }
        async with self._database.write() as connection:
            changed = await connection.execute(
                update(accounts)
                .where(
                    accounts.c.account_id == account_id,
                    accounts.c.replica == account.replica,
                    accounts.c.epoch == account.epoch,
                )
                .values(values)
            )
        return bool(changed.rowcount)

    async def change(
        self, account_id: str, *, name: str | None = None, enabled: bool | None = None
    ) -> Account:
        """Rename, enable or disable; raises NotFound."""
        values: dict[str, Any] = {"updated_at_ms": self._clock.now_ms()}
        if name is not None:
            values["name"] = name
        if enabled is not None:
            values["enabled"] = enabled
        async with self._database.write() as connection:
            await connection.execute(
                update(accounts).where(accounts.c.account_id == account_id).values(**values)
            )
        found = await self.get(account_id)
        if found is None:
            raise NotFound("no such account")
        return found

    async def remove(self, account_id: str) -> None:
        """Remove the account with its secrets, its sends and its uptime."""
        async with self._database.write() as connection:
            for table in (accounts, sends, uptime):
                await connection.execute(delete(table).where(table.c.account_id == account_id))


_SESSION_COLUMNS = ("state", "reason", "reason_code", "action_url", "state_since_ms", "failures")


class SessionStore:
    """What the owner of a shard writes about its sessions; many accounts' changes share a commit."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._marks: Batcher[Account, None] = Batcher(self._save_marks, clock=clock)

    async def take_shard(self, shard: int, replica: str, epoch: int) -> None:
        """From now on only `replica` at `epoch` writes the sessions of this shard."""
        async with self._database.write() as connection:
            await connection.execute(
                update(accounts).where(accounts.c.shard == shard).values(replica=replica, epoch=epoch)
            )

    async def take_account(self, account_id: str, replica: str, epoch: int) -> bool:
        """The same for one account that is new in an owned shard; False when it is gone."""
        async with self._database.write() as connection:
            changed = await connection.execute(
                update(accounts)
                .where(accounts.c.account_id == account_id)
                .values(replica=replica, epoch=epoch)
            )
        return bool(changed.rowcount)

    async def save_states(self, accounts: Sequence[Account]) -> None:
        """Store the sessions' states as the accounts have them now."""
        async with self._database.write() as connection:
            await connection.execute(
                _fenced(*_SESSION_COLUMNS), [_binds(a, *_SESSION_COLUMNS) for a in accounts]
            )

    async def save_mark(self, account: Account) -> None:
        """Store up to where everything is stored."""
        await self._marks.submit(account)

    async def flush(self, active: Sequence[Account], hours: Sequence[Mapping[str, Any]]) -> None:
        """Store last heartbeats, and add seconds to hours (rows of `uptime`), in one commit."""
        async with self._database.write() as connection:
            if active:
                await connection.execute(
                    _fenced("last_heartbeat_ms", "accounted_until_ms"),
                    [_binds(a, "last_heartbeat_ms", "accounted_until_ms") for a in active],
                )
            if hours:
                insert: Any = sqlite.insert(uptime) if self._database.sqlite else postgresql.insert(uptime)
                added = ("connected_seconds", "enabled_seconds")
                await connection.execute(
                    insert.on_conflict_do_update(
                        index_elements=["account_id", "hour_ms"],
                        set_={name: uptime.c[name] + insert.excluded[name] for name in added},
                    ),
                    [dict(hour) for hour in hours],
                )

    async def hours(self, account_id: str, since_ms: int) -> list[tuple[int, float, float]]:
        """(hour, connected seconds, enabled seconds) from `since_ms` on, oldest first."""
        query = (
            select(uptime)
            .where(uptime.c.account_id == account_id, uptime.c.hour_ms >= since_ms)
            .order_by(uptime.c.hour_ms)
        )
        async with self._database.read() as connection:
            return [
                (row.hour_ms, row.connected_seconds, row.enabled_seconds)
                for row in await connection.execute(query)
            ]

    async def prune(self, before_ms: int) -> None:
        """Forget the uptime of hours before `before_ms`."""
        async with self._database.write() as connection:
            await connection.execute(delete(uptime).where(uptime.c.hour_ms < before_ms))

    async def close(self) -> None:
        """Finish what is in work."""
        await self._marks.close()

    async def _save_marks(self, batch: list[Account]) -> list[None]:
        async with self._database.write() as connection:
            await connection.execute(
                _fenced("synced_until_ms"), [_binds(a, "synced_until_ms") for a in batch]
            )
        return [None] * len(batch)


def _fenced(*columns: str) -> Any:
    """UPDATE of the owner's columns, by the owner only."""
    return (
        update(accounts)
        .where(
            accounts.c.account_id == bindparam("id_"),
            accounts.c.replica == bindparam("replica_"),
            accounts.c.epoch == bindparam("epoch_"),
        )
        .values({name: bindparam(f"new_{name}") for name in columns})
    )


def _binds(account: Account, *columns: str) -> dict[str, Any]:
    owner = {"id_": account.account_id, "replica_": account.replica, "epoch_": account.epoch}
    return owner | {f"new_{name}": getattr(account, name) for name in columns}


def _context(column: str, account_id: str) -> str:
    return f"accounts:{column}:{account_id}"


def _account(row: Row[Any]) -> Account:
    values = dict(row._mapping)
    values["state"] = State(values["state"])
    return Account(**values)
