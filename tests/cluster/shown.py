"""`frontdesk fleet show` beside kubectl: the same pods, and gateways that hold what their annotations say."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from cluster.kube import run
from cluster.release import GATEWAY, Release
from cluster.steps import OPERATORS

# Gateways look every ten seconds whether their annotations are still true.
PATIENCE_S = 40.0
COMMAND = Path(sys.executable).with_name("frontdesk")
SHARDS = "frontdesk.io/shards"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
Table = dict[str, Any]


async def fleet_shown(release: Release) -> dict[str, object]:
    """Compare until they agree, or the time is up."""
    end = time.monotonic() + PATIENCE_S
    async with release.kube.forward(f"service/{release.name(GATEWAY)}", 50051) as port:
        while True:
            shown = await _shown(release, port)
            pods = await release.kube.get("pods", "app.kubernetes.io/part-of=frontdesk")
            wrong = [*_differences(shown, pods), *await _restarts(release, shown)]
            if not wrong or time.monotonic() > end:
                break
            await asyncio.sleep(2)
    held = {one["replica"]: len(one["shards"]) for one in shown["replicas"]}
    return {"step": "fleet_shown", "pods": len(pods), "shards": held, "wrong": wrong}


async def _shown(release: Release, port: int) -> Table:
    token = await release.token(organization_id=OPERATORS)
    words = ("fleet", "show", "--json", "--address", f"127.0.0.1:{port}", "--token", token)
    found: Table = json.loads(await run(str(COMMAND), *words, "--namespace", release.kube.namespace))
    return found


def _differences(shown: Table, pods: list[Table]) -> list[str]:
    """Where the command and the API server don't agree."""
    if shown["pods_note"]:
        return [shown["pods_note"]]
    ours = {one["name"]: one for one in shown["pods"]}
    theirs = {pod["metadata"]["name"]: _told(pod) for pod in pods}
    wrong = [
        f"{name} is {ours.get(name)}, kubectl says {told}"
        for name, told in theirs.items()
        if ours.get(name) != told
    ]
    wrong += [f"{name} is shown and not there" for name in ours.keys() - theirs.keys()]
    for replica in shown["replicas"]:
        name = replica["replica"]
        pod = next((one for one in pods if one["metadata"]["name"] == name), None)
        if pod is None:
            wrong.append(f"the replica {name} is no pod")
            continue
        annotations = pod["metadata"].get("annotations", {})
        held = (str(len(replica["shards"])), str(replica["accounts"]))
        noted = (annotations.get(SHARDS), annotations.get(DELETION_COST))
        if held != noted:
            wrong.append(f"{name} holds shards and sessions {held}, its annotations say {noted}")
    return wrong


def _told(pod: Table) -> Table:
    """A pod as the API server has it, in the command's words."""
    statuses = pod["status"].get("containerStatuses", [])
    return {
        "name": pod["metadata"]["name"],
        "component": pod["metadata"]["labels"]["app.kubernetes.io/component"],
        "phase": "Terminating" if "deletionTimestamp" in pod["metadata"] else pod["status"]["phase"],
        "ready": f"{sum(one['ready'] for one in statuses)}/{len(pod['spec']['containers'])}",
        "restarts": sum(one["restartCount"] for one in statuses),
        "node": pod["spec"].get("nodeName", ""),
    }


async def _restarts(release: Release, shown: Table) -> list[str]:
    """The columns READY and RESTARTS as kubectl prints them."""
    printed = (await release.kube("get", "pods", "--no-headers")).splitlines()
    columns = {line.split()[0]: line.split() for line in printed}
    wrong = []
    for one in shown["pods"]:
        row = columns.get(one["name"], [])
        if row[1:2] != [one["ready"]] or row[3:4] != [str(one["restarts"])]:
            wrong.append(f"{one['name']} has {one['ready']} and {one['restarts']}, kubectl prints {row[1:4]}")
    return wrong
