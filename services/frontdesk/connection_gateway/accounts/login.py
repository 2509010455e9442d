"""The login of one account: its cookies and its access token, kept, renewed, and stored encrypted.

What the platform renewed is good from the moment it came, also while the database does not take it: the token
call is the one that platforms watch most, so no answer of it is ever asked for twice. When a person pastes
new cookies, whatever calls in flight bring home belongs to the old ones and is thrown away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from frontdesk.connection_gateway.errors import NotOwned
from frontdesk.connection_gateway.model import Account, Login
from frontdesk.connection_gateway.platforms.base import Credentials, PlatformHttp
from frontdesk.connection_gateway.platforms.errors import ErrorKind, LoginGone, PlatformError
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import FrontdeskError

T = TypeVar("T")

log = logging.getLogger(__name__)

SAVE_AGAIN_MS = 5_000


class LoginPlatform(Protocol):
    """A platform, as far as a login needs it (platforms/base.py)."""

    def credentials(self, text: str) -> Credentials: ...
    def http(self, credentials: Credentials) -> PlatformHttp: ...


class LoginStore(Protocol):
    """Where logins are kept (store.py)."""

    async def login(self, account_id: str) -> Login: ...
    async def save_login(self, account: Account, login: Login) -> bool: ...


class AccountLogin:
    """Cookies and token of one account. A token is renewed `margin` seconds before its end, and at the
    earliest `pause` seconds after the last time that one was asked for."""

    __slots__ = (
        "_account",
        "_asking",
        "_clock",
        "_credentials",
        "_margin_ms",
        "_pause_ms",
        "_platform",
        "_renew_at_ms",
        "_renewals",
        "_renewing",
        "_save_at_ms",
        "_saving",
        "_store",
        "_token",
        "_token_expires_at_ms",
        "_token_saved",
    )

    def __init__(
        self,
        account: Account,
        *,
        platform: LoginPlatform,
        store: LoginStore,
        clock: Clock,
        margin: float,
        pause: float,
    ) -> None:
        self._account = account
        self._platform = platform
        self._store = store
        self._clock = clock
        self._margin_ms = margin * 1000
        self._pause_ms = pause * 1000
        self._credentials: Credentials | None = None
        self._token = ""
        self._token_expires_at_ms = 0
        self._token_saved = True
        self._renew_at_ms = 0.0
        self._renewals = 0
        self._renewing = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._saving = asyncio.Lock()
        self._save_at_ms = 0

    @property
    def due(self) -> bool:
        """Whether the token should be renewed now."""
        return self._clock.now_ms() >= self._renew_at_ms

    @property
    def unsaved(self) -> bool:
        """Whether the database lacks something that the platform renewed, and may be asked to take it."""
        return self._dirty and self._clock.now_ms() >= self._save_at_ms

    @property
    def _dirty(self) -> bool:
        credentials = self._credentials
        return credentials is not None and (credentials.changed or not self._token_saved)

    async def credentials(self) -> Credentials:
        """The cookies; raises SecretError when they can't be decrypted, Unavailable, NotFound."""
        async with self._saving:
            if self._credentials is None:
                login = await self._store.login(self._account.account_id)
                self._credentials = self._platform.credentials(login.cookies)
                self._token, self._token_expires_at_ms = login.token, login.token_expires_at_ms
                self._plan_renewal()
            return self._credentials

    async def call(self, work: Callable[[PlatformHttp], Awaitable[T]]) -> T:
        """Ask the platform over HTTP; raises PlatformError. A login that ran out is renewed, and the question
        asked once more; LoginGone when it can't be.
        """
        credentials = await self.credentials()
        try:
            return await self._ask(self._platform.http(credentials), work)
        except PlatformError as error:
            if credentials is self._credentials:
                raise
            # What the platform thinks of cookies that a person has replaced says nothing of the new ones.
            raise PlatformError(ErrorKind.CONNECTION, "new cookies came meanwhile; ask again") from error
        finally:
            await self.save()

    async def _ask(self, http: PlatformHttp, work: Callable[[PlatformHttp], Awaitable[T]]) -> T:
        renewals = self._renewals
        try:
            return await work(http)
        except PlatformError as error:
            if error.kind is not ErrorKind.AUTHENTICATION:
                raise
            async with self._renewing:  # of many that are refused at once, one renews
                if renewals == self._renewals:
                    if not await http.renew_login():
                        raise LoginGone from error
                    self._renewals += 1
        return await work(http)

    async def token(self) -> str:
        """The access token: the one there is, or a new one when it ran out or there is none."""
        await self.credentials()
        while not self._token or self.due:
            await self.renew()
        return self._token

    async def renew(self) -> bool:
        """Ask for a new access token, unless that was done meanwhile; True when it is kept.

        Raises as `call`.
        """
        async with self._asking:
            credentials = await self.credentials()
            if self._token and not self.due:
                return False

            async def ask(http: PlatformHttp) -> bool:
                answer = await http.token(self._account.device_id)
                if credentials is not self._credentials:
                    return False
                self._token, self._token_expires_at_ms = answer.token, answer.expires_at_ms
                self._token_saved = False
                self._plan_renewal()
                # However short it lives, a new one is not asked for at once.
                self.renew_later()
                return True

            # While `call` saved it, a person may have given new cookies.
            return await self.call(ask) and credentials is self._credentials

    def renew_later(self) -> None:
        """Ask for no token within the next pause."""
        self._renew_at_ms = max(self._renew_at_ms, self._clock.now_ms() + self._pause_ms)

    async def forget_token(self) -> None:
        """The platform refused the token."""
        self._token, self._token_expires_at_ms, self._token_saved = "", 0, False
        await self.save()

    async def replace(self, cookies: str) -> None:
        """Cookies that a person gave: stored, and nothing of the old ones is used or kept any more.

        Raises Unavailable, and nothing has changed then.
        """
        async with self._saving:
            if not await self._store.save_login(self._account, Login(cookies)):
                raise NotOwned
            self._credentials, self._token, self._token_saved = None, "", True

    async def save(self) -> None:
        """Store what was renewed; while the database is away it stays `unsaved`."""
        async with self._saving:
            credentials = self._credentials
            if credentials is None or not self._dirty:
                return
            login = Login(credentials.header(), self._token, self._token_expires_at_ms)
            try:
                kept = await self._store.save_login(self._account, login)
            except FrontdeskError as error:
                self._save_at_ms = self._clock.now_ms() + SAVE_AGAIN_MS
                log.warning("the login of account %s is stored later: %s", self._account.account_id, error)
                return
            if not kept:
                log.info("account %s is held elsewhere; its login is kept there", self._account.account_id)
            if credentials.header() == login.cookies:  # else it was renewed once more meanwhile
                credentials.mark_saved()
            self._token_saved = login.token == self._token

    def _plan_renewal(self) -> None:
        """Renew the token `margin` before its end; one that lives shorter, in its last tenth."""
        left = max(self._token_expires_at_ms - self._clock.now_ms(), 0)
        self._renew_at_ms = self._token_expires_at_ms - min(self._margin_ms, left / 10)
