"""ReplyService: decisions on demand, claims before the write, settings and switches."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import grpc.aio
from sqlalchemy import select

from frontdesk.api.replies.v1 import reply_service_pb2 as pb
from frontdesk.api.replies.v1.reply_service_pb2_grpc import ReplyServiceServicer
from frontdesk.kit.access import allowed_organization, check_owner
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import FailedPrecondition, InvalidArgument, NotFound
from frontdesk.kit.upserts import upsert
from frontdesk.reply_engine.accounts import Accounts
from frontdesk.reply_engine.chain import ChatView
from frontdesk.reply_engine.claims import Claim, judge, store_drops
from frontdesk.reply_engine.configuration import change_configuration
from frontdesk.reply_engine.model import STEPS, AccountSettings, Switch, chat_key
from frontdesk.reply_engine.previews import Previews
from frontdesk.reply_engine.rpc.parts import check_id
from frontdesk.reply_engine.rules.hours import utc_offset_minutes
from frontdesk.reply_engine.rules.order import validate_chain
from frontdesk.reply_engine.snapshot import SnapshotCache, settings_from_row
from frontdesk.reply_engine.stored_rules import part_to_proto
from frontdesk.reply_engine.tables import account_settings, chats, organizations, rule_uses

SWITCHES = {
    pb.SWITCH_UNSPECIFIED: Switch.ON,
    pb.SWITCH_ON: Switch.ON,
    pb.SWITCH_OBSERVE: Switch.OBSERVE,
    pb.SWITCH_STOP: Switch.STOP,
}
SWITCH_NUMBERS = {switch: number for number, switch in SWITCHES.items() if number}
MAX_CLAIMS = 500
MAX_TEXT = 4_000
NEEDED = ("account_id", "user_url", "send_user_id", "send_user_name", "send_message", "chat_id")


class ReplyServicer(ReplyServiceServicer):
    """Decides answers and guards them until they are written to the platform."""

    def __init__(
        self,
        database: Database,
        snapshots: SnapshotCache,
        accounts: Accounts,
        previews: Previews,
        clock: Clock,
        *,
        max_age_ms: int,
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._accounts = accounts
        self._previews = previews
        self._clock = clock
        self._max_age_ms = max_age_ms

    async def Reply(
        self, request: pb.ReplyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ReplyResponse:
        return await self.decide(request)

    async def decide(self, request: pb.ReplyRequest) -> pb.ReplyResponse:
        """The answer to one message, by the same chain as every answer; stores and sends nothing."""
        for name in NEEDED:
            if not getattr(request, name):
                raise InvalidArgument(name, "is needed")
        check_id(request.account_id, "account_id")
        check_id(request.chat_id, "chat_id")
        if len(request.send_message) > MAX_TEXT:
            raise InvalidArgument("send_message", f"at most {MAX_TEXT} characters")
        account = await self._accounts.get(request.account_id)
        organization_id = check_owner(
            account.organization_id if account else None, need="agent", what="account"
        )
        if account is not None and not account.enabled:
            raise FailedPrecondition("the account is disabled; start it first")
        view = await self._view(request, organization_id)
        async with self._database.read() as connection:
            snapshot = (await self._snapshots.get(connection, [organization_id]))[organization_id]
        result = await self._previews.decide(snapshot, view)
        if result.answer is None:
            raise NotFound("nothing answers this message")
        return pb.ReplyResponse(
            parts=[part_to_proto(p) for p in result.answer.parts],
            step=result.answer.step,
            rule_id=result.answer.rule_id,
        )

    async def _view(self, request: pb.ReplyRequest, organization_id: str) -> ChatView:
        key = chat_key(request.account_id, request.chat_id)
        async with self._database.read() as connection:
            row = (await connection.execute(select(chats).where(chats.c.chat_key == key))).one_or_none()
            used = await connection.execute(select(rule_uses).where(rule_uses.c.chat_key == key))
            uses = {u.rule_id: (u.uses, u.last_used_ms) for u in used}
        chat = SimpleNamespace(
            chat_key=key,
            organization_id=organization_id,
            account_id=request.account_id,
            chat_id=request.chat_id,
            buyer_id=request.send_user_id,
            buyer_name=request.send_user_name,
            item_id=request.item_id,
            minute_ms=row.minute_ms if row else 0,
            minute_count=row.minute_count if row else 0,
        )
        message = SimpleNamespace(
            text=request.send_message,
            item_id=request.item_id,
            sender_id=request.send_user_id,
            sender_name=request.send_user_name,
            image_urls=(),
        )
        return ChatView(chat, [message], uses, self._clock.now_ms())

    async def Claim(
        self, request: pb.ClaimRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ClaimResponse:
        if len(request.outgoing_ids) > MAX_CLAIMS:
            raise InvalidArgument("outgoing_ids", f"at most {MAX_CLAIMS}")
        for number, outgoing_id in enumerate(request.outgoing_ids):
            check_id(outgoing_id, f"outgoing_ids[{number}]")
        now = self._clock.now_ms()
        async with self._database.read() as connection:
            claims = await judge(
                connection, list(request.outgoing_ids), self._snapshots, self._max_age_ms, now
            )
        drops = [claim for claim in claims if claim.drop]
        if drops:
            async with self._database.write() as connection:
                await store_drops(connection, drops, now)
        return pb.ClaimResponse(verdicts=_verdicts(claims))

    async def GetReplySettings(
        self, request: pb.GetReplySettingsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetReplySettingsResponse:
        organization_id = await self._organization(request.account_id, "viewer")
        async with self._database.read() as connection:
            rows = await connection.execute(
                select(account_settings).where(account_settings.c.account_id == request.account_id)
            )
            row = rows.one_or_none()
        settings = settings_from_row(row) if row else AccountSettings(request.account_id, organization_id)
        return pb.GetReplySettingsResponse(settings=_proto(settings))

    async def UpdateReplySettings(
        self, request: pb.UpdateReplySettingsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UpdateReplySettingsResponse:
        organization_id = await self._organization(request.settings.account_id, "manager")
        settings = _checked(request.settings, organization_id)
        row = {
            "account_id": settings.account_id,
            "organization_id": organization_id,
            "switch": settings.switch.value,
            "debounce_ms": settings.debounce_ms,
            "chain": list(settings.chain),
            "ai_enabled": settings.ai_enabled,
            "takeover_minutes": settings.takeover_minutes,
            "replies_per_minute": settings.replies_per_minute,
            "answer_after_ms": settings.answer_after_ms,
            "time_zone": settings.time_zone,
        }
        changed = [name for name in row if name not in ("account_id", "organization_id")]
        async with self._database.write() as connection:
            await connection.execute(upsert(connection, account_settings, ("account_id",), changed), [row])
            await change_configuration(connection, organization_id)
        return pb.UpdateReplySettingsResponse(settings=_proto(settings))

    async def SetSwitch(
        self, request: pb.SetSwitchRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.SetSwitchResponse:
        organization_id = allowed_organization(request.organization_id, need="manager")
        switch = SWITCHES.get(request.switch)
        if switch is None:
            raise InvalidArgument("switch", "must be on, observe or stop")
        values: dict[str, Any] = {"switch": switch.value}
        if switch is Switch.ON and not request.answer_backlog:
            values["answer_after_ms"] = self._clock.now_ms()
        async with self._database.write() as connection:
            await change_configuration(connection, organization_id, **values)
        return pb.SetSwitchResponse(switch=SWITCH_NUMBERS[switch])

    async def GetSwitch(
        self, request: pb.GetSwitchRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetSwitchResponse:
        organization_id = allowed_organization(request.organization_id, need="viewer")
        async with self._database.read() as connection:
            rows = await connection.execute(
                select(organizations.c.switch).where(organizations.c.organization_id == organization_id)
            )
            found = rows.scalar_one_or_none()
        return pb.GetSwitchResponse(switch=SWITCH_NUMBERS[Switch(found or "on")])

    async def _organization(self, account_id: str, need: str) -> str:
        if not account_id:
            raise InvalidArgument("settings.account_id" if need == "manager" else "account_id", "is needed")
        account = await self._accounts.get(account_id)
        return check_owner(account.organization_id if account else None, need=need, what="account")


def _verdicts(claims: Sequence[Claim]) -> list[pb.ClaimVerdict]:
    return [
        pb.ClaimVerdict(
            outgoing_id=c.outgoing_id,
            verdict=pb.VERDICT_DROP if c.drop else pb.VERDICT_SEND,
            reason=c.drop,
        )
        for c in claims
    ]


def _checked(settings: pb.ReplySettings, organization_id: str) -> AccountSettings:
    for field, value, least, most in (
        ("debounce_ms", settings.debounce_ms, 0, 10_000),
        ("takeover_minutes", settings.takeover_minutes, 0, 1_440),
        ("replies_per_minute", settings.replies_per_minute, 1, 60),
    ):
        if not least <= value <= most:
            raise InvalidArgument(f"settings.{field}", f"must be {least} to {most}")
    if settings.answer_after_ms < 0:
        raise InvalidArgument("settings.answer_after_ms", "must not be negative")
    if settings.switch not in SWITCHES:
        raise InvalidArgument("settings.switch", "must be on, observe or stop")
    chain = validate_chain(settings.chain or STEPS, "settings.chain")
    zone = settings.time_zone or "Asia/Shanghai"
    utc_offset_minutes(zone, 0, "settings.time_zone")
    return AccountSettings(
        account_id=settings.account_id,
        organization_id=organization_id,
        switch=SWITCHES[settings.switch],
        debounce_ms=settings.debounce_ms,
        chain=chain,
        ai_enabled=settings.ai_enabled,
        takeover_minutes=settings.takeover_minutes,
        replies_per_minute=settings.replies_per_minute,
        answer_after_ms=settings.answer_after_ms,
        time_zone=zone,
    )


def _proto(settings: AccountSettings) -> pb.ReplySettings:
    return pb.ReplySettings(
        account_id=settings.account_id,
        switch=SWITCH_NUMBERS[settings.switch],
        debounce_ms=settings.debounce_ms,
        chain=settings.chain,
        ai_enabled=settings.ai_enabled,
        takeover_minutes=settings.takeover_minutes,
        replies_per_minute=settings.replies_per_minute,
        answer_after_ms=settings.answer_after_ms,
        time_zone=settings.time_zone,
    )
