"""The worklist: patients, studies and series of the index, with names from the vault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, ReviewEngine, Tasks
from app.presenters.worklist_tree import Index, PatientRow, StudyRow, build_tree, priors_of
from core.domain.errors import AppError
from core.domain.study import PatientIdentity, SeriesSummary, StudySummary

Deliver = Callable[[str, NDArray[np.uint8] | None], None]


@dataclass(frozen=True)
class WorklistState:
    """What the worklist shows. ``total`` counts studies before the search."""

    patients: tuple[PatientRow, ...] = ()
    query: str = ""
    identity_hidden: bool = False
    current_series: str = ""
    priors: tuple[StudyRow, ...] = ()
    total: int = 0
    loaded: bool = False


class WorklistPresenter(Presenter[WorklistState]):
    """Loads the index, filters it while the reader types, and knows which series is open."""

    def __init__(self, engine: ReviewEngine, tasks: Tasks, notices: NoticesPresenter) -> None:
        super().__init__(WorklistState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._index = Index()
        self._waiting: dict[str, int] = {}
        self._series: dict[str, SeriesSummary] = {}
        self._generation = 0
        self.waiting_changed: Callable[[int], None] = lambda _: None
        self.refreshed: Callable[[], None] = lambda: None

    def refresh(self) -> None:
        """Read the index again; a later call makes an earlier answer void."""
        self._generation += 1
        generation = self._generation

        def done(answer: tuple[list[StudySummary], Mapping[str, PatientIdentity]]) -> None:
            if generation == self._generation:
                self._take(*answer)

        self._tasks.db(self._engine.list_studies, done, self._notices.report)

    def _take(self, studies: list[StudySummary], identities: Mapping[str, PatientIdentity]) -> None:
        self._index = Index.of(studies, identities)
        self._series = {series.key: series for study in studies for series in study.series}
        self._rebuild(replace(self.state, loaded=True))
        self.refreshed()

    def search(self, query: str) -> None:
        """Show only the studies that contain every word of ``query``."""
        self._rebuild(replace(self.state, query=query))

    def toggle_identity(self) -> None:
        """Show or hide who the patients are."""
        self._rebuild(replace(self.state, identity_hidden=not self.state.identity_hidden))

    def set_current(self, series_key: str) -> None:
        """Mark the series that is open."""
        self._rebuild(replace(self.state, current_series=series_key))

    def refresh_waiting(self) -> None:
        """Count the results that wait for the reader, in all studies."""

        def done(counts: Mapping[str, int]) -> None:
            self._waiting = dict(counts)
            self._rebuild(self.state)
            self.waiting_changed(self.waiting)

        self._tasks.io(self._engine.waiting_results, done, self._notices.report)

    @property
    def waiting(self) -> int:
        """How many results wait for a verdict in all studies."""
        return sum(self._waiting.values())

    def series(self, series_key: str) -> SeriesSummary | None:
        """Return a series of the index by its key."""
        return self._series.get(series_key)

    def first_series_of(self, study_uid: str) -> SeriesSummary | None:
        """Return the series of a study to open first: the largest volume, else the first with pixels."""
        shown = [s for s in self._series.values() if s.study_uid == study_uid and s.kind != "other"]
        volumes = [series for series in shown if series.kind == "volume"]
        if volumes:
            return max(volumes, key=lambda series: series.frames)
        return shown[0] if shown else None

    def neighbour_series(self, step: int) -> SeriesSummary | None:
        """Return the series ``step`` places after the open one within its study, or None at the end."""
        current = self._series.get(self.state.current_series)
        if current is None:
            return None
        siblings = [
            s for s in self._series.values() if s.study_uid == current.study_uid and s.kind != "other"
        ]
        place = next((i for i, s in enumerate(siblings) if s.key == current.key), 0) + step
        return siblings[place] if 0 <= place < len(siblings) else None

    def neighbour_study(self, step: int) -> SeriesSummary | None:
        """Return the first series of the study ``step`` places further in the list as shown."""
        order = [study.uid for patient in self.state.patients for study in patient.studies]
        current = self._series.get(self.state.current_series)
        if current is None or current.study_uid not in order:
            return self.first_series_of(order[0]) if order else None
        place = order.index(current.study_uid) + step
        return self.first_series_of(order[place]) if 0 <= place < len(order) else None

    def request_thumbnail(self, series_key: str, deliver: Deliver) -> None:
        """Fetch a thumbnail in the background; ``deliver(key, pixels or None)`` runs on the GUI thread."""

        def failed(_: AppError) -> None:
            deliver(series_key, None)

        def work() -> NDArray[np.uint8] | None:
            return self._engine.thumbnail(series_key)

        self._tasks.io(work, lambda pixels: deliver(series_key, pixels), failed)

    def patient_name(self, study_uid: str) -> str:
        """Return the name to show for a study: the vault's, else the pseudonym."""
        study = self._index.study(study_uid)
        return self._index.name(study, self.state.identity_hidden) if study else ""

    def _rebuild(self, state: WorklistState) -> None:
        current = self._series.get(state.current_series)
        self._publish(
            replace(
                state,
                patients=build_tree(self._index, state.query, state.identity_hidden, self._waiting),
                priors=priors_of(self._index, current.study_uid, self._waiting) if current else (),
                total=len(self._index.studies),
            )
        )
