"""Secrets at rest: AES-256-GCM with key rotation, each ciphertext bound to its place.

A token is `version (1 byte) | key id (4) | nonce (12) | ciphertext and tag`. The context, by convention
`<table>:<column>:<row id>`, is authenticated but not stored: a ciphertext moved to another row, column or
table does not decrypt. The first key encrypts, all keys decrypt; to rotate, put a new key in front, rewrite
what `needs_rotation`, then drop the old key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from frontdesk.kit.errors import FrontdeskError, InvalidArgument

_VERSION = 1
_KEY_BYTES = 32
_ID_BYTES = 4
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEADER_BYTES = 1 + _ID_BYTES
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_HOW = "`openssl rand -base64 32` makes one"


class SecretError(FrontdeskError):
    """A stored secret can't be read; the message says why and holds neither key nor secret."""


def generate_key() -> str:
    """A new key: 32 random bytes in base64, as `FRONTDESK_SECRET_KEYS` takes it."""
    return base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).decode()


class SecretBox:
    """Encrypts and decrypts with `keys`, newest first; raises InvalidArgument on a bad or repeated key."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise InvalidArgument("secret_keys", f"give at least one key; {_HOW}")
        self._ciphers: dict[bytes, AESGCM] = {}
        for index, text in enumerate(keys):
            key = _decode_key(text, index)
            key_id = hashlib.sha256(b"frontdesk secret key id\0" + key).digest()[:_ID_BYTES]
            if key_id in self._ciphers:
                raise InvalidArgument(f"secret_keys[{index}]", "the same key stands in the list twice")
            self._ciphers[key_id] = AESGCM(key)
        self._newest = next(iter(self._ciphers))

    def encrypt(self, text: str | bytes, context: str) -> bytes:
        """`text` (a str as UTF-8) as a token that only decrypts with the same `context`."""
        header = bytes([_VERSION]) + self._newest
        nonce = os.urandom(_NONCE_BYTES)
        data = text.encode() if isinstance(text, str) else text
        return header + nonce + self._ciphers[self._newest].encrypt(nonce, data, header + _context(context))

    def decrypt(self, token: bytes, context: str) -> bytes:
        """The bytes that `encrypt` was given; raises SecretError."""
        key_id = _key_id(token)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SecretError(
                "the secret was encrypted with a key that is not in FRONTDESK_SECRET_KEYS; put that key back",
                key_id=key_id.hex(),
            )
        header, rest = token[:_HEADER_BYTES], token[_HEADER_BYTES:]
        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], header + _context(context))
        except InvalidTag:
            raise SecretError(
                "the secret was changed, or belongs to another row", key_id=key_id.hex()
            ) from None

    def decrypt_text(self, token: bytes, context: str) -> str:
        """The text that `encrypt` was given; raises SecretError."""
        return self.decrypt(token, context).decode()

    def needs_rotation(self, token: bytes) -> bool:
        """Whether `token` was not encrypted with the first key; raises SecretError when it is no token."""
        return _key_id(token) != self._newest


def _context(context: str) -> bytes:
    if not context:
        raise InvalidArgument("context", "name the secret's place, e.g. accounts:cookies:42")
    return context.encode()


def _key_id(token: bytes) -> bytes:
    if len(token) < _HEADER_BYTES + _NONCE_BYTES + _TAG_BYTES or token[0] != _VERSION:
        raise SecretError("this is not an encrypted secret of this product")
    return token[1:_HEADER_BYTES]


def _decode_key(text: str, index: int) -> bytes:
    try:
        key = base64.b64decode(text.strip().encode().translate(_URL_SAFE), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise InvalidArgument(f"secret_keys[{index}]", f"a key is 32 bytes in base64; {_HOW}")
    return key
