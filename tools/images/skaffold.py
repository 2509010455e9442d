"""What skaffold.yaml's custom build runs: the image by the name that Skaffold gives, where it looks for it.

Skaffold tells by PUSH_IMAGE whether its cluster pulls from a registry (then the image is pushed there) or
takes images of the local Docker (then it is brought there). With FRONTDESK_IMAGE_LOADER the cluster gets it
too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping

from images import load, oci

TARGET = "FRONTDESK_IMAGE_TARGET"
INSECURE = "FRONTDESK_IMAGE_INSECURE"


def build(environ: Mapping[str, str], frontdesk: Callable[[str, str], None]) -> None:
    """Build and hand over; raises ImageError when it isn't Skaffold that calls."""
    tag = environ.get("IMAGE")
    if not tag:
        raise oci.ImageError("IMAGE is not set: this is for Skaffold to call, see skaffold.yaml")
    frontdesk(tag, environ.get(TARGET) or "frontdesk")
    if environ.get("PUSH_IMAGE") == "true":
        oci.push(tag, insecure=environ.get(INSECURE) == "true")
        return
    archive = oci.archive(tag)
    if environ.get(load.KEY):
        load.load([archive], environ)
    if shutil.which("docker"):
        oci.run("docker", "load", "--input", archive)
