"""PolicyService: how buyers are answered, by organization, account and item."""

from __future__ import annotations

from typing import Any

import grpc.aio
from sqlalchemy import delete, func, select, tuple_

from frontdesk.ai_proxy.answers.policy import (
    StoredPolicy,
    check_id,
    effective,
    effective_to_proto,
    policy_from_proto,
    policy_from_row,
    policy_to_body,
    policy_to_proto,
)
from frontdesk.ai_proxy.configuration import Configuration
from frontdesk.ai_proxy.tables import policies
from frontdesk.api.ai.v1 import policy_service_pb2 as pb
from frontdesk.api.ai.v1.policy_service_pb2_grpc import PolicyServiceServicer
from frontdesk.kit import pages
from frontdesk.kit.access import allowed_organization
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import InvalidArgument, NotFound
from frontdesk.kit.upserts import upsert

_KEY = (policies.c.organization_id, policies.c.account_id, policies.c.item_id)


class PolicyServicer(PolicyServiceServicer):
    """Policies of an organization, at most `limit`; a change counts from the next answer on."""

    def __init__(
        self, database: Database, configuration: Configuration[Any], clock: Clock, limit: int = 2_000
    ) -> None:
        self._database = database
        self._configuration = configuration
        self._clock = clock
        self._limit = limit

    async def SetPolicy(
        self, request: pb.SetPolicyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.SetPolicyResponse:
        organization_id = allowed_organization(request.policy.organization_id, need="manager")
        policy = policy_from_proto(request.policy, organization_id)
        key = (organization_id, policy.account_id, policy.item_id)
        async with self._configuration.change(organization_id) as connection:
            others = await connection.execute(
                select(func.count())
                .select_from(policies)
                .where(policies.c.organization_id == organization_id, tuple_(*_KEY) != key)
            )
            if others.scalar_one() >= self._limit:
                raise InvalidArgument("policy", f"an organization has at most {self._limit} policies")
            names = ("organization_id", "account_id", "item_id")
            row = dict(zip(names, key, strict=True)) | {
                "body": policy_to_body(policy),
                "updated_at_ms": self._clock.now_ms(),
            }
            await connection.execute(upsert(connection, policies, names, ("body", "updated_at_ms")), [row])
        return pb.SetPolicyResponse(policy=policy_to_proto(policy))

    async def GetPolicy(
        self, request: pb.GetPolicyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetPolicyResponse:
        organization_id = allowed_organization(request.organization_id, need="agent")
        account_id, item_id = _scope(request)
        wanted = [("", ""), (account_id, ""), (account_id, item_id)]
        async with self._database.read() as connection:
            rows = await connection.execute(
                select(policies).where(
                    policies.c.organization_id == organization_id,
                    tuple_(policies.c.account_id, policies.c.item_id).in_(wanted),
                )
            )
            found = {(row.account_id, row.item_id): policy_from_row(row) for row in rows}
        own = found.get((account_id, item_id), StoredPolicy(organization_id, account_id, item_id))
        holds = effective(found.values(), account_id, item_id)
        return pb.GetPolicyResponse(
            policy=policy_to_proto(own),
            effective=effective_to_proto(holds, organization_id, account_id, item_id),
        )

    async def ListPolicies(
        self, request: pb.ListPoliciesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListPoliciesResponse:
        organization_id = allowed_organization(request.organization_id, need="agent")
        size = pages.page_size(request.page_size, default=100, most=1000)
        after = pages.decode(request.page_token, 2)
        query = select(policies).where(policies.c.organization_id == organization_id)
        key = tuple_(policies.c.account_id, policies.c.item_id)
        if after:
            query = query.where(key > after)
        query = query.order_by(policies.c.account_id, policies.c.item_id).limit(size + 1)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        token = pages.encode(rows[size - 1].account_id, rows[size - 1].item_id) if len(rows) > size else ""
        found = [policy_to_proto(policy_from_row(row)) for row in rows[:size]]
        return pb.ListPoliciesResponse(policies=found, next_page_token=token)

    async def DeletePolicy(
        self, request: pb.DeletePolicyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DeletePolicyResponse:
        organization_id = allowed_organization(request.organization_id, need="manager")
        account_id, item_id = _scope(request)
        async with self._configuration.change(organization_id) as connection:
            gone = await connection.execute(
                delete(policies).where(tuple_(*_KEY) == (organization_id, account_id, item_id))
            )
            if not gone.rowcount:
                raise NotFound("no policy of this scope")
        return pb.DeletePolicyResponse()


def _scope(request: pb.GetPolicyRequest | pb.DeletePolicyRequest) -> tuple[str, str]:
    """Account and item of a request; InvalidArgument for an item without its account."""
    if request.account_id:
        check_id(request.account_id, "account_id")
    if request.item_id:
        check_id(request.item_id, "item_id")
        if not request.account_id:
            raise InvalidArgument("account_id", "is needed with an item")
    return request.account_id, request.item_id
