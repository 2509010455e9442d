"""The words of a text, as search counts them.

Chinese has no spaces: runs of Han characters are cut by jieba's dictionary (`rjieba`, docs/adr/0013), in its
search mode, which also gives the shorter words inside a long one. Latin words and model numbers are split by
rule: `iPhone13` is `iphone13`, `iphone` and `13`, so it is found as `iPhone 13` too. Full-width forms,
ligatures and case are folded. Documents and questions go the same way, and every word is letters and digits
only.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from threading import Lock

MAX_WORD = 64  # characters; a longer one is cut, it is no word

_HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_RUN = re.compile(rf"([{_HAN}]+)|((?:(?![{_HAN}])[^\W_])+)")
_PART = re.compile(r"\d+|[^\W\d_]+")

# Words that a question and a passage share by grammar only.
_GRAMMAR = """
    的 了 吗 呢 吧 啊 呀 哦 哈 嘛 么 咯 啦 喽 着 过 地 得 呗 哇 嗯 我 你 您 他 她 它 我们 你们 他们 咱们
    这 那 这个 那个 这款 这些 那些 这种 是 有 在 和 与 及 或 也 都 就 还 又 再 很 太 才 只 把 被 给 对 从 到
    向 以 为 于 让 跟 一 个 一个 请 请问 想 问 下 一下 会 能 可以 可 要 能不能 可不可以 是不是 有没有 没有
    没 不 不是 什么 怎么 怎么样 怎样 如何 为什么 多少 几 哪 哪个 哪里 谁 啥 咋 咋样 如果 但 但是 因为 所以
    而 并 等 上 里 中 亲 亲亲 老板 店家 卖家 你家 好 的话 时候 个人 东西 情况
    a an the is are was do does did can could i you we it to of in on for and or with what how my your me any
    there this that be please
"""
_STOP = frozenset(_GRAMMAR.split())

# Words of the trade that the dictionary lacks.
_TRADE = """
    包邮 到付 顺丰 中通 韵达 申通 德邦 自提 验机 差评 少发 错发 丢件 缺件 改价 偏小 脚长 鞋码 扫码 微信
    国行 日版 有锁 无锁 卡贴 充电头 健康度 换屏 拆修 阴阳屏 刷机 掉漆 过保 在保 保内 数字版 兑换码 矿卡
    手办 盲盒 乐高
"""


_loading = Lock()


def _cutter() -> Callable[[str], list[str]]:
    if not _loaded.cache_info().currsize:
        with _loading:  # nobody can read the dictionary while a thread adds words to it
            return _loaded()
    return _loaded()


@cache
def _loaded() -> Callable[[str], list[str]]:
    """Loads the dictionary: about 0.1 s and 35 MB, once a process and not before it is needed."""
    import rjieba

    for word in _TRADE.split():
        rjieba.add_word(word, None, None)
    # Without its guesses at unknown words: they join the ends of two words, `顺丰到 付`.
    return lambda run: rjieba.cut_for_search(run, False)


def words(text: str) -> list[str]:
    """The words of a text, those that only serve grammar left out."""
    found: list[str] = []
    for run in _RUN.finditer(unicodedata.normalize("NFKC", text).casefold()):
        found += _han(run[1]) if run[1] else _latin(run[2])
    return found


def _han(run: str) -> list[str]:
    """The words of a run, and their characters: `邮` of `包邮` finds `邮费` (measured in docs/adr/0013)."""
    found = [word for word in _cutter()(run) if word not in _STOP]
    characters = dict.fromkeys(character for word in found if len(word) > 1 for character in word)
    return [*found, *(one for one in characters if one not in found and one not in _STOP)]


def _latin(run: str) -> list[str]:
    whole = run[:MAX_WORD]
    parts = [part for part in _PART.findall(whole) if len(part) > 1 or part.isdigit()]
    found = [whole] if parts == [whole] else [whole, *parts]
    return [word for word in found if word not in _STOP]


async def words_of(text: str) -> list[str]:
    """As `words`, without holding up the event loop for a long text or for the dictionary."""
    if len(text) > 2_000 or not _loaded.cache_info().currsize:
        return await asyncio.to_thread(words, text)
    return words(text)
