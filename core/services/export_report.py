"""The PDF report of a result, and the DICOM object that carries it into the archive."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from core.domain.explanation import Explanation
from core.domain.study import InstanceRef, SeriesKind, SeriesSummary
from core.export.encapsulated_pdf import write_encapsulated_pdf
from core.export.exported import ExportedFile
from core.export.pdf import KeyPicture, ReportHead, write_pdf
from core.export.report_facts import ReportFacts
from core.export.source import SourceSeries
from core.services.engine import Engine
from core.services.list_studies import get_study
from core.services.render import render

_PICTURE_SIZE = (1280, 860)


def write_report(
    engine: Engine,
    facts: ReportFacts,
    series: tuple[SeriesSummary, tuple[InstanceRef, ...]],
    explanations: list[Explanation],
    source: Callable[[], SourceSeries] | None,
    out: Path,
) -> list[ExportedFile]:
    """Write the report as PDF and, for a DICOM source, as Encapsulated PDF.

    Parameters
    ----------
    source : callable or None
        Returns the source images; None when the source is not DICOM.
    """
    summary, _ = series
    study = get_study(engine, facts.result.study_uid)
    chain = engine.head_file.read()
    head = ReportHead(
        pseudonym=study.pseudonym,
        study_description=study.description,
        study_month=study.study_date,
        series_description=summary.description,
        modality=summary.modality,
        images=max(summary.instances, summary.frames),
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        audit_events=chain.seq if chain else 0,
        audit_head=chain.hash.hex() if chain else "",
        pictures=_pictures(engine, facts, summary, explanations, out),
    )
    file = write_pdf(facts, head, out)
    if source is None:
        return [file]
    return [file, write_encapsulated_pdf(file.path.read_bytes(), source(), out, serial=facts.serial)]


def _pictures(
    engine: Engine, facts: ReportFacts, summary: SeriesSummary, explanations: list[Explanation], out: Path
) -> tuple[KeyPicture, ...]:
    """Draw the segments and the newest heat map as the viewer shows them."""
    layout = "mpr" if summary.kind is SeriesKind.VOLUME else "stack"
    result_id = facts.result.result_id
    pictures = []
    if facts.result.label_map_file:
        png = _drawn(engine, summary, layout, result_id, None, out)
        pictures.append(KeyPicture(png, "Segments of the model, drawn over the series."))
    if explanations:
        newest = explanations[-1]
        png = _drawn(engine, summary, layout, result_id, f"{newest.method}:{newest.class_label}", out)
        pictures.append(KeyPicture(png, f"Heat map ({newest.method}) of {newest.class_label}."))
    return tuple(pictures)


def _drawn(
    engine: Engine, summary: SeriesSummary, layout: str, result_id: str, heatmap: str | None, out: Path
) -> bytes:
    """Draw one picture and return it as PNG."""
    path = out / "picture.png"
    try:
        render(
            engine,
            summary.key,
            layout=layout,
            result_id=result_id,
            heatmap=heatmap,
            size=_PICTURE_SIZE,
            out=path,
        )
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)
