"""Where a provider's API begins: the rules for its address.

An address is shown to everybody who may list providers and stands in logs, so none is written that holds a
secret: the key has a field of its own, which is encrypted. One that was stored before goes on working.
"""

from __future__ import annotations

import re

from yarl import URL

from frontdesk.kit.errors import InvalidArgument

URL_LENGTH = 2048

# Names of query parameters whose value lets somebody in: `key` as Google has it, `sig` and `code` as Azure.
_SECRET_NAME = re.compile(
    r".*(key|token|secret|password|passwd|pwd|credentials?|signature|auth|authorization)|sig|code",
    re.IGNORECASE | re.DOTALL,
)


def check_base_url(text: str, field: str) -> URL:
    """The address, if it is one where an API may begin; InvalidArgument names the field."""
    if len(text) > URL_LENGTH:
        raise InvalidArgument(field, f"must have at most {URL_LENGTH} characters")
    if not text.isprintable() or any(char.isspace() for char in text) or "\\" in text:
        raise InvalidArgument(field, "has a character that no address has")
    try:
        url = URL(text)
    except ValueError:
        raise InvalidArgument(field, "is no address") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidArgument(field, "must begin with https:// or http:// and name a host")
    if "@" in text.partition("://")[2].partition("/")[0].partition("?")[0]:
        raise InvalidArgument(field, "must not hold a user or password; the key belongs into api_key")
    if "#" in text:
        raise InvalidArgument(field, "must not have a fragment")
    return url


def check_new_base_url(text: str, field: str) -> None:
    """As `check_base_url`, and no secret may be in the address."""
    url = check_base_url(text, field)
    for name, value in url.query.items():
        if value and _SECRET_NAME.fullmatch(name):
            raise InvalidArgument(
                field, f"must not hold a secret, as {name[:64]!r} seems to be; it belongs into api_key"
            )


def server_of(text: str) -> tuple[str, str, int]:
    """The scheme, host and port that an address, which was checked, leads to."""
    url = URL(text)
    assert url.host is not None
    assert url.port is not None
    return url.scheme, url.host, url.port
