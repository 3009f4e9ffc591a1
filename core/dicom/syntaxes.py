"""Transfer syntaxes: how a data set and its pixels are written.

Source: DICOM PS3.5 section 10 and annex A, PS3.6 annex A.
"""

from __future__ import annotations

from dataclasses import dataclass

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE = "1.2.840.10008.1.2.2"


@dataclass(frozen=True)
class TransferSyntax:
    """One transfer syntax; ``plugins`` are pydicom decoding plug-ins in the order in which we try them."""

    uid: str
    name: str
    explicit: bool = True
    little_endian: bool = True
    encapsulated: bool = True
    lossy: bool = False
    plugins: tuple[str, ...] = ()


_J2K = ("pylibjpeg",)
_JPEG = ("gdcm",)
_JPEG_8_BIT = ("gdcm", "pillow")

TABLE: dict[str, TransferSyntax] = {
    syntax.uid: syntax
    for syntax in (
        TransferSyntax(IMPLICIT_LE, "Implicit VR Little Endian", explicit=False, encapsulated=False),
        TransferSyntax(EXPLICIT_LE, "Explicit VR Little Endian", encapsulated=False),
        TransferSyntax(DEFLATED_LE, "Deflated Explicit VR Little Endian", encapsulated=False),
        TransferSyntax(EXPLICIT_BE, "Explicit VR Big Endian", little_endian=False, encapsulated=False),
        TransferSyntax("1.2.840.10008.1.2.4.50", "JPEG Baseline", lossy=True, plugins=_JPEG_8_BIT),
        TransferSyntax("1.2.840.10008.1.2.4.51", "JPEG Extended (12 bit)", lossy=True, plugins=_JPEG_8_BIT),
        TransferSyntax("1.2.840.10008.1.2.4.57", "JPEG Lossless (process 14)", plugins=_JPEG),
        TransferSyntax("1.2.840.10008.1.2.4.70", "JPEG Lossless (first-order prediction)", plugins=_JPEG),
        TransferSyntax("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless", plugins=("pyjpegls",)),
        TransferSyntax("1.2.840.10008.1.2.4.81", "JPEG-LS Near-Lossless", lossy=True, plugins=("pyjpegls",)),
        TransferSyntax("1.2.840.10008.1.2.4.90", "JPEG 2000 Lossless", plugins=_J2K),
        TransferSyntax("1.2.840.10008.1.2.4.91", "JPEG 2000", lossy=True, plugins=_J2K),
        TransferSyntax("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000 Lossless", plugins=_J2K),
        TransferSyntax("1.2.840.10008.1.2.4.202", "High-Throughput JPEG 2000 RPCL Lossless", plugins=_J2K),
        TransferSyntax("1.2.840.10008.1.2.4.203", "High-Throughput JPEG 2000", lossy=True, plugins=_J2K),
        TransferSyntax("1.2.840.10008.1.2.5", "RLE Lossless", plugins=("pylibjpeg", "pydicom")),
        TransferSyntax("1.2.840.10008.1.2.8.1", "Deflated Image Frame"),
        TransferSyntax("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile", lossy=True),
        TransferSyntax("1.2.840.10008.1.2.4.101", "MPEG2 High Level", lossy=True),
        TransferSyntax("1.2.840.10008.1.2.4.102", "MPEG-4 High Profile 4.1", lossy=True),
        TransferSyntax("1.2.840.10008.1.2.4.103", "MPEG-4 BD-compatible High Profile 4.1", lossy=True),
        TransferSyntax("1.2.840.10008.1.2.4.107", "HEVC Main Profile 5.1", lossy=True),
        TransferSyntax("1.2.840.10008.1.2.4.110", "JPEG XL Lossless"),
        TransferSyntax("1.2.840.10008.1.2.4.112", "JPEG XL", lossy=True),
    )
}


def syntax_of(uid: str) -> TransferSyntax:
    """Return the entry of ``uid``; an unknown syntax counts as encapsulated explicit little endian."""
    return TABLE.get(uid) or TransferSyntax(uid, f"unknown transfer syntax {uid}")
