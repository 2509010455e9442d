"""Buyers by the thousand, and the count of what they got.

Every question of a load carries a number, `#17`. It is answered when a message of the seller in the same
chat, sent by a client and not typed by hand, has the same number; rules that echo the question do that. A
question is lost when nothing answers it, and answered twice when more than one message does.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from frontdesk.simulators.goofish.state import Chat, Message, Seller, World

MAX_MESSAGES = 1_000_000
MAX_IN_FLIGHT = 10_000
SHOWN = 20
_TAG = re.compile(r"#(\d+)\b", re.ASCII)


@dataclass(slots=True)
class Question:
    """One message of a load; times in seconds of the performance counter, 0 for not yet."""

    number: int
    chat_id: str
    asked: float
    answered: float = 0.0
    answers: int = 0
    texts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Load:
    """A load: how much, how fast, and what became of it. A rate of 0 means as fast as `in_flight` allows."""

    load_id: str
    messages: int
    rate_per_s: float
    in_flight: int
    text: str
    questions: dict[int, Question] = field(default_factory=dict)
    sent: int = 0
    open: int = 0
    room: asyncio.Event = field(default_factory=asyncio.Event)
    done: bool = False
    task: asyncio.Task[None] | None = None

    def waiting(self) -> int:
        """Questions asked and not answered."""
        return sum(1 for q in self.questions.values() if not q.answers)


class Loads:
    """All loads of a simulator."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = itertools.count(1)
        self._ids = itertools.count(1)
        self._by_number: dict[int, tuple[Load, Question]] = {}
        self.loads: dict[str, Load] = {}
        world.heard.append(self._heard)

    def start(
        self,
        sellers: Sequence[Seller],
        *,
        messages: int,
        rate_per_s: float,
        in_flight: int,
        chats_per_account: int,
        text: str,
    ) -> Load:
        """Begin a load over the sellers in turn."""
        load = Load(str(next(self._ids)), messages, rate_per_s, in_flight, text)
        chats = [
            (seller, self._world.chat(seller, f"buyer-{number}"))
            for number in range(chats_per_account)
            for seller in sellers
        ]
        self.loads[load.load_id] = load
        load.task = asyncio.create_task(self._run(load, chats))
        return load

    def stop(self, load: Load) -> None:
        """Ask no more."""
        load.done = True
        if load.task is not None:
            load.task.cancel()

    async def _run(self, load: Load, chats: Sequence[tuple[Seller, Chat]]) -> None:
        begun = time.perf_counter()
        turns = itertools.cycle(chats)
        for number in range(load.messages):
            if load.rate_per_s:
                delay = begun + number / load.rate_per_s - time.perf_counter()
                if delay > 0:
                    await asyncio.sleep(delay)
            while load.open >= load.in_flight:
                load.room.clear()
                await load.room.wait()
            self._ask(load, *next(turns))
            if number % 16 == 0:
                await asyncio.sleep(0)
        load.done = True

    def _ask(self, load: Load, seller: Seller, chat: Chat) -> None:
        number = next(self._numbers)
        question = Question(number, chat.chat_id, time.perf_counter())
        load.questions[number] = question
        self._by_number[number] = (load, question)
        load.open += 1
        load.sent += 1
        self._world.buyer_says(seller, chat, load.text.replace("#{n}", f"#{number}"))

    def _heard(self, seller: Seller, chat: Chat, message: Message) -> None:
        if message.sender_id != seller.user_id or message.hand or not self._by_number:
            return
        for tag in set(_TAG.findall(message.text)):
            found = self._by_number.get(int(tag))
            if found is None or found[1].chat_id != chat.chat_id:
                continue
            load, question = found
            question.answers += 1
            question.texts.append(message.text)
            if question.answers == 1:
                question.answered = time.perf_counter()
                load.open -= 1
                load.room.set()


def verdict(loads: Sequence[Load], words: str = "") -> dict[str, Any]:
    """What buyers got; rates per second, latencies from question to answer in milliseconds.

    `saying` counts the questions that got an answer with `words` in it.
    """
    questions = [q for load in loads for q in load.questions.values()]
    answered = [q for q in questions if q.answers]
    lost = [q for q in questions if not q.answers]
    twice = [q for q in questions if q.answers > 1]
    latencies = sorted((q.answered - q.asked) * 1000 for q in answered)
    spent = max((q.answered for q in answered), default=0.0) - min((q.asked for q in questions), default=0.0)
    return {
        "messages": len(questions),
        "answered": len(answered),
        "saying": sum(any(words in text for text in q.texts) for q in answered),
        "waiting": len(lost),
        "lost": len(lost),
        "answered_twice": len(twice),
        "duplicated_parts": sum(len(q.texts) - len(set(q.texts)) for q in twice),
        "rate_per_s": len(answered) / spent if answered and spent > 0 else 0.0,
        "p50_ms": _quantile(latencies, 0.5),
        "p99_ms": _quantile(latencies, 0.99),
        "max_ms": latencies[-1] if latencies else 0.0,
        "oldest_waiting_s": max((time.perf_counter() - q.asked for q in lost), default=0.0),
        "lost_tags": [q.number for q in lost[:SHOWN]],
        "twice_tags": [q.number for q in twice[:SHOWN]],
    }


def _quantile(ordered: Sequence[float], fraction: float) -> float:
    return ordered[min(int(len(ordered) * fraction), len(ordered) - 1)] if ordered else 0.0
