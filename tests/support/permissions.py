"""What each NATS user of a fleet may publish and hear: no more than its service needs.

`provision` may do everything with JetStream. A service may neither make nor change a stream, and hears its
own inbox only: what JetStream delivers and what calls answer goes to inboxes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from frontdesk.ai_proxy import topology as ai_proxy
from frontdesk.kit import subjects
from frontdesk.kit.bus.topology import ConsumerSpec
from frontdesk.reply_engine import topology as reply_engine

PASSWORD = "of-{}"


@dataclass(frozen=True, slots=True)
class Rights:
    """Subjects, as a NATS user's permissions name them."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def _consume(stream: str, name: str, *, own: bool = False) -> tuple[str, ...]:
    """Fetch from a durable and acknowledge; with `own` also make and delete it."""
    making = (f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{name}", f"$JS.API.CONSUMER.DELETE.{stream}.{name}")
    return (
        f"$JS.API.CONSUMER.INFO.{stream}.{name}",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}",
        f"$JS.ACK.{stream}.{name}.>",
        *(making if own else ()),
    )


def _consume_all(specs: tuple[ConsumerSpec, ...]) -> tuple[str, ...]:
    return tuple(subject for spec in specs for subject in _consume(spec.stream, spec.name))


# Everybody: look at streams, answer callers, wake who sleeps, tell what happened, bury, count crashes.
_ALL = (
    "$JS.API.STREAM.INFO.*",
    "_INBOX.>",
    "wake.*",
    "event.>",
    "dead.*",
    f"$KV.{subjects.CRASHES_BUCKET}.>",
    f"$JS.API.STREAM.MSG.GET.KV_{subjects.CRASHES_BUCKET}",
)
_SHARDS = f"KV_{subjects.SHARDS_BUCKET}"

RIGHTS = {
    "provision": Rights(("$JS.API.>",), (f"{subjects.inbox('provision')}.>",)),
    "connection-gateway": Rights(
        publish=(
            *_ALL,
            "inbound.>",
            "rpc.frontdesk.api.accounts.>",  # the replica that owns the account
            "rpc.frontdesk.api.fleet.>",  # the other replicas
            "rpc.frontdesk.api.clients.>",  # the replica that has the answer
            "rpc.frontdesk.api.ai.v1.AiService.>",
            "$JS.API.CONSUMER.LIST.*",
            "rpc.frontdesk.api.replies.v1.ReplyService.>",
            *_consume(subjects.OUTBOUND, "*", own=True),
            f"$KV.{subjects.SHARDS_BUCKET}.>",
            f"$JS.API.STREAM.MSG.GET.{_SHARDS}",
            f"$JS.API.DIRECT.GET.{_SHARDS}",
            f"$JS.API.DIRECT.GET.{_SHARDS}.>",
            f"$JS.API.CONSUMER.CREATE.{_SHARDS}",
            f"$JS.API.CONSUMER.CREATE.{_SHARDS}.>",
            f"$JS.API.CONSUMER.DELETE.{_SHARDS}.*",
        ),
        subscribe=(
            f"{subjects.inbox('connection-gateway')}.>",
            "rpc.frontdesk.api.accounts.>",
            "rpc.frontdesk.api.fleet.>",
            "rpc.frontdesk.api.clients.>",
            "event.session.*",
        ),
    ),
    "reply-engine": Rights(
        publish=(
            *_ALL,
            "outbound.>",
            "timer.>",
            "$JS.API.STREAM.PURGE.TIMERS",
            "rpc.frontdesk.api.accounts.>",
            "rpc.frontdesk.api.ai.v1.AiService.>",
            *_consume_all(reply_engine.CONSUMERS),
        ),
        subscribe=(
            f"{subjects.inbox('reply-engine')}.>",
            "rpc.frontdesk.api.replies.>",
            "rpc.frontdesk.api.chats.>",
            "event.>",
        ),
    ),
    # It answers and calls nobody; what a call used it tells as anybody tells events.
    "ai-proxy": Rights(
        publish=(*_ALL, *_consume_all(ai_proxy.CONSUMERS)),
        subscribe=(f"{subjects.inbox('ai-proxy')}.>", "rpc.frontdesk.api.ai.>"),
    ),
    # A service that has nothing to do with buyers' messages.
    "notifier": Rights((*_ALL, "notify.*"), (f"{subjects.inbox('notifier')}.>", "event.>")),
}


def configuration(admin: tuple[str, str], rights: Mapping[str, Rights] = RIGHTS) -> str:
    """The part of a nats-server's configuration that knows these users and one who may everything."""
    users: list[object] = [{"user": admin[0], "password": admin[1]}]
    for name, one in rights.items():
        permissions = {"publish": {"allow": one.publish}, "subscribe": {"allow": one.subscribe}}
        users.append({"user": name, "password": PASSWORD.format(name), "permissions": permissions})
    return f"authorization {{ users: {json.dumps(users)} }}"
