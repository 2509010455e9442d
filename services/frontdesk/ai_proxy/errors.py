"""What can go wrong with a provider, each kind with what to do about it.

UpstreamError (one of the kinds below; facts: provider, model, status)
├── UpstreamUnavailable     it is away, overloaded or broke off: again, then elsewhere
│   └── UpstreamTimeout     it did not say anything in time: elsewhere
│       └── UpstreamUnreached   there was no connection in time: it never had the question
├── UpstreamLimited         it refuses for a while (429): after `retry_after_s`, or elsewhere
├── UpstreamMisconfigured   key, address or model are wrong (401, 403, 404, HTML): elsewhere, and a person
└── UpstreamRefused         it says that the question is wrong (400, 413, 422): nowhere else

BudgetExceeded              a budget is used up; facts: budget_id, scope
BrokenOff                   an answer ended after it had begun; holds what was said
"""

from __future__ import annotations

from frontdesk.ai_proxy.model import Usage
from frontdesk.kit.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    FrontdeskError,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)


class UpstreamError(FrontdeskError):
    """A provider failed. `again`: the same provider may succeed; `elsewhere`: another one may; `left`: it was
    left with the question, which it may charge for.

    `detail` is what the provider itself said, cut short: for adapters to learn from, never for callers or
    logs, as it may hold what was asked.
    """

    again = False
    elsewhere = False
    left = False
    detail = ""


class UpstreamUnavailable(UpstreamError, Unavailable):
    """The provider is away, overloaded, or broke off."""

    again = True
    elsewhere = True


class UpstreamTimeout(UpstreamUnavailable, DeadlineExceeded):
    """The provider was silent for too long."""

    again = False
    left = True
    code = DeadlineExceeded.code


class UpstreamUnreached(UpstreamTimeout):
    """There was no connection to the provider in time."""

    left = False


class UpstreamLimited(UpstreamError, ResourceExhausted):
    """The provider refuses for a while; `retry_after_s` among the facts when it said how long."""

    again = True
    elsewhere = True

    @property
    def retry_after_s(self) -> float | None:
        """Seconds to wait, if the provider said so."""
        wait = self.facts.get("retry_after_s")
        return float(wait) if isinstance(wait, int | float) else None


class UpstreamMisconfigured(UpstreamError, FailedPrecondition):
    """Key, address or model of the provider are wrong: a person has to mend it."""

    elsewhere = True


class UpstreamRefused(UpstreamError, InvalidArgument):
    """The provider says that the question itself is wrong."""

    def __init__(self, problem: str, /, **facts: object) -> None:
        InvalidArgument.__init__(self, "prompt", problem, **facts)


class BudgetExceeded(ResourceExhausted):
    """A budget is used up: nothing was asked. Trying again helps when its next period begins."""

    retryable = False


class BrokenOff(Unavailable):
    """An answer ended after it had begun: `cause` ended it, `text` was said, `usage` was used."""

    def __init__(self, cause: FrontdeskError, text: str, usage: Usage) -> None:
        super().__init__(cause.message, **cause.facts)
        self.code = cause.code
        self.retryable = cause.retryable
        self.text = text
        self.usage = usage
