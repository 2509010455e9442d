"""Build images and load them into a cluster.

python -m images frontdesk                 the product's image, out of Dockerfile
python -m images nats-server postgres otel-collector
                                           what a test cluster needs besides; production takes its own
python -m images frontdesk --load          ... and load it into the current cluster (see load.py)
python -m images skaffold                  what skaffold.yaml calls, by what Skaffold sets

Prints a JSON line an image: its name, its archive, bytes, seconds. Run it in tools/ (`make image` does).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from images import bases, extras, load, oci, skaffold

TAG = "dev"


def frontdesk(tag: str, target: str = "frontdesk") -> None:
    """The product's image, on the base that Debian's packages make."""
    arguments = {"BASE": bases.ensure(bases.RUN), "BUILD_BASE": bases.ensure(bases.BUILD)}
    oci.build(tag, context=oci.ROOT, dockerfile=oci.ROOT / "Dockerfile", target=target, arguments=arguments)


BUILDERS: dict[str, Callable[[str], None]] = {
    "frontdesk": frontdesk,
    "frontdesk-dev": partial(frontdesk, target="dev"),
    "nats-server": extras.nats_server,
    "otel-collector": extras.collector,
    "postgres": extras.postgres,
}


def make(names: Sequence[str], tag: str, environ: Mapping[str, str], *, loading: bool) -> list[Path]:
    """Build images, write their archives, and load them if wanted."""
    made = []
    for name in names:
        begun = time.monotonic()
        full = f"localhost/{name}:{tag}"
        BUILDERS[name](full)
        path = oci.archive(full)
        made.append(path)
        facts = {"image": full, "archive": str(path.relative_to(oci.ROOT)), "bytes": path.stat().st_size}
        print(json.dumps({**facts, "seconds": round(time.monotonic() - begun, 1)}), flush=True)
    if loading:
        load.load(made, environ)
    return made


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m images"
    )
    parser.add_argument("names", nargs="+", choices=[*BUILDERS, "skaffold"])
    parser.add_argument("--tag", default=TAG)
    parser.add_argument("--load", action="store_true", help="give the archives to the current cluster")
    options = parser.parse_args(argv)
    try:
        if options.names == ["skaffold"]:
            skaffold.build(environ, frontdesk)
        else:
            make(options.names, options.tag, environ, loading=options.load)
    except oci.ImageError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
