"""Members of an archive are sealed where their folder is mounted, and read as if they weren't."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from core.config import sealed_file
from core.dicom.archive import extract
from core.dicom.dicomdir import listed_files
from core.dicom.scan import scan_paths
from core.domain.geometry import VolumeGeometry
from core.domain.study import SkippedFile
from core.formats.nifti import write_nifti
from core.services.scan_sources import scan_sources
from tests.fakes.dicom_files import write_stack
from tests.fuzz.hostile import dicomdir

VALUES = np.arange(480, dtype=np.int16).reshape(6, 8, 10)


def archive_of(folder: Path) -> Path:
    files = write_stack(folder / "in", VALUES)
    write_nifti(folder / "in" / "a.nii.gz", VolumeGeometry((6, 8, 10), np.eye(4)), VALUES)
    (folder / "in" / "DICOMDIR").write_bytes(dicomdir(*[file.name.encode() for file in files]))
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted((folder / "in").iterdir()):
            out.write(file, f"medium/{file.name}")
    return path


def test_sealed_members_are_read(tmp_path: Path) -> None:
    archive, work = archive_of(tmp_path), tmp_path / "work"
    plain = scan_sources([archive], tmp_path / "plain work")
    with sealed_file.mounted(work, bytes(32)):
        sealed = scan_sources([archive], work)
        members = [file for file in work.rglob("*") if file.is_file()]
        assert len(members) == 8 and all(sealed_file.is_sealed(file) for file in members)
        again = scan_sources([archive], work)
    assert [len(s.instances) for s in sealed.series] == [len(s.instances) for s in plain.series] == [6, 1]
    assert [s.summary.key for s in again.series] == [s.summary.key for s in sealed.series]
    assert sealed.skipped == plain.skipped == (), "the DICOMDIR of an archive lists what is read anyway"


def test_a_member_of_another_size_is_refused_sealed_or_not(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a.dcm", bytes(5000))
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\1\2") + 24
    for stated in (10, 6000):
        data[place : place + 4] = stated.to_bytes(4, "little")
        path.write_bytes(data)
        for work in (tmp_path / "work", tmp_path / "sealed"):
            skipped: list[SkippedFile] = []
            with sealed_file.mounted(tmp_path / "sealed", bytes(32)):
                assert list(extract(path, work, skipped)) == []
            assert [one.code for one in skipped] == ["zip.member_damaged"]
            assert not [file for file in work.rglob("*") if file.is_file()]


def test_a_medium_with_other_letter_case_and_iso_versions_is_found(tmp_path: Path) -> None:
    (file,) = write_stack(tmp_path / "images", VALUES[:1])
    for name in ("i1.;1", "I1;1", "i1"):
        file = file.rename(tmp_path / "images" / name)
        (tmp_path / "DICOMDIR").write_bytes(dicomdir(b"IMAGES\\I1"))
        skipped: list[SkippedFile] = []
        assert list(listed_files(tmp_path / "DICOMDIR", skipped)) == [file.resolve()] and skipped == []
    assert len(scan_paths([tmp_path / "DICOMDIR"]).series) == 1
