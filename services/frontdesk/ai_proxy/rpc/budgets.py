"""BudgetService: what an organization, account, API key or model may use."""

from __future__ import annotations

from typing import Any

import grpc.aio
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.budget_alerts import BudgetAlerts
from frontdesk.ai_proxy.budgets import current_standings
from frontdesk.ai_proxy.configuration import Configuration
from frontdesk.ai_proxy.ledger import BudgetDefinition, Standing
from frontdesk.ai_proxy.model import new_id
from frontdesk.ai_proxy.periods import period_start
from frontdesk.ai_proxy.stored_budgets import (
    budget_from_proto,
    budget_to_proto,
    check_name,
    definition_to_row,
    lock_standings,
    save_standings,
    standing_from_row,
)
from frontdesk.ai_proxy.tables import budgets, reservations
from frontdesk.api.ai.v1 import budget_service_pb2 as pb
from frontdesk.api.ai.v1.budget_service_pb2_grpc import BudgetServiceServicer
from frontdesk.kit.access import allowed_organization, check_owner
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted

_FIXED = ("scope", "subject", "currency")


class BudgetServicer(BudgetServiceServicer):
    """Changes take effect at once here, and within a second on every replica."""

    def __init__(
        self,
        database: Database,
        configuration: Configuration[Any],
        alerts: BudgetAlerts,
        clock: Clock,
        most: int = 1_000,
    ) -> None:
        self._most = most
        self._database = database
        self._configuration = configuration
        self._alerts = alerts
        self._clock = clock

    async def CreateBudget(
        self, request: pb.CreateBudgetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CreateBudgetResponse:
        organization_id = allowed_organization(request.budget.organization_id, need="manager")
        if request.request_id:
            check_name(request.request_id, "request_id")
        if request.budget.budget_id:
            raise InvalidArgument("budget.budget_id", "must be empty; UpdateBudget is for one that exists")
        now = self._clock.now_ms()
        budget = budget_from_proto(request.budget, organization_id, new_id(now), "budget.")
        standing = Standing(budget, period_start(budget.period, budget.time_zone, now))
        async with self._configuration.change(organization_id) as connection:
            before = await _of_request(connection, organization_id, request.request_id)
            if before is not None:
                return pb.CreateBudgetResponse(budget=budget_to_proto(before))
            await _check_room(connection, organization_id, self._most)
            await _check_free(connection, budget)
            row = definition_to_row(budget)
            row["request_id"] = request.request_id or None
            row["period_start_ms"] = standing.period_start_ms
            await connection.execute(insert(budgets), [row])
        return pb.CreateBudgetResponse(budget=budget_to_proto(standing))

    async def GetBudget(
        self, request: pb.GetBudgetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetBudgetResponse:
        organization_id = await self._owner(request.budget_id, "budget_id", need="viewer")
        for standing in await self._standings(organization_id):
            if standing.budget.budget_id == request.budget_id:
                return pb.GetBudgetResponse(budget=budget_to_proto(standing))
        raise NotFound("no such budget")

    async def ListBudgets(
        self, request: pb.ListBudgetsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListBudgetsResponse:
        organization_id = allowed_organization(request.organization_id, need="viewer")
        found = await self._standings(organization_id)
        return pb.ListBudgetsResponse(budgets=[budget_to_proto(standing) for standing in found])

    async def UpdateBudget(
        self, request: pb.UpdateBudgetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UpdateBudgetResponse:
        budget_id = request.budget.budget_id
        organization_id = await self._owner(budget_id, "budget.budget_id", need="manager")
        if request.budget.organization_id not in ("", organization_id):
            raise InvalidArgument("budget.organization_id", "must be as it is")
        budget = budget_from_proto(request.budget, organization_id, budget_id, "budget.")
        now = self._clock.now_ms()
        async with self._configuration.change(organization_id) as connection:
            standing = (await lock_standings(connection, (budget_id,), now)).get(budget_id)
            if standing is None:
                raise NotFound("no such budget")
            for name in _FIXED:
                if getattr(budget, name) != getattr(standing.budget, name):
                    raise InvalidArgument(f"budget.{name}", "must be as it is; make another budget")
            await _check_free(connection, budget)
            await _replace(connection, standing, budget, now)
        return pb.UpdateBudgetResponse(budget=budget_to_proto(standing))

    async def DeleteBudget(
        self, request: pb.DeleteBudgetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DeleteBudgetResponse:
        budget_id = request.budget_id
        organization_id = await self._owner(budget_id, "budget_id", need="manager")
        async with self._configuration.change(organization_id) as connection:
            await lock_standings(connection, (budget_id,), self._clock.now_ms())
            await connection.execute(delete(reservations).where(reservations.c.budget_id == budget_id))
            await connection.execute(delete(budgets).where(budgets.c.budget_id == budget_id))
        return pb.DeleteBudgetResponse()

    async def _standings(self, organization_id: str) -> list[Standing]:
        return await current_standings(self._database, self._alerts, organization_id, self._clock.now_ms())

    async def _owner(self, budget_id: str, field: str, *, need: str) -> str:
        """The organization of a budget that the caller may touch."""
        check_name(budget_id, field)
        query = select(budgets.c.organization_id).where(budgets.c.budget_id == budget_id)
        async with self._database.read() as connection:
            found = (await connection.execute(query)).scalar()
        return check_owner(found, need=need, what="budget")


async def _replace(
    connection: AsyncConnection, standing: Standing, budget: BudgetDefinition, now_ms: int
) -> None:
    """What was used stays: it counts in the period that the new rule says is now."""
    before, standing.budget = standing.budget, budget
    start = period_start(budget.period, budget.time_zone, now_ms)
    if (before.period, before.time_zone) != (budget.period, budget.time_zone):
        await connection.execute(
            update(reservations)
            .where(
                reservations.c.budget_id == budget.budget_id,
                reservations.c.period_start_ms == standing.period_start_ms,
            )
            .values(period_start_ms=start)
        )
        standing.period_start_ms = start
    if before.limit != budget.limit:
        standing.rearm()
    await connection.execute(
        update(budgets).where(budgets.c.budget_id == budget.budget_id).values(**definition_to_row(budget))
    )
    await save_standings(connection, (standing,))


async def _of_request(connection: AsyncConnection, organization_id: str, request_id: str) -> Standing | None:
    """What the same request made before."""
    if not request_id:
        return None
    query = select(budgets).where(
        budgets.c.organization_id == organization_id, budgets.c.request_id == request_id
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else standing_from_row(row)


async def _check_room(connection: AsyncConnection, organization_id: str, most: int) -> None:
    query = select(func.count()).where(budgets.c.organization_id == organization_id)
    if (await connection.execute(query)).scalar_one() >= most:
        raise ResourceExhausted(f"an organization has at most {most} budgets")


async def _check_free(connection: AsyncConnection, budget: BudgetDefinition) -> None:
    """One budget of a scope, subject, currency and period."""
    query = select(budgets.c.budget_id).where(
        budgets.c.organization_id == budget.organization_id,
        budgets.c.scope == budget.scope,
        budgets.c.subject == budget.subject,
        budgets.c.currency == budget.currency,
        budgets.c.period == budget.period,
        budgets.c.budget_id != budget.budget_id,
    )
    if (other := (await connection.execute(query)).scalar()) is not None:
        raise AlreadyExists("there is a budget of this scope, subject, currency and period", budget_id=other)
