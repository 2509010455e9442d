"""Where a replica's own pod is found in Kubernetes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class PodAddress:
    """Where the pod's own object is, and the folder with the ServiceAccount's `token` and `ca.crt`."""

    host: str
    port: int
    namespace: str
    name: str
    credentials: Path

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = f"/api/v1/namespaces/{quote(self.namespace, safe='')}/pods/{quote(self.name, safe='')}"
        return f"https://{host}:{self.port}{path}"
