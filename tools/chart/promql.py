"""Which series PromQL expressions ask for, and whether a service's own /metrics has them.

Not a parser: whatever stands where a metric may stand counts as one, so that what is misread is a finding and
never a pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

# By labels by name, as Prometheus reads it.
Real = Mapping[str, Iterable[frozenset[tuple[str, str]]]]

# Added by Prometheus when it scrapes a pod, or by aggregation over buckets.
OF_THE_TARGET = frozenset({"namespace", "job", "pod", "instance", "container", "le"})
# Metrics of others: kube-state-metrics and the kubelet.
OF_OTHERS = ("kube_", "kubelet_")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^{}]*)\}")
_MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*\"((?:[^\"\\]|\\.)*)\"")
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_WORDS = re.compile(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()")
_OPERATORS = frozenset({"and", "or", "unless", "bool", "offset"})
_RANGE = re.compile(r"\[[^\]]*\]")
_VARIABLE = re.compile(r"label_values\((\w+), \w+\)")


@dataclass(frozen=True, slots=True)
class Series:
    """A metric asked for: (label, operator, value) of its matchers, and what the result is grouped by."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]
    grouping: frozenset[str]


def asked(expression: str) -> Iterator[Series]:
    """Every series of an expression, or of a dashboard's variable."""
    if (variable := _VARIABLE.fullmatch(expression)) is not None:
        yield Series(variable[1], (), frozenset())
        return
    grouping = frozenset(
        label.strip() for found in _GROUPING.finditer(expression) for label in found[2].split(",") if label
    )
    rest = _GROUPING.sub(" ", expression)
    for found in _SELECTOR.finditer(rest):
        matchers = tuple((one[1], one[2], one[3]) for one in _MATCHER.finditer(found[2]))
        yield Series(found[1], matchers, grouping)
    rest = _RANGE.sub(" ", re.sub(r"\"[^\"]*\"", " ", _SELECTOR.sub(" ", rest)))
    for word in _WORDS.findall(rest):
        if word not in _OPERATORS:
            yield Series(word, (), grouping)


def problems(expressions: Mapping[str, str], real: Real) -> Iterator[str]:
    """What these expressions, by where they stand, ask for and nobody has; nothing to check is a problem."""
    if not expressions:
        yield "there is no expression to check"
    for place, expression in expressions.items():
        wanted = list(asked(expression))
        if not wanted:
            yield f"{place}: asks for no metric"
        for series in wanted:
            if not series.name.startswith(OF_OTHERS):
                yield from (f"{place}: {problem}" for problem in _lacking(series, real))


def _lacking(series: Series, real: Real) -> Iterator[str]:
    samples = [dict(labels) for labels in real.get(series.name, ())]
    if not samples:
        yield f"no service has the metric {series.name}"
        return
    labels = {label for sample in samples for label in sample} | OF_THE_TARGET
    used = {label for label, _, _ in series.matchers} | series.grouping
    for label in sorted(used - labels):
        yield f"{series.name} has no label {label}"
    for label, operator, value in series.matchers:
        # A status that is an error is not there in a service that works.
        if label in OF_THE_TARGET or not series.name.startswith("frontdesk_") or label not in labels:
            continue
        for wanted in value.split("|") if operator == "=~" else [value]:
            if operator in ("=", "=~") and not any(
                re.fullmatch(wanted, sample.get(label, "")) for sample in samples
            ):
                yield f"no {series.name} has {label}={wanted}"
