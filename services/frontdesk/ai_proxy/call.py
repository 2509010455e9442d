"""One call, from the question to the row in the log: what it used and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from frontdesk.ai_proxy.cache import CachedAnswer
from frontdesk.ai_proxy.catalog import Who
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
from frontdesk.ai_proxy.router import Course
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
        usage = Usage() if self.offline else self._checked(finish.usage or Usage())
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
            if self.begun or self.course.asking:
                self._usage = Usage(self.prompt_tokens(), self.said.tokens(), counted=True)
            else:
                self._usage = Usage()
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
        provider, model = asked
        return Who(provider.name, model.upstream_name, provider.kind, model.price)

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

    def _checked(self, said: Usage) -> Usage:
        """What a provider says that was used. What it left out is counted; cached tokens are some of those of
        the question, whatever it says."""
        prompt, completion = said.prompt_tokens, said.completion_tokens
        if prompt > 0 and completion > 0 and 0 <= said.cached_tokens <= prompt:
            return said
        counted = said.counted
        if prompt <= 0:
            prompt, counted = self.prompt_tokens(), True
        if completion <= 0:
            completion = self.said.tokens()
            counted = counted or completion > 0
        return replace(
            said,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=min(max(said.cached_tokens, 0), prompt),
            counted=counted,
        )


def _cost(price: Price, usage: Usage) -> Decimal | None:
    return price.cost(usage) if price.currency else None
