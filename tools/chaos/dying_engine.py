"""The reply-engine, made to die at one step of its work: `dying_engine.py <step> <nth time>`.

The process ends as `kill -9` does, at the n-th time it comes to the step; started again without a number of
times it lives. Product code knows nothing of this.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from frontdesk import fleet
from frontdesk.kit.bus.consumer import Consumer, Delivery
from frontdesk.kit.config import environment
from frontdesk.kit.database import Database
from frontdesk.reply_engine.engine import Engine
from frontdesk.reply_engine.outbox import Outbox

STEPS = (
    "before a commit",
    "after a commit",
    "before the outbox publishes",
    "after the outbox published",
    "before an acknowledgement",
    "while a report is stored",
)


class Death:
    """Counts down to the end of the process."""

    def __init__(self, times: int) -> None:
        self._left = times

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _around(owner: Any, name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def wrapped(*args: Any, **keywords: Any) -> Any:
        before()
        result = await original(*args, **keywords)
        after()
        return result

    setattr(owner, name, wrapped)


def arm(step: str, death: Death) -> None:
    """Put the end of the process at a step."""

    def nothing() -> None:
        return

    if step in ("before a commit", "after a commit"):
        write = Database.write

        @asynccontextmanager
        async def deadly(self: Database) -> Any:
            async with write(self) as connection:
                yield connection
                if step == "before a commit":
                    death()
            if step == "after a commit":
                death()

        Database.write = deadly  # type: ignore[method-assign]
    elif step == "before the outbox publishes":
        _around(Outbox, "publish", death, nothing)
    elif step == "after the outbox published":
        _around(Outbox, "publish", nothing, death)
    elif step == "before an acknowledgement":
        answer_all = Consumer._answer_all

        def die_first(self: Consumer, batch: Sequence[Delivery], answer: bytes) -> None:
            death()
            answer_all(self, batch, answer)

        Consumer._answer_all = die_first  # type: ignore[method-assign]
    else:
        _around(Engine, "on_reports", nothing, death)


def main() -> int:
    """Run the engine until it dies or is told to stop."""
    step, times = sys.argv[1], int(sys.argv[2])
    if step not in STEPS:
        raise SystemExit(f"no step {step!r}; there are {STEPS}")
    arm(step, Death(times))
    return fleet.run_service("reply-engine", environment())


if __name__ == "__main__":
    raise SystemExit(main())
