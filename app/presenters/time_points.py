"""Time points of a 4-D series: loaded when they are looked at, their neighbours ahead of that, within a budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from app.presenters.ports import ReviewEngine, Tasks
from core.domain.errors import AppError
from core.domain.progress import CancelToken
from core.domain.volume import Volume

BUDGET_BYTES = 1 << 30


class TimePointStore:
    """Keeps the time points used last. All methods belong to the GUI thread; loading happens in the io pool.

    An answer for a series that is no longer open is dropped. One time point is read at a time, so that decoding a
    4-D series never takes all threads; what the reader asks for comes before what may be wanted next.

    Parameters
    ----------
    budget_bytes : int
        How much the voxels of all kept time points may take; the one on display is kept in any case.
    """

    def __init__(self, engine: ReviewEngine, tasks: Tasks, budget_bytes: int = BUDGET_BYTES) -> None:
        self._engine = engine
        self._tasks = tasks
        self._budget = budget_bytes
        self._kept: OrderedDict[int, Volume] = OrderedDict()
        self._key = ""
        self._generation = 0
        self._count = 0
        self._size = 0
        self._wanted = 0
        self._direction = 1
        self._loading: int | None = None
        self._cancel = CancelToken()
        self.arrived: Callable[[Volume], None] = lambda _: None
        self.failed: Callable[[AppError], None] = lambda _: None

    @property
    def loading(self) -> int | None:
        """The time point that is being read."""
        return self._loading

    @property
    def kept(self) -> tuple[int, ...]:
        """Time points that can be shown at once, the one used longest ago first."""
        return tuple(self._kept)

    def begin(self, key: str, generation: int) -> None:
        """Forget everything: another series is open."""
        self._cancel.cancel()
        self._cancel = CancelToken()
        self._kept.clear()
        self._key, self._generation, self._count, self._loading = key, generation, 0, None

    def take(self, volume: Volume) -> None:
        """Take the time point that the session has loaded; its neighbours follow."""
        self._count, self._size = volume.time_points, volume.voxels.nbytes
        self._wanted = volume.time_point
        self._keep(volume)
        self._ahead()

    def get(self, time_point: int) -> Volume | None:
        """Return a time point if it is kept."""
        volume = self._kept.get(time_point)
        if volume is not None:
            self._kept.move_to_end(time_point)
        return volume

    def want(self, time_point: int, direction: int = 1) -> None:
        """Load a time point if need be, then what lies next in ``direction``; ``arrived`` tells when it is there."""
        self._wanted, self._direction = time_point, direction
        if time_point in self._kept:
            self._ahead()
            return
        if self._loading != time_point:
            if self._loading is not None:
                self._cancel.cancel()
                self._cancel = CancelToken()
            self._load(time_point)

    def _room(self) -> int:
        """How many time points the budget holds, at least one."""
        return max(1, self._budget // max(1, self._size))

    def _ahead(self) -> None:
        """Load the next time point that isn't kept, as long as there is room."""
        if self._loading is not None or self._count < 2:
            return
        for distance in range(1, min(self._room(), self._count)):
            for step in (self._direction, -self._direction):
                # Around the end: a loop comes back to the first one.
                near = (self._wanted + step * distance) % self._count
                if distance <= self._reach(step) and near not in self._kept:
                    self._load(near)
                    return

    def _reach(self, step: int) -> int:
        """How far ahead in a direction: two thirds of the room where the reader goes, the rest behind."""
        room = self._room() - 1
        if room >= self._count - 1:
            return self._count
        ahead = max(1, room * 2 // 3)
        return ahead if step == self._direction else room - ahead

    def _load(self, time_point: int) -> None:
        self._loading = time_point
        generation, key, cancel = self._generation, self._key, self._cancel

        def done(volume: Volume) -> None:
            if generation != self._generation or cancel is not self._cancel:
                return
            self._loading = None
            self._keep(volume)
            self.arrived(volume)
            self._ahead()

        def failed(error: AppError) -> None:
            if generation != self._generation or cancel is not self._cancel:
                return
            self._loading = None
            if time_point == self._wanted:
                self.failed(error)

        self._tasks.io(lambda: self._engine.load_time_point(key, time_point, cancel), done, failed)

    def _keep(self, volume: Volume) -> None:
        self._kept[volume.time_point] = volume
        self._kept.move_to_end(volume.time_point)
        while len(self._kept) > self._room():
            self._kept.pop(self._farthest())

    def _farthest(self) -> int:
        """The time point that a reader who goes on in the same direction needs last."""

        def distance(time_point: int) -> int:
            ahead = (time_point - self._wanted) * self._direction % self._count
            behind = self._count - ahead
            return ahead if ahead <= self._reach(self._direction) else self._count + min(ahead, behind)

        return max(self._kept, key=distance)
