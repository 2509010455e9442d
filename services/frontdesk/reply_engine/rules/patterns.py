"""Text made comparable, and regular expressions that can't hurt.

A seller's pattern runs in the process that answers everybody, so it is bounded three times: by a structure
check before it is compiled (the `regex` library writes repeats out: `((a{1000}){1000}){1000}` takes all
memory there is), by a time limit on each search, and by being left out for a while after it needed that
limit.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections import OrderedDict
from dataclasses import dataclass

import regex

from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.errors import InvalidArgument
from frontdesk.reply_engine.rules.model import LIMITS, Limits

_OPENINGS = re.compile(r"\(\?(?::|=|!|>|<=|<!|P?<\w+>|P=\w+(?=\))|-?[ims]+:|-?[ims]+(?=\)))|\((?![?*])")
_REPEAT = re.compile(r"(?:([*+?])|\{([0-9]{1,6})?(,)?([0-9]{1,6})?\})[?+]?")
_UNIT = re.compile(r"\\.|.", re.DOTALL)
_BRACED_ESCAPE = re.compile(r"\\[pPN]\{[^{}]*\}")


def normalize(text: str) -> str:
    """Text for comparing: full-width made half-width (NFKC), case folded, outer blanks gone."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).strip()


def normalize_for_regex(text: str) -> str:
    """Text for searching: full-width made half-width, outer blanks gone; case is the pattern's business."""
    return unicodedata.normalize("NFKC", text).strip()


def compile_pattern(pattern: str, field: str = "keywords", limits: Limits = LIMITS) -> regex.Pattern[str]:
    """A pattern that ignores case and matches anywhere in `normalize_for_regex` text.

    InvalidArgument names `field` and the position when it isn't a regular expression, uses something that
    can't be bounded (recursion, fuzzy matching, verbose mode, nested sets), or would grow too big.
    """
    if len(pattern) > limits.regex_length:
        raise InvalidArgument(field, f"is longer than {limits.regex_length} characters")
    size = _Measure(pattern, field).size()
    if size > limits.regex_size:
        raise InvalidArgument(field, "repeats inside repeats make it too big; use smaller counts")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            regex.compile(pattern, regex.IGNORECASE, cache_pattern=False)
            return regex.compile(_half_width(pattern), regex.IGNORECASE, cache_pattern=False)
    except (regex.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise InvalidArgument(field, f"not a regular expression: {error}") from error


def _half_width(pattern: str) -> str:
    """The pattern with what `normalize_for_regex` replaces replaced, as literals: `？` by `\\?`."""
    return pattern if pattern.isascii() else _UNIT.sub(_half_width_unit, pattern)


def _half_width_unit(found: re.Match[str]) -> str:
    char = found.group()[-1]
    other = unicodedata.normalize("NFKC", char)
    return regex.escape(other) if other != char and len(other) == 1 else found.group()


class _Measure:
    """How many nodes a pattern has once repeats are written out; refuses what it can't follow for sure."""

    def __init__(self, pattern: str, field: str) -> None:
        self._pattern = pattern
        self._field = field

    def size(self) -> int:
        # One number an open group: the sum of what is closed in it. `last` is what a repeat would repeat.
        open_groups = [0]
        position = last = 0
        while position < len(self._pattern):
            char = self._pattern[position]
            if char == "(":
                position = self._match(
                    _OPENINGS, position, "a group of a kind that is not supported here"
                ).end()
                open_groups.append(1)
                last = 0
            elif char == ")":
                if len(open_groups) == 1:
                    raise self._error(position, "closes a group that was not opened")
                last = open_groups.pop()
                open_groups[-1] += last
                position += 1
            elif char in "*+?{":
                found = self._match(
                    _REPEAT, position, "a brace that is no repeat; write \\{ for the character"
                )
                grown = last * (_copies(found) + 1)
                open_groups[-1] += grown - last
                last, position = grown, found.end()
            else:
                position = self._atom(position)
                open_groups[-1] += 1
                last = 1
        return sum(open_groups)

    def _atom(self, position: int) -> int:
        """Where the atom at `position` ends."""
        if self._pattern[position] == "\\":
            braced = _BRACED_ESCAPE.match(self._pattern, position)
            return braced.end() if braced else position + 2
        if self._pattern[position] != "[":
            return position + 1
        position += 2 if self._pattern.startswith("[^", position) else 1
        first = position
        while position < len(self._pattern):
            char = self._pattern[position]
            if char == "]" and position > first:
                return position + 1
            if char in "[]":
                raise self._error(position, f"write \\{char} inside [ ]")
            position += 2 if char == "\\" else 1
        raise self._error(first - 1, "the set [ is not closed")

    def _match(self, what: re.Pattern[str], position: int, problem: str) -> re.Match[str]:
        found = what.match(self._pattern, position)
        if not found or found.group() == "{}":
            raise self._error(position, problem)
        return found

    def _error(self, position: int, problem: str) -> InvalidArgument:
        return InvalidArgument(self._field, f"not a regular expression: position {position}: {problem}")


def _copies(repeat: re.Match[str]) -> int:
    """How often the library writes the repeated thing out before its loop: the least count."""
    sign, least, _comma, _most = repeat.groups()
    return {"*": 0, "?": 0, "+": 1}[sign] if sign else int(least or 0)


@dataclass(frozen=True, slots=True)
class Budget:
    """Time for the regular expressions of one decision, in seconds of the clock that made it."""

    deadline: float


class Patterns:
    """Compiled patterns, and which of them ran out of time lately; both bounded, oldest use out first.

    Share one between matchers of successive snapshots, so that a changed rule compiles only itself and a slow
    pattern stays known.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        limits: Limits = LIMITS,
        capacity: int = 10_000,
        slow_capacity: int = 1_000,
        slow_seconds: float = 60.0,
    ) -> None:
        self._clock = clock or SystemClock()
        self._limits = limits
        self._capacity = capacity
        self._slow_capacity = slow_capacity
        self._slow_seconds = slow_seconds
        self._compiled: OrderedDict[str, regex.Pattern[str]] = OrderedDict()
        self._slow: OrderedDict[str, float] = OrderedDict()

    def compile(self, pattern: str) -> regex.Pattern[str] | None:
        """The compiled pattern; None when it does not compile (stored before a rule was made stricter)."""
        found = self._compiled.get(pattern)
        if found is None:
            try:
                found = compile_pattern(pattern, limits=self._limits)
            except InvalidArgument:
                return None
            self._compiled[pattern] = found
            while len(self._compiled) > self._capacity:
                self._compiled.popitem(last=False)
        else:
            self._compiled.move_to_end(pattern)
        return found

    def budget(self) -> Budget:
        """A fresh budget for one decision."""
        return Budget(self._clock.monotonic() + self._limits.decision_seconds)

    def search(self, pattern: regex.Pattern[str], source: str, text: str, budget: Budget) -> bool | None:
        """Whether it matches; None when it ran out of time, now or lately, or the decision's time is
        spent."""
        now = self._clock.monotonic()
        if self._slow:
            until = self._slow.get(source)
            if until is not None and now < until:
                return None
        left = budget.deadline - now
        if left <= 0.001:
            return None
        try:
            return pattern.search(text, timeout=min(left, self._limits.regex_seconds)) is not None
        except TimeoutError:
            # Cut short by what others used up is no proof that this one is slow.
            if left >= self._limits.regex_seconds:
                self._remember(source)
            return None

    def slow(self) -> tuple[str, ...]:
        """Patterns that are left out at the moment."""
        now = self._clock.monotonic()
        return tuple(source for source, until in self._slow.items() if now < until)

    def _remember(self, source: str) -> None:
        self._slow[source] = self._clock.monotonic() + self._slow_seconds
        self._slow.move_to_end(source)
        while len(self._slow) > self._slow_capacity:
            self._slow.popitem(last=False)
