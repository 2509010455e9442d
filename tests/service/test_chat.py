"""`WS /chat`: both protocols, interruption, sessions, who may come in and how many, with a real gateway."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from frontdesk.kit.http import GENERIC_MESSAGE
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.tokens import Role
from support.chat import ORGANIZATION, ChatBench, Person
from support.waiting import until

LEEWAY_S = 30


@pytest.fixture
async def chat(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ChatBench]:
    """One gateway and an ai-proxy."""
    async with ChatBench(nats_server, tmp_path) as bench:
        await bench.start_ai()
        await bench.replica()
        yield bench


async def heard(socket: ClientConnection) -> list[str]:
    """Frames of the plain protocol up to the blank one."""
    frames: list[str] = []
    async with asyncio.timeout(10):
        while frames[-1:] != [""]:
            frames.append(str(await socket.recv()))
    return frames


async def test_typed(chat: ChatBench) -> None:
    """Pieces in order, then the end with usage and who answered; the next question has the last in its
    history (AI-02); a wrong frame changes nothing, and too many close the socket."""
    person = await chat.person()
    await person.send(type="ask", text="echo a b", id="q1", model="small")
    start, *deltas, done = await person.until("done")
    assert start == {"type": "start", "id": start["id"], "ask": "q1"}
    assert [(delta["seq"], delta["text"]) for delta in deltas] == [(0, "a"), (1, "b")]
    assert all(delta["id"] == start["id"] for delta in deltas)
    assert (done["provider"], done["model"], done["finish_reason"]) == ("offline", "bm25", "stop")
    assert (done["text_length"], done["usage"]["completion_tokens"], done["usage"]["cost"]) == (2, 5, "0.01")
    assert chat.ai.asked[0].model == "small"
    assert chat.ai.asked[0].organization_id == ORGANIZATION
    principal = chat.ai.principals[0]
    assert principal is not None and (principal.subject, principal.role) == ("ada", "agent")

    await person.ask("echo c")
    await person.until("done")
    assert chat.ai.turns() == ["echo a b", "ab", "echo c"]
    await person.send(type="ping")
    assert await person.next() == {"type": "pong"}
    await person.send(type="ask", text=" ")
    refused = await person.next()
    assert (refused["code"], refused["field"], refused["retryable"]) == ("INVALID_ARGUMENT", "text", False)
    for _ in range(20):
        await person.socket.send(b"\x00")
    assert (await person.until("error"))[-1]["field"] == "frame"
    assert await person.code() == 1008
    assert len(chat.ai.asked) == 2


async def test_plain(chat: ChatBench) -> None:
    """Source 003: only what is new, a blank frame at the end, `Error: …` for what failed, nothing of what is
    inside (X-12), and the socket stays open."""
    async with chat.dial() as socket:
        assert socket.subprotocol is None
        await socket.send("echo a b")
        assert await heard(socket) == ["a", "b", ""]
        expected = {
            "break": ["one ", "two ", "Error: It broke off.", ""],
            "refuse": ["Error: The budget is used up.", ""],
            "bug": ["one ", "two ", f"Error processing response: {GENERIC_MESSAGE}", ""],
        }
        for question, frames in expected.items():
            await socket.send(question)
            assert await heard(socket) == frames
        for question in ("die", "stop"):
            await socket.send(question)
            *said, error, end = await heard(socket)
            assert (said, error[:7], end) == (["one ", "two "], "Error: ", "")
            assert "secret" not in error
        await socket.send("echo c")
        assert await heard(socket) == ["c", ""]
        # What broke off stays in the history with what was said; what was refused does not.
        assert chat.ai.turns()[:4] == ["echo a b", "ab", "break", "one two "]
        assert "refuse" not in chat.ai.turns()


async def test_a_new_question_interrupts(chat: ChatBench) -> None:
    """AI-15, AI-16: the running call is cancelled at ai-proxy, its last frame comes before the next answer's
    first; `cancel` does the same without a question; a plain socket that leaves cancels at once."""
    person = await chat.person()
    first = await person.ask("hold one")
    await person.until("delta")
    await person.send(type="ask", text="hold two")
    *_, error, start = await person.until("start")
    assert (error["id"], error["code"], error["partial"]) == (first, "CANCELLED", "one two ")
    await until(lambda: chat.ai.cancelled == ["hold one"])
    assert chat.ai.turns() == ["hold one", "one two ", "hold two"]
    await person.until("delta")
    await person.send(type="cancel", id=start["id"])
    assert (await person.until("error"))[-1]["code"] == "CANCELLED"
    await until(lambda: chat.ai.cancelled == ["hold one", "hold two"])
    await person.send(type="cancel", id=start["id"])
    await person.send(type="ping")
    assert (await person.next())["type"] == "pong"

    async with chat.dial("frontdesk.plain") as socket:
        assert socket.subprotocol == "frontdesk.plain"
        await socket.send("hold three")
        assert await socket.recv() == "one "
        await socket.send("echo x")
        assert await heard(socket) == ["two ", ""]
        assert await heard(socket) == ["x", ""]
        await socket.send("hold four")
        assert await socket.recv() == "one "
    await until(lambda: chat.ai.cancelled[2:] == ["hold three", "hold four"])


async def test_failures(chat: ChatBench) -> None:
    """Whatever goes wrong is an error with its code and all that was said, never a clean end."""
    person = await chat.person()
    for question, code, retryable, partial in (
        ("break", "UNAVAILABLE", True, "one two "),
        ("die", "UNAVAILABLE", True, "one two "),
        ("stop", "UNAVAILABLE", True, "one two "),
        ("refuse", "RESOURCE_EXHAUSTED", True, ""),
        ("bug", "INTERNAL", False, "one two "),
        ("flood 40 10000", "RESOURCE_EXHAUSTED", True, "x" * 260_000),
    ):
        answer = await person.ask(question)
        error = (await person.until("error"))[-1]
        assert (error["id"], error["code"], error["retryable"]) == (answer, code, retryable), question
        assert error["partial"] == partial
        assert "secret" not in error["message"]
    await until(lambda: chat.ai.cancelled == ["flood 40 10000"])


async def test_ai_proxy_is_away(nats_server: NatsServer, tmp_path: Path) -> None:
    """A question that nobody takes is an error that may be tried again; later it is answered."""
    async with ChatBench(nats_server, tmp_path, FRONTDESK_CHAT_WAKE_SECONDS="0.3") as chat:
        await chat.replica()
        person = await chat.person()
        await person.ask("echo a")
        error = await person.next()
        assert (error["code"], error["retryable"], error["partial"]) == ("UNAVAILABLE", True, "")
        async with chat.dial() as socket:
            await socket.send("echo a")
            assert (await heard(socket))[0].startswith("Error: ")
        await chat.start_ai()
        await person.ask("echo a")
        assert (await person.until("done"))[0]["text"] == "a"


async def test_sessions(chat: ChatBench) -> None:
    """X-28: with a session the history is stored, for this person only; without one it lives here."""
    ada, again = await chat.person(), await chat.person()
    eve = await chat.person(token=chat.token("eve"))
    other = await chat.person(token=chat.token("ada", organization_id="other"))
    for place, (person, session) in enumerate(
        [(ada, "s1"), (again, "s1"), (again, "s2"), (eve, "s1"), (other, "s1"), (again, "")]
    ):
        more = {"session": session} if session else {}
        await person.ask(f"echo {place}", **more)
        await person.until("done")
    shown = [[message.text for message in request.prompt.messages] for request in chat.ai.asked]
    assert shown == [["echo 0"], ["echo 0", "0", "echo 1"], ["echo 2"], ["echo 3"], ["echo 4"], ["echo 5"]]


async def refusal(chat: ChatBench, *protocols: str, token: str = "", **headers: str) -> int:
    """The HTTP status that a socket is refused with."""
    with pytest.raises(InvalidStatus) as caught:
        await chat.dial(*protocols, token=token, headers=list(headers.items()))
    return caught.value.response.status_code


async def test_who_may_come_in(chat: ChatBench) -> None:
    """X-14: no token, a wrong one, a role too low or another page's origin is refused, to a browser with a
    code that its page can see; a token may come as a subprotocol, which is not what is answered."""
    assert await refusal(chat) == 401
    assert await refusal(chat, token="x.y.z") == 401
    assert await refusal(chat, "frontdesk.v1", "bearer.x.y.z") == 401
    assert await refusal(chat, token=chat.token(role=Role.viewer)) == 403
    here = chat.replicas[0].url.replace("ws://", "http://").removesuffix("/chat")
    for origin, token, code in (
        (here, "", 4401),
        (here, "x.y.z", 4401),
        (here, chat.token(role=Role.viewer), 4403),
        ("https://elsewhere.example", chat.token(), 4403),
        ("null", chat.token(), 4403),
        ("http://[", chat.token(), 4403),
    ):
        person = await chat.person(token=token, headers=[("Origin", origin)])
        assert await person.code() == code
        assert person.socket.close_reason
    socket = await chat.dial("frontdesk.v1", f"bearer.{chat.token()}", token="", headers=[("Origin", here)])
    assert socket.subprotocol == "frontdesk.v1"
    person = Person(socket)
    await person.ask("echo a")
    await person.until("done")
    assert len(chat.ai.asked) == 1


async def test_anonymous_people(nats_server: NatsServer, tmp_path: Path) -> None:
    """Where it is allowed, people without a token belong to one organization and have no stored session; a
    wrong token is still refused, and pages of other origins come in where they are named."""
    settings = {
        "FRONTDESK_ALLOW_ANONYMOUS_CHAT": "true",
        "FRONTDESK_ANONYMOUS_ORGANIZATION": "shop",
        "FRONTDESK_CHAT_ANONYMOUS_SOCKETS": "2",
        "FRONTDESK_CHAT_ORIGINS": "https://Shop.example/,https://x.example",
    }
    async with ChatBench(nats_server, tmp_path, **settings) as chat:
        await chat.start_ai()
        await chat.replica()
        person = await chat.person(token="", headers=[("Origin", "https://shop.example")])
        await person.ask("echo a")
        await person.until("done")
        assert chat.ai.asked[0].organization_id == "shop"
        await person.send(type="ask", text="echo b", session="s")
        assert (await person.next())["code"] == "PERMISSION_DENIED"
        assert await refusal(chat, token="x.y.z") == 401
        await chat.person(token="")
        assert await refusal(chat) == 429


async def test_how_many(chat: ChatBench) -> None:
    """X-21: the sixth socket of a person is refused, until one of them is closed; others come in."""
    sockets = [await chat.person() for _ in range(5)]
    assert await refusal(chat, "frontdesk.v1", token=chat.token()) == 429
    here = chat.replicas[0].url.replace("ws://", "http://").removesuffix("/chat")
    assert await (await chat.person(headers=[("Origin", here)])).code() == 4008
    await chat.person(token=chat.token("eve"))
    await sockets[0].socket.close()
    await until(lambda: chat.replicas[0].gateway.chat.sockets == 5)
    await chat.person()


async def test_the_token_ends(chat: ChatBench) -> None:
    """A socket does not outlive the token that opened it."""
    person = await chat.person(token=chat.token(ttl_s=60))
    await person.ask("echo a")
    await person.until("done")
    chat.clock.late_ms = (60 + LEEWAY_S) * 1000
    assert await person.code() == 4401


@pytest.mark.parametrize("overflow", ["wait", "reject"])
async def test_more_frames_than_are_taken(nats_server: NatsServer, tmp_path: Path, overflow: str) -> None:
    """X-33: with `wait` the socket is read on when there is room, and nothing is lost; with `reject` each
    frame too many is refused, and the socket stays open."""
    settings = {"FRONTDESK_CHAT_QUEUE": "2", "FRONTDESK_CHAT_OVERFLOW": overflow}
    async with ChatBench(nats_server, tmp_path, **settings) as chat:
        await chat.replica()
        person = await chat.person()
        for _ in range(30):
            await person.send(type="ping")
        frames = [await person.next() for _ in range(30)]
        refused = [frame["code"] for frame in frames if frame["type"] == "error"]
        if overflow == "wait":
            assert refused == []
        else:
            assert 0 < len(refused) < 30
            assert set(refused) == {"RESOURCE_EXHAUSTED"}
        await person.send(type="ping")
        assert (await person.next())["type"] == "pong"


async def test_a_frame_that_is_too_large(chat: ChatBench) -> None:
    """X-23: up to 1 MiB a frame is read, whatever it says; one byte more ends the socket."""
    mib = 1024 * 1024
    person = await chat.person()
    await person.socket.send("x" * mib)
    assert (await person.next())["type"] == "error"
    await person.socket.send("x" * (mib + 1))
    assert await person.code() == 1009


async def test_twenty_at_once(chat: ChatBench) -> None:
    """Twenty people who stream at the same time each get their own answer, whole and in order."""
    words = [f"w{number}" for number in range(50)]

    async def ask(number: int) -> list[str]:
        person = await chat.person(token=chat.token(f"person-{number}"))
        await person.ask(f"echo {number} {' '.join(words)}")
        frames = await person.until("done")
        assert [frame["seq"] for frame in frames[:-1]] == list(range(51))
        return [frame["text"] for frame in frames[:-1]]

    answers = await asyncio.gather(*(ask(number) for number in range(20)))
    assert answers == [[str(number), *words] for number in range(20)]


NODE = """
const [url, token] = process.argv.slice(1)
const socket = new WebSocket(url, ['frontdesk.v1', `bearer.${token}`])
socket.onopen = () => socket.send(JSON.stringify({ type: 'ask', text: 'echo 在 吗' }))
socket.onmessage = ({ data }) => {
  const frame = JSON.parse(data)
  if (frame.type === 'delta') process.stdout.write(frame.text)
  if (frame.type === 'done') socket.close(1000)
}
socket.onclose = ({ code }) => console.log(` ${socket.protocol} ${code}`)
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")
async def test_a_browsers_socket(chat: ChatBench) -> None:
    """The WebSocket of browsers, which can set no header, as node has it."""
    process = await asyncio.create_subprocess_exec(
        *(
            "node",
            "--experimental-websocket",
            "--no-warnings",
            "-e",
            NODE,
            chat.replicas[0].url,
            chat.token(),
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        out, err = await process.communicate()
    assert out.decode() == "在吗 frontdesk.v1 1000\n", err.decode()
