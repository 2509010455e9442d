"""The models simulator as a pod beside a release: a model of one's own at a private address of the cluster.

values.yaml lets ai-proxy, and nobody else of the release, reach it.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from cluster.kube import Kube
from support.marketplace import AI_ECHO

MODELS = "models"
PORT = 8080
URL = f"http://{MODELS}:{PORT}"
LABELS = {"test": MODELS}
# Said, a piece a second, to who asks for it; longer than a lease to stay up and the cooldown together.
SLOWLY = "slowly"
SLOW_PIECES = 85


class Models:
    """Its control API."""

    def __init__(self, http: aiohttp.ClientSession, port: int, token: str) -> None:
        self._http = http
        self._url = f"http://127.0.0.1:{port}/control"
        self._headers = {"Authorization": f"Bearer {token}"}

    async def say(self, *behaviours: dict[str, Any]) -> None:
        """What the models say from now on."""
        body = {"behaviours": behaviours}
        async with self._http.put(f"{self._url}/script", json=body, headers=self._headers) as response:
            if response.status != 200:
                raise AssertionError(f"the models do not take {body}: {await response.text()}")

    async def calls(self) -> int:
        """How many calls they got."""
        async with self._http.get(f"{self._url}/log", headers=self._headers) as response:
            return int((await response.json())["total"])


@asynccontextmanager
async def deployed(kube: Kube, image: str, http: aiohttp.ClientSession) -> AsyncIterator[Models]:
    """The models in the namespace, saying what a load looks for; they end with the namespace."""
    token = secrets.token_hex(16)
    await kube.apply(*_manifests(image, token))
    await kube("wait", "--for=condition=Ready", "--timeout=60s", f"pod/{MODELS}")
    async with kube.forward(f"pod/{MODELS}", PORT) as port:
        models = Models(http, port, token)
        slow = {"words": SLOWLY, "pieces": ["… "] * SLOW_PIECES, "between_ms": 1000}
        await models.say(slow, AI_ECHO)
        yield models


def _manifests(image: str, token: str) -> Sequence[dict[str, Any]]:
    words = ["--host=0.0.0.0", f"--port={PORT}", f"--control-token={token}"]
    container = {
        "name": MODELS,
        "image": image,
        "command": ["frontdesk", "simulate", "models", *words],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    pod = {"containers": [container], "automountServiceAccountToken": False}
    metadata = {"name": MODELS, "labels": LABELS}
    service = {"selector": LABELS, "ports": [{"port": PORT}]}
    return (
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
    )
