"""20,000 changed copies of real files: only our own errors come out of reading, grouping and decoding them."""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.dicom.derived.grid import TargetGrid
from core.dicom.derived.open_object import open_object
from core.dicom.dicomdir import listed_files
from core.dicom.header import HEADER_TAGS, Header, is_derived_object
from core.dicom.header_assembly import HeaderAssembly
from core.dicom.part10 import NotDicom
from core.dicom.quick_reader import QuickReader
from core.dicom.reading import IsDicomdir, read_header
from core.dicom.series import build_series
from core.dicom.tags import read_tags
from core.domain.errors import AppError, BugError
from core.domain.geometry import VolumeGeometry
from core.domain.study import SeriesKind
from core.formats.scan import scan_files
from core.services.load_volume import load_files
from tests.fuzz.mutants import Seed, mutate, seeds

HEADER_MUTANTS = 20_000
GROUPED_AT_ONCE = 100
OPENED_MUTANTS = 3000
OTHER_MUTANTS = 2000
_COMPARED = (
    "sop_instance_uid",
    "series_uid",
    "study_uid",
    "modality",
    "rows",
    "columns",
    "frames",
    "position",
    "orientation",
)

pytestmark = pytest.mark.filterwarnings("ignore")


def outcome(path: Path) -> Header | str:
    """Return a file's header, or the code of what it is refused with."""
    try:
        return read_header(path)
    except NotDicom:
        return "no DICOM"
    except IsDicomdir:
        list(listed_safely(path))
        return "DICOMDIR"
    except AppError as error:
        assert not isinstance(error, BugError), error
        return error.code


def listed_safely(path: Path) -> list[Path]:
    """Return what a DICOMDIR lists; nothing when it is refused."""
    try:
        return list(listed_files(path, []))
    except (AppError, NotDicom):
        return []


def quickly(reader: QuickReader, assembly: HeaderAssembly, path: Path) -> Header | str:
    """Return the same by way of the quick reader, which compares with the files that it read before."""
    try:
        return assembly.header(path, reader.read(str(path)))
    except NotDicom:
        return "no DICOM"
    except IsDicomdir:
        return "DICOMDIR"
    except AppError as error:
        return error.code


def same(one: Header | str, other: Header | str) -> bool:
    """Whether both ways say the same."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return all(getattr(one, name) == getattr(other, name) for name in _COMPARED)


def dicom_seeds() -> list[Seed]:
    return [seed for seed in seeds() if seed.suffix == ".dcm"]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: to overwrite 20,000 files takes a disk a minute."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.timeout(300)
def test_headers_of_mutants(room: Path) -> None:
    chance = random.Random(20241124)
    files = dicom_seeds()
    told: Counter[str] = Counter()
    reader, assembly = QuickReader(HEADER_TAGS), HeaderAssembly()
    batch: list[Header] = []
    for number in range(HEADER_MUTANTS):
        seed = files[number // 50 % len(files)]  # runs of one file: the quick reader compares neighbours
        path = room / f"{number % GROUPED_AT_ONCE:03d}.dcm"
        path.write_bytes(mutate(seed.content, chance))
        found = outcome(path)
        assert same(found, quickly(reader, assembly, path)), f"mutant {number} of {seed.name}"
        if isinstance(found, Header):
            batch.append(found)
            told["read"] += 1
        else:
            told[found] += 1
        if number % GROUPED_AT_ONCE == GROUPED_AT_ONCE - 1:
            group(batch)
            batch.clear()
    assert sum(told.values()) == HEADER_MUTANTS and told["read"] > HEADER_MUTANTS // 10 and len(told) > 8


def group(headers: list[Header]) -> None:
    """Group headers into series; each ends up in one, or is named as left out."""
    try:
        series, skipped = build_series(headers)
    except AppError as error:
        pytest.fail(f"grouping refused everything: {error.code}")
    kept = sum(len(one.instances) for one in series)
    assert kept + len(skipped) >= len({h.file for h in headers})


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.timeout(300)
def test_pixels_and_objects_of_mutants(tmp_path: Path) -> None:
    chance = random.Random(7)
    files = dicom_seeds()
    grid = TargetGrid(VolumeGeometry((3, 64, 64), np.eye(4)))
    told: Counter[str] = Counter()
    for number in range(OPENED_MUTANTS):
        seed = files[chance.randrange(len(files))]
        path = tmp_path / "mutant.dcm"
        path.write_bytes(mutate(seed.content, chance))
        found = outcome(path)
        try:
            read_tags(path)
            if not isinstance(found, Header):
                continue
            if is_derived_object(found.sop_class_uid):
                open_object(path, grid)
                told["object"] += 1
                continue
            for series in build_series([found])[0]:
                if series.summary.kind is not SeriesKind.OTHER:
                    load_files(series.summary, series.instances)
                    told["volume"] += 1
        except AppError as error:
            assert not isinstance(error, BugError), f"mutant {number} of {seed.name}: {error}"
            told[error.code] += 1
    assert told["volume"] > 20


@pytest.mark.fault
@pytest.mark.timeout(300)
@pytest.mark.expects_logs
def test_mutants_of_other_formats(tmp_path: Path) -> None:
    chance = random.Random(11)
    files = [seed for seed in seeds() if seed.suffix != ".dcm"]
    read = 0
    for number in range(OTHER_MUTANTS):
        seed = files[number % len(files)]
        path = tmp_path / f"mutant{seed.suffix}"
        path.write_bytes(mutate(seed.content, chance))
        result = scan_files([path])
        assert len(result.series) + len(result.skipped) >= 1
        for series in result.series:
            try:
                load_files(series.summary, series.instances)
                read += 1
            except AppError as error:
                assert not isinstance(error, BugError), f"mutant {number} of {seed.name}: {error}"
    assert read > 20
