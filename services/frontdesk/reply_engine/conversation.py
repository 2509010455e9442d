"""What the AI is told of a chat: what was said, and which prices Frontdesk offered in it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.reply_engine.model import AiTurn, MessageState, SendState
from frontdesk.reply_engine.rules.model import LIMITS
from frontdesk.reply_engine.tables import decisions, messages, outgoing

IMAGE = "[图片]"
MAX_OFFERS = 1_000

# An offer counts while it may have reached the buyer; one that was dropped or refused did not.
_MAY_HAVE_REACHED = (SendState.QUEUED, SendState.SENT, SendState.CONFIRMED, SendState.UNCONFIRMED)


@dataclass(frozen=True, slots=True)
class Conversation:
    """`turns` are (is the buyer, text), oldest first, without what is to be answered.

    `rounds` counts the answers that offered a price for this item in this chat, `lowest_offer` is the lowest
    of them, decimal text or empty.
    """

    turns: tuple[tuple[bool, str], ...] = ()
    rounds: int = 0
    lowest_offer: str = ""


async def read_conversation(connection: AsyncConnection, turn: AiTurn, limit: int) -> Conversation:
    """What was said before `turn`, at most `limit` messages, and its bargain; reads only."""
    said = await connection.execute(
        select(messages.c.author, messages.c.text, messages.c.image_urls)
        .where(
            messages.c.chat_key == turn.chat_key,
            messages.c.author != "system",
            messages.c.state != MessageState.WAITING,
        )
        .order_by(messages.c.created_at_ms.desc(), messages.c.message_id.desc())
        .limit(limit)
    )
    turns = [
        (row.author == "buyer", words)
        for row in reversed(said.all())
        if (words := words_of(row.text, bool(row.image_urls)))
    ]
    offered = await connection.execute(
        select(decisions.c.offered_price)
        .where(
            decisions.c.chat_key == turn.chat_key,
            decisions.c.offered_price != "",
            decisions.c.item_id == turn.item_id,
            select(outgoing.c.outgoing_id)
            .where(
                outgoing.c.chat_key == turn.chat_key,
                outgoing.c.decision_id == decisions.c.decision_id,
                outgoing.c.state.in_(_MAY_HAVE_REACHED),
            )
            .exists(),
        )
        .order_by(decisions.c.created_at_ms.desc())
        .limit(MAX_OFFERS)
    )
    prices = [row.offered_price for row in offered]
    return Conversation(tuple(turns), len(prices), min(prices, key=Decimal, default=""))


def words_of(text: str, has_image: bool) -> str:
    """A message as a model reads it; empty for one without anything."""
    return (text or (IMAGE if has_image else ""))[: LIMITS.match_text_length]
