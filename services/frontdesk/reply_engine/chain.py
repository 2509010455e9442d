"""The chain of a decision: account and item rules → global rules → AI → default reply → a person (X-10).

Pure: it reads a snapshot and a chat's waiting messages, and says what to do. Several messages of one buyer
are merged, in the platform's order, by newlines; a rule may hit the whole or any one of them, so that a rule
for the exact text still hits, and the order of the rules decides between those that do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from frontdesk.reply_engine.facts import Facts, wants_facts
from frontdesk.reply_engine.model import AccountSettings, AiOutcome, Answer, Origin, Snapshot, Switch
from frontdesk.reply_engine.rules.hours import utc_offset_minutes
from frontdesk.reply_engine.rules.match import choose_default
from frontdesk.reply_engine.rules.model import ChatCounters, Incoming, Part, Reply, TextPart
from frontdesk.reply_engine.rules.order import scopes_of, steps_after
from frontdesk.reply_engine.rules.patterns import Budget
from frontdesk.reply_engine.rules.template import Values, render

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class ChatView:
    """A chat as the chain sees it: its row, its waiting messages in order, the uses of limited rules."""

    row: Any
    waiting: Sequence[Any]
    uses: Mapping[str, tuple[int, int]]
    now_ms: int
    facts: Facts | None = None  # None: not looked up yet

    @property
    def place(self) -> tuple[str, str]:
        """Whose account and which item it is about."""
        return self.row.account_id, self.waiting[-1].item_id or self.row.item_id


@dataclass(frozen=True, slots=True)
class ChainResult:
    """An answer, or that the AI is to be asked, or why a person is needed; `trace` says what was tried.

    With an answer, `reason` says that a person is needed nevertheless: the answer is an acknowledgement.
    `facts_wanted`: the answer's templates name facts that are not looked up yet; walk again with them.
    """

    answer: Answer | None = None
    ai_wanted: bool = False
    facts_wanted: bool = False
    reason: str = ""
    trace: tuple[str, ...] = field(default=())


def walk(
    snapshot: Snapshot, view: ChatView, before: Sequence[str] = (), outcome: AiOutcome | None = None
) -> ChainResult:
    """Walk the account's chain; with `outcome` the AI was asked already and the walk goes on behind it.

    Where the AI leaves the answer to a person, what follows in the chain is still said: nobody knows when a
    person comes. An outcome of an AI that was turned off meanwhile is not used.
    """
    trace = list(before)
    row = view.row
    settings = snapshot.account(row.account_id)
    if snapshot.effective_switch(row.account_id) is Switch.STOP:
        return ChainResult(reason="stopped", trace=(*trace, "the stop switch is on"))
    if not view.waiting:
        return ChainResult(trace=tuple(trace))
    if _throttled(row, settings.replies_per_minute, view.now_ms):
        return ChainResult(
            reason="throttled", trace=(*trace, f"over {settings.replies_per_minute} answers in a minute")
        )
    budget = snapshot.matcher.budget()
    incoming = incoming_of(snapshot, view, merged(view.waiting))
    asked, person = None, ""
    if outcome is not None and not _has_ai(settings):
        trace.append("ai: turned off meanwhile")
    elif outcome is not None:
        trace.append(_told(outcome))
        if outcome.text:
            parts: tuple[Part, ...] = (TextPart(outcome.text),)
            return ChainResult(Answer(Origin.AI, "ai", parts), trace=tuple(trace))
        asked = "ai"
        person = f"needs_person: {outcome.reason}" if outcome.needs_person else ""
    for step in steps_after(settings.chain, asked):
        if step == "ai":
            if not settings.ai_enabled:
                trace.append("ai: off for this account")
                continue
            return ChainResult(ai_wanted=True, trace=tuple(trace))
        found = (
            _default(snapshot, view, incoming)
            if step == "default"
            else _rule(snapshot, view, incoming, step, budget)
        )
        if found is None:
            trace.append(f"{step}: nothing answers")
            continue
        if view.facts is None and wants_facts(found.reply):
            return ChainResult(facts_wanted=True, trace=tuple(before))
        trace.append(f"{step}: {found.rule_id}" + (", until a person comes" if person else ""))
        parts = render(found.reply, _values(incoming, view.facts))
        answer = Answer(found.origin, step, parts, found.rule_id)
        return ChainResult(answer, reason=person, trace=tuple(trace))
    return ChainResult(reason=person or "no_answer", trace=tuple(trace))


def _has_ai(settings: AccountSettings) -> bool:
    return settings.ai_enabled and "ai" in settings.chain


def _told(outcome: AiOutcome) -> str:
    """An outcome as a sentence of the trace; it names who answered, so that nobody takes `offline` for a
    model."""
    by = f" by {outcome.by}" if outcome.by else ""
    if outcome.text:
        return f"ai: answered{by}"
    if not outcome.needs_person:
        return f"ai: unavailable: {outcome.reason}"
    why = f" ({outcome.reason_text})" if outcome.reason_text else ""
    return f"ai: needs a person{by}: {outcome.reason}{why}"


def incoming_of(snapshot: Snapshot, view: ChatView, text: str) -> Incoming:
    """A buyer's words as rules see them."""
    newest, row = view.waiting[-1], view.row
    return Incoming(
        organization_id=row.organization_id,
        account_id=row.account_id,
        chat_id=row.chat_id,
        text=text,
        now_ms=view.now_ms,
        item_id=newest.item_id or row.item_id or None,
        sender_id=newest.sender_id or row.buyer_id,
        sender_name=newest.sender_name or row.buyer_name,
        has_image=any(message.image_urls for message in view.waiting),
        utc_offset_minutes=utc_offset_minutes(snapshot.account(row.account_id).time_zone, view.now_ms),
    )


def merged(waiting: Sequence[Any]) -> str:
    """The texts of several messages as one (X-24)."""
    return "\n".join(m.text for m in waiting if m.text)


def _values(incoming: Incoming, facts: Facts | None) -> Values:
    facts = facts or Facts()
    return Values(
        send_user_name=incoming.sender_name,
        send_user_id=incoming.sender_id,
        send_message=incoming.text,
        item_id=incoming.item_id or "",
        item_title=facts.item_title,
        item_price=facts.item_price,
        account_name=facts.account_name,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What a step says, before its templates are filled in."""

    origin: Origin
    rule_id: str
    reply: Reply


def _rule(snapshot: Snapshot, view: ChatView, whole: Incoming, step: str, budget: Budget) -> _Found | None:
    singly = [m.text for m in view.waiting if m.text]
    counters = ChatCounters(view.uses)
    rule = snapshot.matcher.decide(whole, counters, scopes_of(step), singly=singly, budget=budget).rule
    return _Found(Origin.RULE, rule.id, rule.reply) if rule else None


def _default(snapshot: Snapshot, view: ChatView, incoming: Incoming) -> _Found | None:
    default = choose_default(snapshot.defaults, incoming, ChatCounters(view.uses)).default
    return _Found(Origin.DEFAULT, default.id, default.reply) if default else None


def _throttled(row: Any, per_minute: int, now_ms: int) -> bool:
    return bool(now_ms - row.minute_ms < MINUTE_MS and row.minute_count >= per_minute)
