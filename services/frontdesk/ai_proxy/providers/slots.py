"""The slots of the pool, shared out among organizations: none holds more than its share, and a slot that gets
free goes to who holds the fewest, so that a crowd of one waits behind its own calls only."""

from __future__ import annotations

import asyncio


class Slots:
    """`most` slots, of which an organization holds at most `share`.

    Who neither holds one nor waits is forgotten.
    """

    def __init__(self, most: int, share: int) -> None:
        self._free = most
        self._share = share
        self._held: dict[str, int] = {}
        # Waiters by organization, the longest first; the organization that was served last is the last.
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}

    def has_share(self, organization_id: str) -> bool:
        """Whether the organization holds as many as it may."""
        return self._held_by(organization_id) >= self._share

    async def take(self, organization_id: str, within_s: float) -> None:
        """Take a slot; raises TimeoutError when there is none for `within_s` seconds."""
        # While a slot is free, all who wait have their share.
        if self._free and not self.has_share(organization_id):
            self._grant(organization_id)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(organization_id, {})[waiter] = None
        try:
            async with asyncio.timeout(within_s):
                await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                # It came as who waited for it left.
                self.give_back(organization_id)
            else:
                self._forget(organization_id, waiter)
            raise

    def give_back(self, organization_id: str) -> None:
        """The slot is free, or goes to who is next."""
        self._free += 1
        self._held[organization_id] -= 1
        if not self._held[organization_id]:
            del self._held[organization_id]
        while self._free and self._waiting:
            following = min(self._waiting, key=self._held_by)
            if self.has_share(following):
                return
            waiters = self._waiting.pop(following)
            waiter = next(iter(waiters))
            del waiters[waiter]
            if waiters:
                self._waiting[following] = waiters
            if not waiter.done():
                self._grant(following)
                waiter.set_result(None)

    def _held_by(self, organization_id: str) -> int:
        return self._held.get(organization_id, 0)

    def _grant(self, organization_id: str) -> None:
        self._free -= 1
        self._held[organization_id] = self._held_by(organization_id) + 1

    def _forget(self, organization_id: str, waiter: asyncio.Future[None]) -> None:
        waiters = self._waiting.get(organization_id, {})
        waiters.pop(waiter, None)
        if not waiters:
            self._waiting.pop(organization_id, None)
