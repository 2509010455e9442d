"""Pods of the installation, by the current kubectl context or from inside the cluster.

Whatever keeps the pods from being shown is one line, never an error of the command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from frontdesk.cli.cluster import TIMEOUT_S, Where, connected
from frontdesk.kit.errors import FrontdeskError

SELECTOR = "app.kubernetes.io/part-of=frontdesk"
COMPONENT = "app.kubernetes.io/component"


@dataclass(frozen=True, slots=True)
class Pod:
    """What kubectl shows of a pod."""

    name: str
    component: str
    phase: str
    ready: str
    restarts: int
    node: str


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods, or in `note` why there are none."""

    pods: tuple[Pod, ...] = ()
    note: str = ""


def read_pods(where: Where, selector: str = SELECTOR) -> Pods:
    """Ask the cluster, at most for a few seconds. Blocks: call it in a thread."""
    try:
        with connected(where) as cluster:
            found = cluster.api.list_namespaced_pod(
                cluster.namespace, label_selector=selector, limit=500, _request_timeout=TIMEOUT_S
            )
    except FrontdeskError as error:
        return Pods(note=f"pods are not shown: {error.message}")
    if not found.items:
        return Pods(note=f"no pod in namespace {cluster.namespace} has {selector}")
    return Pods(tuple(_pod(item) for item in found.items))


def _pod(item: Any) -> Pod:
    containers = item.status.container_statuses or []
    ready = sum(bool(one.ready) for one in containers)
    ending = item.metadata.deletion_timestamp is not None
    return Pod(
        name=item.metadata.name,
        component=(item.metadata.labels or {}).get(COMPONENT, ""),
        phase="Terminating" if ending else item.status.phase or "Unknown",
        ready=f"{ready}/{len(item.spec.containers)}",
        restarts=sum(one.restart_count or 0 for one in containers),
        node=item.spec.node_name or "",
    )
