"""The rules of this house for rendered manifests. Each yields problems, `what: what is wrong`; `RULES` has
all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from chart.manifests import Manifests, Workload, selects

# What a Service of Frontdesk needs from SIGTERM to its end (kit/lifecycle.py), seconds.
DRAIN_S = 25
# Secrets of this prefix are given by whoever installs: the scenarios name them so.
GIVEN = "desk-"

Rule = Callable[[Manifests], Iterator[str]]


def pinned_images(manifests: Manifests) -> Iterator[str]:
    """Every image has a tag or a digest, and none is `latest`."""
    for workload, container in _containers(manifests):
        name, _, digest = container["image"].partition("@")
        tag = name.rsplit("/", 1)[-1].partition(":")[2]
        if not digest and tag in ("", "latest"):
            yield f"{workload.name}: the image {container['image']} is not pinned"


def restricted(manifests: Manifests) -> Iterator[str]:
    """The restricted pod security standard, and a root file system that nobody writes."""
    for workload in manifests.workloads:
        pod = workload.pod.get("securityContext", {})
        if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault" or not pod.get("runAsNonRoot"):
            yield f"{workload.name}: needs runAsNonRoot and seccomp RuntimeDefault"
        if pod.get("runAsUser", 0) <= 10_000:
            yield f"{workload.name}: runs as a user that a node may have too"
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if workload.pod.get(key):
                yield f"{workload.name}: {key}"
    for workload, container in _containers(manifests):
        context = container.get("securityContext", {})
        wrong = [key for key in ("privileged", "allowPrivilegeEscalation") if context.get(key) is not False]
        wrong += [] if context.get("readOnlyRootFilesystem") else ["readOnlyRootFilesystem"]
        wrong += [] if context.get("capabilities") == {"drop": ["ALL"]} else ["capabilities"]
        if wrong:
            yield f"{workload.name}: {container['name']}: {', '.join(wrong)}"


def limits(manifests: Manifests) -> Iterator[str]:
    """Every container says what it takes and at most takes."""
    for workload, container in _containers(manifests):
        for kind in ("requests", "limits"):
            for what in ("cpu", "memory", "ephemeral-storage"):
                if what not in container.get("resources", {}).get(kind, {}):
                    yield f"{workload.name}: {container['name']} has no {kind} of {what}"


def one_autoscaler(manifests: Manifests) -> Iterator[str]:
    """No workload has two autoscalers, and one that has any leaves its replicas to it."""
    targets = [
        (item["spec"]["scaleTargetRef"].get("kind", "Deployment"), item["spec"]["scaleTargetRef"]["name"])
        for item in manifests.of("HorizontalPodAutoscaler", "ScaledObject")
    ]
    for (kind, name), count in Counter(targets).items():
        found = next((one for one in manifests.of(kind) if one["metadata"]["name"] == name), None)
        if found is None:
            yield f"{kind}/{name}: an autoscaler's target that does not exist"
        elif count > 1:
            yield f"{kind}/{name}: has {count} autoscalers"
        elif "replicas" in found["spec"]:
            yield f"{kind}/{name}: sets replicas, which an upgrade would take from its autoscaler"


def guarded(manifests: Manifests) -> Iterator[str]:
    """Every pod has a NetworkPolicy and its own account, a token only for a right, a lasting one a budget."""
    accounts, bound = manifests.names("ServiceAccount"), list(manifests.of("RoleBinding"))
    for workload in manifests.workloads:
        policies = [item["spec"] for item in manifests.of("NetworkPolicy")]
        mine = [one for one in policies if selects(one["podSelector"]["matchLabels"], workload.labels)]
        if policies and (len(mine) != 1 or mine[0]["policyTypes"] != ["Ingress", "Egress"]):
            yield f"{workload.name}: needs one NetworkPolicy for both directions"
        if workload.pod.get("serviceAccountName") not in accounts:
            yield f"{workload.name}: has no ServiceAccount of this chart"
        entitled = any(
            item["subjects"][0]["name"] == workload.pod.get("serviceAccountName") for item in bound
        )
        if workload.pod.get("automountServiceAccountToken") is not entitled:
            yield f"{workload.name}: mounts a token without a right, or has a right and no token"
        budgets = (item["spec"]["selector"]["matchLabels"] for item in manifests.of("PodDisruptionBudget"))
        lasting = workload.kind in ("Deployment", "StatefulSet")
        if lasting and not any(selects(labels, workload.labels) for labels in budgets):
            yield f"{workload.name}: has no PodDisruptionBudget"


def grace(manifests: Manifests) -> Iterator[str]:
    """A pod of a service has the time that preStop and its drain take."""
    for workload, container in _containers(manifests):
        before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds")
        if before is not None and workload.pod["terminationGracePeriodSeconds"] < before + DRAIN_S + 5:
            yield f"{workload.name}: is killed before it has drained"


def references(manifests: Manifests) -> Iterator[str]:
    """Secrets and ConfigMaps that pods read exist, Services find pods and ports, Ingresses Services."""
    secrets, maps = manifests.names("Secret"), manifests.names("ConfigMap")
    for workload in manifests.workloads:
        for kind, name in _read(workload.pod):
            known = secrets if kind == "Secret" else maps
            if name not in known and not name.startswith(GIVEN):
                yield f"{workload.name}: reads the {kind} {name}, which does not exist"
    for service in manifests.of("Service"):
        ports = {
            port["name"]
            for workload in manifests.workloads
            if selects(service["spec"]["selector"], workload.labels)
            for container in workload.containers
            for port in container.get("ports", [])
        }
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"Service/{service['metadata']['name']}: no pod has the port {port['targetPort']}"
    doors = {
        (item["metadata"]["name"], port["name"])
        for item in manifests.of("Service")
        for port in item["spec"]["ports"]
    }
    for ingress in manifests.of("Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                if (backend["name"], backend["port"]["name"]) not in doors:
                    yield f"Ingress/{ingress['metadata']['name']}: {path['path']} leads nowhere"


def consumers(manifests: Manifests) -> Iterator[str]:
    """KEDA watches every consumer that a service has, and its lease to stay up."""
    from frontdesk import fleet
    from frontdesk.kit import subjects

    for item in manifests.of("ScaledObject"):
        name = item["metadata"]["labels"]["app.kubernetes.io/component"]
        wanted = {(spec.stream, spec.name) for spec in fleet.SERVICES[name].consumers}
        wanted.add((subjects.WAKE, subjects.wake_consumer(name)))
        watched = {
            (one["metadata"]["stream"], one["metadata"]["consumer"])
            for one in item["spec"]["triggers"]
            if one["type"] == "nats-jetstream"
        }
        if watched != wanted:
            yield f"ScaledObject/{item['metadata']['name']}: watches {watched}, not {wanted}"


RULES: tuple[Rule, ...] = (
    pinned_images,
    restricted,
    limits,
    one_autoscaler,
    guarded,
    grace,
    references,
    consumers,
)


def _containers(manifests: Manifests) -> Iterator[tuple[Workload, dict[str, Any]]]:
    for workload in manifests.workloads:
        for container in workload.containers:
            yield workload, container


def _read(node: Any) -> Iterator[tuple[str, str]]:
    """(kind, name) of each Secret and ConfigMap that a pod's spec names as needed."""
    if isinstance(node, list):
        for item in node:
            yield from _read(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in ("secretKeyRef", "configMapKeyRef", "configMapRef", "secretRef", "configMap"):
                if not value.get("optional"):
                    yield ("Secret" if key.startswith("secret") else "ConfigMap"), value["name"]
            elif key == "secret" and "secretName" in value:
                yield "Secret", value["secretName"]
            else:
                yield from _read(value)
