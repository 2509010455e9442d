"""Every NATS subject, stream and bucket name of the product, and nothing else knows one.

A subject's token is an id made safe: `encode_token` keeps letters, digits, `-` and `_`, and writes any other
byte of the UTF-8 text as `=XX`. `decode_token` turns it back.

    inbound.<account>.<chat>      what the platform said, gateway to reply-engine
    timer.<what>.<id>             a message to deliver later; fires as due.<what>.<id>
    outbound.<shard>.<account>    what to say, reply-engine to the gateway replica that owns the shard
    event.<kind>.<account>        what happened
    notify.<channel kind>         notifications to send
    dead.<stream>                 messages nobody could handle
    wake.<service>                a lease for a service to stay up
    rpc.<package.Service>.<Method>[.<shard> | .at.<replica>]
"""

from __future__ import annotations

import zlib

INBOUND = "INBOUND"
TIMERS = "TIMERS"
OUTBOUND = "OUTBOUND"
EVENTS = "EVENTS"
NOTIFY = "NOTIFY"
DEAD = "DEAD"
WAKE = "WAKE"

SHARDS_BUCKET = "frontdesk-shards"
CRASHES_BUCKET = "frontdesk-crashes"

# What each stream holds.
WILDCARDS = {
    INBOUND: ("inbound.>",),
    TIMERS: ("timer.>", "due.>"),
    OUTBOUND: ("outbound.>",),
    EVENTS: ("event.>",),
    NOTIFY: ("notify.>",),
    DEAD: ("dead.>",),
    WAKE: ("wake.>",),
}

_GATEWAY_CONSUMER = "connection-gateway-"

EVENT_KINDS = ("session", "message", "order", "reply", "usage", "alert", "device", "ai")
# Stands for the account in an event that is about none.
NO_ACCOUNT = "-"

_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def encode_token(text: str) -> str:
    """`text` as one subject token; raises ValueError when it is empty."""
    if not text:
        raise ValueError("an empty id can't be a subject token")
    return "".join(chr(byte) if byte in _SAFE else f"={byte:02X}" for byte in text.encode())


def decode_token(token: str) -> str:
    """The id that `encode_token` made `token` of; raises ValueError when it made none."""
    head, *coded = token.split("=")
    data = head.encode()
    for part in coded:
        data += bytes([int(part[:2], 16)]) + part[2:].encode()
    return data.decode()


def shard_of(account_id: str, shards: int) -> int:
    """The shard of an account: crc32 of its id modulo the number of shards fixed at install."""
    return zlib.crc32(account_id.encode()) % shards


def inbound(account_id: str, chat_id: str) -> str:
    return f"inbound.{encode_token(account_id)}.{encode_token(chat_id)}"


def timer(what: str, timer_id: str) -> str:
    return f"timer.{encode_token(what)}.{encode_token(timer_id)}"


def due(what: str, timer_id: str) -> str:
    return f"due.{encode_token(what)}.{encode_token(timer_id)}"


def due_filter(what: str) -> str:
    return f"due.{encode_token(what)}.*"


def timer_id_of(due_subject: str) -> str:
    """The timer's id in a `due.<what>.<id>` subject."""
    return decode_token(due_subject.split(".", 2)[2])


def outbound(shard: int, account_id: str) -> str:
    return f"outbound.{shard}.{encode_token(account_id)}"


def outbound_filter(shard: int) -> str:
    return f"outbound.{shard}.*"


def event(kind: str, account_id: str) -> str:
    if kind not in EVENT_KINDS:
        raise ValueError(f"unknown kind of event: {kind}")
    return f"event.{kind}.{encode_token(account_id)}"


def event_filter(kind: str = "*", account_id: str | None = None) -> str:
    return f"event.{kind}.{encode_token(account_id) if account_id else '*'}"


def notify(channel_kind: str) -> str:
    return f"notify.{encode_token(channel_kind)}"


def dead(stream: str) -> str:
    return f"dead.{stream}"


def wake(service: str) -> str:
    return f"wake.{encode_token(service)}"


def wake_consumer(service: str) -> str:
    """The durable WAKE consumer that KEDA watches for a service."""
    return f"wake-{service}"


def inbox(service: str) -> str:
    """Where answers to a service arrive: apart from other services', so that a NATS user may hear its own
    only."""
    return f"_INBOX.{encode_token(service)}"


def rpc(service: str, method: str, shard: int | None = None) -> str:
    """`service` is the full proto name, `frontdesk.api.replies.v1.ReplyService`; its dots become tokens."""
    base = f"rpc.{service}.{method}"
    return base if shard is None else f"{base}.{shard}"


def rpc_at(service: str, method: str, replica: str) -> str:
    """Where calls for one replica go; no wildcard of a shard (`rpc.<service>.*.<shard>`) hears them."""
    return f"rpc.{service}.{method}.at.{encode_token(replica)}"


def gateway_consumer(shard: int) -> str:
    """The durable OUTBOUND consumer of a shard; re-made at each takeover."""
    return f"{_GATEWAY_CONSUMER}{shard}"


def consumer_family(name: str) -> str:
    """What a consumer is counted under: those of the shards together, any other by itself."""
    shard = name.removeprefix(_GATEWAY_CONSUMER)
    return f"{_GATEWAY_CONSUMER}*" if shard != name and shard.isdigit() else name


def lease_key(shard: int) -> str:
    return f"lease.{shard}"


def member_key(member_id: str) -> str:
    return f"member.{encode_token(member_id)}"


# Which members are cordoned: one key for all, so that the last one free can't be cordoned by two at once.
CORDONS_KEY = "cordons"
