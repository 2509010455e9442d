"""tools/images and what the image is made of: who loads it, what it copies, what it must not have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from images import load, oci, skaffold

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILES = sorted([ROOT / "Dockerfile", *ROOT.glob("tools/images/*/Dockerfile")])


@pytest.mark.parametrize(
    ("environ", "context", "command"),
    [
        ({}, "kind-dev", ["kind", "load", "image-archive", "--name", "dev"]),
        ({}, "minikube", ["minikube", "image", "load"]),
        ({"FRONTDESK_IMAGE_LOADER": "'a b/load' --now"}, "", ["a b/load", "--now"]),
        ({"FRONTDESK_IMAGE_LOADER": "./load"}, "kind-dev", ["./load"]),
    ],
)
def test_the_cluster_says_how_it_takes_images(
    environ: dict[str, str], context: str, command: list[str]
) -> None:
    """A given command wins; kind and minikube are known."""
    assert load.loader(environ, context) == command


def test_an_unknown_cluster_is_told_what_to_set() -> None:
    """Nothing is guessed."""
    with pytest.raises(oci.ImageError, match="FRONTDESK_IMAGE_LOADER"):
        load.loader({}, "arn:somewhere")


def test_skaffolds_build_wants_skaffolds_environment() -> None:
    """Called by hand it says who should call it."""
    with pytest.raises(oci.ImageError, match="IMAGE is not set"):
        skaffold.build({}, lambda _tag, _target: None)


def test_a_missing_program_is_named() -> None:
    """Whoever lacks buildah is told so."""
    with pytest.raises(oci.ImageError, match="no-such-program is not installed"):
        oci.run("no-such-program")


def final_stage(path: Path) -> str:
    return path.read_text().rsplit("\nFROM ", 1)[-1]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_images_run_as_a_number_and_name_no_latest(path: Path) -> None:
    """Kubernetes can only tell that a user is not root by its number, and `latest` is no version."""
    text = path.read_text()
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE)
    assert "latest" not in text
    assert not re.search(r"^USER (root|0)", text, re.MULTILINE)


def test_what_is_copied_reaches_the_builder() -> None:
    """.dockerignore lets through what the Dockerfile copies, and nothing of the tests or the repository."""
    copied = re.findall(
        r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    wanted = {source for line in copied for source in line.split()}
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert {w for w in wanted if not any(w == a or w.startswith(f"{a}/") for a in allowed)} == set()
    assert allowed.isdisjoint({"tests", ".git", ".venv", "data"})
