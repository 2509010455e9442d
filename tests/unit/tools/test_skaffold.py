"""skaffold.yaml fits the repository: what it names is there, and what goes into the image is watched."""

from __future__ import annotations

import re

import pytest

from support.skaffold import PROFILES, ROOT, config, with_profile


def artifact(name: str = "") -> dict[str, object]:
    (found,) = (with_profile(name) if name else config())["build"]["artifacts"]
    assert isinstance(found, dict)
    return found


def test_what_the_image_is_made_of_is_watched() -> None:
    """A change of any file that the Dockerfile copies builds anew."""
    custom = artifact()["custom"]
    assert isinstance(custom, dict)
    watched = {path.removesuffix("/**") for path in custom["dependencies"]["paths"]}
    text = (ROOT / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", text, re.MULTILINE)
    assert {source for line in copied for source in line.split()} <= watched
    assert {"Dockerfile", ".dockerignore"} <= watched
    assert [path for path in watched if not (ROOT / path).exists()] == []


def test_a_synced_file_lands_where_the_dev_image_runs_it() -> None:
    """Destination and stripped folder give the path that tools/images/dev.sh watches and runs."""
    sync = artifact("dev")["sync"]
    assert isinstance(sync, dict)
    (rule,) = sync["manual"]
    source = "services/frontdesk/kit/clock.py"
    landed = f"{rule['dest']}/{source.removeprefix(rule['strip'])}"
    assert landed == "/tmp/app/frontdesk/kit/clock.py"  # noqa: S108 - the pod's own
    script = (ROOT / "tools/images/dev.sh").read_text()
    assert "reload.py /tmp/app/frontdesk" in script
    assert "PYTHONPATH=/tmp/app" in script


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_apply(profile: str) -> None:
    """Every patch finds its place; only the dev image takes synced files."""
    document = with_profile(profile)
    (one,) = document["build"]["artifacts"]
    assert ("FRONTDESK_IMAGE_TARGET=dev" in one["custom"]["buildCommand"]) == ("sync" in one)


def test_the_chart_gets_the_image_that_was_built() -> None:
    """The release's values name the artifact by its own name."""
    (release,) = config()["deploy"]["helm"]["releases"]
    name = str(artifact()["image"])
    assert release["setValueTemplates"] == {
        "image.repository": f"{{{{.IMAGE_REPO_{name}}}}}",
        "image.tag": f"{{{{.IMAGE_TAG_{name}}}}}",
    }
