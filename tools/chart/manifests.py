"""Rendered manifests, read so that rules can ask about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

Object = dict[str, Any]
# libyaml's, ten times as fast, where it is built in; safe both.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
WORKLOADS = ("Deployment", "StatefulSet", "Job", "Pod")


@dataclass(frozen=True, slots=True)
class Workload:
    """Something that has pods. `name` is `kind/name`."""

    name: str
    kind: str
    labels: Mapping[str, str]
    pod: Object
    spec: Object

    @property
    def containers(self) -> list[Object]:
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def component(self) -> str:
        return self.labels.get("app.kubernetes.io/component", "")


@dataclass(frozen=True, slots=True)
class Manifests:
    """All objects of one rendering."""

    objects: tuple[Object, ...]

    @classmethod
    def read(cls, text: str) -> Manifests:
        return cls(tuple(item for item in yaml.load_all(text, _Loader) if item))

    def of(self, *kinds: str) -> Iterator[Object]:
        return (item for item in self.objects if item["kind"] in kinds)

    def names(self, kind: str) -> set[str]:
        return {item["metadata"]["name"] for item in self.of(kind)}

    @property
    def workloads(self) -> Iterator[Workload]:
        for item in self.of(*WORKLOADS):
            kind, name = item["kind"], f"{item['kind']}/{item['metadata']['name']}"
            if kind == "Pod":
                yield Workload(name, kind, item["metadata"]["labels"], item["spec"], item["spec"])
            else:
                template = item["spec"]["template"]
                yield Workload(name, kind, template["metadata"]["labels"], template["spec"], item["spec"])


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a selector's labels are among an object's."""
    return selector.items() <= labels.items()
