"""A tiny asymmetric volume whose marks tell every direction apart, as a DICOM series."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.domain.coding import CodedConcept
from core.domain.geometry import VolumeGeometry
from core.domain.result import Decision, Finding, ModelIdentity, ModelResult, SegmentMeasure, Verdict
from core.domain.segmentation import Segmentation, SegmentDefinition
from core.export.report_facts import ReportFacts
from core.phantom.acquisition import Acquisition, ct_acquisition
from core.phantom.dicom import PhantomSubject, WrittenStudy, write_study

SHAPE_KJI = (5, 9, 11)
SPACING_IJK_MM = (0.9, 1.3, 2.1)
MODEL = ModelIdentity("thorax-ct", "1.0.0", "ab" * 32, "Thorax CT")
ORGAN = CodedConcept("123037004", "SCT", "Anatomical Structure")
LIVER = CodedConcept("10200004", "SCT", "Liver")
SPLEEN = CodedConcept("78961009", "SCT", "Spleen")
KIDNEY = CodedConcept("64033007", "SCT", "Kidney")
SEGMENTS = (
    SegmentDefinition(2, "Liver", LIVER, ORGAN, (200, 120, 60)),
    SegmentDefinition(5, "Spleen", SPLEEN, ORGAN, (120, 60, 200)),
    SegmentDefinition(9, "Kidney", KIDNEY, ORGAN, (60, 200, 120)),
)


@dataclass(frozen=True, eq=False)
class MarkedPhantom:
    """The series with its truth; kidney is defined but empty."""

    geometry: VolumeGeometry
    voxels: NDArray[np.int16]
    segmentation: Segmentation
    study: WrittenStudy


def orientations() -> list[NDArray[np.float64]]:
    """Return the 24 right-handed direction matrices with axes along those of the patient."""
    found = []
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        matrix = np.zeros((3, 3))
        for column, (axis, sign) in enumerate(zip(order, signs, strict=True)):
            matrix[axis, column] = sign
        if np.linalg.det(matrix) > 0:
            found.append(matrix)
    return found


def grid(
    direction: NDArray[np.float64] | None = None, *, tilt_deg: float = 0.0, shape_kji: tuple = SHAPE_KJI
) -> VolumeGeometry:
    """Return a grid off the origin; ``tilt_deg`` shears the stack along the columns like a tilted gantry."""
    axes = (np.eye(3) if direction is None else direction) @ np.diag(SPACING_IJK_MM)
    axes[:, 2] += np.tan(np.deg2rad(tilt_deg)) * SPACING_IJK_MM[2] * axes[:, 1] / SPACING_IJK_MM[1]
    matrix = np.eye(4)
    matrix[:3, :3] = axes
    matrix[:3, 3] = (-31.0, 17.0, 53.0)
    return VolumeGeometry(shape_kji, matrix)


def labels(shape_kji: tuple = SHAPE_KJI) -> NDArray[np.uint8]:
    """Return two marks in different corners, of different size, none of them symmetric."""
    out = np.zeros(shape_kji, np.uint8)
    out[0:2, 1:4, 1:3] = 2
    out[1, 4, 1] = 2
    out[-2:, -3:-1, -5:-2] = 5
    out[-1, -4, -3] = 5
    return out


def write_marked(
    out: Path,
    geometry: VolumeGeometry | None = None,
    *,
    descending: bool = False,
    acquisition: Acquisition | None = None,
    subject: PhantomSubject | None = None,
    key: str = "marked",
) -> MarkedPhantom:
    """Write the phantom; its voxels are 100 × label on a ramp that differs in every voxel."""
    place = geometry or grid()
    truth = labels(place.shape_kji)
    ramp = np.arange(truth.size, dtype=np.int16).reshape(truth.shape) % 97
    voxels = (truth.astype(np.int16) * 100 + ramp).astype(np.int16)
    count = place.shape_kji[0]
    order = list(range(count))[::-1] if descending else list(range(count))
    study = write_study(
        voxels,
        place,
        acquisition or ct_acquisition(),
        subject or PhantomSubject(),
        key=key,
        out=out,
        file_order=order,
    )
    known = VolumeGeometry(place.shape_kji, place.lps_from_ijk, study.frame_of_reference_uid)
    return MarkedPhantom(known, voxels, Segmentation(known, truth, SEGMENTS), study)


def facts(phantom: MarkedPhantom, **changes: object) -> ReportFacts:
    """Return what a report of the two marks states: the liver rejected, the spleen not reviewed."""
    measures, findings = [], []
    for segment in SEGMENTS:
        k, j, i = np.nonzero(phantom.segmentation.labels == segment.value)
        if not len(k):
            measures.append(SegmentMeasure(segment.value, segment.label, segment.code, 0, 0.0, None, None))
            continue
        x, y, z = phantom.geometry.lps_of([[i.mean(), j.mean(), k.mean()]])[0]
        volume = len(k) * phantom.geometry.voxel_volume_ml
        mean = float(phantom.voxels[k, j, i].mean())
        point = (float(x), float(y), float(z))
        measures.append(
            SegmentMeasure(segment.value, segment.label, segment.code, len(k), volume, point, mean)
        )
        findings.append(
            Finding(f"f{segment.value}", segment.label, "segment", point, 4.25, volume, None, segment.value)
        )
    result = ModelResult(
        "result-1", phantom.study.study_uid, phantom.study.series_uid, MODEL, "segmentation", "cpu",
        segments=tuple(measures), findings=tuple(findings),
    )  # fmt: skip
    values: dict = {
        "result": result,
        "units": "HU",
        "reader": "Reader^Rita",
        "definitions": {s.value: s for s in SEGMENTS},
        "decisions": {
            "f2": Decision("d1", "result-1", "f2", Verdict.REJECT, "Reader^Rita", "2026-01-02T03:04:05")
        },
    }
    return ReportFacts(**{**values, **changes})
