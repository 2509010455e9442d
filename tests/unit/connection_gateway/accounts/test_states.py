"""The arrows between the states of a session."""

from __future__ import annotations

from frontdesk.connection_gateway.accounts.states import ARROWS
from frontdesk.connection_gateway.model import STATE_NUMBERS, State

ALLOWED = {
    "disconnected": "connecting closed",
    "connecting": "connected reconnecting failed closed disconnected",
    "connected": "reconnecting failed closed disconnected",
    "reconnecting": "connecting failed closed disconnected",
    "failed": "connecting closed",
    "closed": "connecting",
}


def test_every_state_has_its_arrows() -> None:
    """CG-05 to CG-09, X-04: the whole table; nothing leads out of FAILED but a restart, or a stop."""
    drawn = {state.value: {target.value for target in targets} for state, targets in ARROWS.items()}
    assert drawn == {state: set(targets.split()) for state, targets in ALLOWED.items()}


def test_every_state_has_its_number() -> None:
    """Each state is told to others by a number of its own."""
    assert set(STATE_NUMBERS) == set(State)
    assert len(set(STATE_NUMBERS.values())) == len(State)
