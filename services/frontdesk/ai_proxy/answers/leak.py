"""Whether an answer gives away what it was told in secret: instructions, marks, limits.

Instructions are known by their words: a run of a dozen words of our own, or somewhat more of the seller's
prompts, is no chance. The item's facts, the shop's statements and the passages are there to be quoted.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache

from frontdesk.ai_proxy.answers.fold import fold, squeeze, words_of
from frontdesk.ai_proxy.answers.numerals import numbers
from frontdesk.ai_proxy.answers.policy import Policy
from frontdesk.ai_proxy.answers.prices import Kind, clauses, find_prices

FRAME_RUN = 12
PROMPT_RUN = 16
_OPAQUE = re.compile(r"[A-Za-z0-9+/=_-]{32,}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}[\s:]?){12,}")
_META = re.compile(
    r"系统提示|提示词|系统指令|系统消息|系统设定|我的(?:指令|设定|规则|提示|人设|任务)(?:是|如下|:)|我(?:被|是被)(?:设定|要求|指示)|内部(?:规则|指令|设定)"
    r"|系统给(?:我|出)的|system\s?prompt|system\s?message|my (?:instructions|prompt"
    r"|rules) (?:are|is|say|were)|i (?:was|am|have been) (?:instructed|told|programmed)"
    r"|needs_person|offered_price|议价空间|议价权限|developer mode|<\|im_"
)
_LIMIT = re.compile(
    r"底价|底线|下限|上限|最低限|授权|权限|空间|让价|极限|最多(?:能|可|只)|最大(?:优惠|折扣)"
    r"|(?<![a-z])floor(?![a-z])|(?<![a-z])limit(?![a-z])|(?<![a-z])minimum(?![a-z])"
    r"|(?<![a-z])max(?:imum)?(?![a-z])|allowed|authori[sz]ed"
)


class LeakGuard:
    """What one answer may not say. `marks` are random and of this call alone; `frame` is our own text,
    `prompts` are the seller's; `quotable` may be repeated."""

    def __init__(
        self,
        marks: Sequence[str],
        frame: Sequence[str],
        prompts: Sequence[str],
        quotable: Sequence[str],
        limits: Sequence[Decimal],
    ) -> None:
        self._marks = [squeeze(mark) for mark in marks]
        self._limits = set(limits)
        self._frame = tuple(frame)
        self._prompts = tuple(prompts)
        self._quotable = tuple(quotable)

    def leaks(self, text: str) -> bool:
        """Whether `text` gives something away, plainly, backwards or encoded."""
        if any(
            self._tells(view) for view in (text, text[::-1], codecs.encode(text, "rot13"), *_decoded(text))
        ):
            return True
        opaque = (run[0] for run in _OPAQUE.finditer(text))
        quotable = "\n".join(self._quotable)
        return any(run not in quotable for run in opaque) or self._tells_limit(text)

    def _tells(self, text: str) -> bool:
        if _META.search(fold(text)):
            return True
        letters = squeeze(text)
        if any(mark in letters for mark in self._marks):
            return True
        return any(
            self._repeats(text, secret, length)
            for secret, length in ((self._frame, FRAME_RUN), (self._prompts, PROMPT_RUN))
        )

    def _repeats(self, text: str, secret: tuple[str, ...], length: int) -> bool:
        """Whether `text` has a run of `secret` that stands in nothing quotable."""
        shared = _runs((text,), length) & _secret_runs(secret, length)
        return bool(shared) and bool(shared - _runs(self._quotable, length))

    def _tells_limit(self, text: str) -> bool:
        """Whether a clause names a limit's number and calls it one."""
        for clause in clauses(fold(text)):
            if not _LIMIT.search(clause):
                continue
            said = {number.value for number in numbers(clause)}
            said |= {
                100 - 100 * p.value for view in find_prices(clause) for p in view if p.kind is Kind.FACTOR
            }
            if said & self._limits:
                return True
        return False


def limits_of(policy: Policy, floor: Decimal | None) -> list[Decimal]:
    """The numbers that only the seller knows."""
    said = (floor, policy.floor_price, policy.max_discount_amount, policy.max_discount_percent)
    return [limit for limit in said if limit is not None and limit > 0]


def _runs(texts: Iterable[str], length: int) -> set[str]:
    """Every run of `length` words."""
    found: set[str] = set()
    for text in texts:
        words = words_of(text)
        found.update(" ".join(words[at : at + length]) for at in range(len(words) - length + 1))
    return found


# The longest prompts take about 4 MB each.
@lru_cache(32)
def _secret_runs(secret: tuple[str, ...], length: int) -> frozenset[str]:
    return frozenset(_runs(secret, length))


def _decoded(text: str) -> list[str]:
    """What base64 and hexadecimal runs say."""
    found = []
    for run in re.findall(r"[A-Za-z0-9+/_-]{12,}={0,2}", re.sub(r"(?<=\w)\n(?=\w)", "", text)):
        padded = run.rstrip("=").replace("-", "+").replace("_", "/")
        try:
            raw = base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
        except (binascii.Error, ValueError):
            continue
        found.append(raw.decode("utf-8", "ignore"))
    for match in _HEX.finditer(text):
        digits = re.sub(r"[\s:]", "", match[0])
        found.append(bytes.fromhex(digits[: len(digits) // 2 * 2]).decode("utf-8", "ignore"))
    return found
