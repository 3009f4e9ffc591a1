"""Quick reading gives what slow reading gives, and a scanner's death costs one file."""

from __future__ import annotations

import dataclasses
import os
import random
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from core.dicom import header_assembly, parallel_scan, quick_reader
from core.dicom.files import Mark
from core.dicom.header import HEADER_TAGS, Header
from core.dicom.parallel_scan import read_headers
from core.dicom.part10 import NotDicom
from core.dicom.quick_reader import Like, QuickReader
from core.dicom.reading import IsDicomdir, read_header
from core.dicom.scan import HeaderScan, scan_paths
from core.domain.errors import AppError
from core.domain.progress import Cancelled, CancelToken
from tests.fakes.corpus import write_corpus
from tests.fakes.data import data_path
from tests.fakes.dicom_files import write_stack
from tests.fakes.left_behind import own_children

VOXELS = np.arange(12 * 6 * 5, dtype=np.int16).reshape(12, 6, 5)
ROOT = Path(__file__).resolve().parents[4]


def facts(outcome: Any) -> Any:
    """What must be equal, whichever way a file was read."""
    if not isinstance(outcome, Header):
        return type(outcome), str(outcome)
    fields = {f.name: getattr(outcome, f.name) for f in dataclasses.fields(outcome) if f.name != "parsed"}
    p = outcome.parsed
    return fields, p.size, p.stamp, p.pixels, p.syntax, p.elements.raw, p.elements.encodings, p.vr_mismatch


def slowly(file: Path) -> Any:
    try:
        return read_header(file)
    except (AppError, NotDicom, IsDicomdir) as error:
        return error


def assert_equal_to_slow_reading(files: list[Path], children: int = 0) -> None:
    entries = [(str(file), 0.0) for file in files]
    found = {e: o for e, o in read_headers(entries, children=children) if not isinstance(e, Mark)}
    assert list(found) == entries
    for file, entry in zip(files, entries, strict=True):
        assert facts(found[entry]) == facts(slowly(file)), file.name


@pytest.fixture
def early_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let children be started at once, and give them small batches."""
    monkeypatch.setattr(parallel_scan, "ALONE_FILES", 3)
    monkeypatch.setattr(parallel_scan, "BATCH_FILES", 4)
    monkeypatch.setattr(parallel_scan, "MOST_BATCH_FILES", 4)
    monkeypatch.setattr(parallel_scan, "processors", lambda: 4)


def test_a_corpus_is_read_alike_alone_and_by_children(tmp_path: Path, early_children: None) -> None:
    files = write_corpus(tmp_path, 700)
    assert_equal_to_slow_reading(files)
    assert_equal_to_slow_reading(files, children=2)


def test_most_files_of_a_series_are_told_as_differences(tmp_path: Path) -> None:
    files = write_corpus(tmp_path, 80)
    reader = QuickReader(HEADER_TAGS)
    told = [reader.read(str(file)) for file in files]
    assert sum(isinstance(one, Like) for one in told) >= 78


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("RescaleSlope", lambda k: str(1 + k)),
        ("PixelSpacing", lambda k: [1 + k, 2]),
        ("PatientName", lambda k: f"PLANTED^MARKER{'x' * k}"),
        ("SpecificCharacterSet", lambda k: "ISO_IR 192" if k % 2 else "ISO_IR 100"),
        ("ImagePositionPatient", lambda k: [1, 2, k][: 3 if k % 3 else 2]),
        ("InstanceNumber", lambda k: None if k == 4 else k),
        ("SOPInstanceUID", lambda k: "" if k == 5 else f"1.2.{k}"),
        ("SeriesDescription", lambda k: "" if k % 2 else "x" * k),
        ("Rows", lambda k: 6 if k != 7 else 600),
        ("ImageType", lambda k: ["ORIGINAL", "PRIMARY"] if k % 4 else ["DERIVED", "SECONDARY"]),
        ("ReferencedImageSequence", lambda k: Sequence([Dataset() for _ in range(k % 3)])),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whatever_differs_within_a_series_is_seen(
    tmp_path: Path, syntax: str, keyword: str, value: Callable[[int], Any]
) -> None:
    files = write_stack(tmp_path, VOXELS, syntax=syntax, **{keyword: value})
    assert_equal_to_slow_reading(files)


def test_series_mixed_in_any_order_are_read_alike(tmp_path: Path) -> None:
    parts = [write_stack(tmp_path / str(n), VOXELS, SeriesInstanceUID=f"1.2.9.{n}") for n in range(11)]
    mixed = [file for part in parts for file in part]
    random.Random(7).shuffle(mixed)
    assert_equal_to_slow_reading(mixed)
    assert_equal_to_slow_reading([file for row in zip(*parts, strict=True) for file in row])


def test_a_base_that_the_receiver_forgot_is_not_referred_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick_reader, "BASES_KEPT", 5)
    monkeypatch.setattr(header_assembly, "BASES_KEPT", 5)

    first = write_stack(tmp_path / "a", VOXELS, SeriesInstanceUID="1.2.9.1")
    # Each of these becomes a new base of the same series.
    second = write_stack(
        tmp_path / "b",
        VOXELS,
        SeriesInstanceUID="1.2.9.2",
        SpecificCharacterSet=lambda k: f"ISO_IR {100 + k % 2}",
    )
    assert_equal_to_slow_reading([*first[:6], *second, *first[6:]])


def test_a_private_element_more_or_a_cut_file_is_no_obstacle(tmp_path: Path) -> None:
    files = write_stack(tmp_path, VOXELS)
    data = dcmread(files[3])
    data.private_block(0x0029, "MARKER", create=True).add_new(1, "OB", b"\1\2" * 5000)
    data.save_as(files[3])
    files[5].write_bytes(files[5].read_bytes()[:900])
    files[6].write_bytes(files[6].read_bytes()[:-9])
    files[7].write_bytes(b"MZ" + files[7].read_bytes()[2:])
    files[8].write_bytes(b"")
    files[9].write_bytes(b"no image")
    assert_equal_to_slow_reading(files)
    assert_equal_to_slow_reading(list(reversed(files)))


def test_sequences_of_undefined_length_are_passed(tmp_path: Path) -> None:
    def referenced(k: int) -> Sequence:
        item = Dataset()
        item.ReferencedSOPInstanceUID = f"1.2.{10 ** (k % 3)}"
        item.is_undefined_length_sequence_item = True
        return Sequence([item])

    files = write_stack(tmp_path, VOXELS, ReferencedImageSequence=referenced)
    for file in files:
        data = dcmread(file)
        data["ReferencedImageSequence"].is_undefined_length = True
        data.save_as(file)
    assert b"\xfe\xff\xdd\xe0" in files[0].read_bytes()
    assert_equal_to_slow_reading(files)


@pytest.mark.data
def test_real_files_are_read_alike() -> None:
    root = data_path("core/dicom")
    assert_equal_to_slow_reading(sorted(p for p in root.rglob("*") if p.is_file()))


def fatal_for(monkeypatch: pytest.MonkeyPatch, deed: str) -> None:
    """Let scanner processes do ``deed`` when they meet a file of that name."""
    body = (
        "import sys, os, signal, time\n"
        "from core.dicom import scanner_process as s\n"
        "real = s.QuickReader.read\n"
        "s.FILE_LIMIT_S = s.BATCH_LIMIT_S = 0.3\n"
        "def read(self, file):\n"
        f"    if file.endswith('zfatal'): {deed}\n"
        "    return real(self, file)\n"
        "s.QuickReader.read = read\n"
        "s.main()\n"
    )
    monkeypatch.setattr(parallel_scan, "scanner_command", lambda: [sys.executable, "-c", body])


@pytest.mark.fault
@pytest.mark.parametrize(
    "deed", ["os.kill(os.getpid(), signal.SIGKILL)", "os.kill(os.getpid(), signal.SIGSEGV)", "time.sleep(60)"]
)
def test_the_file_that_ends_a_scanner_is_refused_and_the_scan_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early_children: None, deed: str
) -> None:
    if sys.platform == "win32" and "SIG" in deed:
        pytest.skip("needs signals")
    fatal_for(monkeypatch, deed)
    files = write_stack(tmp_path, np.zeros((60, 4, 4), np.int16))
    files[40].rename(tmp_path / "zfatal")
    # The parent, which reads on until a child is awake, must not meet it.
    monkeypatch.setattr(parallel_scan._Team, "entry_before_children", lambda _: None)
    result = scan_paths([tmp_path], children=2)
    assert [(Path(s.file).name, s.code) for s in result.skipped] == [("zfatal", "dicom.reader_ended")]
    assert sum(s.summary.instances for s in result.series) == 59
    assert not own_children()


def test_without_a_program_to_start_the_scan_goes_on_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early_children: None
) -> None:
    monkeypatch.setattr(parallel_scan, "scanner_command", lambda: [str(tmp_path / "none")])
    files = write_stack(tmp_path, VOXELS)
    assert scan_paths([tmp_path], children=2).series[0].summary.instances == len(files)


def test_a_cancel_ends_the_scanners(tmp_path: Path, early_children: None) -> None:
    write_corpus(tmp_path, 300)
    cancel = CancelToken()
    with pytest.raises(Cancelled):
        for number, _ in enumerate(HeaderScan([tmp_path], cancel=cancel, children=2)):
            if number == 50:
                cancel.cancel()
    assert not own_children()


def test_a_scan_that_is_abandoned_leaves_nothing_behind(tmp_path: Path, early_children: None) -> None:
    write_corpus(tmp_path, 300)
    found = iter(HeaderScan([tmp_path], children=2))
    for _ in range(100):
        next(found)
    found.close()  # type: ignore[attr-defined]
    assert not own_children()


@pytest.mark.skipif(sys.platform == "win32", reason="needs FIFOs and links")
def test_pipes_links_in_circles_and_odd_names_do_no_harm(tmp_path: Path, early_children: None) -> None:
    write_stack(tmp_path / "in", VOXELS)
    os.mkfifo(tmp_path / "in" / "pipe")
    (tmp_path / "in" / "circle").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "in" / "image0001.dcm").rename(tmp_path / "in" / ".hidden\nname \udcff")
    (tmp_path / "in" / "image0002.dcm").rename(tmp_path / "in" / ("n" * 250))
    result = scan_paths([tmp_path], children=2)
    assert sorted(s.code for s in result.skipped) == ["file.link", "file.not_regular"]
    assert result.series[0].summary.instances == 12


def test_shares_only_grow_and_end_at_one(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a", 500)
    write_corpus(tmp_path / "b", 90)
    scan = HeaderScan([tmp_path / "a", tmp_path / "b"], children=0)
    shares = [scan.share for _ in scan]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert 0.4 < shares[500] < 0.6


def test_a_length_beyond_the_end_is_refused_after_sound_files_too(tmp_path: Path) -> None:
    files = write_stack(tmp_path, VOXELS)
    whole = files[4].read_bytes()
    at = whole.index(b"\x08\x00\x30\x10LO")
    files[4].write_bytes(
        whole[:at] + b"\x08\x00\x30\x10UN\0\0" + struct.pack("<I", 1 << 31) + whole[at + 12 :]
    )
    assert_equal_to_slow_reading(files)


@pytest.mark.parametrize(("slow_from_s", "expected"), [(1e9, 1), (0.0, 3)])
def test_children_that_no_processor_is_free_for_wait_for_a_slow_medium(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    early_children: None,
    slow_from_s: float,
    expected: int,
) -> None:
    monkeypatch.setattr(parallel_scan, "processors", lambda: 2)
    monkeypatch.setattr(parallel_scan, "_SLOW_FILE_S", slow_from_s)
    started = []
    real = parallel_scan._Scanner.__init__

    def begin(self: Any) -> None:
        started.append(self)
        real(self)

    monkeypatch.setattr(parallel_scan._Scanner, "__init__", begin)
    monkeypatch.setattr(parallel_scan, "AHEAD_BATCHES", 4)
    monkeypatch.setattr(parallel_scan._Team, "entry_before_children", lambda _: None)
    write_corpus(tmp_path, 60)
    found = read_headers(((str(f), 0.0) for f in sorted(tmp_path.rglob("*")) if f.is_file()), children=3)
    count = 0
    for entry, _ in found:
        count += not isinstance(entry, Mark)
        deadline = time.monotonic() + 20
        while count == 10 and len(started) < expected and time.monotonic() < deadline:
            time.sleep(0.01)
    assert (count, len(started)) == (60, expected)
    assert not own_children()


def test_batches_follow_the_speed_of_the_medium() -> None:
    assert parallel_scan._next_size(64, 0.01) == 128
    assert parallel_scan._next_size(256, 0.01) == 256
    assert parallel_scan._next_size(64, 0.5) == 64
    assert parallel_scan._next_size(64, 5.0) == 32
    assert parallel_scan._next_size(1, 5.0) == 1
