"""A small API server of Kubernetes on loopback: TLS by an authority of its own, tokens, pods, Secrets.

It behaves as https://kubernetes.io/docs/reference/using-api/api-concepts/ says where a client could tell.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from support.certificates import self_signed

PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json")


class KubernetesApi:
    """`pods` by namespace and name, `token` is the one accepted, `answers` are statuses to give out first."""

    def __init__(self, folder: Path, token: str = "token-1") -> None:
        self.folder = folder
        self.token = token
        self.pods: dict[tuple[str, str], dict[str, Any]] = {}
        self.secrets: dict[tuple[str, str], dict[str, Any]] = {}
        self.answers: list[int] = []
        self.requests: Counter[str] = Counter()
        self.port = 0
        self.certificate, self._key = self_signed(folder)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[KubernetesApi]:
        """Serve for the length of the block."""
        app = web.Application()
        app.router.add_patch("/api/v1/namespaces/{namespace}/pods/{name}", self._patch)
        app.router.add_get("/api/v1/namespaces/{namespace}/pods", self._list)
        app.router.add_get("/api/v1/namespaces/{namespace}/secrets/{name}", self._secret)
        runner = web.AppRunner(app)
        await runner.setup()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.certificate, self._key)
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=tls)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    def add(self, namespace: str, name: str, *, labels: dict[str, str] | None = None, **status: Any) -> None:
        """A pod, with the parts of its status that are given."""
        metadata = {
            "namespace": namespace,
            "name": name,
            "labels": labels or {},
            "annotations": {"kept": "1"},
        }
        spec = {"nodeName": status.pop("node", "node-1"), "containers": [{"name": "main"}]}
        self.pods[namespace, name] = {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": metadata,
            "spec": spec,
            "status": {"phase": "Running", **status},
        }

    def add_secret(self, namespace: str, name: str, data: dict[str, str], **annotations: str) -> None:
        """A Secret, as Helm makes one; underscores of annotations' names are what Python can't have."""
        self.secrets[namespace, name] = {
            "kind": "Secret",
            "apiVersion": "v1",
            "type": "Opaque",
            "metadata": {
                "namespace": namespace,
                "name": name,
                "annotations": {
                    f"frontdesk.io/{key.replace('_', '-')}": value for key, value in annotations.items()
                },
            },
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
        }

    def annotations(self, namespace: str, name: str) -> dict[str, str]:
        """What stands on a pod."""
        found: dict[str, str] = self.pods[namespace, name]["metadata"]["annotations"]
        return found

    def account(self) -> Path:
        """The folder that a pod has of its ServiceAccount."""
        folder = self.folder / "serviceaccount"
        folder.mkdir(exist_ok=True)
        (folder / "token").write_text(f"{self.token}\n")
        (folder / "ca.crt").write_bytes(self.certificate.read_bytes())
        return folder

    def kubeconfig(self, namespace: str) -> Path:
        """A kubeconfig with a current context."""
        path = self.folder / "kubeconfig"
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(self.certificate)}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "here",
                    "clusters": [{"name": "c", "cluster": cluster}],
                    "users": [{"name": "u", "user": {"token": self.token}}],
                    "contexts": [
                        {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": namespace}}
                    ],
                }
            )
        )
        return path

    def _refusal(self, request: web.Request) -> web.Response | None:
        self.requests[request.method] += 1
        if self.answers and (status := self.answers.pop(0)) != 200:
            return _status(status, "told to")
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized")
        return None

    async def _patch(self, request: web.Request) -> web.Response:
        if (refused := self._refusal(request)) is not None:
            return refused
        if request.content_type not in PATCHES:
            return _status(415, "the body of the request was in an unknown format")
        key = request.match_info["namespace"], request.match_info["name"]
        if key not in self.pods:
            return _status(404, f'pods "{key[1]}" not found')
        wanted = (await request.json())["metadata"]["annotations"]
        if not all(isinstance(value, str) for value in wanted.values()):
            return _status(400, "annotations are strings")
        self.annotations(*key).update(wanted)
        return web.json_response(self.pods[key])

    async def _secret(self, request: web.Request) -> web.Response:
        if (refused := self._refusal(request)) is not None:
            return refused
        key = request.match_info["namespace"], request.match_info["name"]
        if key not in self.secrets:
            return _status(404, f'secrets "{key[1]}" not found')
        return web.json_response(self.secrets[key])

    async def _list(self, request: web.Request) -> web.Response:
        if (refused := self._refusal(request)) is not None:
            return refused
        wanted = dict(
            part.split("=", 1) for part in request.query.get("labelSelector", "").split(",") if part
        )
        items = [
            pod
            for (namespace, _), pod in sorted(self.pods.items())
            if namespace == request.match_info["namespace"]
            and wanted.items() <= pod["metadata"]["labels"].items()
        ]
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})


def _status(code: int, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    return web.json_response(body, status=code)
