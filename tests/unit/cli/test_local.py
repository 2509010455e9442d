"""A laptop's installation."""

from __future__ import annotations

from pathlib import Path

import pytest

from frontdesk.cli.local import Local
from frontdesk.kit.clock import SystemClock
from frontdesk.kit.errors import FailedPrecondition
from frontdesk.kit.secrets import SecretBox
from frontdesk.kit.tokens import Role, StaticKeys, Verifier


def test_the_first_start_makes_keys_and_later_ones_keep_them(tmp_path: Path) -> None:
    """Keys are made once, for the owner's eyes only, and work."""
    local = Local(tmp_path / "data")
    assert local.prepare()
    keys = local.keys()
    assert not local.prepare()
    assert local.keys() == keys
    assert (tmp_path / "data" / "keys.env").stat().st_mode & 0o077 == 0
    assert local.private_key.stat().st_mode & 0o077 == 0
    SecretBox([keys["FRONTDESK_SECRET_KEYS"]])


async def test_its_tokens_verify(tmp_path: Path) -> None:
    """A token it mints names its organization and role, and verifies with its public key."""
    local = Local(tmp_path)
    local.prepare()
    token = local.token(subject="me", role=Role.manager)
    verifier = Verifier(
        StaticKeys(local.public_key.read_text()),
        issuer="frontdesk",
        audience="frontdesk",
        clock=SystemClock(),
    )
    principal = await verifier.verify(token)
    assert (principal.subject, principal.organization_id, principal.role) == ("me", "local", "manager")


def test_before_the_first_start_it_says_what_to_do(tmp_path: Path) -> None:
    """Without keys or a running installation the error names the command."""
    local = Local(tmp_path)
    with pytest.raises(FailedPrecondition, match="frontdesk up"):
        local.token(subject="me", role=Role.viewer)
    with pytest.raises(FailedPrecondition, match="frontdesk up"):
        local.endpoints()
