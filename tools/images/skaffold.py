"""What skaffold.yaml's custom build runs: the image by the name that Skaffold gives, where it looks for it.

Skaffold tells by PUSH_IMAGE whether its cluster pulls from a registry: then the image is pushed there. Else
the cluster gets it by FRONTDESK_IMAGE_LOADER where that is set, or takes it from the local Docker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from images import load, oci

TARGET = "FRONTDESK_IMAGE_TARGET"
_LOOPBACK = ("localhost", "127.")


def build(environ: Mapping[str, str], frontdesk: Callable[[str, str], None]) -> None:
    """Build and hand over; raises ImageError when it isn't Skaffold that calls."""
    tag = environ.get("IMAGE")
    if not tag:
        raise oci.ImageError("IMAGE is not set: this is for Skaffold to call, see skaffold.yaml")
    frontdesk(tag, environ.get(TARGET) or "frontdesk")
    if environ.get("PUSH_IMAGE") == "true":
        oci.push(tag, insecure=tag.startswith(_LOOPBACK))
        return
    archive = oci.archive(tag)
    try:
        if environ.get(load.KEY):
            load.load([archive], environ)
        else:
            oci.run("docker", "load", "--input", archive)
    finally:
        archive.unlink()  # each build has a tag of its own
