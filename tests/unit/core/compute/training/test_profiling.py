"""What a profile measures, and that a training without it leaves none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.compute.training.events import read_events
from core.compute.training.profiling import MemoryLine, Profiler, notes_on, shares_of
from core.compute.training.run import train_recipe
from tests.fakes.shape_training import shape_recipe, write_shapes


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profiled")
    data = write_shapes(folder / "data", count=20)
    recipe = shape_recipe(training__epochs=4, training__accumulate=2)
    train_recipe(recipe, data=data, out=folder / "run", profile=True)
    return folder / "run"


def test_a_profile_has_a_trace_a_table_and_a_summary(run: Path) -> None:
    trace = json.loads((run / "profile/trace.json").read_text())
    names = {str(event.get("name")) for event in trace["traceEvents"]}
    assert any("convolution" in name for name in names)
    table = (run / "profile/table.txt").read_text()
    assert "Operators by their own time" in table
    assert "Operators by the memory that they took" in table
    assert "aten::" in table


def test_the_phases_of_a_batch_add_up(run: Path) -> None:
    summary = json.loads((run / "profile/summary.json").read_text())
    seconds = summary["seconds_per_batch"]
    assert set(seconds) == {"data", "forward", "backward", "optimiser", "other"}
    assert seconds["forward"] > 0
    assert seconds["backward"] > 0
    assert seconds["optimiser"] > 0
    assert sum(summary["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert summary["batches"] > 0
    assert summary["peak_memory_mb"] > 50
    assert summary["peak_cuda_memory_mb"] is None
    assert summary["top_operators"][0]["calls"] > 0


def test_the_profile_is_in_the_runs_record_and_among_its_events(run: Path) -> None:
    summary = json.loads((run / "profile/summary.json").read_text())
    assert json.loads((run / "run.json").read_text())["profile"] == summary
    events = [event for event in read_events(run / "events.jsonl") if event["event"] == "profile"]
    assert len(events) == 1
    assert events[0]["seconds_per_batch"] == summary["seconds_per_batch"]


def test_a_profiled_training_takes_the_same_steps(run: Path, tmp_path: Path) -> None:
    recipe = shape_recipe(training__epochs=4, training__accumulate=2)
    train_recipe(recipe, data=run.parent / "data", out=tmp_path / "plain")
    assert not (tmp_path / "plain/profile").exists()
    losses = [
        [event["loss"] for event in read_events(folder / "events.jsonl") if event["event"] == "step"]
        for folder in (run, tmp_path / "plain")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) > 4


class Batches:
    """A feed of three batches."""

    counts = {"train": 3}
    class_counts = (1, 2)

    def __init__(self) -> None:
        self.closed = False

    def batches_per_epoch(self, batch_size: int, world: int) -> int:
        """Return three."""
        del batch_size, world
        return 3

    def train_batches(self, epoch: int, first: int, *_: Any) -> Iterator[dict[str, Any]]:
        """Yield them."""
        try:
            for number in range(first, 3):
                yield {"epoch": epoch, "number": number}
        finally:
            self.closed = True

    def validation_batches(self, rank: int = 0, world: int = 1) -> Iterator[dict[str, Any]]:
        """Yield one."""
        yield {"rank": rank, "world": world}

    def test_batches(self) -> Iterator[dict[str, Any]]:
        """Yield none."""
        yield from ()


def test_a_watched_feed_gives_the_same_batches(tmp_path: Path) -> None:
    feed = Batches()
    watched = Profiler(tmp_path, None, 3).watched(feed)  # type: ignore[arg-type]
    assert [batch["number"] for batch in watched.train_batches(0, 1, 8, 0, 1)] == [1, 2]
    assert feed.closed
    assert list(watched.validation_batches(1, 2)) == [{"rank": 1, "world": 2}]
    assert list(watched.test_batches()) == []
    assert (watched.counts, watched.class_counts, watched.batches_per_epoch(1, 1)) == (
        {"train": 3},
        (1, 2),
        3,
    )


@pytest.mark.parametrize(
    ("batches", "shares"),
    [(0, (0, 0, 0)), (1, (0, 1, 0)), (2, (0, 1, 1)), (3, (1, 1, 1)), (20, (3, 5, 12)), (900, (3, 5, 50))],
)
def test_a_short_training_is_divided(batches: int, shares: tuple[int, int, int]) -> None:
    assert shares_of(batches) == shares
    assert sum(shares) <= batches


def test_steady_growth_of_memory_is_told_and_a_saw_tooth_is_not() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    growing, jagged = MemoryLine(), MemoryLine()
    for second in range(600):
        when = start + timedelta(seconds=second)
        growing.add(when, 500 + second * 1.5)
        jagged.add(when, 500 + 100 * (second // 7 % 2))
    assert growing.slope() == pytest.approx(90, rel=1e-6)
    assert jagged.slope() is None
    shares = {"data": 0.5}
    notes = notes_on({"shares": shares, "memory_growth_mb_per_minute": growing.slope()})
    assert "50 %" in notes[0]
    assert "90 MB a minute" in notes[1]
    assert notes_on({"shares": {"data": 0.1}, "memory_growth_mb_per_minute": None}) == []
