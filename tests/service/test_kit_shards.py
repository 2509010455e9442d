"""Shards of several members against a real nats-server: sticky, handed over in order, never two owners."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator

import pytest

from frontdesk.kit import subjects
from frontdesk.kit.clock import SystemClock
from frontdesk.kit.disconnect import disconnect
from frontdesk.kit.errors import FailedPrecondition, NotFound, Unavailable
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.shards import Member, ShardManager, ShardSettings
from support.shards import SETTINGS, SHARDS, Fleet, Gate, child
from support.waiting import until, until_async


@pytest.fixture
async def fleet(nats_server: NatsServer) -> AsyncIterator[Fleet]:
    """An empty fleet; at its end no shard may ever have had two holders."""
    fleet = Fleet(nats_server)
    sampling = asyncio.create_task(fleet.sample())
    yield fleet
    await asyncio.gather(*(node.manager.stop(1.0) for node in fleet.nodes))
    sampling.cancel()
    await asyncio.gather(*(disconnect(node.nc) for node in fleet.nodes))
    assert fleet.samples > 0
    assert fleet.twice == []


async def test_a_single_member_takes_everything_at_once(fleet: Fleet) -> None:
    """64 free shards are acquired and open in well under a second."""
    node = await fleet.join("solo", ShardSettings())
    begun = time.monotonic()
    await until(lambda: len(node.listener.open) == 64)
    assert time.monotonic() - begun < 1.0
    assert node.manager.owned == frozenset(range(64))
    assert {shard: node.manager.epoch(shard) for shard in range(64)} == node.listener.open
    assert node.manager.problem() is None


async def test_joining_and_leaving_moves_only_what_must(fleet: Fleet) -> None:
    """Newcomers get their share one by one, drained; a leaver's shards go to the others, epochs rise."""
    ada = await fleet.join("ada")
    await until(lambda: fleet.as_proposed(ada))
    first = dict(ada.listener.open)
    ada.listener.drain = 0.02
    ben = await fleet.join("ben")
    await until(lambda: fleet.as_proposed(ada, ben))
    cid = await fleet.join("cid")
    await until(lambda: fleet.as_proposed(ada, ben, cid))
    assert ada.listener.most_draining == 1
    assert all(ada.listener.open[shard] == first[shard] for shard in ada.listener.open)
    assert all(epoch > first[shard] for node in (ben, cid) for shard, epoch in node.listener.open.items())
    assert [member.id for member in ada.manager.members()] == ["ada", "ben", "cid"]
    await cid.manager.stop()
    assert cid.manager.owned == frozenset()
    await until(lambda: fleet.as_proposed(ada, ben), timeout=SETTINGS.ttl)
    assert [node.listener.losses for node in (ada, ben, cid)] == [[], [], []]


async def test_a_killed_process_is_replaced_within_a_ttl(fleet: Fleet) -> None:
    """After kill -9 another member has all shards a ttl later, and not before the leases ran out."""
    ben = await fleet.join("ben")
    async with child(fleet.server, "ada") as ada:
        await ada.says(f"owned {ada.share('ben')}")
        await until(lambda: len(ben.held) == SHARDS - ada.share("ben"))
        ada.process.kill()
        died = time.monotonic()
        await until(lambda: fleet.as_proposed(ben))
        took = time.monotonic() - died
    assert SETTINGS.ttl - SETTINGS.renew_every - 0.1 < took < SETTINGS.ttl + 1.0


async def test_a_restarted_process_waits_for_its_own_leases(fleet: Fleet) -> None:
    """A member that was killed and comes back under its id takes its shards when the old leases ran out."""
    async with child(fleet.server, "ada") as ada:
        await ada.says(f"owned {SHARDS}")
        ada.process.kill()
        died = time.monotonic()
    again = await fleet.join("ada")
    await until(lambda: fleet.as_proposed(again))
    assert SETTINGS.ttl - SETTINGS.renew_every - 0.1 < time.monotonic() - died < SETTINGS.ttl * 2 + 1.0


async def test_a_stopped_process_wakes_up_holding_nothing(fleet: Fleet) -> None:
    """A process that slept over its deadline knows at once that it may not act, and loses what was taken."""
    ben = await fleet.join("ben")
    async with child(fleet.server, "ada") as ada:
        share = ada.share("ben")
        await ada.says(f"owned {share}")
        ada.process.send_signal(signal.SIGSTOP)
        await until(lambda: len(ben.held) == SHARDS)
        ada.process.send_signal(signal.SIGCONT)
        assert "held 0" in await ada.says("woke")
        await ada.says(f"lost {share}")
        # It is alive again, so it gets its share back, in order.
        await ada.says(f"owned {share}")
        await until(lambda: len(ben.held) == SHARDS - share)


async def test_a_restart_of_nats_costs_no_shard(fleet: Fleet) -> None:
    """Owners stop while NATS is away longer than a ttl, and go on with the same epochs when it is back."""
    ada, ben = await fleet.join("ada"), await fleet.join("ben")
    await until(lambda: fleet.as_proposed(ada, ben))
    before = {**ada.listener.open, **ben.listener.open}
    await fleet.server.kill()
    await until(lambda: not ada.held and not ben.held)
    assert ada.manager.owned | ben.manager.owned == frozenset(range(SHARDS))
    assert ada.manager.problem() is not None
    await asyncio.sleep(SETTINGS.ttl)  # the outage itself: leases would have run out by wall time
    await fleet.server.start()
    await until(lambda: fleet.as_proposed(ada, ben))
    assert {**ada.listener.open, **ben.listener.open} == before
    assert ada.listener.losses == ben.listener.losses == []
    # The watch works again, too: a leaver's shards move at once.
    await ben.manager.stop()
    await until(lambda: fleet.as_proposed(ada), timeout=SETTINGS.ttl)
    assert ada.manager.problem() is None


async def test_a_hanging_nats_costs_no_shard(fleet: Fleet) -> None:
    """A server that hangs without breaking connections lets no lease run out."""
    ada, ben = await fleet.join("ada"), await fleet.join("ben")
    await until(lambda: fleet.as_proposed(ada, ben))
    assert fleet.server.process is not None
    fleet.server.process.send_signal(signal.SIGSTOP)
    await until(lambda: not ada.held and not ben.held)
    await asyncio.sleep(SETTINGS.ttl)  # the outage itself
    fleet.server.process.send_signal(signal.SIGCONT)
    await until(lambda: fleet.as_proposed(ada, ben))
    assert ada.listener.losses == ben.listener.losses == []


async def test_a_member_cut_off_for_longer_than_a_ttl_loses(fleet: Fleet) -> None:
    """Behind a dead network a member stops by its own clock, is replaced, and hears of it when it is back."""
    async with Gate(fleet.server).running() as gate:
        ada, ben = await fleet.join("ada", url=gate.url), await fleet.join("ben")
        await until(lambda: fleet.as_proposed(ada, ben))
        share = ada.held
        gate.shut()
        await until(lambda: not ada.held, timeout=SETTINGS.ttl)
        assert set(ada.listener.open) == share
        await until(lambda: fleet.as_proposed(ben))
        gate.reopen()
        await until(lambda: set(ada.listener.losses) == share)
        await until(lambda: fleet.as_proposed(ada, ben))
        await ada.manager.stop()


async def test_a_cordoned_member_owns_nothing_and_everyone_sees_it(fleet: Fleet) -> None:
    """Any member cordons any other: it drains in order, one by one, and gets its share back afterwards."""
    ada, ben, cid = await fleet.join("ada"), await fleet.join("ben"), await fleet.join("cid")
    await until(lambda: fleet.as_proposed(ada, ben, cid))
    share, before = ada.held, len(ada.listener.releases)
    untouched = {**ben.listener.open, **cid.listener.open}
    ada.listener.drain = 0.02
    assert await ben.cordon("ada") == {"ada"}
    await until(lambda: fleet.as_proposed(ben, cid) and not ada.listener.open)
    assert (set(ada.listener.releases[before:]), ada.listener.losses) == (share, [])
    assert ada.listener.most_draining == 1
    assert untouched.items() <= {**ben.listener.open, **cid.listener.open}.items()
    for node in (ada, ben, cid):
        members = {member.id: member.cordoned for member in node.manager.members()}
        assert members == {"ada": True, "ben": False, "cid": False}
    assert ada.manager.cordoned
    assert "ada" not in ben.manager.holders().values()
    assert await cid.uncordon("ada") == frozenset()
    await until(lambda: fleet.as_proposed(ada, ben, cid))
    assert not ada.manager.cordoned


async def test_a_cordon_outlives_a_restart(fleet: Fleet) -> None:
    """A member that comes back cordoned takes nothing, until it is uncordoned."""
    ada, ben = await fleet.join("ada"), await fleet.join("ben")
    await until(lambda: fleet.as_proposed(ada, ben))
    await ada.cordon("ada")
    await until(lambda: fleet.as_proposed(ben))
    await ada.manager.stop()
    again = await fleet.join("ada")
    await asyncio.sleep(SETTINGS.ttl)  # time in which it could take something
    assert again.listener.acquisitions == []
    assert fleet.as_proposed(ben)
    assert again.manager.cordoned
    await ben.uncordon("ada")
    await until(lambda: fleet.as_proposed(again, ben))


async def test_the_last_free_member_is_not_cordoned(fleet: Fleet) -> None:
    """The call is refused; when the free members leave nevertheless, the cordoned one keeps all at work."""
    ada, ben = await fleet.join("ada"), await fleet.join("ben")
    await until(lambda: fleet.as_proposed(ada, ben))
    await until(lambda: len(ada.manager.members()) == len(ben.manager.members()) == 2)
    outcomes = await asyncio.gather(ada.cordon("ada"), ben.cordon("ben"), return_exceptions=True)
    assert sum(isinstance(outcome, FailedPrecondition) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, frozenset) for outcome in outcomes) == 1
    cordoned, free = (ada, ben) if ada.manager.cordoned else (ben, ada)
    await until(lambda: fleet.as_proposed(free))
    await free.manager.stop()
    await until(lambda: fleet.as_proposed(cordoned), timeout=SETTINGS.ttl)
    back = await fleet.join(free.id)
    await until(lambda: fleet.as_proposed(back))


async def test_cordons_at_random_never_give_a_shard_two_holders(fleet: Fleet) -> None:
    """Members cordoned, uncordoned, stopped and started in a storm: at its end every shard is held."""
    dice = random.Random(20)
    nodes = {name: await fleet.join(name) for name in ("ada", "ben", "cid")}
    for _ in range(40):
        name, caller = dice.choice(list(nodes)), dice.choice(list(nodes.values()))
        match dice.randrange(4):
            case 0 | 1:
                with contextlib.suppress(FailedPrecondition, NotFound):
                    await caller.cordon(name)
            case 2:
                with contextlib.suppress(NotFound):
                    await caller.uncordon(name)
            case 3:
                await nodes[name].manager.stop(1.0)
                nodes[name] = await fleet.join(name)
        await asyncio.sleep(dice.uniform(0, 0.1))
    await until(lambda: len(nodes["ada"].manager.members()) == len(nodes))
    for name in nodes:
        await nodes["ada"].uncordon(name)
    # Not each where it is proposed: what was taken out of turn stays for a while.
    await until(lambda: sum(len(node.held & set(node.listener.open)) for node in nodes.values()) == SHARDS)


async def test_what_fails_to_open_is_tried_again(fleet: Fleet) -> None:
    """A callback that raises costs a back-off, not the shard."""
    ada = await fleet.join("ada", start=False)
    ada.listener.failures_left = 5
    await ada.manager.start()
    await until(lambda: fleet.as_proposed(ada))
    assert len(ada.listener.acquisitions) == SHARDS + 5
    assert len(ada.listener.losses) == 5


async def test_the_next_in_order_takes_what_the_first_leaves_free(fleet: Fleet) -> None:
    """A shard whose proposed member never opens it is with the other a ttl later, and stays there."""
    ada = await fleet.join("ada", start=False)
    ada.listener.failures_left = 1_000_000
    await ada.manager.start()
    ben = await fleet.join("ben")
    await until(lambda: len(ben.held) == SHARDS)
    kept = dict(ben.listener.open)
    await asyncio.sleep(SETTINGS.ttl)  # time in which it would be handed back
    assert ben.listener.open == kept


async def test_a_release_that_hangs_is_cut_short(fleet: Fleet) -> None:
    """A drain ends after its time, the listener is told to close, and the shard moves on."""
    ada = await fleet.join("ada")
    await until(lambda: fleet.as_proposed(ada))
    ada.listener.drain = 60.0
    ben = await fleet.join("ben", start=False)
    begun = time.monotonic()
    stopping = asyncio.create_task(ada.manager.stop())
    await ben.manager.start()
    await stopping
    assert time.monotonic() - begun < SETTINGS.stop_seconds + 1.0
    assert sorted(ada.listener.losses) == list(range(SHARDS))
    await until(lambda: fleet.as_proposed(ben), timeout=SETTINGS.ttl)


async def test_a_bucket_that_vanished_is_made_again(fleet: Fleet) -> None:
    """Owners whose leases are gone lose their shards, and the fleet settles again in a new bucket."""
    ada, ben = await fleet.join("ada"), await fleet.join("ben")
    await until(lambda: fleet.as_proposed(ada, ben))
    await ada.nc.jetstream().delete_stream(f"KV_{subjects.SHARDS_BUCKET}")
    await until(lambda: len({*ada.listener.losses, *ben.listener.losses}) == SHARDS)
    await until(lambda: fleet.as_proposed(ada, ben))


async def test_a_deaf_watch_is_found_and_made_anew(fleet: Fleet) -> None:
    """When the server loses the watch's consumer and nobody says so, it is replaced."""
    ada = await fleet.join("ada")
    await until(lambda: fleet.as_proposed(ada))
    js = ada.nc.jetstream()
    stream = f"KV_{subjects.SHARDS_BUCKET}"

    async def consumers() -> set[str]:
        return {info.name for info in await js.consumers_info(stream)}

    async def watched() -> bool:
        return bool(await consumers())

    await until_async(watched)
    lost = await consumers()
    assert len(lost) == 1
    await js.delete_consumer(stream, lost.copy().pop())
    await until_async(watched)
    assert not await consumers() & lost
    ben = await fleet.join("ben")
    await until(lambda: fleet.as_proposed(ada, ben))


class DeafClock(SystemClock):
    """A clock that hides from each sleeping task the first time that it is cancelled."""

    def __init__(self) -> None:
        self.hidden: set[asyncio.Task[object] | None] = set()

    async def sleep(self, seconds: float) -> None:
        try:
            await super().sleep(seconds)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) in self.hidden:
                raise
            self.hidden.add(task)


async def test_a_cancellation_that_gets_lost_does_not_keep_a_member(fleet: Fleet) -> None:
    """A loop that lives through its cancellation, as `asyncio.wait_for` can make it, is cancelled again."""
    node = await fleet.join("ada", start=False)
    node.manager = ShardManager(node.nc, "ada", node.listener, SETTINGS, clock := DeafClock())
    await node.manager.start()
    await until(lambda: fleet.as_proposed(node))
    async with asyncio.timeout(10):
        await node.manager.stop(1.0)
    assert clock.hidden
    assert not node.listener.open


async def test_two_processes_with_one_id_are_told_of(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    """A second process of the same member id is an error in the log, and still nothing has two holders."""
    await fleet.join("ada")
    await fleet.join("ada")
    await until(lambda: "ids must be unique" in caplog.text)


async def test_start_without_nats_says_so(fleet: Fleet) -> None:
    """Starting while NATS is away raises Unavailable and starts nothing."""
    ada = await fleet.join("ada", start=False)
    await fleet.server.kill()
    await until(lambda: not ada.nc.is_connected)
    with pytest.raises(Unavailable):
        await ada.manager.start()
    assert ada.manager.problem() == "not running"
    assert ada.manager.members() == ()


async def test_members_are_values() -> None:
    """A member's record survives the way through the bucket; anything else is no member."""
    member = Member("ada", "token", since_ms=1_700_000_000_000)
    assert Member.from_bytes(member.to_bytes()) == member
    assert Member.from_bytes(b'{"member": "ada", "incarnation": "token"}') == Member("ada", "token")
    assert Member.from_bytes(b'{"member": 1}') is None
