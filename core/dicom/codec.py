"""One compressed frame, decoded: what goes into a codec and what comes out of it.

Compressed frames are decoded in the decoder process (``decoder_process``), uncompressed colour where it is asked for.
The codec is the plug-in of pydicom that ``syntaxes`` names. The GPL plug-in of pylibjpeg is never asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core.dicom.faults import malformed, translated
from core.dicom.syntaxes import syntax_of
from core.domain.errors import InputError

if TYPE_CHECKING:
    from core.dicom.header import Header

TWELVE_BIT_JPEG_UID = "1.2.840.10008.1.2.4.51"


@dataclass(frozen=True)
class CodedFrame:
    """What a codec must know of a frame besides its bytes; plain values that JSON can carry, none tells whose."""

    syntax_uid: str
    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    signed: bool
    planar: int = 0
    keyword: str = "PixelData"
    vr: str = "OW"

    @classmethod
    def of(cls, header: Header, keyword: str, vr: str) -> CodedFrame:
        """Describe the frames of a file with pixels."""
        return cls(
            syntax_uid=header.parsed.syntax.uid,
            rows=header.rows,
            columns=header.columns,
            samples=header.samples,
            photometric=header.photometric or "MONOCHROME2",
            bits_allocated=header.bits_allocated,
            bits_stored=header.bits_stored,
            signed=header.signed,
            planar=header.elements.integer(0x00280006) or 0,
            keyword=keyword,
            vr=vr or "OW",
        )

    @property
    def is_twelve_bit_jpeg(self) -> bool:
        """Whether it is grey JPEG Extended with more than 8 bits, which has a decoder of its own."""
        return self.syntax_uid == TWELVE_BIT_JPEG_UID and self.samples == 1 and self.bits_stored > 8

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the decoded frame: ``(rows, columns)``, or ``(rows, columns, samples)`` in colour."""
        return (self.rows, self.columns, self.samples) if self.samples > 1 else (self.rows, self.columns)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the decoded frame as its header announces it."""
        return self.rows * self.columns * self.samples * max(1, self.bits_allocated // 8)


def decode_frame(coded: CodedFrame, data: bytes) -> NDArray:
    """Return stored values ``(rows, columns)``, or RGB ``(rows, columns, 3)``.

    Parameters
    ----------
    data : bytes
        One frame as encapsulated pixel data of its own, or uncompressed.

    Raises
    ------
    InputError
        When no codec reads the frame; names the transfer syntax (``dicom.undecodable``).
    """
    if coded.is_twelve_bit_jpeg:
        # loaded on first use: rare, and it takes a third of a second
        from core.dicom import twelve_bit_jpeg

        with translated(f"Decoding {syntax_of(coded.syntax_uid).name}", "dicom.undecodable"):
            return twelve_bit_jpeg.decode(coded, data)
    return _through_pydicom(coded, data)


def _through_pydicom(coded: CodedFrame, data: bytes) -> NDArray:
    # loaded on first use: uncompressed images need no codec
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    syntax = syntax_of(coded.syntax_uid)
    options = {
        "rows": coded.rows,
        "columns": coded.columns,
        "samples_per_pixel": coded.samples,
        "photometric_interpretation": coded.photometric,
        "bits_allocated": coded.bits_allocated,
        "bits_stored": coded.bits_stored,
        "pixel_representation": int(coded.signed),
        "number_of_frames": 1,
        "planar_configuration": coded.planar,
        "pixel_keyword": coded.keyword,
        "pixel_vr": coded.vr,
    }
    failure = ""
    for plugin in syntax.plugins if syntax.encapsulated else ("",):
        try:
            with translated(f"Decoding {syntax.name}", "dicom.undecodable"):
                array, _ = get_decoder(UID(syntax.uid)).as_array(
                    data, index=0, raw=coded.samples == 1, decoding_plugin=plugin, **options
                )
                return np.ascontiguousarray(array)
        except InputError as error:
            failure = f" {error.user_message}"
    raise undecodable(coded, failure)


def undecodable(coded: CodedFrame, failure: str) -> InputError:
    """Return the error for a frame that no codec reads; ``failure`` is empty or a sentence after a space."""
    return InputError(
        "dicom.undecodable",
        f"The pixels are compressed as {syntax_of(coded.syntax_uid).name} and cannot be decoded.{failure}",
        "Ask the sending system for the images in another transfer syntax (uncompressed or JPEG-LS).",
    )


def wrong_size() -> InputError:
    """Return the error for a codec's answer that doesn't have the announced size."""
    return malformed("The decoded image has another size than the header states.", "dicom.undecodable")
