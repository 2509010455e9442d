"""The clocks of a lease: when its owner stops, and when another may take it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from frontdesk.kit.clock import ManualClock
from frontdesk.kit.shards.lease import ObserverClocks, deadline

TTL, GAP, MARGIN = 10.0, 5.0, 3.0


class Observer:
    """Clocks on a manual clock, with or without the server's answers."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.clocks = ObserverClocks(TTL, GAP, self.clock.monotonic())
        self.clocks.contact(self.clock.monotonic())

    def change(self, key: str = "lease.1") -> None:
        self.clocks.changed(key, self.clock.monotonic())

    def contact(self) -> None:
        self.clocks.contact(self.clock.monotonic())

    async def connected_for(self, seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            await self.clock.advance(0.5)
            self.contact()

    def expired(self, key: str = "lease.1") -> bool:
        return self.clocks.expired(key, self.clock.monotonic())


async def test_expires_after_ttl_without_change() -> None:
    """A lease that stands unchanged for a ttl is expired, and not before."""
    observer = Observer()
    observer.change()
    await observer.connected_for(9.5)
    assert not observer.expired()
    await observer.connected_for(0.5)
    assert observer.expired()


async def test_a_renewal_starts_its_own_clock_only() -> None:
    """A changed revision gives that lease another ttl and no other lease."""
    observer = Observer()
    observer.change("lease.1")
    observer.change("lease.2")
    await observer.connected_for(6)
    observer.change("lease.1")
    await observer.connected_for(6)
    assert not observer.expired("lease.1")
    assert observer.expired("lease.2")


async def test_a_disconnected_observer_judges_nothing() -> None:
    """However long it has been, without contact nothing is expired."""
    observer = Observer()
    observer.change()
    await observer.clock.advance(60)
    assert not observer.expired()


async def test_all_clocks_start_again_after_a_gap() -> None:
    """After a longer time without contact every lease gets a whole ttl of connected time."""
    observer = Observer()
    observer.change()
    await observer.connected_for(9)
    await observer.clock.advance(GAP + 1)
    observer.contact()
    assert not observer.expired()
    await observer.connected_for(9.5)
    assert not observer.expired()
    await observer.connected_for(0.5)
    assert observer.expired()


async def test_a_restart_starts_all_clocks_again() -> None:
    """A reconnect, however short, gives every lease another ttl."""
    observer = Observer()
    observer.change()
    await observer.connected_for(9)
    observer.clocks.restart(observer.clock.monotonic())
    await observer.connected_for(9)
    assert not observer.expired()


async def test_an_unknown_key_counts_from_the_start() -> None:
    """What was never seen is not expired before the observer looked for a ttl."""
    observer = Observer()
    await observer.connected_for(9.5)
    assert not observer.expired("lease.9")
    await observer.connected_for(0.5)
    assert observer.expired("lease.9")


def test_the_deadline_counts_from_before_the_request() -> None:
    """The owner's time ends the margin before a ttl from when it asked, not from when it was answered."""
    assert deadline(100.0, TTL, MARGIN) == 107.0


@given(
    asked=st.floats(0, 1e6),
    to_server=st.floats(0, 60),
    to_observer=st.floats(0, 60),
    drift=st.floats(0, 0.2),
)
def test_the_owner_stops_before_anyone_may_take(
    asked: float, to_server: float, to_observer: float, drift: float
) -> None:
    """Whatever the delays, and with clocks that differ by up to a fifth, the owner's time is over first."""
    seen = asked + to_server + to_observer
    takeover = seen + TTL * (1 - drift)
    assert deadline(asked, TTL, MARGIN) < takeover
