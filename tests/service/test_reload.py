"""tools/images/reload.py, with a real command whose file changes."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

RELOAD = Path(__file__).resolve().parents[2] / "tools" / "images" / "reload.py"
PROGRAM = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("bye {0}", flush=True), sys.exit(3)))
print("hello {0}", flush=True)
while True:
    time.sleep(0.05)
"""


async def test_a_changed_file_starts_the_command_again(tmp_path: Path) -> None:
    """The old command is told to stop, the new one runs; a signal ends it all with the command's code."""
    program = tmp_path / "code" / "program.py"
    program.parent.mkdir()
    program.write_text(PROGRAM.format("one"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(RELOAD), str(program.parent), sys.executable, str(program)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None

    async def line() -> bytes:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            return (await process.stdout.readline()).strip()

    assert await line() == b"hello one"
    program.write_text(PROGRAM.format("three"))
    assert [await line(), await line()] == [b"bye one", b"hello three"]
    process.send_signal(signal.SIGTERM)
    assert await line() == b"bye three"
    assert await process.wait() == 3
