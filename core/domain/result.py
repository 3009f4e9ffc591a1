"""What a model said about a series, and what a reader said about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from core.domain.coding import CodedConcept


class Verdict(StrEnum):
    """A reader's decision on a finding."""

    ACCEPT = "accept"
    REJECT = "reject"
    EDIT = "edit"
    UNSURE = "unsure"


@dataclass(frozen=True)
class ModelIdentity:
    """Which model, exactly: identifier, semantic version and sha256 of the weights file."""

    id: str
    version: str
    sha256: str
    title: str = ""


@dataclass(frozen=True)
class SegmentMeasure:
    """One segment of a result: voxel count, volume in ml, centroid in LPS mm, mean in the series' units."""

    value: int
    label: str
    code: CodedConcept | None
    voxels: int
    volume_ml: float
    centroid_lps_mm: tuple[float, float, float] | None
    mean_hu: float | None


@dataclass(frozen=True)
class ClassProbability:
    """One class of a classification and its probability (0…1)."""

    label: str
    probability: float


@dataclass(frozen=True)
class MeasuredValue:
    """A number that a model estimates for the whole image: its name, the value, and its UCUM unit."""

    name: str
    value: float
    unit: str
    code: CodedConcept | None = None


def unit_shown(unit: str) -> str:
    """Return a UCUM unit as readers write it: nothing for plain numbers, ``%``, ``years``, ``cm²``."""
    return {"1": "", "a": "years", "mo": "months", "cm2": "cm²", "mm2": "mm²", "mm3": "mm³"}.get(unit, unit)


@dataclass(frozen=True)
class Finding:
    """Something a reader can jump to and decide on.

    ``kind`` is ``"segment"``, ``"lesion"`` or ``"class"``; ``segment_value`` links to the label map;
    ``score`` is a probability-like confidence or None.
    """

    id: str
    label: str
    kind: str
    centroid_lps_mm: tuple[float, float, float] | None = None
    diameter_mm: float | None = None
    volume_ml: float | None = None
    score: float | None = None
    segment_value: int | None = None


@dataclass(frozen=True)
class ModelResult:
    """The outcome of one model run on one series, without its arrays.

    ``label_map_file`` is a NIfTI in the series' geometry (LPS kept), relative to the result's folder.
    ``checks`` are the outcomes of the geometry gate and the read-back (name → "ok" or the reason).
    ``inputs`` says of a model that takes several contrasts which series was which (contrast → series UID; empty
    for one that was missing).
    """

    result_id: str
    study_uid: str
    series_uid: str
    model: ModelIdentity
    task: str
    device: str
    fallbacks: tuple[str, ...] = ()
    segments: tuple[SegmentMeasure, ...] = ()
    classes: tuple[ClassProbability, ...] = ()
    prediction_set: tuple[str, ...] = ()
    uncertainty: float | None = None
    out_of_distribution: float | None = None
    findings: tuple[Finding, ...] = ()
    label_map_file: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    peak_rss_mb: float | None = None
    checks: dict[str, str] = field(default_factory=dict)
    created_utc: str = ""
    measurements: tuple[MeasuredValue, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """A reader's verdict on one finding of one result."""

    decision_id: str
    result_id: str
    finding_id: str
    verdict: Verdict
    reader: str
    decided_utc: str
    reason: str = ""
    mask_file: str | None = None
