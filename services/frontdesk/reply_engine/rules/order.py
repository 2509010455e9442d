"""The order of the steps that may answer, set per account (X-10): account or item rules, global rules, AI,
default reply, nothing. A step that is left out does not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from frontdesk.kit.errors import InvalidArgument
from frontdesk.reply_engine.rules.model import Scope


class Step(StrEnum):
    """One place an answer may come from."""

    ACCOUNT = "account"  # rules of the item and of the account
    GLOBAL = "global"
    AI = "ai"
    DEFAULT = "default"


DEFAULT_CHAIN = (Step.ACCOUNT, Step.GLOBAL, Step.AI, Step.DEFAULT)

_SCOPES: dict[str, tuple[Scope, ...]] = {
    Step.ACCOUNT: (Scope.ITEM, Scope.ACCOUNT),
    Step.GLOBAL: (Scope.GLOBAL,),
}


def validate_chain(names: Sequence[str], field: str = "chain") -> tuple[Step, ...]:
    """The steps named, each at most once and at least one. InvalidArgument names e.g. `chain[2]`."""
    if not names:
        raise InvalidArgument(field, "names no step; turn the account's switch off to answer nothing")
    chain: list[Step] = []
    for position, name in enumerate(names):
        here = f"{field}[{position}]"
        if name not in set(Step):
            raise InvalidArgument(here, f"{name[:40]!r} is not one of {', '.join(Step)}")
        if name in chain:
            raise InvalidArgument(here, f"{name!r} is named twice")
        chain.append(Step(name))
    return tuple(chain)


def steps_after(chain: Sequence[str], asked: str | None = None) -> Sequence[str]:
    """The steps that follow `asked`: all for None, none when `asked` is not in the chain."""
    if asked is None:
        return chain
    return chain[chain.index(asked) + 1 :] if asked in chain else ()


def scopes_of(step: str) -> tuple[Scope, ...]:
    """The scopes whose rules a step asks, narrowest first; none for AI and default."""
    return _SCOPES.get(step, ())
