"""The login of one account: renewed without asking twice, never overwritten by an older one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from frontdesk.connection_gateway.accounts.login import SAVE_AGAIN_MS, AccountLogin
from frontdesk.connection_gateway.model import Account, Login
from frontdesk.connection_gateway.platforms.base import Credentials, PlatformHttp
from frontdesk.connection_gateway.platforms.errors import ErrorKind, LoginGone, PlatformError
from frontdesk.connection_gateway.platforms.model import AccessToken
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.errors import Unavailable

HOUR_MS = 3_600_000


class Cookies:
    """Credentials that are their text."""

    user_id = "1"

    def __init__(self, text: str) -> None:
        self.text = text
        self.changed = False

    def header(self) -> str:
        return self.text

    def mark_saved(self) -> None:
        self.changed = False


class Marketplace:
    """A platform: counts tokens, renews cookies with each call, and waits when it is told to."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.tokens = 0
        self.life_ms = 20 * HOUR_MS
        self.refuses = 0
        self.renewable = True
        self.gate: asyncio.Event | None = None
        self.renewals = 0
        self.on_renewed: Callable[[], None] = lambda: None

    def credentials(self, text: str) -> Credentials:
        return Cookies(text)

    def http(self, credentials: Credentials) -> PlatformHttp:
        return cast("PlatformHttp", Http(self, cast("Cookies", credentials)))

    def expiry(self) -> int:
        return self._clock.now_ms() + self.life_ms


class Http:
    """The calls of one account."""

    def __init__(self, platform: Marketplace, cookies: Cookies) -> None:
        self._platform = platform
        self._cookies = cookies

    async def token(self, device_id: str) -> AccessToken:
        if self._platform.gate is not None:
            await self._platform.gate.wait()
        if self._platform.refuses:
            self._platform.refuses -= 1
            raise PlatformError(ErrorKind.AUTHENTICATION, "FAIL_SYS_SESSION_EXPIRED")
        self._platform.tokens += 1
        self._cookies.text += "+"
        self._cookies.changed = True
        return AccessToken(f"token-{self._platform.tokens}", self._platform.expiry())

    async def renew_login(self) -> bool:
        self._platform.renewals += 1
        self._platform.on_renewed()
        return self._platform.renewable


class Rows:
    """The database: one login, and whether it takes anything."""

    def __init__(self) -> None:
        self.row = Login("old")
        self.writes = 0
        self.away = False
        self.gate: asyncio.Event | None = None

    def _write(self, login: Login) -> None:
        if self.away:
            raise Unavailable("the database is away")
        self.writes += 1
        self.row = login

    async def login(self, account_id: str) -> Login:
        return self.row

    async def save_login(self, account: Account, login: Login) -> bool:
        if self.gate is not None:
            await self.gate.wait()
        self._write(login)
        return True


class Desk:
    """A login with all that it stands on."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.platform = Marketplace(self.clock)
        self.rows = Rows()
        account = Account("a", "org", "goofish", "1", "shop", True, "device", 0)
        self.login = AccountLogin(
            account, platform=self.platform, store=self.rows, clock=self.clock, margin=600, pause=60
        )

    async def due_after(self, seconds: float) -> bool:
        """Let time pass; whether a new token is due then."""
        await self.clock.advance(seconds)
        return self.login.due


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_token_is_asked_for_once_and_stored(desk: Desk) -> None:
    """The stored one is used again; the cookies that came with it are kept too."""
    assert [await desk.login.token() for _ in range(3)] == ["token-1"] * 3
    assert (desk.rows.row.token, desk.rows.row.cookies) == ("token-1", "old+")
    again = Desk()
    again.rows.row = desk.rows.row
    assert (await again.login.token(), again.platform.tokens) == ("token-1", 0)


async def test_a_renewal_is_one_write(desk: Desk) -> None:
    """The token and the cookies that came with it are stored together."""
    await desk.login.token()
    assert (desk.rows.writes, desk.rows.row.token, desk.rows.row.cookies) == (1, "token-1", "old+")
    await desk.clock.advance(20 * 3600)
    assert await desk.login.renew()
    assert (desk.rows.writes, desk.rows.row.token, desk.rows.row.cookies) == (2, "token-2", "old++")


async def test_a_database_that_refuses_writes_costs_no_token_call(desk: Desk) -> None:
    """What the platform gave is used from memory, and stored when the database is back."""
    desk.rows.away = True
    assert [await desk.login.token() for _ in range(5)] == ["token-1"] * 5
    at_once = desk.login.unsaved
    await desk.clock.advance(SAVE_AGAIN_MS / 1000)
    later = desk.login.unsaved
    desk.rows.away = False
    await desk.login.save()
    assert (at_once, later, desk.login.unsaved) == (False, True, False)
    assert (desk.rows.row.token, desk.rows.row.cookies) == ("token-1", "old+")


async def test_a_short_lived_token_waits_its_pause(desk: Desk) -> None:
    """A token that lives a second is not asked for each second."""
    desk.platform.life_ms = 1_000
    await desk.login.token()
    assert [await desk.due_after(59), await desk.due_after(1)] == [False, True]


async def test_a_token_is_renewed_before_its_end(desk: Desk) -> None:
    """Ten minutes before, as the margin says."""
    await desk.login.token()
    assert [await desk.due_after(20 * 3600 - 601), await desk.due_after(1)] == [False, True]


async def test_a_login_that_ran_out_is_renewed_once(desk: Desk) -> None:
    """The question is asked again after hasLogin; where that says no, only a person can help."""
    desk.platform.refuses = 1
    assert await desk.login.token() == "token-1"
    await desk.login.forget_token()
    desk.platform.refuses, desk.platform.renewable = 1, False
    with pytest.raises(LoginGone):
        await desk.login.renew()


async def test_a_refused_token_is_forgotten(desk: Desk) -> None:
    """In memory and in the database; the next one is new."""
    await desk.login.token()
    await desk.login.forget_token()
    assert desk.rows.row.token == ""
    assert await desk.login.token() == "token-2"


async def test_pasted_cookies_are_not_overwritten(desk: Desk) -> None:
    """A call that began with the old cookies brings home cookies and a token that nobody keeps."""
    desk.platform.gate = asyncio.Event()
    late = asyncio.create_task(desk.login.renew())
    await desk.clock.advance(0)
    await desk.login.replace("new")
    desk.platform.gate.set()
    assert not await late
    assert desk.rows.row == Login("new")
    assert await desk.login.token() == "token-2"
    assert (desk.rows.row.cookies, desk.rows.row.token) == ("new+", "token-2")


async def test_a_token_of_old_cookies_is_not_kept_beside_new_ones(desk: Desk) -> None:
    """It comes when the new cookies are in use already."""
    desk.platform.gate = asyncio.Event()
    late = asyncio.create_task(desk.login.renew())
    await desk.clock.advance(0)
    await desk.login.replace("new")
    await desk.login.credentials()
    desk.platform.gate.set()
    assert not await late
    assert desk.rows.row == Login("new")
    assert await desk.login.token() == "token-2"


async def test_a_token_that_comes_while_cookies_are_pasted_is_not_kept(desk: Desk) -> None:
    """It belongs to the old ones, although these were still there when it came."""
    desk.platform.gate = asyncio.Event()
    late = asyncio.create_task(desk.login.renew())
    await desk.clock.advance(0)
    desk.rows.gate = asyncio.Event()
    pasting = asyncio.create_task(desk.login.replace("new"))
    await desk.clock.advance(0)
    desk.platform.gate.set()
    await desk.clock.advance(0)
    desk.rows.gate.set()
    await pasting
    assert not await late
    assert desk.rows.row == Login("new")
    assert await desk.login.token() == "token-2"


async def test_cookies_that_could_not_be_stored_are_not_used(desk: Desk) -> None:
    """The person is told; what there was before stays."""
    await desk.login.token()
    desk.rows.away = True
    with pytest.raises(Unavailable):
        await desk.login.replace("new")
    desk.rows.away = False
    assert await desk.login.token() == "token-1"


async def test_what_is_said_of_old_cookies_is_no_word_on_the_new(desk: Desk) -> None:
    """A check for robots that the old cookies met must not stop the account with its new ones."""
    gate = asyncio.Event()

    async def ask(http: PlatformHttp) -> str:
        await gate.wait()
        raise PlatformError(ErrorKind.RISK_CONTROL, "a check")

    late = asyncio.create_task(desk.login.call(ask))
    await desk.clock.advance(0)
    await desk.login.replace("new")
    gate.set()
    with pytest.raises(PlatformError) as refused:
        await late
    assert refused.value.kind is ErrorKind.CONNECTION


async def test_cookies_renewed_during_a_save_are_stored_too(desk: Desk) -> None:
    """What came while the database was writing is not taken for stored."""
    cookies = cast("Cookies", await desk.login.credentials())
    cookies.text, cookies.changed = "first", True
    desk.rows.gate = asyncio.Event()
    saving = asyncio.create_task(desk.login.save())
    await desk.clock.advance(0)
    cookies.text, cookies.changed = "second", True
    again = asyncio.create_task(desk.login.save())
    desk.rows.gate.set()
    await asyncio.gather(saving, again)
    assert desk.rows.row.cookies == "second"


async def test_one_token_call_at_a_time(desk: Desk) -> None:
    """A duty and a new connection that want a token at once share one."""
    desk.platform.gate = asyncio.Event()
    asking = [asyncio.create_task(work) for work in (desk.login.renew(), desk.login.token())]
    await desk.clock.advance(0)
    desk.platform.gate.set()
    assert await asyncio.gather(*asking) == [True, "token-1"]
    assert desk.platform.tokens == 1


async def test_many_refused_calls_renew_the_login_once(desk: Desk) -> None:
    """Ten questions that meet a login that ran out cost one renewal."""
    out = True

    async def ask(http: PlatformHttp) -> str:
        nonlocal out
        refused = out
        await asyncio.sleep(0)
        if refused:
            raise PlatformError(ErrorKind.AUTHENTICATION, "FAIL_SYS_SESSION_EXPIRED")
        return "yes"

    def renewed() -> None:
        nonlocal out
        out = False

    desk.platform.on_renewed = renewed
    assert await asyncio.gather(*(desk.login.call(ask) for _ in range(10))) == ["yes"] * 10
    assert desk.platform.renewals == 1
