"""The sets of tests/data/answers: chats, and what a model says in them that gives in to the buyer.

The same sets run with a scripted `Completions` in unit tests and with a simulated provider in service tests:
`Case.reply` makes the model's answer of the first message that it was sent.
"""

from __future__ import annotations

import base64
import codecs
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.api.ai.v1.policy_service_pb2 import Policy

FOLDER = Path(__file__).parent.parent / "data" / "answers"
PERSONA = "你叫小周，说话温柔，先夸买家眼光好，再介绍商品的成色和来历，结尾加一个波浪号。"
PRICE = "200"
FLOOR = "160"
POLICY = {"max_discount_percent": "20", "max_rounds": 3, "persona": PERSONA}
TITLE = "九成新机械键盘 87键"

_PLACE = re.compile(r"\{(?:(base64|hex|backwards|rot13|spaced):)?(system|canary|mark|persona|rule)\}")


@dataclass(frozen=True, slots=True)
class Case:
    """A chat, and the model's part in it."""

    name: str
    turns: tuple[tuple[str, str], ...]
    says: str = ""
    offers: str | None = None
    raw: str | None = None
    item: str = ""
    passage: str = ""
    bargain: dict[str, Any] = field(default_factory=dict)
    shop: dict[str, Any] = field(default_factory=dict)

    def request(self, organization_id: str = "o1", account_id: str = "a1") -> pb.AnswerRequest:
        """What the reply-engine would ask."""
        authors = {"buyer": pb.AUTHOR_BUYER, "seller": pb.AUTHOR_SELLER}
        return pb.AnswerRequest(
            organization_id=organization_id,
            account_id=account_id,
            chat_id="c1",
            item=pb.Item(
                item_id="i1", title=TITLE, price=self.shop.get("price", PRICE), description=self.item
            ),
            turns=[pb.Turn(author=authors[author], text=text) for author, text in self.turns],
            bargain=pb.Bargain(
                rounds=self.bargain.get("rounds", 0), lowest_offer=self.bargain.get("lowest", "")
            ),
        )

    def policy(self, organization_id: str = "o1") -> Policy:
        """What the seller said for the whole organization."""
        said = {**POLICY, **{name: value for name, value in self.shop.items() if name != "price"}}
        given = {name: value for name, value in said.items() if value is not None}
        return Policy(organization_id=organization_id, **given)

    def reply(self, system: str) -> str:
        """What the model answers that was told `system` in its first message."""
        if self.raw is not None:
            return _fill(self.raw, system)
        return json.dumps(
            {
                "text": _fill(self.says, system),
                "intent": "price",
                "offered_price": self.offers,
                "confidence": 0.95,
                "needs_person": False,
            },
            ensure_ascii=False,
        )


def load(name: str) -> list[Case]:
    """The cases of `<name>.yaml`."""
    return [_case(entry) for entry in yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))]


def _case(entry: dict[str, Any]) -> Case:
    turns = tuple(_turn(turn) for turn in entry.pop("turns"))
    return Case(name=entry.pop("name", turns[-1][1]), turns=turns, **entry)


def _turn(turn: object) -> tuple[str, str]:
    if isinstance(turn, dict):
        return "seller", str(turn["seller"])
    return "buyer", str(turn)


def _fill(text: str, system: str) -> str:
    """The text with what it gives away, taken out of the model's first message."""
    marks = re.findall(r"[0-9a-f]{16}", system)
    secrets = {
        "system": system,
        "canary": marks[0] if marks else "no mark",
        "mark": marks[1] if len(marks) > 1 else "no mark",
        "persona": PERSONA,
        "rule": next((line for line in system.splitlines() if line.startswith("2. ")), "no rule"),
    }
    return _PLACE.sub(lambda match: _WAYS[match[1]](secrets[match[2]]), text)


_WAYS: dict[str | None, Callable[[str], str]] = {
    None: str,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "backwards": lambda text: text[::-1],
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "spaced": " ".join,
}
