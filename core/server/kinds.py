"""What an upload is, by its first bytes alone; the name and type that the sender states are ignored."""

from __future__ import annotations

import zlib

from core.server.faults import UNSUPPORTED, refused
from core.server.item import Kind

HEAD_BYTES = 4096
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_NIFTI_MAGICS = (b"n+1\0", b"n+2\0")
_NIFTI_HEADER_BYTES = 348


def kind_of(head: bytes) -> Kind:
    """Return the kind of a file from its first ``HEAD_BYTES`` bytes.

    Raises
    ------
    HttpFault
        415 ``upload.empty`` or ``upload.kind``.
    """
    if not head:
        raise refused(UNSUPPORTED, "upload.empty", "The file is empty.", "Send the image itself.")
    if head.startswith((_PNG, _JPEG)):
        return "picture"
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if _is_nifti(head):
        return "nifti"
    if head.startswith(b"\x1f\x8b") and _is_nifti(_unpacked(head)):
        return "nifti-gz"
    raise refused(
        UNSUPPORTED,
        "upload.kind",
        "The file is none of DICOM, a ZIP archive of DICOM, NIfTI, PNG or JPEG.",
        "Convert it to one of these.",
    )


def _is_nifti(head: bytes) -> bool:
    return len(head) >= _NIFTI_HEADER_BYTES and (head[344:348] in _NIFTI_MAGICS or head[4:8] in _NIFTI_MAGICS)


def _unpacked(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, _NIFTI_HEADER_BYTES)
    except zlib.error:
        return b""
