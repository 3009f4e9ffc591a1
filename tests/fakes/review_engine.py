"""An engine in memory for presenters and windows, and two ways to run its work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.presenters.ports import AuditCheck, AuditRow, ExportedRow, JobRow, ModelOffer, Preferences, SliceSink
from core.domain.coding import CodedConcept
from core.domain.derived import (
    DerivedHeader,
    DerivedObject,
    DerivedSegmentation,
    SourceImage,
    StructureContours,
)
from core.domain.errors import AppError
from core.domain.explanation import Explanation
from core.domain.geometry import VolumeGeometry
from core.domain.progress import CancelToken, Progress
from core.domain.result import (
    Decision,
    Finding,
    ModelIdentity,
    ModelResult,
    SegmentMeasure,
    Verdict,
)
from core.domain.segmentation import Segmentation, SegmentDefinition
from core.domain.study import PatientIdentity, SeriesKind, SeriesSummary, StudySummary
from core.domain.volume import SeriesIssue, Volume
from tests.fakes.browser_engine import FakeBrowserEngine
from tests.fakes.library_engine import FakeLibraryEngine
from tests.fakes.remote_engines import FakeRemoteEngines
from tests.fakes.training_engine import FakeTrainingEngine

ORGAN = CodedConcept("39607008", "SCT", "Lung structure")
TISSUE = CodedConcept("85756007", "SCT", "Tissue")
SHAPE = (24, 48, 48)


def summary(
    key: str = "s1",
    study: str = "t1",
    *,
    description: str = "Thorax 5.0",
    issues: tuple[SeriesIssue, ...] = (),
) -> SeriesSummary:
    """Return a small CT series."""
    return SeriesSummary(
        key, key, study, "CT", description, "CHEST", SHAPE[0], SHAPE[0], SeriesKind.VOLUME, SHAPE,
        (5.0, 2.0, 2.0), not issues, issues, 3, "LPS",
    )  # fmt: skip


def study(
    uid: str = "t1", pseudonym: str = "P-1", *series: SeriesSummary, date: str = "2026-01"
) -> StudySummary:
    """Return a study with one series unless others are given."""
    return StudySummary(uid, pseudonym, "CT thorax", ("CT",), "unread", series or (summary(study=uid),), date)


def geometry() -> VolumeGeometry:
    """Return the grid of the small series."""
    return VolumeGeometry.from_axes(SHAPE, (2.0, 2.0, 5.0), np.eye(3), (-48.0, -48.0, 0.0))


def volume(key: str = "s1") -> Volume:
    """Return a bright cylinder in air."""
    k, j, i = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    inside = (j - 24) ** 2 + (i - 24) ** 2 < 18**2
    voxels = np.where(inside, 40, -1000).astype(np.int16) + np.zeros_like(k, dtype=np.int16)
    return Volume(geometry(), np.ascontiguousarray(voxels), "CT", key, "t1", "HU", "CHEST", "Thorax 5.0")


def segmentation(names: Sequence[str] = ("left lung", "heart")) -> Segmentation:
    """Return one slab per name."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for value in range(1, len(names) + 1):
        labels[:, 10:30, 8 + 6 * (value - 1) : 12 + 6 * (value - 1)] = value
    colors = ((86, 180, 233), (230, 159, 0), (0, 158, 115))
    segments = tuple(
        SegmentDefinition(v, name, ORGAN, TISSUE, colors[(v - 1) % 3]) for v, name in enumerate(names, 1)
    )
    return Segmentation(geometry(), labels, segments)


def result(
    result_id: str = "r1", key: str = "s1", names: Sequence[str] = ("left lung", "heart")
) -> ModelResult:
    """Return a result with one finding per segment."""
    segments = tuple(
        SegmentMeasure(v, name, ORGAN, 1000 * v, 20.0 * v, (0.0, 0.0, 50.0), -800.0)
        for v, name in enumerate(names, 1)
    )
    findings = tuple(
        Finding(f"f{s.value}", s.label, "segment", s.centroid_lps_mm, None, s.volume_ml, 0.86, s.value)
        for s in segments
    )
    return ModelResult(
        result_id, "t1", key, ModelIdentity("thorax-ct", "1.0.0", "ab" * 32, "Thorax organs"), "segmentation",
        "cpu", segments=segments, findings=findings, label_map_file="labels.nii.gz",
        checks={"geometry": "ok", "read-back": "ok"}, created_utc="2026-01-02T03:04:05+00:00",
    )  # fmt: skip


def explanation(method: str = "gradcam", label: str = "left lung") -> Explanation:
    """Return a warm corner."""
    heat = np.zeros(SHAPE, dtype=np.float32)
    heat[:, :20, :20] = 0.9
    return Explanation(geometry(), heat, method, label, "encoder", (16.0, 16.0, 20.0), 0.08, True, True)


OFFER = ModelOffer(
    "thorax-ct", "Thorax organs", "1.0.0", "segmentation", True, "", "signed", ("left lung", "heart"), 14.0,
    "MIT", ("gradcam", "gradcam++"),
)  # fmt: skip
MISFIT = ModelOffer(
    "mednist", "Body part", "1.0.0", "classification", False, "It needs a single picture.", "signed"
)


class FakeReviewEngine(FakeBrowserEngine, FakeLibraryEngine, FakeTrainingEngine, FakeRemoteEngines):
    """Answers from attributes that a test may change; ``errors`` names methods that refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.studies: list[StudySummary] = [study()]
        self.patients: dict[str, PatientIdentity] = {
            "t1": PatientIdentity("Muster^Erika", "ID-1", "19700101", "F", "A-1")
        }
        self.results: list[ModelResult] = []
        self.offers: list[ModelOffer] = [OFFER, MISFIT]
        self.decisions: dict[tuple[str, str], Decision] = {}
        self.recorded: list[Decision] = []
        self.explanations: list[Explanation] = []
        self.job_rows: list[JobRow] = []
        self.calls: list[tuple[Any, ...]] = []
        self.errors: dict[str, AppError] = {}
        self.segment_names: tuple[str, ...] = ("left lung", "heart")
        self.check = AuditCheck(12, True)
        self.reader = "A. B."
        self.chosen = Preferences()
        self.saved: list[tuple[str, str]] = []
        self.objects: list[DerivedObject] = []
        self.sources: dict[str, SeriesSummary] = {}
        self.images: dict[str, tuple[SeriesSummary, int]] = {}
        self.time_points = 1
        self.prepare_library()
        self.prepare_training()
        self.prepare_servers()

    def _note(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        if name in self.errors:
            raise self.errors[name]

    def open(self) -> tuple[str, ...]:
        self._note("open")
        return ()

    def warm_up(self) -> None:
        self._note("warm_up")

    def close(self) -> None:
        self._note("close")

    def save_layout(self, layout: str, theme: str) -> None:
        self.saved.append((layout, theme))

    def thumbnail(self, series_key: str) -> NDArray[np.uint8] | None:
        self._note("thumbnail", series_key)
        picture: NDArray[np.uint8] = volume().voxels[12].clip(0, 255).astype(np.uint8)
        return picture

    def load_volume(
        self, series_key: str, progress: Progress, cancel: CancelToken, on_slice: SliceSink
    ) -> Volume:
        self._note("load_volume", series_key)
        loaded = replace(volume(series_key), time_points=self.time_points)
        progress("decoding", 0.5)
        for k in range(0, SHAPE[0], 6):
            on_slice(k, loaded.geometry, loaded.voxels[k])
        cancel.raise_if_cancelled()
        return loaded

    def results_for(self, series_key: str) -> list[ModelResult]:
        self._note("results_for", series_key)
        return [r for r in self.results if r.series_uid == series_key]

    def waiting_counts(self) -> Mapping[str, int]:
        waiting = [
            r for r in self.results if any((r.result_id, f.id) not in self.decisions for f in r.findings)
        ]
        counts = {uid: sum(r.study_uid == uid for r in waiting) for uid in {r.study_uid for r in waiting}}
        return counts | {line.study_uid: line.waiting for line in self.lines or () if line.waiting}

    def waiting_series(self, study_uid: str) -> str:
        found = [r for r in self.results if r.study_uid == study_uid]
        return next(
            (r.series_uid for r in found if (r.result_id, r.findings[0].id) not in self.decisions), ""
        )

    def load_segmentation(self, result_id: str) -> Segmentation | None:
        self._note("load_segmentation", result_id)
        return segmentation(self.segment_names)

    def load_explanations(self, result_id: str) -> list[Explanation]:
        self._note("load_explanations", result_id)
        return list(self.explanations)

    def decisions_for(self, result_id: str) -> Mapping[str, Decision]:
        self._note("decisions_for", result_id)
        return {finding: d for (owner, finding), d in self.decisions.items() if owner == result_id}

    def record_decision(
        self, result_id: str, finding_id: str, verdict: Verdict, reason: str, mask: str = ""
    ) -> Decision:
        self._note("record_decision", result_id, finding_id, verdict, reason, *([mask] if mask else []))
        number = len(self.recorded) + 1
        decision = Decision(
            f"d{number}", result_id, finding_id, verdict, self.reader, "2026-01-02", reason, mask or None
        )
        self.recorded.append(decision)
        self.decisions[(result_id, finding_id)] = decision
        return decision

    def list_models(self, series: SeriesSummary) -> list[ModelOffer]:
        self._note("list_models", series.key)
        return list(self.offers)

    def submit_run(self, model_id: str, series_key: str, loaded: Volume | None) -> str:
        self._note("submit_run", model_id, series_key)
        return "j1"

    def submit_explain(self, result_id: str, method: str, class_label: str, loaded: Volume | None) -> str:
        self._note("submit_explain", result_id, method, class_label)
        return "e1"

    def cancel_job(self, job_id: str) -> None:
        self._note("cancel_job", job_id)

    def retry_job(self, job_id: str) -> None:
        self._note("retry_job", job_id)

    def jobs(self) -> list[JobRow]:
        self._note("jobs")
        return list(self.job_rows)

    def export(self, result_id: str, kinds: Sequence[str], out: Path) -> list[ExportedRow]:
        self._note("export", result_id, tuple(kinds), out)
        return [ExportedRow(kind, out / f"{kind}.dcm", True) for kind in kinds]

    def audit_events(self, limit: int) -> list[AuditRow]:
        self._note("audit_events", limit)
        return [
            AuditRow(n, f"2026-01-02T03:04:{n:02d}", "Verdict", "done", "A. B.", "accept") for n in (2, 1)
        ]

    def preferences(self) -> Preferences:
        return self.chosen

    def save_preferences(self, changes: Mapping[str, Any]) -> Preferences:
        self._note("save_preferences", dict(changes))
        self.chosen = replace(self.chosen, **changes)
        self.reader = self.chosen.reader_name or "A. B."
        return self.chosen

    def load_time_point(self, series_key: str, time_point: int, cancel: CancelToken) -> Volume:
        self._note("load_time_point", series_key, time_point)
        cancel.raise_if_cancelled()
        loaded = self.load_volume(series_key, lambda *_: None, cancel, lambda *_: None)
        return replace(loaded, voxels=loaded.voxels + np.int16(time_point), time_point=time_point)

    def source_of(self, series_key: str) -> SeriesSummary | None:
        self._note("source_of", series_key)
        return self.sources.get(series_key)

    def find_image(self, image: SourceImage) -> tuple[SeriesSummary, int] | None:
        self._note("find_image", image.sop_instance_uid)
        return self.images.get(image.sop_instance_uid)

    def derived_of(self, series_key: str) -> list[DerivedHeader]:
        self._note("derived_of", series_key)
        return [
            o.header for o in self.objects if series_key in (o.header.series_uid, *o.header.source_series)
        ]

    def open_derived(self, sop_instance_uid: str, over: Volume | None) -> DerivedObject:
        self._note("open_derived", sop_instance_uid)
        return next(o for o in self.objects if o.header.sop_instance_uid == sop_instance_uid)

    def contours_as_segmentation(
        self, contours: StructureContours, geometry: VolumeGeometry
    ) -> DerivedSegmentation:
        names = tuple(region.name for region in contours.regions)
        return DerivedSegmentation(contours.header, (segmentation(names),))

    def render_page(self, sop_instance_uid: str, page: int, width_px: int) -> NDArray[np.uint8]:
        self._note("render_page", sop_instance_uid, page, width_px)
        return np.full((round(width_px * 1.4), width_px, 3), 255 - page, np.uint8)

    def note_first_look(self, series_key: str) -> None:
        self._note("note_first_look", series_key)

    def note_reveal(self, series_key: str, seconds: float) -> None:
        self._note("note_reveal", series_key)

    def verify_audit(self) -> AuditCheck:
        self._note("verify_audit")
        return self.check


class ImmediateTasks:
    """Runs everything at once, on the calling thread."""

    def io(self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Any], None]) -> None:
        try:
            answer = work()
        except AppError as error:
            failed(error)
        else:
            done(answer)

    db = io

    def post(self, call: Callable[[], None]) -> None:
        call()


class DeferredTasks:
    """Keeps work until a test lets it run: answers then arrive late, as they do in life."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def io(self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Any], None]) -> None:
        def run() -> None:
            try:
                answer = work()
            except AppError as error:
                refused = error
                self._waiting.append(lambda: failed(refused))
            else:
                self._waiting.append(lambda: done(answer))

        self._waiting.append(run)

    db = io

    def post(self, call: Callable[[], None]) -> None:
        self._waiting.append(call)

    def run_all(self) -> None:
        """Let everything run, in order, with what it leads to."""
        while self._waiting:
            self._waiting.popleft()()

    def run_some(self, number: int) -> None:
        """Let the next pieces run."""
        for _ in range(min(number, len(self._waiting))):
            self._waiting.popleft()()
