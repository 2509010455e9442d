"""What an answer may say beyond the message itself: the item's title and price, the account's name; and what
the AI is told of the item.

They are the gateway's. A decision never waits for them inside its transaction: it says what it lacks, they
are fetched, and the chat is decided again. What can't be found stays empty: an answer without a title is
better than no answer.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from frontdesk.api.accounts.v1.platform_service_pb2 import GetItemResponse
from frontdesk.kit.cache import ExpiringCache
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import FrontdeskError
from frontdesk.kit.tasks import background
from frontdesk.reply_engine.accounts import Accounts, GatewayPlatform
from frontdesk.reply_engine.rules.model import Reply, TextPart

log = logging.getLogger(__name__)

Place = tuple[str, str]  # account id, item id or empty

# A seller's description is a few thousand characters at most; the cache holds thousands of them.
DESCRIPTION_LENGTH = 5_000
MAX_SKUS = 50

_NAMES = re.compile(r"\{[ ]*(?:item_title|item_price|account_name)[ ]*\}")


@dataclass(frozen=True, slots=True)
class Facts:
    """Empty where unknown."""

    item_title: str = ""
    item_price: str = ""
    account_name: str = ""
    # What the seller wrote, and a line for each variant.
    item_description: str = ""


def wants_facts(reply: Reply) -> bool:
    """Whether a reply's templates name any of them."""
    return any(isinstance(part, TextPart) and _NAMES.search(part.text) for part in reply.parts)


class FactSource:
    """Facts by account and item, kept for `seconds`; that they could not be had, for `missing_seconds`."""

    def __init__(
        self,
        accounts: Accounts,
        platform: GatewayPlatform,
        clock: Clock,
        *,
        limit: int = 10_000,
        seconds: float = 60.0,
        missing_seconds: float = 10.0,
        patience_s: float = 3.0,
    ) -> None:
        self._accounts = accounts
        self._platform = platform
        self._patience_s = patience_s
        self._cache: ExpiringCache[Facts] = ExpiringCache(limit, seconds, clock)
        self._missing: ExpiringCache[Facts] = ExpiringCache(limit, missing_seconds, clock)
        self._coming: dict[str, asyncio.Task[Facts]] = {}

    def known(self, account_id: str, item_id: str) -> Facts | None:
        """What is at hand, without waiting."""
        key = _key(account_id, item_id)
        return self._cache.get(key) or self._missing.get(key)

    async def find(self, places: Iterable[Place]) -> dict[Place, Facts]:
        """Facts of all places, within `patience_s`; never raises for what the gateway does or does not."""
        wanted = sorted(set(places))
        found = await asyncio.gather(*(self._find(*place) for place in wanted))
        return dict(zip(wanted, found, strict=True))

    async def _find(self, account_id: str, item_id: str) -> Facts:
        if (known := self.known(account_id, item_id)) is not None:
            return known
        # Whoever asks for the same waits for the same call, and giving up ends nobody else's.
        key = _key(account_id, item_id)
        coming = self._coming.get(key)
        if coming is None:
            coming = self._coming[key] = background(self._fetch(account_id, item_id))
            coming.add_done_callback(lambda _: self._coming.pop(key, None))
        return await asyncio.shield(coming)

    async def _fetch(self, account_id: str, item_id: str) -> Facts:
        key = _key(account_id, item_id)
        facts = Facts()
        try:
            async with asyncio.timeout(self._patience_s):
                account = await self._accounts.get(account_id)
                facts = Facts(account_name=account.name if account else "")
                if item_id:
                    item = await self._platform.item(account_id, item_id)
                    facts = replace(
                        facts,
                        item_title=item.title,
                        item_price=item.price,
                        item_description=_description(item),
                    )
        except (FrontdeskError, TimeoutError) as error:
            log.warning("an answer goes without facts of account %s, item %s: %s", account_id, item_id, error)
            self._missing.put(key, facts)
        else:
            self._cache.put(key, facts)
        return facts


def _description(item: GetItemResponse) -> str:
    """What the seller wrote and the variants, as words."""
    lines = [item.description.strip()[:DESCRIPTION_LENGTH]]
    for sku in item.skus[:MAX_SKUS]:
        left = f"剩 {sku.quantity} 件" if sku.quantity > 0 else "已售完"
        lines.append(f"规格 {sku.spec}：{sku.price} 元，{left}")
    return "\n".join(line for line in lines if line)


def _key(account_id: str, item_id: str) -> str:
    return f"{len(account_id)}/{account_id}/{item_id}"
