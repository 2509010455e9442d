"""Tokens that open the doors: JWTs signed with Ed25519 (`alg: EdDSA`, nothing else is accepted).

The header names its key by `kid`, the RFC 7638 thumbprint of the public key, so keys need no other name and
two can be valid at once while one replaces the other. Claims: `sub`, `org` (organization id), `role`, `kind`
(`user`, `service` or `api_key`), `iss`, `aud`, `iat`, `exp` (seconds), `jti`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import re
import uuid
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from frontdesk.kit.cache import ExpiringCache
from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.config import AuthSettings
from frontdesk.kit.errors import InvalidArgument, Unauthenticated, Unavailable
from frontdesk.kit.principal import Principal

logger = logging.getLogger(__name__)

KINDS = ("user", "service", "api_key")
ALGORITHM = "EdDSA"

_CLAIMS = ["sub", "org", "role", "kind", "iss", "aud", "iat", "exp", "jti"]
_MAX_TOKEN_CHARS = 8192
_MAX_KEYS = 64
KNOWN = 1_024
KNOWN_S = 30.0
_MAX_JWKS_BYTES = 256 * 1024
_PEM = re.compile(r"-----BEGIN (PUBLIC KEY|CERTIFICATE)-----.+?-----END \1-----", re.DOTALL)


class Role(StrEnum):
    """What a caller may do in its organization, from most to least (X-25)."""

    owner = "owner"
    admin = "admin"
    manager = "manager"
    agent = "agent"
    viewer = "viewer"

    def at_least(self, role: Role) -> bool:
        """Whether this role may do all that `role` may."""
        order = list(Role)
        return order.index(self) <= order.index(role)


def generate_key_pair() -> tuple[str, str]:
    """A new Ed25519 pair as PEM: (private key PKCS #8, unencrypted; public key)."""
    private = Ed25519PrivateKey.generate()
    private_pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private_pem.decode(), _public_pem(private.public_key())


def public_jwk(public_key_pem: str) -> dict[str, str]:
    """A public key as an entry of a JSON Web Key Set; raises InvalidArgument."""
    (key_id, key), *_ = read_public_keys(public_key_pem).items()
    return {**_thumbprint_members(key), "kid": key_id, "use": "sig", "alg": ALGORITHM}


def read_public_keys(pem: str) -> dict[str, Ed25519PublicKey]:
    """The keys of one or more PEM blocks, by key id; raises InvalidArgument when there is none or a wrong
    one.

    A block is a bare public key, or a certificate: only its key counts, not its dates or who signed it (Helm
    makes key pairs as certificates only).
    """
    keys: dict[str, Ed25519PublicKey] = {}
    for block in _PEM.finditer(pem):
        try:
            key = _read_block(block[1], block[0].encode())
        except (ValueError, UnsupportedAlgorithm):
            raise InvalidArgument(
                "jwt_public_keys", f"holds a PEM block that is no {block[1].lower()}"
            ) from None
        if not isinstance(key, Ed25519PublicKey):
            raise InvalidArgument("jwt_public_keys", "only Ed25519 keys sign tokens here")
        keys[_key_id(key)] = key
    if not keys:
        raise InvalidArgument(
            "jwt_public_keys", "holds no `-----BEGIN PUBLIC KEY-----` or `-----BEGIN CERTIFICATE-----` block"
        )
    return keys


def _read_block(kind: str, block: bytes) -> object:
    if kind == "CERTIFICATE":
        return x509.load_pem_x509_certificate(block).public_key()
    return serialization.load_pem_public_key(block)


def mint(
    private_key_pem: str,
    *,
    subject: str,
    organization_id: str,
    role: Role,
    kind: str = "user",
    ttl_s: int = 900,
    issuer: str = "frontdesk",
    audience: str = "frontdesk",
    clock: Clock | None = None,
) -> str:
    """A signed token for `ttl_s` seconds from now; raises InvalidArgument naming what is wrong."""
    for field, value in (("subject", subject), ("organization_id", organization_id)):
        if not value:
            raise InvalidArgument(field, "must not be empty")
    if kind not in KINDS:
        raise InvalidArgument("kind", f"must be one of {', '.join(KINDS)}")
    if ttl_s < 1:
        raise InvalidArgument("ttl_s", "must be at least one second")
    try:
        key = serialization.load_pem_private_key(private_key_pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidArgument("private_key_pem", "is no unencrypted private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidArgument("private_key_pem", "must be an Ed25519 key")
    now = (clock or SystemClock()).now_ms() // 1000
    claims = {
        "sub": subject,
        "org": organization_id,
        "role": str(role),
        "kind": kind,
        "iss": issuer,
        "aud": audience,
        "iat": now,
        "exp": now + ttl_s,
        "jti": uuid.uuid4().hex,
    }
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": _key_id(key.public_key())})


class KeySource(Protocol):
    """Where public keys come from."""

    async def key(self, key_id: str) -> Ed25519PublicKey | None:
        """The key, or None when it is unknown; raises Unavailable when that can't be told."""
        ...


class StaticKeys:
    """Keys given as PEM text; raises InvalidArgument when there is none."""

    def __init__(self, pem: str) -> None:
        self._keys = read_public_keys(pem)

    async def key(self, key_id: str) -> Ed25519PublicKey | None:
        return self._keys.get(key_id)


class JwksKeys:
    """Keys of a JSON Web Key Set behind a URL.

    Fetched when first needed, again after `ttl_s`, and early when a token names an unknown key, but never
    more often than every `min_interval_s`. While the address does not answer, known keys stay good for
    `stale_s`.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl_s: float = 300.0,
        min_interval_s: float = 10.0,
        stale_s: float = 3600.0,
        timeout_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self._url = url
        self._ttl_s = ttl_s
        self._min_interval_s = min_interval_s
        self._stale_s = stale_s
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._clock = clock or SystemClock()
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._lock = asyncio.Lock()

    async def key(self, key_id: str) -> Ed25519PublicKey | None:
        known = self._keys.get(key_id)
        # While someone else fetches, a key that is merely old need not wait for the answer.
        if self._wants_fetch(known) and not (known and self._lock.locked() and self._age() < self._stale_s):
            async with self._lock:
                if self._wants_fetch(self._keys.get(key_id)):
                    await self._fetch()
        if self._age() >= self._stale_s:
            raise Unavailable("the token can't be checked: the key set does not answer", url=self._url)
        return self._keys.get(key_id)

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock.monotonic() - self._fetched_at

    def _wants_fetch(self, known: Ed25519PublicKey | None) -> bool:
        if self._tried_at is not None and self._clock.monotonic() - self._tried_at < self._min_interval_s:
            return False
        return known is None or self._age() >= self._ttl_s

    async def _fetch(self) -> None:
        try:
            # No redirects: the address that was configured is the one that is trusted.
            async with (
                aiohttp.ClientSession(timeout=self._timeout) as session,
                session.get(self._url, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    raise ValueError(f"HTTP status {response.status}")
                body = await _read_at_most(response.content, _MAX_JWKS_BYTES)
            self._keys = _parse_jwks(body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            reason = str(error) or type(error).__name__
            logger.warning("the key set can't be fetched", extra={"url": self._url, "reason": reason})
        else:
            self._fetched_at = self._clock.monotonic()
        finally:
            self._tried_at = self._clock.monotonic()


class Verifier:
    """Checks tokens and says who holds them. `leeway_s` forgives clocks that differ.

    What was checked is known for `known_s`, which is how long a key that was taken away may still count: to
    check a signature costs more than many a call.
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str = "frontdesk",
        audience: str = "frontdesk",
        leeway_s: float = 30.0,
        known_s: float = KNOWN_S,
        clock: Clock | None = None,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._leeway_s = leeway_s
        self._clock = clock or SystemClock()
        self._known: ExpiringCache[Principal] = ExpiringCache(KNOWN, known_s, self._clock)

    async def verify(self, token: str) -> Principal:
        """The holder of `token`; raises Unauthenticated with what to do, Unavailable without keys."""
        # Not the token itself: nothing that opens a door lies about in memory.
        digest = hashlib.sha256(token.encode()).hexdigest()
        known = self._known.get(digest)
        if known is None or (known.valid_until_ms or 0) <= self._clock.now_ms():
            known = await self._check(token)
            self._known.put(digest, known)
        return known

    async def _check(self, token: str) -> Principal:
        key_id = _claimed_key_id(token)
        key = await self._keys.key(key_id)
        if key is None:
            raise Unauthenticated("the token is signed with a key this service does not know", key_id=key_id)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                # Times are checked below, against the clock that was given.
                options={"require": _CLAIMS, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
        except jwt.MissingRequiredClaimError as error:
            raise Unauthenticated(f"the token has no claim `{error.claim}`") from None
        except jwt.InvalidAudienceError:
            raise Unauthenticated(f"the token is not for the audience `{self._audience}`") from None
        except jwt.InvalidIssuerError:
            raise Unauthenticated(f"the token is not from the issuer `{self._issuer}`") from None
        except jwt.InvalidTokenError:
            raise Unauthenticated("the token's signature does not verify") from None
        self._check_times(claims)
        return _principal(claims, valid_until_ms=round((min(claims["exp"], 1e12) + self._leeway_s) * 1000))

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._clock.now_ms() / 1000
        times = {name: claims[name] for name in ("exp", "iat", "nbf") if name in claims}
        for name, value in times.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise Unauthenticated(f"the token's claim `{name}` is no time in seconds")
        if now >= times["exp"] + self._leeway_s:
            raise Unauthenticated("the token has expired: sign in again, or mint one with `frontdesk token`")
        if now < max(times["iat"], times.get("nbf", 0)) - self._leeway_s:
            raise Unauthenticated(
                "the token is not valid yet: compare the clocks of its issuer and this host"
            )


class JwtAuthenticator:
    """Reads `authorization: Bearer <token>` of a request's metadata (gRPC) or headers (HTTP)."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    @classmethod
    def from_settings(cls, settings: AuthSettings, clock: Clock | None = None) -> JwtAuthenticator:
        """With the keys `settings` names; reads the key file; raises InvalidArgument when no key is named."""
        keys: KeySource
        if settings.jwt_public_keys:
            keys = StaticKeys(settings.jwt_public_keys)
        elif settings.jwt_public_keys_file:
            try:
                keys = StaticKeys(Path(settings.jwt_public_keys_file).read_text())
            except (OSError, UnicodeDecodeError):
                raise InvalidArgument("jwt_public_keys_file", "can't be read") from None
        elif settings.jwks_url:
            keys = JwksKeys(settings.jwks_url, clock=clock)
        else:
            raise InvalidArgument("jwt_public_keys", "no key is named, and no door opens without one")
        return cls(Verifier(keys, issuer=settings.jwt_issuer, audience=settings.jwt_audience, clock=clock))

    async def authenticate(self, metadata: Mapping[str, str]) -> Principal:
        """The caller; `metadata` has lower-case names. Raises Unauthenticated, or Unavailable."""
        scheme, _, token = metadata.get("authorization", "").strip().partition(" ")
        if not scheme:
            raise Unauthenticated("send a token: `authorization: Bearer <token>`")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("the authorization header must be `Bearer <token>`")
        return await self._verifier.verify(token.strip())


def _claimed_key_id(token: str) -> str:
    if len(token) > _MAX_TOKEN_CHARS:
        raise Unauthenticated("the token is too long")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.InvalidTokenError:
        raise Unauthenticated("this is no JSON Web Token") from None
    if header.get("alg") != ALGORITHM:
        raise Unauthenticated(f"the token must be signed with {ALGORITHM}")
    key_id = header.get("kid")
    if not isinstance(key_id, str):
        raise Unauthenticated("the token's header names no key (`kid`)")
    return key_id[:128]


def _principal(claims: Mapping[str, Any], *, valid_until_ms: int) -> Principal:
    for name in ("sub", "org", "role", "kind"):
        if not isinstance(claims[name], str) or not claims[name]:
            raise Unauthenticated(f"the token's claim `{name}` must be text")
    try:
        role = Role(claims["role"])
    except ValueError:
        raise Unauthenticated("the token's claim `role` is unknown here") from None
    if claims["kind"] not in KINDS:
        raise Unauthenticated("the token's claim `kind` is unknown here")
    return Principal(
        subject=claims["sub"],
        organization_id=claims["org"],
        role=role,
        kind=claims["kind"],
        valid_until_ms=valid_until_ms,
    )


def _public_pem(key: Ed25519PublicKey) -> str:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def _thumbprint_members(key: Ed25519PublicKey) -> dict[str, str]:
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"crv": "Ed25519", "kty": "OKP", "x": _base64url(raw)}


def _key_id(key: Ed25519PublicKey) -> str:
    """RFC 7638: SHA-256 over the required members in lexicographic order, without white space."""
    canonical = json.dumps(_thumbprint_members(key), separators=(",", ":"), sort_keys=True)
    return _base64url(hashlib.sha256(canonical.encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def _read_at_most(stream: aiohttp.StreamReader, limit: int) -> bytes:
    body = bytearray()
    async for chunk in stream.iter_chunked(16 * 1024):
        body += chunk
        if len(body) > limit:
            raise ValueError("the key set is too large")
    return bytes(body)


def _parse_jwks(body: bytes) -> dict[str, Ed25519PublicKey]:
    """The Ed25519 keys of a key set by their `kid`; keys of other kinds are not ours. Raises ValueError."""
    document = json.loads(body)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > _MAX_KEYS:
        raise ValueError(f"no key set with at most {_MAX_KEYS} keys")
    keys: dict[str, Ed25519PublicKey] = {}
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("kty") != "OKP" or entry.get("crv") != "Ed25519":
            continue
        key_id, x = entry.get("kid"), entry.get("x")
        if not isinstance(key_id, str) or not isinstance(x, str):
            raise ValueError("a key of the set has no kid or no x")
        raw = base64.b64decode(x.encode() + b"=" * (-len(x) % 4), altchars=b"-_", validate=True)
        keys[key_id] = Ed25519PublicKey.from_public_bytes(raw)
    if not keys:
        raise ValueError("no Ed25519 key in the set")
    return keys
