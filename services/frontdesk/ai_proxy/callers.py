"""Who a call is made for, from whoever proved to be calling."""

from __future__ import annotations

from frontdesk.ai_proxy.model import Caller
from frontdesk.kit.access import allowed_organization
from frontdesk.kit.errors import InvalidArgument
from frontdesk.kit.principal import current_principal

MAX_ID = 128


def caller_of(organization_id: str, account_id: str, operation: str) -> Caller:
    """The caller of now, for an organization that it may act for; raises PermissionDenied, InvalidArgument.

    An API key is named by its token's subject, and so is a person: budgets may be set for either.
    """
    organization_id = allowed_organization(organization_id, need="agent")
    if len(account_id) > MAX_ID or not account_id.isprintable():
        raise InvalidArgument("account_id", f"must be at most {MAX_ID} printable characters")
    return Caller(
        organization_id=organization_id,
        account_id=account_id,
        api_key_id=api_key_id(),
        operation=operation,
    )


def api_key_id() -> str:
    """The key or person that calls now, empty for a service."""
    principal = current_principal.get()
    if principal is None or principal.kind not in ("user", "api_key"):
        return ""
    return principal.subject[:MAX_ID]
