"""The words of a text."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from frontdesk.ai_proxy.knowledge.segment import MAX_WORD, words, words_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("iPhone13 Pro", ["iphone13", "iphone", "13", "pro"]),
        ("ＲＴＸ　３０８０", ["rtx", "3080"]),
        ("256G", ["256g", "256"]),
        ("42码", ["42", "码"]),
        ("Joy-Con USB-C", ["joy", "con", "usb", "c"]),
        ("ﬁne Zürich STRASSE", ["fine", "zürich", "strasse"]),
        ("！？…😀 ——", []),
        ("", []),
        ("这个是什么呢", []),
        ("Is this for you", []),
    ],
)
def test_words_of_letters_and_digits(text: str, expected: list[str]) -> None:
    """Model numbers are found whole and in parts, full width is folded, words of grammar are left out."""
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("全国包邮吗", {"全国", "包邮", "包", "邮"}),
        ("顺丰到付", {"顺丰", "到付"}),
        ("电池健康度87%", {"电池", "健康度", "87"}),
        ("化妆品", {"化妆品", "化妆"}),
    ],
)
def test_chinese_is_cut_into_words_and_their_characters(text: str, expected: set[str]) -> None:
    """Words of the trade are words, and a long word's shorter ones are found too."""
    assert expected <= set(words(text))


def test_words_fit_the_index() -> None:
    """However long a run is, a word is letters and digits only and fits its column."""
    found = words("a" * 1000 + " " + "界" * 500 + "1" * 200 + "㎝²'\"\\|&")
    assert max(map(len, found)) <= MAX_WORD
    assert all(word.isalnum() for word in found)


async def test_a_long_text_does_not_hold_up_the_loop() -> None:
    """The loop goes on while half a megabyte is cut."""
    text = "手机屏幕有轻微划痕，不影响使用。" * 10_000
    cutting = asyncio.ensure_future(words_of(text))
    turns = 0
    while not cutting.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    assert await cutting == words(text)


AT_ONCE = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from frontdesk.ai_proxy.knowledge.segment import words
together = Barrier(8)
def first(_):
    together.wait()
    return words("全国包邮吗")
with ThreadPoolExecutor(8) as pool:
    assert len({tuple(found) for found in pool.map(first, range(8))}) == 1
"""


def test_threads_may_need_the_dictionary_at_once() -> None:
    """The first texts of a process may come together: one thread loads, the others wait for it."""
    subprocess.run([sys.executable, "-c", AT_ONCE], check=True, timeout=30)
