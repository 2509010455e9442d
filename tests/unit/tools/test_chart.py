"""Each rule of tools/chart/ for rendered manifests, failing; and what the table of values is made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chart import rules, schemas, values_docs
from chart.manifests import Manifests

LABELS = {"app.kubernetes.io/component": "desk"}
DOOR = {"service": {"name": "desk", "port": {"name": "http"}}}
Change = Callable[[dict[str, Any]], None]


def objects() -> dict[str, Any]:
    """Manifests of one well-made Deployment, by kind."""
    container = {
        "name": "desk",
        "image": "desk:1",
        "securityContext": {
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {
            kind: dict.fromkeys(("cpu", "memory", "ephemeral-storage"), "1")
            for kind in ("requests", "limits")
        },
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "ports": [{"name": "http", "containerPort": 8000}],
        "envFrom": [{"configMapRef": {"name": "desk"}}],
    }
    pod = {
        "serviceAccountName": "desk",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 45,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }

    def named(kind: str, **rest: Any) -> dict[str, Any]:
        return {"kind": kind, "metadata": {"name": "desk"}, **rest}

    selector = {"matchLabels": LABELS}
    return {
        "Deployment": named("Deployment", spec={"template": {"metadata": {"labels": LABELS}, "spec": pod}}),
        "HorizontalPodAutoscaler": named(
            "HorizontalPodAutoscaler", spec={"scaleTargetRef": {"kind": "Deployment", "name": "desk"}}
        ),
        "NetworkPolicy": named(
            "NetworkPolicy", spec={"podSelector": selector, "policyTypes": ["Ingress", "Egress"]}
        ),
        "PodDisruptionBudget": named("PodDisruptionBudget", spec={"selector": selector}),
        "ServiceAccount": named("ServiceAccount"),
        "ConfigMap": named("ConfigMap", data={}),
        "Service": named(
            "Service", spec={"selector": LABELS, "ports": [{"name": "http", "targetPort": "http"}]}
        ),
        "Ingress": named("Ingress", spec={"rules": [{"http": {"paths": [{"path": "/", "backend": DOOR}]}}]}),
    }


def container(found: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = pod(found)["containers"][0]
    return first


def pod(found: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = found["Deployment"]["spec"]["template"]["spec"]
    return spec


def second_autoscaler(found: dict[str, Any]) -> None:
    target = {"name": "desk"}
    triggers: list[Any] = []
    found["ScaledObject"] = {
        "kind": "ScaledObject",
        "metadata": {"name": "desk", "labels": {"app.kubernetes.io/component": "reply-engine"}},
        "spec": {"scaleTargetRef": target, "triggers": triggers},
    }


BROKEN: list[tuple[rules.Rule, Change]] = [
    (rules.pinned_images, lambda f: container(f).update(image="registry:5000/desk")),
    (rules.pinned_images, lambda f: container(f).update(image="desk:latest")),
    (rules.restricted, lambda f: container(f)["securityContext"].update(privileged=True)),
    (rules.restricted, lambda f: container(f)["securityContext"].pop("readOnlyRootFilesystem")),
    (rules.restricted, lambda f: pod(f)["securityContext"].update(runAsUser=0)),
    (rules.restricted, lambda f: pod(f).update(hostNetwork=True)),
    (rules.limits, lambda f: container(f)["resources"]["limits"].pop("memory")),
    (rules.one_autoscaler, second_autoscaler),
    (rules.one_autoscaler, lambda f: f["Deployment"]["spec"].update(replicas=2)),
    (rules.one_autoscaler, lambda f: f["Deployment"]["metadata"].update(name="other")),
    (rules.guarded, lambda f: f["NetworkPolicy"]["spec"].update(policyTypes=["Ingress"])),
    (rules.guarded, lambda f: f.pop("PodDisruptionBudget")),
    (rules.guarded, lambda f: f.pop("ServiceAccount")),
    (rules.guarded, lambda f: pod(f).update(automountServiceAccountToken=True)),
    (rules.grace, lambda f: pod(f).update(terminationGracePeriodSeconds=30)),
    (rules.references, lambda f: f.pop("ConfigMap")),
    (rules.references, lambda f: f["Service"]["spec"]["ports"][0].update(targetPort="grpc")),
    (rules.references, lambda f: f["Service"]["metadata"].update(name="other")),
    (rules.consumers, second_autoscaler),
]


def test_well_made_manifests_break_no_rule() -> None:
    """The objects that the cases below start from are fine."""
    manifests = Manifests(tuple(objects().values()))
    assert [problem for rule in rules.RULES for problem in rule(manifests)] == []


@pytest.mark.parametrize(("rule", "change"), BROKEN)
def test_a_broken_rule_is_found(rule: rules.Rule, change: Change) -> None:
    """One change to well-made manifests is one problem at least."""
    found = objects()
    change(found)
    assert list(rule(Manifests(tuple(found.values()))))


def test_every_rule_is_shown_to_fail() -> None:
    """No rule is without a case above."""
    assert {rule for rule, _ in BROKEN} == set(rules.RULES)


def test_a_value_is_told_by_the_comment_above_it() -> None:
    """A leaf has its own line, or that of the block it stands in."""
    text = "# -- Of all.\na:\n  # -- Of one,\n  # to the end.\n  b: 1\n  c: []\nd: {}\n"
    assert list(values_docs.read(text)) == [
        values_docs.Value("a.b", "1", "Of one, to the end."),
        values_docs.Value("a.c", "[]", "Of all."),
        values_docs.Value("d", "{}", ""),
    ]


def test_a_schema_that_lets_any_key_pass_is_found() -> None:
    """So is a key that values.yaml does not show."""
    part = {"properties": {"b": {"type": "string"}}}
    schema = {"definitions": {"part": part}, "additionalProperties": False, "properties": {}}
    schema["properties"] = {"a": {"$ref": "#/definitions/part"}, "z": {"type": "string"}}
    assert values_docs.drift({"a": {}}, schema) == [
        "values.schema.json: z is not in values.yaml",
        "values.schema.json: a lets any key pass",
        "values.schema.json: a.b is not in values.yaml",
    ]


def test_a_schema_of_a_custom_resource_becomes_strict(tmp_path: Path) -> None:
    """Unknown fields are refused, but where the resource allows them."""
    crd = tmp_path / "crd.yaml"
    crd.write_text(
        "spec:\n  group: keda.sh\n  names: {kind: Thing}\n  versions:\n  - name: v1\n    schema:\n"
        "      openAPIV3Schema:\n        properties:\n          port: {x-kubernetes-int-or-string: true}\n"
        "          free: {properties: {}, x-kubernetes-preserve-unknown-fields: true}\n"
    )
    schemas.write_crds([crd], tmp_path / "out")
    assert (tmp_path / "out" / "thing-keda-v1.json").read_text() == (
        '{"properties": {"port": {"oneOf": [{"type": "string"}, {"type": "integer"}]}, '
        '"free": {"properties": {}}}, "additionalProperties": false}'
    )
