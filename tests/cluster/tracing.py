"""One buyer's message is one trace over the pods that saw it, in a real collector and in the pods' logs: one
that a rule answers, and one that goes to the AI."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.release import AI, ENGINE, GATEWAY, Release
from frontdesk.kit.telemetry import names
from support.marketplace import AI_QUESTION, AI_SAYS

COLLECTOR = "collector"
# A service and a span of it.
Hop = tuple[str, str]
Way = tuple[Hop, ...]
# From the push on the marketplace's socket to the answer on it; each is the child of the one before.
HOPS = (
    (GATEWAY, names.GATEWAY_TAKE_IN),
    (ENGINE, names.ENGINE_TAKE_IN),
    (ENGINE, names.ENGINE_DECIDE),
    (GATEWAY, names.GATEWAY_SEND),
    (GATEWAY, names.GATEWAY_WRITE),
)
# And to the model, in the same trace.
ANSWER = "frontdesk.api.ai.v1.AiService/Answer"
TO_THE_MODEL = (
    *HOPS[:2],
    (ENGINE, names.ENGINE_ASK_AI),
    (ENGINE, ANSWER),
    (AI, ANSWER),
    (AI, f"{names.AI_CHAT} default"),
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
    """The spans of two messages, where they come from, and who logged their traces' ids."""
    figures: dict[str, object] = {"step": "traced"}
    wrong: list[str] = []
    for name, question, ways in (
        ("spans", "is #{n} available", (HOPS,)),
        ("ai_spans", AI_QUESTION, (HOPS, TO_THE_MODEL)),
    ):
        figures[name], pods, problems = await _followed(release, question, ways)
        figures["pods"] = pods
        wrong += problems
    return {**figures, "wrong": wrong}


async def _followed(release: Release, question: str, ways: Sequence[Way]) -> tuple[int, list[str], list[str]]:
    """A message's spans, the pods they are of, and what is wrong with them."""
    before = {span.trace_id for span in await _spans(release)}
    load = await release.load(messages=1, text=question)
    words = AI_SAYS if question == AI_QUESTION else ""
    verdict = await release.until_answered(load, 30, words)
    wrong = [] if verdict["saying"] == 1 else ["the buyer did not get the answer"]
    hops = {hop for way in ways for hop in way}
    found = await _whole(release, before, hops)
    if found is None:
        return 0, [], [*wrong, f"no trace has all of {', '.join(sorted(name for _, name in hops))}"]
    for way in ways:
        if found[way[0]].parent:
            wrong.append(f"{way[0]} is no root")
        wrong += [
            f"{after} does not follow {one}"
            for one, after in itertools.pairwise(way)
            if found[after].parent != found[one].span_id
        ]
    trace_id = found[ways[0][0]].trace_id
    pods = {(found[hop].service, found[hop].pod) for hop in hops}
    for service, pod in pods:
        if pod not in {one["metadata"]["name"] for one in await release.pods(service)}:
            wrong.append(f"{pod} is no pod of {service}")
        if not await _logged(release, pod, trace_id):
            wrong.append(f"no line in the log of {pod} has the trace's id")
    services = {service for service, _ in hops}
    if len({pod for _, pod in pods}) != len(services):
        wrong.append(f"the spans are not of {len(services)} pods")
    spans = [span for span in await _spans(release) if span.trace_id == trace_id]
    return len(spans), sorted(pod for _, pod in pods), wrong


async def _whole(release: Release, before: set[str], hops: set[Hop]) -> dict[Hop, Span] | None:
    """The spans of a trace that was not there before and has all hops; None when none comes."""
    for _ in range(int(PATIENCE_S)):
        traces: dict[str, dict[Hop, Span]] = {}
        for span in await _spans(release):
            if span.trace_id not in before:
                traces.setdefault(span.trace_id, {})[span.service, span.name] = span
        for found in traces.values():
            if found.keys() >= hops:
                return found
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
