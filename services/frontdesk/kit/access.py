"""What a caller may touch: its own organization, with the role that the call needs."""

from __future__ import annotations

from frontdesk.kit.errors import InvalidArgument, NotFound, PermissionDenied
from frontdesk.kit.principal import current_principal

ROLES = ("viewer", "agent", "manager", "admin", "owner")
OPERATING_KINDS = ("user", "api_key", "service")


def allowed_organization(requested: str, *, need: str) -> str:
    """The organization that a call is about.

    A caller from outside gets its own, whether it names it or not; a service of the fleet must name one.
    Raises PermissionDenied for another organization or a role below `need`, InvalidArgument when none is
    named.
    """
    principal = current_principal.get()
    if principal is None or principal.kind == "service":
        if not requested:
            raise InvalidArgument("organization_id", "is needed")
        return requested
    if principal.role not in ROLES or ROLES.index(principal.role) < ROLES.index(need):
        raise PermissionDenied(f"this needs the role {need}; yours is {principal.role or 'none'}")
    if requested and principal.organization_id and requested != principal.organization_id:
        raise PermissionDenied("that organization is not yours")
    return principal.organization_id or requested or _none_named()


def has_role(need: str) -> bool:
    """Whether the caller has the role `need` at least; a service of the fleet has every role."""
    principal = current_principal.get()
    if principal is None or principal.kind == "service":
        return True
    return principal.role in ROLES and ROLES.index(principal.role) >= ROLES.index(need)


def check_operator(operator_organization: str, *, need: str) -> None:
    """Let through who operates the installation; raises PermissionDenied.

    That is a caller from outside whose organization is the operator's, with the role `need` at least, and a
    service of the fleet that calls for nobody but itself. A token of kind `service` from outside has an
    organization and a role as any other.
    """
    principal = current_principal.get()
    if principal is None:
        return
    ours = principal.organization_id in ("", operator_organization)
    if not ours or principal.kind not in OPERATING_KINDS:
        raise PermissionDenied("this is for the operator of the installation")
    if principal.role not in ROLES or ROLES.index(principal.role) < ROLES.index(need):
        raise PermissionDenied(f"this needs the role {need}; yours is {principal.role or 'none'}")


def check_owner(organization_id: str | None, *, need: str, what: str) -> str:
    """The organization of a thing that was found, if the caller may touch it.

    Another organization's thing does not exist for the caller, whatever its role: NotFound, as for a thing
    that is not there. Raises PermissionDenied for a role below `need`.
    """
    principal = current_principal.get()
    own = "" if principal is None or principal.kind == "service" else principal.organization_id
    if organization_id is None or own not in ("", organization_id):
        raise NotFound(f"no such {what}")
    return allowed_organization(organization_id, need=need)


def _none_named() -> str:
    raise InvalidArgument("organization_id", "is needed")
