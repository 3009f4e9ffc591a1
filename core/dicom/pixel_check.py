"""Whether the pixels that a header promises are there. Source: DICOM PS3.5 section 8, PS3.3 C.7.6.3."""

from __future__ import annotations

from core.dicom.faults import malformed
from core.dicom.fragments import encapsulated_shortfall
from core.dicom.header import Header, is_derived_object

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_MAXIMUM_FRAMES = 1_000_000


def describes_image(header: Header) -> bool:
    """Whether the object ought to have pixels."""
    stored = header.sop_class_uid.startswith(_STORAGE) and not is_derived_object(header.sop_class_uid)
    return stored or (header.rows > 0 and header.columns > 0)


def check_pixels(header: Header) -> None:
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
