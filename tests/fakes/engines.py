"""An engine on an empty home, and a tiny study to put into it."""

from __future__ import annotations

from pathlib import Path

from core.domain.coding import CodedConcept
from core.domain.result import ClassProbability, Finding, ModelIdentity, ModelResult, SegmentMeasure
from core.domain.study import InstanceRef, PatientIdentity, SeriesKind, SeriesSummary, StudySummary
from core.library.files import FileStamp
from core.services.engine import Engine, open_engine

STUDY_UID = "1.2.826.0.1.3680043.10.1.1"
SERIES_UID = "1.2.826.0.1.3680043.10.1.1.1"
IDENTITY = PatientIdentity("Planted^Name", "PID-4711", "19700101", "F", "ACC-1", "Referrer^One")
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def make_engine(tmp_path: Path, actor: str = "reader") -> Engine:
    """Open an engine on an empty home below ``tmp_path``; close it when done."""
    return open_engine(tmp_path / "home", actor=actor)


def series_summary(
    study_uid: str = STUDY_UID, series_uid: str = SERIES_UID, *, slices: int = 3, modality: str = "CT"
) -> SeriesSummary:
    """Return a small regular CT series."""
    return SeriesSummary(
        key=series_uid,
        series_uid=series_uid,
        study_uid=study_uid,
        modality=modality,
        description="Thorax 5.0",
        body_part="CHEST",
        instances=slices,
        frames=slices,
        kind=SeriesKind.VOLUME,
        shape_kji=(slices, 8, 8),
        spacing_kji_mm=(5.0, 1.0, 1.0),
        regular=True,
        series_number=1,
        axis_codes="LPS",
    )


def insert_study(
    engine: Engine,
    study_uid: str = STUDY_UID,
    series_uid: str = SERIES_UID,
    *,
    identity: PatientIdentity = IDENTITY,
    description: str = "CT thorax",
    folder: Path | None = None,
    slices: int = 3,
    imported_utc: str = "2026-01-02T03:04:05.000+00:00",
) -> SeriesSummary:
    """Put a study with one series into the index, without files; returns the series."""
    summary = series_summary(study_uid, series_uid, slices=slices)
    place = folder or engine.paths.instances
    study = StudySummary(
        study_uid=study_uid,
        pseudonym=engine.vault.pseudonym(identity, study_uid),
        description=description,
        modalities=(summary.modality,),
        status="unread",
        study_date="2026-01",
        imported_utc=imported_utc,
    )
    refs = [InstanceRef(f"{series_uid}.{k + 1}", CT_IMAGE, place / f"{k + 1}.dcm") for k in range(slices)]
    with engine.unit_of_work() as uow:
        uow.studies.add(study, identity)
        uow.series.put(summary, "dicom")
        uow.instances.put(summary.key, [(ref, FileStamp(0, 0)) for ref in refs])
    return summary


def model_result(
    result_id: str = "r1", study_uid: str = STUDY_UID, series_uid: str = SERIES_UID, findings: int = 2
) -> ModelResult:
    """Return a result with a segment, two classes and some findings named f1, f2 …"""
    lung = CodedConcept("39607008", "SCT", "Lung")
    return ModelResult(
        result_id=result_id,
        study_uid=study_uid,
        series_uid=series_uid,
        model=ModelIdentity("thorax-ct", "1.0.0", "ab" * 32, "Thorax"),
        task="segmentation",
        device="cpu",
        segments=(SegmentMeasure(1, "left lung", lung, 12, 0.06, (1.0, 2.0, 3.0), -800.0),),
        classes=(ClassProbability("a", 0.75), ClassProbability("b", 0.25)),
        findings=tuple(
            Finding(f"f{n + 1}", "left lung", "segment", (1.0, 2.0, 3.0), volume_ml=0.06, segment_value=1)
            for n in range(findings)
        ),
        seconds={"total": 1.5},
        checks={"geometry": "ok"},
        created_utc="2026-01-02T03:04:06.000+00:00",
    )
