"""The command `frontdesk`. A service alone starts without loading the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    from frontdesk import fleet

    words = sys.argv[1:]
    if len(words) == 1 and words[0] in fleet.SERVICES:
        from frontdesk.kit.config import environment

        sys.exit(fleet.run_service(words[0], environment()))
    from frontdesk.cli.app import app

    app()


if __name__ == "__main__":
    main()
