"""The JSON documents of the command-line contract."""

from __future__ import annotations

from typing import Any

from core.domain.result import MeasuredValue, ModelResult, SegmentMeasure
from core.domain.study import ImportReport, SeriesSummary, StudySummary


def series_document(series: SeriesSummary) -> dict[str, Any]:
    """Return a series; ``spacing_mm`` is in the order of ``shape_kji``: between slices, rows, columns."""
    spacing = series.spacing_kji_mm
    return {
        "series_uid": series.key,
        "dicom_series_uid": series.series_uid,
        "modality": series.modality,
        "description": series.description,
        "body_part": series.body_part,
        "instances": series.instances,
        "frames": series.frames,
        "kind": series.kind.value,
        "shape_kji": list(series.shape_kji) if series.shape_kji else None,
        "spacing_mm": list(spacing) if spacing else None,
        "regular": series.regular,
        "axis_codes": series.axis_codes,
        "lossy": series.lossy,
        "time_points": series.time_points,
        "dimension": series.dimension,
        "view": series.view,
        "object_kind": series.object_kind.value,
        "source_series": list(series.source_series),
        "issues": [
            {"code": i.code, "message": i.message, "blocks_volumetry": i.blocks_volumetry}
            for i in series.issues
        ],
    }


def study_document(study: StudySummary) -> dict[str, Any]:
    """Return a study of the pseudonymised index."""
    return {
        "study_uid": study.study_uid,
        "pseudonym": study.pseudonym,
        "description": study.description,
        "modalities": list(study.modalities),
        "study_date": study.study_date,
        "status": study.status,
        "tags": list(study.tags),
        "series": [series_document(s) for s in study.series],
    }


def import_document(report: ImportReport) -> dict[str, Any]:
    """Return what an import did."""
    return {
        "studies": [study_document(s) for s in report.studies],
        "already_present": report.already_present,
        "skipped": [{"file": s.file, "code": s.code, "message": s.message} for s in report.skipped],
        "seconds": round(report.seconds, 3),
    }


def segment_document(segment: SegmentMeasure) -> dict[str, Any]:
    """Return one measured segment."""
    return {
        "value": segment.value,
        "label": segment.label,
        "code": segment.code.as_dict() if segment.code else None,
        "voxels": segment.voxels,
        "volume_ml": segment.volume_ml,
        "centroid_lps_mm": segment.centroid_lps_mm,
        "mean_hu": segment.mean_hu,
    }


def measurement_document(item: MeasuredValue) -> dict[str, Any]:
    """Return a number that a model estimated, with its UCUM unit."""
    return {
        "name": item.name,
        "value": item.value,
        "unit": item.unit,
        "code": item.code.as_dict() if item.code else None,
    }


def result_document(result: ModelResult, files: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a model's result with the files written for it."""
    return {
        "result_id": result.result_id,
        "series_uid": result.series_uid,
        "model": {"id": result.model.id, "version": result.model.version, "sha256": result.model.sha256},
        "device": result.device,
        "fallbacks": list(result.fallbacks),
        "segments": [segment_document(s) for s in result.segments],
        "classes": [{"label": c.label, "probability": c.probability} for c in result.classes],
        "prediction_set": list(result.prediction_set),
        "measurements": [measurement_document(m) for m in result.measurements],
        "inputs": result.inputs,
        "uncertainty": result.uncertainty,
        "out_of_distribution": result.out_of_distribution,
        "findings": [
            {
                "id": f.id,
                "label": f.label,
                "kind": f.kind,
                "centroid_lps_mm": f.centroid_lps_mm,
                "diameter_mm": f.diameter_mm,
                "volume_ml": f.volume_ml,
                "score": f.score,
            }
            for f in result.findings
        ],
        "checks": result.checks,
        "files": files,
        "seconds": result.seconds,
        "peak_rss_mb": result.peak_rss_mb,
    }
