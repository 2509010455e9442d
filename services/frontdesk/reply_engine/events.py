"""What the reply-engine tells everybody: messages stored, orders changed, a person needed, how
far the AI is."""

from __future__ import annotations

from collections.abc import Iterable

from frontdesk.api.events.v1.event_pb2 import (
    Alert,
    AlertLevel,
    Event,
    MessageStored,
    OrderChanged,
)
from frontdesk.api.events.v1.inbound_pb2 import Inbound
from frontdesk.kit import subjects
from frontdesk.kit.bus import Bus
from frontdesk.kit.bus.connection import Outgoing
from frontdesk.reply_engine.model import chat_key, new_id


class Events:
    """Publishes events; each has an id of what it tells, so that a repeated batch tells it once."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def taken_in(self, new: Iterable[Inbound], waiting: set[str], now_ms: int) -> None:
        """Tell of messages and orders that were stored."""
        await self._bus.publish_all([_stored(i, waiting, now_ms) for i in new])

    async def publish(self, kind: str, events: Iterable[Event]) -> None:
        """Tell of events of one kind; raises Unavailable, after which telling again is safe."""
        await self._bus.publish_all([_outgoing(kind, event) for event in events])

    async def alert(
        self,
        *,
        organization_id: str,
        account_id: str,
        code: str,
        text: str,
        now_ms: int,
        chat_id: str = "",
        level: AlertLevel.ValueType = AlertLevel.ALERT_LEVEL_WARNING,
        event_id: str = "",
    ) -> None:
        """Call a person; `event_id` makes a repeat of the same incident one alert."""
        event = Event(
            event_id=event_id or new_id(now_ms),
            organization_id=organization_id,
            account_id=account_id,
            occurred_at_ms=now_ms,
            alert=Alert(level=level, code=code, text=text, chat_id=chat_id),
        )
        await self._bus.publish(subjects.event("alert", account_id), event, msg_id=event.event_id)


def _stored(inbound: Inbound, waiting: set[str], now_ms: int) -> Outgoing:
    event = Event(
        organization_id=inbound.organization_id, account_id=inbound.account_id, occurred_at_ms=now_ms
    )
    if inbound.HasField("message"):
        kind = "message"
        event.event_id = f"{inbound.account_id}:message:{inbound.message.message_id}"
        event.message.CopyFrom(
            MessageStored(
                chat_id=inbound.chat_id,
                message=inbound.message,
                waiting=chat_key(inbound.account_id, inbound.chat_id) in waiting,
            )
        )
    else:
        kind = "order"
        event.event_id = f"{inbound.account_id}:order:{inbound.order.order_id}:{inbound.order.status}"
        event.order.CopyFrom(OrderChanged(chat_id=inbound.chat_id, order=inbound.order))
    return _outgoing(kind, event)


def _outgoing(kind: str, event: Event) -> Outgoing:
    return Outgoing(subjects.event(kind, event.account_id), event.SerializeToString(), msg_id=event.event_id)
