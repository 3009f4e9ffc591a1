"""Changed copies of real files of every kind: bits, lengths, cuts, insertions, repetitions. Deterministic."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

from tests.fakes.data import data_root
from tests.fuzz import dicom_bytes, hostile

MOST_BYTES = 45_000
HEADER_REACH = 3000
_LENGTHS = (0, 1, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


@dataclass(frozen=True)
class Seed:
    """A sound file; ``suffix`` is how its copies are named."""

    name: str
    content: bytes
    suffix: str


def seeds() -> list[Seed]:
    """Return the sound files: those that come with pydicom, some of the test data where it is there, and our own."""
    brought = Path(pydicom.__file__).parent / "data"
    files = [*(brought / "test_files").rglob("*"), *(brought / "charset_files").glob("*.dcm")]
    files = [file for file in files if file.is_file() and (file.suffix == ".dcm" or file.name == "DICOMDIR")]
    for folder in (
        "pydicom-data-zoo",
        "seg-liver-dcmqi",
        "rtstruct-phantom-rtutils",
        "us-nm-multiframe-dcm4che",
        "wg04-codecs",
    ):
        files += real_files(folder)
    small = {file.name: file for file in files if 0 < file.stat().st_size <= MOST_BYTES}
    out = [Seed(name, file.read_bytes(), ".dcm") for name, file in sorted(small.items())]
    return [*out, *_own()]


def real_files(folder: str) -> list[Path]:
    """Return the DICOM files of a folder of the test data; none where the data is not there."""
    return sorted((data_root() / "core" / "dicom" / folder).rglob("*.dcm"))


def _own() -> Iterator[Seed]:
    for label, syntax in (
        ("explicit", dicom_bytes.EXPLICIT),
        ("implicit", dicom_bytes.IMPLICIT),
        ("deflated", dicom_bytes.DEFLATED),
    ):
        yield Seed(f"own {label}", dicom_bytes.image(1, syntax=syntax), ".dcm")
    yield Seed("own DICOMDIR", hostile.dicomdir(b"IMAGES\\I1", b"IMAGES\\I2"), ".dcm")
    volume = hostile.nifti(sform=(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0))
    yield Seed("own NIfTI", volume, ".nii")
    yield Seed("own NIfTI, packed", gzip.compress(volume, mtime=0), ".nii.gz")
    nrrd = b"NRRD0005\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 5 4 3\n"
    nrrd += b"space directions: (1,0,0) (0,1,0) (0,0,2)\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
    yield Seed("own NRRD", nrrd + b"space origin: (0,0,0)\n\n" + bytes(120), ".nrrd")
    values = (np.arange(400) % 251).astype(np.uint8).reshape(20, 20)
    for suffix, form in ((".png", "PNG"), (".jpg", "JPEG"), (".tif", "TIFF"), (".bmp", "BMP")):
        packed = BytesIO()
        Image.fromarray(values).save(packed, form)
        yield Seed(f"own {form}", packed.getvalue(), suffix)


def mutate(whole: bytes, chance: random.Random) -> bytes:
    """Change a copy of a file in one to four ways, mostly in its first bytes."""
    mutant = bytearray(whole)
    for _ in range(chance.randint(1, 4)):
        if len(mutant) < 8:
            return bytes(mutant)
        reach = len(mutant) if chance.random() < 0.25 else min(len(mutant), HEADER_REACH)
        place = chance.randrange(reach)
        match chance.randrange(8):
            case 0:
                mutant[place] ^= 1 << chance.randrange(8)
            case 1:
                mutant[place] = chance.randrange(256)
            case 2:
                length = chance.choice((*_LENGTHS, chance.randrange(1 << 16)))
                mutant[place : place + 4] = struct.pack("<I", length)
            case 3:
                mutant[place : place + 2] = struct.pack(
                    "<H", chance.choice((0, 1, 0xFFFF, 0x8000, chance.randrange(1 << 16)))
                )
            case 4:
                del mutant[place:]
            case 5:
                mutant[place:place] = chance.randbytes(chance.randint(1, 40))
            case 6:
                del mutant[place : place + chance.randint(1, 40)]
            case 7:
                other = chance.randrange(reach)
                mutant[place:place] = mutant[other : other + chance.randint(4, 200)]
    return bytes(mutant)
