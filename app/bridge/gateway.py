"""The engine as the presenters see it: each method is one service call, on a worker thread.

Services are imported when they are first called, never before the window is on screen: opening the library,
reading DICOM and exporting bring heavy libraries that a start does not need.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.bridge import collector
from app.bridge.browser_gateway import BrowserGateway
from app.bridge.derived_gateway import DerivedGateway
from app.bridge.library_gateway import LibraryGateway
from app.bridge.remote_gateway import RemoteGateway
from app.bridge.training_gateway import TrainingGateway
from app.bridge.translation import SETTING_OF, audit_row, job_row, model_offer, preferences_row
from app.presenters.ports import (
    AuditCheck,
    AuditRow,
    ExportedRow,
    JobRow,
    ModelOffer,
    Preferences,
    SliceSink,
)
from core.domain.errors import BugError
from core.domain.explanation import Explanation
from core.domain.progress import CancelToken, Progress
from core.domain.result import Decision, ModelResult, Verdict
from core.domain.segmentation import Segmentation
from core.domain.study import SeriesSummary
from core.domain.volume import Volume
from core.jobs.messages import Event

if TYPE_CHECKING:
    from core.services.engine import Engine
    from core.services.job_board import JobBoard


class EngineGateway(BrowserGateway, LibraryGateway, DerivedGateway, TrainingGateway, RemoteGateway):
    """Opens the engine on the database thread and calls its services.

    Parameters
    ----------
    home : Path or None
        The data folder; None for the default.
    publish : callable
        Takes engine events on any thread.
    """

    def __init__(self, home: Path | None, publish: Callable[[Event], None]) -> None:
        self._home = home
        self._publish = publish
        self._engine: Engine | None = None
        self._board: JobBoard | None = None
        self._opened = threading.Event()
        self._failed: BaseException | None = None
        self._series_of_job: dict[str, tuple[str, str]] = {}

    def open(self) -> tuple[str, ...]:
        """Open engine and job board; returns what a person should be told. Called once, on the db thread."""
        try:
            from core.services.engine import open_engine

            self._engine = open_engine(self._home, configure=_start_logging)
            from core.services.job_board import JobBoard

            self._board = JobBoard(self._engine)
            self._board.subscribe(self._publish)
            self.allow_training()
        except BaseException as error:
            self._failed = error
            raise
        finally:
            self._opened.set()
        return self._engine.notices

    def warm_up(self) -> None:
        """Load the libraries of the first import and the first picture while nobody waits for them yet."""
        self.start_import_process()
        from core.services import import_study, list_models, load_volume, results  # noqa: F401

        collector.set_aside()

    def close(self) -> None:
        """Stop the worker and close the library; called on the db thread."""
        self.close_library()
        self.close_training()
        if self._board is not None:
            self._board.shutdown()
        if self._engine is not None:
            self._engine.close()

    @property
    def engine(self) -> Engine:
        """The opened engine; waits for it on a worker thread."""
        self._opened.wait()
        if self._failed is not None:
            raise self._failed
        if self._engine is None:
            raise BugError("app.engine_missing", "The library isn't open.", "Start the program again.")
        return self._engine

    @property
    def board(self) -> JobBoard:
        """The job board."""
        self._opened.wait()
        if self._board is None:
            raise BugError("app.jobs_missing", "Models can't be run.", "Start the program again.")
        return self._board

    @property
    def reader(self) -> str:
        """Who is reading; empty until the engine is open. Doesn't block."""
        return self._engine.actor if self._engine is not None else ""

    def save_layout(self, layout: str, theme: str) -> None:
        """Keep the window's layout and theme in the settings."""
        if self._engine is None:
            return
        settings = self.engine.settings.model_copy(update={"window_layout": layout, "theme": theme})
        if settings != self.engine.settings:
            self.engine.save_settings(settings)

    def thumbnail(self, series_key: str) -> NDArray[np.uint8] | None:
        """Return a small picture of a series."""
        from core.services import list_studies

        return list_studies.thumbnail(self.engine, series_key)

    def load_volume(
        self, series_key: str, progress: Progress, cancel: CancelToken, on_slice: SliceSink
    ) -> Volume:
        """Read the voxels of a series."""
        from core.services import load_volume

        return load_volume.load_volume(
            self.engine, series_key, progress=progress, cancel=cancel, on_slice=on_slice
        )

    def results_for(self, series_key: str) -> list[ModelResult]:
        """Return the results of a series."""
        from core.services import results

        return results.results_for(self.engine, series_key)

    def load_segmentation(self, result_id: str) -> Segmentation | None:
        """Return a result's label map."""
        from core.services import results

        return results.load_segmentation(self.engine, result_id)

    def load_explanations(self, result_id: str) -> list[Explanation]:
        """Return a result's heat maps."""
        from core.services import results

        return results.load_explanations(self.engine, result_id)

    def decisions_for(self, result_id: str) -> Mapping[str, Decision]:
        """Return the standing verdicts of a result."""
        from core.services import results

        return results.decisions_for(self.engine, result_id)

    def record_decision(
        self, result_id: str, finding_id: str, verdict: Verdict, reason: str, mask: str = ""
    ) -> Decision:
        """Commit a verdict; a corrected mask is checked first."""
        from core.services import corrected_mask, record_decision

        file = None
        if mask:
            # A mask that was kept with an earlier verdict is named relative to the result's folder.
            file = self.engine.paths.results / result_id / Path(mask).expanduser()
            corrected_mask.require_mask_of(self.engine, result_id, file)
        return record_decision.record_decision(self.engine, result_id, finding_id, verdict, reason, file)[0]

    def list_models(self, summary: SeriesSummary) -> list[ModelOffer]:
        """Return the catalogue with what fits the series."""
        from core.services import list_models

        rows = list_models.list_models(self.engine, summary.key)
        if self.engine.settings.remote_engines:
            from core.services import remote_models

            rows += remote_models.list_remote_models(self.engine, summary.key)
        return [model_offer(entry) for entry in rows]

    def submit_run(self, model_id: str, series_key: str, volume: Volume | None) -> str:
        """Queue a run."""
        job_id = self.board.submit_run(model_id, series_key, self.engine.settings.device, volume=volume)
        self._series_of_job[job_id] = (series_key, model_id)
        return job_id

    def submit_explain(self, result_id: str, method: str, class_label: str, volume: Volume | None) -> str:
        """Queue an explanation."""
        return self.board.submit_explain(result_id, method, class_label, volume=volume)

    def cancel_job(self, job_id: str) -> None:
        """Ask a job to stop."""
        self.board.cancel(job_id)

    def retry_job(self, job_id: str) -> None:
        """Queue a job again."""
        self.board.retry(job_id)

    def jobs(self) -> list[JobRow]:
        """Return the jobs, newest first."""
        return [job_row(view, self._series_of_job) for view in reversed(self.board.jobs())]

    def export(self, result_id: str, kinds: Sequence[str], out: Path) -> list[ExportedRow]:
        """Write a result to a folder, verified."""
        from core.services import export_result

        files = export_result.export_result(self.engine, result_id, kinds, out)
        return [ExportedRow(file.kind, file.path, file.verified) for file in files]

    def audit_events(self, limit: int) -> list[AuditRow]:
        """Return the newest events first."""
        from core.services import verify_audit

        records = verify_audit.list_events(self.engine, limit=limit, newest_first=True)
        return [audit_row(record) for record in records]

    def verify_audit(self) -> AuditCheck:
        """Check the whole hash chain."""
        from core.services import verify_audit

        outcome = verify_audit.verify(self.engine)
        return AuditCheck(outcome.events, outcome.ok, outcome.first_bad_seq, outcome.reason)

    def preferences(self) -> Preferences:
        """Return the reader's settings."""
        return preferences_row(self.engine.settings)

    def save_preferences(self, changes: Mapping[str, Any]) -> Preferences:
        """Change settings and keep them."""
        from core.services import preferences

        named = {SETTING_OF.get(name, name): value for name, value in changes.items()}
        return preferences_row(preferences.change_settings(self.engine, **named))

    def note_first_look(self, series_key: str) -> None:
        """Record the first look at a series whose results are hidden."""
        from core.services import read_first

        read_first.note_first_look(self.engine, series_key)

    def note_reveal(self, series_key: str, seconds: float) -> None:
        """Record that the results were asked for."""
        from core.services import read_first

        read_first.note_reveal(self.engine, series_key, seconds)


def _start_logging(paths: object) -> None:
    from core.config.logs import configure_logging
    from core.config.paths import Paths

    if isinstance(paths, Paths):
        configure_logging(paths)
