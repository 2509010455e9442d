"""What was used, summed up and call by call. Sums of money are of integers, so they are exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, String, case, cast, func, literal, select, tuple_

from frontdesk.ai_proxy.money import PLACES, amount_text, from_pico
from frontdesk.ai_proxy.tables import spend
from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.api.ai.v1 import chat_pb2
from frontdesk.api.ai.v1.spend_pb2 import Spend
from frontdesk.kit import pages
from frontdesk.kit.clock import iso
from frontdesk.kit.database import Database
from frontdesk.kit.errors import InvalidArgument

MOST_SUMS = 1000
DAY_MS = 86_400_000
# A sum of whole 10^-12 would pass 64 bits at nine million units, which is little in some currencies; the
# millionths and what is below them are summed apart.
_SPLIT = 10 ** (PLACES // 2)

_KEYS: dict[pb.UsageGroup.ValueType, ColumnElement[Any]] = {
    pb.USAGE_GROUP_UNSPECIFIED: literal(""),
    pb.USAGE_GROUP_ACCOUNT: spend.c.account_id,
    pb.USAGE_GROUP_API_KEY: spend.c.api_key_id,
    pb.USAGE_GROUP_MODEL: spend.c.model,
    pb.USAGE_GROUP_PROVIDER: spend.c.provider,
    pb.USAGE_GROUP_DAY: cast(spend.c.started_at_ms // DAY_MS, String),
}


async def get_usage(
    database: Database, organization_id: str, request: pb.GetUsageRequest, now_ms: int
) -> pb.GetUsageResponse:
    """Sums of an organization that the caller may see; raises InvalidArgument naming the field."""
    if request.group not in _KEYS:
        raise InvalidArgument("group", f"{request.group} is not a value that is known")
    if request.from_ms < 0:
        raise InvalidArgument("from_ms", "must be 0 or more")
    until = request.until_ms or now_ms + 1
    if until < request.from_ms:
        raise InvalidArgument("until_ms", "must not be before from_ms")
    key = _KEYS[request.group].label("key")
    calls = func.count().label("calls")
    query = (
        select(
            key,
            spend.c.currency,
            calls,
            _count(spend.c.code != "OK").label("failed"),
            _count(spend.c.cached).label("cached"),
            func.sum(spend.c.prompt_tokens).label("prompt_tokens"),
            func.sum(spend.c.completion_tokens).label("completion_tokens"),
            func.sum(spend.c.cost_pico // _SPLIT).label("high"),
            func.sum(spend.c.cost_pico % _SPLIT).label("low"),
        )
        .where(
            spend.c.organization_id == organization_id,
            spend.c.started_at_ms >= request.from_ms,
            spend.c.started_at_ms < until,
        )
        .group_by("key", spend.c.currency)
        .order_by(calls.desc(), "key", spend.c.currency)
        .limit(MOST_SUMS)
    )
    if request.account_id:
        query = query.where(spend.c.account_id == request.account_id)
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
    of_days = request.group == pb.USAGE_GROUP_DAY
    return pb.GetUsageResponse(sums=[_sum(row, of_days=of_days) for row in rows])


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


def _sum(row: Any, *, of_days: bool) -> pb.UsageSum:
    return pb.UsageSum(
        key=iso(int(row.key) * DAY_MS)[:10] if of_days else row.key,
        calls=row.calls,
        failed=row.failed,
        cached=row.cached,
        prompt_tokens=int(row.prompt_tokens),
        completion_tokens=int(row.completion_tokens),
        cost=amount_text(from_pico(int(row.high) * _SPLIT + int(row.low))),
        currency=row.currency,
    )


async def list_spend(
    database: Database, organization_id: str, request: pb.ListSpendRequest
) -> pb.ListSpendResponse:
    """A page of calls of an organization that the caller may see, newest first; raises InvalidArgument."""
    size = pages.page_size(request.page_size, default=100, most=1000)
    query = (
        select(spend)
        .where(spend.c.organization_id == organization_id)
        .order_by(spend.c.started_at_ms.desc(), spend.c.call_id.desc())
        .limit(size + 1)
    )
    if request.account_id:
        query = query.where(spend.c.account_id == request.account_id)
    if (after := pages.decode(request.page_token, 2)) is not None:
        query = query.where(
            tuple_(spend.c.started_at_ms, spend.c.call_id) < tuple_(_number(after[0]), literal(after[1]))
        )
    async with database.read() as connection:
        rows: Sequence[Any] = (await connection.execute(query)).all()
    more = len(rows) > size
    rows = rows[:size]
    token = pages.encode(rows[-1].started_at_ms, rows[-1].call_id) if more else ""
    return pb.ListSpendResponse(spend=[_spend(row) for row in rows], next_page_token=token)


def _number(token: str) -> ColumnElement[int]:
    if not (token.isascii() and token.isdigit() and len(token) <= 18):
        raise InvalidArgument("page_token", "is not one of ours")
    return literal(int(token), spend.c.started_at_ms.type)


def _spend(row: Any) -> Spend:
    priced = bool(row.currency)
    return Spend(
        call_id=row.call_id,
        account_id=row.account_id,
        api_key_id=row.api_key_id,
        provider=row.provider,
        requested_model=row.requested_model,
        model=row.model,
        operation=row.operation,
        started_at_ms=row.started_at_ms,
        duration_ms=row.duration_ms,
        first_token_ms=row.first_token_ms,
        code=row.code,
        usage=chat_pb2.Usage(
            prompt_tokens=row.prompt_tokens,
            cached_tokens=row.cached_tokens,
            completion_tokens=row.completion_tokens,
            counted=row.counted,
            cost=amount_text(from_pico(row.cost_pico)) if priced else "",
            currency=row.currency,
        ),
        cached=row.cached,
    )
