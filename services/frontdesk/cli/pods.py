"""Pods of the installation, by the current kubectl context or from inside the cluster.

The official `kubernetes` client is an extra and loads for half a second, so it is imported only when there is
a cluster to ask. Whatever keeps the pods from being shown is one line, never an error of the command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SELECTOR = "app.kubernetes.io/part-of=frontdesk"
COMPONENT = "app.kubernetes.io/component"
NO_CLIENT = "pods are not shown: `pip install 'frontdesk[kubernetes]'` brings the client"
NO_CLUSTER = "pods are not shown: there is no kubeconfig here, and this is no pod"
TIMEOUT_S = 5
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class Where:
    """Which pods. Empty means: the default kubeconfig, its current context, the context's namespace."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    selector: str = SELECTOR
    in_cluster: bool = False

    def known(self) -> bool:
        """Whether there is a cluster to ask, told without loading the client."""
        if self.in_cluster or self.kubeconfig:
            return True
        return (Path.home() / ".kube" / "config").exists()


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


def read_pods(where: Where) -> Pods:
    """Ask the cluster, at most for a few seconds. Blocks: call it in a thread."""
    if not where.known():
        return Pods(note=NO_CLUSTER)
    try:
        from kubernetes import client, config
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError
    except ImportError:
        return Pods(note=NO_CLIENT)
    settings = client.Configuration()
    try:
        namespace = _connect(config, settings, where)
    except Exception as error:  # noqa: BLE001 - a broken kubeconfig breaks the client's loader in many ways
        return Pods(note=f"pods are not shown: no cluster by this kubeconfig: {_first_line(error)}")
    settings.retries = False
    try:
        with client.ApiClient(settings) as connection:
            found = client.CoreV1Api(connection).list_namespaced_pod(
                namespace, label_selector=where.selector, limit=500, _request_timeout=TIMEOUT_S
            )
    except ApiException as error:
        return Pods(note=f"pods are not shown: the cluster answered {error.status} {error.reason}")
    except (HTTPError, OSError) as error:
        return Pods(note=f"pods are not shown: the cluster can't be asked: {type(error).__name__}")
    if not found.items:
        return Pods(note=f"no pod in namespace {namespace} has {where.selector}")
    return Pods(tuple(_pod(item) for item in found.items))


def _connect(config: Any, settings: Any, where: Where) -> str:
    """Fill in the client's settings; returns the namespace."""
    if where.in_cluster and not where.kubeconfig:
        config.load_incluster_config(client_configuration=settings)
        return where.namespace or _NAMESPACE_FILE.read_text().strip()
    file = where.kubeconfig or None
    config.load_kube_config(
        config_file=file, context=where.context or None, client_configuration=settings, persist_config=False
    )
    contexts, active = config.list_kube_config_contexts(file)
    chosen: Mapping[str, Any] = next((one for one in contexts if one["name"] == where.context), active) or {}
    return where.namespace or chosen.get("context", {}).get("namespace") or "default"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


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
