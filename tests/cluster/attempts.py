"""Runs in a pod of the cluster: tries what a plan lists, and prints what came of each.

The plan comes on standard input as JSON, with lists of

    tcp    [host, port]                                    a connection each
    nats   [url, user, password, inbox, verb, [subject…]]  verb: publish, subscribe or request
    sql    [url, [statement…]]                             each rolled back

and an answer for each connection, subject and statement goes out: `[allowed, what was said]`. It knows
nothing of Frontdesk; `isolation.py` does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

PATIENCE_S = 3.0
# How long a server may take to object to what a client just said.
OBJECTION_S = 0.3

Answer = tuple[bool, str]


async def tcp(host: str, port: int) -> Answer:
    """A TCP connection."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        return False, type(error).__name__
    writer.close()
    return True, "connected"


async def on_nats(
    url: str, user: str, password: str, inbox: str, verb: str, subjects: list[str]
) -> list[Answer]:
    """One connection of a user, and one verb on each of the subjects."""
    import nats

    objections: list[str] = []

    async def objected(error: Exception) -> None:
        objections.append(str(error))

    try:
        nc = await nats.connect(
            url,
            user=user,
            password=password,
            inbox_prefix=inbox.encode(),
            error_cb=objected,
            allow_reconnect=False,
            connect_timeout=PATIENCE_S,
        )
    except Exception as error:  # noqa: BLE001 - any way of not getting in is the answer
        return [(False, str(error) or type(error).__name__) for _ in subjects]
    answers = [await _on_subject(nc, verb, subject, objections) for subject in subjects]
    await nc.close()
    return answers


async def _on_subject(nc: Any, verb: str, subject: str, objections: list[str]) -> Answer:
    objections.clear()
    if verb == "publish":
        await nc.publish(subject, b"")
    elif verb == "subscribe":
        await nc.subscribe(subject)
    elif verb == "request":
        try:
            answer = json.loads((await nc.request(subject, b"", timeout=1.0)).data)
        except Exception as error:  # noqa: BLE001 - no answer is an answer
            return False, str(error) or type(error).__name__
        return "error" not in answer, json.dumps(answer)[:100]
    await nc.flush()
    await asyncio.sleep(0 if objections else OBJECTION_S)
    return not objections, objections[0] if objections else "no objection"


async def sql(url: str, statements: list[str]) -> list[Answer]:
    """One connection of a role, and statements, each rolled back."""
    import asyncpg

    try:
        connection = await asyncpg.connect(url, timeout=PATIENCE_S)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        return [(False, str(error) or type(error).__name__) for _ in statements]
    answers = []
    for statement in statements:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(statement)
            answers.append((True, "done"))
        except asyncpg.PostgresError as error:
            answers.append((False, f"{type(error).__name__}: {error}"))
        await transaction.rollback()
    await connection.close()
    return answers


async def main(plan: dict[str, Any]) -> dict[str, Any]:
    connections = await asyncio.gather(*(tcp(host, port) for host, port in plan.get("tcp", [])))
    on_streams = [await on_nats(*one) for one in plan.get("nats", [])]
    in_tables = [await sql(*one) for one in plan.get("sql", [])]
    return {"tcp": connections, "nats": on_streams, "sql": in_tables}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.load(sys.stdin)))))
