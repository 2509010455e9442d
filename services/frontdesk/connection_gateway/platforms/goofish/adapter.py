"""The platform as the gateway holds it: what all its accounts share, and the parts of one account."""

from __future__ import annotations

import ssl
from random import Random, SystemRandom

import aiohttp

from frontdesk.connection_gateway.platforms.base import Credentials, OnPush
from frontdesk.connection_gateway.platforms.goofish.client import GoofishConnection
from frontdesk.connection_gateway.platforms.goofish.cookies import Cookies
from frontdesk.connection_gateway.platforms.goofish.http import MtopClient
from frontdesk.connection_gateway.platforms.goofish.settings import GoofishSettings
from frontdesk.connection_gateway.platforms.goofish.wire import ids
from frontdesk.kit.clock import Clock


class Goofish:
    """Platform of Goofish. One HTTP session and one TLS context serve all accounts; `close` releases them.

    Has to be made inside a running event loop.
    """

    def __init__(self, settings: GoofishSettings, clock: Clock, random: Random | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._random = random or SystemRandom()
        self._tls: ssl.SSLContext = settings.tls()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=settings.http_connections, ssl=self._tls),
            cookie_jar=aiohttp.DummyCookieJar(),  # each account sends its own
        )

    def credentials(self, text: str) -> Cookies:
        """Parse what a person pasted. Raises InvalidArgument with field `cookies`."""
        return Cookies.parse(text)

    def device_id(self, user_id: str) -> str:
        """A new device id; keep it with the account as long as its token is used."""
        return ids.device_id(user_id, self._random)

    def http(self, credentials: Credentials) -> MtopClient:
        """The HTTP calls of an account; its credentials, made by `credentials`, are renewed in place."""
        if not isinstance(credentials, Cookies):
            raise TypeError("credentials of another platform")
        return MtopClient(self._session, self._settings, credentials, self._clock)

    def connection(self, user_id: str, on_push: OnPush) -> GoofishConnection:
        """A connection for an account, not yet open."""
        return GoofishConnection(
            user_id, on_push, settings=self._settings, clock=self._clock, random=self._random, tls=self._tls
        )

    async def close(self) -> None:
        """Close the HTTP session; connections are closed by their owners."""
        await self._session.close()
