"""Run a command, and again whenever a Python file below a folder changes: `reload.py FOLDER COMMAND…`.

For development in a pod: Skaffold syncs files, this sees them. The command gets SIGTERM and as long as it
takes; one that ended by itself is started at the next change only, so that its last words can be read.
Signals to this process go to the command, and its end is the end.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

LOOK_EVERY_S = 0.5


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Time of change and size of every Python file."""
    found = {}
    for path in folder.rglob("*.py"):
        try:
            facts = path.stat()
        except FileNotFoundError:  # replaced at this moment: seen at the next look
            continue
        found[str(path)] = (facts.st_mtime_ns, facts.st_size)
    return found


class Reloader:
    """The command, as often as it is wanted."""

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        self._folder = folder
        self._words = list(words)
        self._process: subprocess.Popen[bytes] | None = None
        self._told: int | None = None

    def run(self) -> int:
        """Until a signal came and the command ended; its exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._pass_on)
        while self._told is None:
            seen = state(self._folder)
            process = self._start()
            if self._changed(seen):
                sys.stderr.write(f"{self._folder} changed: starting {' '.join(self._words)} again\n")
                process.terminate()
            code = process.wait()
        return code

    def _start(self) -> subprocess.Popen[bytes]:
        process = self._process = subprocess.Popen(self._words)
        if self._told is not None:  # while it was being started
            process.send_signal(self._told)
        return process

    def _changed(self, seen: dict[str, tuple[int, int]]) -> bool:
        """Wait for a change; False when a signal came first."""
        while self._told is None and state(self._folder) == seen:
            time.sleep(LOOK_EVERY_S)
        return self._told is None

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self._told = number
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: reload.py FOLDER COMMAND...")
    sys.exit(Reloader(Path(sys.argv[1]), sys.argv[2:]).run())
