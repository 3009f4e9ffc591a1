"""What the rest of the engine needs to know of one DICOM file, read without its pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from core.dicom.elements import Elements
from core.dicom.faults import malformed
from core.dicom.functional_groups import FramePlane, read_planes
from core.dicom.part10 import ParsedFile
from core.dicom.series_rules import series_rules
from core.domain.study import ObjectKind, PatientIdentity
from core.domain.volume import SeriesIssue

Vector = tuple[float, float, float]
_MOST_SOURCES = 64

IMAGE_TAGS = frozenset(
    {
        0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00080060, 0x00280002, 0x00280004, 0x00280006,
        0x00280008, 0x00280010, 0x00280011, 0x00280030, 0x00280100, 0x00280101, 0x00280103, 0x00280120,
        0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281054, 0x00281055, 0x00282110, 0x00181164,
        0x00180050, 0x00180088, 0x0020000D, 0x0020000E, 0x00200013, 0x00200020, 0x00200032, 0x00200037,
        0x00200052, 0x00541001, 0x52009229, 0x52009230, 0x00181149,
    }
)  # fmt: skip
"""Elements that describe pixels and geometry."""

PIXEL_TABLE_TAGS = frozenset(
    {0x00283000, 0x00283010, 0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203,
     0x00281221, 0x00281222, 0x00281223}
)  # fmt: skip
"""Look-up tables."""

_GROUPING_TAGS = frozenset(
    {
        0x00080020, 0x00080021, 0x00080022, 0x00080030, 0x00080031, 0x00080032, 0x00080033, 0x00080050,
        0x00080070, 0x00080090, 0x00081030, 0x0008103E, 0x00081090, 0x00100010, 0x00100020, 0x00100030,
        0x00100040, 0x00180015, 0x00180081, 0x00180086, 0x00181060, 0x00189087, 0x0019100A, 0x0019100C,
        0x00431039, 0x00200011, 0x00200012, 0x00200100, 0x00280301, 0x00181062, 0x00181088, 0x00181090,
        0x00181210, 0x00541300, 0x00200105,
    }
)  # fmt: skip
_SHOWING_TAGS = frozenset(
    {0x00080068, 0x00180040, 0x00181063, 0x00181065, 0x00082144, 0x00185101, 0x00200060, 0x00200062, 0x00540220,
     0x00281056, 0x00191029}
)  # fmt: skip
"""Frame times of a cine, laterality and view of a projection, function of a window, slice times of a mosaic."""

_REFERENCE_TAGS = frozenset({0x00081115, 0x0040A375, 0x0040A385, 0x30060010})
"""Where derived objects name the series that they were made from."""

HEADER_TAGS = IMAGE_TAGS | _GROUPING_TAGS | PIXEL_TABLE_TAGS | _SHOWING_TAGS | _REFERENCE_TAGS


@dataclass(slots=True)
class Header:
    """One file's description. Lengths in millimetres, positions in LPS.

    ``frames`` counts frames; ``planes`` is filled for enhanced multi-frame objects. ``issues`` are small
    deviations that were tolerated.
    """

    file: Path
    parsed: ParsedFile
    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    modality: str
    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    orientation: tuple[float, ...]
    position: Vector | None
    pixel_spacing: tuple[float, ...]
    detector_spacing: tuple[float, ...]
    image_type: tuple[str, ...]
    frame_of_reference_uid: str
    instance_number: int | None
    slope: float
    intercept: float
    planes: tuple[FramePlane, ...] = ()
    issues: tuple[SeriesIssue, ...] = ()
    lossy: bool = False
    has_pixels: bool = False
    patient_key: str = ""
    derived_series: bool = False
    source_series: tuple[str, ...] = ()
    rescale_sound: bool = True

    @property
    def stamp(self) -> tuple[int, int, int]:
        """Size, modification time and inode of the file when it was read."""
        return self.parsed.stamp

    @property
    def elements(self) -> Elements:
        """The elements that were asked for."""
        return self.parsed.elements

    @property
    def bytes_per_frame(self) -> int:
        """Bytes of one uncompressed frame; one-bit frames are rounded up."""
        return (self.rows * self.columns * self.samples * self.bits_allocated + 7) // 8


@lru_cache(maxsize=512)
def object_kind(sop_class_uid: str) -> ObjectKind:
    """Return what an object of a class is: segmentation, report, plan …; ``NONE`` for an image."""
    return series_rules().object_kind(sop_class_uid)


def is_derived_object(sop_class_uid: str) -> bool:
    """Whether the class is a segmentation, report, plan, document or the like rather than an image."""
    return object_kind(sop_class_uid) is not ObjectKind.NONE


def _source_series(e: Elements, own: str) -> tuple[str, ...]:
    """List the series that a derived object names, in the order of their first mention.

    Source: DICOM PS3.3 C.12.4 (referenced series), C.17.2.3 (evidence), C.8.8.5 (structure set).
    """
    found: dict[str, None] = {}
    series = list(e.items(0x00081115))
    for evidence in (0x0040A375, 0x0040A385):
        series += [item for study in e.items(evidence) for item in study.items(0x00081115)]
    for frame_of_reference in e.items(0x30060010):
        for study in frame_of_reference.items(0x30060012):
            series += study.items(0x30060014)
    for item in series:
        uid = item.text(0x0020000E)
        if uid and uid != own:
            found[uid] = None
    return tuple(found)[:_MOST_SOURCES]


def describe(parsed: ParsedFile) -> Header:
    """Return the description of a parsed file; UIDs and pixels are not checked yet."""
    e = parsed.elements
    if not e.raw:
        raise malformed("The file holds no readable element.", "dicom.empty")
    position = e.numbers(0x00200032)
    slope, intercept, sound = _rescale(e)
    header = Header(
        file=parsed.file,
        parsed=parsed,
        sop_class_uid=e.text(0x00080016) or parsed.meta.text(0x00020002),
        sop_instance_uid=e.text(0x00080018),
        study_uid=e.text(0x0020000D),
        series_uid=e.text(0x0020000E),
        modality=e.text(0x00080060).upper()[:16],
        rows=e.integer(0x00280010) or 0,
        columns=e.integer(0x00280011) or 0,
        frames=max(1, e.integer(0x00280008) or 1),
        samples=e.integer(0x00280002) or 1,
        bits_allocated=e.integer(0x00280100) or 0,
        bits_stored=e.integer(0x00280101) or e.integer(0x00280100) or 0,
        signed=e.integer(0x00280103) == 1,
        photometric=e.text(0x00280004).upper(),
        orientation=_orientation(e.numbers(0x00200037)),
        position=(position[0], position[1], position[2]) if _finite(position, 3) else None,
        pixel_spacing=_positive_pair(e.numbers(0x00280030)),
        detector_spacing=_positive_pair(e.numbers(0x00181164)),
        image_type=e.texts(0x00080008),
        frame_of_reference_uid=e.text(0x00200052),
        instance_number=e.integer(0x00200013),
        slope=slope,
        intercept=intercept,
        rescale_sound=sound,
        lossy=parsed.syntax.lossy or e.text(0x00282110) == "01",
        has_pixels=parsed.pixels is not None,
    )
    if 0x52009230 in e or 0x52009229 in e:
        if not is_derived_object(header.sop_class_uid):
            header.planes = read_planes(e, header.frames)
        for tag in (0x52009229, 0x52009230):  # large, and all that is needed of them stands in the planes
            e.raw.pop(tag, None)
    if is_derived_object(header.sop_class_uid):
        header.source_series = _source_series(e, header.series_uid)
    for tag in _REFERENCE_TAGS & e.raw.keys():
        e.raw.pop(tag)
    if 0x00100020 in e or 0x00100010 in e:
        identity = e.text(0x00100020) + "\n" + e.text(0x00100010)
        header.patient_key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return header


def _rescale(e: Elements) -> tuple[float, float, bool]:
    """Return slope, intercept, and whether they are usable; (1, 0) in place of what is not."""
    slope = e.number(0x00281053) if 0x00281053 in e else 1.0
    intercept = e.number(0x00281052) if 0x00281052 in e else 0.0
    blank = slope is None and not e.text(0x00281053) and not e.text(0x00281052)
    if slope is None or intercept is None or not (0 < abs(slope) < 1e9 and abs(intercept) < 1e9):
        return 1.0, 0.0, blank
    return slope, intercept, True


def identity_of(header: Header) -> PatientIdentity:
    """Return who the patient is; needs a header read with ``HEADER_TAGS``."""
    e = header.elements
    return PatientIdentity(
        patient_name=e.person_text(0x00100010),
        patient_id=e.person_text(0x00100020),
        birth_date=e.text(0x00100030),
        sex=e.text(0x00100040),
        accession_number=e.person_text(0x00080050),
        referring_physician=e.person_text(0x00080090),
    )


def _finite(values: tuple[float, ...], count: int) -> bool:
    return len(values) == count and all(abs(v) < 1e7 for v in values)


def _positive_pair(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return a (row, column) spacing, or empty when a value is missing, zero, negative or absurd."""
    usable = len(values) >= 2 and all(1e-6 < v < 1e5 for v in values[:2])
    return values[:2] if usable else ()


def _orientation(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return six direction cosines, or empty when they are no pair of perpendicular unit vectors (1 %)."""
    if not _finite(values, 6):
        return ()
    row, column = values[:3], values[3:]
    lengths = [sum(v * v for v in axis) for axis in (row, column)]
    dot = sum(a * b for a, b in zip(row, column, strict=True))
    return values if all(abs(n - 1.0) < 0.01 for n in lengths) and abs(dot) < 0.01 else ()
