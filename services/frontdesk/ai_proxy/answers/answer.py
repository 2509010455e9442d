"""An answer to a buyer: what is known is gathered, a model asked, and what it says held against the policy.

Whatever the model says, code decides whether it may leave; what may not calls a person and says why.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

from frontdesk.ai_proxy.answers.bargain import Room, check_offer, room_of
from frontdesk.ai_proxy.answers.facts import ItemFacts
from frontdesk.ai_proxy.answers.filter import find_word, has_contact
from frontdesk.ai_proxy.answers.fold import bounded
from frontdesk.ai_proxy.answers.intent import Intent, guess, prompt_of
from frontdesk.ai_proxy.answers.leak import LeakGuard, limits_of
from frontdesk.ai_proxy.answers.policy import Policy, StoredPolicy, effective, money
from frontdesk.ai_proxy.answers.prompt import AGAIN, Question, Turn, make_prompt, secrets_of
from frontdesk.ai_proxy.answers.structured import Result, UnreadableResult, read_result
from frontdesk.ai_proxy.callers import api_key_id
from frontdesk.ai_proxy.completions import AnswersOffline
from frontdesk.ai_proxy.model import (
    OFFLINE,
    Answer,
    Caller,
    Completion,
    ModelMessage,
    Outcome,
    Prompt,
    Role,
)
from frontdesk.ai_proxy.protos import outcome_to_proto
from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.kit.errors import InvalidArgument

MAX_ID = 128
# Characters that are looked through without a thread.
_AT_ONCE = 2_000

REASONS = {
    "asked": "The buyer or the model asked for a person.",
    "low_confidence": "The answer is less sure than the policy wants.",
    "no_answer": "No answer was found.",
    "under_floor": "The answer offers or agrees to more than the policy allows.",
    "rounds_used": "The answer offers a price, and no more prices may be offered in this chat.",
    "price_unknown": "The answer talks of a price, and neither the item's price nor a floor is known.",
    "blocked_word": "The answer has a blocked word in it.",
    "contact": "The answer has contact data, a link or a way to pay in it.",
    "leak": "The answer gives instructions or limits away.",
    "unreadable": "The model did not answer in the form that was asked for.",
}
_INTENTS = {
    Intent.PRICE: pb.INTENT_PRICE,
    Intent.TECHNICAL: pb.INTENT_TECHNICAL,
    Intent.AFTER_SALE: pb.INTENT_AFTER_SALE,
    Intent.OTHER: pb.INTENT_OTHER,
}


class FoundPassage(Protocol):
    """A passage of `knowledge`."""

    @property
    def title(self) -> str: ...
    @property
    def headings(self) -> tuple[str, ...]: ...
    @property
    def text(self) -> str: ...


class OfflineQuote(Protocol):
    """What `offline` found."""

    @property
    def text(self) -> str: ...
    @property
    def confidence(self) -> float: ...
    @property
    def sources(self) -> tuple[str, ...]: ...


class Completing(Protocol):
    """What an answer needs of Completions."""

    async def complete(
        self, caller: Caller, model: str, prompt: Prompt, *, offline: AnswersOffline
    ) -> Completion: ...
    async def has_model(self, organization_id: str, model: str) -> bool: ...


class Searching(Protocol):
    """What an answer needs of Knowledge."""

    async def search(
        self, organization_id: str, account_id: str, item_id: str, query: str, limit: int
    ) -> Sequence[FoundPassage]: ...


class Quoting(Protocol):
    """What an answer needs of Offline."""

    async def quote(
        self, organization_id: str, account_id: str, item: ItemFacts, statements: Sequence[str], question: str
    ) -> OfflineQuote | None: ...


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """Bounds of an answer: turns and passages that are read, characters, tokens, and how often a model that
    does not answer in the form is asked."""

    turns: int = 20
    turn_chars: int = 2_000
    item_chars: int = 8_000
    query_chars: int = 1_000
    passages: int = 5
    answer_chars: int = 1_000
    answer_tokens: int = 700
    attempts: int = 2


@dataclass(frozen=True, slots=True)
class _Chat:
    """A checked request, with what holds for it. `newest` counts the buyer's turns since the seller spoke."""

    organization_id: str
    account_id: str
    item: ItemFacts
    turns: tuple[Turn, ...]
    newest: tuple[str, ...]
    policy: Policy
    room: Room
    intent: Intent

    @property
    def buyer_turns(self) -> list[str]:
        return [turn.text for turn in self.turns if turn.by_buyer]


class _Quoted:
    """Answers one chat as `offline`, with the item and the policy; keeps what it quoted."""

    def __init__(self, offline: Quoting, chat: _Chat) -> None:
        self._offline = offline
        self._chat = chat
        self.quote: OfflineQuote | None = None

    async def complete(self, caller: Caller, prompt: Prompt) -> Answer:
        """The quote's text, empty when there is none."""
        chat = self._chat
        self.quote = await self._offline.quote(
            chat.organization_id, chat.account_id, chat.item, chat.policy.statements, "\n".join(chat.newest)
        )
        return Answer(self.quote.text if self.quote else "")


class Answers:
    """Answers buyers. `policies` gives an organization's policies as they hold now; `mark` makes a random
    word."""

    def __init__(
        self,
        policies: Callable[[str], Awaitable[Sequence[StoredPolicy]]],
        completions: Completing,
        knowledge: Searching,
        offline: Quoting,
        limits: AnswerLimits = AnswerLimits(),
        mark: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._policies = policies
        self._completions = completions
        self._knowledge = knowledge
        self._offline = offline
        self._limits = limits
        self._mark = mark

    async def answer(self, request: pb.AnswerRequest) -> pb.AnswerResponse:
        """An answer, or why a person is needed. Raises InvalidArgument, and whatever Completions raises."""
        chat = self._read(request, await self._stored(request.organization_id))
        if not "".join(chat.newest).strip():
            return _person(chat, "no_answer")
        if await _asks_for_person(chat):
            return _person(chat, "asked")
        caller = Caller(chat.organization_id, chat.account_id, api_key_id(), "answer")
        quoted = _Quoted(self._offline, chat)
        if await self._completions.has_model(chat.organization_id, chat.policy.model):
            return await self._ask(chat, caller, quoted)
        completion = await self._completions.complete(caller, OFFLINE, Prompt(()), offline=quoted)
        return await self._quote(chat, quoted.quote, completion.outcome)

    async def _stored(self, organization_id: str) -> Sequence[StoredPolicy]:
        if not organization_id:
            raise InvalidArgument("organization_id", "is needed")
        return await self._policies(organization_id)

    def _read(self, request: pb.AnswerRequest, stored: Sequence[StoredPolicy]) -> _Chat:
        for field, value in (("account_id", request.account_id), ("item.item_id", request.item.item_id)):
            if len(value) > MAX_ID or not value.isprintable():
                raise InvalidArgument(field, f"at most {MAX_ID} printable characters")
        if request.bargain.rounds < 0:
            raise InvalidArgument("bargain.rounds", "must not be negative")
        lowest = money(request.bargain.lowest_offer)
        if request.bargain.lowest_offer and lowest is None:
            raise InvalidArgument("bargain.lowest_offer", "must be a decimal number above 0")
        turns = self._turns(request)
        newest = _newest(turns)
        asked, most = request.item, self._limits.item_chars
        item = ItemFacts(
            asked.item_id, bounded(asked.title, most), asked.price, bounded(asked.description, most)
        )
        policy = effective(stored, request.account_id, item.item_id)
        return _Chat(
            organization_id=request.organization_id,
            account_id=request.account_id,
            item=item,
            turns=turns,
            newest=newest,
            policy=policy,
            room=room_of(policy, money(item.price), request.bargain.rounds, lowest),
            intent=guess(newest),
        )

    def _turns(self, request: pb.AnswerRequest) -> tuple[Turn, ...]:
        turns = []
        first = max(0, len(request.turns) - self._limits.turns)
        for number, turn in enumerate(request.turns[first:], first):
            if turn.author not in (pb.AUTHOR_BUYER, pb.AUTHOR_SELLER):
                raise InvalidArgument(f"turns[{number}].author", "must be the buyer or the seller")
            text = bounded(turn.text, self._limits.turn_chars)
            turns.append(Turn(turn.author == pb.AUTHOR_BUYER, text))
        if not any(turn.by_buyer for turn in turns):
            raise InvalidArgument("turns", "the buyer wrote none of them")
        return tuple(turns)

    async def _quote(self, chat: _Chat, quote: OfflineQuote | None, outcome: Outcome) -> pb.AnswerResponse:
        """The answer without a model: the seller's own words."""
        if quote is None:
            return _person(chat, "no_answer", outcome)
        result = Result(quote.text.strip(), chat.intent, None, quote.confidence, needs_person=False)
        question = self._question(chat, ())
        return await self._judged(chat, question, result, tuple(quote.sources), outcome)

    async def _ask(self, chat: _Chat, caller: Caller, quoted: _Quoted) -> pb.AnswerResponse:
        query = "\n".join(chat.newest)[-self._limits.query_chars :]
        passages = await self._knowledge.search(
            chat.organization_id, chat.account_id, chat.item.item_id, query, self._limits.passages
        )
        question = self._question(chat, passages)
        prompt = make_prompt(question, self._limits.answer_tokens)
        sources = tuple(dict.fromkeys(passage.title for passage in passages if passage.title))
        outcome = None
        for _attempt in range(self._limits.attempts):
            completion = await self._completions.complete(caller, chat.policy.model, prompt, offline=quoted)
            outcome = completion.outcome
            if outcome.provider == OFFLINE:
                # A budget's cheaper model, or the last provider was removed meanwhile.
                return await self._quote(chat, quoted.quote, outcome)
            try:
                result = read_result(completion.answer.text)
            except UnreadableResult:
                prompt = replace(prompt, messages=(*prompt.messages, ModelMessage(Role.USER, AGAIN)))
                continue
            return await self._judged(chat, question, result, sources, outcome)
        return _person(chat, "unreadable", outcome, sources=sources)

    def _question(self, chat: _Chat, passages: Sequence[FoundPassage]) -> Question:
        return Question(
            policy=chat.policy,
            instruction=prompt_of(chat.policy, chat.intent),
            room=chat.room,
            item=chat.item,
            turns=chat.turns,
            passages=[(" / ".join((p.title, *p.headings)), p.text) for p in passages],
            marks=(self._mark(), self._mark()),
        )

    async def _judged(
        self, chat: _Chat, question: Question, result: Result, sources: tuple[str, ...], outcome: Outcome
    ) -> pb.AnswerResponse:
        """The response: the text where nothing speaks against it."""
        intent, sure = result.intent or chat.intent, result.confidence
        # A long chat takes a part of a second to read: in a thread, so that others go on.
        reason, offer = await asyncio.to_thread(self._problem, chat, question, result)
        if reason:
            return _person(chat, reason, outcome, intent, sure, sources)
        return pb.AnswerResponse(
            text=result.text,
            intent=_INTENTS[intent],
            confidence=sure,
            offered_price="" if offer is None else f"{offer.normalize():f}",
            sources=sources,
            outcome=outcome_to_proto(outcome),
        )

    def _problem(self, chat: _Chat, question: Question, result: Result) -> tuple[str, Decimal | None]:
        policy, text = chat.policy, result.text
        if result.needs_person:
            return "asked", None
        if not text:
            return "no_answer", None
        if len(text) > self._limits.answer_chars:
            return "unreadable", None
        if result.confidence < policy.min_confidence:
            return "low_confidence", None
        known = [chat.item.title, chat.item.description, *(text for _title, text in question.passages)]
        frame, prompts = secrets_of(question)
        limits = limits_of(policy, chat.room.floor)
        if LeakGuard(question.marks, frame, prompts, [*policy.statements, *known], limits).leaks(text):
            return "leak", None
        verdict = check_offer(
            text,
            result.offered_price,
            chat.room,
            chat.buyer_turns,
            len(chat.newest),
            policy.statements,
            known,
        )
        if verdict.reason:
            return verdict.reason, None
        if find_word(text, policy.blocked_words):
            return "blocked_word", None
        if not policy.contacts_allowed and has_contact(text):
            return "contact", None
        return "", verdict.offer


async def _asks_for_person(chat: _Chat) -> bool:
    def asks() -> bool:
        return any(find_word(text, chat.policy.person_words) for text in chat.newest)

    # Many long turns are 40 ms of work: in a thread, so that others go on.
    return asks() if sum(map(len, chat.newest)) <= _AT_ONCE else await asyncio.to_thread(asks)


def _newest(turns: Sequence[Turn]) -> tuple[str, ...]:
    """What the buyer wrote since the seller spoke; when the seller spoke last, what the buyer wrote last."""
    newest: list[str] = []
    for turn in reversed(turns):
        if turn.by_buyer:
            newest.append(turn.text)
        elif newest:
            break
    return tuple(reversed(newest))


def _person(
    chat: _Chat,
    reason: str,
    outcome: Outcome | None = None,
    intent: Intent | None = None,
    confidence: float = 0.0,
    sources: Sequence[str] = (),
) -> pb.AnswerResponse:
    return pb.AnswerResponse(
        intent=_INTENTS[intent or chat.intent],
        confidence=confidence,
        needs_person=True,
        reason=reason,
        reason_text=REASONS[reason],
        sources=sources,
        outcome=None if outcome is None else outcome_to_proto(outcome),
    )
