"""What a call may use at most, set aside before anybody is asked, and given back when nothing was used."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Protocol

from frontdesk.ai_proxy.call import Call
from frontdesk.ai_proxy.catalog import Catalog
from frontdesk.ai_proxy.errors import BudgetExceeded
from frontdesk.ai_proxy.model import Caller, Model, Prompt, Usage


class Reserves(Protocol):
    """Sets aside what a call may use."""

    async def reserve(
        self,
        call_id: str,
        caller: Caller,
        model: Model,
        prompt_tokens: int,
        completion_tokens: int,
        others: Sequence[tuple[Model, int]] = (),
    ) -> Collection[str]:
        """The currencies of the models that there is room for. Raises BudgetExceeded when there is none, and
        then has set nothing aside."""
        ...

    async def release(self, call_id: str) -> None:
        """Nothing was used; harmless when nothing was reserved."""
        ...


class Reservations:
    """Reserves for whole calls. `completion_tokens`: for an answer whose length nobody bounded."""

    def __init__(self, budgets: Reserves, completion_tokens: int) -> None:
        self._budgets = budgets
        self._completion_tokens = completion_tokens

    async def reserve(self, call: Call, catalog: Catalog) -> None:
        """Set aside what the call may use; turns to the budget's cheaper model when `catalog` has it.

        Raises BudgetExceeded.
        """
        try:
            await self.set_aside(call)
        except BudgetExceeded as exceeded:
            name = str(exceeded.facts.get("fallback_model") or "")
            embeds = not isinstance(call.question, Prompt)
            cheaper = catalog.answering(name, embeds=embeds) if name != call.requested_model else None
            if not name or cheaper is None:
                raise
            call.course.candidates = cheaper
            call.requested_model = name
            call.cache_key = None
            await self.set_aside(call)

    async def set_aside(self, call: Call) -> None:
        """The same for the model that was asked for and no other; `offline` uses nothing."""
        if call.offline:
            return
        call.reserved = True
        prompt_tokens = call.prompt_tokens()
        asked_for = call.question.max_tokens if isinstance(call.question, Prompt) else 0
        # By currency, as a budget counts one of them: of each the dearest that may answer.
        dearest: dict[str, tuple[Decimal, int, Model]] = {}
        for _, model in call.course.candidates:
            most = self._completion_tokens if asked_for is None else asked_for
            if model.max_tokens and (asked_for is None or asked_for > model.max_tokens):
                most = model.max_tokens
            cost = model.price.cost(Usage(prompt_tokens, most))
            known = dearest.get(model.price.currency)
            if known is None or (cost, most) > known[:2]:
                dearest[model.price.currency] = (cost, most, model)
        (model, most), *others = ((model, most) for _, most, model in dearest.values())
        paid = await self._budgets.reserve(call.call_id, call.caller, model, prompt_tokens, most, others)
        # Whoever is paid from a budget without room is not asked.
        candidates = call.course.candidates
        call.course.candidates = [one for one in candidates if one.model.price.currency in paid]

    async def release(self, call: Call) -> None:
        """Nothing was used. Raises Unavailable; what is recorded of the call settles it too."""
        if call.reserved:
            await self._budgets.release(call.call_id)
