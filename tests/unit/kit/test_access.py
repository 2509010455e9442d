"""What a caller may touch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from frontdesk.kit.access import allowed_organization, check_operator, check_owner
from frontdesk.kit.errors import InvalidArgument, NotFound, PermissionDenied
from frontdesk.kit.principal import Principal, current_principal


@pytest.fixture
def manager() -> Iterator[None]:
    """The caller is a manager of `mine`."""
    token = current_principal.set(Principal("m", "mine", "manager"))
    yield
    current_principal.reset(token)


@pytest.mark.usefixtures("manager")
def test_a_caller_gets_its_own_organization() -> None:
    """Named or not, a caller's organization is its own."""
    assert allowed_organization("", need="viewer") == "mine"
    assert allowed_organization("mine", need="manager") == "mine"


@pytest.mark.usefixtures("manager")
def test_another_organization_is_refused() -> None:
    """Nobody acts in an organization that is not theirs."""
    with pytest.raises(PermissionDenied, match="not yours"):
        allowed_organization("theirs", need="viewer")


@pytest.mark.usefixtures("manager")
def test_a_role_below_the_need_is_refused() -> None:
    """A manager is no admin."""
    with pytest.raises(PermissionDenied, match="admin"):
        allowed_organization("mine", need="admin")


@pytest.mark.usefixtures("manager")
@pytest.mark.parametrize("need", ["viewer", "owner"])
def test_another_organizations_thing_does_not_exist(need: str) -> None:
    """Whether a thing of others exists is told to nobody, whatever their role; a role that is too low is told
    of one's own."""
    with pytest.raises(NotFound) as theirs:
        check_owner("theirs", need=need, what="rule")
    with pytest.raises(NotFound) as nobodys:
        check_owner(None, need=need, what="rule")
    assert (theirs.value.message, theirs.value.facts) == (nobodys.value.message, nobodys.value.facts)
    assert check_owner("mine", need="manager", what="rule") == "mine"
    with pytest.raises(PermissionDenied):
        check_owner("mine", need="owner", what="rule")


def test_a_service_names_the_organization() -> None:
    """Inside the fleet the organization comes with the call."""
    assert allowed_organization("any", need="owner") == "any"
    with pytest.raises(InvalidArgument) as refused:
        allowed_organization("", need="viewer")
    assert refused.value.field == "organization_id"


@pytest.mark.usefixtures("manager")
def test_another_organization_does_not_operate() -> None:
    """Whoever is not of the operator's organization is refused without a word on roles."""
    with pytest.raises(PermissionDenied, match="operator"):
        check_operator("ops", need="viewer")
    with pytest.raises(PermissionDenied, match="admin"):
        check_operator("mine", need="admin")
    check_operator("mine", need="manager")


def test_the_fleet_itself_operates() -> None:
    """A call for nobody but a service comes through; a caller of the installation itself needs the role."""
    check_operator("ops", need="owner")
    token = current_principal.set(Principal("root", "", "admin"))
    check_operator("ops", need="admin")
    with pytest.raises(PermissionDenied, match="owner"):
        check_operator("ops", need="owner")
    current_principal.reset(token)
