"""Who a call is made for.

A door (gRPC, REST) proves who calls and sets `current_principal`; code below reads it. Between services it
travels with each call and is trusted there, because only services hold NATS credentials.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Principal:
    """A proven caller.

    `subject` is the id of the user, key or device; `organization_id` is empty for a caller of the
    installation itself; `role` is what it may do (e.g. `owner`, `agent`, `viewer`); `kind` is how it was
    proven (`user`, `api_key`, `device`, `service`). `valid_until_ms` is when the proof ends, Unix
    milliseconds, for doors that stay open; None when it was not told, as on calls between services.
    """

    subject: str
    organization_id: str = ""
    role: str = ""
    kind: str = "user"
    valid_until_ms: int | None = field(default=None, compare=False)


current_principal: ContextVar[Principal | None] = ContextVar("frontdesk_principal", default=None)
