"""RuleService: rules and default replies of an organization."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, TypeVar

import grpc.aio
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.api.replies.v1 import rule_service_pb2 as pb
from frontdesk.api.replies.v1.rule_pb2 import DefaultReply as DefaultReplyProto
from frontdesk.api.replies.v1.rule_service_pb2_grpc import RuleServiceServicer
from frontdesk.kit import pages
from frontdesk.kit.access import allowed_organization, check_owner, has_role
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import InvalidArgument
from frontdesk.kit.upserts import upsert
from frontdesk.reply_engine.accounts import Accounts
from frontdesk.reply_engine.chain import ChatView, incoming_of
from frontdesk.reply_engine.configuration import change_configuration
from frontdesk.reply_engine.model import chat_key, new_id
from frontdesk.reply_engine.previews import Previews
from frontdesk.reply_engine.rpc.parts import check_id
from frontdesk.reply_engine.rules.model import LIMITS, ChatCounters, Limits, Rule
from frontdesk.reply_engine.rules.transfer import (
    ImportPlan,
    export_csv,
    export_json,
    parse_csv,
    parse_json,
    plan,
)
from frontdesk.reply_engine.rules.validate import default_to_raw, rule_to_raw
from frontdesk.reply_engine.snapshot import SnapshotCache
from frontdesk.reply_engine.stored_rules import (
    default_from_proto,
    default_from_row,
    default_to_proto,
    part_to_proto,
    rule_from_proto,
    rule_from_row,
    rule_to_proto,
    scope_key,
)
from frontdesk.reply_engine.tables import chats, default_replies, rule_uses, rules

_T = TypeVar("_T")

MAX_RULES = 5_000
MAX_TEXT = 4_000


class RuleServicer(RuleServiceServicer):
    """Changes take effect with the next message, on every replica."""

    def __init__(
        self,
        database: Database,
        snapshots: SnapshotCache,
        accounts: Accounts,
        previews: Previews,
        clock: Clock,
        limits: Limits = LIMITS,
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._accounts = accounts
        self._previews = previews
        self._limits = limits
        self._clock = clock

    async def CreateRule(
        self, request: pb.CreateRuleRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CreateRuleResponse:
        organization_id = allowed_organization(request.rule.organization_id, need="manager")
        if request.request_id:
            check_id(request.request_id, "request_id")
        if request.rule.rule_id:
            raise InvalidArgument("rule.rule_id", "must be empty; use UpdateRule for a rule that exists")
        rule = rule_from_proto(request.rule, organization_id, "rule.")
        await self._check_account(rule.account_id, organization_id, "rule.account_id")
        async with self._database.write() as connection:
            if request.request_id:
                before = await connection.execute(
                    select(rules).where(
                        rules.c.organization_id == organization_id, rules.c.request_id == request.request_id
                    )
                )
                if (row := before.one_or_none()) is not None:
                    return pb.CreateRuleResponse(rule=rule_to_proto(rule_from_row(row)))
            await _check_room(connection, organization_id, 1)
            stored = await self._insert(connection, rule, request.request_id or None)
            await change_configuration(connection, organization_id)
        return pb.CreateRuleResponse(rule=rule_to_proto(stored))

    async def _check_account(self, account_id: str | None, organization_id: str, field: str) -> None:
        """Raises InvalidArgument when the account is not the organization's own."""
        if account_id:
            account = await self._accounts.get(account_id)
            if account is None or account.organization_id != organization_id:
                raise InvalidArgument(field, "no such account")

    async def _insert(self, connection: AsyncConnection, rule: Rule, request_id: str | None) -> Rule:
        now = self._clock.now_ms()
        stored = replace(rule, id=new_id(now), updated_at_ms=now)
        await connection.execute(
            rules.insert().values(
                rule_id=stored.id,
                organization_id=stored.organization_id,
                request_id=request_id,
                body=rule_to_raw(stored),
                updated_at_ms=now,
            )
        )
        return stored

    async def _replace(self, connection: AsyncConnection, rule: Rule) -> Rule:
        now = self._clock.now_ms()
        await connection.execute(
            update(rules).where(rules.c.rule_id == rule.id).values(body=rule_to_raw(rule), updated_at_ms=now)
        )
        return replace(rule, updated_at_ms=now)

    async def GetRule(
        self, request: pb.GetRuleRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetRuleResponse:
        return pb.GetRuleResponse(rule=rule_to_proto(await self._find(request.rule_id, "viewer")))

    async def ListRules(
        self, request: pb.ListRulesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListRulesResponse:
        organization_id = allowed_organization(request.organization_id, need="viewer")
        size = pages.page_size(request.page_size, default=100, most=1000)
        after = pages.decode(request.page_token, 1)
        query = select(rules).where(rules.c.organization_id == organization_id)
        if after:
            query = query.where(rules.c.rule_id > after[0])
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(rules.c.rule_id))).all()
        found = [rule_from_row(r) for r in rows]
        if request.account_id:
            found = [r for r in found if r.account_id in (None, request.account_id)]
        token = pages.encode(found[size - 1].id) if len(found) > size else ""
        return pb.ListRulesResponse(rules=[rule_to_proto(r) for r in found[:size]], next_page_token=token)

    async def UpdateRule(
        self, request: pb.UpdateRuleRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UpdateRuleResponse:
        before = await self._find(request.rule.rule_id, "manager", field="rule.rule_id")
        rule = rule_from_proto(request.rule, before.organization_id, "rule.")
        await self._check_account(rule.account_id, rule.organization_id, "rule.account_id")
        async with self._database.write() as connection:
            stored = await self._replace(connection, rule)
            await change_configuration(connection, before.organization_id)
        return pb.UpdateRuleResponse(rule=rule_to_proto(stored))

    async def DeleteRule(
        self, request: pb.DeleteRuleRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DeleteRuleResponse:
        rule = await self._find(request.rule_id, "manager")
        async with self._database.write() as connection:
            await connection.execute(delete(rules).where(rules.c.rule_id == rule.id))
            await connection.execute(delete(rule_uses).where(rule_uses.c.rule_id == rule.id))
            await change_configuration(connection, rule.organization_id)
        return pb.DeleteRuleResponse()

    async def Explain(
        self, request: pb.ExplainRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ExplainResponse:
        if not request.account_id:
            raise InvalidArgument("account_id", "is needed")
        if not request.text or len(request.text) > MAX_TEXT:
            raise InvalidArgument("text", f"1 to {MAX_TEXT} characters")
        if request.chat_id:
            check_id(request.chat_id, "chat_id")
        account = await self._accounts.get(request.account_id)
        organization_id = check_owner(
            account.organization_id if account else None, need="viewer", what="account"
        )
        async with self._database.read() as connection:
            snapshot = (await self._snapshots.get(connection, [organization_id]))[organization_id]
            view = await self._view(connection, request, organization_id)
        result = await self._previews.decide(snapshot, view, ask_ai=has_role("agent"))
        incoming = incoming_of(snapshot, view, request.text)
        verdicts = snapshot.matcher.explain(incoming, ChatCounters(view.uses))
        answer = result.answer
        winner = answer.rule_id if answer else ""
        return pb.ExplainResponse(
            step="ai" if result.ai_wanted else answer.step if answer else "",
            rule_id=winner,
            parts=[part_to_proto(p) for p in answer.parts] if answer else [],
            verdicts=[
                pb.RuleVerdict(
                    rule_id=v.rule.id,
                    name=v.rule.name,
                    wins=v.rule.id == winner,
                    reason=v.reason if v.rule.id == winner or not v.wins else "an earlier step answers",
                )
                for v in verdicts
            ],
        )

    async def _view(
        self, connection: AsyncConnection, request: pb.ExplainRequest, organization_id: str
    ) -> ChatView:
        key = chat_key(request.account_id, request.chat_id or "-")
        row: Any = (await connection.execute(select(chats).where(chats.c.chat_key == key))).one_or_none()
        used = await connection.execute(select(rule_uses).where(rule_uses.c.chat_key == key))
        uses = {u.rule_id: (u.uses, u.last_used_ms) for u in used}
        if row is None:
            row = SimpleNamespace(
                organization_id=organization_id,
                account_id=request.account_id,
                chat_id=request.chat_id,
                buyer_id="",
                buyer_name="",
                item_id="",
                minute_ms=0,
                minute_count=0,
            )
        message = SimpleNamespace(
            text=request.text, item_id=request.item_id, sender_id="", sender_name="", image_urls=()
        )
        return ChatView(row, [message], uses, self._clock.now_ms())

    async def ImportRules(
        self, request: pb.ImportRulesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ImportRulesResponse:
        organization_id = allowed_organization(request.organization_id, need="manager")
        reader = _of_format({pb.FORMAT_CSV: parse_csv, pb.FORMAT_JSON: parse_json}, request.format)
        # Seconds of work for the largest file: not on the event loop, and not while the database is locked.
        parsed = await asyncio.to_thread(reader, request.data, organization_id, self._limits)
        for account_id in sorted({rule.account_id or "" for _row, rule in parsed.rules}):
            await self._check_account(account_id, organization_id, "account_id")
        async with self._database.write() as connection:
            existing = [rule for rule in await _all(connection, organization_id) if not rule.problem]
            wanted = plan(existing, parsed)
            if not wanted.errors and not request.dry_run:
                await _check_room(connection, organization_id, len(wanted.create))
                for rule in wanted.create:
                    await self._insert(connection, rule, None)
                for rule in wanted.update:
                    await self._replace(connection, rule)
                await change_configuration(connection, organization_id)
        return _import_response(wanted)

    async def ExportRules(
        self, request: pb.ExportRulesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ExportRulesResponse:
        organization_id = allowed_organization(request.organization_id, need="viewer")
        writer = _of_format({pb.FORMAT_CSV: export_csv, pb.FORMAT_JSON: export_json}, request.format)
        async with self._database.read() as connection:
            found = [rule for rule in await _all(connection, organization_id) if not rule.problem]
        return pb.ExportRulesResponse(data=await asyncio.to_thread(writer, found))

    async def SetDefaultReply(
        self, request: pb.SetDefaultReplyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.SetDefaultReplyResponse:
        organization_id = allowed_organization(request.default_reply.organization_id, need="manager")
        default = default_from_proto(request.default_reply, organization_id, "default_reply.")
        await self._check_account(default.account_id, organization_id, "default_reply.account_id")
        async with self._database.write() as connection:
            row = {
                "default_reply_id": new_id(self._clock.now_ms()),
                "organization_id": organization_id,
                "scope_key": scope_key(default),
                "body": default_to_raw(default),
            }
            statement = upsert(connection, default_replies, ("organization_id", "scope_key"), ("body",))
            await connection.execute(statement, [row])
            await change_configuration(connection, organization_id)
            stored = await connection.execute(
                select(default_replies).where(
                    default_replies.c.organization_id == organization_id,
                    default_replies.c.scope_key == scope_key(default),
                )
            )
            default = replace(default, id=stored.one().default_reply_id)
        return pb.SetDefaultReplyResponse(default_reply=default_to_proto(default))

    async def ListDefaultReplies(
        self, request: pb.ListDefaultRepliesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListDefaultRepliesResponse:
        organization_id = allowed_organization(request.organization_id, need="viewer")
        async with self._database.read() as connection:
            rows = await connection.execute(
                select(default_replies)
                .where(default_replies.c.organization_id == organization_id)
                .order_by(default_replies.c.scope_key)
            )
            read = [default_from_row(r) for r in rows]
            found: list[DefaultReplyProto] = [default_to_proto(d) for d in read if d is not None]
        return pb.ListDefaultRepliesResponse(default_replies=found)

    async def DeleteDefaultReply(
        self, request: pb.DeleteDefaultReplyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DeleteDefaultReplyResponse:
        check_id(request.default_reply_id, "default_reply_id")
        query = select(default_replies).where(default_replies.c.default_reply_id == request.default_reply_id)
        async with self._database.write() as connection:
            row = (await connection.execute(query)).one_or_none()
            organization_id = check_owner(
                row.organization_id if row else None, need="manager", what="default reply"
            )
            await connection.execute(
                delete(default_replies).where(default_replies.c.default_reply_id == request.default_reply_id)
            )
            await change_configuration(connection, organization_id)
        return pb.DeleteDefaultReplyResponse()

    async def _find(self, rule_id: str, need: str, field: str = "rule_id") -> Rule:
        check_id(rule_id, field)
        async with self._database.read() as connection:
            row = (await connection.execute(select(rules).where(rules.c.rule_id == rule_id))).one_or_none()
        check_owner(row.organization_id if row else None, need=need, what="rule")
        return rule_from_row(row)


def _of_format(kinds: Mapping[pb.Format.ValueType, _T], number: pb.Format.ValueType) -> _T:
    """The one of a format; unspecified is CSV. InvalidArgument for one that this version does not know."""
    if number == pb.FORMAT_UNSPECIFIED:
        return kinds[pb.FORMAT_CSV]
    if number not in kinds:
        raise InvalidArgument("format", f"{number} is not a value that this version knows")
    return kinds[number]


async def _all(connection: AsyncConnection, organization_id: str) -> list[Rule]:
    rows = await connection.execute(
        select(rules).where(rules.c.organization_id == organization_id).order_by(rules.c.rule_id)
    )
    return [rule_from_row(r) for r in rows]


async def _check_room(connection: AsyncConnection, organization_id: str, more: int) -> None:
    if len(await _all(connection, organization_id)) + more > MAX_RULES:
        raise InvalidArgument("rule", f"an organization has at most {MAX_RULES} rules")


def _import_response(wanted: ImportPlan) -> pb.ImportRulesResponse:
    problems: Sequence[pb.ImportProblem] = [
        pb.ImportProblem(row=p.row, field=p.field, problem=p.problem) for p in wanted.errors
    ]
    return pb.ImportRulesResponse(
        created=len(wanted.create),
        updated=len(wanted.update),
        unchanged=len(wanted.unchanged),
        problems=problems,
    )
