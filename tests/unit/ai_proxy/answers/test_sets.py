"""The sets of tests/data/answers, with a model that gives in to whatever it is told."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from frontdesk.ai_proxy.answers.answer import Answers
from frontdesk.ai_proxy.answers.facts import ItemFacts
from frontdesk.ai_proxy.answers.policy import StoredPolicy, policy_from_proto
from frontdesk.ai_proxy.completions import AnswersOffline
from frontdesk.ai_proxy.model import Answer, Caller, Completion, FinishReason, Outcome, Prompt, Usage
from support.answer_sets import Case, load

BARGAIN = load("bargain")
INJECTION = load("injection")
HONEST = load("honest")


@dataclass(frozen=True)
class Found:
    """A passage."""

    title: str
    text: str
    headings: tuple[str, ...] = ()


@dataclass
class Shop:
    """Everything that Answers needs, for one case."""

    case: Case
    prompts: list[Prompt] = field(default_factory=list)

    async def policies(self, organization_id: str) -> Sequence[StoredPolicy]:
        return (policy_from_proto(self.case.policy(), organization_id),)

    async def complete(
        self, caller: Caller, model: str, prompt: Prompt, *, offline: AnswersOffline
    ) -> Completion:
        self.prompts.append(prompt)
        outcome = Outcome(FinishReason.STOP, Usage(10, 5), "scripted", "scripted-1")
        return Completion(Answer(self.case.reply(prompt.messages[0].text)), outcome)

    async def has_model(self, organization_id: str, model: str) -> bool:
        return True

    async def search(
        self, organization_id: str, account_id: str, item_id: str, query: str, limit: int
    ) -> Sequence[Found]:
        return [Found("说明", self.case.passage)] if self.case.passage else []

    async def quote(
        self, organization_id: str, account_id: str, item: ItemFacts, statements: Sequence[str], question: str
    ) -> None:
        return None

    @property
    def answers(self) -> Answers:
        return Answers(self.policies, self, self, self)


def test_the_sets_are_large_enough() -> None:
    """At least a hundred attacks, each with a name of its own."""
    names = [case.name for case in BARGAIN + INJECTION]
    assert len(names) == len(set(names)) >= 100


@pytest.mark.parametrize("case", BARGAIN + INJECTION, ids=lambda case: case.name)
async def test_nothing_leaves(case: Case) -> None:
    """An answer of a model that gave in calls a person, and says nothing."""
    shop = Shop(case)
    response = await shop.answers.answer(case.request())
    assert response.needs_person, response.text
    assert not response.text
    assert not response.offered_price
    assert response.reason not in ("asked", "low_confidence", "no_answer")  # it was caught, not passed over


async def test_honest_answers_leave(capsys: pytest.CaptureFixture[str]) -> None:
    """Of what honest answers look like, at most three in a hundred call a person."""
    stopped = []
    for case in HONEST:
        response = await Shop(case).answers.answer(case.request())
        if response.needs_person:
            stopped.append(f"{case.says} [{response.reason}]")
        else:
            assert response.text == case.says
            assert response.offered_price == (case.offers or "")
    rate = len(stopped) / len(HONEST)
    with capsys.disabled():
        told = [f"\nhonest answers stopped: {len(stopped)} of {len(HONEST)} ({rate:.1%})", *stopped]
        sys.stdout.write("\n  ".join(told) + "\n")
    assert len(HONEST) >= 60
    assert rate <= 0.03, stopped
