"""The signature of an mtop call (A3)."""

from __future__ import annotations

import hashlib

APP_KEY = "34839810"


def sign(token: str, t: str, data: str) -> str:
    """`md5_hex(token & t & appKey & data)`.

    `token` is the part of the cookie `_m_h5_tk` before `_`, `t` Unix milliseconds as text, `data`
    exactly the text that is sent.
    """
    text = f"{token}&{t}&{APP_KEY}&{data}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def token_of(m_h5_tk: str) -> str:
    """The signing part of the cookie `_m_h5_tk` = `<32 hex>_<expiry ms>`; empty for an empty cookie (A2)."""
    return m_h5_tk.partition("_")[0]
