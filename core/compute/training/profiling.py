"""Where the time and the memory of a training go: for a run that asks for it, nothing otherwise.

After some batches to warm up, a few are recorded by ``torch.profiler`` (``profile/trace.json`` for a trace viewer,
``profile/table.txt``), then up to fifty are timed by phase without it. ``profile/summary.json`` holds the numbers.
"""

# ruff: noqa: ARG002
# (Lightning calls its hooks with arguments that not every hook needs.)

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import psutil
import torch

from core.compute.inference.output import peak_rss_mb
from core.compute.training.events import EventLog
from core.compute.training.feed import Batch, Feed
from core.compute.training.module import TrainingModule
from core.config.atomic import atomic_write_text
from core.config.hardware import HardwareReading, memory_slope_mb_per_minute

FOLDER = "profile"
PHASES = ("data", "forward", "backward", "optimiser", "other")
_WARM_UP, _RECORDED, _TIMED, _ROWS, _TOP = 3, 5, 50, 25, 10
_SLOW_DATA_SHARE, _LEAK_MB_PER_MINUTE = 0.4, 20.0
_READINGS = 240


class Profiler(pl.Callback):
    """Lightning's callback that measures a training.

    Phases are ``data`` (waiting for the next batch), ``forward`` (network and loss), ``backward``, ``optimiser``
    (clipping, step, averaged weights, the step's event) and ``other`` (copying the batch to the device, checkpoints).
    On a graphics card each mark waits for it, so that a phase is charged with its own work.

    Parameters
    ----------
    out : pathlib.Path
        The run's folder.
    batches : int
        How many batches this training will have; a short one is divided among warming up, recording and timing.
    """

    def __init__(self, out: Path, events: EventLog, batches: int) -> None:
        self.folder, self.events = out / FOLDER, events
        self.warm_up, self.recorded, self.timed = shares_of(batches)
        self.summary: dict[str, Any] = {}
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._count, self._measured, self._wall = 0, 0, 0.0
        self._mark = self._began = 0.0
        self._data_s = 0.0
        self._recorder: torch.profiler.profile | None = None
        self._top: list[dict[str, Any]] = []
        self._memory = MemoryLine()
        self._cuda = False

    def watched(self, feed: Feed) -> Feed:
        """Return the same cases with a clock on the training batches."""
        return _WatchedFeed(feed, self)

    # -- Lightning's hooks ---------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prepare the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._cuda = pl_module.device.type == "cuda"
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        self._began = self._now()

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Begin to record; begin the batch's clock."""
        if self._count == self.warm_up and self.recorded:
            self._record()
        self._mark = self._now()

    def on_before_backward(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        loss: torch.Tensor,
    ) -> None:
        """The forward pass is over."""
        self._charge("forward")

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The backward pass is over."""
        self._charge("backward")

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """The step is over."""
        self._charge("optimiser")
        now = self._mark
        if self._measuring:
            self._measured += 1
            self._wall += now - self._began
            self._seconds["data"] += self._data_s
        self._began, self._data_s = now, 0.0
        self._count += 1
        if self._recorder is not None and self._count >= self.warm_up + self.recorded:
            self._write_record()
            self._began = self._now()
        self._memory.look()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What is validated is not the training's time."""
        self._write_record()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave out what lay between two epochs."""
        self._began, self._data_s = self._now(), 0.0

    def on_exception(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        exception: BaseException,
    ) -> None:
        """End a recording."""
        self._write_record()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the summary and say what it means."""
        assert isinstance(pl_module, TrainingModule)
        self._write_record()
        self.summary = self._summary()
        text = json.dumps(self.summary, indent=2, ensure_ascii=False) + "\n"
        atomic_write_text(self.folder / "summary.json", text)
        self.events.emit("profile", step=pl_module.position.step, **self.summary)
        for sentence in self.summary["notes"]:
            self.events.note("profile", sentence)

    # -- measuring -----------------------------------------------------------------------------

    @property
    def _measuring(self) -> bool:
        first = self.warm_up + (self.recorded if self.timed else 0)
        return first <= self._count < first + (self.timed or self.recorded)

    def waited(self, seconds: float) -> None:
        """Add time that the training waited for a batch."""
        self._data_s += seconds

    def _now(self) -> float:
        if self._cuda and self._measuring:
            torch.cuda.synchronize()
        return time.perf_counter()

    def _charge(self, phase: str) -> None:
        now = self._now()
        if self._measuring:
            self._seconds[phase] += now - self._mark
        self._mark = now

    def _record(self) -> None:
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self._cuda:
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        self._recorder = torch.profiler.profile(
            activities=activities, profile_memory=True, record_shapes=True
        )
        self._recorder.start()

    def _write_record(self) -> None:
        """Stop recording and write the trace and the tables."""
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        recorder.stop()
        recorder.export_chrome_trace(str(self.folder / "trace.json"))
        rows = recorder.key_averages()
        where = "cuda" if self._cuda else "cpu"
        tables = [
            f"{title}\n{rows.table(sort_by=key, row_limit=_ROWS, max_name_column_width=60)}"
            for title, key in (
                ("Operators by their own time", f"self_{where}_time_total"),
                ("Operators by the memory that they took", f"self_{where}_memory_usage"),
            )
        ]
        atomic_write_text(self.folder / "table.txt", "\n\n".join(tables) + "\n")
        self._top = top_operators(rows, cuda=self._cuda)

    def _summary(self) -> dict[str, Any]:
        count = max(self._measured, 1)
        seconds = {phase: value / count for phase, value in self._seconds.items()}
        seconds["other"] = max(0.0, self._wall / count - sum(seconds.values()))
        total = sum(seconds.values())
        slope = self._memory.slope()
        document = {
            "batches": self._measured,
            "seconds_per_batch": {phase: round(value, 6) for phase, value in seconds.items()},
            "shares": {phase: round(value / total, 4) if total else 0.0 for phase, value in seconds.items()},
            "peak_memory_mb": round(peak_rss_mb(), 1),
            "peak_cuda_memory_mb": round(torch.cuda.max_memory_allocated() / 1e6, 1) if self._cuda else None,
            "memory_growth_mb_per_minute": None if slope is None else round(slope, 2),
            "top_operators": self._top,
        }
        return document | {"notes": notes_on(document)}


class MemoryLine:
    """This process's memory over a run, at most a reading a second and 240 in all, evenly spread."""

    def __init__(self) -> None:
        self._readings: list[HardwareReading] = []
        self._every_s, self._last = 1.0, float("-inf")
        self._process = psutil.Process()

    def look(self) -> None:
        """Take a reading when it is time for one."""
        if time.monotonic() - self._last < self._every_s:
            return
        self._last = time.monotonic()
        self.add(datetime.now(UTC), self._process.memory_info().rss / (1 << 20))

    def add(self, when: datetime, memory_mb: float) -> None:
        """Keep a reading; when there are too many, every second one goes."""
        stamp = when.isoformat(timespec="milliseconds")
        self._readings.append(HardwareReading(stamp, 0.0, 0.0, 0.0, memory_mb, 0.0))
        if len(self._readings) > _READINGS:
            self._readings, self._every_s = self._readings[::2], 2 * self._every_s

    def slope(self) -> float | None:
        """Return the steady growth in MiB per minute; None when it isn't steady or the run was too short to tell."""
        return memory_slope_mb_per_minute(self._readings)


class _WatchedFeed:
    """A feed whose training batches are waited for with a clock."""

    def __init__(self, feed: Feed, profiler: Profiler) -> None:
        self._feed, self._profiler = feed, profiler

    @property
    def counts(self) -> Mapping[str, int]:
        """Cases by part."""
        return self._feed.counts

    @property
    def class_counts(self) -> Sequence[int]:
        """Training cases of each class."""
        return self._feed.class_counts

    def counts_of(self, task: str) -> Sequence[int]:
        """Return the same of one of several tasks."""
        return self._feed.counts_of(task)

    def batches_per_epoch(self, batch_size: int, world: int) -> int:
        """Return how many batches each process gets per epoch."""
        return self._feed.batches_per_epoch(batch_size, world)

    def train_batches(
        self, epoch: int, first: int, batch_size: int, rank: int, world: int
    ) -> Iterator[Batch]:
        """Yield the batches of an epoch from the ``first`` on."""
        source = self._feed.train_batches(epoch, first, batch_size, rank, world)
        try:
            while True:
                before = time.perf_counter()
                batch = next(source, None)
                self._profiler.waited(time.perf_counter() - before)
                if batch is None:
                    return
                yield batch
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    def validation_batches(self, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield this process's share of the validation part."""
        return self._feed.validation_batches(rank, world)

    def test_batches(self) -> Iterator[Batch]:
        """Yield the test part."""
        return self._feed.test_batches()


def shares_of(batches: int) -> tuple[int, int, int]:
    """Return how many batches warm up, are recorded and are timed; a short training gets fewer of each."""
    warm_up = min(_WARM_UP, batches // 3)
    recorded = min(_RECORDED, max(1, (batches - warm_up) // 2)) if batches else 0
    return warm_up, recorded, min(_TIMED, batches - warm_up - recorded)


def top_operators(rows: Any, *, cuda: bool) -> list[dict[str, Any]]:
    """Return the operators with the most time of their own: name, calls, seconds, MB taken."""
    where = "device" if cuda else "cpu"
    ordered = sorted(rows, key=lambda row: -float(getattr(row, f"self_{where}_time_total")))
    return [
        {
            "name": str(row.key),
            "calls": int(row.count),
            "seconds": round(float(getattr(row, f"self_{where}_time_total")) / 1e6, 6),
            "memory_mb": round(float(getattr(row, f"self_{where}_memory_usage")) / 1e6, 2),
        }
        for row in ordered[:_TOP]
    ]


def notes_on(summary: Mapping[str, Any]) -> list[str]:
    """Return what somebody should do about a profile, in sentences."""
    notes = []
    data = float(summary["shares"]["data"])
    if data > _SLOW_DATA_SHARE:
        notes.append(
            f"{100 * data:.0f} % of a batch's time is waiting for data: raise data.workers or use data.cache."
        )
    growth = summary["memory_growth_mb_per_minute"]
    if growth is not None and growth > _LEAK_MB_PER_MINUTE:
        notes.append(f"Memory grew steadily by {growth:.0f} MB a minute: it may be leaking.")
    return notes
