"""`frontdesk doctor` as a process: it ends whatever is away, and says what to do as it is typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from frontdesk.kit.secrets import generate_key
from frontdesk.kit.tokens import generate_key_pair


def test_a_nats_that_is_away_is_a_finding(tmp_path: Path) -> None:
    """It is not waited for longer than a few seconds; what is well is said beside it."""
    environ = {
        "HOME": str(tmp_path),
        "COLUMNS": "300",
        "FRONTDESK_NATS_URL": "nats://127.0.0.1:1",
        "FRONTDESK_DATABASE_URL": f"sqlite:///{tmp_path}/service.db",
        "FRONTDESK_SECRET_KEYS": generate_key(),
        "FRONTDESK_JWT_PUBLIC_KEYS": generate_key_pair()[1],
        "FRONTDESK_GOOFISH_WS_URL": "ws://127.0.0.1:1",
        "FRONTDESK_GOOFISH_API_URL": "http://127.0.0.1:1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "frontdesk", "doctor"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "reply-engine settings: complete" in done.stdout
    assert done.stdout.count("NATS can't be reached") == 3
    assert "is it running, and are user and password right?" in done.stdout
