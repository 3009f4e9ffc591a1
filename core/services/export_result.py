"""Export a result: as DICOM objects for the archive, as NIfTI and CSV for research, as PDF for people."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from core.dicom.assemble import of_time_point
from core.domain.audit import AuditCode
from core.domain.errors import EnvironmentFault, InputError, SafetyError
from core.domain.explanation import Explanation
from core.domain.geometry import VolumeGeometry
from core.domain.result import ModelResult, Verdict
from core.domain.segmentation import Segmentation
from core.domain.study import InstanceRef, SeriesSummary
from core.export.csv_table import write_csv
from core.export.exported import ExportedFile, differs
from core.export.identifiers import file_stem
from core.export.kos import write_kos
from core.export.pm import write_parametric_map
from core.export.report_facts import ReportFacts
from core.export.seg import ObjectPlace, SegmentAuthor, WrittenSeg, write_seg
from core.export.source import SourceSeries, read_source
from core.export.sr import write_sr
from core.formats.nifti import read_nifti, write_nifti
from core.services.acquired_grid import acquired_grid, explanation_on, segmentation_on
from core.services.edited_segmentation import apply_edits
from core.services.engine import Engine
from core.services.export_report import write_report
from core.services.list_studies import get_series, get_study
from core.services.results import decisions_for, load_explanations, load_result, load_segmentation

__all__ = ["KINDS", "ExportedFile", "export_explanation_nifti", "export_result"]

KINDS = ("seg", "sr", "pm", "kos", "nifti", "pdf", "csv")
STAGE_PREFIX = ".part-export-"


def export_result(engine: Engine, result_id: str, kinds: Sequence[str], out: Path) -> list[ExportedFile]:
    """Write a result to ``out``, all of it or nothing, with its audit record.

    Every file is read back and compared before it counts. The files get their final names only after the
    audit record is in the chain; when that cannot be written, nothing is exported.

    Parameters
    ----------
    result_id : str
        The result.
    kinds : sequence of str
        Any of ``KINDS``.
    out : Path
        Folder; created when missing. File names hold nothing of the patient; DICOM objects carry the
        source's identity inside, since they go back to the archive.

    Returns
    -------
    list of ExportedFile
        In the order of ``KINDS``.

    Raises
    ------
    InputError
        Unknown kind, unknown result, or the result or its source does not allow a kind.
    SafetyError
        Geometry or read-back differs.
    EnvironmentFault
        The folder cannot be written.
    """
    wanted = _checked_kinds(kinds)
    export = _Export(engine, load_result(engine, result_id))
    with _stage(out) as stage:
        files = export.write(wanted, stage)
        engine.record(
            AuditCode.EXPORT,
            action="R",
            object_kind="study",
            object_ref=export.result.study_uid,
            n_objects=len(files),
            detail={
                "result_id": result_id,
                "kinds": " ".join(wanted),
                "files": len(files),
                "verified": all(file.verified for file in files),
            },
        )
        return [_publish(file, out) for file in files]


def export_explanation_nifti(engine: Engine, result_id: str, explanation: Explanation, out: Path) -> Path:
    """Write one heat map as NIfTI to the folder ``out``, audited; returns the file."""
    result = load_result(engine, result_id)
    with _stage(out) as stage:
        file = _write_heat(explanation, result_id, stage)
        engine.record(
            AuditCode.EXPORT,
            action="R",
            object_kind="study",
            object_ref=result.study_uid,
            n_objects=1,
            detail={"result_id": result_id, "kinds": "nifti", "method": explanation.method},
        )
        return _publish(file, out).path


def _checked_kinds(kinds: Sequence[str]) -> list[str]:
    """Return the kinds in the order of writing; refuse unknown ones."""
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown or not kinds:
        what = f"This version does not write {', '.join(unknown)}." if unknown else "No kind was asked for."
        raise InputError("export.kind", what, f"Choose from {', '.join(KINDS)}.")
    return [kind for kind in KINDS if kind in kinds]


@contextmanager
def _stage(out: Path) -> Iterator[Path]:
    """Yield a folder inside ``out`` for unfinished files; it is gone afterwards."""
    stage = out / f"{STAGE_PREFIX}{secrets.token_hex(6)}"
    try:
        stage.mkdir(parents=True)
    except OSError as error:
        raise EnvironmentFault(
            "export.unwritable",
            f"The export folder cannot be written ({error.strerror or type(error).__name__}).",
            "Choose another folder.",
        ) from error
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _publish(file: ExportedFile, out: Path) -> ExportedFile:
    """Move a verified file to its final name."""
    target = out / file.path.name
    try:
        file.path.replace(target)
    except OSError as error:
        raise EnvironmentFault(
            "export.unwritable",
            f"The export folder cannot be written ({error.strerror or type(error).__name__}).",
            "Choose another folder and export again.",
        ) from error
    return replace(file, path=target)


@dataclass(eq=False)
class _Export:
    """One export: loads each input once, when the first kind needs it."""

    engine: Engine
    stored: ModelResult

    @cached_property
    def series(self) -> tuple[SeriesSummary, tuple[InstanceRef, ...]]:
        """The source series."""
        return get_series(self.engine, self.stored.series_uid)

    @cached_property
    def _edited(self) -> tuple[ModelResult, Segmentation | None, frozenset[int]]:
        segmentation = load_segmentation(self.engine, self.stored.result_id)
        if segmentation is None:
            return self.stored, None, frozenset()
        return apply_edits(self.engine, self.stored, segmentation, self.facts_decisions)

    @cached_property
    def facts_decisions(self) -> Mapping:
        """The standing verdicts."""
        return decisions_for(self.engine, self.stored.result_id)

    @property
    def result(self) -> ModelResult:
        """The result with the measures of edited segments."""
        return self._edited[0]

    @property
    def segmentation(self) -> Segmentation | None:
        """The label map with the reader's edits."""
        return self._edited[1]

    @cached_property
    def explanations(self) -> list[Explanation]:
        """The newest heat map of each method and class."""
        newest = {
            (e.method, e.class_label, e.layer): e
            for e in load_explanations(self.engine, self.stored.result_id)
        }
        return list(newest.values())

    @cached_property
    def facts(self) -> ReportFacts:
        """What reports state."""
        decisions = self.facts_decisions
        latest = max(decisions.values(), key=lambda d: d.decided_utc, default=None)
        segments = self.segmentation.segments if self.segmentation else ()
        return ReportFacts(
            result=self.result,
            units="HU" if self.series[0].modality == "CT" else "stored",
            reader=latest.reader if latest else "",
            serial=self.serial,
            definitions={s.value: s for s in segments},
            decisions=decisions,
        )

    @property
    def serial(self) -> str:
        """Serial number of this installation."""
        return self.engine.installation[:16] or "0"

    @cached_property
    def source(self) -> SourceSeries:
        """The source images on the result's grid."""
        geometry = self.segmentation.geometry if self.segmentation else None
        if geometry is None and self.explanations:
            geometry = self.explanations[0].geometry
        return self.source_on(None if geometry is None else self.acquired(geometry))

    def acquired(self, geometry: VolumeGeometry) -> VolumeGeometry:
        """The grid of the images, which a straightened one isn't."""
        return acquired_grid(geometry, *self.series)

    def source_on(self, geometry: VolumeGeometry | None) -> SourceSeries:
        """Read the source's headers and make sure that they are those of the result."""
        summary, instances = self.series
        instances = tuple(of_time_point(instances, summary, 0))
        source = read_source([instance.file for instance in instances], geometry)
        known = {instance.sop_instance_uid for instance in instances}
        if source.first.StudyInstanceUID != self.stored.study_uid or any(
            str(header.SOPInstanceUID) not in known for header in source.headers
        ):
            raise SafetyError(
                "export.source_changed",
                "The files of the source series are no longer those that were analysed.",
                "Import the study again and run the model again.",
            )
        return source

    def write(self, kinds: Sequence[str], out: Path) -> list[ExportedFile]:
        """Write the kinds in order; the SR refers to the SEG when both are wanted."""
        seg: WrittenSeg | None = None
        files: list[ExportedFile] = []
        writers: Mapping[str, Callable[[], list[ExportedFile]]] = {
            "sr": lambda: [write_sr(self.facts, self.source, out, seg=seg)],
            "pm": lambda: self._write_maps(out),
            "kos": lambda: [write_kos(self.facts, self.source, out)],
            "nifti": lambda: self._write_nifti(out),
            "pdf": lambda: self._write_report(out),
            "csv": lambda: [write_csv(self.facts, self._pseudonym(), out)],
        }
        for kind in kinds:
            if kind == "seg":
                seg = self._write_seg(out)
                files.append(seg.file)
            else:
                files += writers[kind]()
        return files

    def _pseudonym(self) -> str:
        return get_study(self.engine, self.stored.study_uid).pseudonym

    def _write_seg(self, out: Path) -> WrittenSeg:
        if self.segmentation is None:
            raise InputError(
                "export.no_label_map",
                "The result has no label map, so there is no SEG.",
                "Export as sr or csv instead.",
            )
        return write_seg(
            segmentation_on(self.segmentation, self.acquired(self.segmentation.geometry)),
            self.source,
            out,
            result_id=self.stored.result_id,
            author=SegmentAuthor(self.stored.model, self._edited[2], self.facts.reader),
            tracking_keys=self.facts.tracking_keys(),
            verdicts=self._verdicts_by_segment(),
            place=ObjectPlace(serial=self.serial),
        )

    def _verdicts_by_segment(self) -> dict[int, Verdict]:
        """Return the verdict of each segment; one with several findings counts as rejected if all of them are."""
        given: dict[int, list[Verdict | None]] = {}
        for finding in self.result.findings:
            if finding.segment_value is not None:
                given.setdefault(finding.segment_value, []).append(self.facts.verdict(finding))
        verdicts = {}
        for value, each in given.items():
            others = [v for v in each if v is not Verdict.REJECT]
            chosen = others[0] if others else Verdict.REJECT
            if chosen is not None:
                verdicts[value] = chosen
        return verdicts

    def _write_report(self, out: Path) -> list[ExportedFile]:
        from_dicom = all(instance.sop_class_uid for instance in self.series[1])
        source = (lambda: self.source_on(None)) if from_dicom else None
        return write_report(self.engine, self.facts, self.series, self.explanations, source, out)

    def _write_maps(self, out: Path) -> list[ExportedFile]:
        if not self.explanations:
            raise InputError(
                "export.no_explanation",
                "The result has no heat map, so there is no Parametric Map.",
                "Explain the result first.",
            )
        placed = [explanation_on(e, self.acquired(e.geometry)) for e in self.explanations]
        return [
            write_parametric_map(
                explanation,
                self.source_on(explanation.geometry),
                out,
                model=self.stored.model,
                serial=self.serial,
                instance_number=number,
            )
            for number, explanation in enumerate(placed, start=1)
        ]

    def _write_nifti(self, out: Path) -> list[ExportedFile]:
        files = [_write_heat(e, self.stored.result_id, out) for e in self.explanations]
        if self.segmentation is not None:
            files.insert(0, _write_labels(self.segmentation, self.stored.result_id, out))
        if not files:
            raise InputError(
                "export.no_arrays",
                "The result has neither a label map nor a heat map.",
                "Export as sr or csv instead.",
            )
        return files


def _write_labels(segmentation: Segmentation, result_id: str, out: Path) -> ExportedFile:
    """Write a label map as NIfTI and read it back."""
    path = out / f"{file_stem('labels', result_id)}.nii.gz"
    write_nifti(path, segmentation.geometry, segmentation.labels, intent_label=True)
    back = read_nifti(path)
    if not back.geometry.same_grid_as(segmentation.geometry) or not np.array_equal(
        back.voxels, segmentation.labels
    ):
        raise differs("nifti", "voxels or geometry of the label map")
    return ExportedFile("nifti", path, "", True)


def _write_heat(explanation: Explanation, result_id: str, out: Path) -> ExportedFile:
    """Write a heat map as NIfTI and read it back."""
    entropy = f"{result_id}/{explanation.method}/{explanation.class_label}/{explanation.layer}"
    path = out / f"{file_stem('heatmap', entropy)}.nii.gz"
    write_nifti(path, explanation.geometry, explanation.heat)
    back = read_nifti(path)
    if not back.geometry.same_grid_as(explanation.geometry) or not np.allclose(
        back.voxels, explanation.heat, rtol=0, atol=1e-6
    ):
        raise differs("nifti", "values or geometry of the heat map")
    return ExportedFile("nifti", path, "", True)
