"""What templates may say beyond the message itself: the item's title and price, the account's name.

They are the gateway's. A decision never waits for them inside its transaction: it says what it lacks, they
are fetched, and the chat is decided again. What can't be found stays empty: an answer without a title is
better than no answer.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass

from frontdesk.kit.cache import ExpiringCache
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import FrontdeskError
from frontdesk.reply_engine.accounts import Accounts, GatewayPlatform
from frontdesk.reply_engine.rules.model import Reply, TextPart

log = logging.getLogger(__name__)

Place = tuple[str, str]  # account id, item id or empty

_NAMES = re.compile(r"\{[ ]*(?:item_title|item_price|account_name)[ ]*\}")


@dataclass(frozen=True, slots=True)
class Facts:
    """Empty where unknown."""

    item_title: str = ""
    item_price: str = ""
    account_name: str = ""


def wants_facts(reply: Reply) -> bool:
    """Whether a reply's templates name any of them."""
    return any(isinstance(part, TextPart) and _NAMES.search(part.text) for part in reply.parts)


class FactSource:
    """Facts by account and item, kept for `seconds`."""

    def __init__(
        self,
        accounts: Accounts,
        platform: GatewayPlatform,
        clock: Clock,
        *,
        limit: int = 10_000,
        seconds: float = 60.0,
        patience_s: float = 3.0,
    ) -> None:
        self._accounts = accounts
        self._platform = platform
        self._patience_s = patience_s
        self._cache: ExpiringCache[Facts] = ExpiringCache(limit, seconds, clock)

    def known(self, account_id: str, item_id: str) -> Facts | None:
        """What is at hand, without waiting."""
        return self._cache.get(_key(account_id, item_id))

    async def find(self, places: Iterable[Place]) -> dict[Place, Facts]:
        """Facts of all places, within `patience_s`; never raises for what the gateway does or does not."""
        wanted = sorted(set(places))
        found = await asyncio.gather(*(self._find(*place) for place in wanted))
        return dict(zip(wanted, found, strict=True))

    async def _find(self, account_id: str, item_id: str) -> Facts:
        if (known := self.known(account_id, item_id)) is not None:
            return known
        name = title = price = ""
        try:
            async with asyncio.timeout(self._patience_s):
                account = await self._accounts.get(account_id)
                name = account.name if account else ""
                if item_id:
                    item = await self._platform.item(account_id, item_id)
                    title, price = item.title, item.price
        except (FrontdeskError, TimeoutError) as error:
            log.warning("an answer goes without facts of account %s, item %s: %s", account_id, item_id, error)
        facts = Facts(title, price, name)
        self._cache.put(_key(account_id, item_id), facts)
        return facts


def _key(account_id: str, item_id: str) -> str:
    return f"{len(account_id)}/{account_id}/{item_id}"
