"""The status bar: what runs, whether geometry, pixels and audit may be trusted, and on what it computes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.presenters.audit import AuditState
from app.presenters.jobs import JobsState
from app.presenters.ports import Presenter, seconds_in_words
from app.presenters.training_runs import TrainingRunsState
from app.presenters.training_words import status_in_words
from core.domain.study import SeriesSummary

DISCLAIMER = "Not for primary diagnosis"


@dataclass(frozen=True)
class Badge:
    """A short fact with its level (``none``, ``verified``, ``caution``, ``danger``) and the long version."""

    text: str
    level: str = "none"
    explanation: str = ""


@dataclass(frozen=True)
class StatusState:
    """What the status bar shows; ``activity`` is empty when nothing runs. ``cancels`` names what Cancel stops.

    ``training_act`` is what the button beside the training does: ``"pause"``, ``"resume"`` or nothing.
    """

    activity: str = ""
    fraction: float = 0.0
    cancels: str = ""
    geometry: Badge = Badge("geometry –", explanation="No series is open.")
    lossy: Badge = Badge("lossy –", explanation="No series is open.")
    audit: Badge = Badge("audit –", explanation="The audit trail was not verified yet.")
    device: str = "CPU"
    questions: Badge | None = None
    imports: Badge | None = None
    training: Badge | None = None
    training_act: str = ""


class StatusPresenter(Presenter[StatusState]):
    """Collects from the other presenters; an import or a loading series goes before a running model."""

    def __init__(self) -> None:
        super().__init__(StatusState())
        self._tasks: dict[str, tuple[str, float]] = {}
        self._job: tuple[str, float] | None = None

    def set_task(self, name: str, words: str, fraction: float) -> None:
        """Show what the GUI process itself does (``import``, ``load``, ``export``)."""
        self._tasks[name] = (words, fraction)
        self._settle()

    def end_task(self, name: str) -> None:
        """Say that a task is over."""
        self._tasks.pop(name, None)
        self._settle()

    def set_jobs(self, state: JobsState) -> None:
        """Take the jobs."""
        job = state.running
        self._job = None
        if job is not None:
            phase = job.phase or ("waiting" if job.state == "queued" else "starting")
            parts = [
                job.title,
                phase,
                _left(job.eta_seconds),
                f"{state.waiting} more" if state.waiting > 1 else "",
            ]
            self._job = (" · ".join(part for part in parts if part), job.fraction)
        if state.device:
            self._publish(replace(self.state, device=state.device.upper()))
        self._settle()

    def show_state(self, state: JobsState) -> None:
        """Take the jobs, as a view of their presenter."""
        self.set_jobs(state)

    def _settle(self) -> None:
        if self._tasks:
            name = next(iter(self._tasks))
            words, fraction = self._tasks[name]
        elif self._job is not None:
            name, (words, fraction) = "job", self._job
        else:
            name, words, fraction = "", "", 0.0
        self._publish(replace(self.state, activity=words, fraction=fraction, cancels=name))

    def set_series(self, summary: SeriesSummary | None) -> None:
        """Take the open series."""
        self._publish(replace(self.state, geometry=geometry_badge(summary), lossy=lossy_badge(summary)))

    def set_questions(self, waiting: int) -> None:
        """Take how many questions wait for an answer."""
        words = f"{waiting} question" if waiting == 1 else f"{waiting} questions"
        badge = Badge(words, "caution", "Go to the question that waits") if waiting else None
        self._publish(replace(self.state, questions=badge))

    def set_imports(self, badge: Badge | None) -> None:
        """Take what imports left to look at."""
        self._publish(replace(self.state, imports=badge))

    def set_training(self, state: TrainingRunsState) -> None:
        """Take the trainings; the one that goes on stands beside the jobs."""
        run = state.active
        if run is None:
            self._publish(replace(self.state, training=None, training_act=""))
            return
        act = "pause" if run.can_pause else "resume" if run.can_resume else ""
        badge = Badge(status_in_words(run), explanation=f"{run.title}: follow the training")
        self._publish(replace(self.state, training=badge, training_act=act))

    def set_audit(self, state: AuditState) -> None:
        """Take the state of the audit trail."""
        self._publish(replace(self.state, audit=audit_badge(state)))


def geometry_badge(summary: SeriesSummary | None) -> Badge:
    """Return whether distances and volumes of a series may be trusted."""
    if summary is None:
        return Badge("geometry –", explanation="No series is open.")
    reasons = "\n".join(issue.message for issue in summary.issues)
    if any(issue.blocks_volumetry for issue in summary.issues):
        return Badge("geometry ✗", "danger", f"Distances and volumes are not reliable.\n{reasons}")
    if summary.issues:
        return Badge("geometry !", "caution", reasons)
    if summary.kind != "volume":
        return Badge("geometry –", explanation="A single picture: no volume.")
    return Badge("geometry ✓", "verified", "Slices are parallel, complete and evenly spaced.")


def lossy_badge(summary: SeriesSummary | None) -> Badge:
    """Return whether the pixels were compressed with loss."""
    if summary is None:
        return Badge("lossy –", explanation="No series is open.")
    if summary.lossy:
        return Badge(
            "lossy ✓", "caution", "The pictures were compressed with loss: fine detail may be missing."
        )
    return Badge("lossy –", explanation="The pictures were not compressed with loss.")


def audit_badge(state: AuditState) -> Badge:
    """Return whether the audit trail is whole."""
    if state.check is None:
        words = "audit …" if state.verifying else "audit –"
        return Badge(words, explanation="The audit trail was not verified yet.")
    if state.check.ok:
        return Badge("audit ✓", "verified", state.words)
    return Badge("audit ✗", "danger", state.words)


def _left(seconds: float | None) -> str:
    return f"{seconds_in_words(seconds).removeprefix('~')} left" if seconds is not None else ""
