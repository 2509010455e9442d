"""buildah, as little of it as is needed: build a Dockerfile, bring an archive in, write an archive out.

What a build runs gets this machine's pip settings and certificates, read-only, and leaves nothing of them in
the image.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ARCHIVES = ROOT / "dist" / "images"
_MACHINE = ("/etc/pip.conf", "/etc/ssl/certs", "/usr/share/ca-certificates")


class ImageError(Exception):
    """A program is missing or failed; the text says which and what it said."""


def run(*words: str | Path, cwd: Path = ROOT, environ: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it prints; raises ImageError with the end of its errors."""
    program = str(words[0])
    if shutil.which(program) is None:
        raise ImageError(f"{program} is not installed (Debian: apt-get install {program})")
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ImageError(f"{program} failed ({done.returncode}):\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def build(
    tag: str,
    *,
    context: Path,
    dockerfile: Path,
    target: str | None = None,
    arguments: Mapping[str, str] | None = None,
) -> None:
    """Build an image into buildah's store; layers that did not change are taken from there.

    All files and the image are of one time: the same sources make the same image, bit by bit.
    """
    words: list[str | Path] = ["buildah", "build", "--layers", "--timestamp", "0"]
    words += ["--isolation", "chroot", "--network", "host"]
    for path in _MACHINE:
        if Path(path).exists():
            words += ["--volume", f"{path}:{path}:ro"]
    for name, value in (arguments or {}).items():
        words += ["--build-arg", f"{name}={value}"]
    if target:
        words += ["--target", target]
    run(*words, "--tag", tag, "--file", dockerfile, context)


def archive(tag: str) -> Path:
    """Write an image as a docker-archive below dist/images and return its path."""
    name = tag.rsplit("/", 1)[-1].replace(":", "-")
    path = ARCHIVES / f"{name}.tar"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    run("buildah", "push", "--quiet", tag, f"docker-archive:{path}:{tag}")
    return path


def push(tag: str, *, insecure: bool) -> None:
    """Push an image to the registry in its name."""
    run("buildah", "push", "--quiet", f"--tls-verify={str(not insecure).lower()}", tag, f"docker://{tag}")


def exists(tag: str) -> bool:
    """Whether buildah's store has the image."""
    found = json.loads(run("buildah", "images", "--json") or "[]")
    return any(tag in (image.get("names") or ()) for image in found)
