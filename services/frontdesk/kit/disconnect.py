"""Closing a connection to NATS for good.

nats-py's `close` cancels a reconnect that is under way, once, and does not look whether it ended. On Python
3.11 that request gets lost when it meets the end of a connection attempt (see `tasks`): of clients that are
closed while NATS is away a few in a hundred go on reconnecting for ever. Such a client comes back to a server
that nobody expects it at, and may hang the end of its event loop, which also asks only once.
"""

from __future__ import annotations

import asyncio

from nats.aio.client import Client

from frontdesk.kit import tasks

CLOSE_S = 2.0


async def disconnect(nc: Client, seconds: float = CLOSE_S) -> None:
    """Close `nc`, whatever the server does: what it does not take within `seconds` is dropped."""
    await _end_reconnect(nc)
    closing = asyncio.ensure_future(nc.close())
    try:
        await asyncio.wait((closing,), timeout=seconds)
    finally:
        if not closing.done():
            _abort(nc)
        await tasks.end([closing])
        await _end_reconnect(nc)
    # Cancelled: the reconnect that was ended above took what tells of the socket's end with it.
    if not closing.cancelled():
        closing.result()


async def _end_reconnect(nc: Client) -> None:
    while (task := nc._reconnection_task) is not None and not task.done():
        await tasks.end([task])


def _abort(nc: Client) -> None:
    """Drop what the socket still holds: closing it waits until the other side has read that."""
    writer = getattr(nc._transport, "_io_writer", None)
    if writer is not None:
        writer.transport.abort()
