"""`frontdesk token` as a process: by a local folder, or by a release's Secret in a cluster."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from frontdesk.cli.cluster import NO_CLIENT, NO_CLUSTER
from frontdesk.kit.clock import SystemClock
from frontdesk.kit.principal import Principal
from frontdesk.kit.tokens import Role, StaticKeys, Verifier, generate_key_pair
from support.kubernetes_api import KubernetesApi

NAMESPACE, SECRET = "shops", "desk-frontdesk-jwt"
MAIN = "from frontdesk.__main__ import main; main()"
WITHOUT_CLIENT = f"import sys; sys.modules['kubernetes'] = None; {MAIN}"


@dataclass
class Terminal:
    """Runs `frontdesk token` with an environment of its own, in a folder without anything."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)
    program: str = MAIN
    code: int = 0
    complained: str = ""

    async def token(self, *words: str) -> str:
        """What it printed; see `code` and `complained` too."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", self.program, "token", *words),
            env={"HOME": str(self.folder), "COLUMNS": "400", **self.environ},
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        self.code, self.complained = process.returncode or 0, err.decode()
        return out.decode().strip()


@pytest.fixture
def pair() -> tuple[str, str]:
    """The release's keys: private, public."""
    return generate_key_pair()


@pytest.fixture
async def api(tmp_path: Path, pair: tuple[str, str]) -> AsyncIterator[KubernetesApi]:
    (folder := tmp_path / "cluster").mkdir()
    async with KubernetesApi(folder).running() as api:
        api.add_secret(NAMESPACE, SECRET, {"jwt-private.pem": pair[0], "jwt-public.pem": pair[1]})
        yield api


@pytest.fixture
def terminal(tmp_path: Path, api: KubernetesApi) -> Terminal:
    return Terminal(tmp_path, {"KUBECONFIG": str(api.kubeconfig(NAMESPACE))})


async def holder(
    token: str, public: str, issuer: str = "frontdesk", audience: str = "frontdesk"
) -> Principal:
    """Whom the services of the release take the token's holder for."""
    keys = StaticKeys(public)
    return await Verifier(keys, issuer=issuer, audience=audience, clock=SystemClock()).verify(token)


async def test_a_token_by_the_name_of_the_release(
    terminal: Terminal, api: KubernetesApi, pair: tuple[str, str]
) -> None:
    """One request to the API server, and nothing on disk: an owner's token of the operator's organization."""
    before = sorted(terminal.folder.rglob("*"))
    token = await terminal.token("--release", "desk")
    assert (terminal.code, terminal.complained) == (0, "")
    assert await holder(token, pair[1]) == Principal("owner", "default", Role.owner, "user")
    assert api.requests == {"GET": 1}
    assert sorted(terminal.folder.rglob("*")) == before
    words = ("--role", "viewer", "--organization", "acme", "--subject", "me", "--minutes", "5")
    token = await terminal.token("--release", "desk", *words)
    assert await holder(token, pair[1]) == Principal("me", "acme", Role.viewer, "user")


async def test_a_release_elsewhere_with_settings_of_its_own(
    terminal: Terminal, api: KubernetesApi, pair: tuple[str, str]
) -> None:
    """The namespace and the Secret can be named; issuer, audience and operator stand on the Secret."""
    said = {"jwt_issuer": "acme", "jwt_audience": "desk", "operator_organization": "ops"}
    api.add_secret("prod", "front-jwt", {"jwt-private.pem": pair[0]}, **said)
    token = await terminal.token("--secret", "front-jwt", "-n", "prod")
    assert (await holder(token, pair[1], "acme", "desk")).organization_id == "ops"


async def test_what_keeps_a_token_from_being_minted_is_one_line(
    terminal: Terminal, api: KubernetesApi
) -> None:
    """No right, no such release, no private key, no client, no cluster: each says what to do."""
    api.add_secret(NAMESPACE, "given-frontdesk-jwt", {"jwt-public.pem": "public"})
    api.add_secret(NAMESPACE, "odd-frontdesk-jwt", {"jwt-private.pem": "no key"})

    async def complaint(*words: str) -> str:
        assert await terminal.token(*words) == ""
        assert terminal.code == 1
        assert len(terminal.complained.splitlines()) == 1
        return terminal.complained

    api.answers = [403]
    said = await complaint("--release", "desk")
    assert f"you may not read the Secret {SECRET} in the namespace {NAMESPACE}" in said
    assert "right to `get` it" in said
    assert "are --release and --namespace right?" in await complaint("--release", "desc")
    assert "was given public keys only" in await complaint("--release", "given")
    assert "no unencrypted private key" in await complaint("--release", "odd")
    api.answers = [500]
    assert "the cluster answered 500" in await complaint("--release", "desk")
    api.token = "another"
    assert "credential is not accepted" in await complaint("--release", "desk")
    terminal.program = WITHOUT_CLIENT
    assert NO_CLIENT in await complaint("--release", "desk")
    terminal.environ.pop("KUBECONFIG")
    assert NO_CLUSTER in await complaint("--release", "desk")
    assert "start once with `frontdesk up`" in await complaint()
