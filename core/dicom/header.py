"""What the rest of the engine needs to know of one DICOM file, read without its pixels."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from core.dicom.elements import Elements
from core.dicom.faults import malformed
from core.dicom.fragments import encapsulated_shortfall
from core.dicom.functional_groups import FramePlane, read_planes
from core.dicom.part10 import ParsedFile, parse_file
from core.domain.errors import InputError
from core.domain.study import PatientIdentity
from core.domain.volume import SeriesIssue

Vector = tuple[float, float, float]

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
        0x00431039, 0x00200011, 0x00200012, 0x00200100, 0x00280301,
    }
)  # fmt: skip
HEADER_TAGS = IMAGE_TAGS | _GROUPING_TAGS | PIXEL_TABLE_TAGS

CLASS_OF_MODALITY = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "NM": "1.2.840.10008.5.1.4.1.1.20",
}
_NOT_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.66",  # raw data, registration, segmentation, surface
    "1.2.840.10008.5.1.4.1.1.30",  # parametric map
    "1.2.840.10008.5.1.4.1.1.481",  # radiotherapy
    "1.2.840.10008.5.1.4.1.1.88",  # structured reports, key objects
    "1.2.840.10008.5.1.4.1.1.11",  # presentation states
    "1.2.840.10008.5.1.4.1.1.104",  # encapsulated documents
    "1.2.840.10008.5.1.4.1.1.9",  # waveforms
    "1.2.840.10008.5.1.4.34",  # worklists, plans
)
_STORAGE = "1.2.840.10008.5.1.4.1.1."
MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_UID = re.compile(r"[0-9]+(\.[0-9]+)*\Z")
_MAXIMUM_FRAMES = 1_000_000


class IsDicomdir(Exception):
    """The file is a DICOMDIR: no object of its own but a list of files."""


class IncompleteImage(InputError):
    """The header is sound but the pixels are not; ``series_uid`` says which series lacks them."""

    def __init__(self, cause: InputError, series_uid: str) -> None:
        super().__init__(cause.code, cause.user_message, cause.remedy)
        self.series_uid = series_uid


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


class _Recent:
    """The headers that were read last, so that opening what was just scanned reads each file once.

    In memory only; an entry counts while size, time and inode of its file are unchanged. Thread-safe.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[Path, tuple[tuple[int, int, int], Header]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, header: Header) -> None:
        """Remember a header; the oldest one goes."""
        if len(header.planes) > 1:
            return
        with self._lock:
            self._entries[header.file] = (header.stamp, header)
            if len(self._entries) > self._limit:
                self._entries.popitem(last=False)

    def get(self, path: Path) -> Header | None:
        """Return the header of an unchanged file."""
        with self._lock:
            entry = self._entries.get(path)
        if entry is None:
            return None
        try:
            status = path.stat()
        except OSError:
            return None
        return entry[1] if entry[0] == (status.st_size, status.st_mtime_ns, status.st_ino) else None

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()


recent_headers = _Recent(2048)


def recall_header(path: Path) -> Header:
    """Return the header of a file, from memory when it was read a moment ago; raises as ``read_header``."""
    return recent_headers.get(path) or read_header(path)


def read_header(path: Path, wanted: frozenset[int] = HEADER_TAGS) -> Header:
    """Read and validate the header of one file.

    Raises
    ------
    NotDicom, IsDicomdir
        If the file isn't DICOM, or a directory of files.
    InputError
        With a code ``dicom.…`` that says what is wrong.
    OSError
        If it cannot be read.
    """
    parsed = parse_file(path, wanted)
    if parsed.meta.text(0x00020002) == MEDIA_STORAGE_DIRECTORY:
        raise IsDicomdir
    issues: list[SeriesIssue] = []
    if parsed.foreign_preamble:
        issues.append(
            SeriesIssue(
                "dicom.foreign_preamble", "A file begins like a program; only its DICOM part is used."
            )
        )
    if parsed.vr_mismatch:
        issues.append(
            SeriesIssue("dicom.vr_mismatch", "The file is not written in the transfer syntax that it states.")
        )
    header = _describe(parsed)
    if not header.rescale_sound:
        issues.append(
            SeriesIssue(
                "dicom.rescale_invalid",
                "Rescale Slope (0028,1053) or Intercept (0028,1052) is zero or no number; stored values are shown.",
                blocks_volumetry=True,
            )
        )
    _complete_uids(header, issues)
    if header.has_pixels:
        try:
            _check_pixels(header)
        except InputError as error:
            raise IncompleteImage(error, header.series_uid) from error
    elif _describes_image(header):
        shortfall = malformed(
            "The file describes an image but ends before its Pixel Data.", "dicom.truncated"
        )
        raise IncompleteImage(shortfall, header.series_uid)
    header.issues = tuple(issues)
    recent_headers.put(header)
    return header


def is_derived_object(sop_class_uid: str) -> bool:
    """Whether the class is a segmentation, report, plan, document or the like rather than an image."""
    return any(sop_class_uid == prefix or sop_class_uid.startswith(prefix + ".") for prefix in _NOT_IMAGES)


def _describes_image(header: Header) -> bool:
    """Whether the object ought to have pixels."""
    stored = header.sop_class_uid.startswith(_STORAGE) and not is_derived_object(header.sop_class_uid)
    return stored or (header.rows > 0 and header.columns > 0)


def _describe(parsed: ParsedFile) -> Header:
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
        header.planes = read_planes(e, header.frames)
        for tag in (0x52009229, 0x52009230):  # large, and all that is needed of them stands in the planes
            e.raw.pop(tag, None)
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


def _complete_uids(header: Header, issues: list[SeriesIssue]) -> None:
    """Fill blank UIDs of an image from what identifies it; refuse what is no UID.

    The derived UIDs depend on content only, never on the folder, so a second import finds the same series.
    """
    names = ("sop_class_uid", "sop_instance_uid", "study_uid", "series_uid")
    for name in names:
        value = getattr(header, name)
        if value and (len(value) > 64 or not _UID.match(value)):
            raise malformed(f"The {name.replace('_', ' ')} is not a valid UID.", "dicom.invalid_uid")
    blank = [name for name in names if not getattr(header, name)]
    if not blank:
        return
    described = header.has_pixels and header.rows > 0 and header.columns > 0 and header.bits_allocated > 0
    if not described or not header.parsed.elements.raw:
        raise malformed(
            "The SOP, study or series UIDs are missing and this is no image.", "dicom.missing_uid"
        )
    if not header.sop_class_uid:
        header.sop_class_uid = CLASS_OF_MODALITY.get(header.modality, SECONDARY_CAPTURE)
    if not header.sop_instance_uid:
        header.sop_instance_uid = _instance_uid(header)
    if not header.series_uid:
        header.series_uid = derived_uid("series", *_series_attributes(header))
        header.derived_series = True
    if not header.study_uid:
        header.study_uid = derived_uid("study", *_study_attributes(header))
    issues.append(
        SeriesIssue(
            "dicom.blank_uid", "The file leaves UIDs blank; replacements were derived from its content."
        )
    )


def _instance_uid(header: Header) -> str:
    of_meta = header.parsed.meta.text(0x00020003)
    if of_meta and len(of_meta) <= 64 and _UID.match(of_meta):
        return of_meta
    return derived_uid("instance", hashlib.sha256(header.file.read_bytes()).hexdigest())


def derived_uid(*parts: str) -> str:
    """Return a stable UID under ``2.25.`` from a SHA-256 of ``parts``. Source: DICOM PS3.5 B.2."""
    digest = hashlib.sha256("\x1f".join(("overread", *parts)).encode("utf-8", "replace")).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _study_attributes(header: Header) -> list[str]:
    e = header.elements
    tags = (0x00080020, 0x00080030, 0x00080050, 0x00100010, 0x00100020, 0x00100030, 0x00080070, 0x00081090)
    values = [e.text(tag) for tag in tags]
    if not any(values[:5]):  # nothing says which study: the series stands alone
        values.append(header.series_uid or "\x1e".join(_series_attributes(header)))
    return values


def _series_attributes(header: Header) -> list[str]:
    e = header.elements
    tags = (0x00080020, 0x00080030, 0x00080021, 0x00080031, 0x00080050, 0x0008103E, 0x00100010, 0x00100020,
            0x00080070, 0x00081090, 0x00200011, 0x00200012, 0x00200052, 0x00180015)  # fmt: skip
    shape = f"{header.modality} {header.rows}x{header.columns} {header.orientation} {header.pixel_spacing}"
    return [e.text(tag) for tag in tags] + [header.study_uid, shape]


def _check_pixels(header: Header) -> None:
    """Compare the bytes that the header promises with those that are there.

    Raises
    ------
    InputError
        ``dicom.truncated`` with n of m bytes, ``dicom.invalid_image`` for impossible descriptions.
    """
    pixels = header.parsed.pixels
    assert pixels is not None
    if header.rows < 1 or header.columns < 1 or header.rows > 65535 or header.columns > 65535:
        raise malformed("Rows (0028,0010) or Columns (0028,0011) is missing or zero.", "dicom.invalid_image")
    if header.bits_allocated not in (1, 8, 16, 32, 64) or header.samples not in (1, 3, 4):
        raise malformed(
            f"Bits Allocated {header.bits_allocated} with {header.samples} samples per pixel is not possible.",
            "dicom.invalid_image",
        )
    if not 1 <= header.bits_stored <= header.bits_allocated:
        raise malformed(
            f"Bits Stored {header.bits_stored} does not fit Bits Allocated {header.bits_allocated}.",
            "dicom.invalid_image",
        )
    if header.frames > _MAXIMUM_FRAMES:
        raise malformed(f"Number of Frames {header.frames} is not possible.", "dicom.invalid_image")
    if pixels.length is None:
        encapsulated_shortfall(header.parsed, header.frames)
        return
    if header.parsed.syntax.encapsulated:
        raise malformed(
            "Pixel Data is not encapsulated although the transfer syntax says so.", "dicom.invalid_image"
        )
    expected = _expected_bytes(header)
    actual = min(pixels.length, header.parsed.size - pixels.offset)
    if actual < expected or pixels.length > header.parsed.size - pixels.offset:
        raise malformed(
            f"Pixel Data is incomplete: {actual} of {max(expected, pixels.length)} bytes.", "dicom.truncated"
        )


def _expected_bytes(header: Header) -> int:
    values = header.rows * header.columns * header.samples * header.frames
    if header.photometric == "YBR_FULL_422" and not header.parsed.syntax.encapsulated:
        values = values // 3 * 2
    return (values * header.bits_allocated + 7) // 8
