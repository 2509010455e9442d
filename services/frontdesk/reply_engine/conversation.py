"""What the AI is told of a chat: what was said, and which prices Frontdesk offered in it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.reply_engine.model import UNREPORTED, AiTurn, MessageState, Origin, SendState
from frontdesk.reply_engine.rules.model import LIMITS
from frontdesk.reply_engine.tables import decisions, messages, outgoing

IMAGE = "[图片]"
# What was delivered is the buyer's: a card's code is nobody else's to read.
DELIVERED = "[已发货]"
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
    turns = await _read_turns(connection, turn.chat_key, limit)
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


async def _read_turns(connection: AsyncConnection, chat_key: str, limit: int) -> list[tuple[bool, str]]:
    """(is the buyer, text), oldest first. An answer is told from the moment it is decided: it becomes a
    message only when the platform has shown it, and until then its question would look open."""
    found = await connection.execute(
        select(
            messages.c.author,
            messages.c.text,
            messages.c.image_urls,
            messages.c.created_at_ms,
            messages.c.decision_id,
            decisions.c.origin,
        )
        .outerjoin(decisions, decisions.c.decision_id == messages.c.decision_id)
        .where(
            messages.c.chat_key == chat_key,
            messages.c.author != "system",
            messages.c.state != MessageState.WAITING,
        )
        .order_by(messages.c.created_at_ms.desc(), messages.c.message_id.desc())
        .limit(limit)
    )
    said = found.all()
    on_the_way = await connection.execute(
        select(outgoing.c.text, outgoing.c.decision_id, outgoing.c.decided_at_ms, outgoing.c.origin)
        .where(outgoing.c.chat_key == chat_key, outgoing.c.state.in_(UNREPORTED))
        .order_by(outgoing.c.outgoing_id.desc())
        .limit(limit)
    )
    answered: dict[str, int] = {}
    turns: list[tuple[int, bool, str]] = []
    for row in reversed(said):
        answered[row.decision_id] = row.created_at_ms
        is_buyer = row.author == "buyer"
        words = words_of(row.text, bool(row.image_urls))
        turns.append((row.created_at_ms, is_buyer, words if is_buyer else _said(words, row.origin)))
    for part in reversed(on_the_way.all()):
        # The platform's clock may be ahead of ours: an answer comes after what it answers.
        at_ms = max(part.decided_at_ms, answered.get(part.decision_id, 0))
        turns.append((at_ms, False, _said(words_of(part.text, has_image=not part.text), part.origin)))
    turns.sort(key=lambda turn: turn[0])
    return [(is_buyer, words) for _at_ms, is_buyer, words in turns[-limit:] if words]


def _said(words: str, origin: str | None) -> str:
    return DELIVERED if origin == Origin.DELIVERY else words


def words_of(text: str, has_image: bool) -> str:
    """A message as a model reads it; empty for one without anything."""
    return (text or (IMAGE if has_image else ""))[: LIMITS.match_text_length]
