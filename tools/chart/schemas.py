"""JSON schemas for kubeconform that need no network: Kubernetes' own, and those in CRDs.

kubeconform looks for `<version>-standalone-strict/<kind>-<first label of the group>-<version>.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

# The oldest that the chart runs on, the one that is tried, the newest.
KUBERNETES = ("1.30", "1.34", "1.37")


def write_kubernetes(source: Path, target: Path) -> None:
    """Copies the strict schemas, with references that need no server."""
    for version in KUBERNETES:
        folder = target / f"v{version}.0-strict"
        folder.mkdir(parents=True)
        for file in (source / f"v{version}.0-local-strict").glob("*.json"):
            (folder / file.name).write_text(json.dumps(_local(json.loads(file.read_text()))))


def _local(node: Any) -> Any:
    """`node` without `$id`s and descriptions, whose references lead to the file beside it."""
    if isinstance(node, list):
        return [_local(item) for item in node]
    if not isinstance(node, dict):
        return node
    local = {}
    for key, value in node.items():
        if key in ("$id", "description") and isinstance(value, str):
            continue
        if key == "$ref" and isinstance(value, str):
            local[key] = value.replace("/api/_definitions.json#", "_definitions.json#")
        else:
            local[key] = _local(value)
    return local


def write_crds(files: Iterable[Path], target: Path) -> None:
    """One strict schema a version of each custom resource."""
    target.mkdir(parents=True)
    for file in files:
        spec = yaml.safe_load(file.read_text())["spec"]
        kind, group = spec["names"]["kind"].lower(), spec["group"].split(".")[0]
        for version in spec["versions"]:
            schema = _strict(version["schema"]["openAPIV3Schema"])
            (target / f"{kind}-{group}-{version['name']}.json").write_text(json.dumps(schema))


def _strict(node: Any) -> Any:
    """`node` in JSON schema's words, with unknown fields refused."""
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string"):
        return {"oneOf": [{"type": "string"}, {"type": "integer"}]}
    strict = {key: _strict(value) for key, value in node.items() if not key.startswith("x-kubernetes-")}
    open_ended = "additionalProperties" in node or node.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(node.get("properties"), dict) and not open_ended:
        strict["additionalProperties"] = False
    return strict
