"""The cookies of one account (A2)."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from frontdesk.kit.errors import InvalidArgument

_FIELD = "cookies"
_MAX_CHARACTERS = 16 * 1024
_MAX_SET_COOKIE = 4096
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in ';"')
_USER = "unb"


class Cookies:
    """What a person pasted, kept up to date with what the platform sets.

    `unb` is the account's user id and never changes: another value is another account's cookie.
    """

    __slots__ = ("_values", "changed")

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values
        self.changed = False

    @classmethod
    def parse(cls, text: str) -> Cookies:
        """Cookies of a header `k=v; k=v`; spaces, line ends, a leading `Cookie:` and empty parts are fine.

        Raises InvalidArgument with field `cookies` when it is too long or has no numeric `unb`.
        """
        if len(text) > _MAX_CHARACTERS:
            raise InvalidArgument(_FIELD, f"longer than {_MAX_CHARACTERS} characters")
        text = text.strip()
        if text[:7].lower() == "cookie:":
            text = text[7:]
        values: dict[str, str] = {}
        for part in text.replace("\r", ";").replace("\n", ";").split(";"):
            pair = _pair(part)
            if pair is not None:
                values[pair[0]] = pair[1]
        user_id = values.get(_USER, "")
        if not user_id:
            raise InvalidArgument(
                _FIELD, "no cookie `unb` in it: log in on the web page and copy all cookies"
            )
        if not (user_id.isascii() and user_id.isdigit() and len(user_id) <= 20):
            raise InvalidArgument(_FIELD, "cookie `unb` is no user id")
        return cls(values)

    @property
    def user_id(self) -> str:
        """The account's user id."""
        return self._values[_USER]

    def get(self, name: str) -> str:
        """A cookie's value, empty when there is none."""
        return self._values.get(name, "")

    def header(self) -> str:
        """All cookies as `k=v; k=v`. A secret."""
        return "; ".join(f"{name}={value}" for name, value in self._values.items())

    def merge(self, set_cookies: Iterable[str], now_ms: int) -> bool:
        """Take over the platform's Set-Cookie headers; an expired one removes the cookie.

        Whether any changed.
        """
        before = dict(self._values)
        for line in set_cookies:
            first, *attributes = line[:_MAX_SET_COOKIE].split(";")
            pair = _pair(first)
            if pair is None or pair[0] == _USER:
                continue
            if _expired(attributes, now_ms):
                self._values.pop(pair[0], None)
            else:
                self._values[pair[0]] = pair[1]
        if len(self.header()) > _MAX_CHARACTERS:
            self._values = before
        merged = self._values != before
        self.changed = self.changed or merged
        return merged

    def mark_saved(self) -> None:
        """Forget that something changed."""
        self.changed = False

    def __repr__(self) -> str:
        return f"<Cookies of {self.user_id}, {len(self._values)} values>"


def _pair(part: str) -> tuple[str, str] | None:
    """`name=value`, safe to put into a header; None for anything that is no cookie."""
    name, equals, value = part.strip().partition("=")
    name, value = name.strip(), value.strip().strip('"')
    if not equals or not name or any(character not in _PRINTABLE for character in name):
        return None
    # Spaces, controls and raw Chinese nicknames would break the header; the platform percent-encodes its own.
    return name, quote(value, safe=_PRINTABLE)


def _expired(attributes: list[str], now_ms: int) -> bool:
    for attribute in attributes:
        name, _, value = attribute.strip().partition("=")
        if name.lower() == "max-age":
            return value.strip() == "0" or value.strip().startswith("-")
    for attribute in attributes:
        name, _, value = attribute.strip().partition("=")
        if name.lower() == "expires":
            try:
                return parsedate_to_datetime(value.strip().replace("-", " ")).timestamp() * 1000 <= now_ms
            except (ValueError, OverflowError):
                return False
    return False
