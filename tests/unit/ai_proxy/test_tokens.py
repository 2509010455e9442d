"""Counting tokens without a vocabulary. The numbers beside the texts are those of real vocabularies: OpenAI's
o200k, Qwen 3.6, DeepSeek V4, Gemini, Llama 3."""

from __future__ import annotations

import pytest

from frontdesk.ai_proxy.model import ModelMessage, Prompt, Role, Tool, ToolCall
from frontdesk.ai_proxy.tokens import IMAGE_TOKENS, count_prompt, count_text

TEXTS = (
    ("你好，这个还在吗？", (7, 6, 6, 6, 8)),
    ("九五新，机身底部有一道细微划痕，不影响使用，快门大概一万两千次，支持当面验货。", (35, 24, 25, 33, 35)),
    (
        "支持七天无理由退换货，运费由买家承担。请在签收后24小时内联系客服，订单号是 6222020012345678。",
        (37, 39, 33, 49, 40),
    ),
    ("【99新】iPhone 13 Pro 256G 远峰蓝色 国行双卡 全网通5G手机；价格：¥3899.00", (35, 41, 34, 40, 34)),
    ("Hi, is this still available? I can pick it up tonight after 6pm.", (18, 18, 18, 18, 18)),
    (
        "You are a helpful assistant that answers questions of buyers. "
        "Never offer less than the floor price.",
        (19, 19, 19, 19, 19),
    ),
    (
        '{"text": "可以便宜五十", "intent": "price", "offered_price": "2450.00", "confidence": 0.9}',
        (35, 36, 34, 36, 35),
    ),
    (
        "def record(self, spend: SpendRecord) -> None:\n    return self._bus.publish(spend.call_id, payload)",
        (25, 26, 26, 30, 25),
    ),
    ("この商品はまだ購入できますか？送料込みでお願いします。", (13, 12, 18, 12, 16)),
    ("Здравствуйте, товар ещё в наличии? Сколько стоит доставка?", (12, 12, 18, 11, 17)),
)


@pytest.mark.parametrize(("text", "real"), TEXTS)
def test_counts_are_rather_too_many_and_not_by_much(text: str, real: tuple[int, ...]) -> None:
    """About what the dearest of the vocabularies counts, or more, at most twice of it."""
    assert 0.95 * max(real) <= count_text(text) <= 2 * max(real) + 2


def test_nothing_is_nothing() -> None:
    """An empty answer used no tokens."""
    assert count_text("") == 0


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "\U0010ffff", "é" * 10, "\n" * 10])
def test_any_text_can_be_counted(text: str) -> None:
    """Whatever a caller sends."""
    assert count_text(text) > 0


def test_a_longer_text_is_not_fewer() -> None:
    """Adding to a text never takes from its count."""
    text = "你好 Hello 123 😀 Привет!"
    counts = [count_text(text[:length]) for length in range(len(text) + 1)]
    assert counts == sorted(counts)


def test_all_of_a_prompt_counts() -> None:
    """Messages, calls, pictures, tools and the schema of the answer."""
    words = "a description of what it is for"
    plain = count_prompt(Prompt((ModelMessage(Role.USER, words),)))
    tool = Tool("search", words, {"type": "object", "properties": {"query": {"type": "string"}}})
    call = ToolCall(0, "1", "search", '{"query": "a long question of a buyer"}')
    message = ModelMessage(Role.USER, words, image_urls=("https://example.com/a.png",))
    assert plain > count_text(words)
    assert count_prompt(Prompt((ModelMessage(Role.USER, words, tool_calls=(call,)),))) > plain + 10
    assert count_prompt(Prompt((message,))) == plain + IMAGE_TOKENS
    assert count_prompt(Prompt((ModelMessage(Role.USER, words),), tools=(tool,))) > plain + 20
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    assert count_prompt(Prompt((ModelMessage(Role.USER, words),), schema=schema)) > plain + 10
