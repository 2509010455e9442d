"""What an organization set up: its providers, budgets and policies, read together under one version."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.answers.policy import StoredPolicy, load_policies
from frontdesk.ai_proxy.ledger import BudgetDefinition
from frontdesk.ai_proxy.model import Provider
from frontdesk.ai_proxy.stored_budgets import load_budgets
from frontdesk.ai_proxy.stored_providers import LimitDefaults, load_providers
from frontdesk.kit.secrets import SecretBox


@dataclass(frozen=True, slots=True)
class Shop:
    """Of one organization."""

    providers: tuple[Provider, ...] = ()
    budgets: tuple[BudgetDefinition, ...] = ()
    policies: tuple[StoredPolicy, ...] = ()


def shop_loader(
    secrets: SecretBox, defaults: LimitDefaults
) -> Callable[[AsyncConnection, str], Awaitable[Shop]]:
    """Reads a Shop in the caller's transaction."""

    async def load(connection: AsyncConnection, organization_id: str) -> Shop:
        return Shop(
            providers=await load_providers(connection, organization_id, secrets, defaults),
            budgets=await load_budgets(connection, organization_id),
            policies=await load_policies(connection, organization_id),
        )

    return load
