"""The check of alerts and dashboard against real metrics, failing: it can't pass by finding nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chart import documents, promql
from chart.manifests import Manifests

WAITING = 'max by (stream) (frontdesk_waiting{namespace="x",stream=~"A|B"}) > 5'
REAL = {
    "frontdesk_waiting": [frozenset({("stream", "A")}), frozenset({("stream", "B")})],
    "frontdesk_plain": [frozenset[tuple[str, str]]()],
    "http_count": [frozenset({("code", "200")})],
}


@pytest.mark.parametrize(
    "expression",
    [
        WAITING,
        "frontdesk_plain",
        "sum(rate(frontdesk_plain[5m])) / sum(frontdesk_plain) or absent(frontdesk_plain)",
        'sum by (code, job) (rate(http_count{code=~"5.."}[5m])) > 0.05',
        'histogram_quantile(0.95, sum by (le) (rate(http_count{job="x"}[$__rate_interval])))',
        'max by (pod) (kube_pod_ready{a="b"} == 1 unless on (pod) kube_pod_phase{c="d"} == 1) > 0',
        "label_values(frontdesk_plain, namespace)",
    ],
)
def test_what_is_there_is_no_problem(expression: str) -> None:
    """Functions, groupings, ranges, labels of the target and metrics of others are understood."""
    assert list(promql.problems({"place": expression}, REAL)) == []


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("frontdesk_gone > 1", "no service has the metric frontdesk_gone"),
        ('sum(frontdesk_gone{stream="A"}) + frontdesk_plain', "no service has the metric frontdesk_gone"),
        ("sum(jetstream_total) > 0", "no service has the metric jetstream_total"),
        ('frontdesk_plain{stream="A"}', "frontdesk_plain has no label stream"),
        ("max by (consumer) (frontdesk_waiting)", "frontdesk_waiting has no label consumer"),
        ('frontdesk_waiting{stream=~"A|C"}', "no frontdesk_waiting has stream=C"),
        ('frontdesk_waiting{stream="a"}', "no frontdesk_waiting has stream=a"),
        ("1 > 0", "asks for no metric"),
        ("label_values(frontdesk_gone, namespace)", "no service has the metric frontdesk_gone"),
    ],
)
def test_what_nobody_has_is_found(expression: str, problem: str) -> None:
    """A metric, a label or a value that no service has, and an expression that asks for nothing."""
    assert list(promql.problems({"place": expression}, REAL)) == [f"place: {problem}"]


def test_nothing_to_check_is_a_problem() -> None:
    """Neither without expressions, nor without metrics, nor without alerts or a dashboard does it pass."""
    assert list(promql.problems({}, REAL))
    assert list(promql.problems({"place": WAITING}, {}))
    assert list(documents.metrics([])) == ["no scenario has alerts and a dashboard"]
    assert list(documents.metrics([Manifests((rules("up"),))])) == ["no scenario has alerts and a dashboard"]


def rules(expression: str) -> dict[str, Any]:
    groups = [{"name": "desk", "rules": [{"alert": "Down", "expr": expression}]}]
    return {"kind": "PrometheusRule", "metadata": {"name": "desk"}, "spec": {"groups": groups}}


def test_every_expression_is_found() -> None:
    """Those of alerts, of panels and of the dashboard's variables, by where they stand."""
    dashboard = {
        "panels": [{"title": "Rooms", "targets": [{"refId": "A", "expr": "a"}, {"refId": "B", "expr": "b"}]}],
        "templating": {
            "list": [{"name": "source", "type": "datasource"}, {"name": "n", "type": "query", "query": "q"}]
        },
    }
    drawing = {"kind": "ConfigMap", "metadata": {"name": "d"}, "data": {"d.json": json.dumps(dashboard)}}
    other = {"kind": "ConfigMap", "metadata": {"name": "o"}, "data": {"o.json": "{}", "nats.conf": "{"}}
    assert documents.expressions([Manifests((rules("up"), drawing, other))]) == (
        {"Down": "up"},
        {"Rooms A": "a", "Rooms B": "b", "variable n": "q"},
    )
