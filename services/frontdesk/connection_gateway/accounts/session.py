"""One account online: log in, read back, listen, and begin again when the connection ends.

One task an account, and nothing that one account does touches another. All changes of state go through
`_set`, the only setter. A session ends (its task returns) when it is closed, when only a person can help
(FAILED), or when its shard is handed over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TypeVar

from frontdesk.connection_gateway.accounts.catchup import ReadBack
from frontdesk.connection_gateway.accounts.intake import SEEN_MS, Intake
from frontdesk.connection_gateway.accounts.lanes import Lanes
from frontdesk.connection_gateway.accounts.login import AccountLogin
from frontdesk.connection_gateway.accounts.retry import Retry, code_of, reason_of, refused
from frontdesk.connection_gateway.accounts.shared import Shared
from frontdesk.connection_gateway.accounts.states import ARROWS
from frontdesk.connection_gateway.accounts.uptime import Uptime
from frontdesk.connection_gateway.errors import AccountGone, IllegalTransition
from frontdesk.connection_gateway.model import Account, SendState, State
from frontdesk.connection_gateway.platforms.base import PlatformConnection, PlatformHttp
from frontdesk.connection_gateway.platforms.errors import ErrorKind, LoginGone, PlatformError
from frontdesk.connection_gateway.platforms.model import ChatMessage, Closed
from frontdesk.kit import tasks
from frontdesk.kit.bus import Release
from frontdesk.kit.errors import FailedPrecondition, FrontdeskError
from frontdesk.kit.secrets import SecretError

T = TypeVar("T")

log = logging.getLogger(__name__)

STABLE_S = 60.0
_CLOSE_S = 1.0
_DUTY_AGAIN_S = 30.0
_LEASE_LOOK_S = 0.25
_DEAF_MS = 15_000
_HEARD_MS = SEEN_MS - 30_000


class Session:
    """The session of one account on this replica."""

    __slots__ = (
        "_again",
        "_change",
        "_connected_at",
        "_connection",
        "_failure",
        "_leaving",
        "_on_duty",
        "_read_back_at",
        "_registered_at_ms",
        "_retry",
        "_shared",
        "_silent",
        "_task",
        "_told",
        "_usable",
        "account",
        "changing",
        "intake",
        "lanes",
        "login",
        "uptime",
        "waiting",
    )

    def __init__(self, account: Account, shared: Shared) -> None:
        limits = shared.limits
        self.account = account
        self._shared = shared
        self.lanes = Lanes()
        self.uptime = Uptime(account.account_id, account.organization_id, shared.clock.now_ms())
        self.login = AccountLogin(
            account,
            platform=shared.platform,
            store=shared.store,
            clock=shared.clock,
            margin=limits.token_margin,
            pause=limits.token_pause,
        )
        # Held by whoever starts, restarts or closes the session, from the first step to the last.
        self.changing = asyncio.Lock()
        self.intake = Intake(
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
        self._task: asyncio.Task[None] | None = None
        self._usable: PlatformConnection | None = None
        self._change: asyncio.Future[None] | None = None
        self._leaving = False
        self._silent = False
        self._on_duty = False
        self._again = ""
        self._failure: tuple[str, str, str] | None = None
        self._registered_at_ms = 0
        self._connected_at = 0.0
        self._read_back_at = 0.0
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
    def as_wanted(self) -> bool:
        """Whether it works, or rests, as the account is enabled or not; one that needs a person is."""
        if self._leaving or self.account.state is State.FAILED:
            return True
        return self.running if self.account.enabled else self.account.state is State.CLOSED

    def holds(self) -> bool:
        """Whether this replica may speak for the account right now."""
        return not self._silent and self._shared.holds(self.account.shard, self.account.epoch)

    # Begin and end.

    def start(self) -> None:
        """Bring the account online, unless it is at it already, or its shard goes elsewhere."""
        if not self.running and not self._leaving:
            self._retry = self._new_retry()
            self._failure = None
            self._again = ""
            self._connected_at = 0.0
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
        self.silence()
        await self._end_task()

    def leave(self) -> None:
        """The shard goes elsewhere: whoever waits for the connection gives back what it wanted to send.

        What was begun is said to its end: its next owner would have to look into the chat first.
        """
        self._leaving = True
        self._wake()

    def silence(self) -> None:
        """Say and hear nothing more from this moment on; `abandon` waits for the end."""
        self._silent = True
        self.leave()
        self.intake.stop()
        if self._task is not None:
            self._task.cancel()

    async def _end_task(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            await tasks.end([task])
        self.intake.stop()

    def reconnect(self, reason: str) -> None:
        """End the connection to make it anew at once; for a deaf one, or a new token."""
        connection = self._connection
        if connection is not None and not self._again:
            self._again = reason
            log.info("account %s connects anew: %s", self.account.account_id, reason)
            tasks.background(connection.close())

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
            if self.account.state is State.CLOSED and not self.account.enabled:  # else it is restarted
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
        gone stop the account; any other refusal concerns this question only. A stopped account asks nothing:
        FailedPrecondition.
        """
        if self.account.state in (State.FAILED, State.CLOSED):
            raise FailedPrecondition(f"the account is {self.account.state}; start it first")
        try:
            return await self.login.call(work)
        except PlatformError as error:
            if error.kind is ErrorKind.RISK_CONTROL or isinstance(error, LoginGone):
                self._stop_for(refused(error))
            raise

    # Duties that the monitor calls for.

    def due(self) -> bool:
        """Whether a duty waits: a hint, a token that runs out, something to store, the regular read-back."""
        if self._usable is None or self._on_duty:
            return False
        waits = self._told or self.login.due or self.login.unsaved
        return waits or self._shared.clock.monotonic() >= self._read_back_at

    async def do_duties(self) -> None:
        """Do what is due; errors of the platform are judged as at any other time."""
        connection = self._usable
        if connection is None:
            return
        self._on_duty = True
        try:
            if self.login.unsaved:
                await self.login.save()
            elif self.login.due:
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
        # Ids are remembered for a while only: what is older may have been pushed.
        since = max(self._registered_at_ms, now - _HEARD_MS)
        if any(since < message.created_at_ms < now - _DEAF_MS for message in missed):
            self.reconnect("messages were not pushed")

    async def _renew_token(self) -> None:
        """A new token before the old one ends; the platform pushes to it only on a new connection."""
        try:
            if await self.login.renew():
                self._retry.authentications = 0
                self.reconnect("a new token")
        except PlatformError as error:
            if not self._stop_for(refused(error)):
                log.warning("account %s has no new token: %s", self.account.account_id, error)
        finally:
            self.login.renew_later()

    def _hint(self) -> None:
        self._told = True

    # The task.

    async def _run(self) -> None:
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
                State.RECONNECTING,
                f"{reason_of(closed)}; next attempt in {delay:.0f} s",
                code_of(closed),
            )
            await self._shared.clock.sleep(delay)

    async def _attempt(self) -> Closed:
        """One connection from its beginning to its end, which is told, whatever it was."""
        try:
            await self._until_held()
            if self.account.state in (State.CONNECTING, State.CONNECTED):
                self._set(State.RECONNECTING, "the replica that held it is gone", "takeover")
            async with self._shared.pace.turn():
                await self._until_held()  # a turn may be long in coming
                if self.account.state is not State.CONNECTING:
                    self._set(State.CONNECTING, "", "")
                connection = await self._open()
            return await self._serve(connection)
        except PlatformError as error:
            return refused(error)
        except SecretError as error:
            self.fail(f"its cookies can't be decrypted: {error.message}", "secret")
            return refused(PlatformError(ErrorKind.BUSINESS, error.message))
        except FrontdeskError as error:  # an outage needs no person
            return refused(PlatformError(ErrorKind.CONNECTION, error.message))
        except Exception as error:  # the boundary of an account: its fault must not touch its neighbours
            log.exception("the session of account %s crashed", self.account.account_id)
            fault = f"a fault in Frontdesk: {type(error).__name__}"
            return refused(PlatformError(ErrorKind.CONNECTION, fault))
        finally:
            opened, self._connection = self._connection, None
            self._usable = self.intake.connection = None
            if opened is not None:
                await asyncio.wait({tasks.background(opened.close())}, timeout=_CLOSE_S)

    async def _serve(self, connection: PlatformConnection) -> Closed:
        """Read back, then be of use until the connection ends."""
        reading = asyncio.create_task(self._read_back(connection))
        ended = asyncio.create_task(connection.wait_closed())
        try:
            await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return ended.result()
            await reading
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
        shared, account, intake = self._shared, self.account, self.intake
        token = await self.login.token()
        self._registered_at_ms = shared.clock.now_ms()
        # At a first login the platform may push what was said long before: it is history (rule 9).
        # It stays what it was at the first of several attempts: buyers write between them.
        first = account.synced_until_ms is None
        intake.history_before_ms = (intake.history_before_ms or self._registered_at_ms) if first else 0
        connection = shared.platform.connection(account.platform_user_id, intake.on_push)
        await self._until_held()
        self._connection = intake.connection = connection
        try:
            await connection.connect(await self.login.credentials(), token, account.device_id)
        except PlatformError as error:
            if error.kind is ErrorKind.AUTHENTICATION:
                await self.login.forget_token()
            raise
        self._connected_at = shared.clock.monotonic()
        account.last_heartbeat_ms = shared.clock.now_ms()
        account.failures = 0
        self._set(State.CONNECTED, "", "")
        return connection

    async def _read_back(self, connection: PlatformConnection) -> list[ChatMessage]:
        self._told = False
        before = self.account.synced_until_ms
        reading = ReadBack(connection, self.account, self.intake, self._shared.clock)
        await reading.run(history_before_ms=self.intake.history_before_ms)
        self._read_back_at = self._shared.clock.monotonic() + self._shared.limits.read_back_every
        if self.account.synced_until_ms != before:
            await self._shared.sessions.save_mark(self.account)
        if reading.left_out:
            text = f"{self.account.name}: not everything could be read back: {reading.left_out}"
            self._shared.journal.alert(self.account, "read_back", text, error=False)
        return reading.missed

    def _stop_for(self, closed: Closed) -> bool:
        """FAILED, when only a person can help; says whether it is so."""
        why = self._retry.hopeless(closed, self._shared.clock.monotonic())
        if why:
            url = closed.error.url if closed.error is not None else ""
            self.fail(f"{why} ({reason_of(closed)})", code_of(closed), url)
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
