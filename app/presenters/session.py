"""One reading: from the chosen series to voxels, results, models; nothing of an earlier series is ever drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from app.presenters.derived import DerivedPresenter
from app.presenters.derived_rows import KIND_WORDS, WITH_PANE
from app.presenters.explanation import ExplanationPresenter
from app.presenters.exporting import ExportPresenter
from app.presenters.findings import FindingsPresenter
from app.presenters.models import ModelsPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.ports import JobRow, ReadingPort, ReviewEngine, Tasks
from app.presenters.status import StatusPresenter
from app.presenters.viewport import room_for
from core.domain.errors import AppError
from core.domain.geometry import VolumeGeometry
from core.domain.progress import CancelToken
from core.domain.result import ModelResult
from core.domain.study import ObjectKind, SeriesSummary
from core.domain.volume import Volume

READABLE_ALONE = WITH_PANE
"""Objects that say something without their pictures."""


def object_word(kind: ObjectKind) -> str:
    """Return what an object is called within a sentence."""
    return {ObjectKind.SEGMENTATION: "segmentation", ObjectKind.STRUCTURE_SET: "structure set"}.get(
        kind, KIND_WORDS.get(kind, "object").lower()
    )


class Follower(Protocol):
    """Something that lives as long as the open series."""

    def begin(self, summary: SeriesSummary, generation: int) -> None:
        """Another series is being opened."""

    def take(self, volume: Volume) -> None:
        """The series is complete."""


@dataclass(frozen=True)
class Panels:
    """The presenters that follow the open series."""

    reading: ReadingPort
    findings: FindingsPresenter
    models: ModelsPresenter
    explanation: ExplanationPresenter
    export: ExportPresenter
    status: StatusPresenter
    notices: NoticesPresenter
    followers: tuple[Follower, ...] = ()
    derived: DerivedPresenter | None = None


class SessionPresenter:
    """Opens series. Each opening has a generation number; what answers with an older one is dropped."""

    def __init__(self, engine: ReviewEngine, tasks: Tasks, panels: Panels) -> None:
        self._engine = engine
        self._tasks = tasks
        self._panels = panels
        self._summary: SeriesSummary | None = None
        self._generation = 0
        self._asked = 0
        self._cancel = CancelToken()
        self.opened: Callable[[SeriesSummary], None] = lambda _: None
        self.seen: Callable[[str], None] = lambda _: None
        self.arrived_elsewhere: Callable[[], None] = lambda: None
        self.undecided: Callable[[], None] = lambda: None
        self.noted: Callable[[], None] = lambda: None
        panels.findings.result_shown = self._on_result_shown
        panels.findings.decided = self._on_decided

    @property
    def summary(self) -> SeriesSummary | None:
        """The open series."""
        return self._summary

    def open_series(self, summary: SeriesSummary) -> None:
        """Show a series: slices as they arrive, then the volume, its results and the models that fit."""
        if summary.object_kind not in (ObjectKind.NONE, ObjectKind.UNKNOWN):
            self._open_object(summary)
            return
        self._asked += 1
        if self._summary is not None and summary.key == self._summary.key:
            return
        self._begin(summary)
        generation, cancel, key = self._generation, self._cancel, summary.key

        def progress(phase: str, fraction: float) -> None:
            self._post(
                generation, lambda: self._panels.status.set_task("load", f"Loading · {phase}", fraction)
            )

        rooms: list[np.ndarray] = []  # made by the loading thread, filled by the GUI thread

        def on_slice(k: int, geometry: VolumeGeometry, pixels: np.ndarray) -> None:
            if not rooms:
                rooms.append(room_for(geometry, pixels))
            room = rooms[0]
            self._post(
                generation, lambda: self._panels.reading.show_slice(generation, k, geometry, pixels, room)
            )

        def work() -> Volume:
            return self._engine.load_volume(key, progress, cancel, on_slice)

        self._tasks.io(
            work,
            lambda volume: self._if_current(generation, lambda: self._on_volume(volume)),
            lambda error: self._if_current(generation, lambda: self._on_load_failed(error)),
        )
        self.reload_results()
        self._tasks.db(
            lambda: self._engine.note_opened(summary.study_uid), self._on_noted, self._panels.notices.report
        )

    def _open_object(self, summary: SeriesSummary) -> None:
        """Show an object that was made from a series over that series."""
        self._asked += 1
        asked = self._asked

        def done(source: SeriesSummary | None) -> None:
            if asked != self._asked:
                return
            if source is None or self._panels.derived is None:
                self._open_alone(summary)
            else:
                self.open_series(source)
                self._panels.derived.want(summary)

        self._tasks.io(lambda: self._engine.source_of(summary.key), done, self._panels.notices.report)

    def _open_alone(self, summary: SeriesSummary) -> None:
        """Say that the pictures of an object are missing; what can be read without them is shown."""
        self._cancel.cancel()
        self._cancel = CancelToken()
        self._generation += 1
        self._summary = summary
        panels = self._panels
        panels.findings.clear("This object has no pictures of its own.")
        panels.explanation.set_volume(None)
        for follower in panels.followers:
            follower.begin(summary, self._generation)
        panels.reading.begin_series(summary, self._generation)
        panels.reading.fail(
            "The pictures are missing",
            f"The series that this {object_word(summary.object_kind)} was made from isn't in the library.",
            "Import the study that it belongs to, then choose it again.",
            self._generation,
        )
        panels.models.set_series(summary)
        panels.status.set_series(summary)
        panels.status.end_task("load")
        self.opened(summary)
        if panels.derived is not None and summary.object_kind in READABLE_ALONE:
            panels.derived.show_alone(summary, self._generation)

    def _on_noted(self, _: None) -> None:
        self.noted()

    def _begin(self, summary: SeriesSummary) -> None:
        self._cancel.cancel()
        self._cancel = CancelToken()
        self._generation += 1
        self._summary = summary
        panels = self._panels
        panels.findings.set_modality(summary.modality)
        panels.findings.clear("Looking for results…")
        panels.explanation.set_volume(None)
        panels.reading.begin_series(summary, self._generation)
        for follower in panels.followers:
            follower.begin(summary, self._generation)
        panels.models.set_series(summary)
        panels.status.set_series(summary)
        panels.status.set_task("load", "Loading", 0.0)
        self.opened(summary)

    def _post(self, generation: int, call: Callable[[], None]) -> None:
        self._tasks.post(lambda: self._if_current(generation, call))

    def _if_current(self, generation: int, call: Callable[[], None]) -> None:
        if generation == self._generation:
            call()

    def _on_volume(self, volume: Volume) -> None:
        self._panels.status.end_task("load")
        self._panels.reading.show_volume(volume, self._generation)
        for follower in self._panels.followers:
            follower.take(volume)
        if self._summary is not None:
            self.seen(self._summary.key)
        self._panels.findings.redraw_overlays()
        self._panels.explanation.redraw_map()
        self._panels.models.set_volume(volume)
        self._panels.explanation.set_volume(volume)

    def _on_load_failed(self, error: AppError) -> None:
        self._panels.status.end_task("load")
        self._panels.reading.fail(
            "The series can't be shown", error.user_message, error.remedy, self._generation
        )
        self._panels.notices.report(error)

    def close_series(self, reason: str) -> None:
        """Show no series any more, and why: what was open has left the library."""
        if self._summary is None:
            return
        self._cancel.cancel()
        self._generation += 1
        self._asked += 1
        self._summary = None
        panels = self._panels
        panels.status.end_task("load")
        panels.status.set_series(None)
        panels.findings.clear("Open a series to see its findings.")
        panels.explanation.set_volume(None)
        panels.models.clear()
        panels.reading.clear(reason)

    def cancel_loading(self) -> None:
        """Stop reading the voxels of the open series."""
        self._cancel.cancel()

    def reload_results(self, select: str = "") -> None:
        """Read the results of the open series again and show one of them."""
        if self._summary is None:
            return
        generation, key = self._generation, self._summary.key
        self._tasks.io(
            lambda: self._engine.results_for(key),
            lambda found: self._if_current(
                generation, lambda: self._panels.findings.set_results(found, select)
            ),
            lambda error: self._if_current(generation, lambda: self._panels.notices.report(error)),
        )

    def on_job_finished(self, job: JobRow) -> None:
        """Show a new result if it belongs to the open series; else it waits as a badge."""
        if job.kind != "run":
            return
        if self._summary is not None and job.series_key in ("", self._summary.key):
            self.reload_results(job.result_id)
        else:
            self.arrived_elsewhere()
            self._panels.notices.say(
                "info", f"{job.title}: the result is ready.", "Open the study to read it."
            )

    def _on_result_shown(self, result: ModelResult | None) -> None:
        offer = self._panels.models.offer_for(result.model.id) if result is not None else None
        self._panels.explanation.set_result(result, offer)
        self._panels.export.set_result(result)
        self._count()

    def _on_decided(self, _: ModelResult) -> None:
        self._count()

    def _count(self) -> None:
        if self._summary is not None:
            self.undecided()
