"""Every check of `make test-chart`, one line each; a check that fails shows what it found.

python -m chart              runs all of them, with tools/ and tests/ on the path
python -m chart unit nats    runs those whose name contains a given word

Exits 1 when one fails.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chart import documents, rules, schemas, values_docs
from chart.manifests import Manifests
from chart.toolbox import ROOT, Missing, Toolbox, fetch

CHART = ROOT / "charts" / "frontdesk"
RELEASE = "desk"
NATS_SERVER = Path(sys.executable).parent / "nats-server"
# Not a finding here: an image is pinned by tag or digest, so nothing newer can hide behind what a node has.
IGNORED = "container-image-pull-policy"

Check = Callable[[], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Rendering:
    """A scenario as Helm renders it, in a file and read."""

    name: str
    file: Path
    manifests: Manifests


class Suite:
    """The checks, over all scenarios rendered once."""

    def __init__(self, tools: Toolbox, folder: Path) -> None:
        self._tools = tools
        self._folder = folder
        self.scenarios = sorted((CHART / "ci").glob("*-values.yaml"))
        self._renderings: list[Rendering] = []

    def checks(self) -> list[tuple[str, Check]]:
        """Name and check; `render` must run first."""
        return [
            ("helm lint", self._lint),
            *(
                (f"kubeconform {version}", partial(self._kubeconform, version))
                for version in schemas.KUBERNETES
            ),
            ("helm unittest", self._unittest),
            ("kube-score", self._score),
            *((rule.__name__.replace("_", " "), partial(self._rule, rule)) for rule in rules.RULES),
            ("nats.conf", self._nats),
            ("scripts", self._scripts),
            ("values", self._values),
            *((name, partial(check, self._manifests)) for name, check in documents.CHECKS.items()),
        ]

    def render(self) -> Iterator[str]:
        """Every scenario, as an install and as an upgrade."""
        for scenario in self.scenarios:
            name = scenario.name.removesuffix("-values.yaml")
            for kind in ("install", "upgrade"):
                words = ["--is-upgrade"] if kind == "upgrade" else []
                done = _run(
                    self._tools.helm,
                    "template",
                    RELEASE,
                    CHART,
                    "--namespace",
                    "desk",
                    "-f",
                    scenario,
                    *words,
                )
                if done.returncode:
                    yield f"{name}: {done.stderr.strip()}"
                else:
                    file = self._folder / f"{name}-{kind}.yaml"
                    file.write_text(done.stdout)
                    self._renderings.append(Rendering(file.stem, file, Manifests.read(done.stdout)))

    @property
    def _manifests(self) -> list[Manifests]:
        return [rendering.manifests for rendering in self._renderings]

    def _lint(self) -> Iterator[str]:
        for scenario in self.scenarios:
            done = _run(self._tools.helm, "lint", "--strict", "--quiet", CHART, "-f", scenario)
            if done.returncode:
                yield f"{scenario.name}: {done.stdout.strip()} {done.stderr.strip()}"

    def _kubeconform(self, version: str) -> Iterator[str]:
        locations = [
            f"{self._tools.schemas}/{{{{.NormalizedKubernetesVersion}}}}{{{{.StrictSuffix}}}}"
            "/{{.ResourceKind}}{{.KindSuffix}}.json",
            f"{self._tools.schemas}/crd/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        ]
        words = [word for location in locations for word in ("-schema-location", location)]
        done = _run(
            self._tools.kubeconform,
            *("-strict", "-kubernetes-version", f"{version}.0", *words),
            *(rendering.file for rendering in self._renderings),
        )
        if done.returncode:
            yield f"{done.stdout}{done.stderr}".strip()

    def _unittest(self) -> Iterator[str]:
        done = _run(self._tools.unittest, "--strict", "--file", "tests/*_test.yaml", CHART)
        if done.returncode:
            yield f"{done.stdout}{done.stderr}".strip()

    def _score(self) -> Iterator[str]:
        for rendering in self._renderings:
            done = _run(
                self._tools.kube_score,
                *("score", "--output-format", "ci", "--ignore-test", IGNORED, rendering.file),
            )
            if not done.stdout and done.returncode:
                yield f"{rendering.name}: {done.stderr.strip()}"
            for line in done.stdout.splitlines():
                if line.startswith("[CRITICAL]"):
                    yield f"{rendering.name}: {line}"

    def _rule(self, rule: rules.Rule) -> Iterator[str]:
        for rendering in self._renderings:
            for problem in rule(rendering.manifests):
                yield f"{rendering.name}: {problem}"

    def _nats(self) -> Iterator[str]:
        """A real nats-server accepts the configuration, with passwords that look like something else."""
        for rendering in self._renderings:
            for problem in documents.nats_problems(rendering.manifests, NATS_SERVER):
                yield f"{rendering.name}: {problem}"

    def _scripts(self) -> Iterator[str]:
        for script in sorted((CHART / "files" / "postgresql").glob("*.sh")):
            done = _run("sh", "-n", script)
            if done.returncode:
                yield done.stderr.strip()

    def _values(self) -> Iterator[str]:
        done = _run(sys.executable, values_docs.__file__, "--check")
        if done.returncode:
            yield done.stderr.strip()


def _run(command: str | Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in (command, *words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def _report(name: str, check: Check) -> bool:
    begun = time.monotonic()
    problems = list(check())
    print(f"{'FAIL' if problems else 'ok  '}  {name:<20} {time.monotonic() - begun:5.1f} s", flush=True)
    for problem in problems:
        print(f"      {problem}", flush=True)
    return not problems


def main(words: Sequence[str]) -> int:
    try:
        tools = fetch(lambda what: print(what, flush=True))
    except Missing as missing:
        print(missing)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        suite = Suite(tools, Path(folder))
        good = _report("helm template", suite.render)
        chosen = [one for one in suite.checks() if not words or any(word in one[0] for word in words)]
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda one: _report(*one), chosen))
    failed = results.count(False) + (not good)
    if failed:
        print(f"{failed} of {len(chosen) + 1} checks failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
