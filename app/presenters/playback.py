"""Time and motion: the time slider of 4-D series and the cine of frames, time points and stacks. Free of Qt."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter
from app.presenters.reading import ReadingPresenter
from app.presenters.time_points import TimePointStore
from core.domain.study import SeriesKind, SeriesSummary
from core.domain.volume import Volume

FRAMES, TIME, STACK = "frames", "time", "stack"
SPEEDS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
#: Pictures per second where the files state none.
USUAL_RATE = {FRAMES: 15.0, TIME: 5.0, STACK: 12.0}
_SLOWEST, _FASTEST = 0.2, 120.0
_WINDOW_MS = 1500.0
_TELL_MS = 500.0
_BEHIND = 0.9


@dataclass(frozen=True)
class PlaybackState:
    """The line under the pictures. ``kind`` is what is counted: frames, time points or the slices of a stack.

    ``rate`` are pictures per second as they should be; ``actual`` as they are while playing, 0 when not known yet.
    ``loading`` is the time point that is waited for, counted from 1, or 0.
    """

    visible: bool = False
    kind: str = ""
    position: int = 0
    count: int = 0
    words: str = ""
    playing: bool = False
    rate: float = 0.0
    stated: bool = False
    speed: float = 1.0
    actual: float = 0.0
    loading: int = 0

    @property
    def behind(self) -> bool:
        """Whether the machine can't keep up."""
        return self.playing and 0.0 < self.actual < _BEHIND * self.rate


class Clock(Protocol):
    """Ticks while something plays; a view has it."""

    def start(self, interval_ms: int) -> None:
        """Call ``PlaybackPresenter.tick`` about that often."""

    def stop(self) -> None:
        """Stop calling."""


class PlaybackPresenter(Presenter[PlaybackState]):
    """Moves through frames, time points or slices by hand and by the clock.

    The tempo of the recording is kept: where the machine is too slow, pictures are left out and the rate that is
    really reached is said. Time points that are still being read are waited for.
    """

    def __init__(self, notices: NoticesPresenter, reading: ReadingPresenter, store: TimePointStore) -> None:
        super().__init__(PlaybackState())
        self._reading = reading
        self._notices = notices
        self._store = store
        self._clock: Clock | None = None
        self._due: tuple[float, ...] = ()
        self._length_ms = 0.0
        self._began_ms = 0.0
        self._painted: deque[float] = deque()
        self._told_ms = 0.0
        self._waiting = -1
        store.arrived = self._on_arrived
        store.failed = self._on_failed
        reading.time_step = self.step_time
        reading.subscribe(self._follow)

    def set_clock(self, clock: Clock) -> None:
        """Take what ticks."""
        self._clock = clock

    # -- the series ----------------------------------------------------------------------------------

    def begin(self, summary: SeriesSummary, generation: int) -> None:
        """Another series is being opened."""
        self.stop()
        self._waiting = -1
        self._store.begin(summary.key, generation)
        self._publish(PlaybackState())

    def take(self, volume: Volume) -> None:
        """The series is complete: show the line if there is time in it."""
        summary = self._reading.summary
        kind = STACK
        if volume.time_points > 1:
            kind = TIME
            self._store.take(volume)
        elif volume.frame_times_ms or (summary is not None and summary.kind is SeriesKind.CINE):
            kind = FRAMES
        count = volume.time_points if kind == TIME else volume.geometry.shape_kji[0]
        self._schedule(kind, count, volume.frame_times_ms)
        self._publish(
            PlaybackState(
                visible=kind != STACK and count > 1,
                kind=kind,
                count=count,
                rate=self._rate(),
                stated=kind == FRAMES and len(volume.frame_times_ms) == count,
            )
        )
        self._follow()

    def _schedule(self, kind: str, count: int, times_ms: tuple[float, ...]) -> None:
        if kind == FRAMES and len(times_ms) == count and count > 1 and times_ms[-1] > times_ms[0]:
            self._due = tuple(t - times_ms[0] for t in times_ms)
            self._length_ms = self._due[-1] + float(np.median(np.diff(times_ms)))
        else:
            step = 1000.0 / USUAL_RATE[kind]
            self._due = tuple(n * step for n in range(count))
            self._length_ms = count * step

    def _rate(self) -> float:
        return 1000.0 * len(self._due) / self._length_ms if self._length_ms else 0.0

    # -- by hand -------------------------------------------------------------------------------------

    def step_time(self, steps: int) -> None:
        """Go to another time point; slice, zoom and window stay. Nothing happens in a series without time."""
        if self.state.kind == TIME:
            self.stop()
            now = self._waiting if self._waiting >= 0 else self.state.position
            self._go_to_time(min(max(now + steps, 0), self.state.count - 1), 1 if steps >= 0 else -1)

    def go_to(self, position: int) -> None:
        """Go to a frame, time point or slice, counted from 0."""
        position = min(max(position, 0), max(self.state.count - 1, 0))
        if self.state.kind == TIME:
            self._go_to_time(position, 1 if position >= self.state.position else -1)
        elif self.state.count:
            self._reading.go_to_number(position)

    def slide_to(self, position: int) -> None:
        """The reader took the slider: playing ends there."""
        self.stop()
        self.go_to(position)

    def _go_to_time(self, time_point: int, direction: int) -> None:
        volume = self._store.get(time_point)
        if volume is None:
            self._waiting = time_point
            self._publish(replace(self.state, loading=time_point + 1))
        else:
            self._waiting = -1
            self._reading.show_time_point(volume, self._reading.generation)
            self._publish(replace(self.state, loading=0))
        self._store.want(time_point, direction)

    def _on_arrived(self, volume: Volume) -> None:
        if volume.time_point == self._waiting:
            self._go_to_time(volume.time_point, 1)

    def _on_failed(self, error: object) -> None:
        self.stop()
        self._waiting = -1
        self._publish(replace(self.state, loading=0))
        self._notices.report(error)  # type: ignore[arg-type]

    # -- by the clock ----------------------------------------------------------------------------------

    def toggle(self) -> None:
        """Play or pause; a stack that isn't a cine plays too."""
        if self.state.playing:
            self.stop()
        elif self.state.count > 1 and self._clock is not None:
            self._painted.clear()
            self._began_ms = -1.0
            self._publish(replace(self.state, visible=True, playing=True, actual=0.0))
            self._clock.start(self._interval_ms())

    def stop(self) -> None:
        """Stay at the picture on display."""
        if self._clock is not None:
            self._clock.stop()
        if self.state.playing:
            self._publish(replace(self.state, playing=False, actual=0.0, loading=0))
            self._waiting = -1

    def faster(self, steps: int = 1) -> None:
        """Play faster or, with negative ``steps``, slower."""
        if self.state.count < 2:
            return
        nearest = min(range(len(SPEEDS)), key=lambda n: abs(SPEEDS[n] - self.state.speed))
        speed = SPEEDS[min(max(nearest + steps, 0), len(SPEEDS) - 1)]
        self._set_rate(self._rate() * speed, speed)

    def set_rate(self, rate: float) -> None:
        """Play at a number of pictures per second."""
        rate = min(max(rate, _SLOWEST), _FASTEST)
        if self._rate():
            self._set_rate(rate, rate / self._rate())

    def _set_rate(self, rate: float, speed: float) -> None:
        self._began_ms = -1.0
        self._painted.clear()
        self._publish(replace(self.state, speed=speed, rate=rate, actual=0.0))
        if self.state.playing and self._clock is not None:
            self._clock.start(self._interval_ms())

    def _interval_ms(self) -> int:
        """Half the shortest time between two pictures: late ticks then cost no whole picture."""
        steps = np.diff(self._due) if len(self._due) > 1 else np.array([100.0])
        positive = steps[steps > 0]
        shortest = float(positive.min()) if positive.size else 100.0
        return int(min(max(shortest / max(self.state.speed, 0.01) / 2, 4), 50))

    def tick(self, now_ms: float) -> None:
        """The clock ticked; ``now_ms`` is monotonic."""
        state = self.state
        if not state.playing or not self._due:
            return
        if self._waiting >= 0:
            # Nothing to show yet: the recording waits.
            self._began_ms = -1.0
            return
        if self._began_ms < 0:
            self._began_ms = now_ms - self._due[min(state.position, len(self._due) - 1)] / state.speed
        at = ((now_ms - self._began_ms) * state.speed) % self._length_ms
        due = bisect_right(self._due, at + 1e-6) - 1
        if due != state.position:
            self.go_to(due)
        self._tell(now_ms)

    def painted(self, now_ms: float) -> None:
        """A picture of the active viewport has reached the screen."""
        if self.state.playing:
            self._painted.append(now_ms)

    def _tell(self, now_ms: float) -> None:
        while self._painted and now_ms - self._painted[0] > _WINDOW_MS:
            self._painted.popleft()
        if now_ms - self._told_ms < _TELL_MS or len(self._painted) < 3:
            return
        self._told_ms = now_ms
        seconds = (self._painted[-1] - self._painted[0]) / 1000.0
        if seconds > 0:
            actual = min((len(self._painted) - 1) / seconds, self.state.rate)
            self._publish(replace(self.state, actual=round(actual, 1)))

    def _follow(self) -> None:
        """The pictures moved, by whatever hand."""
        state = self.state
        volume = self._reading.volume
        if not state.kind or volume is None:
            return
        if state.kind == TIME:
            position, count = volume.time_point, volume.time_points
            words = f"t {position + 1}/{count}"
        else:
            position, count = self._reading.number
            words = f"{'frame' if state.kind == FRAMES else 'im'} {position + 1}/{count}"
        if state.kind == STACK and count != state.count:
            self._schedule(STACK, count, ())
        self._publish(replace(state, position=position, count=count, words=words))
