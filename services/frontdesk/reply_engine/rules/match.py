"""Which rule answers a message, and why every other one does not.

Order: item rules, then account rules, then global ones; within a scope by priority (higher first), then
exact, contains (longer keyword first), regex, any; then by id. The first one that hits and is neither cooling
down nor used up nor outside its hours wins, so a rule that is held back leaves the message to the next one.
Of several messages answered together a rule may hit the whole or any one of them; the order stays the same.

A `Matcher` is built once for a snapshot of one organization's rules. Looking up a message costs a few
microseconds per thousand keywords: exact keywords are in a dict, contained ones in lists by their first two
characters, and only regular expressions are tried one by one, and only those that could still win.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import add

import regex

from frontdesk.kit.clock import iso
from frontdesk.kit.errors import InvalidArgument
from frontdesk.reply_engine.rules.hours import minute_of_day, parse_interval, within
from frontdesk.reply_engine.rules.model import (
    LIMITS,
    ChatCounters,
    DefaultReply,
    Incoming,
    Limits,
    Match,
    Rule,
    Scope,
)
from frontdesk.reply_engine.rules.patterns import Budget, Patterns, normalize, normalize_for_regex

ALL_SCOPES = (Scope.ITEM, Scope.ACCOUNT, Scope.GLOBAL)

_KINDS = {Match.EXACT: 0, Match.CONTAINS: 1, Match.REGEX: 2, Match.ANY: 3}
_NO_COUNTERS = ChatCounters()
_NO_RULE = "no rule matched"


class Outcome(StrEnum):
    """What became of one rule."""

    WINS = "wins"
    DISABLED = "disabled"
    INVALID = "invalid"
    OTHER_ORGANIZATION = "other organization"
    OTHER_SCOPE = "other scope"
    OTHER_ACCOUNT = "other account"
    OTHER_ITEM = "other item"
    NO_KEYWORD = "no keyword matched"
    TIMED_OUT = "regex timed out"
    OUTSIDE_HOURS = "outside hours"
    COOLDOWN = "cooling down"
    USED_UP = "used up"
    LOWER = "lower priority"


@dataclass(frozen=True, slots=True)
class Decision:
    """The rule that answers, or None.

    `matched_keyword` is as the seller wrote it, empty for ANY. `reason` is for people. `timed_out` are ids of
    rules that were left out because a regular expression took too long.
    """

    rule: Rule | None
    matched_keyword: str = ""
    reason: str = ""
    timed_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one rule; `reason` is a sentence for people that contains the facts."""

    rule: Rule
    outcome: Outcome
    reason: str
    matched_keyword: str = ""

    @property
    def wins(self) -> bool:
        return self.outcome is Outcome.WINS


@dataclass(frozen=True, slots=True)
class DefaultDecision:
    """The default reply that answers, or None, and why."""

    default: DefaultReply | None
    reason: str


@dataclass(slots=True, eq=False)
class _Entry:
    """A rule made ready: its keywords as compared and its hours in minutes."""

    rule: Rule
    keywords: tuple[tuple[str, str], ...]  # (as compared, as written)
    patterns: tuple[tuple[regex.Pattern[str], str], ...]
    hours: tuple[tuple[int, int], ...]

    def rank(self, keyword: str = "") -> _Rank:
        length = len(keyword) if self.rule.match is Match.CONTAINS else 0
        return (-self.rule.priority, _KINDS[self.rule.match], -length, self.rule.id, keyword)


_Rank = tuple[int, int, int, str, str]
_Hit = tuple[_Rank, _Entry, str]  # the last is the keyword as written; still unknown for REGEX
_Found = tuple[_Hit, "_Message"]


def _by_rank(found: _Found) -> _Rank:
    return found[0][0]


@dataclass(slots=True)
class _Table:
    """The rules of one place, e.g. of one item, indexed by how they hit."""

    exact: dict[str, list[_Hit]] = field(default_factory=dict)
    contains: dict[str, list[tuple[str, _Hit]]] = field(default_factory=dict)
    trial: list[_Hit] = field(default_factory=list)  # regex: every message has to try them
    always: list[_Hit] = field(default_factory=list)  # any

    def add(self, entry: _Entry) -> None:
        match = entry.rule.match
        if match is Match.ANY:
            self.always.append((entry.rank(), entry, ""))
        elif match is Match.REGEX:
            self.trial.append((entry.rank(), entry, ""))
        for compared, written in entry.keywords:
            hit = (entry.rank(compared), entry, written)
            if match is Match.EXACT:
                self.exact.setdefault(compared, []).append(hit)
            elif match is Match.CONTAINS:
                self.contains.setdefault(compared[:2], []).append((compared, hit))

    def hits(self, text: str) -> list[_Hit]:
        """Everything that hits or, for regex, may hit, in no order."""
        found = list(self.always)
        if text:
            found += self.trial
            found += self.exact.get(text, ())
            if self.contains:
                for start in self.contains.keys() & _starts(text):
                    found += [hit for keyword, hit in self.contains[start] if keyword in text]
        return found


def _starts(text: str) -> set[str]:
    """All the one and two characters that a contained keyword may begin with."""
    return {*text, *map(add, text, text[1:])}


@dataclass(frozen=True, slots=True)
class _Message:
    """An incoming message made ready."""

    incoming: Incoming
    text: str
    regex_text: str
    minute: int
    counters: ChatCounters


class Matcher:
    """The rules of one organization, ready to be asked.

    Never raises for a stored rule that is no longer valid: a pattern that doesn't compile or hours that
    can't be read just never match. A regular expression blocks the event loop while it is searched for, at
    most `regex_seconds`, and all of one decision at most `decision_seconds`.
    """

    def __init__(
        self, rules: Iterable[Rule], *, patterns: Patterns | None = None, limits: Limits = LIMITS
    ) -> None:
        self._limits = limits
        self._patterns = patterns or Patterns(limits=limits)
        self._entries = [self._entry(rule) for rule in rules]
        self._items: dict[tuple[str, str, str | None], _Table] = {}
        self._accounts: dict[tuple[str, str | None], _Table] = {}
        self._globals: dict[str, _Table] = {}
        for entry in self._entries:
            if entry.rule.enabled:
                self._index(entry)

    def budget(self) -> Budget:
        """Time for the regular expressions of one decision, for all calls of `decide` that belong to it."""
        return self._patterns.budget()

    def decide(
        self,
        incoming: Incoming,
        counters: ChatCounters = _NO_COUNTERS,
        scopes: Collection[Scope] = ALL_SCOPES,
        *,
        singly: Sequence[str] = (),
        budget: Budget | None = None,
    ) -> Decision:
        """The rule that answers a message, among the rules of `scopes` (see `order.scopes_of`).

        `singly` are the texts that `incoming.text` was merged from; a rule may hit any one of them, too.
        """
        places = self._places(incoming, scopes)
        if not places:
            return Decision(None, "", _NO_RULE)
        texts = dict.fromkeys((incoming.text, *singly))
        messages = [self._message(incoming, counters, text) for text in texts]
        budget = budget or self._patterns.budget()
        timed_out: list[str] = []
        held_back = ""
        for (_rank, entry, written), message in _candidates(messages, places):
            held = _held_back(entry, message)
            if held:
                held_back = held_back or (
                    "" if entry.patterns else f"{_title(entry.rule)} matched but is held back: {held[1]}"
                )
                continue
            keyword: str | None = written
            if entry.rule.match is Match.REGEX:
                keyword, cut = self._try_patterns(entry, message, budget)
                if cut and entry.rule.id not in timed_out:
                    timed_out.append(entry.rule.id)
            if keyword is not None:
                return Decision(entry.rule, keyword, _why(entry.rule, keyword), tuple(timed_out))
        return Decision(None, "", held_back or _NO_RULE, tuple(timed_out))

    def explain(
        self,
        incoming: Incoming,
        counters: ChatCounters = _NO_COUNTERS,
        scopes: Collection[Scope] = ALL_SCOPES,
    ) -> list[Verdict]:
        """One verdict for every rule, in the order of the rules; the winner is the one `decide` finds."""
        decision = self.decide(incoming, counters, scopes)
        message = self._message(incoming, counters, incoming.text)
        budget = self._patterns.budget()
        timed_out = set(decision.timed_out)
        return [self._verdict(entry, message, scopes, decision, budget, timed_out) for entry in self._entries]

    def _message(self, incoming: Incoming, counters: ChatCounters, text: str) -> _Message:
        head = text[: self._limits.match_text_length]
        return _Message(
            incoming=incoming,
            text=normalize(head),
            regex_text=normalize_for_regex(head),
            minute=minute_of_day(incoming.now_ms, incoming.utc_offset_minutes),
            counters=counters,
        )

    def _entry(self, rule: Rule) -> _Entry:
        patterns: list[tuple[regex.Pattern[str], str]] = []
        keywords: tuple[tuple[str, str], ...] = ()
        if rule.match is Match.REGEX:
            for keyword in rule.keywords:
                pattern = self._patterns.compile(keyword)
                if pattern is not None:
                    patterns.append((pattern, keyword))
        elif rule.match is not Match.ANY:
            keywords = tuple((compared, word) for word in rule.keywords if (compared := normalize(word)))
        return _Entry(rule, keywords, tuple(patterns), _hours(rule))

    def _index(self, entry: _Entry) -> None:
        rule = entry.rule
        if rule.scope is Scope.ITEM:
            for item_id in set(rule.item_ids):
                key = (rule.organization_id, item_id, rule.account_id)
                self._items.setdefault(key, _Table()).add(entry)
        elif rule.scope is Scope.ACCOUNT:
            self._accounts.setdefault((rule.organization_id, rule.account_id), _Table()).add(entry)
        else:
            self._globals.setdefault(rule.organization_id, _Table()).add(entry)

    def _places(self, incoming: Incoming, scopes: Collection[Scope]) -> list[list[_Table]]:
        """The rules that are for this message, narrowest scope first."""
        return [t for s in ALL_SCOPES if s in scopes and (t := self._tables(s, incoming))]

    def _tables(self, scope: Scope, incoming: Incoming) -> list[_Table]:
        """The rules of a scope that are for this message's place."""
        organization, account = incoming.organization_id, incoming.account_id
        tables: list[_Table | None]
        if scope is Scope.ITEM:
            item = incoming.item_id
            tables = [self._items.get((organization, item, a)) for a in (None, account)] if item else []
        elif scope is Scope.ACCOUNT:
            tables = [self._accounts.get((organization, account))]
        else:
            tables = [self._globals.get(organization)]
        return [table for table in tables if table]

    def _try_patterns(self, entry: _Entry, message: _Message, budget: Budget) -> tuple[str | None, bool]:
        """The first pattern that matches, and whether one before it ran out of time."""
        cut = False
        for pattern, written in entry.patterns:
            result = self._patterns.search(pattern, written, message.regex_text, budget)
            if result:
                return written, cut
            cut = cut or result is None
        return None, cut

    def _verdict(
        self,
        entry: _Entry,
        message: _Message,
        scopes: Collection[Scope],
        decision: Decision,
        budget: Budget,
        timed_out: set[str],
    ) -> Verdict:
        rule, winner = entry.rule, decision.rule
        if winner is rule:
            return Verdict(rule, Outcome.WINS, decision.reason, decision.matched_keyword)
        outcome = _misplaced(rule, message.incoming, scopes)
        if outcome:
            return Verdict(rule, outcome[0], outcome[1])
        keyword, cut = self._matched(entry, message, budget)
        if rule.id in timed_out or (keyword is None and cut):
            return Verdict(rule, Outcome.TIMED_OUT, "a regular expression took too long and was left out")
        if keyword is None:
            return Verdict(rule, Outcome.NO_KEYWORD, _no_keyword(entry, message))
        held = _held_back(entry, message)
        if held:
            return Verdict(rule, held[0], held[1], keyword)
        better = _title(winner) if winner else "nothing"
        return Verdict(rule, Outcome.LOWER, f"matched, but {better} comes first", keyword)

    def _matched(self, entry: _Entry, message: _Message, budget: Budget) -> tuple[str | None, bool]:
        """The keyword that hits, without the index; for explaining only."""
        match = entry.rule.match
        if match is Match.ANY:
            return ("" if message.text or message.incoming.has_image else None), False
        if not message.text:
            return None, False
        if match is Match.REGEX:
            return self._try_patterns(entry, message, budget)
        hits = [
            (-len(compared), compared, written)
            for compared, written in entry.keywords
            if (compared == message.text if match is Match.EXACT else compared in message.text)
        ]
        return (min(hits)[2] if hits else None), False


def _candidates(messages: Sequence[_Message], places: Iterable[Iterable[_Table]]) -> Iterator[_Found]:
    """What may answer, scope by scope, so that an item's rule spares the work on the others."""
    # ANY means "whatever the buyer sent"; nothing at all is nothing sent.
    said = [message for message in messages if message.text or message.incoming.has_image]
    for tables in places if said else ():
        found = [(hit, message) for t in tables for message in said for hit in t.hits(message.text)]
        found.sort(key=_by_rank)
        yield from found


def choose_default(
    defaults: Iterable[DefaultReply], incoming: Incoming, counters: ChatCounters = _NO_COUNTERS
) -> DefaultDecision:
    """The default reply of the narrowest scope that has an enabled one (RE-09).

    When that one is used up nothing is said: a wider one would only repeat the point. An item's default reply
    for the message's account comes before one for all accounts; the lower id settles what is left.
    """
    ranked = sorted(
        (ALL_SCOPES.index(default.scope), default.account_id is None, default.id, position, default)
        for position, default in enumerate(defaults)
        if default.enabled and _default_fits(default, incoming)
    )
    if not ranked:
        return DefaultDecision(None, "no default reply is enabled here")
    default = ranked[0][-1]
    used = counters.count(default.id)
    if default.max_per_chat is not None and used >= default.max_per_chat:
        return DefaultDecision(None, f"the default reply was used {used} of {default.max_per_chat} times")
    return DefaultDecision(default, f"default reply of scope {default.scope}")


def _default_fits(default: DefaultReply, incoming: Incoming) -> bool:
    if default.organization_id != incoming.organization_id:
        return False
    if default.scope is Scope.GLOBAL:
        return True
    if default.scope is Scope.ACCOUNT:
        return default.account_id == incoming.account_id
    return (
        default.item_id is not None
        and default.item_id == incoming.item_id
        and default.account_id in (None, incoming.account_id)
    )


def _hours(rule: Rule) -> tuple[tuple[int, int], ...]:
    intervals = []
    for text in rule.active_hours:
        try:
            intervals.append(parse_interval(text))
        except InvalidArgument:
            intervals.append((0, 0))  # holds no minute: a rule whose hours can't be read stays silent
    return tuple(intervals)


def _held_back(entry: _Entry, message: _Message) -> tuple[Outcome, str] | None:
    """Why a rule that matches may not answer now; None when it may."""
    rule, counters, now_ms = entry.rule, message.counters, message.incoming.now_ms
    if entry.hours and not within(entry.hours, message.minute):
        clock = f"{message.minute // 60:02d}:{message.minute % 60:02d}"
        return Outcome.OUTSIDE_HOURS, f"{clock} is outside its hours {', '.join(rule.active_hours)}"
    if rule.max_per_chat is not None:
        used = counters.count(rule.id)
        if used >= rule.max_per_chat:
            return Outcome.USED_UP, f"used {used} of {rule.max_per_chat} times in this chat"
    if rule.cooldown_seconds:
        last = counters.last_used_ms(rule.id)
        if last is not None and now_ms < last + rule.cooldown_seconds * 1000:
            return (
                Outcome.COOLDOWN,
                f"cools down in this chat until {iso(last + rule.cooldown_seconds * 1000)}",
            )
    return None


def _misplaced(rule: Rule, incoming: Incoming, scopes: Collection[Scope]) -> tuple[Outcome, str] | None:
    """Why a rule is not for this message at all; None when it is."""
    if rule.organization_id != incoming.organization_id:
        return Outcome.OTHER_ORGANIZATION, "belongs to another organization"
    if rule.problem:
        return Outcome.INVALID, f"is stored but not valid: {rule.problem}"
    if not rule.enabled:
        return Outcome.DISABLED, "is switched off"
    if rule.scope not in scopes:
        return Outcome.OTHER_SCOPE, f"{rule.scope} rules are not asked in this step"
    if rule.scope is Scope.ACCOUNT and rule.account_id != incoming.account_id:
        return Outcome.OTHER_ACCOUNT, f"is for account {rule.account_id}"
    if rule.scope is Scope.ITEM:
        if rule.account_id not in (None, incoming.account_id):
            return Outcome.OTHER_ACCOUNT, f"is for account {rule.account_id}"
        if incoming.item_id is None:
            return Outcome.OTHER_ITEM, "is for items, and the message names none"
        if incoming.item_id not in rule.item_ids:
            return Outcome.OTHER_ITEM, f"is not for item {incoming.item_id}"
    return None


def _no_keyword(entry: _Entry, message: _Message) -> str:
    if not message.text:
        return "the message has no text"
    if entry.rule.match is Match.REGEX and len(entry.patterns) < len(entry.rule.keywords):
        return "no pattern matched, and one of them does not compile"
    return (
        "none of its keywords is in the text" if entry.rule.match is Match.CONTAINS else "no keyword matched"
    )


def _why(rule: Rule, keyword: str) -> str:
    what = "matches anything" if rule.match is Match.ANY else f"{rule.match} {keyword!r}"
    return f"{_title(rule)}: {rule.scope} rule, priority {rule.priority}, {what}"


def _title(rule: Rule) -> str:
    return f"rule {rule.name!r} ({rule.id})" if rule.name else f"rule {rule.id}"
