"""kit/tokens.py: only a fresh Ed25519 token of a known key, for us and from our issuer, opens a door."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from frontdesk.kit.clock import ManualClock
from frontdesk.kit.config import AuthSettings
from frontdesk.kit.errors import InvalidArgument, Unauthenticated, Unavailable
from frontdesk.kit.principal import Principal
from frontdesk.kit.tokens import (
    KNOWN_S,
    JwksKeys,
    JwtAuthenticator,
    Role,
    StaticKeys,
    Verifier,
    generate_key_pair,
    mint,
    public_jwk,
    read_public_keys,
)

PRIVATE, PUBLIC = generate_key_pair()
WHO = Principal(subject="ada", organization_id="org-1", role=Role.agent, kind="user")


def minted(clock: ManualClock, private: str = PRIVATE, **changes: Any) -> str:
    facts: dict[str, Any] = {"subject": "ada", "organization_id": "org-1", "role": Role.agent}
    return mint(private, **(facts | changes), clock=clock)


def forged(clock: ManualClock, *, drop: str = "", header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token signed with the right key whose claims and header are what the test wants."""
    good = minted(clock)
    payload = jwt.decode(good, options={"verify_signature": False}) | claims
    payload.pop(drop, None)
    return jwt.encode(
        payload, PRIVATE, algorithm="EdDSA", headers=jwt.get_unverified_header(good) | (header or {})
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def verifier(clock: ManualClock) -> Verifier:
    return Verifier(StaticKeys(PUBLIC), clock=clock)


async def test_a_minted_token_says_who_it_is(verifier: Verifier, clock: ManualClock) -> None:
    """Subject, organization, role and kind come back as the principal."""
    assert await verifier.verify(minted(clock)) == WHO
    service = await verifier.verify(minted(clock, kind="service", role=Role.admin))
    assert (service.kind, service.role) == ("service", Role.admin)


async def test_a_token_lives_until_its_end_and_the_leeway(verifier: Verifier, clock: ManualClock) -> None:
    """It works up to 30 s after its time to live, not longer, and the error says what to do."""
    token = minted(clock, ttl_s=60)
    until = clock.now_ms() + 90_000
    await clock.advance(89)
    holder = await verifier.verify(token)
    assert (holder, holder.valid_until_ms) == (WHO, until)
    await clock.advance(1)
    with pytest.raises(Unauthenticated, match="expired: sign in again"):
        await verifier.verify(token)


async def test_a_token_from_the_future_is_refused(verifier: Verifier, clock: ManualClock) -> None:
    """An issuer's clock may be 30 s ahead, not more; nbf counts too."""
    now = clock.now_ms() // 1000
    assert await verifier.verify(forged(clock, iat=now + 30)) == WHO
    for token in (forged(clock, iat=now + 31), forged(clock, nbf=now + 31)):
        with pytest.raises(Unauthenticated, match="not valid yet"):
            await verifier.verify(token)


@pytest.mark.parametrize("claim", ["sub", "org", "role", "kind", "iss", "aud", "iat", "exp", "jti"])
async def test_every_claim_is_required(verifier: Verifier, clock: ManualClock, claim: str) -> None:
    """A token without one of the claims is refused and the claim is named."""
    with pytest.raises(Unauthenticated, match=f"`{claim}`"):
        await verifier.verify(forged(clock, drop=claim))


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"iss": "someone"}, "issuer"),
        ({"aud": "someone"}, "audience"),
        ({"role": "emperor"}, "role"),
        ({"role": 1}, "role"),
        ({"kind": "robot"}, "kind"),
        ({"org": ""}, "org"),
        ({"exp": "tomorrow"}, "exp"),
        ({"iat": True}, "iat"),
    ],
)
async def test_wrong_claims_are_refused(
    verifier: Verifier, clock: ManualClock, claims: dict[str, Any], problem: str
) -> None:
    """A claim with a wrong value or type is refused and named."""
    with pytest.raises(Unauthenticated, match=problem):
        await verifier.verify(forged(clock, **claims))


async def test_a_strangers_key_does_not_open(verifier: Verifier, clock: ManualClock) -> None:
    """A token of an unknown key is refused, also when it claims the id of a known one."""
    other, _ = generate_key_pair()
    with pytest.raises(Unauthenticated, match="does not know"):
        await verifier.verify(minted(clock, other))
    payload = jwt.decode(minted(clock), options={"verify_signature": False})
    known_id = jwt.get_unverified_header(minted(clock))["kid"]
    with pytest.raises(Unauthenticated, match="signature"):
        await verifier.verify(jwt.encode(payload, other, algorithm="EdDSA", headers={"kid": known_id}))


async def test_a_changed_payload_does_not_open(verifier: Verifier, clock: ManualClock) -> None:
    """Making oneself an owner breaks the signature."""
    head, payload, signature = minted(clock).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    raised = base64.urlsafe_b64encode(json.dumps(claims | {"role": "owner"}).encode()).rstrip(b"=").decode()
    with pytest.raises(Unauthenticated, match="signature"):
        await verifier.verify(f"{head}.{raised}.{signature}")


async def test_other_algorithms_do_not_open(verifier: Verifier, clock: ManualClock) -> None:
    """`none`, and HMAC with the public key as its secret, are refused before any key is looked at."""
    payload = jwt.decode(minted(clock), options={"verify_signature": False})
    kid = jwt.get_unverified_header(minted(clock))["kid"]
    raw = json.loads(json.dumps(public_jwk(PUBLIC)))["x"].encode()
    for token in (
        jwt.encode(payload, "", algorithm="none", headers={"kid": kid}),
        jwt.encode(payload, raw, algorithm="HS256", headers={"kid": kid}),
    ):
        with pytest.raises(Unauthenticated, match="EdDSA"):
            await verifier.verify(token)


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "a" * 9000, "é.é.é"])
async def test_rubbish_is_no_token(verifier: Verifier, text: str) -> None:
    """Anything that is no token is Unauthenticated, never another error."""
    with pytest.raises(Unauthenticated):
        await verifier.verify(text)


async def test_a_token_must_name_its_key(verifier: Verifier, clock: ManualClock) -> None:
    """Without `kid` nothing is tried."""
    payload = jwt.decode(minted(clock), options={"verify_signature": False})
    with pytest.raises(Unauthenticated, match="kid"):
        await verifier.verify(jwt.encode(payload, PRIVATE, algorithm="EdDSA"))


async def test_two_keys_are_good_while_one_replaces_the_other(clock: ManualClock) -> None:
    """Two PEM blocks in a row verify tokens of both keys."""
    new_private, new_public = generate_key_pair()
    verifier = Verifier(StaticKeys(PUBLIC + new_public), clock=clock)
    for private in (PRIVATE, new_private):
        assert await verifier.verify(minted(clock, private)) == WHO


def certificate(key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> str:
    """A certificate that signed itself and ran out long ago, as PEM."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "frontdesk")])
    begin = datetime(2001, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + timedelta(days=1))
    signed = builder.sign(key, None if isinstance(key, Ed25519PrivateKey) else SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


async def test_the_key_of_a_certificate_is_taken(clock: ManualClock) -> None:
    """A certificate names the same key as its bare public key, and both kinds may stand in one text."""
    key = load_pem_private_key(PRIVATE.encode(), None)
    assert isinstance(key, Ed25519PrivateKey)
    text = certificate(key)
    assert read_public_keys(text) == read_public_keys(PUBLIC)
    assert await Verifier(StaticKeys(text), clock=clock).verify(minted(clock)) == WHO
    _, other = generate_key_pair()
    assert len(read_public_keys(f"{text}\n{other}")) == 2


def pem_of_other_kinds() -> list[str]:
    keys = (generate_private_key(SECP256R1()), Ed448PrivateKey.generate())
    return [
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        for key in keys
    ]


@pytest.mark.parametrize(
    "pem",
    [
        *("", "nonsense", PRIVATE, PUBLIC.replace("MC", "xx"), *pem_of_other_kinds()),
        certificate(generate_private_key(SECP256R1())),
        PUBLIC.replace("PUBLIC KEY", "CERTIFICATE"),
    ],
    ids=["empty", "nonsense", "private", "broken", "ec", "ed448", "ec-certificate", "no-certificate"],
)
def test_only_ed25519_public_keys_are_taken(pem: str) -> None:
    """Any other text or kind of key is refused at start."""
    with pytest.raises(InvalidArgument):
        StaticKeys(pem)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"subject": ""}, "subject"),
        ({"organization_id": ""}, "organization_id"),
        ({"kind": "robot"}, "kind"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"private": "nonsense"}, "private_key_pem"),
        ({"private": PUBLIC}, "private_key_pem"),
    ],
)
def test_minting_names_what_is_wrong(clock: ManualClock, changes: dict[str, Any], field: str) -> None:
    """A senseless token is not minted, and the field is named."""
    with pytest.raises(InvalidArgument) as raised:
        minted(clock, **changes)
    assert raised.value.field == field


def test_minting_takes_ed25519_keys_only(clock: ManualClock) -> None:
    """A private key of another kind is refused."""
    pem = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(InvalidArgument, match="Ed25519"):
        minted(clock, pem.decode())


def test_roles_are_ordered() -> None:
    """An owner may do what a viewer may, not the other way round."""
    assert Role.owner.at_least(Role.viewer)
    assert Role.agent.at_least(Role.agent)
    assert not Role.agent.at_least(Role.manager)


async def test_the_authenticator_reads_the_bearer_token(verifier: Verifier, clock: ManualClock) -> None:
    """`Bearer` in any case is taken; no header or another scheme is refused with what to do."""
    authenticator = JwtAuthenticator(verifier)
    token = minted(clock)
    for scheme in ("Bearer", "bearer"):
        assert await authenticator.authenticate({"authorization": f"{scheme} {token}"}) == WHO
    for metadata in ({}, {"authorization": f"Basic {token}"}, {"authorization": "Bearer "}):
        with pytest.raises(Unauthenticated, match="Bearer <token>"):
            await authenticator.authenticate(metadata)


async def test_settings_choose_the_keys(clock: ManualClock, tmp_path: Path) -> None:
    """Keys come from the setting or the file; no key, or no file, opens nothing."""
    path = tmp_path / "public.pem"
    path.write_text(PUBLIC)
    header = {"authorization": f"Bearer {minted(clock)}"}
    for settings in (AuthSettings(jwt_public_keys=PUBLIC), AuthSettings(jwt_public_keys_file=path)):
        assert await JwtAuthenticator.from_settings(settings, clock).authenticate(header) == WHO
    for settings in (AuthSettings(), AuthSettings(jwt_public_keys_file=tmp_path / "none")):
        with pytest.raises(InvalidArgument):
            JwtAuthenticator.from_settings(settings, clock)


class KeySetServer:
    """A real HTTP server whose key set the test changes."""

    def __init__(self) -> None:
        self.body = json.dumps({"keys": [public_jwk(PUBLIC)]})
        self.status = 200
        self.fetches = 0
        self.hold: asyncio.Event | None = None
        self.url = ""

    async def answer(self, _: web.Request) -> web.Response:
        self.fetches += 1
        if self.hold is not None:
            await self.hold.wait()
        headers = {"location": "/elsewhere"} if self.status == 302 else {}
        return web.Response(text=self.body, status=self.status, headers=headers)


@pytest.fixture
async def key_set() -> AsyncIterator[KeySetServer]:
    server = KeySetServer()
    app = web.Application()
    app.router.add_get("/keys", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    yield server
    if server.hold is not None:
        server.hold.set()
    await runner.cleanup()


async def test_a_key_set_is_fetched_once_for_many(key_set: KeySetServer, clock: ManualClock) -> None:
    """Fifty tokens at once cost one fetch, and later ones none until the keys are old."""
    authenticator = JwtAuthenticator.from_settings(AuthSettings(jwks_url=key_set.url), clock)
    header = {"authorization": f"Bearer {minted(clock)}"}
    principals = await asyncio.gather(*(authenticator.authenticate(header) for _ in range(50)))
    assert principals == [WHO] * 50
    assert key_set.fetches == 1
    await clock.advance(299)
    await authenticator.authenticate(header)
    assert key_set.fetches == 1
    await clock.advance(KNOWN_S + 1)
    await authenticator.authenticate(header)
    assert key_set.fetches == 2


async def test_a_new_key_is_found_early_but_not_on_demand(key_set: KeySetServer, clock: ManualClock) -> None:
    """An unknown key id fetches again, at most every ten seconds, whoever asks."""
    new_private, new_public = generate_key_pair()
    verifier = Verifier(JwksKeys(key_set.url, clock=clock), clock=clock)
    await verifier.verify(minted(clock))
    key_set.body = json.dumps({"keys": [public_jwk(PUBLIC), public_jwk(new_public)]})
    for _ in range(5):
        with pytest.raises(Unauthenticated, match="does not know"):
            await verifier.verify(minted(clock, new_private))
    assert key_set.fetches == 1
    await clock.advance(10)
    assert await verifier.verify(minted(clock, new_private)) == WHO
    assert key_set.fetches == 2


async def test_known_keys_outlive_an_outage_for_an_hour(key_set: KeySetServer, clock: ManualClock) -> None:
    """While the address fails, known keys stay good for an hour; then the answer is Unavailable."""
    verifier = Verifier(JwksKeys(key_set.url, clock=clock), clock=clock)
    token = minted(clock, ttl_s=100_000)
    await verifier.verify(token)
    key_set.status = 500
    await clock.advance(3599)
    assert await verifier.verify(token) == WHO
    await clock.advance(KNOWN_S + 1)
    with pytest.raises(Unavailable, match="does not answer"):
        await verifier.verify(token)


async def test_what_was_checked_is_known_for_a_while(key_set: KeySetServer, clock: ManualClock) -> None:
    """A key that is taken away counts for as long, and no longer; other tokens are checked at once."""
    verifier = Verifier(JwksKeys(key_set.url, clock=clock), clock=clock)
    token = minted(clock, ttl_s=100_000)
    assert await verifier.verify(token) == WHO
    _, other = generate_key_pair()
    key_set.body = json.dumps({"keys": [public_jwk(other)]})
    await clock.advance(299)
    assert await verifier.verify(token) == WHO
    await clock.advance(KNOWN_S)
    assert await verifier.verify(token) == WHO
    await clock.advance(1)
    with pytest.raises(Unauthenticated, match="does not know"):
        await verifier.verify(token)
    with pytest.raises(Unauthenticated):
        await verifier.verify(token[:-4] + "AAAA")


async def test_a_known_token_ends_with_its_time(clock: ManualClock) -> None:
    """Knowing it makes it no longer valid than it is."""
    verifier = Verifier(StaticKeys(PUBLIC), clock=clock, leeway_s=0)
    token = minted(clock, ttl_s=10)
    assert await verifier.verify(token) == WHO
    await clock.advance(11)
    with pytest.raises(Unauthenticated, match="expired"):
        await verifier.verify(token)


async def test_an_old_key_does_not_wait_for_a_slow_fetch(key_set: KeySetServer, clock: ManualClock) -> None:
    """While one caller fetches, others with a known key are answered at once."""
    verifier = Verifier(JwksKeys(key_set.url, clock=clock), clock=clock)
    token = minted(clock)
    await verifier.verify(token)
    await clock.advance(300)
    key_set.hold = asyncio.Event()
    slow = asyncio.create_task(verifier.verify(token))
    async with asyncio.timeout(5):
        while key_set.fetches < 2:
            await asyncio.sleep(0)
        assert await verifier.verify(token) == WHO
    assert not slow.done()
    key_set.hold.set()
    assert await slow == WHO


@pytest.mark.parametrize(
    "body",
    [
        "no json",
        "[]",
        "{}",
        '{"keys": []}',
        '{"keys": [{"kty": "RSA", "kid": "1"}]}',
        '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "1"}]}',
        '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}',
        json.dumps({"keys": [{}] * 65}),
        json.dumps({"keys": [], "pad": "x" * 300_000}),
    ],
)
async def test_a_bad_key_set_is_unavailable(key_set: KeySetServer, clock: ManualClock, body: str) -> None:
    """A key set that can't be used opens nothing and is not the caller's fault."""
    key_set.body = body
    with pytest.raises(Unavailable):
        await Verifier(JwksKeys(key_set.url, clock=clock), clock=clock).verify(minted(clock))


async def test_a_key_set_is_not_taken_from_a_redirect(key_set: KeySetServer, clock: ManualClock) -> None:
    """The configured address is the trusted one; where it points is not followed."""
    key_set.status = 302
    with pytest.raises(Unavailable):
        await Verifier(JwksKeys(key_set.url, clock=clock), clock=clock).verify(minted(clock))


async def test_a_key_set_that_hangs_times_out(key_set: KeySetServer, clock: ManualClock) -> None:
    """A server that never answers costs the time-out, not for ever."""
    key_set.hold = asyncio.Event()
    keys = JwksKeys(key_set.url, timeout_s=0.05, clock=clock)
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable):
            await keys.key("any")
