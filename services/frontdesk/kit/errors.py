"""The one error root, and what each kind of error means to a caller.

FrontdeskError                 retryable=False, an unexpected fault
├── InvalidArgument            the caller's input is wrong; names the field
├── NotFound                   the thing named does not exist for this caller
├── AlreadyExists              the thing named exists already
├── FailedPrecondition         right input, wrong state
├── Unauthenticated            no credential, or one that does not verify
├── PermissionDenied           a credential that may not do this
├── ResourceExhausted          a limit is reached; retryable after a while
├── Unavailable                a dependency is away; retryable
│   └── DeadlineExceeded       it did not answer in time; retryable
└── Poison                     a message nobody will ever be able to handle

The kit maps a kind once: to a gRPC status (kit/rpc/status.py), to an HTTP status (kit/http.py) and to ack,
nak or DEAD (kit/bus/consumer.py). `facts` are plain values that may be shown to the caller and logged.
"""

from __future__ import annotations


class FrontdeskError(Exception):
    """Root of every error this product raises on purpose."""

    code = "INTERNAL"
    retryable = False

    def __init__(self, message: str, /, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class InvalidArgument(FrontdeskError):
    """The caller's input is wrong. `field` is the path of the field, e.g. `rule.keywords[2]`."""

    code = "INVALID_ARGUMENT"

    def __init__(self, field: str, problem: str, /, **facts: object) -> None:
        super().__init__(f"{field}: {problem}", field=field, **facts)
        self.field = field
        self.problem = problem


class NotFound(FrontdeskError):
    """The thing named does not exist for this caller."""

    code = "NOT_FOUND"


class AlreadyExists(FrontdeskError):
    """The thing named exists already."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(FrontdeskError):
    """The input is right but the state does not allow it; the message says what to do first."""

    code = "FAILED_PRECONDITION"


class Unauthenticated(FrontdeskError):
    """No credential, or one that does not verify."""

    code = "UNAUTHENTICATED"


class PermissionDenied(FrontdeskError):
    """A valid credential that may not do this."""

    code = "PERMISSION_DENIED"


class ResourceExhausted(FrontdeskError):
    """A limit is reached."""

    code = "RESOURCE_EXHAUSTED"
    retryable = True


class Unavailable(FrontdeskError):
    """A dependency is away; the same call may succeed later."""

    code = "UNAVAILABLE"
    retryable = True


class DeadlineExceeded(Unavailable):
    """A dependency did not answer in time; whether it acted is unknown."""

    code = "DEADLINE_EXCEEDED"


class Poison(FrontdeskError):
    """A message that can never be handled; it goes to DEAD with this reason."""

    code = "DATA_LOSS"
