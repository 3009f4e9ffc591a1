"""Structured report (TID 1500 in a Comprehensive 3D SR) of a result and the reader's verdicts.

Per finding one volumetric group that refers to its segment in the SEG, and one planar group with the
centroid as a point in the frame of reference; both carry the same tracking UID. Per class one group with
its probability, per number that the model estimated for the whole image one group with its value and unit.
Source: DICOM PS3.16 TID 1500, 1410, 1411, 1501, 4019.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from core.config.version import app_version
from core.domain.errors import InputError
from core.domain.result import ClassProbability, Finding, MeasuredValue
from core.export import concepts as c
from core.export.exported import ExportedFile, quiet_writers, translated, write_verified
from core.export.identifiers import MANUFACTURER, PRODUCT, SERIES_NUMBERS, new_uid, tracking_uid
from core.export.observers import device_observer, person_observer
from core.export.report_facts import DECIMALS, ReportFacts, written
from core.export.seg import WrittenSeg
from core.export.source import SourceSeries
from core.export.sr_read_back import verify_sr

_PROCEDURES = {
    "CT": codes.cid100.CTUnspecifiedBodyRegion,
    "MR": codes.cid100.MRIUnspecifiedBodyRegion,
    "CR": codes.cid100.XRUnspecifiedBodyRegion,
    "DX": codes.cid100.XRUnspecifiedBodyRegion,
    "PT": codes.cid100.PETUnspecifiedBodyRegion,
}
# Measurement groups name each source image up to this number, and the series beyond it.
_MAX_NAMED_IMAGES = 4


def write_sr(
    facts: ReportFacts, source: SourceSeries, out: Path, *, seg: WrittenSeg | None = None
) -> ExportedFile:
    """Write the structured report and read it back.

    Parameters
    ----------
    facts : ReportFacts
        The result and the verdicts.
    source : SourceSeries
        The images.
    out : Path
        Folder for the file.
    seg : WrittenSeg, optional
        The SEG of the same result; without it regions are given by their centroids only.

    Raises
    ------
    InputError
        There is nothing to report, or the source does not allow an SR.
    SafetyError
        The read-back differs; no file stays behind.
    """
    with quiet_writers(), translated("sr"):
        groups = _groups(facts, source, seg)
        if not groups:
            raise InputError(
                "export.nothing_to_report",
                "The result has neither findings nor classes nor measurements.",
                "Run the model again.",
            )
        content = hd.sr.MeasurementReport(
            observation_context=hd.sr.ObservationContext(
                observer_person_context=person_observer(facts), observer_device_context=device_observer(facts)
            ),
            procedure_reported=_PROCEDURES.get(
                source.first.get("Modality", ""), codes.cid100.ImagingProcedure
            ),
            imaging_measurements=groups,
            title=codes.DCM.ImagingMeasurementReport,
        )
        content[0].ContentSequence.append(_statements())
        dataset = hd.sr.Comprehensive3DSR(
            evidence=[*source.headers, *([seg.header] if seg else [])],
            content=content,
            series_instance_uid=new_uid(),
            series_number=SERIES_NUMBERS.sr,
            sop_instance_uid=new_uid(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=PRODUCT,
            software_versions=app_version(),
            device_serial_number=facts.serial,
            series_description="Overread measurements and verdicts",
            is_complete=True,
            is_final=False,
            coding_schemes=[c.private_coding_scheme()],
        )
    path = write_verified(dataset, out, "sr", source, lambda part: verify_sr(part, facts, source, seg))
    return ExportedFile("sr", path, str(dataset.SOPInstanceUID), True)


def _groups(
    facts: ReportFacts, source: SourceSeries, seg: WrittenSeg | None
) -> list[hd.sr.templates.Template]:
    """Build all measurement groups."""
    groups = []
    for finding in facts.spatial_findings():
        region = _referenced_segment(facts, finding, source, seg)
        if region is not None:
            groups.append(_volumetric_group(facts, finding, region))
        groups += _point_group(facts, finding, source, with_measurements=region is None)
        if region is None and (finding.centroid_lps_mm is None or source.geometry is None):
            groups.append(_plain_group(facts, finding, source))
    groups += [_class_group(facts, item, source) for item in facts.result.classes]
    return groups + [_measured_group(facts, item, source) for item in facts.result.measurements]


def _referenced_segment(
    facts: ReportFacts, finding: Finding, source: SourceSeries, seg: WrittenSeg | None
) -> hd.sr.ReferencedSegment | None:
    """Refer to a finding's segment; None where it has none of its own.

    Built by hand: highdicom 0.28.2 fails on a SEG with a single segment in ``from_segmentation``.
    """
    value = finding.segment_value or 0
    if seg is None or value not in seg.segment_numbers or facts.measure(finding) is None:
        return None
    return hd.sr.ReferencedSegment(
        sop_class_uid=seg.header.SOPClassUID,
        sop_instance_uid=seg.header.SOPInstanceUID,
        segment_number=seg.segment_numbers[value],
        source_series=hd.sr.SourceSeriesForSegmentation(source.first.SeriesInstanceUID),
    )


def _tracking(facts: ReportFacts, finding: Finding) -> hd.sr.TrackingIdentifier:
    """Return the identifier that SEG and both groups of a finding share."""
    return hd.sr.TrackingIdentifier(uid=facts.tracking_uid(finding), identifier=finding.label[:64])


def _volumetric_group(
    facts: ReportFacts, finding: Finding, region: hd.sr.ReferencedSegment
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Describe a finding that is a segment (TID 1411)."""
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(facts, finding),
        referenced_segment=region,
        finding_type=_finding_type(facts, finding),
        finding_category=_category(facts, finding),
        algorithm_id=_algorithm(facts),
        measurements=_measurements(facts, finding) or None,
        qualitative_evaluations=_verdict(facts, finding),
    )


def _point_group(
    facts: ReportFacts, finding: Finding, source: SourceSeries, *, with_measurements: bool
) -> list[hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
    """Give a finding's centroid as a point in LPS millimetres (TID 1410), if it has one."""
    if finding.centroid_lps_mm is None or source.geometry is None:
        return []
    return [
        hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(facts, finding),
            referenced_region=hd.sr.ImageRegion3D(
                graphic_type=hd.sr.GraphicTypeValues3D.POINT,
                graphic_data=np.array([finding.centroid_lps_mm], dtype=np.float64),
                frame_of_reference_uid=source.first.FrameOfReferenceUID,
            ),
            finding_type=_finding_type(facts, finding),
            finding_category=_category(facts, finding),
            geometric_purpose=c.CENTER,
            algorithm_id=_algorithm(facts),
            measurements=(_measurements(facts, finding) or None) if with_measurements else None,
            qualitative_evaluations=_verdict(facts, finding),
        )
    ]


def _plain_group(
    facts: ReportFacts, finding: Finding, source: SourceSeries
) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    """Describe a finding that has no place (TID 1501): an empty segment, an image outside patient space."""
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(facts, finding),
        finding_type=_finding_type(facts, finding),
        finding_category=_category(facts, finding),
        algorithm_id=_algorithm(facts),
        measurements=_measurements(facts, finding) or None,
        qualitative_evaluations=_verdict(facts, finding),
        source_images=_source_images(source),
    )


def _class_group(
    facts: ReportFacts, item: ClassProbability, source: SourceSeries
) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    """Describe one class of a classification with its probability (TID 1501)."""
    finding = facts.finding_of_class(item.label)
    uid = (
        facts.tracking_uid(finding)
        if finding
        else tracking_uid(facts.result.result_id, f"class:{item.label}")
    )
    top = max(facts.result.classes, key=lambda other: other.probability)
    evaluations = [
        hd.sr.QualitativeEvaluation(c.PREDICTED_CLASS, c.YES if item is top else c.NO),
    ]
    if facts.result.prediction_set:
        contained = item.label in facts.result.prediction_set
        evaluations.append(hd.sr.QualitativeEvaluation(c.IN_PREDICTION_SET, c.YES if contained else c.NO))
    if finding is not None:
        evaluations += _verdict(facts, finding)
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=str(uid), identifier=item.label[:64]),
        finding_type=c.private_label(item.label),
        algorithm_id=_algorithm(facts),
        measurements=[hd.sr.Measurement(c.PROBABILITY, round(item.probability, DECIMALS), c.NO_UNITS)],
        qualitative_evaluations=evaluations,
        source_images=_source_images(source),
    )


def _measured_group(
    facts: ReportFacts, item: MeasuredValue, source: SourceSeries
) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    """State a number that the model estimated for the whole image, in its UCUM unit (TID 1501)."""
    name = c.concept(item.code) if item.code else c.private_label(item.name)
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=facts.measured_uid(item), identifier=item.name[:64]),
        finding_type=c.private_label(item.name),
        algorithm_id=_algorithm(facts),
        measurements=[hd.sr.Measurement(name, written(item.value), c.unit(item.unit))],
        source_images=_source_images(source),
    )


def _source_images(source: SourceSeries) -> list[hd.sr.SourceImageForMeasurementGroup] | None:
    """Name the images of a group: all of a few, the middle one of a stack."""
    count = len(source.headers)
    chosen: Sequence[Dataset] = source.headers if count <= _MAX_NAMED_IMAGES else [source.headers[count // 2]]
    return [
        hd.sr.SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID) for header in chosen
    ]


def _measurements(facts: ReportFacts, finding: Finding) -> list[hd.sr.Measurement]:
    """Return volume, diameter, mean value and score of a finding."""
    numbers = facts.numbers(finding)
    hounsfield = facts.units == "HU"
    table = (
        ("volume_ml", c.VOLUME, c.MILLILITER, None),
        ("diameter_mm", c.DIAMETER, c.MILLIMETER, None),
        (
            "mean",
            c.ATTENUATION if hounsfield else c.INTENSITY,
            c.HOUNSFIELD_UNIT if hounsfield else c.NO_UNITS,
            c.MEAN,
        ),
        ("score", c.PROBABILITY, c.NO_UNITS, None),
    )
    return [
        hd.sr.Measurement(name, numbers[key], unit, derivation=derivation)
        for key, name, unit, derivation in table
        if key in numbers
    ]


def _finding_type(facts: ReportFacts, finding: Finding) -> hd.sr.CodedConcept:
    """Return the code of what was found; a private code from the label where the model has none."""
    definition = facts.definitions.get(finding.segment_value or 0)
    return c.concept(definition.code) if definition else c.private_label(finding.label)


def _category(facts: ReportFacts, finding: Finding) -> hd.sr.CodedConcept | None:
    """Return the property category of a finding, if known."""
    definition = facts.definitions.get(finding.segment_value or 0)
    return c.concept(definition.category) if definition else None


def _verdict(facts: ReportFacts, finding: Finding) -> list[hd.sr.QualitativeEvaluation]:
    """State the reader's verdict, or that there is none."""
    return [hd.sr.QualitativeEvaluation(c.VERDICT, c.VERDICT_VALUES[facts.verdict(finding)])]


def _algorithm(facts: ReportFacts) -> hd.sr.AlgorithmIdentification:
    """Identify the model (TID 4019)."""
    model = facts.result.model
    return hd.sr.AlgorithmIdentification(
        name=model.title or model.id,
        version=model.version,
        parameters=[f"model_id={model.id}", f"weights_sha256={model.sha256}"],
        family=c.ARTIFICIAL_INTELLIGENCE,
    )


def _statements() -> hd.sr.ContainerContentItem:
    """State the intended use for the whole document (TID 1500 row 12)."""
    container = hd.sr.ContainerContentItem(
        name=hd.sr.CodedConcept(
            value="C0034375", scheme_designator="UMLS", meaning="Qualitative Evaluations"
        ),
        relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
    )
    container.ContentSequence = hd.sr.ContentSequence(
        [
            hd.sr.CodeContentItem(
                name=c.INTENDED_USE_NAME,
                value=c.INTENDED_USE_VALUE,
                relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
            )
        ]
    )
    return container
