"""The training screens as one: what one of them does, the others follow."""

from __future__ import annotations

from collections.abc import Callable

from app.presenters.candidates import CandidatesPresenter
from app.presenters.model_monitor import MonitorPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Tasks
from app.presenters.ports_training import TrainingEngine
from app.presenters.reading_activity import ReadingActivity
from app.presenters.training_runs import TrainingRunsPresenter, TrainingRunsState
from app.presenters.training_setup import TrainingSetupPresenter
from core.domain.training import TrainingEvent, TrainingRun, TrainingState

_COMPUTING = (TrainingState.RUNNING, TrainingState.COMPARING)
SETUP, PROGRESS, CANDIDATE, MONITOR = "setup", "progress", "candidate", "monitor"


class TrainingDesk:
    """Holds the presenters; ``show_page`` is called when something is to be seen that the reader just did."""

    def __init__(self, engine: TrainingEngine, tasks: Tasks, notices: NoticesPresenter) -> None:
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self.setup = TrainingSetupPresenter(engine, tasks, notices)
        self.runs = TrainingRunsPresenter(engine, tasks, notices)
        self.candidates = CandidatesPresenter(engine, tasks, notices)
        self.monitor = MonitorPresenter(engine, tasks, notices)
        self.activity = ReadingActivity(engine.note_reading)
        self.show_page: Callable[[str], None] = lambda _: None
        self.setup.started = self._on_started
        self.runs.finished = self._on_finished
        self.runs.attach(self)

    def begin(self) -> None:
        """Follow the trainings; called when the engine is open."""

        def take(event: TrainingEvent) -> None:
            self._tasks.post(lambda: self.runs.on_event(event))

        self._tasks.io(
            lambda: self._engine.listen_to_training(take), lambda _: self.runs.refresh(), self._notices.report
        )

    def show_state(self, state: TrainingRunsState) -> None:
        """Take the trainings: only while one computes does it matter that somebody reads."""
        self.activity.training = any(run.state in _COMPUTING for run in state.runs)

    def look(self, page: str) -> None:
        """Read again what a page shows."""
        {
            SETUP: self.setup.refresh,
            PROGRESS: self.runs.refresh,
            CANDIDATE: self.candidates.refresh,
            MONITOR: self.monitor.refresh,
        }[page]()

    def _on_started(self, run: TrainingRun) -> None:
        self.runs.take(run)
        self.runs.choose(run.run_id)
        self.show_page(PROGRESS)

    def _on_finished(self, run: TrainingRun) -> None:
        self.candidates.refresh(run.candidate_id)
