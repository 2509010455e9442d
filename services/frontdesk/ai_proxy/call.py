"""One call, from the question to its rows in the log: what it used and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from frontdesk.ai_proxy.cache import CachedAnswer
from frontdesk.ai_proxy.catalog import Candidate, Who
from frontdesk.ai_proxy.deadline import Alarm
from frontdesk.ai_proxy.errors import BrokenOff
from frontdesk.ai_proxy.gathered import Gathered
from frontdesk.ai_proxy.model import (
    OFFLINE,
    Answer,
    Caller,
    Finish,
    FinishReason,
    Outcome,
    Price,
    Prompt,
    Usage,
)
from frontdesk.ai_proxy.router import Asked, Course
from frontdesk.ai_proxy.spending import SpendRecord
from frontdesk.ai_proxy.tokens import count_prompt, count_text
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import FrontdeskError

OK = "OK"
CANCELLED = "CANCELLED"

Question = Prompt | Sequence[str]


_OFFLINE = Who(OFFLINE, OFFLINE, OFFLINE, Price())
_NOBODY = Who("", "", "", Price())


class Call:
    """A call under way. `alarm` rings at the deadline of `course`; a course without candidates is answered
    `offline`; `said` is what came so far."""

    def __init__(
        self,
        call_id: str,
        caller: Caller,
        model: str,
        question: Question,
        course: Course,
        alarm: Alarm,
        clock: Clock,
        most_characters: int,
    ) -> None:
        self.call_id = call_id
        self.caller = caller
        # With a budget's cheaper model its name: it is a call as any other.
        self.requested_model = model
        self.question = question
        self.course = course
        self.alarm = alarm
        self.reserved = False
        self.begun = False
        self.code = OK
        self.finish_reason: FinishReason | None = None
        self.cache_key: bytes | None = None
        self._clock = clock
        self._started_at_ms = clock.now_ms()
        self._started = clock.monotonic()
        self._first_token_ms = 0
        self._cached: CachedAnswer | None = None
        self._usage: Usage | None = None
        self._most_characters = most_characters
        self.said = Gathered(most_characters)

    @property
    def offline(self) -> bool:
        """Whether no model is asked."""
        return not self.course.candidates

    def prompt_tokens(self) -> int:
        """Tokens of the question, counted here."""
        if isinstance(self.question, Prompt):
            return count_prompt(self.question)
        return sum(map(count_text, self.question))

    def began(self) -> None:
        """The first piece of a stream came."""
        self.begun = True
        self._first_token_ms = max(1, round((self._clock.monotonic() - self._started) * 1000))

    def finished(self, finish: Finish) -> Outcome:
        """What was said is whole."""
        usage = Usage() if self.offline else self._checked(finish.usage or Usage(), self.said)
        return self._outcome(finish.reason, usage)

    def answered(self, answer: Answer) -> Outcome:
        """The answer came at once."""
        self.begun = True
        self.said.add_answer(answer)
        return self.finished(answer.finish)

    def embedded(self, usage: Usage | None) -> Outcome:
        """The vectors came."""
        self.begun = True
        return self.finished(Finish(FinishReason.STOP, usage))

    def from_cache(self, cached: CachedAnswer) -> Outcome:
        """An earlier answer is given again: nothing is used."""
        self._cached = cached
        return self._outcome(cached.answer.finish.reason, Usage())

    def ended_by(self, error: BaseException) -> None:
        """It ended before it was whole."""
        if isinstance(error, FrontdeskError):
            self.code = error.code
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.code = CANCELLED
        else:
            self.code = FrontdeskError.code

    def broken(self, error: FrontdeskError) -> FrontdeskError:
        """What the caller of a stream gets for `error`."""
        return BrokenOff(error, self.said.text(), self.usage()) if self.begun else error

    def usage(self) -> Usage:
        """What it used: as the provider said, or counted of what came. A question that got no answer counts
        only when a provider was at it and was left: the provider counts it too."""
        if self._usage is None:
            own = self._own()
            if self.begun:
                self._usage = self._checked(Usage(), self.said)
            else:
                self._usage = self._left_with(own) if own else Usage()
        return self._usage

    def who(self) -> Who:
        """Who answered, or was asked last."""
        if self._cached is not None:
            return self._cached.who
        if self.offline:
            return _OFFLINE
        asked = self.course.asked
        if asked is None:
            return _NOBODY
        return _who(asked)

    def record(self) -> SpendRecord:
        """The row of the log."""
        who, usage = self.who(), self.usage()
        return SpendRecord(
            call_id=self.call_id,
            caller=self.caller,
            provider=who.provider,
            requested_model=self.requested_model,
            model=who.model,
            started_at_ms=self._started_at_ms,
            duration_ms=round((self._clock.monotonic() - self._started) * 1000),
            first_token_ms=self._first_token_ms,
            code=self.code,
            usage=usage,
            cost=_cost(who.price, usage),
            currency=who.price.currency,
            cached=self._cached is not None,
        )

    def others(self) -> list[tuple[Who, SpendRecord]]:
        """Rows of the providers that had the question too and may charge for it: they lost against the one
        that answered, or were silent for too long before it."""
        own = self._own()
        left = [one for one in self.course.left() if one is not own]
        if not left:
            return []
        row, rows = self.record(), []
        for number, one in enumerate(left, 1):
            who, usage = _who(one.candidate), self._left_with(one)
            until_now = max(0, self._clock.now_ms() - one.at_ms)
            other = replace(
                row,
                call_id=f"{self.call_id}.{number}",
                provider=who.provider,
                model=who.model,
                started_at_ms=one.at_ms,
                duration_ms=until_now if one.took_ms is None else one.took_ms,
                first_token_ms=0,
                code=one.code,
                usage=usage,
                cost=_cost(who.price, usage),
                currency=who.price.currency,
            )
            rows.append((who, other))
        return rows

    def _own(self) -> Asked | None:
        """While nothing of an answer came the call's own row is of who was asked last, if it was left."""
        if self.begun:
            return None
        return next((one for one in self.course.left() if one.candidate is self.course.asked), None)

    def _left_with(self, asked: Asked) -> Usage:
        """What a provider used whose answer was not taken."""
        said = Gathered(self._most_characters)
        said.add(asked.said)
        finish = next((piece for piece in asked.said if isinstance(piece, Finish)), Finish())
        return self._checked(finish.usage or Usage(), said)

    def _outcome(self, reason: FinishReason, usage: Usage) -> Outcome:
        self.finish_reason = reason
        self._usage = usage
        who = self.who()
        return Outcome(
            reason,
            usage,
            who.provider,
            who.model,
            _cost(who.price, usage),
            who.price.currency,
            cached=self._cached is not None,
        )

    def _checked(self, used: Usage, said: Gathered) -> Usage:
        """What a provider says that was used. What it left out is counted; cached tokens are some of those of
        the question, whatever it says."""
        prompt, completion = used.prompt_tokens, used.completion_tokens
        if prompt > 0 and completion > 0 and 0 <= used.cached_tokens <= prompt:
            return used
        counted = used.counted
        if prompt <= 0:
            prompt, counted = self.prompt_tokens(), True
        if completion <= 0:
            completion = said.tokens()
            counted = counted or completion > 0
        return replace(
            used,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=min(max(used.cached_tokens, 0), prompt),
            counted=counted,
        )


def _cost(price: Price, usage: Usage) -> Decimal | None:
    return price.cost(usage) if price.currency else None


def _who(candidate: Candidate) -> Who:
    provider, model = candidate
    return Who(provider.name, model.upstream_name, provider.kind, model.price)
