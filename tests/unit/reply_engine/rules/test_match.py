"""Which rule answers, and that every other one is told why."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.kit.clock import ManualClock, SystemClock
from frontdesk.reply_engine.rules.match import (
    ALL_SCOPES,
    Matcher,
    Outcome,
    Verdict,
    choose_default,
)
from frontdesk.reply_engine.rules.model import (
    ChatCounters,
    DefaultReply,
    Incoming,
    Limits,
    Match,
    Reply,
    Rule,
    Scope,
    TextPart,
)
from frontdesk.reply_engine.rules.patterns import Patterns

NOW = 1_700_000_000_000  # 2023-11-14 22:13:20 UTC
SAY = Reply((TextPart("ok"),))
CATASTROPHE = "(a|aa)+$"
BAIT = "a" * 60 + "b"


def rule(id_: str, *keywords: str, match: Match = Match.CONTAINS, priority: int = 0) -> Rule:
    """A global rule of organization o1."""
    return Rule(id_, "o1", keywords=keywords, match=match, priority=priority, reply=SAY)


def account(of: Rule, account_id: str = "a1") -> Rule:
    """The same for an account."""
    return replace(of, scope=Scope.ACCOUNT, account_id=account_id)


def item(of: Rule, *item_ids: str, account_id: str | None = None) -> Rule:
    """The same for items."""
    return replace(of, scope=Scope.ITEM, item_ids=item_ids or ("i1",), account_id=account_id)


def said(text: str, item_id: str | None = "i1", *, has_image: bool = False) -> Incoming:
    """A buyer's message to account a1."""
    return Incoming("o1", "a1", "c1", text, NOW, item_id=item_id, has_image=has_image)


def winner(
    rules: Collection[Rule],
    text: str,
    counters: ChatCounters | None = None,
    scopes: Collection[Scope] = ALL_SCOPES,
) -> str | None:
    """The id of the rule that answers, checked to be the one that is explained to win."""
    matcher = Matcher(rules)
    counters = counters or ChatCounters()
    decision = matcher.decide(said(text), counters, scopes)
    wins = [verdict.rule.id for verdict in matcher.explain(said(text), counters, scopes) if verdict.wins]
    assert wins == ([decision.rule.id] if decision.rule else [])
    return decision.rule.id if decision.rule else None


def explained(
    rules: Collection[Rule], message: Incoming, counters: ChatCounters | None = None
) -> list[Verdict]:
    """The verdicts on rules."""
    return Matcher(rules).explain(message, counters or ChatCounters())


def test_item_beats_account_beats_global() -> None:
    """The narrower scope wins, whatever the priorities (RE-06, RE-07, RE-34)."""
    everywhere, here, this = (
        rule("g", "钱", priority=9),
        account(rule("a", "钱", priority=5)),
        item(rule("i", "钱")),
    )
    assert winner([everywhere, here, this], "多少钱") == "i"
    assert winner([everywhere, here], "多少钱") == "a"
    assert winner([everywhere], "多少钱") == "g"


def test_scopes_of_a_step() -> None:
    """Only rules of the scopes that are asked may answer."""
    rules = [rule("g", "钱"), account(rule("a", "钱")), item(rule("i", "钱"))]
    assert winner(rules, "钱", scopes=(Scope.GLOBAL,)) == "g"
    assert winner(rules, "钱", scopes=(Scope.ACCOUNT,)) == "a"
    assert winner(rules, "钱", scopes=()) is None


def test_priority_then_kind_then_length_then_id() -> None:
    """Within a scope the priority decides, then exact, contains by length, regex, any, then the id."""
    ranked = [
        rule("z", match=Match.ANY, priority=1),
        rule("y", "多少钱", match=Match.EXACT),
        rule("x", "少钱"),
        rule("b", "钱"),
        rule("c", "少"),
        rule("d", ".", match=Match.REGEX),
        rule("e", match=Match.ANY),
    ]
    while ranked:
        assert winner(list(reversed(ranked)), "多少钱") == ranked[0].id
        ranked.pop(0)


def test_one_rule_for_several_items_and_keywords() -> None:
    """A rule answers for each of its items and to each of its keywords, with the one that hit."""
    several = item(rule("r", "包邮", "邮费"), "i1", "i2")
    matcher = Matcher([several])
    for item_id, text, keyword in (("i1", "包邮吗", "包邮"), ("i2", "邮费多少", "邮费")):
        decision = matcher.decide(said(text, item_id))
        assert (decision.rule, decision.matched_keyword) == (several, keyword)
    assert matcher.decide(said("包邮吗", "i3")).rule is None
    assert matcher.decide(said("包邮吗", None)).rule is None


def test_case_and_width_make_no_difference() -> None:
    """Keywords are compared without case, width and outer blanks, and reported as they were written."""
    for written in (
        rule("r", "ＰＲＩＣＥ"),
        rule("r", "Price", match=Match.EXACT),
        rule("r", "PRI.E", match=Match.REGEX),
    ):
        decision = Matcher([written]).decide(said("  pｒice "))
        assert decision.rule is written
        assert decision.matched_keyword == written.keywords[0]


def test_longest_keyword_of_a_rule_counts() -> None:
    """A rule with several contained keywords stands by the longest that hits."""
    assert winner([rule("a", "多少"), rule("b", "多", "多少钱")], "多少钱") == "b"


def test_one_character_and_text_end() -> None:
    """Keywords of one character, and those at either end of the text, hit."""
    for text in ("钱", "钱多", "多钱"):
        assert winner([rule("r", "钱")], text) == "r"
    assert winner([rule("r", "少钱")], "多少钱") == "r"


def test_image_alone() -> None:
    """An image without text is answered by a catch-all only; nothing at all by nobody."""
    rules = [rule("t", "a", ".*", match=Match.REGEX), rule("any", match=Match.ANY)]
    matcher = Matcher(rules)
    answered = matcher.decide(said("", has_image=True)).rule
    assert answered is not None and answered.id == "any"
    assert matcher.decide(said("  ")).rule is None
    assert [v.outcome for v in matcher.explain(said(""))] == [Outcome.NO_KEYWORD] * 2


def test_used_up_and_cooling_down_leave_the_message_to_the_next() -> None:
    """A rule that is held back steps aside, in its chat only, until its limit or wait is over."""
    limited = replace(rule("a", "钱", priority=2), max_per_chat=2)
    cooling = replace(rule("b", "钱", priority=1), cooldown_seconds=60)
    rules = [limited, cooling, rule("c", "钱")]
    assert winner(rules, "钱", ChatCounters({"a": (1, NOW - 1)})) == "a"
    assert winner(rules, "钱", ChatCounters({"a": (2, NOW - 1)})) == "b"
    assert winner(rules, "钱", ChatCounters({"a": (2, 0), "b": (1, NOW - 59_999)})) == "c"
    assert winner(rules, "钱", ChatCounters({"a": (2, 0), "b": (1, NOW - 60_000)})) == "b"
    assert winner([limited], "钱", ChatCounters({"a": (2, 0)})) is None


def test_hours_are_the_accounts() -> None:
    """A rule with hours answers only within them, by the account's clock."""
    night = replace(rule("n", "在吗"), active_hours=("22:00-06:00", "12:00-13:00"))
    matcher = Matcher([night])
    assert matcher.decide(replace(said("在吗"), utc_offset_minutes=0)).rule is night  # 22:13
    assert matcher.decide(replace(said("在吗"), utc_offset_minutes=-60)).rule is None  # 21:13
    assert matcher.decide(replace(said("在吗"), utc_offset_minutes=480)).rule is None  # 06:13
    assert matcher.decide(replace(said("在吗"), utc_offset_minutes=840)).rule is night  # 12:13


def test_explain_every_reason() -> None:
    """Each rule is told exactly why it did not answer."""
    rules = [
        rule("wins", "钱", priority=5),
        replace(rule("off", "钱"), enabled=False),
        replace(rule("org", "钱"), organization_id="o2"),
        account(rule("acc", "钱"), "a2"),
        item(rule("acc2", "钱"), account_id="a2"),
        item(rule("item", "钱"), "i9"),
        rule("none", "邮"),
        replace(rule("hours", "钱", priority=9), active_hours=("00:00-00:01",)),
        replace(rule("cool", "钱", priority=9), cooldown_seconds=60),
        replace(rule("used", "钱", priority=9), max_per_chat=1),
        rule("lower", "钱", priority=4),
    ]
    verdicts = explained(rules, said("多少钱"), ChatCounters({"cool": (1, NOW), "used": (1, 0)}))
    assert {v.rule.id: v.outcome for v in verdicts} == {
        "wins": Outcome.WINS,
        "off": Outcome.DISABLED,
        "org": Outcome.OTHER_ORGANIZATION,
        "acc": Outcome.OTHER_ACCOUNT,
        "acc2": Outcome.OTHER_ACCOUNT,
        "item": Outcome.OTHER_ITEM,
        "none": Outcome.NO_KEYWORD,
        "hours": Outcome.OUTSIDE_HOURS,
        "cool": Outcome.COOLDOWN,
        "used": Outcome.USED_UP,
        "lower": Outcome.LOWER,
    }
    reasons = {v.rule.id: v.reason for v in verdicts}
    assert reasons["cool"] == "cools down in this chat until 2023-11-14T22:14:20.000Z"
    assert reasons["used"] == "used 1 of 1 times in this chat"
    assert reasons["hours"] == "06:13 is outside its hours 00:00-00:01"
    assert reasons["lower"] == "matched, but rule wins comes first"


def test_explain_scope_not_asked() -> None:
    """A rule of a scope that this step doesn't ask is told so."""
    verdicts = Matcher([rule("g", "钱")]).explain(said("钱"), scopes=(Scope.ACCOUNT,))
    assert [v.outcome for v in verdicts] == [Outcome.OTHER_SCOPE]


def test_decision_says_why() -> None:
    """A decision names the rule and keyword, or what was held back, or that nothing matched."""
    named = replace(rule("r1", "钱"), name="price", cooldown_seconds=10)
    matcher = Matcher([named])
    hit = matcher.decide(said("钱"))
    assert hit.reason == "rule 'price' (r1): global rule, priority 0, contains '钱'"
    held = matcher.decide(said("钱"), ChatCounters({"r1": (1, NOW)}))
    assert held.rule is None
    assert held.reason.startswith("rule 'price' (r1) matched but is held back: cools down")
    assert matcher.decide(said("包邮")).reason == "no rule matched"


def test_several_messages_keep_the_order_of_rules() -> None:
    """A rule may hit the whole or any one of several messages; the better rule wins, wherever it hits."""
    whole = said("你好\n包邮\n多少钱")
    singly = ["你好", "包邮", "多少钱"]
    exact, anything = rule("exact", "包邮", match=Match.EXACT), rule("any", match=Match.ANY)
    long = rule("contains", "包邮 多少钱".replace(" ", "\n"))

    def first(*rules: Rule) -> str:
        found = Matcher(rules).decide(whole, singly=singly).rule
        return found.id if found else ""

    assert first(exact, anything, long) == "exact"
    assert first(anything, long) == "contains"
    assert first(anything) == "any"
    assert first(exact, replace(long, priority=1)) == "contains"
    assert first(exact, account(anything)) == "any"
    assert first(replace(exact, enabled=False), rule("regex", "^多少钱$", match=Match.REGEX)) == "regex"


async def test_one_budget_for_all_steps_of_a_decision() -> None:
    """A budget that an earlier step spent is not renewed for the next one."""
    clock = ManualClock()
    matcher = Matcher([rule("r", "x+", match=Match.REGEX)], patterns=Patterns(clock))
    budget = matcher.budget()
    assert matcher.decide(said("xx"), budget=budget).rule is not None
    await clock.advance(1.0)
    spent = matcher.decide(said("xx"), budget=budget)
    assert (spent.rule, spent.timed_out) == (None, ("r",))


def test_catastrophic_regex_is_cut_and_remembered() -> None:
    """A pattern that would run for years costs its share once, then nothing, and others still answer."""
    patterns = Patterns(SystemClock(), limits=Limits(regex_seconds=0.03))
    rules = [rule("bad", CATASTROPHE, match=Match.REGEX, priority=1), rule("any", match=Match.ANY)]
    matcher = Matcher(rules, patterns=patterns)
    started = time.perf_counter()
    first = matcher.decide(said(BAIT))
    assert time.perf_counter() - started < 1.0
    assert (first.rule, first.timed_out) == (rules[1], ("bad",))
    assert patterns.slow() == (CATASTROPHE,)
    assert matcher.decide(said("aaa")).timed_out == ("bad",)
    verdicts = matcher.explain(said("aaa"))
    assert [v.outcome for v in verdicts] == [Outcome.TIMED_OUT, Outcome.WINS]


def test_many_catastrophes_share_one_budget() -> None:
    """Twenty catastrophic patterns together cost one decision's budget, not twenty times a pattern's."""
    rules = [
        rule(f"r{n:02d}", f"(a|aa)+${'' if n else '$'}c{n}|{CATASTROPHE}", match=Match.REGEX)
        for n in range(20)
    ]
    matcher = Matcher(rules, patterns=Patterns(SystemClock()))
    started = time.process_time()
    decision = matcher.decide(said(BAIT))
    assert time.process_time() - started < 0.5
    assert decision.rule is None
    assert len(decision.timed_out) == 20


def test_regex_is_not_tried_when_it_cannot_win() -> None:
    """A regular expression behind the winner costs nothing."""
    patterns = Patterns(ManualClock())
    rules = [rule("top", "aa"), rule("bad", CATASTROPHE, match=Match.REGEX)]
    decision = Matcher(rules, patterns=patterns).decide(said(BAIT))
    assert (decision.rule, decision.timed_out, patterns.slow()) == (rules[0], (), ())


def test_stored_rule_that_became_invalid() -> None:
    """A pattern or hours that are no longer accepted match nothing, and the rest goes on."""
    rules = [
        rule("regex", "(", "((a{99}){99}){99}", match=Match.REGEX, priority=2),
        replace(rule("hours", "钱", priority=1), active_hours=("sometimes",)),
        rule("good", "钱"),
    ]
    verdicts = explained(rules, said("多少钱"))
    assert [v.outcome for v in verdicts] == [Outcome.NO_KEYWORD, Outcome.OUTSIDE_HOURS, Outcome.WINS]
    assert verdicts[0].reason == "no pattern matched, and one of them does not compile"


def test_only_the_head_of_a_long_text_is_searched() -> None:
    """Beyond the limit a text is not looked at, so that its length costs nothing."""
    matcher = Matcher([rule("r", "钱")], limits=Limits(match_text_length=10))
    assert matcher.decide(said("x" * 9 + "钱")).rule is not None
    assert matcher.decide(said("x" * 10 + "钱")).rule is None


DEFAULTS = [
    DefaultReply("g", "o1", reply=SAY),
    DefaultReply("a", "o1", Scope.ACCOUNT, "a1", reply=SAY, max_per_chat=1),
    DefaultReply("i", "o1", Scope.ITEM, None, "i1", reply=SAY),
    DefaultReply("ia", "o1", Scope.ITEM, "a1", "i1", reply=SAY),
    DefaultReply("x", "o2", reply=SAY),
    DefaultReply("y", "o1", Scope.ITEM, "a2", "i1", reply=SAY),
]


@pytest.mark.parametrize(
    ("left_out", "item_id", "chosen"),
    [
        ("", "i1", "ia"),
        ("ia", "i1", "i"),
        ("", "i2", "a"),
        ("", None, "a"),
        ("a", "i2", "g"),
        ("ga", None, None),
    ],
)
def test_default_of_the_narrowest_scope(left_out: str, item_id: str | None, chosen: str | None) -> None:
    """The enabled default reply of the narrowest scope answers; other sellers' and accounts' never do."""
    defaults = [
        replace(d, enabled=not (d.id == left_out or (left_out == "ga" and d.id in "ga"))) for d in DEFAULTS
    ]
    decision = choose_default(defaults, said("hm", item_id))
    assert (decision.default.id if decision.default else None) == chosen


def test_default_used_up() -> None:
    """A default reply that reached its limit in the chat says nothing, and no wider one steps in (RE-09)."""
    decision = choose_default(DEFAULTS, said("hm", "i2"), ChatCounters({"a": (1, NOW)}))
    assert decision.default is None
    assert decision.reason == "the default reply was used 1 of 1 times"


WORDS = st.text(alphabet="abÄ？", min_size=1, max_size=3)
PATTERNS = st.sampled_from(["a+", "b$", "^ä", "[ab]{2}", "a.b", "？"])


@st.composite
def random_rules(draw: st.DrawFn) -> list[Rule]:
    """A few rules that often collide."""
    made = []
    for number in draw(st.permutations(range(draw(st.integers(0, 8))))):
        match, scope = draw(st.sampled_from(Match)), draw(st.sampled_from(Scope))
        words = PATTERNS if match is Match.REGEX else WORDS
        made.append(
            Rule(
                id=f"r{number}",
                organization_id=draw(st.sampled_from(["o1", "o1", "o2"])),
                scope=scope,
                account_id=draw(st.sampled_from(["a1", "a2"])) if scope is Scope.ACCOUNT else None,
                item_ids=tuple(draw(st.sets(st.sampled_from("xyz"), min_size=1)))
                if scope is Scope.ITEM
                else (),
                keywords=() if match is Match.ANY else tuple(draw(st.lists(words, min_size=1, max_size=3))),
                match=match,
                reply=SAY,
                priority=draw(st.integers(0, 1)),
                enabled=draw(st.sampled_from([True, True, False])),
                cooldown_seconds=draw(st.sampled_from([0, 60])),
                max_per_chat=draw(st.sampled_from([None, 1, 2])),
                active_hours=draw(st.sampled_from([(), ("06:00-07:00",), ("07:00-06:00",)])),
            )
        )
    return made


@settings(max_examples=300, deadline=None)
@given(
    rules=random_rules(),
    text=st.text(alphabet="abÄä？? x", max_size=5),
    item_id=st.sampled_from(["x", "y", None]),
    has_image=st.booleans(),
    uses=st.dictionaries(
        st.sampled_from([f"r{n}" for n in range(8)]), st.tuples(st.integers(0, 2), st.just(NOW - 30_000))
    ),
)
def test_explain_agrees_with_decide(
    rules: list[Rule], text: str, item_id: str | None, has_image: bool, uses: dict[str, tuple[int, int]]
) -> None:
    """On any rules the indexed decision is the one that the rule by rule explanation leads to."""
    matcher, message = (
        Matcher(rules, patterns=Patterns(ManualClock())),
        said(text, item_id, has_image=has_image),
    )
    decision = matcher.decide(message, ChatCounters(uses))
    verdicts = matcher.explain(message, ChatCounters(uses))
    assert [v.rule for v in verdicts] == rules
    wins = [v for v in verdicts if v.wins]
    assert [v.rule for v in wins] == ([decision.rule] if decision.rule else [])
    # Asked alone, a rule answers exactly when it won or was only beaten: each verdict stands by itself.
    for verdict in verdicts:
        alone = Matcher([verdict.rule]).decide(message, ChatCounters(uses)).rule
        assert (alone is not None) == (verdict.outcome in (Outcome.WINS, Outcome.LOWER))
    # And whoever was beaten ranks behind the winner in the order that the documentation states.
    candidates = [v for v in verdicts if v.outcome in (Outcome.WINS, Outcome.LOWER)]
    if candidates:
        assert min(candidates, key=documented_order).rule is decision.rule


def documented_order(verdict: Verdict) -> tuple[int, int, int, int, str]:
    """Scope, priority, kind, length of the keyword that hit, id: written down once more."""
    of = verdict.rule
    length = len(verdict.matched_keyword.casefold()) if of.match is Match.CONTAINS else 0
    kinds = [Match.EXACT, Match.CONTAINS, Match.REGEX, Match.ANY]
    return (list(ALL_SCOPES).index(of.scope), -of.priority, kinds.index(of.match), -length, of.id)
