"""How readers and models agree over time, and what to look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, Tasks
from app.presenters.ports_training import TrainingEngine
from app.presenters.wording import count_in_words
from core.domain.training import AgreementRow, DriftRow, ModelMonitor

NO_VERDICTS = "No verdicts yet. Accept, correct or reject what a model found; agreement is counted here."


@dataclass(frozen=True)
class VersionAgreement:
    """Verdicts on one version of a model; ``weeks`` are oldest first, ``alerts`` are sentences."""

    model_id: str
    title: str
    version: str
    weeks: tuple[AgreementRow, ...]
    alerts: tuple[str, ...] = ()

    @property
    def findings(self) -> int:
        """How many findings were decided on."""
        return sum(week.findings for week in self.weeks)

    @property
    def words(self) -> str:
        """The newest week in words."""
        last = self.weeks[-1]
        return (
            f"{last.accept_rate:.0%} of {count_in_words(last.findings, 'finding', 'findings')} in {last.week}"
        )

    @property
    def overall(self) -> str:
        """All weeks in words: accepted, corrected, rejected."""
        total = max(1, self.findings)
        parts = (
            ("accepted", sum(week.accepted for week in self.weeks)),
            ("corrected", sum(week.edited for week in self.weeks)),
            ("rejected", sum(week.rejected for week in self.weeks)),
        )
        return " · ".join(f"{number / total:.0%} {word}" for word, number in parts)


@dataclass(frozen=True)
class MonitorState:
    """One row per version of a model; ``chosen`` is the one whose curve is drawn."""

    rows: tuple[VersionAgreement, ...] = ()
    chosen: int = -1
    drift: tuple[DriftRow, ...] = ()
    alerts: tuple[str, ...] = ()
    message: str = NO_VERDICTS

    @property
    def row(self) -> VersionAgreement | None:
        """The row whose curve is drawn."""
        return self.rows[self.chosen] if 0 <= self.chosen < len(self.rows) else None

    @property
    def drift_of_row(self) -> tuple[DriftRow, ...]:
        """Drift of the chosen row's model, what needs a look first."""
        if self.row is None:
            return ()
        mine = [drift for drift in self.drift if drift.model_id == self.row.model_id]
        return tuple(sorted(mine, key=lambda drift: (not drift.alert, -drift.psi)))


class MonitorPresenter(Presenter[MonitorState]):
    """Reads the agreement when the page is looked at."""

    def __init__(self, engine: TrainingEngine, tasks: Tasks, notices: NoticesPresenter) -> None:
        super().__init__(MonitorState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices

    def refresh(self) -> None:
        """Read the agreement again; models with an alert come first."""
        self._tasks.io(self._engine.watch_models, self._take, self._notices.report)

    def _take(self, found: ModelMonitor) -> None:
        rows = by_version(found)
        chosen = self.state.chosen if 0 <= self.state.chosen < len(rows) else 0
        alerts = tuple(alert.message for alert in found.alerts)
        message = "" if rows else NO_VERDICTS
        self._publish(MonitorState(rows, chosen if rows else -1, found.drift, alerts, message))

    def choose(self, place: int) -> None:
        """Draw the curve of a row."""
        if 0 <= place < len(self.state.rows):
            self._publish(replace(self.state, chosen=place))


def by_version(found: ModelMonitor) -> tuple[VersionAgreement, ...]:
    """Return the weeks gathered by version, those with an alert first."""
    weeks: dict[tuple[str, str, str], list[AgreementRow]] = {}
    for week in found.agreement:
        weeks.setdefault((week.model_id, week.title, week.version), []).append(week)
    rows = [
        VersionAgreement(
            *key, _in_order(listed), tuple(a.message for a in found.alerts if a.model_id == key[0])
        )
        for key, listed in weeks.items()
    ]
    return tuple(sorted(rows, key=lambda row: (not row.alerts, row.title, row.version)))


def _in_order(weeks: Iterable[AgreementRow]) -> tuple[AgreementRow, ...]:
    return tuple(sorted(weeks, key=lambda week: week.week))
