"""What the containers take under load, beside what the chart sets aside for them and lets them have.

By metrics-server, as `kubectl top` shows it: CPU is a mean over its window (15 s), memory the working set.
"""

from __future__ import annotations

import asyncio
import json
import statistics
from collections import defaultdict

from cluster.kube import CommandError
from cluster.release import Release

EVERY_S = 5.0
COMPONENT = "app.kubernetes.io/component"
# How much of its limit a container may reach.
MOST_OF_LIMIT = 0.67
_UNITS = {
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
}
MIB = 2**20
_ONE_JOB = ("provision", "test")


class Meter:
    """Samples all the time; `figures` says what came of it."""

    def __init__(self, release: Release) -> None:
        self._release = release
        # By component: cores, and bytes.
        self._cpu: dict[str, list[float]] = defaultdict(list)
        self._memory: dict[str, list[float]] = defaultdict(list)

    async def run(self) -> None:
        """Sample until it is cancelled."""
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{self._release.kube.namespace}/pods"
        while True:
            try:
                listed = json.loads(await self._release.kube("get", "--raw", path))
            except CommandError:  # no metrics-server, or not now
                listed = {"items": []}
            for pod in listed["items"]:
                component = pod["metadata"].get("labels", {}).get(COMPONENT, "")
                for container in pod["containers"]:
                    self._cpu[component].append(quantity(container["usage"]["cpu"]))
                    self._memory[component].append(quantity(container["usage"]["memory"]))
            await asyncio.sleep(EVERY_S)

    async def figures(self) -> dict[str, object]:
        """Peaks and steady memory (the median) of each component: MiB and thousandths of a core."""
        if not self._cpu:
            return {"step": "resources", "skipped": "the cluster has no metrics.k8s.io"}
        wrong: list[str] = []
        parts: dict[str, object] = {}
        for component, cores in sorted(self._cpu.items()):
            pods = [] if component in _ONE_JOB else await self._release.pods(component)
            if not pods:
                continue
            set_aside = pods[0]["spec"]["containers"][0]["resources"]
            memory = self._memory[component]
            steady, peak = statistics.median(memory), max(memory)
            request = quantity(set_aside["requests"]["memory"])
            limit = quantity(set_aside["limits"]["memory"])
            if steady > request:
                wrong.append(f"{component} takes more memory than it requests")
            if peak > MOST_OF_LIMIT * limit:
                wrong.append(f"{component} comes near its limit of memory")
            if max(cores) > MOST_OF_LIMIT * quantity(set_aside["limits"]["cpu"]):
                wrong.append(f"{component} comes near its limit of CPU")
            parts[component] = {
                "cpu_peak_m": round(max(cores) * 1000),
                "cpu_m": round(statistics.median(cores) * 1000),
                "memory_peak_mib": round(peak / MIB),
                "memory_mib": round(steady / MIB),
                "request_mib": round(request / MIB),
                "limit_mib": round(limit / MIB),
            }
        return {"step": "resources", **parts, "wrong": wrong}


def quantity(text: str) -> float:
    """A quantity of Kubernetes, `250m` or `128Mi`, as a number."""
    for unit in sorted(_UNITS, key=len, reverse=True):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * _UNITS[unit]
    return float(text)
