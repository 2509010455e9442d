"""Give image archives to the cluster of the current context.

FRONTDESK_IMAGE_LOADER names a program that takes archives as its arguments. Without it, the context's name
says what to do: kind and minikube have commands of their own.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from images import oci

KEY = "FRONTDESK_IMAGE_LOADER"


def loader(environ: Mapping[str, str], context: str) -> list[str]:
    """The command that archives are appended to; raises ImageError when nothing tells it."""
    if environ.get(KEY):
        return shlex.split(environ[KEY])
    if context.startswith("kind-"):
        return ["kind", "load", "image-archive", "--name", context.removeprefix("kind-")]
    if context == "minikube":
        return ["minikube", "image", "load"]
    raise oci.ImageError(
        f"how does the cluster of the context {context or '(none)'} take images? Set {KEY} to a command that "
        "takes archives, or push to a registry that it pulls from"
    )


def load(archives: Sequence[Path], environ: Mapping[str, str]) -> None:
    """Load archives, one call each; raises ImageError."""
    context = "" if environ.get(KEY) else oci.run("kubectl", "config", "current-context").strip()
    command = loader(environ, context)
    for path in archives:
        oci.run(*command, path)
