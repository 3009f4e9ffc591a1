"""What presenters need from outside, as protocols: the engine, a place to run work, a view.

Presenters live on the GUI thread and block nothing: everything in ``ReviewEngine`` blocks and therefore runs
inside ``Tasks``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.presenters.ports_browser import BrowserEngine
from app.presenters.ports_derived import DerivedEngine
from app.presenters.ports_library import LibraryEngine
from app.presenters.ports_remote import RemoteEngines
from app.presenters.ports_training import TrainingEngine
from core.domain.errors import AppError
from core.domain.explanation import Explanation
from core.domain.geometry import VolumeGeometry
from core.domain.progress import CancelToken, Progress
from core.domain.result import Decision, ModelResult, Verdict
from core.domain.segmentation import Segmentation
from core.domain.study import SeriesSummary
from core.domain.volume import Volume
from core.domain.window import Window

T = TypeVar("T")
StateT = TypeVar("StateT")
JOB_ACTIVE = ("queued", "running", "cancelling")
JOB_RETRYABLE = ("failed", "cancelled", "lost", "interrupted")
StateT_contra = TypeVar("StateT_contra", contravariant=True)
SliceSink = Callable[[int, VolumeGeometry, np.ndarray], None]


@dataclass(frozen=True)
class ModelOffer:
    """A model of the catalogue as it is offered for one series.

    ``verified`` is ``"signed"`` or ``"unsigned"``; ``estimate_s`` is None when nothing was measured yet;
    ``explain_methods`` is empty where no explanation is possible, with the reason in ``explain_why``. ``inputs`` are
    the contrasts that the model takes together, ``missing`` those that the study of the series lacks. ``server``
    is the name of the model server that has it, empty for a model of this computer.
    """

    id: str
    title: str
    version: str
    task: str
    fits: bool
    why: str = ""
    verified: str = "unsigned"
    labels: tuple[str, ...] = ()
    estimate_s: float | None = None
    licence: str = ""
    explain_methods: tuple[str, ...] = ()
    explain_why: str = ""
    inputs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    server: str = ""


@dataclass(frozen=True)
class Preferences:
    """What the reader may change in the settings panel; an empty ``reader_name`` is the account's name."""

    theme: str = "dark"
    key_scheme: str = "default"
    read_first: bool = False
    corner_texts: bool = True
    reader_name: str = ""
    worklist_columns: tuple[str, ...] = ("date", "modality", "tags", "patient_id", "birth_date", "age_sex")
    worklist_sort: str = "imported"
    identity_hidden: bool = False


@dataclass(frozen=True)
class JobRow:
    """A job as the panels show it; ``state`` is that of ``core.jobs.transitions``."""

    job_id: str
    kind: str
    title: str
    state: str
    phase: str = ""
    fraction: float = 0.0
    eta_seconds: float | None = None
    error: str = ""
    result_id: str = ""
    series_key: str = ""
    model_id: str = ""


@dataclass(frozen=True)
class ExportedRow:
    """A file that was written, read back and compared."""

    kind: str
    path: Path
    verified: bool


@dataclass(frozen=True)
class AuditRow:
    """One event of the audit trail."""

    seq: int
    recorded_utc: str
    event: str
    outcome: str
    actor: str
    detail: str = ""


@dataclass(frozen=True)
class AuditCheck:
    """Outcome of a verification of the hash chain."""

    events: int
    ok: bool
    first_bad_seq: int | None = None
    reason: str = ""


class View(Protocol[StateT_contra]):
    """A widget that draws a frozen state."""

    def show_state(self, state: StateT_contra) -> None:
        """Draw ``state``; called on the GUI thread only."""


class Presenter(Generic[StateT]):
    """A view model: holds one frozen state and hands each new one to the attached views."""

    def __init__(self, state: StateT) -> None:
        self._state = state
        self._views: list[View[StateT]] = []

    @property
    def state(self) -> StateT:
        """The state that the views draw."""
        return self._state

    def attach(self, view: View[StateT]) -> None:
        """Add a view and draw the present state on it."""
        self._views.append(view)
        view.show_state(self._state)

    def _publish(self, state: StateT) -> None:
        if state == self._state:
            return
        self._state = state
        for view in self._views:
            view.show_state(state)


class Tasks(Protocol):
    """Where blocking work runs. ``done`` and ``failed`` are called on the GUI thread."""

    def io(
        self, work: Callable[[], T], done: Callable[[T], None], failed: Callable[[AppError], None]
    ) -> None:
        """Run ``work`` in the pool for pixels and files."""

    def db(
        self, work: Callable[[], T], done: Callable[[T], None], failed: Callable[[AppError], None]
    ) -> None:
        """Run ``work`` on the one thread of the database, in order."""

    def post(self, call: Callable[[], None]) -> None:
        """Run ``call`` on the GUI thread soon; may be called from any thread."""


class ReviewEngine(BrowserEngine, LibraryEngine, DerivedEngine, TrainingEngine, RemoteEngines, Protocol):
    """The services behind the screens; every method blocks."""

    @property
    def reader(self) -> str:
        """Who is reading."""

    def thumbnail(self, series_key: str) -> NDArray[np.uint8] | None:
        """Return a picture of the series, ``(H, W)`` grey or ``(H, W, 3)`` colour, uint8, or None."""

    def load_volume(
        self, series_key: str, progress: Progress, cancel: CancelToken, on_slice: SliceSink
    ) -> Volume:
        """Read the voxels of a series; ``on_slice`` is called on worker threads."""

    def results_for(self, series_key: str) -> list[ModelResult]:
        """Return the results of a series, newest first."""

    def load_segmentation(self, result_id: str) -> Segmentation | None:
        """Return a result's label map."""

    def load_explanations(self, result_id: str) -> list[Explanation]:
        """Return a result's heat maps, oldest first."""

    def decisions_for(self, result_id: str) -> Mapping[str, Decision]:
        """Return the valid decision of each finding."""

    def record_decision(
        self, result_id: str, finding_id: str, verdict: Verdict, reason: str, mask: str = ""
    ) -> Decision:
        """Commit a verdict; when this returns it survives a power cut.

        ``mask`` is the corrected mask of an edit: a NIfTI file, or ``Decision.mask_file`` of an earlier verdict on
        the same result.
        """

    def list_models(self, summary: SeriesSummary) -> list[ModelOffer]:
        """Return the catalogue with what fits the series."""

    def submit_run(self, model_id: str, series_key: str, volume: Volume | None) -> str:
        """Queue a run; returns the job's id."""

    def submit_explain(self, result_id: str, method: str, class_label: str, volume: Volume | None) -> str:
        """Queue an explanation; returns the job's id."""

    def cancel_job(self, job_id: str) -> None:
        """Ask a job to stop."""

    def retry_job(self, job_id: str) -> None:
        """Queue a failed or lost job again."""

    def jobs(self) -> list[JobRow]:
        """Return the jobs, newest first."""

    def export(self, result_id: str, kinds: Sequence[str], out: Path) -> list[ExportedRow]:
        """Write a result to a folder, verified."""

    def audit_events(self, limit: int) -> list[AuditRow]:
        """Return the newest events first."""

    def verify_audit(self) -> AuditCheck:
        """Check the whole hash chain."""

    def preferences(self) -> Preferences:
        """Return the reader's settings."""

    def save_preferences(self, changes: Mapping[str, Any]) -> Preferences:
        """Change fields of the settings, keep them, and return all of them."""

    def note_first_look(self, series_key: str) -> None:
        """Record that a series is read while its results are hidden."""

    def note_reveal(self, series_key: str, seconds: float) -> None:
        """Record that the reader asked for the results, ``seconds`` after the first look."""


class ReadingPort(Protocol):
    """The centre of the window, as the session drives it."""

    def begin_series(self, summary: SeriesSummary, generation: int) -> None:
        """Make room for a series whose slices are about to arrive."""

    def show_slice(
        self,
        generation: int,
        k: int,
        geometry: VolumeGeometry,
        pixels: np.ndarray,
        room: np.ndarray | None = None,
    ) -> None:
        """Show a slice that was decoded before the volume is complete; ``room`` takes all slices."""

    def show_volume(self, volume: Volume, generation: int | None = None) -> None:
        """Show the complete series."""

    def clear(self, reason: str = "") -> None:
        """Show nothing, and why."""

    def fail(self, title: str, detail: str = "", remedy: str = "", generation: int | None = None) -> None:
        """Show the reason why a series can't be shown, instead of it."""

    def set_segmentation(self, segmentation: Segmentation | None) -> None:
        """Overlay a label map, or none."""

    def set_heatmap(self, explanation: Explanation | None) -> None:
        """Overlay a heat map, or none."""

    def jump_to(self, lps_mm: tuple[float, float, float]) -> None:
        """Bring a point of the patient into all views."""

    def set_window(self, window: Window) -> None:
        """Set the grey scale."""

    def set_segment_visible(self, value: int, visible: bool) -> None:
        """Show or hide one segment."""

    def show_ai(self) -> None:
        """Show what models produced."""

    def set_heat_style(self, opacity: float, threshold: float) -> None:
        """Set how the heat map is drawn, both 0…1."""

    def blink(self, on: bool) -> None:
        """Alternate between with and without overlays."""


def seconds_in_words(seconds: float | None) -> str:
    """Return ``"~14 s"``, ``"~3 min"`` or an empty string."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"~{max(1, round(seconds))} s"
    return f"~{round(seconds / 60)} min"


def error_of(failure: BaseException) -> AppError:
    """Return ``failure`` as an AppError; what isn't one is our own fault and keeps only its type's name."""
    if isinstance(failure, AppError):
        return failure
    return AppError(
        "bug.unexpected",
        f"Something went wrong in the program ({type(failure).__name__}).",
        "Try again; if it happens again, report it with the log file.",
    )


def ignore(_: Any) -> None:
    """Take an answer that nobody waits for."""
