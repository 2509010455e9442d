"""One account online: log in, read back, listen, and begin again when the connection ends.

One task an account, and nothing that one account does touches another. All changes of state go through
`_set`, the only setter. A session ends (its task returns) when it is closed, when only a person can help
(FAILED), or when its shard is handed over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from frontdesk.connection_gateway.accounts.catchup import read_back
from frontdesk.connection_gateway.accounts.intake import Intake
from frontdesk.connection_gateway.accounts.lanes import Lanes
from frontdesk.connection_gateway.accounts.retry import Retry, refused
from frontdesk.connection_gateway.accounts.shared import Shared
from frontdesk.connection_gateway.accounts.states import ARROWS
from frontdesk.connection_gateway.accounts.uptime import Uptime
from frontdesk.connection_gateway.errors import AccountGone, IllegalTransition
from frontdesk.connection_gateway.model import Account, SendState, State
from frontdesk.connection_gateway.platforms.base import (
    Credentials,
    PlatformConnection,
    PlatformHttp,
)
from frontdesk.connection_gateway.platforms.errors import ErrorKind, PlatformError
from frontdesk.connection_gateway.platforms.model import ChatMessage, CloseCause, Closed
from frontdesk.kit.bus import Release
from frontdesk.kit.errors import FailedPrecondition, FrontdeskError
from frontdesk.kit.secrets import SecretError

T = TypeVar("T")

log = logging.getLogger(__name__)

STABLE_S = 60.0
_CLOSE_S = 1.0
_DUTY_AGAIN_S = 30.0
_RENEW_AGAIN_MS = 60_000
_LEASE_LOOK_S = 0.25
_DEAF_MS = 15_000


class Session:
    """The session of one account on this replica."""

    __slots__ = (
        "_again",
        "_change",
        "_connected_at",
        "_connection",
        "_credentials",
        "_failure",
        "_intake",
        "_leaving",
        "_on_duty",
        "_read_back_at",
        "_registered_at_ms",
        "_renew_at_ms",
        "_retry",
        "_shared",
        "_task",
        "_told",
        "_usable",
        "account",
        "lanes",
        "uptime",
        "waiting",
    )

    def __init__(self, account: Account, shared: Shared) -> None:
        limits = shared.limits
        self.account = account
        self._shared = shared
        self.lanes = Lanes()
        self.uptime = Uptime(account.account_id, account.organization_id, shared.clock.now_ms())
        self._intake = Intake(
            account,
            bus=shared.bus,
            ledger=shared.ledger,
            lanes=self.lanes,
            clock=shared.clock,
            in_work=limits.messages_in_work,
            told=self._hint,
        )
        self._retry = self._new_retry()
        self._connection: PlatformConnection | None = None
        self._credentials: Credentials | None = None
        self._task: asyncio.Task[None] | None = None
        self._usable: PlatformConnection | None = None
        self._change: asyncio.Future[None] | None = None
        self._leaving = False
        self._on_duty = False
        self._again = ""
        self._failure: tuple[str, str, str] | None = None
        self._registered_at_ms = 0
        self._connected_at = 0.0
        self._read_back_at = 0.0
        self._renew_at_ms = 0.0
        self._told = False
        self.waiting = 0

    def _new_retry(self) -> Retry:
        limits = self._shared.limits
        return Retry(limits.max_authentications, limits.max_kicks, limits.jitter, limits.strategy)

    @property
    def running(self) -> bool:
        """Whether its task works to bring or keep the account online."""
        return self._task is not None and not self._task.done()

    @property
    def last_heartbeat_ms(self) -> int:
        """When the platform last answered a heartbeat, Unix milliseconds."""
        beat = self._connection.last_heartbeat_ms if self._connection is not None else 0
        return max(self.account.last_heartbeat_ms, beat)

    @property
    def intake(self) -> Intake:
        """What it hears by."""
        return self._intake

    def holds(self) -> bool:
        """Whether this replica may speak for the account right now."""
        return self._shared.holds(self.account.shard)

    # Begin and end.

    def start(self) -> None:
        """Bring the account online, unless it is at it already."""
        if not self.running:
            self._retry = self._new_retry()
            self._failure = None
            # An empty context: a session belongs to no caller's trace or principal, whoever started it.
            name = f"account {self.account.account_id}"
            self._task = asyncio.create_task(self._run(), name=name, context=Context())

    async def close(self, state: State, reason: str, code: str) -> None:
        """End the session: CLOSED on purpose, DISCONNECTED when the shard goes elsewhere."""
        await self._end_task()
        if self.account.state is not state and state in ARROWS[self.account.state]:
            self._set(state, reason, code)
        self._wake()

    async def abandon(self) -> None:
        """End it without a word: its shard is somebody else's."""
        self.leave()
        await self._end_task()

    def leave(self) -> None:
        """The shard goes elsewhere: whoever waits for the connection gives back what it wanted to send."""
        self._leaving = True
        self._wake()

    async def _end_task(self) -> None:
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task})
        self._intake.stop()

    def reconnect(self, reason: str) -> None:
        """End the connection to make it anew at once; for a deaf one, or a new token."""
        connection = self._connection
        if connection is not None and not self._again:
            self._again = reason
            log.info("account %s connects anew: %s", self.account.account_id, reason)
            _in_background(connection.close())

    def fail(self, reason: str, code: str, url: str = "") -> None:
        """Stop for a person. Nothing more is asked of the platform until somebody restarts the account."""
        if self._failure is None and self.account.state in (
            State.CONNECTING,
            State.CONNECTED,
            State.RECONNECTING,
        ):
            self._failure = (reason, code, url)
            self._set(State.FAILED, reason, code, url)
            self._shared.journal.alert(self.account, code, f"{self.account.name}: {reason}")
            self._wake()
            if self._task is not None and self._task is not asyncio.current_task():
                self._task.cancel()

    # What others need of it.

    async def ready(self) -> PlatformConnection:
        """The connection, once it is open and read back.

        Raises AccountGone when that will not come, Release when the shard goes elsewhere.
        """
        while self._usable is None:
            if self._leaving:
                raise Release
            if self.account.state is State.FAILED:
                raise AccountGone(SendState.FAILED, f"the account needs a person: {self.account.reason}")
            if self.account.state is State.CLOSED and not self.running:  # else it is being restarted
                raise AccountGone(SendState.DROPPED, "the account is stopped")
            if self._change is None:
                self._change = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._change)
        return self._usable

    @property
    def is_ready(self) -> bool:
        """Whether `ready` would return at once."""
        return self._usable is not None

    def _wake(self) -> None:
        change, self._change = self._change, None
        if change is not None and not change.done():
            change.set_result(None)

    async def call(self, work: Callable[[PlatformHttp], Awaitable[T]]) -> T:
        """Ask the platform over HTTP for this account; raises PlatformError.

        A login that ran out is renewed and the question asked once more. Risk control and a login that is
        gone stop the account. A stopped account asks nothing: FailedPrecondition.
        """
        if self.account.state in (State.FAILED, State.CLOSED):
            raise FailedPrecondition(f"the account is {self.account.state}; start it first")
        credentials = self._credentials or await self._load_credentials()
        try:
            return await self._with_login(self._shared.platform.http(credentials), work)
        except PlatformError as error:
            if error.kind in (ErrorKind.RISK_CONTROL, ErrorKind.AUTHENTICATION):
                self._stop_for(refused(error))
            raise
        finally:
            await self._keep_cookies(credentials)

    async def _with_login(self, http: PlatformHttp, work: Callable[[PlatformHttp], Awaitable[T]]) -> T:
        """Do `work`; once more when the login had run out and could be renewed."""
        try:
            return await work(http)
        except PlatformError as error:
            if error.kind is not ErrorKind.AUTHENTICATION:
                raise
            if not await http.renew_login():
                self.fail("the login is gone: log in at the platform and paste new cookies", "login_gone")
                raise
        return await work(http)

    # Duties that the monitor calls for.

    def due(self) -> bool:
        """Whether a duty waits: a hint, a token that runs out, or the regular read-back."""
        if self._usable is None or self._on_duty:
            return False
        clock = self._shared.clock
        return self._told or clock.monotonic() >= self._read_back_at or self._token_due(clock.now_ms())

    async def do_duties(self) -> None:
        """Do what is due; errors of the platform are judged as at any other time."""
        connection = self._usable
        if connection is None:
            return
        self._on_duty = True
        try:
            if self._token_due(self._shared.clock.now_ms()):
                await self._renew_token()
            else:
                await self._listen_for_missed(connection)
        except FrontdeskError as error:
            log.warning("account %s: a duty is left for later: %s", self.account.account_id, error.message)
            self._read_back_at = self._shared.clock.monotonic() + _DUTY_AGAIN_S
        finally:
            self._on_duty = False

    async def _listen_for_missed(self, connection: PlatformConnection) -> None:
        """Read back; a connection whose pushes stopped although its heartbeats are answered is made anew."""
        try:
            missed = await self._read_back(connection)
        except PlatformError as error:
            if error.kind is ErrorKind.RISK_CONTROL:
                self._stop_for(refused(error))
            raise
        now = self._shared.clock.now_ms()
        if any(self._registered_at_ms < m.created_at_ms < now - _DEAF_MS for m in missed):
            self.reconnect("messages were not pushed")

    def _token_due(self, now_ms: int) -> bool:
        return now_ms >= self._renew_at_ms

    async def _renew_token(self) -> None:
        """A new token before the old one ends; the platform pushes to it only on a new connection."""
        credentials = self._credentials
        if credentials is None:
            return
        try:
            await self._new_token(credentials)
        except PlatformError as error:
            if self._retry.hopeless(refused(error), self._shared.clock.monotonic()):
                self._stop_for(refused(error))
            else:
                log.warning("account %s has no new token: %s", self.account.account_id, error)
                self._renew_at_ms = self._shared.clock.now_ms() + _RENEW_AGAIN_MS
            return
        self.reconnect("a new token")

    def _hint(self) -> None:
        self._told = True

    # The task.

    async def _run(self) -> None:
        try:
            while True:
                closed = await self._attempt()
                if self._failure is not None:
                    return
                if self._again:
                    self._set(State.RECONNECTING, self._again, "renewed")
                    self._again = ""
                    continue
                if self._shared.clock.monotonic() - self._connected_at >= STABLE_S and self._connected_at:
                    self._retry.succeeded()
                self._connected_at = 0.0
                if self._stop_for(closed):
                    return
                delay = self._retry.delay(closed)
                self.account.failures = self._retry.failures
                self._set(
                    State.RECONNECTING, f"{_reason(closed)}; next attempt in {delay:.0f} s", _code(closed)
                )
                await self._shared.clock.sleep(delay)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # the boundary of an account: its fault must not touch its neighbours
            log.exception("the session of account %s crashed", self.account.account_id)
            self.fail(f"a fault in Frontdesk: {type(error).__name__}", "internal")

    async def _attempt(self) -> Closed:
        """One connection from its beginning to its end."""
        await self._until_held()
        if self.account.state in (State.CONNECTING, State.CONNECTED):
            self._set(State.RECONNECTING, "the replica that held it is gone", "takeover")
        async with self._shared.pace.turn():
            if self.account.state is not State.CONNECTING:
                self._set(State.CONNECTING, "", "")
            try:
                connection = await self._open()
            except PlatformError as error:
                return refused(error)
            except SecretError as error:
                self.fail(f"its cookies can't be decrypted: {error.message}", "secret")
                return refused(PlatformError(ErrorKind.BUSINESS, error.message))
            except FrontdeskError as error:
                return refused(PlatformError(ErrorKind.CONNECTION, error.message))
        try:
            return await self._serve(connection)
        finally:
            self._connection = self._usable = self._intake.connection = None
            await asyncio.wait({_in_background(connection.close())}, timeout=_CLOSE_S)

    async def _serve(self, connection: PlatformConnection) -> Closed:
        """Read back, then be of use until the connection ends."""
        reading = asyncio.create_task(self._read_back(connection))
        ended = asyncio.create_task(connection.wait_closed())
        try:
            await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return ended.result()
            try:
                await reading
            except PlatformError as error:
                return refused(error)
            except FrontdeskError as error:  # the database is away: an outage needs no person
                return refused(PlatformError(ErrorKind.CONNECTION, error.message))
            self._usable = connection
            self._wake()
            return await ended
        finally:
            for task in (reading, ended):
                task.cancel()

    async def _until_held(self) -> None:
        """A replica that may have lost the shard opens nothing and answers no kick."""
        while not self.holds():
            await self._shared.clock.sleep(_LEASE_LOOK_S)

    async def _open(self) -> PlatformConnection:
        shared, account = self._shared, self.account
        login = await shared.store.login(account.account_id)
        credentials = self._credentials = shared.platform.credentials(login.cookies)
        token = login.token
        self._plan_renewal(login.token_expires_at_ms)
        if not token or self._token_due(shared.clock.now_ms()):
            token = await self._new_token(credentials)
        self._registered_at_ms = shared.clock.now_ms()
        connection = shared.platform.connection(account.platform_user_id, self._intake.on_push)
        self._intake.connection = connection
        try:
            await connection.connect(credentials, token, account.device_id)
        except PlatformError as error:
            if error.kind is ErrorKind.AUTHENTICATION:
                await shared.store.save_token(account.account_id, "", 0)
            raise
        self._connection = connection
        self._connected_at = shared.clock.monotonic()
        account.last_heartbeat_ms = shared.clock.now_ms()
        account.failures = 0
        self._set(State.CONNECTED, "", "")
        return connection

    async def _new_token(self, credentials: Credentials) -> str:
        """A new access token, stored. A login that is gone is renewed once before it counts as refused."""
        http, device_id = self._shared.platform.http(credentials), self.account.device_id
        try:
            token = await self._with_login(http, lambda http: http.token(device_id))
        finally:
            await self._keep_cookies(credentials)
        await self._shared.store.save_token(self.account.account_id, token.token, token.expires_at_ms)
        self._plan_renewal(token.expires_at_ms)
        return token.token

    def _plan_renewal(self, expires_at_ms: int) -> None:
        """Renew the token `token_margin` before its end; one that lives shorter, in its last tenth."""
        now = self._shared.clock.now_ms()
        margin_ms = self._shared.limits.token_margin * 1000
        self._renew_at_ms = expires_at_ms - min(margin_ms, max(expires_at_ms - now, 0) / 10)

    async def _load_credentials(self) -> Credentials:
        login = await self._shared.store.login(self.account.account_id)
        self._credentials = self._shared.platform.credentials(login.cookies)
        return self._credentials

    async def _keep_cookies(self, credentials: Credentials) -> None:
        if credentials.changed:
            await self._shared.store.save_cookies(self.account.account_id, credentials.header())
            credentials.mark_saved()

    async def _read_back(self, connection: PlatformConnection) -> list[ChatMessage]:
        self._told = False
        before = self.account.synced_until_ms
        missed = await read_back(connection, self.account, self._intake, self._registered_at_ms)
        self._read_back_at = self._shared.clock.monotonic() + self._shared.limits.read_back_every
        if self.account.synced_until_ms != before:
            await self._shared.sessions.save_mark(self.account)
        return missed

    def _stop_for(self, closed: Closed) -> bool:
        """FAILED, when only a person can help; says whether it is so."""
        why = self._retry.hopeless(closed, self._shared.clock.monotonic())
        if why:
            url = closed.error.url if closed.error is not None else ""
            self.fail(f"{why} ({_reason(closed)})", _code(closed), url)
        return bool(why)

    def _set(self, state: State, reason: str, code: str, url: str = "") -> None:
        """The one setter of the state (CG-10)."""
        account, old = self.account, self.account.state
        if state not in ARROWS[old]:
            raise IllegalTransition(f"no arrow from {old} to {state}")
        now = self._shared.clock.now_ms()
        self.uptime.account_for(now, connected=old is State.CONNECTED, enabled=account.enabled)
        account.state, account.reason, account.reason_code, account.action_url = state, reason, code, url
        account.state_since_ms = now
        level = logging.WARNING if state is State.FAILED else logging.INFO
        log.log(level, "account %s: %s -> %s %s", account.account_id, old, state, reason)
        self._shared.journal.session(account, old)


_closing: set[asyncio.Task[None]] = set()


def _in_background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Let `work` end by itself: a peer that does not answer a close must not hold up anybody."""
    task = asyncio.create_task(work)
    _closing.add(task)
    task.add_done_callback(_closing.discard)
    return task


def _reason(closed: Closed) -> str:
    return str(closed.error) if closed.error is not None else closed.cause.value


def _code(closed: Closed) -> str:
    if closed.cause is CloseCause.KICKED:
        return "kicked"
    return closed.error.kind.value if closed.error is not None else closed.cause.value
