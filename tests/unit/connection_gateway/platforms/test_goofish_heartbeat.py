"""The judgement of a link."""

from __future__ import annotations

from frontdesk.connection_gateway.platforms.goofish.wire.heartbeat import Heartbeat, HeartbeatSettings


def _beat(health: Heartbeat, now: float) -> float:
    """Do what the shell does at `now`; the time of its next look."""
    if health.due(now):
        health.sent(now)
    return now + health.wait(now)


def test_a_half_open_link_is_found_within_35_seconds() -> None:
    """With the default settings silence right after the last frame is death 30 s later."""
    health = Heartbeat(HeartbeatSettings(), 0.0)
    looks, now = 0, 0.0
    while not health.dead(now):
        now, looks = _beat(health, now), looks + 1
    assert now == 30.0
    assert looks < 10


def test_frames_without_heartbeat_answers_are_a_zombie() -> None:
    """Three unanswered beats in a row are death although other frames keep arriving."""
    health = Heartbeat(HeartbeatSettings(interval=15, timeout=30, max_missed=3), 0.0)
    now = 0.0
    while not health.dead(now):
        health.heard(now)
        now = _beat(health, now)
    assert now == 60.0
    assert health.dead(now) == "3 heartbeats without an answer"


def test_a_confirmed_link_lives() -> None:
    """An answer to each beat keeps the link alive for as long as it goes on."""
    health = Heartbeat(HeartbeatSettings(), 0.0)
    now = 0.0
    for _ in range(100):
        assert health.dead(now) == ""
        now = _beat(health, now)
        health.heard(now)
        health.confirmed()
    assert now > 1000


def test_not_reading_is_no_fault_of_the_peer() -> None:
    """What was missed while nobody read is forgiven."""
    health = Heartbeat(HeartbeatSettings(), 0.0)
    health.sent(15.0)
    health.sent(30.0)
    assert health.dead(50.0)
    health.excuse(50.0)
    assert health.dead(50.0) == ""
    assert health.missed == 0


def test_a_look_is_never_due_at_once() -> None:
    """A late caller is told a positive wait, so it cannot spin."""
    assert Heartbeat(HeartbeatSettings(), 0.0).wait(1000.0) > 0
