"""`offline`: answers by quoting what the seller wrote, and says nothing else.

It is retrieval, no language model, and it is called `offline` wherever it shows. A question is answered by
the price in a fixed sentence, or word for word by sentences of the item's description, a statement of the
policy or a passage of the knowledge base, when enough of the question is in it; else a person is needed.
Nothing a buyer writes gets into an answer, and no question about a lower price is answered with an amount.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from frontdesk.ai_proxy.answers.facts import ItemFacts
from frontdesk.ai_proxy.knowledge.chunk import sentences
from frontdesk.ai_proxy.knowledge.search import Passage, Question
from frontdesk.ai_proxy.knowledge.segment import words_of
from frontdesk.ai_proxy.model import Answer, Caller, Prompt, Role

MAX_QUESTION = 400  # characters; a longer message is no question that a quote answers
# How much of a question must be in what is quoted; tuned on tests/data/recall (docs/adr/0013).
ENOUGH = 0.55
MARGIN = 1.2  # how much better the best passage has to be than the next
PASSAGES = 5

NEEDS_PERSON = "这个问题需要人工回答，请稍等。"
NEEDS_PERSON_ENGLISH = "A person has to answer this, please wait a moment."


@dataclass(frozen=True, slots=True)
class Quote:
    """An answer and where its words are from: `price`, `title`, `description`, `statement` or
    `document:<id>`. `confidence`, 0 to 1, is how much of the question is in what is quoted."""

    text: str
    confidence: float
    sources: tuple[str, ...]


class Searches(Protocol):
    """As `Knowledge` of knowledge/search.py."""

    async def search(
        self, organization_id: str, account_id: str, item_id: str, query: str, limit: int
    ) -> list[Passage]:
        """The passages that fit a question best."""
        ...

    async def weigh(self, organization_id: str, query: str) -> Question:
        """A question's words and what they weigh."""
        ...


@dataclass(frozen=True, slots=True)
class _Topic:
    """What buyers ask in many words and sellers write in others."""

    asked: re.Pattern[str]
    said: re.Pattern[str]


_BARGAIN = re.compile(
    r"便宜|优惠|打.?折|折扣|底价|最低|砍|[议讲还降]价|刀|抹零|(?<!多)少[个点些一二两三四五六七八九十百\d]|再少|出不出"
    r"|\d\s*[元块]?钱?\s*(?:可以|包邮|卖|出|行|收|拿|走|要|能)|包邮\s*\d|一口价|给个价"
    r"|\b(?:cheaper|discount|lower|lowest|best price|bargain|deal)\b",
    re.IGNORECASE,
)
# How sellers say that they don't bargain. Only a sentence without a number answers a bargain.
_NO_BARGAIN = re.compile(
    r"不[议讲还砍刀]|谢绝[议讲还砍]|[拒勿]刀|一口价|不再?(?:便宜|优惠|降)|no bargain", re.IGNORECASE
)
_AMOUNT = re.compile(r"\d|[一二两三四五六七八九十百千万半]\s*[元块折]")

# About the buyer's own order, or for somebody's number: what is written for everybody does not answer it.
_PERSONAL = re.compile(
    r"怎么还[不没]|还没[到发收退给]|到哪[了里儿]|我的(?:订单|快递|退款|货|单)|投诉|举报|电话|手机号|单号发|转人工|真人|人工客服"
)

_PRICE = re.compile(
    r"多少钱|什么价格?|啥价格?|价格是?多少|多少价格?|价格|标价|怎么卖|咋卖|卖多少|几块钱?|how much|price",
    re.IGNORECASE,
)
_PLAIN_PRICE = re.compile(r"\d{1,9}(?:\.\d{1,2})?")
_TOPICS = (
    _Topic(
        re.compile(r"成色|几成新|新不新|瑕疵|磨损|磕碰|划痕|使用痕迹|condition", re.IGNORECASE),
        re.compile(
            r"\d\s*新|[全\d一二三四五六七八九]\s*成?新|划痕|磕|瑕疵|磨损|掉漆|痕迹|裂|condition|scratch",
            re.IGNORECASE,
        ),
    ),
    _Topic(
        re.compile(r"包不包邮|包邮|邮费|运费|快递费|多少钱|postage|shipping", re.IGNORECASE),
        re.compile(r"包邮|邮费|运费|快递费|到付|postage|shipping", re.IGNORECASE),
    ),
    _Topic(
        re.compile(r"正品|保真|真假|真的|假的|authentic|genuine", re.IGNORECASE),
        re.compile(r"正品|保真|假一赔|专柜|支持.{0,4}鉴定|authentic|genuine", re.IGNORECASE),
    ),
)
# What is left of a question about nothing but its topic.
_FILLER = "块 元 钱 现在 目前 宝贝 商品 链接 同款 一件 具体 大概 严重 厉害 明显 多 出 卖 价 价格 it item this"


class Offline:
    """Quotes; keeps nothing of a question."""

    def __init__(self, knowledge: Searches) -> None:
        self._knowledge = knowledge

    async def quote(
        self,
        organization_id: str,
        account_id: str,
        item: ItemFacts,
        statements: Sequence[str],
        question: str,
    ) -> Quote | None:
        """The answer to `question`, None when a person is needed. Raises Unavailable."""
        if not question.strip() or len(question) > MAX_QUESTION or _PERSONAL.search(question):
            return None
        if _BARGAIN.search(question):
            return _refusal(item, statements)
        title = await words_of(item.title)
        known = "".join(title) + " " + _FILLER
        fact = await _price(item, question, known) or await _topic(item, question, known)
        if fact is not None:
            return fact
        weighed = await self._knowledge.weigh(organization_id, question)
        if not any(len(word) > 1 for word in weighed.weights):
            return None
        own = await _own(item, statements, weighed)
        found = await self._knowledge.search(organization_id, account_id, item.item_id, question, PASSAGES)
        passage = _clearest(found)
        if passage is None or (own is not None and own.confidence >= passage.coverage):
            return own
        return Quote(passage.text, passage.coverage, (f"document:{passage.document_id}",))

    async def complete(self, caller: Caller, prompt: Prompt) -> Answer:
        """Answers the last thing that a user said, or says that a person has to. Raises Unavailable."""
        asked = next((m.text for m in reversed(prompt.messages) if m.role is Role.USER), "")
        quote = await self.quote(caller.organization_id, caller.account_id, ItemFacts(), (), asked)
        if quote is not None:
            return Answer(text=quote.text)
        chinese = re.search(r"[\u3400-\u9fff]", asked) or not re.search(r"[A-Za-z]", asked)
        return Answer(text=NEEDS_PERSON if chinese else NEEDS_PERSON_ENGLISH)


def _refusal(item: ItemFacts, statements: Sequence[str]) -> Quote | None:
    """What the seller wrote against bargaining, if there is no number in it."""
    for source, text in _written(item, statements):
        if source != "title" and _NO_BARGAIN.search(text) and not _AMOUNT.search(text):
            return Quote(text, 1.0, (source,))
    return None


async def _price(item: ItemFacts, question: str, known: str) -> Quote | None:
    """The price as it is listed, for a question that asks for nothing else."""
    if not _PRICE.search(question) or not _PLAIN_PRICE.fullmatch(item.price):
        return None
    if any(word not in known for word in await words_of(_PRICE.sub(" ", question))):
        return None
    chinese = re.search(r"[\u3400-\u9fff]", question)
    text = f"标价{item.price}元。" if chinese else f"The listed price is {item.price} yuan."
    return Quote(text, 1.0, ("price",))


async def _topic(item: ItemFacts, question: str, known: str) -> Quote | None:
    """The sentences of the description on the question's topic, for a question about nothing else."""
    for topic in _TOPICS:
        if not topic.asked.search(question):
            continue
        rest = await words_of(topic.asked.sub(" ", question))
        said = [text for text in sentences(item.description) if topic.said.search(text)]
        if said and all(word in known for word in rest):
            return Quote("\n".join(said[:3]), 1.0, ("description",))
    return None


async def _own(item: ItemFacts, statements: Sequence[str], question: Question) -> Quote | None:
    """The sentence of the item or the policy with the most of the question in it."""
    best: Quote | None = None
    for source, text in _written(item, statements):
        found = set(await words_of(text))
        covered = question.coverage(found)
        longer = any(len(word) > 1 for word in question.weights if word in found)
        if longer and covered >= ENOUGH and (best is None or covered > best.confidence):
            best = Quote(text, covered, (source,))
    return best


def _written(item: ItemFacts, statements: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield from (("description", text) for text in sentences(item.description))
    yield from (("statement", text.strip()) for text in statements if text.strip())
    if item.title.strip():
        yield "title", item.title.strip()


def _clearest(found: Sequence[Passage]) -> Passage | None:
    """The best passage, if enough of the question is in it and no other text comes near it."""
    if not found or found[0].coverage < ENOUGH:
        return None
    best = found[0]
    others = (passage.score for passage in found[1:] if passage.text != best.text)
    return best if best.score >= MARGIN * next(others, 0.0) else None
