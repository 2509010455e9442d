"""The fleet on a real cluster, step by step: one JSON line each.

    python tests/cluster/run.py --image REPOSITORY:TAG [--only step,…] [--keep]

First the chart is installed from nothing into a namespace of its own on kubectl's current context, with the
simulated marketplace and 60 accounts over three gateway replicas whose buyers ask 20 times a second, and is
broken step by step. `back_s` is the longest that an account was offline, `calm_s` the time from the strike to
the last moment at which some account was, `logins` and `kicks` are counted by the marketplace: a kick is a
login while another session of the account was alive. Then `frontdesk fleet show` is held beside kubectl, and
what the containers took beside what they request.

Then it is installed anew, with a collector and an Ingress, for proofs: one trace over pods, the doors from
outside, who is kept from whom, and what a service that sleeps takes to wake.

Exit code 1 when something was lost, answered twice, or offline for more than 20 s, or a line has something in
`wrong`. What a cluster lacks is `skipped`, with the reason.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]

from chart import toolbox  # noqa: E402 - the path is set above
from cluster import sleeping  # noqa: E402
from cluster.counted import ai_counted  # noqa: E402
from cluster.ingress import ingress  # noqa: E402
from cluster.isolation import isolated  # noqa: E402
from cluster.kube import CommandError  # noqa: E402
from cluster.release import GATEWAY, Release, line  # noqa: E402
from cluster.resources import Meter  # noqa: E402
from cluster.shown import fleet_shown  # noqa: E402
from cluster.steps import ACCOUNTS, NODE_SHELL, REPLICAS, STEPS, as_it_must_be, cut_from_nats, play  # noqa: E402
from cluster.tracing import traced  # noqa: E402

Proof = Callable[[Release], Awaitable[dict[str, object]]]
PROOFS_VALUES = ROOT / "tests" / "cluster" / "proofs.yaml"
FEW_ACCOUNTS = 4

# On the release that is broken, after that.
AFTERWARDS: Mapping[str, Proof] = {"ai_counted": ai_counted, "fleet_shown": fleet_shown}
RESOURCES = "resources"
# On a release of their own.
PROOFS: Mapping[str, Proof] = {"traced": traced, "ingress": ingress, "isolated": isolated}
NAMES = (*STEPS, *AFTERWARDS, RESOURCES, *PROOFS, *sleeping.WAKERS)


async def run(image: str, names: list[str], keep: bool) -> int:
    """All steps; the number of those that went wrong."""
    wrong = 0
    for kind, part in (("test", breaking), ("proofs", proving)):
        wrong += await part(f"frontdesk-{kind}-{os.getpid()}", image, names, keep)
    return wrong


async def breaking(namespace: str, image: str, names: list[str], keep: bool) -> int:
    """What is done to a fleet under load."""
    if not {*STEPS, *AFTERWARDS, RESOURCES} & {*names}:
        return 0
    wrong = 0
    async with Release(namespace, image, keep=keep) as release:
        await release.until_ready(GATEWAY, REPLICAS)
        line(step="installed", back_s=round(release.installed_s, 1))
        await release.set_up(ACCOUNTS)
        meter = Meter(release)
        measuring = asyncio.create_task(meter.run())
        for name in (one for one in names if one in STEPS):
            if STEPS[name].strike is cut_from_nats and NODE_SHELL not in os.environ:
                line(step=name, skipped=f"{NODE_SHELL} names no command that runs another on the node")
                continue
            figures = await play(release, name, STEPS[name])
            line(**figures)
            if not as_it_must_be(figures):
                wrong += 1
                print(await release.events(), file=sys.stderr)
        for name in (one for one in names if one in AFTERWARDS):
            wrong += await proven(release, name, AFTERWARDS[name])
        measuring.cancel()
        await asyncio.gather(measuring, return_exceptions=True)
        if RESOURCES in names:
            wrong += await proven(release, RESOURCES, lambda _: meter.figures())
    return wrong


async def proving(namespace: str, image: str, names: list[str], keep: bool) -> int:
    """What is proven of a fleet without load."""
    proofs = [name for name in names if name in PROOFS]
    wakers = [name for name in names if name in sleeping.WAKERS]
    if not proofs and not wakers:
        return 0
    wrong = 0
    async with Release(namespace, image, keep=keep, values=[str(PROOFS_VALUES)]) as release:
        await release.set_up(FEW_ACCOUNTS)
        for name in proofs:
            wrong += await proven(release, name, PROOFS[name])
        if wakers and not await sleeping.keda_is_there(release):
            line(step="woken", skipped="the cluster has no KEDA: there is no CRD scaledobjects.keda.sh")
            wakers = []
        if wakers:
            await sleeping.begin(release)
        for lanes in sleeping.LANES:
            chosen = {after_s: [one for one in lane if one in wakers] for after_s, lane in lanes.items()}
            wrong += sum(await asyncio.gather(*(_wakes(release, *lane) for lane in chosen.items())))
    return wrong


async def _wakes(release: Release, after_s: float, names: list[str]) -> int:
    """Wakes, one after the other."""
    wrong = 0
    for number, name in enumerate(names):
        await asyncio.sleep(0 if number else after_s)
        wrong += await proven(release, name, partial(sleeping.woken, name=name))
    return wrong


async def proven(release: Release, name: str, proof: Proof) -> int:
    """Print what a proof came to; 1 when it failed."""
    try:
        figures = await proof(release)
    except (AssertionError, CommandError, TimeoutError) as error:
        figures = {"step": name, "wrong": [str(error) or type(error).__name__]}
    line(**figures)
    if not figures.get("wrong"):
        return 0
    print(await release.events(), file=sys.stderr)
    return 1


def main() -> int:
    """Run all steps, or some."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", required=True, help="the image, loaded into the cluster; `-next` too")
    parser.add_argument("--only", default="", help="steps by comma")
    parser.add_argument("--keep", action="store_true", help="leave the release there")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(NAMES)
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        parser.error(f"no step {', '.join(unknown)}; there are {', '.join(NAMES)}")
    toolbox.clients(lambda text: print(text, file=sys.stderr))
    return int(bool(asyncio.run(run(arguments.image, names, arguments.keep))))


if __name__ == "__main__":
    raise SystemExit(main())
