"""A silent worker is dead only when it does nothing, and never because we slept ourselves."""

from __future__ import annotations

from core.jobs.liveness import Liveness, Timing

TIMING = Timing(timeout_s=30.0, hard_factor=10.0)


def watch(liveness: Liveness, seconds: int, cpu_per_s: float | None, start: int = 0) -> int | None:
    """Look once per second; the second of death or None."""
    for now in range(start + 1, start + seconds + 1):
        if liveness.is_dead(float(now), None if cpu_per_s is None else now * cpu_per_s):
            return now
    return None


def test_the_beat_is_at_most_half_the_patience() -> None:
    assert TIMING.beat_s == 5.0
    assert Timing(timeout_s=1.0).beat_s == 0.5


def test_silence_without_work_is_death_after_the_timeout() -> None:
    assert watch(Liveness(TIMING, 0.0), 100, 0.0) == 30
    assert watch(Liveness(TIMING, 0.0), 100, None) == 30


def test_a_beat_starts_the_patience_anew() -> None:
    liveness = Liveness(TIMING, 0.0)
    assert watch(liveness, 29, 0.0) is None
    liveness.beat(29.0)
    assert watch(liveness, 100, 0.0, start=29) == 59


def test_a_silent_worker_that_computes_is_spared_up_to_the_hard_limit() -> None:
    assert watch(Liveness(TIMING, 0.0), 1000, 1.0) == 300


def test_a_worker_that_stops_computing_is_found_one_timeout_later() -> None:
    liveness = Liveness(TIMING, 0.0)
    assert watch(liveness, 100, 1.0) is None
    assert all(not liveness.is_dead(float(now), 100.0) for now in range(101, 119))
    assert any(liveness.is_dead(float(now), 100.0) for now in range(119, 160))


def test_after_our_own_sleep_the_worker_gets_its_patience_back() -> None:
    liveness = Liveness(TIMING, 0.0)
    assert watch(liveness, 5, 0.0) is None
    assert not liveness.is_dead(3600.0, 0.0)
    assert watch(liveness, 29, 0.0, start=3600) is None
    assert watch(liveness, 5, 0.0, start=3629) == 3630
