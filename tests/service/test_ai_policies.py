"""PolicyService on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import grpc.aio
import pytest

from frontdesk.ai_proxy import migrations
from frontdesk.ai_proxy.answers.policy import StoredPolicy, effective, load_policies
from frontdesk.ai_proxy.configuration import Configuration
from frontdesk.ai_proxy.rpc.policies import PolicyServicer
from frontdesk.api.ai.v1 import policy_service_pb2 as pb
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.errors import InvalidArgument, NotFound, PermissionDenied
from frontdesk.kit.migrations import migrate
from frontdesk.kit.principal import Principal, current_principal

CONTEXT = cast(grpc.aio.ServicerContext[Any, Any], None)  # the servicer asks nothing of it


@contextmanager
def caller(role: str, organization_id: str = "o1") -> Iterator[None]:
    """Whoever calls inside has this role."""
    token = current_principal.set(Principal("p", organization_id, role))
    yield
    current_principal.reset(token)


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database with ai-proxy's tables."""
    url = f"sqlite:///{tmp_path}/ai.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    database = Database(DatabaseOptions(url, schema="ai_proxy"))
    await migrate(database, Path(str(migrations.__file__)).parent / "versions")
    yield database
    await database.close()


def servicer(database: Database, limit: int = 100) -> PolicyServicer:
    """One that nobody else reads after."""
    clock = ManualClock()
    return PolicyServicer(database, Configuration(database, load_policies, clock), clock, limit)


def policy(account_id: str = "", item_id: str = "", **said: Any) -> pb.SetPolicyRequest:
    """A request of SetPolicy."""
    return pb.SetPolicyRequest(policy=pb.Policy(account_id=account_id, item_id=item_id, **said))


async def test_policies_are_set_read_listed_and_deleted(database: Database) -> None:
    """A manager writes, an agent reads; what is set again is replaced, what is deleted says nothing."""
    service = servicer(database)
    with caller("manager"):
        await service.SetPolicy(policy(max_rounds=3, persona="shop"), CONTEXT)
        await service.SetPolicy(policy("a1", persona="account"), CONTEXT)
        await service.SetPolicy(
            policy("a1", "i1", max_rounds=9, blocked_words=pb.Words(words=["x"])), CONTEXT
        )
        again = await service.SetPolicy(policy("a1", "i1", max_rounds=0, blocked_words=pb.Words()), CONTEXT)
        assert again.policy.organization_id == "o1"
    with caller("agent"):
        got = await service.GetPolicy(pb.GetPolicyRequest(account_id="a1", item_id="i1"), CONTEXT)
        assert got.policy == again.policy
        assert not got.policy.HasField("persona")
        assert (got.effective.persona, got.effective.max_rounds) == ("account", 0)
        nothing = await service.GetPolicy(pb.GetPolicyRequest(account_id="a2"), CONTEXT)
        assert nothing.policy == pb.Policy(organization_id="o1", account_id="a2")
        assert nothing.effective.persona == "shop"
        first = await service.ListPolicies(pb.ListPoliciesRequest(page_size=2), CONTEXT)
        rest = await service.ListPolicies(
            pb.ListPoliciesRequest(page_size=2, page_token=first.next_page_token), CONTEXT
        )
        listed = [(one.account_id, one.item_id) for one in (*first.policies, *rest.policies)]
        assert listed == [("", ""), ("a1", ""), ("a1", "i1")]
        assert not rest.next_page_token
    with caller("manager"):
        await service.DeletePolicy(pb.DeletePolicyRequest(account_id="a1"), CONTEXT)
        got = await service.GetPolicy(pb.GetPolicyRequest(account_id="a1", item_id="i1"), CONTEXT)
        assert got.effective.persona == "shop"
        with pytest.raises(NotFound):
            await service.DeletePolicy(pb.DeletePolicyRequest(account_id="a1"), CONTEXT)


async def test_roles_organizations_and_limits(database: Database) -> None:
    """An agent may not write, nobody reads another organization's, and there are only so many."""
    service = servicer(database, limit=2)
    with caller("agent"), pytest.raises(PermissionDenied):
        await service.SetPolicy(policy(), CONTEXT)
    with caller("agent"), pytest.raises(PermissionDenied):
        await service.DeletePolicy(pb.DeletePolicyRequest(), CONTEXT)
    with caller("viewer"), pytest.raises(PermissionDenied):
        await service.ListPolicies(pb.ListPoliciesRequest(), CONTEXT)
    with caller("manager"):
        await service.SetPolicy(policy(persona="mine"), CONTEXT)
        await service.SetPolicy(policy("a1"), CONTEXT)
        await service.SetPolicy(policy("a1", persona="again"), CONTEXT)
        with pytest.raises(InvalidArgument, match="at most 2"):
            await service.SetPolicy(policy("a2"), CONTEXT)
        with pytest.raises(InvalidArgument, match="account_id"):
            await service.GetPolicy(pb.GetPolicyRequest(item_id="i1"), CONTEXT)
    with caller("manager", "o2"):
        await service.SetPolicy(policy(persona="theirs"), CONTEXT)
        assert len((await service.ListPolicies(pb.ListPoliciesRequest(), CONTEXT)).policies) == 1
        with pytest.raises(PermissionDenied):
            await service.GetPolicy(pb.GetPolicyRequest(organization_id="o1"), CONTEXT)


async def test_a_change_counts_from_the_next_answer(database: Database) -> None:
    """The cached configuration is read anew after a change, and a refused one changes nothing."""
    clock = ManualClock()
    configuration: Configuration[tuple[StoredPolicy, ...]] = Configuration(database, load_policies, clock)
    service = PolicyServicer(database, configuration, clock)
    assert await configuration.get("o1") == ()
    with caller("manager"):
        await service.SetPolicy(policy(floor_price="12.50", blocked_words=pb.Words(words=["x"])), CONTEXT)
        with pytest.raises(InvalidArgument):
            await service.SetPolicy(policy(floor_price="-1"), CONTEXT)
    holds = effective(await configuration.get("o1"), "a1", "i1")
    assert (str(holds.floor_price), holds.blocked_words) == ("12.50", ("x",))
    with caller("manager"):
        await service.DeletePolicy(pb.DeletePolicyRequest(), CONTEXT)
    assert await configuration.get("o1") == ()
    await configuration.close()


async def test_setting_and_deleting_never_wait_for_each_other(database: Database) -> None:
    """Both take the organization first and then the policy: none is ended as a deadlock."""
    service = servicer(database)

    async def gone() -> None:
        with suppress(NotFound):
            await service.DeletePolicy(pb.DeletePolicyRequest(account_id="a1"), CONTEXT)

    with caller("manager"):
        for _ in range(15):
            await service.SetPolicy(policy("a1", persona="x"), CONTEXT)
            await asyncio.gather(
                gone(), service.SetPolicy(policy("a1", persona="y"), CONTEXT), gone(), gone()
            )
