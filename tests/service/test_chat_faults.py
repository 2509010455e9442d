"""`WS /chat` when something gives way: sockets that drop, slow readers, replicas and NATS that stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from frontdesk.kit.nats_server import NatsServer
from support.chat import ChatBench, Person
from support.waiting import until


@pytest.fixture
async def chat(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ChatBench]:
    """Two gateways and an ai-proxy; slow readers are given up soon."""
    async with ChatBench(nats_server, tmp_path, FRONTDESK_CHAT_STALL_SECONDS="0.5") as bench:
        await bench.start_ai()
        await bench.replica("gateway-0")
        await bench.replica("gateway 1.x")
        yield bench


async def dropped(chat: ChatBench, question: str = "hold") -> str:
    """An answer of the first replica whose socket dropped after two pieces."""
    door = chat.replicas[0].gateway.chat
    before = door.sockets
    person = await chat.person()
    answer = await person.ask(question)
    await person.until("delta")
    await person.until("delta")
    person.socket.transport.abort()
    await until(lambda: door.sockets == before)
    return answer


@pytest.mark.parametrize("replica", [0, 1])
async def test_resume(chat: ChatBench, replica: int) -> None:
    """At either replica: what came after `since`, then what is still to come, each piece once and in order;
    the end is kept too, a new question interrupts what was resumed, and only who asked may have it."""
    answer = await dropped(chat)
    person = await chat.person(replica=replica)
    await person.send(type="resume", id=answer, since=0)
    first = await person.next()
    assert (first["seq"], first["text"], first["reasoning"]) == (1, "two ", "thought")
    chat.ai.release.set()
    third, done = await person.until("done")
    assert (third["seq"], third["text"], done["id"], done["text_length"]) == (2, "three", answer, 13)
    assert (done["provider"], done["usage"]["cost"]) == ("offline", "0.01")
    await person.send(type="resume", id=answer, since=-1)
    again = await person.until("done")
    assert [frame.get("seq") for frame in again] == [0, 1, 2, None]

    eve = await chat.person(token=chat.token("eve"), replica=replica)
    for who, frame, code in (
        (eve, {"type": "resume", "id": answer, "since": -1}, "NOT_FOUND"),
        (eve, {"type": "cancel", "id": answer}, "NOT_FOUND"),
        (person, {"type": "resume", "id": answer, "since": 3}, "INVALID_ARGUMENT"),
        (person, {"type": "resume", "id": "x@gateway-0", "since": 0}, "NOT_FOUND"),
        (person, {"type": "resume", "id": "x@gone", "since": 0}, "NOT_FOUND"),
        (person, {"type": "resume", "id": "nonsense", "since": 0}, "NOT_FOUND"),
    ):
        await who.send(**frame)
        error = await who.next()
        assert (error["type"], error["code"], error["retryable"]) == ("error", code, False), frame
        assert error["id"] == frame["id"]

    chat.ai.release.clear()
    second = await dropped(chat, "hold on")
    await person.send(type="resume", id=second, since=1)
    await until(lambda: next(iter(chat.replicas[0].gateway.answers.following()), "") == second)
    await person.send(type="resume", id=answer, since=1)
    assert (await person.next())["code"] == "FAILED_PRECONDITION"
    await person.send(type="ask", text="echo a")
    assert [frame["type"] for frame in await person.until("done")] == ["error", "start", "delta", "done"]
    await until(lambda: chat.ai.cancelled == ["hold on"])


async def test_nobody_comes_back(nats_server: NatsServer, tmp_path: Path) -> None:
    """After the grace time the call is cancelled at ai-proxy; what was said can still be read."""
    async with ChatBench(nats_server, tmp_path, FRONTDESK_CHAT_GRACE_SECONDS="0.1") as chat:
        await chat.start_ai()
        await chat.replica()
        answer = await dropped(chat)
        await until(lambda: chat.ai.cancelled == ["hold"])
        person = await chat.person()
        await person.send(type="resume", id=answer, since=-1)
        *_, error = await person.until("error")
        assert (error["code"], error["partial"]) == ("CANCELLED", "one two ")


async def test_a_slow_reader_is_cut(chat: ChatBench) -> None:
    """A client that does not read is closed with 4408, and what is generated for it is cancelled at once."""
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.setblocking(False)
    host, port = chat.replicas[0].url.removeprefix("ws://").removesuffix("/chat").split(":")
    await asyncio.get_running_loop().sock_connect(small, (host, int(port)))
    slow = Person(await chat.dial("frontdesk.v1", sock=small, max_queue=1, compression=None))
    door = chat.replicas[0].gateway.chat
    for number in range(40):
        if not door.sockets:
            break
        asked = len(chat.ai.asked)
        await slow.send(type="ask", text=f"flood 10 20000 {number}")
        await until(lambda asked=asked: len(chat.ai.asked) > asked or not door.sockets)  # type: ignore[misc]
        await asyncio.sleep(0.05)
    await until(lambda: door.sockets == 0)
    await until(lambda: len(chat.ai.cancelled) == len(chat.ai.asked))
    assert await slow.code() == 4408
    assert not chat.replicas[0].gateway.answers.running


async def test_nats_restarts_in_a_stream(chat: ChatBench, nats_server: NatsServer) -> None:
    """The answer breaks off with what was said and may be asked again, on the same socket."""
    person = await chat.person()
    await person.ask("hold")
    await person.until("delta")
    await nats_server.kill()
    await nats_server.start()
    *_, error = await person.until("error")
    assert (error["code"], error["retryable"], error["partial"]) == ("UNAVAILABLE", True, "one two ")
    frames: list[dict[str, Any]] = []
    async with asyncio.timeout(15):
        while not frames or frames[-1]["type"] != "done":
            await person.ask("echo a")
            frames = [await person.next()]
            while frames[-1]["type"] not in ("done", "error"):
                frames.append(await person.next())
    assert [frame["type"] for frame in frames] == ["delta", "done"]


async def test_a_replica_stops(chat: ChatBench) -> None:
    """Who waits for nothing is sent away with 1012 first, then who still reads an answer; that one goes on
    meanwhile, and is read on at the other replica. Nobody new comes in."""
    idle = await chat.person()
    busy = await chat.person()
    answer = await busy.ask("hold")
    await busy.until("delta")
    await busy.until("delta")
    stopping = asyncio.create_task(chat.replicas[0].service.stop(6))
    assert await idle.code() == 1012
    assert busy.socket.close_code is None
    assert await busy.code() == 1012
    back = await chat.person(replica=1)
    await back.send(type="resume", id=answer, since=1)
    await until(lambda: bool(chat.replicas[0].gateway.answers.following()))
    chat.ai.release.set()
    assert [frame.get("text") for frame in await back.until("done")] == ["three", None]
    await stopping
    await back.send(type="resume", id=answer, since=-1)
    assert (await back.next())["code"] == "NOT_FOUND"
