"""What would be answered: the chain as every answer walks it, reading only.

A preview asks the AI with the chat's history, its bargain and the item's facts as a buyer's message would,
and counts for nothing: no decision is stored, so no round of a bargain is used up.
"""

from __future__ import annotations

from dataclasses import replace

from frontdesk.reply_engine.ai import Ai
from frontdesk.reply_engine.chain import ChainResult, ChatView, merged, walk
from frontdesk.reply_engine.facts import FactSource
from frontdesk.reply_engine.model import AiTurn, Snapshot, chat_key, new_id


class Previews:
    """Decides without storing or sending."""

    def __init__(self, facts: FactSource, ai: Ai) -> None:
        self._facts = facts
        self._ai = ai

    async def decide(self, snapshot: Snapshot, view: ChatView, *, ask_ai: bool = True) -> ChainResult:
        """What the chain says to the view's messages; without `ask_ai` it may end where the AI is wanted."""
        result = walk(snapshot, view)
        if result.facts_wanted:
            view = await self._with_facts(view)
            result = walk(snapshot, view)
        if not (result.ai_wanted and ask_ai):
            return result
        row = view.row
        outcome = await self._ai.ask(
            AiTurn(
                chat_key=chat_key(row.account_id, row.chat_id or "-"),
                token=new_id(),
                organization_id=row.organization_id,
                account_id=row.account_id,
                chat_id=row.chat_id or "-",
                item_id=view.place[1],
                text=merged(view.waiting),
                trace=result.trace,
            )
        )
        return walk(snapshot, await self._with_facts(view), result.trace, outcome)

    async def _with_facts(self, view: ChatView) -> ChatView:
        return replace(view, facts=(await self._facts.find([view.place]))[view.place])
