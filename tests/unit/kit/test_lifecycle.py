"""kit/lifecycle.py: order, readiness, drain within a deadline, crash means exit, tracked tasks."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from frontdesk.kit.clock import ManualClock
from frontdesk.kit.errors import DeadlineExceeded
from frontdesk.kit.lifecycle import Readiness, Service, TaskSet, run_program


class Part:
    """A component that writes down what happens to it, and fails or hangs when told to."""

    def __init__(self, name: str, log: list[str], *, fails: str = "", hangs: str = "") -> None:
        self.name = name
        self.deadline_s = 0.0
        self._log = log
        self._fails = fails
        self._hangs = hangs

    async def _do(self, what: str) -> None:
        self._log.append(f"{what} {self.name}")
        if self._fails == what:
            raise RuntimeError(f"{self.name} failed to {what}")
        if self._hangs == what:
            await asyncio.Event().wait()

    async def start(self) -> None:
        await self._do("start")

    async def stop(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        await self._do("stop")


async def until_ready(service: Service) -> None:
    async with asyncio.timeout(5):
        while service.readiness.failures():
            await asyncio.sleep(0)


def service_of(*parts: Part, drain_s: float = 25, start_s: float = 60) -> Service:
    service = Service("shop", drain_s=drain_s, start_s=start_s)
    for part in parts:
        service.add(part)
    return service


async def test_parts_start_in_order_and_stop_in_reverse() -> None:
    """The first part started is the last one stopped, and a clean run exits with 0."""
    log: list[str] = []
    service = service_of(Part("a", log), Part("b", log))
    running = asyncio.create_task(service.run())
    await until_ready(service)
    service.request_stop()
    assert await running == 0
    assert log == ["start a", "start b", "stop b", "stop a"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(signum: signal.Signals) -> None:
    """SIGTERM and SIGINT make the service unready first, then stop it with exit code 0."""
    log: list[str] = []
    clock = ManualClock()
    service = Service("shop", grace_s=5, drain_s=20, clock=clock)
    part = Part("a", log)
    service.add(part)
    running = asyncio.create_task(service.run())
    await until_ready(service)
    os.kill(os.getpid(), signum)
    async with asyncio.timeout(5):
        while not service.readiness.failures():
            await asyncio.sleep(0)
    assert service.readiness.failures() == {"shop": "draining"}
    await clock.advance(4.9)
    assert log == ["start a"]
    await clock.advance(0.1)
    assert await running == 0
    assert log == ["start a", "stop a"]
    assert part.deadline_s == 15


async def test_a_second_signal_leaves_at_once() -> None:
    """Whoever presses Ctrl-C twice does not wait for a part that hangs."""
    log: list[str] = []
    service = service_of(Part("a", log, hangs="stop"), drain_s=3600)
    running = asyncio.create_task(service.run())
    await until_ready(service)
    os.kill(os.getpid(), signal.SIGINT)
    async with asyncio.timeout(5):
        while "stop a" not in log:
            await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGINT)
        assert await running == 1


async def test_a_crashed_task_ends_the_service() -> None:
    """A spawned task that raises stops all parts, and the exit code is 1."""
    log: list[str] = []
    service = service_of(Part("a", log))

    async def work() -> None:
        raise RuntimeError("boom")

    running = asyncio.create_task(service.run())
    await until_ready(service)
    service.spawn("worker", work())
    async with asyncio.timeout(5):
        assert await running == 1
    assert log == ["start a", "stop a"]


async def test_a_task_that_returns_does_not_end_the_service() -> None:
    """Work that is done is no crash; what still runs at the end is cancelled."""
    service = service_of()
    ended: list[str] = []

    async def short() -> None:
        ended.append("short")

    async def long() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("long")

    running = asyncio.create_task(service.run())
    await until_ready(service)
    await service.spawn("short", short())
    service.spawn("long", long())
    await asyncio.sleep(0)
    assert not running.done()
    service.request_stop()
    assert await running == 0
    assert ended == ["short", "long"]


async def test_a_crash_while_starting_ends_the_start() -> None:
    """When a task crashes while a later part still starts, the service gives up and exits with 1."""
    log: list[str] = []
    service = service_of()

    async def crash() -> None:
        raise RuntimeError("boom")

    class Spawning(Part):
        async def start(self) -> None:
            await super().start()
            service.spawn("crash", crash())

    service.add(Spawning("a", log))
    service.add(Part("b", log, hangs="start"))
    async with asyncio.timeout(5):
        assert await service.run() == 1
    assert log == ["start a", "start b", "stop a"]


async def test_a_failed_start_stops_what_had_started() -> None:
    """Parts before the failing one are stopped, those after it never start, the exit code is 1."""
    log: list[str] = []
    service = service_of(Part("a", log), Part("b", log, fails="start"), Part("c", log))
    assert await service.run() == 1
    assert log == ["start a", "start b", "stop a"]


async def test_a_failed_start_says_why_when_all_has_stopped(caplog: pytest.LogCaptureFixture) -> None:
    """Parts before the failing one have their time to stop, and the error is the last line."""
    log: list[str] = []

    class Slow(Part):
        async def stop(self, deadline_s: float) -> None:
            await _rounds()
            await super().stop(deadline_s)

    service = service_of(Slow("a", log), Part("b", log, fails="start"))
    assert await service.run() == 1
    assert log == ["start a", "start b", "stop a"]
    assert caplog.records[-1].getMessage() == "shop could not start: b failed to start"
    assert caplog.records[-1].exc_info


async def _rounds() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_start_that_hangs_is_named() -> None:
    """A part that does not start in time is an error with its name."""
    service = service_of(Part("slow", [], hangs="start"), start_s=0.01)
    with pytest.raises(DeadlineExceeded, match="slow did not start within"):
        await service.start()


async def test_a_signal_while_starting_stops_cleanly() -> None:
    """SIGTERM during a slow start cancels it, stops the started parts and exits with 0."""
    log: list[str] = []
    service = service_of(Part("a", log), Part("b", log, hangs="start"))
    running = asyncio.create_task(service.run())
    async with asyncio.timeout(5):
        while "start b" not in log:
            await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await running == 0
    assert log == ["start a", "start b", "stop a"]


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
async def test_one_part_in_trouble_does_not_keep_the_others(trouble: str) -> None:
    """When a part fails or hangs in its stop, the others are stopped all the same, and the exit code is 1."""
    log: list[str] = []
    bad = Part("b", log, fails="stop") if trouble == "fails" else Part("b", log, hangs="stop")
    service = service_of(Part("a", log), bad, Part("c", log), drain_s=0.1)
    running = asyncio.create_task(service.run())
    await until_ready(service)
    service.request_stop()
    async with asyncio.timeout(5):
        assert await running == 1
    assert log[3:] == ["stop c", "stop b", "stop a"]


async def test_each_part_leaves_time_for_those_after_it() -> None:
    """The first to stop may use the deadline up to half a second for each part that follows."""
    parts = [Part(name, []) for name in "abc"]
    service = Service("shop", clock=ManualClock())
    for part in parts:
        service.add(part)
    await service.start()
    await service.stop(10)
    assert [part.deadline_s for part in parts] == [10, 9.5, 9]


async def test_a_service_is_a_part_of_another() -> None:
    """A crash inside an inner service ends the outer one; its readiness shows inside the outer's."""
    log: list[str] = []
    inner, outer = Service("inner"), Service("outer")
    inner.add(Part("a", log))
    inner.readiness.add("queue", lambda: "filling")
    outer.add(inner)

    async def crash() -> None:
        raise RuntimeError("boom")

    assert outer.readiness.failures() == {"outer": "starting", "inner": "inner: starting; queue: filling"}
    running = asyncio.create_task(outer.run())
    async with asyncio.timeout(5):
        while "outer" in outer.readiness.failures():
            await asyncio.sleep(0)
        assert outer.readiness.failures() == {"inner": "queue: filling"}
        inner.spawn("worker", crash())
        assert await running == 1
    assert log == ["start a", "stop a"]


async def test_parts_are_added_before_the_start() -> None:
    """Adding a part to a running service is a mistake that is told."""
    service = service_of()
    await service.start()
    with pytest.raises(RuntimeError, match="before the service starts"):
        service.add(Part("late", []))
    await service.stop(1)


async def test_a_cancelled_run_stops_its_parts() -> None:
    """Who runs a service as a task and cancels it leaves nothing running."""
    log: list[str] = []
    service = service_of(Part("a", log))
    running = asyncio.create_task(service.run())
    await until_ready(service)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert log == ["start a", "stop a"]


def test_readiness_names_are_unique() -> None:
    """Two checks can't hide behind one name."""
    readiness = Readiness()
    readiness.add("nats", lambda: None)
    with pytest.raises(ValueError, match="nats"):
        readiness.add("nats", lambda: None)


async def test_a_task_set_runs_at_most_its_limit() -> None:
    """A further task waits outside until one ends; its caller can give up meanwhile."""
    tasks, gate = TaskSet(1, name="sends"), asyncio.Event()
    ran: list[int] = []

    async def work(n: int) -> None:
        ran.append(n)
        await gate.wait()

    await tasks.start(work(1))
    waiting = asyncio.create_task(tasks.start(work(2)))
    given_up = asyncio.create_task(tasks.start(work(3)))
    for _ in range(3):
        await asyncio.sleep(0)
    assert (ran, len(tasks)) == ([1], 1)
    given_up.cancel()
    gate.set()
    await (await waiting)
    assert ran == [1, 2]
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert await tasks.close(1) == 0


async def test_a_task_set_tells_of_crashes() -> None:
    """A task that raises is told by name and error, and its place is free again."""
    crashes: list[tuple[str, str]] = []
    tasks = TaskSet(1, name="sends", on_crash=lambda name, error: crashes.append((name, str(error))))

    async def crash() -> None:
        raise RuntimeError("boom")

    await asyncio.wait([await tasks.start(crash())])
    await asyncio.wait([await tasks.start(crash())])
    await asyncio.sleep(0)
    assert crashes == [("sends", "boom")] * 2


async def test_a_closing_task_set_cuts_what_is_late() -> None:
    """Close waits for its deadline, cancels the rest, counts them, and takes no more work."""
    tasks = TaskSet(2, name="sends")

    async def hang() -> None:
        await asyncio.Event().wait()

    late = await tasks.start(hang())
    assert await tasks.close(0.01) == 1
    assert late.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        await tasks.start(hang())


def test_a_program_runs_on_uvloop() -> None:
    """`run_program` runs on uvloop and returns the exit code."""
    loops: list[str] = []

    async def main() -> int:
        loops.append(type(asyncio.get_running_loop()).__module__)
        return 3

    assert run_program(main) == 3
    assert loops == ["uvloop"]
