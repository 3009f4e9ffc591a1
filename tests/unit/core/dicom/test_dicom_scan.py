"""Scanning: what is found, what is refused and why."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from core.dicom import archive, elements
from core.dicom.assemble import assemble_volume
from core.dicom.part10 import parse_file
from core.dicom.scan import scan_paths
from core.domain.errors import InputError
from core.domain.progress import Cancelled, CancelToken
from core.domain.study import ScanResult, SeriesKind
from tests.fakes.dicom_files import PATIENT_NAME, empty_dataset, save, write_stack

VOXELS = np.arange(3 * 6 * 5, dtype=np.int16).reshape(3, 6, 5)


def codes(result: ScanResult) -> list[str]:
    return [skipped.code for skipped in result.skipped]


def test_a_folder_with_subfolders_and_names_without_suffix(tmp_path: Path) -> None:
    for number, path in enumerate(write_stack(tmp_path / "a" / "b", VOXELS)):
        path.rename(path.with_name(f"IM{number}"))
    (tmp_path / "readme.txt").write_text("no image")
    result = scan_paths([tmp_path])
    (series,) = result.series
    assert series.summary.instances == 3
    assert series.summary.kind is SeriesKind.VOLUME
    assert series.identity.patient_name == PATIENT_NAME
    assert codes(result) == ["dicom.not_dicom"]
    assert result.unread == {str(tmp_path / "readme.txt"): tmp_path / "readme.txt"}


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_files_without_preamble_and_meta_information(tmp_path: Path, syntax: str) -> None:
    for path in write_stack(tmp_path, VOXELS, syntax=syntax):
        whole = path.read_bytes()
        meta_length = struct.unpack("<I", whole[140:144])[0]
        path.write_bytes(whole[144 + meta_length :])
    (series,) = scan_paths([tmp_path]).series
    assert series.summary.shape_kji == (3, 6, 5)


@pytest.mark.parametrize(
    ("written", "stated"),
    [(ImplicitVRLittleEndian, ExplicitVRLittleEndian), (ExplicitVRLittleEndian, ImplicitVRLittleEndian)],
)
def test_a_wrong_transfer_syntax_is_noticed_and_read(tmp_path: Path, written: str, stated: str) -> None:
    for path in write_stack(tmp_path, VOXELS, syntax=written):
        whole = path.read_bytes()
        old, new = (uid.encode() + b"\0" * (len(uid) % 2) for uid in (written, stated))
        header = struct.pack("<H", len(old)) + old
        path.write_bytes(whole.replace(header, struct.pack("<H", len(new)) + new, 1))
    (series,) = scan_paths([tmp_path]).series
    assert "dicom.vr_mismatch" in {issue.code for issue in series.summary.issues}
    assert np.array_equal(assemble_volume(series.instances, series.summary).voxels, VOXELS)


def test_a_deflated_data_set(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS, syntax=DeflatedExplicitVRLittleEndian)
    (series,) = scan_paths([tmp_path]).series
    assert series.summary.instances == 3


def test_blank_uids_are_derived_from_content_not_from_the_folder(tmp_path: Path) -> None:
    blank = {"SOPClassUID": "", "SOPInstanceUID": "", "StudyInstanceUID": "", "SeriesInstanceUID": ""}
    write_stack(tmp_path / "one", VOXELS, **blank)
    write_stack(tmp_path / "two", VOXELS, number=2, SeriesDescription="another", **blank)
    both = scan_paths([tmp_path])
    assert len(both.series) == 2
    (tmp_path / "moved").mkdir()
    for path in (tmp_path / "one").iterdir():
        (tmp_path / "moved" / path.name).write_bytes(path.read_bytes())
    (moved,) = scan_paths([tmp_path / "moved"]).series
    assert moved.summary.series_uid in {s.summary.series_uid for s in both.series}
    assert moved.summary.series_uid.startswith("2.25.")
    assert "dicom.blank_uid" in {issue.code for issue in moved.summary.issues}
    assert moved.instances[0].sop_class_uid == "1.2.840.10008.5.1.4.1.1.2"


def test_truncated_pixels_are_counted_and_the_series_says_so(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, VOXELS)
    paths[1].write_bytes(paths[1].read_bytes()[:-7])
    result = scan_paths([tmp_path])
    assert codes(result) == ["dicom.truncated"]
    assert "53 of 60 bytes" in result.skipped[0].message
    (series,) = result.series
    found = {issue.code: issue.blocks_volumetry for issue in series.summary.issues}
    assert found["dicom.incomplete_series"]


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    (path, *_) = write_stack(tmp_path, VOXELS[:1])
    whole = path.read_bytes()
    for cut in range(1, len(whole) - 1):
        path.write_bytes(whole[:cut])
        result = scan_paths([path])
        assert not result.series, cut
        assert len(result.skipped) == 1


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    data = empty_dataset("1.2.840.10008.5.1.4.1.1.88.11", "1.2.3")
    data.Modality = "SR"
    save(data, tmp_path / "flat.dcm")
    whole = (tmp_path / "flat.dcm").read_bytes()
    item = b"\x08\x00\x10\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    (tmp_path / "flat.dcm").unlink()
    for depth, accepted in ((10, True), (50, False), (20_000, False)):
        ends = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth
        (tmp_path / "deep.dcm").write_bytes(whole + item * depth + ends)
        result = scan_paths([tmp_path])
        assert bool(result.series) is accepted
        if not accepted:
            assert codes(result) == ["dicom.nested_too_deep"]


@pytest.mark.parametrize("unknown", [False, True])
def test_more_elements_than_a_file_may_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unknown: bool
) -> None:
    (path,) = write_stack(tmp_path, VOXELS[:1])
    data = dcmread(path)
    # Two sequences: what is counted is the file's sum, also where a sequence of unknown VR has a reader of its own.
    for tag in (0x00081140, 0x00082112):
        items = []
        for number in range(200):
            item = Dataset()
            item.ReferencedSOPInstanceUID = f"1.2.{number}"
            items.append(item)
        data.add_new(tag, "SQ", items)
    data.save_as(path)
    if unknown:
        whole = bytearray(path.read_bytes())
        for head in (b"\x08\x00\x40\x11", b"\x08\x00\x12\x21"):
            at = whole.index(head + b"SQ")
            length = struct.unpack_from("<I", whole, at + 8)[0]
            body = bytes(whole[at + 12 : at + 12 + length])
            implicit = b"".join(
                b"\xfe\xff\x00\xe0" + struct.pack("<I", len(value) + 8) + value_head + value
                for value_head, value in _explicit_items(body)
            )
            whole[at : at + 12 + length] = (
                head + b"UN\0\0\xff\xff\xff\xff" + implicit + b"\xfe\xff\xdd\xe0\0\0\0\0"
            )
        path.write_bytes(whole)
    assert len(parse_file(path, None).elements.items(0x00081140)) == 200
    monkeypatch.setattr(elements, "MAX_ELEMENTS", 700)
    with pytest.raises(InputError) as caught:
        parse_file(path, None)
    assert caught.value.code == "dicom.too_many_elements"
    monkeypatch.setattr(elements, "MAX_ELEMENTS", 1000)
    parse_file(path, None)


def _explicit_items(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the header with implicit VR, and the value, of each item's only element."""
    at = 0
    while at < len(body):
        length = struct.unpack_from("<I", body, at + 4)[0]
        value = body[at + 16 : at + 8 + length]
        yield body[at + 8 : at + 12] + struct.pack("<I", len(value)), value
        at += 8 + length


def test_lengths_beyond_the_end_and_garbage_are_refused(tmp_path: Path) -> None:
    good = write_stack(tmp_path / "src", VOXELS[:1])[0].read_bytes()
    bad = good[:200].replace(b"UI\x1a\x00", b"OB\x00\x00\xf0\xff\xff\x7f", 1)
    for name, content in {
        "empty": b"",
        "zeros": b"\0" * 128,
        "dicm_random": b"\0" * 128 + b"DICM" + bytes(range(256)) * 4,
        "dicm_zeros": b"\0" * 128 + b"DICM" + b"\0" * 512,
        "dicm_ff": b"\0" * 128 + b"DICM" + b"\xff" * 512,
        "length": bad,
    }.items():
        (tmp_path / name).write_bytes(content)
        result = scan_paths([tmp_path / name])
        assert not result.series, name
        assert len(result.skipped) == 1, name


def test_the_same_instance_twice_and_in_conflict(tmp_path: Path) -> None:
    paths = write_stack(tmp_path / "a", VOXELS)
    (tmp_path / "a" / "copy.dcm").write_bytes(paths[0].read_bytes())
    other = dcmread(paths[1])
    other.PixelData = b"\1" * len(other.PixelData)
    other.save_as(tmp_path / "a" / "other.dcm")
    result = scan_paths([tmp_path])
    assert sorted(codes(result)) == ["dicom.duplicate", "dicom.uid_conflict"]
    (series,) = result.series
    assert series.summary.instances == 3


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_invalid_uids_are_refused(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS[:1], SeriesInstanceUID="1.2.x/../../etc")
    assert codes(scan_paths([tmp_path])) == ["dicom.invalid_uid"]


def test_objects_without_pixels_are_listed_as_other(tmp_path: Path) -> None:
    data = empty_dataset("1.2.840.10008.5.1.4.1.1.88.33", "1.2.3.4")
    data.Modality = "SR"
    save(data, tmp_path / "sr.dcm")
    (series,) = scan_paths([tmp_path]).series
    assert series.summary.kind is SeriesKind.OTHER
    assert series.summary.shape_kji is None


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
def test_links_pipes_and_loops_are_left_alone(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", VOXELS)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "link.dcm").symlink_to(tmp_path / "a" / "image0001.dcm")
    os.mkfifo(tmp_path / "a" / "pipe")
    result = scan_paths([tmp_path, tmp_path / "absent"])
    assert sorted(codes(result)) == ["file.link", "file.link", "file.missing", "file.not_regular"]
    assert result.series[0].summary.instances == 3


def test_a_dicomdir_lists_its_files(tmp_path: Path) -> None:
    files = FileSet()
    for path in write_stack(tmp_path / "src", VOXELS):
        files.add(path)
    files.write(tmp_path / "medium")
    (series,) = scan_paths([tmp_path / "medium" / "DICOMDIR"]).series
    assert series.summary.instances == 3
    (again,) = scan_paths([tmp_path / "medium"]).series
    assert again.summary.instances == 3


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_dicomdir_cannot_leave_its_folder(tmp_path: Path) -> None:
    files = FileSet()
    for path in write_stack(tmp_path / "src", VOXELS):
        files.add(path)
    files.write(tmp_path / "medium")
    directory = dcmread(tmp_path / "medium" / "DICOMDIR")
    escapes = iter([["..", "src", "image0001.dcm"], ["/", "etc", "passwd"], ["PT000000", "ABSENT"]])
    for record in directory.DirectoryRecordSequence:
        if "ReferencedFileID" in record:
            record.ReferencedFileID = next(escapes)
    directory.save_as(tmp_path / "medium" / "DICOMDIR")
    result = scan_paths([tmp_path / "medium" / "DICOMDIR"])
    assert not result.series
    assert sorted(codes(result)) == ["dicomdir.missing_file", "dicomdir.outside", "dicomdir.outside"]


def test_a_zip_is_unpacked_under_our_own_names(tmp_path: Path) -> None:
    paths = write_stack(tmp_path / "src", VOXELS)
    package = tmp_path / "study.zip"
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as out:
        for path in paths:
            out.write(path, f"folder/{path.name}")
        out.writestr("../escape.dcm", paths[0].read_bytes())
        out.writestr("C:/evil.dcm", b"x")
        out.writestr("/absolute", b"x")
        out.writestr("note.txt", b"text")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        out.writestr(link, "/etc/passwd")
    work = tmp_path / "work"
    result = scan_paths([package], work_dir=work)
    (series,) = result.series
    assert series.summary.instances == 3
    assert sorted(codes(result)) == [
        "dicom.not_dicom", "zip.not_regular", "zip.unsafe_name", "zip.unsafe_name", "zip.unsafe_name",
    ]  # fmt: skip
    assert all(ref.file.is_relative_to(work) and len(ref.file.name) == 32 for ref in series.instances)
    assert {p.name for p in tmp_path.iterdir()} == {"src", "study.zip", "work"}
    assert codes(scan_paths([package])) == ["zip.no_room"]


def test_zip_bombs_and_damaged_archives_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("zeros", b"\0" * (30 << 20))
    assert codes(scan_paths([bomb], work_dir=tmp_path / "w")) == ["zip.ratio"]
    cut = tmp_path / "cut.zip"
    cut.write_bytes(bomb.read_bytes()[:-40])
    assert codes(scan_paths([cut], work_dir=tmp_path / "w")) == ["zip.damaged"]
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as out:
        for number in range(5):
            out.writestr(str(number), b"")
    (tmp_path / "many.zip").write_bytes(many.getvalue())
    assert codes(scan_paths([tmp_path / "many.zip"], work_dir=tmp_path / "w")) == ["zip.too_many_members"]


def test_a_deflate_bomb_is_refused(tmp_path: Path) -> None:
    (path, *_) = write_stack(
        tmp_path,
        np.zeros((1, 6000, 6000), dtype=np.int16),
        syntax=DeflatedExplicitVRLittleEndian,
        intercept=0,
    )
    assert path.stat().st_size < 200_000
    assert codes(scan_paths([path])) == ["dicom.inflated_too_large"]


def test_the_scan_can_be_cancelled(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS)
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        scan_paths([tmp_path], cancel=cancel)


def test_no_message_names_the_patient(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, VOXELS, PatientName="CANARY^NAME", PatientID="CANARY1")
    paths[0].write_bytes(paths[0].read_bytes()[:-9])
    write_stack(tmp_path / "b", VOXELS[:1], number=2, PatientName="CANARY^OTHER", Rows=0)
    result = scan_paths([tmp_path])
    texts = [s.message for s in result.skipped] + [i.message for s in result.series for i in s.summary.issues]
    assert texts
    assert not any("CANARY" in text for text in texts)
