"""What an ai-proxy tells: calls under way, providers that are left alone, use that is not counted yet."""

from __future__ import annotations

from frontdesk.ai_proxy.completions import Completions
from frontdesk.ai_proxy.router import Router
from frontdesk.ai_proxy.spending import Spending
from frontdesk.ai_proxy.topology import CONSUMERS
from frontdesk.kit.bus import Bus, gauges
from frontdesk.kit.telemetry import names
from frontdesk.kit.telemetry.readings import Gauge, Readings, Sample

CALLS = Gauge(names.AI_CALLS, "{call}", "Calls of models under way on this replica.")
PROVIDERS = Gauge(
    names.AI_PROVIDERS, "{provider}", "Providers that this replica asked, by the state of their breaker."
)
SPEND = Gauge(names.AI_SPEND_WAITING, "{call}", "Calls whose use NATS does not have yet.")


def add_readings(
    readings: Readings, bus: Bus, completions: Completions, router: Router, spending: Spending
) -> None:
    """Have them read."""

    async def consumers() -> list[Sample]:
        return await gauges.consumers(bus.js, CONSUMERS)

    async def calls() -> list[Sample]:
        return [
            Sample(CALLS, completions.under_way),
            Sample(SPEND, spending.waiting),
            *(
                Sample(PROVIDERS, count, {names.AI_BREAKER: state.value})
                for state, count in router.states().items()
            ),
        ]

    readings.add("nats", gauges.OF_CONSUMERS, consumers)
    readings.add("calls", [CALLS, PROVIDERS, SPEND], calls)
