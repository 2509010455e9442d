"""What the chart says and others must say too: settings, alerts, metrics, and nats-server's configuration."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chart import live, promql
from chart.manifests import Manifests
from chart.toolbox import ROOT

SETTING = re.compile(r"FRONTDESK_[A-Z0-9_]+|OTEL_[A-Z0-9_]+")
# A user of nats.conf: its name, what it may publish, what it may hear.
USER = re.compile(
    r"user: ([\w-]+), .+\n.+\n\s+publish \{ allow: (\[.*\]) \}\n\s+subscribe \{ allow: (\[.*\]) \}"
)


def settings(renderings: Sequence[Manifests]) -> Iterator[str]:
    """Every setting that a pod is given is one that docs/configuration.md knows."""
    known = set(SETTING.findall((ROOT / "docs" / "configuration.md").read_text()))
    given: set[str] = set()
    for manifests in renderings:
        for item in manifests.of("ConfigMap"):
            given.update(key for key in item["data"] if SETTING.fullmatch(key))
        for workload in manifests.workloads:
            for container in workload.containers:
                names = (variable["name"] for variable in container.get("env", []))
                given.update(name for name in names if SETTING.fullmatch(name))
    for name in sorted(given - known):
        yield f"{name} is no setting: docs/configuration.md does not have it"


def alerts(renderings: Sequence[Manifests]) -> Iterator[str]:
    """docs/operations.md says what to do about every alert, and has none that does not exist."""
    text = (ROOT / "docs" / "operations.md").read_text()
    told = set(re.findall(r"^\| `(Frontdesk\w+)` \|", text, re.MULTILINE))
    real = {
        rule["alert"]
        for manifests in renderings
        for item in manifests.of("PrometheusRule")
        for group in item["spec"]["groups"]
        for rule in group["rules"]
    }
    for name in sorted(real - told):
        yield f"docs/operations.md does not tell what to do about {name}"
    for name in sorted(told - real):
        yield f"docs/operations.md tells of {name}, which does not exist"


def metrics(renderings: Sequence[Manifests]) -> Iterator[str]:
    """What alerts and dashboard ask for, with its labels, stands in the /metrics of real services."""
    alerting, drawn = expressions(renderings)
    if not alerting or not drawn:
        yield "no scenario has alerts and a dashboard"
        return
    every = {**alerting, **drawn}
    real = live.metrics(lambda found: not any(promql.problems(every, found)))
    yield from promql.problems(every, real)


def expressions(renderings: Sequence[Manifests]) -> tuple[dict[str, str], dict[str, str]]:
    """PromQL by where it stands: that of alerts, and that of dashboards."""
    alerting: dict[str, str] = {}
    drawn: dict[str, str] = {}
    for manifests in renderings:
        for item in manifests.of("PrometheusRule"):
            for group in item["spec"]["groups"]:
                alerting.update({rule["alert"]: rule["expr"] for rule in group["rules"]})
        for item in manifests.of("ConfigMap"):
            for name, text in item["data"].items():
                if name.endswith(".json") and "panels" in (dashboard := json.loads(text)):
                    drawn.update(_drawn(dashboard))
    return alerting, drawn


def _drawn(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["query"]


def nats_rights(renderings: Sequence[Manifests]) -> Iterator[str]:
    """NATS users have the rights with which tests/fleet/test_least_rights.py runs a fleet, and no others."""
    from support.permissions import RIGHTS

    for manifests in renderings:
        for item in manifests.of("ConfigMap"):
            text = item["data"].get("nats.conf", "")
            for name, publish, subscribe in USER.findall(text):
                for what, given, needed in (
                    ("publish", json.loads(publish), RIGHTS[name].publish),
                    ("subscribe", json.loads(subscribe), RIGHTS[name].subscribe),
                ):
                    extra, lacking = set(given) - set(needed), set(needed) - set(given)
                    if extra or lacking:
                        yield f"{name} may {what} {extra or ''}, may not {lacking or ''}"


def token_secret(renderings: Sequence[Manifests]) -> Iterator[str]:
    """`frontdesk token --release` looks for the Secret that the chart makes, and for what stands on it."""
    from frontdesk.cli.tokens import DEFAULTS, PRIVATE_KEY, secret_name

    secrets = [
        item
        for manifests in renderings
        for item in manifests.of("Secret")
        if PRIVATE_KEY in item.get("data", {})
    ]
    if not secrets:
        yield "no scenario makes the Secret of tokens"
    for item in secrets:
        metadata = item["metadata"]
        if metadata["name"] != (wanted := secret_name(metadata["labels"]["app.kubernetes.io/instance"])):
            yield f"`frontdesk token` looks for {wanted}, the chart makes {metadata['name']}"
        yield from (
            f"the Secret does not say {name}" for name in set(DEFAULTS) - set(metadata["annotations"])
        )


CHECKS: dict[str, Callable[[Sequence[Manifests]], Iterator[str]]] = {
    "nats rights": nats_rights,
    "settings": settings,
    "alerts": alerts,
    "metrics": metrics,
    "token secret": token_secret,
}


def nats_problems(manifests: Manifests, server: Path) -> Iterator[str]:
    """What nats-server says against the configuration, given the environment that its pod has."""
    for item in manifests.of("ConfigMap"):
        if "nats.conf" not in item["data"]:
            continue
        (pod,) = (one for one in manifests.workloads if one.name == f"StatefulSet/{item['metadata']['name']}")
        environ = _environment(pod.containers[0]["env"])
        with tempfile.TemporaryDirectory() as folder:
            text = item["data"]["nats.conf"].replace('"/data"', json.dumps(folder))
            # Certificates are mounted into the pod; their absence is not what is asked here.
            text = re.sub(r"tls \{.*?\}", "", text, flags=re.DOTALL)
            config = Path(folder) / "nats.conf"
            config.write_text(text)
            done = subprocess.run(
                [str(server), "--config", str(config), "-t"],
                env=environ,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            yield done.stderr.strip()


def _environment(variables: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """As the kubelet makes it; every password is digits that must stay text."""
    environ: dict[str, str] = {}
    for variable in variables:
        value = variable.get("value", "12e4")
        for name, known in environ.items():
            value = value.replace(f"$({name})", known)
        environ[variable["name"]] = value
    return environ
