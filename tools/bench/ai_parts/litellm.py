"""The peer: LiteLLM's proxy, in an environment of its own under `.bench/`, made when first asked for."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

VERSION = "1.106.2"
KEY = "sk-bench-0123456789"
READY_S = 120.0


def installed(folder: Path) -> Path:
    """The `litellm` command in `folder`, installed if it is not there."""
    command = folder / "bin" / "litellm"
    if not command.exists():
        print(f"installing litellm[proxy] {VERSION}, once", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        uv = Path(sys.executable).parent / "uv"
        subprocess.run(
            [
                str(uv),
                "pip",
                "install",
                "--quiet",
                "--python",
                str(folder / "bin" / "python"),
                f"litellm[proxy]=={VERSION}",
            ],
            check=True,
        )
    return command


class LiteLlm:
    """One worker of the proxy in front of `upstream`."""

    def __init__(self, command: Path, folder: Path, upstream: str, model: str) -> None:
        self._command = command
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        config = {
            "model_list": [
                {
                    "model_name": "default",
                    "litellm_params": {
                        "model": f"openai/{model}",
                        "api_base": f"{upstream}/v1",
                        "api_key": "sk-upstream",
                    },
                }
            ],
            "general_settings": {"master_key": KEY},
            "litellm_settings": {"telemetry": False},
        }
        # JSON is YAML too.
        (folder / "litellm.yaml").write_text(json.dumps(config))

    def start(self) -> None:
        """Run it until it answers."""
        log = (self._folder / "litellm.log").open("wb")
        self.process = subprocess.Popen(
            [
                str(self._command),
                "--config",
                str(self._folder / "litellm.yaml"),
                "--port",
                str(self.port),
                "--host",
                "127.0.0.1",
                "--num_workers",
                "1",
            ],
            stdout=log,
            stderr=log,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(self._folder),
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_LOG": "ERROR",
                "NO_DOCS": "True",
            },
        )
        log.close()
        end = time.monotonic() + READY_S
        while not self._answers():
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError((self._folder / "litellm.log").read_text()[-2000:])
            time.sleep(0.5)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/health/liveliness", timeout=2
            ) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)
