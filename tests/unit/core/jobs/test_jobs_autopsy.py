"""A death is told in words that help."""

from __future__ import annotations

import signal

import pytest

from core.jobs import autopsy
from core.jobs.autopsy import Vitals, describe_death, first_look

GB = 1024.0


def vitals(peak_gb: float, available_gb: float = 8.0, least_gb: float = 6.0) -> Vitals:
    return Vitals(available_gb * GB, least_gb * GB, 16.0 * GB, autopsy._oom_kills(), peak_gb * GB)


def test_a_kill_for_want_of_memory_tells_what_was_held_and_what_there_was() -> None:
    text = describe_death(-signal.SIGKILL, vitals(7.5, least_gb=0.2))
    assert "probably out of memory" in text
    assert "7.5 GB" in text
    assert "8.0 GB of 16.0 GB were available" in text


def test_a_kill_with_memory_to_spare_is_not_blamed_on_memory() -> None:
    text = describe_death(-signal.SIGKILL, vitals(0.3))
    assert "killed from outside" in text
    assert "memory was probably not the reason" in text


def test_the_kernels_own_count_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = vitals(0.3)
    monkeypatch.setattr(autopsy, "_oom_kills", lambda: seen.oom_kills + 1)
    assert "because memory ran out" in describe_death(-signal.SIGKILL, seen)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (-int(signal.SIGSEGV), "crashed (SIGSEGV)"),
        (-int(signal.SIGABRT), "crashed (SIGABRT)"),
        (-200, "signal 200"),
        (0, "exit status 0"),
        (7, "exit status 7"),
        (None, "broke off"),
    ],
)
def test_other_ends_are_named(status: int | None, words: str) -> None:
    assert words in describe_death(status, None)


def test_vitals_keep_the_worst() -> None:
    seen = first_look()
    seen.look(500.0)
    seen.look(100.0)
    assert seen.peak_rss_mb == 500.0
    assert seen.least_available_mb <= seen.available_mb
    assert seen.total_mb > 0
