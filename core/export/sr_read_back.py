"""Read-back of a written SR, element by element, without the library that wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from core.domain.result import Finding
from core.export import concepts as c
from core.export.exported import differs, require_identity
from core.export.report_facts import DECIMALS, ReportFacts, written
from core.export.seg import WrittenSeg
from core.export.source import SourceSeries

_MEASUREMENT_GROUP = "125007"
_TRACKING_UID = "112040"
_REFERENCED_SEGMENT = "121191"


@dataclass
class _Group:
    """What one measurement group states."""

    tracking_uid: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    evaluations: dict[str, str] = field(default_factory=dict)
    point: tuple[float, ...] | None = None
    frame_of_reference_uid: str = ""
    segment: tuple[str, int] | None = None


def verify_sr(path: Path, facts: ReportFacts, source: SourceSeries, seg: WrittenSeg | None) -> None:
    """Compare an SR file with the facts it was made from.

    Patient and study, every number, verdict, centroid and segment reference, and the evidence.

    Raises
    ------
    SafetyError
        Code ``export.read_back``.
    """
    dataset = dcmread(path)
    require_identity("sr", dataset, source)
    _compare_evidence(dataset, source, seg)
    groups = [_read_group(item) for item in _groups(dataset)]
    for finding in facts.spatial_findings():
        uid = facts.tracking_uid(finding)
        _compare_finding(facts, finding, [g for g in groups if g.tracking_uid == uid], source, seg)
    _compare_classes(facts, groups)
    _compare_measured(facts, groups)


def _compare_evidence(dataset: Dataset, source: SourceSeries, seg: WrittenSeg | None) -> None:
    """Require every source image and the SEG in the evidence."""
    named = {
        str(instance.ReferencedSOPInstanceUID)
        for study in dataset.get("CurrentRequestedProcedureEvidenceSequence", [])
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    wanted = {str(header.SOPInstanceUID) for header in source.headers}
    if seg is not None:
        wanted.add(str(seg.header.SOPInstanceUID))
    if named != wanted:
        raise differs("sr", "the images and objects given as evidence")


def _groups(dataset: Dataset) -> Iterator[Dataset]:
    """Yield the measurement groups."""
    for item in dataset.ContentSequence:
        for child in item.get("ContentSequence", []):
            if _code(child) == _MEASUREMENT_GROUP:
                yield child


def _code(item: Dataset) -> str:
    """Return the code value of an item's concept name."""
    return str(item.ConceptNameCodeSequence[0].CodeValue) if item.get("ConceptNameCodeSequence") else ""


def _read_group(group: Dataset) -> _Group:
    """Read one measurement group."""
    out = _Group()
    for item in group.ContentSequence:
        code = _code(item)
        if item.ValueType == "UIDREF" and code == _TRACKING_UID:
            out.tracking_uid = str(item.UID)
        elif item.ValueType == "NUM":
            value = item.MeasuredValueSequence[0]
            out.numbers[code] = float(value.NumericValue)
            out.units[code] = str(value.MeasurementUnitsCodeSequence[0].CodeValue)
        elif item.ValueType == "CODE":
            out.evaluations[code] = str(item.ConceptCodeSequence[0].CodeValue)
        elif item.ValueType == "SCOORD3D":
            out.point = tuple(float(v) for v in item.GraphicData)
            out.frame_of_reference_uid = str(item.ReferencedFrameOfReferenceUID)
        elif item.ValueType == "IMAGE" and code == _REFERENCED_SEGMENT:
            reference = item.ReferencedSOPSequence[0]
            out.segment = (str(reference.ReferencedSOPInstanceUID), int(reference.ReferencedSegmentNumber))
    return out


def _compare_finding(
    facts: ReportFacts, finding: Finding, groups: list[_Group], source: SourceSeries, seg: WrittenSeg | None
) -> None:
    """Compare the groups of one finding with the finding."""
    verdict = c.VERDICT_VALUES[facts.verdict(finding)].value
    if not groups or any(g.evaluations.get(c.VERDICT.value) != verdict for g in groups):
        raise differs("sr", f"the verdict on {finding.label}")
    numbers: dict[str, float] = {}
    for group in groups:
        numbers |= group.numbers
    if not _same_numbers(numbers, _wanted_numbers(facts, finding)):
        raise differs("sr", f"the measurements of {finding.label}")
    if finding.centroid_lps_mm is not None and source.geometry is not None:
        _compare_point(finding, groups, source)
    if (
        seg is not None
        and finding.segment_value in seg.segment_numbers
        and facts.measure(finding) is not None
    ):
        wanted = (str(seg.header.SOPInstanceUID), seg.segment_numbers[finding.segment_value or 0])
        if wanted not in [g.segment for g in groups]:
            raise differs("sr", f"the segment of {finding.label}")


def _wanted_numbers(facts: ReportFacts, finding: Finding) -> dict[str, float]:
    """Return the numbers of a finding by the code they are written under."""
    mean = c.ATTENUATION if facts.units == "HU" else c.INTENSITY
    names = {"volume_ml": c.VOLUME, "diameter_mm": c.DIAMETER, "mean": mean, "score": c.PROBABILITY}
    return {names[key].value: value for key, value in facts.numbers(finding).items()}


def _same_numbers(found: dict[str, float], wanted: dict[str, float]) -> bool:
    """Whether both hold the same codes with the same values (to one part in a million)."""
    return found.keys() == wanted.keys() and all(
        bool(np.isclose(found[code], value, rtol=1e-6, atol=10**-DECIMALS / 2))
        for code, value in wanted.items()
    )


def _compare_point(finding: Finding, groups: list[_Group], source: SourceSeries) -> None:
    """Refuse a centroid that is more than half a voxel away or in another frame of reference."""
    assert source.geometry is not None and finding.centroid_lps_mm is not None
    points = [g for g in groups if g.point is not None]
    limit = 0.5 * min(source.geometry.spacing_ijk_mm)
    if len(points) != 1 or points[0].frame_of_reference_uid != source.first.FrameOfReferenceUID:
        raise differs("sr", f"the centroid of {finding.label}")
    if float(np.linalg.norm(np.subtract(points[0].point or (), finding.centroid_lps_mm))) > limit:
        raise differs("sr", f"the centroid of {finding.label}")


def _compare_classes(facts: ReportFacts, groups: list[_Group]) -> None:
    """Compare the probabilities and verdicts of the classes."""
    classes = [g for g in groups if c.PREDICTED_CLASS.value in g.evaluations]
    if len(classes) != len(facts.result.classes):
        raise differs("sr", "the number of classes")
    for group, item in zip(classes, facts.result.classes, strict=True):
        wanted = {c.PROBABILITY.value: round(item.probability, DECIMALS)}
        finding = facts.finding_of_class(item.label)
        verdict = c.VERDICT_VALUES[facts.verdict(finding)].value if finding else None
        if not _same_numbers(group.numbers, wanted) or group.evaluations.get(c.VERDICT.value) != verdict:
            raise differs("sr", f"the class {item.label}")


def _compare_measured(facts: ReportFacts, groups: list[_Group]) -> None:
    """Compare the numbers that the model estimated for the whole image, and their units."""
    for item in facts.result.measurements:
        uid = facts.measured_uid(item)
        found = [(g.numbers, g.units) for g in groups if g.tracking_uid == uid]
        code = item.code.value if item.code else c.private_label(item.name).value
        if found != [({code: written(item.value)}, {code: item.unit})]:
            raise differs("sr", f"the measurement {item.name}")
