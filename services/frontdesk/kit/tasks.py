"""Ending tasks for sure.

`task.cancel()` asks once, and the request can get lost: on Python 3.11 `asyncio.wait_for` returns the result
when it arrives in the same step as the cancellation, and libraries (nats-py's requests) are built on it. A
loop that lives through its cancellation runs for ever, and whoever waits for its end hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


async def end(tasks: Iterable[asyncio.Future[Any]], again_s: float = 1.0) -> None:
    """Cancel tasks until each is done, asking again every `again_s` seconds; raises none of their errors."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=again_s)
