"""Configuration as decisions see it: cached by organization, checked by version inside the transaction.

A change of rules, default replies, settings or switches raises the organization's `config_version` in its own
transaction. A decision compares versions in the same transaction in which it decides, so a change takes
effect with the next message on every replica, and an unchanged configuration costs one small query a batch.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.kit.database import any_of
from frontdesk.reply_engine.model import AccountSettings, Snapshot, Switch
from frontdesk.reply_engine.rules.match import Matcher
from frontdesk.reply_engine.rules.model import Rule
from frontdesk.reply_engine.rules.patterns import Patterns
from frontdesk.reply_engine.stored_rules import default_from_row, rule_from_row
from frontdesk.reply_engine.tables import account_settings, default_replies, organizations, rules

log = logging.getLogger(__name__)

MAX_TOLD = 10_000
_ORGANIZATIONS = select(organizations).where(organizations.c.organization_id.in_(any_of("ids")))


class SnapshotCache:
    """Snapshots of the organizations used last, at most `limit` of them."""

    def __init__(self, limit: int = 512, patterns: Patterns | None = None) -> None:
        self._limit = limit
        self._patterns = patterns or Patterns()
        self._cached: OrderedDict[str, Snapshot] = OrderedDict()
        self._told: set[tuple[str, int]] = set()

    async def get(self, connection: AsyncConnection, organization_ids: Iterable[str]) -> dict[str, Snapshot]:
        """The current snapshot of each organization, read in the caller's transaction."""
        wanted = sorted(set(organization_ids))
        rows = await connection.execute(_ORGANIZATIONS, {"ids": wanted})
        known = {row.organization_id: row for row in rows}
        result: dict[str, Snapshot] = {}
        for organization_id in wanted:
            row = known.get(organization_id)
            version = row.config_version if row else 0
            cached = self._cached.get(organization_id)
            if cached is None or cached.version != version:
                cached = await self._load(connection, row) if row else Snapshot(organization_id, 0)
                self._cached[organization_id] = cached
            self._cached.move_to_end(organization_id)
            result[organization_id] = cached
        while len(self._cached) > self._limit:
            self._cached.popitem(last=False)
        return result

    async def _load(self, connection: AsyncConnection, row: Row[tuple[object, ...]]) -> Snapshot:
        organization_id = row.organization_id
        settings = await connection.execute(
            select(account_settings).where(account_settings.c.organization_id == organization_id)
        )
        stored = await connection.execute(select(rules).where(rules.c.organization_id == organization_id))
        all_rules = tuple(rule_from_row(r) for r in stored)
        for rule in all_rules:
            self._tell(rule)
        defaults = await connection.execute(
            select(default_replies).where(default_replies.c.organization_id == organization_id)
        )
        return Snapshot(
            organization_id=organization_id,
            version=row.config_version,
            switch=Switch(row.switch),
            answer_after_ms=row.answer_after_ms,
            accounts={s.account_id: settings_from_row(s) for s in settings},
            rules=all_rules,
            matcher=Matcher(all_rules, patterns=self._patterns),
            defaults=tuple(found for r in defaults if (found := default_from_row(r)) is not None),
        )

    def _tell(self, rule: Rule) -> None:
        """Log a rule that can't be read, once for each version of it."""
        version = (rule.id, rule.updated_at_ms)
        if rule.problem and version not in self._told:
            log.error("rule %s is left out: %s", rule.id, rule.problem)
            if len(self._told) >= MAX_TOLD:
                self._told.clear()
            self._told.add(version)


def settings_from_row(row: Row[tuple[object, ...]]) -> AccountSettings:
    return AccountSettings(
        account_id=row.account_id,
        organization_id=row.organization_id,
        switch=Switch(row.switch),
        debounce_ms=row.debounce_ms,
        chain=tuple(row.chain),
        ai_enabled=row.ai_enabled,
        takeover_minutes=row.takeover_minutes,
        replies_per_minute=row.replies_per_minute,
        answer_after_ms=row.answer_after_ms,
        time_zone=row.time_zone,
    )
