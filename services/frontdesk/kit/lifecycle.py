"""The life of a service: ordered start, readiness, drain on SIGTERM within a deadline; a crash means exit.

    service = Service("reply-engine")
    service.add(telemetry); service.add(database); service.add(bus); service.add(consumer)
    raise SystemExit(run_program(service.run))

Components start in the order they were added and stop in reverse. `spawn` runs work beside them: a task that
raises takes the whole service down with exit code 1, and whoever runs the process starts a fresh one.
A `Service` is a component itself, so `frontdesk up` runs all services in one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Literal, Protocol

from frontdesk.kit import tasks
from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.errors import DeadlineExceeded, FrontdeskError

logger = logging.getLogger(__name__)

Spawn = Callable[[str, Coroutine[Any, Any, None]], "asyncio.Task[None]"]
Check = Callable[[], str | None]

# What each component still to be stopped keeps of the deadline when an earlier one hangs.
RESERVE_S = 0.5


class Component(Protocol):
    """A part of a service."""

    @property
    def name(self) -> str:
        """Unique in its service; stands in logs and in /readyz."""
        ...

    async def start(self) -> None:
        """Return when the part works; when it raises or is cancelled it leaves nothing behind."""
        ...

    async def stop(self, deadline_s: float) -> None:
        """Finish what is in flight and return within `deadline_s` seconds; called once, after `start`."""
        ...


class Readiness:
    """Named checks. A check returns None when ready, or the reason why not; it must not wait or do I/O."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        """Register a check; raises ValueError when the name is taken."""
        if name in self._checks:
            raise ValueError(f"a readiness check named {name} exists already")
        self._checks[name] = check

    def failures(self) -> dict[str, str]:
        """Reason by name of each check that is not ready; empty means ready."""
        return {name: reason for name, check in self._checks.items() if (reason := check()) is not None}


class Service:
    """Runs components and background tasks; see the module's text.

    `drain_s` is the whole time from SIGTERM to exit, `grace_s` the part of it in which the service is not
    ready any more but still serves (load balancers need a moment to notice), `start_s` the time each
    component has to start: None where whoever started the process bounds that, as a pod's startup probe does.
    """

    def __init__(
        self,
        name: str,
        *,
        drain_s: float = 25.0,
        grace_s: float = 0.0,
        start_s: float | None = 60.0,
        clock: Clock | None = None,
    ) -> None:
        self._name = name
        self._drain_s = drain_s
        self._grace_s = grace_s
        self._start_s = start_s
        self._clock = clock or SystemClock()
        self._components: list[Component] = []
        self._started: list[Component] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._state: Literal["starting", "running", "draining", "stopped"] = "starting"
        self._failed = False
        self._told_twice = False
        self._on_crash: Callable[[str, BaseException], None] | None = None
        self.readiness = Readiness()
        self.readiness.add(name, lambda: None if self._state == "running" else self._state)

    @property
    def name(self) -> str:
        return self._name

    def add(self, component: Component) -> None:
        """Start `component` after those added before; before `start` only."""
        if self._state != "starting" or self._started:
            raise RuntimeError("components are added before the service starts")
        if isinstance(component, Service):
            component._on_crash = self.crash
            inner = component.readiness
            self.readiness.add(
                component.name, lambda: "; ".join(f"{k}: {v}" for k, v in inner.failures().items()) or None
            )
        self._components.append(component)

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` beside the components. If it raises, the service exits; it is cancelled at the end."""
        task = asyncio.create_task(work, name=f"{self._name}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def crash(self, name: str, error: BaseException) -> None:
        """Take the service down with exit code 1 because of `error` in the part `name`."""
        self._failed = True
        self._stopping.set()
        if self._on_crash is not None:
            self._on_crash(f"{self._name}/{name}", error)
        else:
            logger.critical("%s crashed; the service exits", name, exc_info=error, extra={"part": name})

    def request_stop(self) -> None:
        """Begin the drain, as SIGTERM does."""
        self._stopping.set()

    async def start(self) -> None:
        """Start all components in order; when one fails, stop the started ones and raise its error."""
        for component in self._components:
            begun = self._clock.monotonic()
            try:
                await self._start_one(component)
            except BaseException as error:
                self._failed = self._failed or not isinstance(error, asyncio.CancelledError)
                await self.stop(self._drain_s)
                raise
            self._started.append(component)
            spent_ms = round((self._clock.monotonic() - begun) * 1000)
            logger.debug("%s started", component.name, extra={"part": component.name, "ms": spent_ms})
        self._state = "running"

    async def _start_one(self, component: Component) -> None:
        limit = asyncio.timeout(self._start_s)
        try:
            async with limit:
                await component.start()
        except TimeoutError as error:
            if limit.expired():
                raise DeadlineExceeded(
                    f"{component.name} did not start within {self._start_s:g} s", part=component.name
                ) from error
            raise

    async def stop(self, deadline_s: float) -> None:
        """Stop components in reverse and cancel what was spawned, all within `deadline_s` seconds."""
        self._state = "draining"
        self._stopping.set()
        end = self._clock.monotonic() + deadline_s
        while self._started:
            component = self._started.pop()
            left = end - self._clock.monotonic() - RESERVE_S * len(self._started)
            await self._stop_one(component, max(left, RESERVE_S))
        await _end(self._tasks, max(end - self._clock.monotonic(), RESERVE_S))
        self._state = "stopped"

    async def _stop_one(self, component: Component, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await component.stop(seconds)
            if isinstance(component, Service) and component._failed:
                self._failed = True
        except TimeoutError:
            self._failed = True
            logger.error("%s did not stop in %.1f s", component.name, seconds, extra={"part": component.name})
        except Exception:  # the boundary of a component: the others must still be stopped
            self._failed = True
            logger.exception("%s failed to stop", component.name, extra={"part": component.name})

    async def run(self) -> int:
        """Start, serve until SIGTERM, SIGINT, `request_stop` or a crash, drain, and return the exit code.

        0 is a clean stop; 1 a crash, a failed start, or a part that did not stop in time. A second signal
        ends the drain at once.
        """
        loop = asyncio.get_running_loop()
        me = asyncio.current_task()
        assert me is not None
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._signal, signum, me)
        try:
            return await self._run()
        except asyncio.CancelledError:
            if not self._told_twice:
                await self.stop(self._drain_s)
                raise
            me.uncancel()
            logger.error("%s was told twice to stop: it leaves at once", self._name)
            return 1
        finally:
            for signum in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(signum)

    async def _run(self) -> int:
        starting = asyncio.create_task(self.start())
        stop_wanted = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((starting, stop_wanted), return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                if self._state == "starting":  # else it failed, and stops what had started
                    starting.cancel()
                await asyncio.wait((starting,))
        finally:
            starting.cancel()
            stop_wanted.cancel()
        if starting.cancelled():
            return int(self._failed)
        if (error := starting.exception()) is not None:
            # What was raised on purpose says all; where it was raised is for what nobody expected.
            told = isinstance(error, FrontdeskError)
            logger.critical("%s could not start: %s", self._name, error, exc_info=None if told else error)
            return 1
        logger.info("%s is ready", self._name)
        await self._stopping.wait()
        await self._drain()
        return int(self._failed)

    async def _drain(self) -> None:
        self._state = "draining"
        logger.info("%s drains", self._name)
        grace_s = 0.0 if self._failed else self._grace_s
        if grace_s:
            await self._clock.sleep(grace_s)
        await self.stop(self._drain_s - grace_s)

    def _signal(self, signum: int, me: asyncio.Task[Any]) -> None:
        if self._stopping.is_set():
            self._told_twice = True
            me.cancel()
            return
        logger.info("%s got %s", self._name, signal.Signals(signum).name)
        self._stopping.set()

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crash(task.get_name(), error)


class TaskSet:
    """At most `limit` tasks at once, each tracked; `on_crash(name, error)` hears of every one that raised.

    Give `Service.crash` when an error in such a task means exit; the default only logs.
    """

    def __init__(
        self, limit: int, *, name: str, on_crash: Callable[[str, BaseException], None] | None = None
    ) -> None:
        self._name = name
        self._places = asyncio.Semaphore(limit)
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_crash = on_crash or _log_crash
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    async def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work`, waiting first while the set is full; raises RuntimeError after `close`."""
        try:
            await self._places.acquire()
        except asyncio.CancelledError:
            work.close()
            raise
        if self._closed:
            self._places.release()
            work.close()
            raise RuntimeError(f"the task set {self._name} is closed")
        task = asyncio.create_task(work, name=self._name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self, deadline_s: float) -> int:
        """Take no more work, wait up to `deadline_s` seconds, cancel the rest; returns how many were
        cancelled.
        """
        self._closed = True
        if not self._tasks:
            return 0
        _, late = await asyncio.wait(self._tasks, timeout=deadline_s)
        await _end(late, RESERVE_S)
        return len(late)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._places.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_crash(self._name, error)


def _log_crash(name: str, error: BaseException) -> None:
    logger.error("a task of %s failed", name, exc_info=error, extra={"part": name})


def run_program(main: Callable[[], Awaitable[int]]) -> int:
    """Run `main` on uvloop (on the plain loop where uvloop does not exist) and return its exit code."""

    async def run() -> int:
        return await main()

    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(run())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _end(late: Iterable[asyncio.Task[Any]], seconds: float) -> None:
    """Cancel tasks and wait for their ends, at most `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await tasks.end(late, again_s=RESERVE_S / 2)
