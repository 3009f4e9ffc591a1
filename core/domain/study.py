"""Studies, series and instances as the index and the readers speak of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from core.domain.volume import SeriesIssue


class SeriesKind(StrEnum):
    """How a series is shown."""

    VOLUME = "volume"
    IMAGE = "image"
    CINE = "cine"
    OTHER = "other"


class ObjectKind(StrEnum):
    """What a series of kind ``other`` holds; an image series has ``NONE``."""

    NONE = ""
    SEGMENTATION = "seg"
    STRUCTURE_SET = "rtstruct"
    REPORT = "sr"
    PRESENTATION = "gsps"
    KEY_OBJECTS = "kos"
    PARAMETRIC_MAP = "pm"
    DOCUMENT = "pdf"
    UNKNOWN = "unknown"


class ReadStatus(StrEnum):
    """How far the reading of a study is."""

    UNREAD = "unread"
    IN_PROGRESS = "in_progress"
    REVIEWED = "reviewed"


@dataclass(frozen=True)
class InstanceRef:
    """One file of a series; ``frames`` is 1 for single-frame objects."""

    sop_instance_uid: str
    sop_class_uid: str
    file: Path
    frames: int = 1
    instance_number: int | None = None
    sha256: str = ""


@dataclass(frozen=True)
class SeriesSummary:
    """A series without identity. ``spacing_kji_mm`` is None when unknown or not regular.

    ``key`` is the index's own identifier of a displayable group: equal to ``series_uid`` unless one DICOM
    series had to be split (then ``series_uid#2`` …).

    A 4-D series has ``time_points`` > 1: ``shape_kji`` is that of one time point, ``instances`` and ``frames``
    count all of them, and ``dimension`` says what they count (``"time point"``, ``"cardiac phase"``).
    ``view`` is laterality and view of a projection (``"R CC"``). ``object_kind`` and ``source_series`` (Series
    Instance UIDs) describe an object that was derived from other series.
    """

    key: str
    series_uid: str
    study_uid: str
    modality: str
    description: str
    body_part: str
    instances: int
    frames: int
    kind: SeriesKind
    shape_kji: tuple[int, int, int] | None
    spacing_kji_mm: tuple[float, float, float] | None
    regular: bool
    issues: tuple[SeriesIssue, ...] = ()
    series_number: int | None = None
    axis_codes: str = ""
    lossy: bool = False
    frame_of_reference_uid: str | None = None
    time_points: int = 1
    dimension: str = ""
    view: str = ""
    object_kind: ObjectKind = ObjectKind.NONE
    source_series: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudySummary:
    """A study as the pseudonymised index holds it: no name, no ID, no accession number.

    ``pseudonym`` is stable per installation; ``study_year_month`` is ``YYYY-MM`` or empty.
    """

    study_uid: str
    pseudonym: str
    description: str
    modalities: tuple[str, ...]
    status: str
    series: tuple[SeriesSummary, ...] = ()
    study_date: str = ""
    imported_utc: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class PatientIdentity:
    """Who the patient is; lives in the vault and on screen only, never in a log, message or file name."""

    patient_name: str = ""
    patient_id: str = ""
    birth_date: str = ""
    sex: str = ""
    accession_number: str = ""
    referring_physician: str = ""


@dataclass(frozen=True)
class ScannedSeries:
    """One displayable series as a reader of files found it, before it enters the library.

    ``instances`` are in geometric order (ascending along the slice normal) for volumes, one time point after
    the other for 4-D series, in instance order otherwise. ``source_format`` is ``"dicom"``, ``"nifti"``,
    ``"nrrd"`` or ``"image"``. Identity stays inside the process: it goes to the vault and nowhere else.
    """

    summary: SeriesSummary
    instances: tuple[InstanceRef, ...]
    identity: PatientIdentity = PatientIdentity()
    study_description: str = ""
    study_date: str = ""
    source_format: str = "dicom"


@dataclass(frozen=True)
class SkippedFile:
    """A file that was not imported, and why. ``file`` is shown to the user and never logged."""

    file: str
    code: str
    message: str


@dataclass(frozen=True)
class ImportReport:
    """What an import did."""

    studies: tuple[StudySummary, ...]
    already_present: int
    skipped: tuple[SkippedFile, ...]
    seconds: float
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ScanResult:
    """What a reader of files found.

    ``unread`` maps ``SkippedFile.file`` to the path of each file that is not of the reader's format: another
    reader may take it, and then its entry in ``skipped`` no longer counts.
    """

    series: tuple[ScannedSeries, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()
    unread: dict[str, Path] = field(default_factory=dict)
