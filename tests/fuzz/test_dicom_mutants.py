"""Changed bytes: only our own errors come out, whatever the file says."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from core.dicom.assemble import assemble_volume
from core.dicom.scan import scan_paths
from core.dicom.tags import read_tags
from core.domain.errors import AppError
from tests.fakes.dicom_files import write_stack

MUTANTS = 120


def survive(path: Path) -> None:
    """Scan, list and load one file; AppError is a fine answer."""
    result = scan_paths([path])
    assert len(result.series) + len(result.skipped) >= 1
    with contextlib.suppress(AppError):
        read_tags(path)
    for series in result.series:
        if series.summary.shape_kji is None:
            continue
        with contextlib.suppress(AppError):
            assemble_volume(series.instances, series.summary)


def mutate(whole: bytes, random: np.random.Generator) -> bytes:
    """Change a few bytes, mostly in the header, or cut, or repeat a part."""
    mutant = bytearray(whole)
    kind = random.integers(0, 4)
    reach = len(mutant) if kind == 0 else min(len(mutant), 2500)
    for place in random.integers(0, reach, int(random.integers(1, 8))):
        mutant[place] = int(random.integers(0, 256))
    if kind == 2:
        del mutant[int(random.integers(100, len(mutant))) :]
    if kind == 3:
        start = int(random.integers(132, reach))
        mutant[start:start] = mutant[start : start + int(random.integers(1, 64))]
    return bytes(mutant)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"])
def test_mutants_of_a_plain_image(tmp_path: Path, syntax: str) -> None:
    (path,) = write_stack(tmp_path, np.arange(80, dtype=np.int16).reshape(1, 8, 10), syntax=syntax)
    whole = path.read_bytes()
    random = np.random.default_rng(11)
    for _ in range(MUTANTS):
        path.write_bytes(mutate(whole, random))
        survive(path)


@pytest.mark.parametrize(
    "name", ["MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "J2K_pixelrep_mismatch.dcm", "CT_small.dcm"]
)
def test_mutants_of_files_that_come_with_pydicom(tmp_path: Path, name: str) -> None:
    source = get_testdata_file(name, download=False)
    if source is None:
        pytest.skip(f"pydicom brings no {name}")
    whole = Path(str(source)).read_bytes()
    random = np.random.default_rng(13)
    path = tmp_path / "mutant.dcm"
    for _ in range(40):
        path.write_bytes(mutate(whole, random))
        survive(path)
