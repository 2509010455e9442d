"""What a gateway tells: its accounts, and what waits in all streams, as whoever reads them may be away."""

from __future__ import annotations

from frontdesk.connection_gateway.clients.answers import Answers
from frontdesk.connection_gateway.clients.chat import ChatDoor
from frontdesk.connection_gateway.fleet.report import Reporter
from frontdesk.connection_gateway.model import State
from frontdesk.kit.bus import Bus, gauges
from frontdesk.kit.telemetry import names
from frontdesk.kit.telemetry.readings import Gauge, Readings, Sample

ACCOUNTS = Gauge(names.ACCOUNTS, "{account}", "Accounts of this replica, by the state of their session.")

SOCKETS = Gauge(names.CHAT_SOCKETS, "{socket}", "People's sockets on `/chat`.")
ANSWERS = Gauge(names.CHAT_ANSWERS, "{answer}", "Answers of `/chat` that are being written.")
SIZE = Gauge(names.CHAT_ANSWERS_SIZE, "By", "Memory of the answers of `/chat` that are written or kept.")


def add_readings(readings: Readings, bus: Bus, reporter: Reporter) -> None:
    """Have them read."""

    async def streams() -> list[Sample]:
        return await gauges.all_streams(bus.js)

    async def accounts() -> list[Sample]:
        states = reporter.states()
        return [Sample(ACCOUNTS, states[state], {names.ACCOUNT_STATE: state.name}) for state in State]

    readings.add("nats", gauges.OF_STREAMS, streams)
    readings.add("accounts", [ACCOUNTS], accounts)


def add_chat_readings(readings: Readings, door: ChatDoor, answers: Answers) -> None:
    """Have those of `/chat` read."""

    async def chat() -> list[Sample]:
        return [
            Sample(SOCKETS, door.sockets, {}),
            Sample(ANSWERS, answers.running, {}),
            Sample(SIZE, answers.size, {}),
        ]

    readings.add("chat", [SOCKETS, ANSWERS, SIZE], chat)
