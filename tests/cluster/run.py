"""The fleet on a real cluster, step by step: one JSON line each.

    python tests/cluster/run.py --image REPOSITORY:TAG [--only step,…] [--keep]

Installs the chart from nothing into a namespace of its own on kubectl's current context, with the simulated
marketplace and 60 accounts over three gateway replicas whose buyers ask 20 times a second. `back_s` is the
longest that an account was offline, `calm_s` the time from the strike to the last moment at which some
account was, `logins` and `kicks` are counted by the marketplace: a kick is a login while another session of
the account was alive. Exit code 1 when something was lost, answered twice, or offline for more than 20 s.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]

from chart import toolbox  # noqa: E402 - the path is set above
from cluster.release import GATEWAY, Release, line  # noqa: E402 - the path is set above
from cluster.steps import ACCOUNTS, NODE_SHELL, REPLICAS, STEPS, as_it_must_be, cut_from_nats, play  # noqa: E402


async def run(image: str, names: list[str], keep: bool) -> int:
    """All steps on one release; the number of those that went wrong."""
    wrong = 0
    async with Release(f"frontdesk-test-{os.getpid()}", image, keep=keep) as release:
        await release.until_ready(GATEWAY, REPLICAS)
        line(step="installed", back_s=round(release.installed_s, 1))
        await release.set_up(ACCOUNTS)
        for name in names:
            if STEPS[name].strike is cut_from_nats and NODE_SHELL not in os.environ:
                line(step=name, skipped=f"{NODE_SHELL} names no command that runs another on the node")
                continue
            figures = await play(release, name, STEPS[name])
            line(**figures)
            if not as_it_must_be(figures):
                wrong += 1
                print(await release.events(), file=sys.stderr)
    return wrong


def main() -> int:
    """Run all steps, or some."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", required=True, help="the image, loaded into the cluster; `-next` too")
    parser.add_argument("--only", default="", help="steps by comma")
    parser.add_argument("--keep", action="store_true", help="leave the release there")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(STEPS)
    unknown = [name for name in names if name not in STEPS]
    if unknown:
        parser.error(f"no step {', '.join(unknown)}; there are {', '.join(STEPS)}")
    toolbox.clients(lambda text: print(text, file=sys.stderr))
    return int(bool(asyncio.run(run(arguments.image, names, arguments.keep))))


if __name__ == "__main__":
    raise SystemExit(main())
