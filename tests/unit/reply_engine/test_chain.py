"""The chain behind the AI's turn."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from frontdesk.reply_engine.chain import ChatView, walk
from frontdesk.reply_engine.model import STEPS, AccountSettings, AiOutcome, AiTurn, Origin, Snapshot
from frontdesk.reply_engine.rules.match import Matcher
from frontdesk.reply_engine.rules.model import DefaultReply, Reply, Rule, Scope, TextPart

NOW = 1_700_000_000_000
TURN = AiTurn("a/c", "token", "org", "a", "c", "", "在吗")
REPLY = Reply((TextPart("一口价"),))
DEFAULT = DefaultReply(id="d1", organization_id="org", scope=Scope.GLOBAL, reply=Reply((TextPart("稍等"),)))


def view(text: str = "在吗") -> ChatView:
    row = SimpleNamespace(
        organization_id="org",
        account_id="a",
        chat_id="c",
        buyer_id="b",
        buyer_name="小王",
        item_id="",
        minute_ms=0,
        minute_count=0,
    )
    message = SimpleNamespace(text=text, item_id="", sender_id="", sender_name="", image_urls=())
    return ChatView(row, [message], {}, NOW)


def snapshot(*, chain: tuple[str, ...] = STEPS, ai: bool = True, default: bool = True) -> Snapshot:
    rule = Rule(id="r1", organization_id="org", scope=Scope.GLOBAL, keywords=("价",), reply=REPLY)
    return Snapshot(
        "org",
        1,
        accounts={"a": AccountSettings("a", "org", chain=chain, ai_enabled=ai)},
        rules=(rule,),
        matcher=Matcher((rule,)),
        defaults=(DEFAULT,) if default else (),
    )


def test_the_ai_is_off_unless_it_was_turned_on() -> None:
    """An account that set nothing has the step in its chain and no machine's words in its chats."""
    settings = AccountSettings("a", "org")
    assert "ai" in settings.chain
    assert not settings.ai_enabled
    result = walk(snapshot(ai=False), view())
    assert result.answer is not None
    assert result.answer.origin is Origin.DEFAULT
    assert "ai: off for this account" in result.trace


def test_an_answer_is_not_a_template() -> None:
    """What a model says is sent as it is."""
    outcome = AiOutcome(TURN, text="{send_user_name}###x", provider="p", model="m")
    result = walk(snapshot(), view(), ("account: nothing answers",), outcome)
    assert result.answer is not None
    assert (result.answer.origin, result.answer.parts) == (Origin.AI, (TextPart("{send_user_name}###x"),))
    assert result.trace == ("account: nothing answers", "ai: answered by p/m")
    assert not result.reason


@pytest.mark.parametrize(
    ("chain", "text", "says"),
    [(STEPS, "在吗", "稍等"), (("ai", "global", "default"), "什么价", "一口价"), (("ai",), "在吗", "")],
    ids=["default", "rule-after", "nothing"],
)
def test_a_person_is_called_and_the_rest_is_said(chain: tuple[str, ...], text: str, says: str) -> None:
    """Whatever follows the AI acknowledges, and a person is needed all the same."""
    outcome = AiOutcome(TURN, reason="under_floor", needs_person=True, provider="offline")
    result = walk(snapshot(chain=chain), view(text), (), outcome)
    assert result.reason == "needs_person: under_floor"
    said = result.answer.parts if result.answer else ()
    assert [part.text for part in said if isinstance(part, TextPart)] == ([says] if says else [])
    assert result.trace[0] == "ai: needs a person by offline: under_floor"


def test_an_ai_that_could_not_be_asked_calls_nobody() -> None:
    """The default reply answers; without one a person is called as for any question nobody answers."""
    outcome = AiOutcome(TURN, reason="busy")
    answered = walk(snapshot(), view(), (), outcome)
    assert answered.answer is not None
    assert (answered.answer.origin, answered.reason) == (Origin.DEFAULT, "")
    assert walk(snapshot(default=False), view(), (), outcome).reason == "no_answer"


@pytest.mark.parametrize("chain", [STEPS, ("global", "default")], ids=["turned-off", "left-out"])
def test_an_ai_that_was_turned_off_is_not_used(chain: tuple[str, ...]) -> None:
    """Its answer is dropped, and the chain is walked as if it had not been asked."""
    outcome = AiOutcome(TURN, text="你好")
    result = walk(snapshot(chain=chain, ai=chain != STEPS), view("什么价"), (), outcome)
    assert result.answer is not None
    assert (result.answer.rule_id, result.trace[0]) == ("r1", "ai: turned off meanwhile")
