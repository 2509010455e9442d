"""The cache of answers: whole questions only, bounded in bytes and in time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from frontdesk.ai_proxy.cache import AnswerCache, CachedAnswer, cache_key
from frontdesk.ai_proxy.catalog import Candidate, Who
from frontdesk.ai_proxy.model import Answer, Model, ModelMessage, Price, Prompt, Role, Tool
from frontdesk.kit.clock import ManualClock
from support.completions import provider

PROMPT = Prompt((ModelMessage(Role.USER, "hi"),), tools=(Tool("look", parameters={"a": 1, "b": [2]}),))


def candidates(upstream: str = "m") -> list[Candidate]:
    model = Model("default", upstream)
    return [Candidate(provider("a", model), model)]


def entry(text: str) -> CachedAnswer:
    return CachedAnswer(Answer(text), Who("a", "m", "openai", Price()))


async def test_an_answer_is_kept_for_its_time() -> None:
    clock = ManualClock()
    cache = AnswerCache(10_000, 60, clock)
    cache.put(b"k", entry("x"))
    await clock.advance(59)
    assert cache.get(b"k") == entry("x")
    await clock.advance(1)
    assert cache.get(b"k") is None
    assert cache.size_bytes == 0


def test_bytes_are_bounded_the_least_used_goes_first() -> None:
    cache = AnswerCache(3 * 1124, 60, ManualClock())
    for name in (b"a", b"b", b"c"):
        cache.put(name, entry("x" * 100))
    assert cache.get(b"a")
    cache.put(b"d", entry("x" * 100))
    assert [bool(cache.get(name)) for name in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    assert cache.size_bytes <= 3 * 1124
    cache.put(b"huge", entry("字" * 3000))
    assert cache.get(b"huge") is None
    assert cache.get(b"a")


def test_a_new_answer_takes_the_old_ones_place() -> None:
    cache = AnswerCache(10_000, 60, ManualClock())
    cache.put(b"k", entry("x" * 500))
    cache.put(b"k", entry("y"))
    found = cache.get(b"k")
    assert found and found.answer.text == "y"
    assert cache.size_bytes == 1025


@pytest.mark.parametrize(
    ("organization", "model", "upstream", "prompt"),
    [
        ("other", "default", "m", PROMPT),
        ("org", "cheap", "m", PROMPT),
        ("org", "default", "m2", PROMPT),
        ("org", "default", "m", replace(PROMPT, temperature=0.5)),
        ("org", "default", "m", replace(PROMPT, messages=(ModelMessage(Role.SYSTEM, "hi"),))),
        ("org", "default", "m", replace(PROMPT, tools=())),
    ],
    ids=["organization", "name", "model behind", "temperature", "role", "tools"],
)
def test_everything_that_matters_is_in_the_key(
    organization: str, model: str, upstream: str, prompt: Prompt
) -> None:
    key = cache_key("org", "default", candidates(), PROMPT)
    assert key == cache_key("org", "default", candidates(), replace(PROMPT))
    assert key != cache_key(organization, model, candidates(upstream), prompt)


def test_the_order_of_a_schemas_keys_does_not_matter() -> None:
    turned = replace(PROMPT, tools=(Tool("look", parameters={"b": [2], "a": 1}),))
    assert cache_key("org", "m", [], turned) == cache_key("org", "m", [], PROMPT)


def test_a_prompt_that_json_cannot_hold_has_no_key() -> None:
    assert cache_key("org", "m", [], replace(PROMPT, seed=2**70)) is None
