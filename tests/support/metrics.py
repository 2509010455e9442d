"""Metrics as a test reads them: a meter of its own, and what Prometheus would get of it."""

from __future__ import annotations

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


class Metrics:
    """Give `meter` to what is measured; `value` scrapes."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        reader = PrometheusMetricReader(registry=self._registry, scope_info_enabled=False)
        self._provider = MeterProvider([reader], shutdown_on_exit=False)
        self.meter = self._provider.get_meter("test")

    def scrape(self) -> dict[str, dict[Labels, float]]:
        """Values by labels by name, as Prometheus reads them."""
        return parse(generate_latest(self._registry).decode())

    def value(self, name: str, **labels: str) -> float | None:
        """One value; None when there is none."""
        return self.scrape().get(name, {}).get(frozenset(labels.items()))


def parse(text: str) -> dict[str, dict[Labels, float]]:
    """Prometheus' text format: values by labels by name."""
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found
