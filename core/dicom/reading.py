"""Reading one file's header, checked, and remembering the last ones."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from core.dicom.elements import unknown_character_sets
from core.dicom.faults import malformed
from core.dicom.header import HEADER_TAGS, Header, describe
from core.dicom.identifiers import complete_uids
from core.dicom.part10 import ParsedFile, parse_file
from core.dicom.pixel_check import check_pixels, describes_image
from core.domain.errors import InputError
from core.domain.volume import SeriesIssue

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
_REMEMBERED = 2048


class IsDicomdir(Exception):
    """The file is a DICOMDIR: no object of its own but a list of files."""


class IncompleteImage(InputError):
    """The header is sound but the pixels are not; ``series_uid`` says which series lacks them."""

    def __init__(self, cause: InputError, series_uid: str) -> None:
        super().__init__(cause.code, cause.user_message, cause.remedy)
        self.series_uid = series_uid


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


recent_headers = _Recent(_REMEMBERED)


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
    return checked(parse_file(path, wanted))


def checked(parsed: ParsedFile) -> Header:
    """Describe and validate what was parsed; raises as ``read_header`` does."""
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
    if unknown_character_sets(parsed.elements):
        issues.append(
            SeriesIssue(
                "dicom.unknown_character_set",
                "Specific Character Set (0008,0005) names a character set that DICOM doesn't know; names and "
                "descriptions may show wrong letters.",
            )
        )
    header = describe(parsed)
    if odd := _odd_values(header):
        issues.append(
            SeriesIssue("dicom.invalid_value", f"{', '.join(odd)}: the value can't be used and was left out.")
        )
    if not header.rescale_sound:
        issues.append(
            SeriesIssue(
                "dicom.rescale_invalid",
                "Rescale Slope (0028,1053) or Intercept (0028,1052) is zero or no number; stored values are shown.",
                blocks_volumetry=True,
            )
        )
    complete_uids(header, issues)
    if header.has_pixels:
        try:
            check_pixels(header)
        except InputError as error:
            raise IncompleteImage(error, header.series_uid) from error
    elif describes_image(header):
        shortfall = malformed(
            "The file describes an image but ends before its Pixel Data.", "dicom.truncated"
        )
        raise IncompleteImage(shortfall, header.series_uid)
    header.issues = tuple(issues)
    recent_headers.put(header)
    return header


def _odd_values(header: Header) -> list[str]:
    """Name the elements that are there, hold something, and cannot be used."""
    e = header.elements
    odd = []
    if not header.modality and header.has_pixels:
        odd.append("Modality (0008,0060)")
    if header.position is None and e.text(0x00200032):
        odd.append("Image Position (Patient) (0020,0032)")
    if not header.orientation and e.text(0x00200037):
        odd.append("Image Orientation (Patient) (0020,0037)")
    frames = e.integer(0x00280008)
    if e.text(0x00280008) and (frames is None or frames < 1):
        odd.append("Number of Frames (0028,0008)")
    if header.has_pixels and e.integer(0x00280103) not in (None, 0, 1):
        odd.append("Pixel Representation (0028,0103)")
    return odd
