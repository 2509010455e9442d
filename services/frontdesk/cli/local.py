"""A laptop's installation: one folder with keys that were made on the first start, and nothing to set up.

data/
  keys.env          encryption key, NATS password (0600)
  jwt-private.pem   signs tokens (0600); jwt-public.pem verifies them
  nats/             NATS' own files
  <service>.db      each service's database
  endpoints.json    where the running installation listens
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from frontdesk.kit.errors import FailedPrecondition
from frontdesk.kit.secrets import generate_key
from frontdesk.kit.tokens import Role, generate_key_pair, mint

ORGANIZATION = "local"


@dataclass(frozen=True, slots=True)
class Local:
    """The installation in `folder`."""

    folder: Path

    @property
    def private_key(self) -> Path:
        return self.folder / "jwt-private.pem"

    @property
    def public_key(self) -> Path:
        return self.folder / "jwt-public.pem"

    @property
    def endpoints_file(self) -> Path:
        return self.folder / "endpoints.json"

    def prepare(self) -> bool:
        """Make what is missing; True when this is the first start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        first = not self.private_key.exists()
        if first:
            private, public = generate_key_pair()
            _write(self.public_key, public)
            _write(self.private_key, private)
        keys = self.folder / "keys.env"
        if not keys.exists():
            _write(
                keys,
                f"FRONTDESK_SECRET_KEYS={generate_key()}\nFRONTDESK_NATS_PASSWORD={secrets.token_urlsafe(24)}\n",
            )
        return first

    def keys(self) -> dict[str, str]:
        """The generated keys as environment variables."""
        lines = (self.folder / "keys.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def environment(self, service: str, nats_url: str) -> dict[str, str]:
        """What a service of this installation reads, unless the environment says otherwise."""
        return {
            **self.keys(),
            "FRONTDESK_NATS_URL": nats_url,
            "FRONTDESK_NATS_USER": "frontdesk",
            "FRONTDESK_DATABASE_URL": f"sqlite:///{self.folder / service}.db",
            "FRONTDESK_JWT_PUBLIC_KEYS_FILE": str(self.public_key),
            "FRONTDESK_OPERATOR_ORGANIZATION": ORGANIZATION,
        }

    def token(
        self, *, subject: str, role: Role, organization_id: str = ORGANIZATION, ttl_s: int = 3600
    ) -> str:
        """A token signed by this installation; raises FailedPrecondition before the first start."""
        if not self.private_key.exists():
            raise FailedPrecondition(
                f"no key in {self.folder}: start once with `frontdesk up`, or give --data"
            )
        return mint(
            self.private_key.read_text(),
            subject=subject,
            organization_id=organization_id,
            role=role,
            ttl_s=ttl_s,
        )

    def write_endpoints(self, endpoints: dict[str, str]) -> None:
        """Remember where the doors are, for the commands that call them."""
        _write(self.endpoints_file, json.dumps(endpoints, indent=2))

    def endpoints(self) -> dict[str, str]:
        """Where the doors are; raises FailedPrecondition when nothing was started here."""
        try:
            found: dict[str, str] = json.loads(self.endpoints_file.read_text())
        except (FileNotFoundError, ValueError) as error:
            raise FailedPrecondition(
                f"nothing runs in {self.folder}: start it with `frontdesk up`, or give --address"
            ) from error
        return found


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    fresh = path.with_suffix(f"{path.suffix}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)
