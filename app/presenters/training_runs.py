"""The trainings: one list for the page and the status bar, the curves of the one that is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, Tasks
from app.presenters.ports_training import TrainingEngine
from app.presenters.training_curves import Curve, CurveStore
from core.domain.errors import AppError
from core.domain.training import (
    ACTIVE_STATES,
    CurvePoint,
    TrainingChanged,
    TrainingCurves,
    TrainingEvent,
    TrainingRun,
    TrainingState,
)

_GOING = (*ACTIVE_STATES, TrainingState.QUEUED)


@dataclass(frozen=True)
class TrainingRunsState:
    """All trainings, newest first; ``chosen`` is the one that is looked at.

    ``revision`` counts up when its curves changed: ``TrainingRunsPresenter.curves`` returns them.
    """

    runs: tuple[TrainingRun, ...] = ()
    chosen: str = ""
    revision: int = 0
    loaded: bool = False

    @property
    def run(self) -> TrainingRun | None:
        """The training that is looked at."""
        return next((run for run in self.runs if run.run_id == self.chosen), None)

    @property
    def active(self) -> TrainingRun | None:
        """The training that has a worker, else the oldest one that waits."""
        going = [run for run in self.runs if run.state in _GOING]
        return next((run for run in going if run.state in ACTIVE_STATES), going[-1] if going else None)

    @property
    def can_pause(self) -> bool:
        """Whether Pause does something."""
        return self.run is not None and self.run.can_pause

    @property
    def can_resume(self) -> bool:
        """Whether Resume does something."""
        return self.run is not None and self.run.can_resume

    @property
    def can_cancel(self) -> bool:
        """Whether Cancel does something."""
        return self.run is not None and self.run.can_cancel


class TrainingRunsPresenter(Presenter[TrainingRunsState]):
    """Draws runs and values from events; reads everything again when asked to, as after a start."""

    def __init__(self, engine: TrainingEngine, tasks: Tasks, notices: NoticesPresenter) -> None:
        super().__init__(TrainingRunsState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._store = CurveStore()
        self._restoring = ""
        self._early: list[CurvePoint] = []
        self._events = 0
        self._told: dict[str, int] = {}
        self.finished: Callable[[TrainingRun], None] = lambda _: None

    def curves(self) -> tuple[Curve, ...]:
        """Return the curves of the training that is looked at."""
        return self._store.curves()

    @property
    def broken_values(self) -> int:
        """How many values were no numbers and can't be drawn."""
        return self._store.broken

    def refresh(self) -> None:
        """Read the trainings, and the curves of the newest or chosen one."""
        asked = self._events
        self._tasks.io(
            self._engine.trainings, lambda runs: self._take_runs(runs, asked), self._notices.report
        )

    def _take_runs(self, runs: Sequence[TrainingRun], asked: int) -> None:
        # What an event told after the question was asked is newer than the answer.
        newer = {run.run_id: run for run in self.state.runs if self._told.get(run.run_id, 0) > asked}
        listed = tuple(newer.pop(run.run_id, run) for run in runs)
        self._publish(replace(self.state, runs=(*newer.values(), *listed), loaded=True))
        self._choose_something()

    def choose(self, run_id: str) -> None:
        """Look at a training; its curves are read from what it recorded."""
        if run_id == self.state.chosen:
            return
        self._store, self._early, self._restoring = CurveStore(), [], run_id
        self._publish(replace(self.state, chosen=run_id, revision=self.state.revision + 1))
        if not run_id:
            return

        def done(points: Sequence[CurvePoint]) -> None:
            if self._restoring != run_id:
                return
            self._restoring = ""
            self._store.add(points)
            # What came while the record was read may stand in it already: a step takes its earlier place.
            self._store.add(self._early)
            self._early = []
            self._publish(replace(self.state, revision=self.state.revision + 1))

        def failed(error: AppError) -> None:
            if self._restoring == run_id:
                self._restoring = ""
                self._notices.report(error)

        self._tasks.io(lambda: self._engine.training_curves(run_id), done, failed)

    def _choose_something(self) -> None:
        if self.state.run is None:
            wanted = self.state.active or (self.state.runs[0] if self.state.runs else None)
            self.choose(wanted.run_id if wanted else "")

    # -- events ------------------------------------------------------------------------------------

    def on_event(self, event: TrainingEvent) -> None:
        """Take an event; on the GUI thread."""
        if isinstance(event, TrainingCurves):
            self._take_points(event)
        elif isinstance(event, TrainingChanged):
            self.take(event.run)

    def _take_points(self, event: TrainingCurves) -> None:
        if event.run_id != self.state.chosen:
            return
        if self._restoring:
            self._early.extend(event.points)
            return
        self._store.add(event.points)
        self._publish(replace(self.state, revision=self.state.revision + 1))

    def take(self, run: TrainingRun) -> None:
        """Take the present state of a training."""
        self._events += 1
        self._told[run.run_id] = self._events
        before = next((known for known in self.state.runs if known.run_id == run.run_id), None)
        if before is None:
            runs = (run, *self.state.runs)
        else:
            runs = tuple(run if known.run_id == run.run_id else known for known in self.state.runs)
        self._publish(replace(self.state, runs=runs))
        self._choose_something()
        if before is not None and before.state is not run.state:
            self._tell(run)

    def _tell(self, run: TrainingRun) -> None:
        if run.state is TrainingState.SUCCEEDED:
            self._notices.say(
                "done",
                f"{run.title}: training is done.",
                "Compare the candidate in Training; it is used only after somebody promotes it.",
            )
        elif run.state is TrainingState.FAILED:
            self._notices.say("danger", run.error or f"{run.title}: training failed.", run.remedy)
        elif run.state is TrainingState.INTERRUPTED:
            self._notices.say("caution", run.error or f"{run.title}: training was interrupted.", run.remedy)
        if run.is_final:
            self.finished(run)

    # -- acts --------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Let the training rest."""
        if self.state.can_pause:
            self._act(self._engine.pause_training, self.state.chosen)

    def resume(self) -> None:
        """Let the training go on."""
        if self.state.can_resume:
            self._act(self._engine.resume_training, self.state.chosen)

    def cancel(self) -> None:
        """End the training."""
        if self.state.can_cancel:
            self._act(self._engine.cancel_training, self.state.chosen)

    def pause_or_resume_active(self) -> None:
        """What the button of the status bar does."""
        run = self.state.active
        if run is not None and run.can_pause:
            self._act(self._engine.pause_training, run.run_id)
        elif run is not None and run.can_resume:
            self._act(self._engine.resume_training, run.run_id)

    def _act(self, act: Callable[[str], None], run_id: str) -> None:
        self._tasks.io(lambda: act(run_id), lambda _: self.refresh(), self._notices.report)
