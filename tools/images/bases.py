"""A base with Python 3.11 out of Debian's packages, for machines that can't pull the official one.

Packages are extracted, not installed: no apt, no dpkg, no perl. busybox is the shell and the tools; whoever
looks into a pod finds `sh`, `ls`, `cat`, `tar`. The base to build on has venv and strip besides.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from images import oci

SUITE = "bookworm"
RUN = "localhost/frontdesk-base:bookworm"
BUILD = "localhost/frontdesk-build-base:bookworm"
_COMMON = ("base-files", "base-passwd", "busybox", "ca-certificates", "libc-bin", "netbase")
PACKAGES = {
    RUN: (*_COMMON, "libstdc++6", "python3"),
    BUILD: (*_COMMON, "libstdc++6", "python3", "python3-venv", "binutils"),
}
_USELESS = (
    *("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/perl"),
    *("usr/share/perl5", "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/x86_64-linux-gnu/perl"),
    *("usr/lib/x86_64-linux-gnu/perl-base", "usr/bin/perl", "usr/bin/openssl", "usr/lib/python3.11/lib2to3"),
    *("usr/lib/python3.11/pydoc_data", "usr/lib/python3.11/idlelib", "var/lib/dpkg", "var/lib/apt"),
    *("var/cache", "var/log"),
)
DOCKERFILE = "FROM scratch\nADD rootfs.tar /\n"


def ensure(tag: str) -> str:
    """Make a base unless it is there, and return its name."""
    if not oci.exists(tag):
        make(tag, PACKAGES[tag])
    return tag


def make(tag: str, packages: Sequence[str], useless: Sequence[str] = _USELESS) -> None:
    """Extract packages into an image that has nothing of `useless`."""
    with tempfile.TemporaryDirectory(prefix="frontdesk-base-") as folder:
        root, context = Path(folder, "root"), Path(folder, "context")
        context.mkdir()
        wanted = ("--quiet", "--variant=extract", f"--include={','.join(packages)}")
        oci.run("mmdebstrap", *wanted, SUITE, root, *_sources())
        _finish(root, useless)
        # One time for all files: the same packages make the same layer.
        oci.run(
            *("tar", "--create", "--numeric-owner", "--sort=name", "--mtime=@0"),
            *("--exclude=./dev/*", f"--file={context / 'rootfs.tar'}", f"--directory={root}", "."),
        )
        (context / "Dockerfile").write_text(DOCKERFILE)
        oci.build(tag, context=context, dockerfile=context / "Dockerfile")


def _sources() -> list[str]:
    """Where this machine takes its packages from; nothing means mmdebstrap's own choice."""
    found = sorted(Path("/etc/apt/sources.list.d").glob("debian*.sources"))
    return [str(path) for path in found]


def _finish(root: Path, useless: Sequence[str]) -> None:
    """What the packages' own scripts would do, as far as it is needed."""
    oci.run("chroot", root, "/bin/busybox", "--install", "-s", "/bin")
    certificates = sorted(root.glob("usr/share/ca-certificates/mozilla/*.crt"))
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.write_text("".join(path.read_text() for path in certificates))
    for name in useless:
        path = root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if (root / "usr/bin/python3").exists():
        compiling = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "/usr/lib/python3.11")
        oci.run("chroot", root, "/usr/bin/python3", *compiling)
