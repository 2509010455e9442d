"""The bucket of leases and members: writes by compare-and-swap, a full read, a watch.

A key-value bucket is a JetStream stream `KV_<bucket>` with subjects `$KV.<bucket>.<key>`; a key's revision is
the sequence of its last message, a delete is a message with a `KV-Operation` header. Requests go straight to
the stream where nats-py's `KeyValue` would hide a revision (of a delete) or has no call (the full read).

Every write fails fast when NATS is away: a request kept in the client's buffer would be sent after its caller
gave it up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js import api
from nats.js.errors import APIError, BadRequestError, NoStreamResponseError, NotFoundError

from frontdesk.kit import subjects
from frontdesk.kit.errors import FailedPrecondition, Unavailable

log = logging.getLogger(__name__)

_OPERATION = "KV-Operation"
_MARKER = "Nats-Marker-Reason"
_PURGE = {_OPERATION: "PURGE", api.Header.ROLLUP.value: "sub"}
_WRONG_LAST_SEQUENCE = (10071, 10164)
_REQUESTS_IN_FLIGHT = 32
_WATCH_FORGOTTEN_S = 30.0
_LEAVE_MARK_S = 60.0


class Conflict(FailedPrecondition):
    """The key has another revision than expected: somebody else wrote it, or an own write arrived late."""


class BucketGone(Unavailable):
    """NATS is there but the bucket is not."""


@dataclass(frozen=True, slots=True)
class Record:
    """The newest state of a key. `value` is None for a deleted key."""

    key: str
    revision: int
    value: bytes | None


class ShardStore:
    """Access to the bucket. `on_record` hears of each record written, read by key or watched, `on_contact` of
    each answer of the server, before the call that caused it returns."""

    def __init__(
        self,
        nc: Client,
        *,
        timeout: float,
        storage: Literal["file", "memory"],
        replicas: int,
        on_record: Callable[[Record], None],
        on_contact: Callable[[], None],
        bucket: str = subjects.SHARDS_BUCKET,
    ) -> None:
        self._nc = nc
        self._js = nc.jetstream(timeout=timeout)
        self._timeout = timeout
        self._config = api.KeyValueConfig(
            bucket=bucket,
            history=1,
            storage=api.StorageType(storage),
            replicas=replicas,
            direct=True,
        )
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        self._on_record = on_record
        self._on_contact = on_contact
        self._slots = asyncio.Semaphore(_REQUESTS_IN_FLIGHT)

    async def open(self) -> None:
        """Make sure that the bucket exists; raises Unavailable."""
        self._demand_connection()
        try:
            try:
                await self._js.stream_info(self._stream)
            except NotFoundError:
                await self._js.create_key_value(self._config)
        except BadRequestError as error:
            if error.err_code != 10058:  # stream name in use: another member was faster, with other settings
                raise Unavailable(f"the bucket of shards can't be made: {error.description}") from error
        except (NatsError, TimeoutError, OSError) as error:
            raise Unavailable(f"the bucket of shards can't be opened: {error}") from error
        self._on_contact()

    async def swap(self, key: str, value: bytes, last: int) -> int:
        """Write `key` if its revision is still `last` (0: never written) and return the new one.

        Raises Conflict, or Unavailable when it is unknown whether the write took place.
        """
        headers = {api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(last)}
        return await self._write(key, value, headers)

    async def delete(self, key: str, last: int) -> None:
        """Delete `key` if its revision is still `last`; raises as `swap`."""
        headers = {api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(last), _OPERATION: "DEL"}
        await self._write(key, None, headers)

    async def put(self, key: str, value: bytes, expires: float) -> int:
        """Write `key` whatever it was, for `expires` seconds (full ones); raises Unavailable."""
        return await self._write(key, value, None, expires)

    async def drop(self, key: str) -> None:
        """Delete `key` whatever it was; its mark is gone after a minute. Raises Unavailable."""
        await self._write(key, None, _PURGE, _LEAVE_MARK_S)

    async def _write(
        self, key: str, value: bytes | None, headers: Mapping[str, str] | None, expires: float | None = None
    ) -> int:
        async with self._slots:
            self._demand_connection()
            try:
                ack = await self._js.publish(
                    f"{self._prefix}{key}",
                    value or b"",
                    timeout=self._timeout,
                    headers=dict(headers) if headers else None,
                    msg_ttl=max(1, round(expires)) if expires is not None else None,
                )
            except APIError as error:
                if error.err_code in _WRONG_LAST_SEQUENCE:
                    self._on_contact()
                    raise Conflict(f"{key} has another revision") from error
                raise Unavailable(f"NATS refused to write {key}: {error.description}") from error
            except NoStreamResponseError as error:
                raise BucketGone("the bucket of shards does not answer") from error
            except (NatsError, TimeoutError, OSError) as error:
                raise Unavailable(f"NATS did not confirm {key}: {error}") from error
        self._on_contact()
        self._on_record(Record(key, ack.seq, value))
        return ack.seq

    async def read(self, key: str) -> Record | None:
        """The newest record of `key` as the stream's leader has it; raises Unavailable."""
        self._demand_connection()
        try:
            found = await self._js.get_last_msg(self._stream, f"{self._prefix}{key}", direct=False)
        except NotFoundError:
            self._on_contact()
            return None
        except (NatsError, TimeoutError, OSError) as error:
            raise Unavailable(f"NATS did not answer for {key}: {error}") from error
        if found.seq is None:
            raise Unavailable(f"NATS answered for {key} without a revision")
        record = Record(key, found.seq, None if _deleted(found.headers) else found.data or b"")
        self._on_contact()
        self._on_record(record)
        return record

    async def read_all(self) -> tuple[list[Record], int]:
        """The newest records of all keys, and the revision up to which they are complete.

        One request to the stream's direct-get API (`multi_last`, nats-server 2.11). A replica may answer
        that is a moment behind. Raises BucketGone, Unavailable.
        """
        self._demand_connection()
        inbox = self._nc.new_inbox()
        try:
            subscription = await self._nc.subscribe(inbox)
            try:
                request = orjson.dumps({"multi_last": [f"{self._prefix}>"]})
                await self._nc.publish(f"$JS.API.DIRECT.GET.{self._stream}", request, reply=inbox)
                async with asyncio.timeout(self._timeout):
                    records, upto = await self._collect(subscription)
            finally:
                await subscription.unsubscribe()
        except (NatsError, TimeoutError, OSError) as error:
            raise Unavailable(f"NATS did not read the bucket of shards: {error}") from error
        self._on_contact()
        return records, upto

    async def _collect(self, subscription: Subscription) -> tuple[list[Record], int]:
        records: list[Record] = []
        while True:
            msg = await subscription.next_msg(self._timeout)
            headers = msg.headers or {}
            status = headers.get("Status")
            if status is None:
                key = headers["Nats-Subject"].removeprefix(self._prefix)
                value = None if _deleted(headers) else msg.data
                records.append(Record(key, int(headers["Nats-Sequence"]), value))
            elif status == "204":
                return records, int(headers["Nats-UpTo-Sequence"])
            elif status == "404":
                return [], 0
            elif status == "503":
                raise BucketGone("the bucket of shards does not answer")
            else:
                raise Unavailable(f"NATS refused to read the bucket of shards: status {status}")

    async def last_revision(self) -> int:
        """The newest revision of the whole bucket by its leader; raises BucketGone, Unavailable."""
        self._demand_connection()
        try:
            return int((await self._js.stream_info(self._stream)).state.last_seq)
        except NotFoundError as error:
            raise BucketGone("the bucket of shards is gone") from error
        except (NatsError, TimeoutError, OSError) as error:
            raise Unavailable(f"NATS did not describe the bucket of shards: {error}") from error

    async def watch(self, on_heard: Callable[[int], None]) -> Subscription:
        """Hear of the newest record of every key and of all changes from now on; raises Unavailable.

        `on_heard` gets each revision that arrives. The server's side of the watch is a consumer in memory,
        gone with a restart of the server, while the subscription looks alive: whoever watches must check
        (`read_all`).
        """
        self._demand_connection()

        async def receive(msg: Msg) -> None:
            revision = msg.metadata.sequence.stream
            key = msg.subject.removeprefix(self._prefix)
            self._on_contact()
            on_heard(revision)
            self._on_record(Record(key, revision, None if _deleted(msg.headers) else msg.data))

        try:
            return await self._js.subscribe(
                f"{self._prefix}>",
                stream=self._stream,
                cb=receive,
                manual_ack=True,
                config=api.ConsumerConfig(
                    deliver_policy=api.DeliverPolicy.LAST_PER_SUBJECT,
                    ack_policy=api.AckPolicy.NONE,
                    mem_storage=True,
                    num_replicas=1,
                    inactive_threshold=_WATCH_FORGOTTEN_S,
                ),
            )
        except (NatsError, TimeoutError, OSError) as error:
            raise Unavailable(f"NATS did not watch the bucket of shards: {error}") from error

    async def unwatch(self, watch: Subscription) -> None:
        """End a watch; a connection that is gone ended it already."""
        try:
            await watch.unsubscribe()
        except NatsError as error:
            log.debug("end of the watch of shards: %s", error)

    def _demand_connection(self) -> None:
        if not self._nc.is_connected:
            raise Unavailable("NATS is away")


def _deleted(headers: Mapping[str, str] | None) -> bool:
    return headers is not None and (_OPERATION in headers or _MARKER in headers)
