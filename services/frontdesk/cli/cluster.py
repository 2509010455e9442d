"""The cluster that kubectl's current context names, or that this pod is in, with the rights of whoever asks.

The official `kubernetes` client is an extra and loads for half a second, so it is imported only when there is
a cluster to ask. It blocks: a command with other work calls it in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frontdesk.kit.errors import FailedPrecondition, FrontdeskError, Unavailable

NO_CLIENT = "`pip install 'frontdesk[kubernetes]'` brings the client"
NO_CLUSTER = "there is no kubeconfig here, and this is no pod"
TIMEOUT_S = 5
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Refused(FrontdeskError):
    """The API server answered, and not with what was asked for."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"the cluster answered {status} {reason}", status=status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster. Empty means: the default kubeconfig, its current context, the context's namespace."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    in_cluster: bool = False

    def known(self) -> bool:
        """Whether there is a cluster to ask, told without loading the client."""
        if self.in_cluster or self.kubeconfig:
            return True
        return (Path.home() / ".kube" / "config").exists()


@dataclass(frozen=True, slots=True)
class Cluster:
    """The official client's core API, and the namespace to ask for; give calls `TIMEOUT_S`."""

    api: Any
    namespace: str


@contextmanager
def connected(where: Where) -> Iterator[Cluster]:
    """A connection for the length of the block.

    Raises FailedPrecondition when there is none to make; of calls inside the block Refused or Unavailable.
    """
    if not where.known():
        raise FailedPrecondition(NO_CLUSTER)
    try:
        from kubernetes import client, config
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError
    except ImportError:
        raise FailedPrecondition(NO_CLIENT) from None
    settings = client.Configuration()
    try:
        namespace = _connect(config, settings, where)
    except Exception as error:  # a broken kubeconfig breaks the client's loader in many ways
        raise FailedPrecondition(f"no cluster by this kubeconfig: {_first_line(error)}") from error
    settings.retries = False
    try:
        with client.ApiClient(settings) as connection:
            yield Cluster(client.CoreV1Api(connection), namespace)
    except ApiException as error:
        raise Refused(error.status, error.reason) from error
    except (HTTPError, OSError) as error:
        raise Unavailable(f"the cluster can't be asked: {type(error).__name__}") from error


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
