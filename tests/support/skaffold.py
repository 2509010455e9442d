"""skaffold.yaml as Skaffold reads it: with a profile's patches applied."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ("dev", "debug", "ci")


def config() -> dict[str, Any]:
    """The file."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
    return found


def with_profile(name: str) -> dict[str, Any]:
    """The file with the patches of a profile; raises KeyError or IndexError when a path leads nowhere."""
    document = copy.deepcopy(config())
    (profile,) = (one for one in document["profiles"] if one["name"] == name)
    for patch in profile["patches"]:
        *way, last = patch["path"].strip("/").split("/")
        place: Any = document
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if patch["op"] in ("replace", "remove") and last not in place:
            raise KeyError(patch["path"])
        if patch["op"] == "remove":
            del place[last]
        else:
            place[last] = patch["value"]
    return document
