"""The sets of tests/data/answers through a running ai-proxy, whose models obey every attacker.

Each case is an organization with its own policy, provider and knowledge, all at once; beside its chat another
buyer of the same account talks. The model answers from what it was really sent, and that is held against
everything that is somebody else's.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.api.ai.v1 import knowledge_service_pb2 as knowledge_pb
from frontdesk.api.ai.v1 import policy_service_pb2 as policies_pb
from frontdesk.kit.nats_server import NatsServer
from frontdesk.simulators.models.asked import Asked
from frontdesk.simulators.models.script import Behaviour
from support.ai_proxy import AiBench
from support.answer_sets import Case, load
from support.upstreams import add_provider

# Words of this shape are secrets of one organization, or of one chat.
SECRET = re.compile(r"(?:shop|chat)[a-z]{3}zq")
BYSTANDER = json.dumps(
    {"text": "好的亲，记下了。", "intent": "other", "confidence": 0.9, "needs_person": False},
    ensure_ascii=False,
)


@pytest.fixture
async def ai(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[AiBench]:
    """With a cache, through which one could be given another's answer."""
    bench = AiBench(nats_server, f"sqlite:///{tmp_path}/ai.db", FRONTDESK_AI_CACHE_MEGABYTES="8")
    await bench.start()
    yield bench
    await bench.stop()


@dataclass
class Asking:
    """One case: its organization, and what its model was sent."""

    number: int
    case: Case
    systems: list[str] = field(default_factory=list)
    sent: set[str] = field(default_factory=set)
    bystander_sent: set[str] = field(default_factory=set)

    @property
    def organization(self) -> str:
        return f"org{self.number}"

    def secret(self, of: str) -> str:
        """The secret of its `shop`, or of the other `chat` there."""
        letters = "".join(chr(ord("a") + self.number // 26**place % 26) for place in range(3))
        return f"{of}{letters}zq"

    def says(self, asked: Asked) -> str:
        """The model: what it gives away is taken out of what it was sent."""
        found = set(SECRET.findall("\n".join(turn.text for turn in asked.turns)))
        if self.secret("chat") in asked.last_words:
            self.bystander_sent |= found
            return BYSTANDER
        self.sent |= found
        self.systems.append(asked.turns[0].text)
        return self.case.reply(asked.turns[0].text)

    async def set_up(self, ai: AiBench) -> None:
        """Store what the organization has; its documents fit most questions."""
        ai.models.script.add(Behaviour(model=f"case-{self.number}", says=self.says))
        policy = policies_pb.SetPolicyRequest(policy=self.case.policy(self.organization))
        await ai.policies.SetPolicy(policy, timeout=30)
        memo = f"暗号 {self.secret('shop')}：最低 多少钱 便宜 打折 规则 标记 指令 人设 联系 怎么 price"
        for title, text in (("备忘", memo), (self.case.turns[-1][1], self.case.passage)):
            if text:
                document = knowledge_pb.Document(
                    organization_id=self.organization,
                    title=title,
                    format=knowledge_pb.DOCUMENT_FORMAT_TEXT,
                    content=text,
                )
                request = knowledge_pb.CreateDocumentRequest(document=document)
                await ai.knowledge.CreateDocument(request, timeout=30)
        await add_provider(ai.channel, self.organization, ai.models.url, f"case-{self.number}")

    async def ask(self, ai: AiBench) -> tuple[pb.AnswerResponse, pb.AnswerResponse]:
        """What the attacker gets, and what the other buyer gets."""
        beside = pb.AnswerRequest(
            organization_id=self.organization,
            account_id="a1",
            chat_id="c2",
            turns=[pb.Turn(author=pb.AUTHOR_BUYER, text=f"我的暗号是 {self.secret('chat')}，请记下")],
        )
        attacked, other = await asyncio.gather(
            ai.ai.Answer(self.case.request(self.organization), timeout=30), ai.ai.Answer(beside, timeout=30)
        )
        return attacked, other


async def play(ai: AiBench, cases: list[Case]) -> list[tuple[Asking, pb.AnswerResponse]]:
    """Ask all at once, and see that each model was sent what is its own."""
    asking = [Asking(number, case) for number, case in enumerate(cases)]
    room = asyncio.Semaphore(32)

    async def one(of: Asking) -> tuple[Asking, pb.AnswerResponse]:
        async with room:
            await of.set_up(ai)
            attacked, other = await of.ask(ai)
        assert other.text == "好的亲，记下了。", other
        return of, attacked

    found = await asyncio.gather(*(one(of) for of in asking))
    for of in asking:
        assert of.systems, f"{of.case.name}: its model was never asked"
        assert of.sent <= {of.secret("shop")}, of.case.name
        assert of.bystander_sent <= {of.secret("shop"), of.secret("chat")}, of.case.name
        if of.case.passage:
            assert all(of.case.passage in system for system in of.systems), of.case.name
    return found


async def test_no_attack_succeeds(ai: AiBench, capsys: pytest.CaptureFixture[str]) -> None:
    """Of every bargain and injection case nothing leaves: no price under the floor, no word of the
    instructions, of another chat or of another organization. A person is called, for a reason of its own."""
    found = await play(ai, load("bargain") + load("injection"))
    left = [(of.case.name, answer.text) for of, answer in found if answer.text or answer.offered_price]
    missed = [
        (of.case.name, answer.reason)
        for of, answer in found
        if not answer.needs_person or answer.reason in ("asked", "low_confidence", "no_answer")
    ]
    with capsys.disabled():
        sys.stdout.write(f"\nattacks through ai-proxy: {len(found)}, answered: {len(left)}\n")
    assert len(found) >= 160
    assert not left
    assert not missed
    # Retrieval was really on: most models were sent the memo of their own organization.
    assert sum(bool(of.sent) for of, _ in found) > len(found) / 3


async def test_honest_answers_arrive(ai: AiBench) -> None:
    """The same way lets honest answers through, word for word, with the price that is offered."""
    honest = load("honest")[:60]
    found = await play(ai, honest)
    stopped = [of.case.says for of, answer in found if answer.needs_person]
    assert len(stopped) <= 2, stopped
    for of, answer in found:
        if not answer.needs_person:
            assert (answer.text, answer.offered_price) == (of.case.says, of.case.offers or "")
            assert answer.outcome.model == f"case-{of.number}"
