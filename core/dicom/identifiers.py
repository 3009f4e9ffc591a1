"""UIDs of an object: checked, and derived from its content where they are blank. Source: DICOM PS3.5 section 9."""

from __future__ import annotations

import hashlib
import re

from core.config.sealed_file import open_plain
from core.dicom.faults import malformed
from core.dicom.header import Header
from core.domain.volume import SeriesIssue

CLASS_OF_MODALITY = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "NM": "1.2.840.10008.5.1.4.1.1.20",
}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_UID = re.compile(r"[0-9]+(\.[0-9]+)*\Z")


def complete_uids(header: Header, issues: list[SeriesIssue]) -> None:
    """Fill blank UIDs of an image from what identifies it; refuse what is no UID.

    The derived UIDs depend on content only, never on the folder, so a second import finds the same series.
    """
    names = ("sop_class_uid", "sop_instance_uid", "study_uid", "series_uid")
    for name in names:
        value = getattr(header, name)
        if value and not is_uid(value):
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


def is_uid(value: str) -> bool:
    """Whether a text is a UID: numbers and dots, at most 64 characters. Source: DICOM PS3.5 9.1."""
    return 0 < len(value) <= 64 and _UID.match(value) is not None


def _instance_uid(header: Header) -> str:
    of_meta = header.parsed.meta.text(0x00020003)
    if of_meta and len(of_meta) <= 64 and _UID.match(of_meta):
        return of_meta
    with open_plain(header.file) as stream:
        return derived_uid("instance", hashlib.file_digest(stream, "sha256").hexdigest())


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
