"""Regular expressions that can't hurt, and text made comparable."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.kit.clock import ManualClock, SystemClock
from frontdesk.kit.errors import InvalidArgument
from frontdesk.reply_engine.rules.model import Limits
from frontdesk.reply_engine.rules.patterns import (
    Patterns,
    compile_pattern,
    normalize,
    normalize_for_regex,
)

CATASTROPHE = "(a|aa)+$"
BAIT = "a" * 60 + "b"


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        (" ＰＲＩＣＥ？ ", "price?"),
        ("Straße", "strasse"),
        ("ﾊﾝｶｸ", "ハンカク"),
        ("多少钱", "多少钱"),
        ("㎏", "kg"),
    ],
)
def test_normalize(written: str, compared: str) -> None:
    """Case, width and outer blanks make no difference."""
    assert normalize(written) == compared


@pytest.mark.parametrize(
    "pattern",
    [
        "((a{1000}){1000}){1000}",
        "a{1000000}",
        "(" * 21 + "a" + "+)" * 21,
        "(?:" * 14 + "a" + "){2}" * 14,
        "(?R)?a",
        "(?1)(a)",
        "(?x)a # b",
        "(?:abc){e<=2}",
        "[[:alpha:][]((a{100}){100}){100}",
        "[[a]((a{100}){100}){100}]",
        "[]((a{100}){100}){100}]",
        "(?#[)((a{100}){100}){100}",
        "(?V1)[a--b]",
    ],
)
def test_bombs_are_refused_unread(pattern: str) -> None:
    """What would take all memory to compile, or hides it from the check, is refused at once."""
    started = time.process_time()
    with pytest.raises(InvalidArgument):
        compile_pattern(pattern)
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"\d+\s*元", "可以 50 元吗"),
        ("PRICE", "what price"),
        (r"^(在吗|在嘛)[?!]*$", "在吗？"),
        ("多少？", "多少？"),
        (r"多少\？", "多少？"),
        ("[？！]", "好！"),
        (r"\p{Han}{2,}", "hello 世界"),
        (r"(?<n>[ab])(?P=n)", "xbb"),
        (r"(?i:a)(?=b)(?!c)(?<=a)(?<!b)b", "ab"),
        (r"(?:a|b){2,3}?c{,2}", "abcc"),
        (r"[^\]\[]+x", "qx"),
    ],
)
def test_ordinary_patterns(pattern: str, text: str) -> None:
    """Ordinary patterns work, whatever the case, and full-width signs mean themselves."""
    assert compile_pattern(pattern).search(normalize_for_regex(text))


def test_full_width_is_literal() -> None:
    """A full-width question mark is a character and never makes the one before optional."""
    assert not compile_pattern("多少？").search("多")
    assert not compile_pattern(r"a\？b").search("ab")


@pytest.mark.parametrize(
    ("pattern", "position"),
    [
        ("ab(c", "at position 4"),
        ("*a", "position 0"),
        ("[a", "position 0"),
        ("a)b", "position 1"),
        ("a{x}", "position 1"),
        ("[[a]", "position 1"),
        ("[]a]", "position 1"),
    ],
)
def test_error_names_position(pattern: str, position: str) -> None:
    """A pattern that isn't one is refused with the field and the position."""
    with pytest.raises(InvalidArgument, match=position) as caught:
        compile_pattern(pattern, "keywords[3]")
    assert caught.value.field == "keywords[3]"


def test_length_limit() -> None:
    """A pattern longer than the limit is refused."""
    assert compile_pattern("a" * 20, limits=Limits(regex_length=20))
    with pytest.raises(InvalidArgument, match="longer than 20"):
        compile_pattern("a" * 21, limits=Limits(regex_length=20))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab(?:)[]{}*+|\\^$.0125,<>=!Pip-？（", max_size=40) | st.text(max_size=40))
def test_compile_fuzz(pattern: str) -> None:
    """Any text either compiles quickly or is an InvalidArgument."""
    started = time.process_time()
    try:
        compile_pattern(pattern)
    except InvalidArgument as error:
        assert error.field == "keywords"
    assert time.process_time() - started < 0.2


def test_catastrophe_is_cut() -> None:
    """A pattern that would run for years is stopped after its share of time."""
    patterns = Patterns(SystemClock(), limits=Limits(regex_seconds=0.02, decision_seconds=10))
    started = time.perf_counter()
    assert patterns.search(compile_pattern(CATASTROPHE), CATASTROPHE, BAIT, patterns.budget()) is None
    assert time.perf_counter() - started < 1.0
    assert patterns.slow() == (CATASTROPHE,)


async def test_slow_pattern_is_left_out_for_a_while() -> None:
    """After a time-out the pattern is not tried until its time is over, and then works again."""
    clock = ManualClock()
    patterns = Patterns(clock, limits=Limits(regex_seconds=0.01), slow_seconds=60)
    pattern = compile_pattern(CATASTROPHE)
    assert patterns.search(pattern, CATASTROPHE, BAIT, patterns.budget()) is None
    assert patterns.search(pattern, CATASTROPHE, "aaa", patterns.budget()) is None
    await clock.advance(59)
    assert patterns.search(pattern, CATASTROPHE, "aaa", patterns.budget()) is None
    await clock.advance(1)
    assert patterns.search(pattern, CATASTROPHE, "aaa", patterns.budget()) is True
    assert patterns.slow() == ()


def test_slow_memory_is_bounded() -> None:
    """Only so many slow patterns are remembered, the oldest is forgotten first."""
    patterns = Patterns(ManualClock(), limits=Limits(regex_seconds=0.005), slow_capacity=2)
    sources = [f"(a|aa)+${extra}" for extra in ("c", "d", "e")]
    for source in sources:
        assert patterns.search(compile_pattern("(a|aa)+$"), source, BAIT, patterns.budget()) is None
    assert patterns.slow() == tuple(sources[1:])


async def test_spent_budget_blames_nobody() -> None:
    """When the decision's time is spent patterns are left out, but not remembered as slow."""
    clock = ManualClock()
    patterns = Patterns(clock, limits=Limits(regex_seconds=0.05, decision_seconds=0.1))
    budget = patterns.budget()
    await clock.advance(0.09)
    assert patterns.search(compile_pattern(CATASTROPHE), CATASTROPHE, BAIT, budget) is None
    await clock.advance(0.02)
    assert patterns.search(compile_pattern("a"), "a", "a", budget) is None
    assert patterns.slow() == ()


def test_compiled_once() -> None:
    """A pattern is compiled once and shared, the least used ones are forgotten, a broken one is None."""
    patterns = Patterns(ManualClock(), capacity=2)
    first = patterns.compile("a")
    assert patterns.compile("b") is not None
    assert patterns.compile("a") is first
    assert patterns.compile("c") is not None
    assert patterns.compile("a") is first
    assert patterns.compile("(") is None
