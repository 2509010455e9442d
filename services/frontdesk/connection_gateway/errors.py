"""What can go wrong inside the gateway, beside the kit's errors and the platforms'."""

from __future__ import annotations

from frontdesk.connection_gateway.model import SendState
from frontdesk.kit.errors import FrontdeskError, Unavailable


class NotOwned(Unavailable):
    """This replica does not hold the account's shard just now; its owner answers in a moment."""

    def __init__(self) -> None:
        super().__init__("the account is moving to another replica; try again")


class IllegalTransition(FrontdeskError):
    """A session was told to go where no arrow leads: a fault of the program."""


class AccountGone(FrontdeskError):
    """Nothing can be said for this account any more; `outcome` is what becomes of what waits."""

    def __init__(self, outcome: SendState, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason
