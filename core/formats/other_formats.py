"""Formats that aren't read: they are told by name, with a way out."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from core.config.sealed_file import open_plain

_HEAD_BYTES = 512
_NIFTI = "to .nii.gz"
_MGH_VERSION = b"\0\0\0\x01"


def named_format(path: Path) -> str:
    """Return a sentence that names the file's format and the remedy; empty when unknown; OSError if unreadable."""
    with open_plain(path) as stream:
        head = stream.read(_HEAD_BYTES)
    name = path.name.lower()
    if head[:2] == b"\x1f\x8b":
        try:
            with open_plain(path) as stream, gzip.open(stream) as packed:
                head = packed.read(_HEAD_BYTES)
        except (EOFError, zlib.error, OSError):
            head = b""
    for found, words in (
        (
            head[:4] == _MGH_VERSION and name.endswith((".mgz", ".mgh")),
            _told("FreeSurfer MGH/MGZ", "mri_convert"),
        ),
        (
            b"DATA DESCRIPTION FILE" in head or name.endswith((".rec", ".par")),
            _told("Philips PAR/REC", "dcm2niix"),
        ),
        (
            name.endswith(".mnc") and head[:4] in (b"\x89HDF", b"CDF\x01", b"CDF\x02"),
            _told("MINC", "mnc2nii"),
        ),
        (b"string-attribute" in head or name.endswith((".brik", ".brik.gz")), _told("AFNI", "3dAFNItoNIFTI")),
        (
            head[:12] == b"ObjectType =" or name.endswith((".mha", ".mhd")),
            _told("MetaImage", "3D Slicer or SimpleITK"),
        ),
        (head[344:348] == b"ni1\0", _told("NIfTI in two files (.hdr, .img)", "fslchfiletype NIFTI_GZ")),
        (
            head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c") and name.endswith(".hdr"),
            _told("Analyze 7.5", "mri_convert"),
        ),
    ):
        if found:
            return words
    return ""


def _told(format_name: str, tool: str) -> str:
    return f"{format_name} isn't read; convert the file {_NIFTI}, for instance with {tool}."
