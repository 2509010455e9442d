"""One buyer's message is one trace over the pods that saw it, in a real collector and in the pods' logs."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.release import ENGINE, GATEWAY, Release
from frontdesk.kit.telemetry import names

COLLECTOR = "collector"
# From the push on the marketplace's socket to the answer on it; each is the child of the one before.
HOPS = (
    (GATEWAY, names.GATEWAY_TAKE_IN),
    (ENGINE, names.ENGINE_TAKE_IN),
    (ENGINE, names.ENGINE_DECIDE),
    (GATEWAY, names.GATEWAY_SEND),
    (GATEWAY, names.GATEWAY_WRITE),
)
# Exporters send every five seconds.
PATIENCE_S = 30.0
_RESOURCE = re.compile(r"^ +-> (service\.name|service\.instance\.id): Str\((.*)\)$")
_FIELD = re.compile(r"^    (Trace ID|Parent ID|ID|Name) +: (.*)$")


@dataclass(frozen=True, slots=True)
class Span:
    """As the collector's debug exporter prints it; `parent` is empty for a root."""

    service: str
    pod: str
    name: str
    trace_id: str
    span_id: str
    parent: str


async def traced(release: Release) -> dict[str, object]:
    """A message's spans, where they come from, and who logged its trace id."""
    before = {span.trace_id for span in await _spans(release)}
    load = await release.load(messages=1, text="is #{n} available")
    verdict = await release.until_answered(load, 30)
    wrong = [] if verdict["answered"] == 1 else ["the buyer got no answer"]
    way = await _way(release, before)
    if way is None:
        return {"step": "traced", "wrong": [*wrong, f"no trace has all of {', '.join(n for _, n in HOPS)}"]}
    if way[0].parent:
        wrong.append(f"{way[0].name} is no root")
    wrong += [
        f"{after.name} does not follow {one.name}"
        for one, after in itertools.pairwise(way)
        if after.parent != one.span_id
    ]
    pods = {(span.service, span.pod) for span in way}
    for service, pod in pods:
        if pod not in {one["metadata"]["name"] for one in await release.pods(service)}:
            wrong.append(f"{pod} is no pod of {service}")
        if not await _logged(release, pod, way[0].trace_id):
            wrong.append(f"no line in the log of {pod} has the trace's id")
    if len({pod for _, pod in pods}) != len({service for service, _ in HOPS}):
        wrong.append("the spans are not of two pods")
    spans = [span for span in await _spans(release) if span.trace_id == way[0].trace_id]
    return {"step": "traced", "spans": len(spans), "pods": sorted(pod for _, pod in pods), "wrong": wrong}


async def _way(release: Release, before: set[str]) -> list[Span] | None:
    """The hops' spans in a trace that was not there before; None when they don't come."""
    for _ in range(int(PATIENCE_S)):
        traces: dict[str, dict[tuple[str, str], Span]] = {}
        for span in await _spans(release):
            if span.trace_id not in before:
                traces.setdefault(span.trace_id, {})[span.service, span.name] = span
        for found in traces.values():
            if found.keys() >= set(HOPS):
                return [found[hop] for hop in HOPS]
        await asyncio.sleep(1)
    return None


async def _spans(release: Release) -> list[Span]:
    """All that the collector printed so far."""
    (pod,) = await release.pods(COLLECTOR)
    return list(_parsed(await release.kube("logs", pod["metadata"]["name"])))


def _parsed(printed: str) -> Iterator[Span]:
    resource: dict[str, str] = {}
    span: dict[str, str] = {}
    for line in printed.splitlines():
        if line.startswith("ResourceSpans #"):
            resource, span = {}, {}
        elif line.startswith("Span #"):
            span = {}
        elif (found := _RESOURCE.match(line)) and not span:
            resource[found[1]] = found[2]
        elif found := _FIELD.match(line):
            span[found[1]] = found[2]
            if found[1] == "Name":
                yield Span(
                    service=resource.get("service.name", ""),
                    pod=resource.get("service.instance.id", "").partition(":")[0],
                    name=span["Name"],
                    trace_id=span["Trace ID"],
                    span_id=span["ID"],
                    parent=span["Parent ID"],
                )


async def _logged(release: Release, pod: str, trace_id: str) -> bool:
    lines = (await release.kube("logs", pod)).splitlines()
    return any(json.loads(line).get("trace_id") == trace_id for line in lines if line.startswith("{"))
