"""Conflicts, quarantine, streaming and digests of an import."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.config.sealed_file import is_sealed
from core.dicom import parallel_scan
from core.domain.errors import EnvironmentFault, InputError
from core.domain.progress import Cancelled, CancelToken
from core.domain.study import SeriesSummary
from core.library.files import file_sha256
from core.services import check_library, import_issues, import_piles, import_study, list_studies, verify_audit
from core.services.engine import Engine
from core.services.import_study import import_paths
from core.services.load_volume import load_volume
from tests.fakes.corpus import write_corpus
from tests.fakes.dicom_files import write_stack
from tests.fakes.engines import make_engine

VOXELS = np.arange(6 * 8 * 10, dtype=np.int16).reshape(6, 8, 10)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(tmp_path)
    yield engine
    engine.close()


def stored_digests(engine: Engine, key: str) -> list[str]:
    return [ref.sha256 for ref in list_studies.get_series(engine, key)[1]]


def test_linked_files_get_digests_and_an_impostor_is_known_when_the_file_is_gone(
    engine: Engine, tmp_path: Path
) -> None:
    files = write_stack(tmp_path / "in", VOXELS)
    key = import_paths(engine, [tmp_path / "in"]).studies[0].series[0].key
    assert stored_digests(engine, key) == [file_sha256(file) for file in files]
    write_stack(tmp_path / "other", VOXELS + 1)
    (tmp_path / "in").rename(tmp_path / "away")
    report = import_paths(engine, [tmp_path / "other"])
    assert {s.code for s in report.skipped} == {"import.conflict"}
    assert len(import_issues.list_conflicts(engine)) == 6
    assert import_paths(engine, [tmp_path / "away"]).already_present == 6


def test_digests_that_an_interruption_left_out_are_taken_next_time(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_stack(tmp_path / "in", VOXELS)
    cancel = CancelToken()

    def stop(phase: str, fraction: float) -> None:
        if phase == "Checking contents":
            cancel.cancel()

    with pytest.raises(Cancelled):
        import_paths(engine, [tmp_path / "in"], progress=stop, cancel=cancel)
    key = list_studies.list_studies(engine)[0].series[0].key
    assert stored_digests(engine, key) == [""] * 6
    assert import_paths(engine, [tmp_path / "in"]).already_present == 6
    assert stored_digests(engine, key) == [file_sha256(file) for file in files]


def test_a_conflict_is_listed_once_and_the_library_s_file_can_be_kept(engine: Engine, tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS)
    others = write_stack(tmp_path / "other", VOXELS + 1)
    key = import_paths(engine, [tmp_path / "in"]).studies[0].series[0].key
    for _ in range(2):
        import_paths(engine, [tmp_path / "other"])
    conflicts = import_issues.list_conflicts(engine)
    assert sorted(c.other_file for c in conflicts) == others
    assert {c.library_file.parent for c in conflicts} == {tmp_path / "in"}
    for conflict in conflicts:
        import_issues.resolve_conflict(engine, conflict.conflict_id, "library")
    assert import_issues.list_conflicts(engine) == ()
    assert all(other.exists() for other in others)
    np.testing.assert_array_equal(load_volume(engine, key).voxels, VOXELS)


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_the_other_file_of_a_conflict_can_take_the_place(engine: Engine, tmp_path: Path, mode: str) -> None:
    files = write_stack(tmp_path / "in", VOXELS)
    write_stack(tmp_path / "other", VOXELS + 1)
    key = import_paths(engine, [tmp_path / "in"], mode=mode).studies[0].series[0].key
    import_paths(engine, [tmp_path / "other"], mode=mode)
    if mode == "copy":
        shutil.rmtree(tmp_path / "other")
    for conflict in import_issues.list_conflicts(engine):
        import_issues.resolve_conflict(engine, conflict.conflict_id, "new")
    np.testing.assert_array_equal(load_volume(engine, key).voxels, VOXELS + 1)
    assert import_issues.list_conflicts(engine) == ()
    assert all(file.exists() for file in files)
    copies = [p for p in engine.paths.instances.rglob("*") if p.is_file()]
    assert len(copies) == (6 if mode == "copy" else 0)
    assert all(is_sealed(copy) for copy in copies)
    assert verify_audit.verify(engine).ok


def test_a_conflict_that_can_t_be_resolved_is_refused(engine: Engine, tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS)
    write_stack(tmp_path / "other", VOXELS + 1)
    import_paths(engine, [tmp_path / "in"])
    import_paths(engine, [tmp_path / "other"])
    first = import_issues.list_conflicts(engine)[0].conflict_id
    shutil.rmtree(tmp_path / "other")
    with pytest.raises(EnvironmentFault):
        import_issues.resolve_conflict(engine, first, "new")
    with pytest.raises(InputError):
        import_issues.resolve_conflict(engine, first, "both")
    with pytest.raises(InputError):
        import_issues.resolve_conflict(engine, "none", "library")
    assert len(import_issues.list_conflicts(engine)) == 6


def test_two_files_of_one_uid_in_one_import_are_a_conflict_too(engine: Engine, tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS, name="a")
    write_stack(tmp_path / "in", VOXELS + 1, name="b")
    report = import_paths(engine, [tmp_path / "in"])
    assert {s.code for s in report.skipped} == {"dicom.uid_conflict"}
    assert report.counts["instances"] == 6
    assert {c.other_file.name[0] for c in import_issues.list_conflicts(engine)} == {"b"}


def test_the_same_file_twice_in_one_import_is_no_conflict(engine: Engine, tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS, name="a")
    write_stack(tmp_path / "in", VOXELS, name="b")
    report = import_paths(engine, [tmp_path / "in"])
    assert {s.code for s in report.skipped} == {"dicom.duplicate"}
    assert import_issues.list_conflicts(engine) == ()


def damage(files: list[Path]) -> None:
    files[0].write_bytes(files[0].read_bytes()[:700])
    files[1].write_bytes(files[1].read_bytes()[:-20])
    files[2].write_bytes(b"MZ" + files[2].read_bytes()[2:])


def test_damaged_files_are_set_aside_where_they_lie(engine: Engine, tmp_path: Path) -> None:
    files = write_stack(tmp_path / "in", VOXELS)
    sound = [file.read_bytes() for file in files]
    damage(files)
    report = import_paths(engine, [tmp_path / "in"])
    assert report.counts["instances"] == 3
    held = import_issues.list_quarantine(engine)
    assert sorted((q.file, q.code, q.kept) for q in held) == [
        (files[0], "dicom.truncated", False),
        (files[1], "dicom.truncated", False),
        (files[2], "dicom.foreign_preamble", False),
    ]
    files[0].write_bytes(sound[0])
    again = import_issues.retry_quarantine(engine, [q.file_id for q in held])
    assert again.counts["instances"] == 2
    assert [q.file for q in import_issues.list_quarantine(engine)] == [files[1]]
    assert import_issues.forget_quarantine(engine, [q.file_id for q in held]) == 1
    assert import_issues.list_quarantine(engine) == ()
    assert all(file.exists() for file in files)


def test_of_media_that_go_away_damaged_files_are_kept_encrypted(engine: Engine, tmp_path: Path) -> None:
    files = write_stack(tmp_path / "in", VOXELS)
    damage(files)
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for file in files:
            archive.write(file, file.name)
    shutil.rmtree(tmp_path / "in")
    report = import_paths(engine, [tmp_path / "study.zip"])
    assert report.counts["instances"] == 3
    assert all(s.file.startswith(str(tmp_path / "study.zip")) for s in report.skipped)
    held = import_issues.list_quarantine(engine)
    assert sorted(q.code for q in held) == ["dicom.foreign_preamble", "dicom.truncated", "dicom.truncated"]
    assert all(q.kept and is_sealed(q.file) for q in held)
    assert import_issues.forget_quarantine(engine, [q.file_id for q in held]) == 3
    assert not any(q.file.exists() for q in held)


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_a_damaged_file_that_is_imported_whole_later_leaves_the_list(
    engine: Engine, tmp_path: Path, mode: str
) -> None:
    files = write_stack(tmp_path / "in", VOXELS)
    sound = [file.read_bytes() for file in files]
    damage(files)
    import_paths(engine, [tmp_path / "in"], mode=mode)
    assert len(import_issues.list_quarantine(engine)) == 3
    files[0].write_bytes(sound[0])
    import_paths(engine, [files[3]], mode=mode)  # says nothing of the damaged ones
    assert len(import_issues.list_quarantine(engine)) == 3
    report = import_paths(engine, [tmp_path / "in"], mode=mode)
    assert report.counts["instances"] == 1
    held = import_issues.list_quarantine(engine)
    assert sorted(q.code for q in held) == ["dicom.foreign_preamble", "dicom.truncated"]
    for file, content in zip(files, sound, strict=True):
        file.write_bytes(content)
    assert import_paths(engine, [tmp_path / "in"], mode=mode).counts["instances"] == 2
    assert import_issues.list_quarantine(engine) == ()
    assert not any(q.file.exists() for q in held if q.kept)


def test_a_member_of_an_archive_that_is_imported_whole_later_leaves_the_list(
    engine: Engine, tmp_path: Path
) -> None:
    files = write_stack(tmp_path / "in", VOXELS)
    sound = [file.read_bytes() for file in files]
    damage(files)
    for contents in ([file.read_bytes() for file in files], sound):
        with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
            for file, content in zip(files, contents, strict=True):
                archive.writestr(file.name, content)
        import_paths(engine, [tmp_path / "study.zip"])
        assert len(import_issues.list_quarantine(engine)) == (0 if contents is sound else 3)
    assert not list(engine.paths.instances.rglob("*.bad"))


@pytest.mark.skipif(os.name == "nt", reason="needs names that aren't Unicode")
def test_a_damaged_file_whose_name_is_no_text_is_kept_and_let_go(engine: Engine, tmp_path: Path) -> None:
    files = write_stack(tmp_path / "in", VOXELS)
    odd = files[0].rename(tmp_path / "in" / "image\udcff")
    sound = odd.read_bytes()
    odd.write_bytes(sound[:-20])
    import_paths(engine, [tmp_path / "in"], mode="copy")
    assert [q.kept for q in import_issues.list_quarantine(engine)] == [True]
    odd.write_bytes(sound)
    assert import_paths(engine, [tmp_path / "in"], mode="copy").counts["instances"] == 1
    assert import_issues.list_quarantine(engine) == ()


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_what_conflicts_and_quarantine_keep_is_no_orphan(engine: Engine, tmp_path: Path, mode: str) -> None:
    write_stack(tmp_path / "in", VOXELS)
    import_paths(engine, [tmp_path / "in"], mode=mode)
    others = write_stack(tmp_path / "other", VOXELS + 1)
    damage(others)
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for file in others:
            archive.write(file, file.name)
    import_paths(engine, [tmp_path / "study.zip"])
    kept = [c.other_file for c in import_issues.list_conflicts(engine)]
    kept += [q.file for q in import_issues.list_quarantine(engine)]
    assert len(kept) == 6
    assert all(file.is_relative_to(engine.paths.instances) for file in kept)
    assert check_library.check_library(engine).orphans == ()
    stray = engine.paths.instances / "ab" / "stray.dcm"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"x")
    assert check_library.delete_orphans(engine).files == 1
    assert all(file.exists() for file in kept)
    assert not stray.exists()


def test_a_password_opens_an_archive(engine: Engine, tmp_path: Path) -> None:
    # Encrypted with the password "marker" by Info-ZIP; Python can read such archives but not write them.
    report = import_paths(engine, [encrypted_archive(tmp_path)])
    assert [s.code for s in report.skipped] == ["zip.encrypted"]
    report = import_paths(engine, [tmp_path / "locked.zip"], password="wrong")
    assert [s.code for s in report.skipped] == ["zip.password"]
    report = import_paths(engine, [tmp_path / "locked.zip"], password="marker")
    assert [s.code for s in report.skipped] == ["file.unknown_format"]


def encrypted_archive(folder: Path) -> Path:
    """Write a stored, encrypted member. Source: PKWARE, APPNOTE.TXT 6.1, traditional PKWARE encryption."""
    import zlib

    text = b"no image at all"
    checksum = zlib.crc32(text)
    keys = [0x12345678, 0x23456789, 0x34567890]

    def update(byte: int) -> None:
        def crc(value: int, one: int) -> int:
            return zlib.crc32(bytes([one]), value ^ 0xFFFFFFFF) ^ 0xFFFFFFFF

        keys[0] = crc(keys[0], byte)
        keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = crc(keys[2], keys[1] >> 24)

    for byte in b"marker":
        update(byte)
    body = bytearray()
    for byte in bytes(11) + bytes([checksum >> 24]) + text:
        mix = keys[2] | 2
        body.append(byte ^ (((mix * (mix ^ 1)) >> 8) & 0xFF))
        update(byte)
    path = folder / "locked.zip"
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("note")
        archive.writestr(member, bytes(body))
    data = bytearray(path.read_bytes())
    for signature, flags_at, crc_at in ((b"PK\x03\x04", 6, 14), (b"PK\x01\x02", 8, 16)):
        at = data.index(signature)
        data[at + flags_at] |= 1
        data[at + crc_at : at + crc_at + 4] = checksum.to_bytes(4, "little")
        data[at + crc_at + 8 : at + crc_at + 12] = len(text).to_bytes(4, "little")
    path.write_bytes(data)
    return path


class Steps:
    """Lets the import look at the clock and write at every file, and notes what was written when."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(import_study, "FIRST_WRITE_S", 0.0)
        monkeypatch.setattr(import_study, "WRITE_EVERY_S", 0.0)
        monkeypatch.setattr(import_study, "LOOK_EVERY_S", 0.0)
        monkeypatch.setattr(import_piles, "QUIET_FILES", 20)
        self.series: list[SeriesSummary] = []

    def __call__(self, series: SeriesSummary) -> None:
        self.series.append(series)


def library_of(engine: Engine) -> dict[str, tuple[int, tuple[int, int, int] | None]]:
    return {
        series.key: (series.instances, series.shape_kji)
        for study in list_studies.list_studies(engine)
        for series in study.series
    }


def test_series_enter_the_library_while_the_walk_goes_on(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path / "in", 1300)
    steps = Steps(monkeypatch)
    shares: list[tuple[float, int]] = []

    def progress(phase: str, fraction: float) -> None:
        shares.append((fraction, len(steps.series)))

    report = import_paths(engine, [tmp_path / "in"], on_series=steps, progress=progress, children=0)
    early = [written for fraction, written in shares if fraction < 0.4]
    assert early[-1] >= 5
    assert report.counts == {"instances": 1300, "series": 17}
    assert report.already_present == 0
    streamed = library_of(engine)
    with make_engine(tmp_path / "second") as other:
        import_paths(other, [tmp_path / "in"], children=0)
        assert library_of(other) == streamed
    assert {s.key: (s.instances, s.shape_kji) for s in steps.series} == streamed


def test_a_growing_series_is_not_read_again(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stack(tmp_path / "in", np.zeros((60, 4, 4), np.int16))
    steps = Steps(monkeypatch)
    monkeypatch.setattr(import_study, "_GROWING_FACTOR", 1.0)
    read = []
    real = parallel_scan._Alone.outcome

    def outcome(self: object, file: str) -> object:
        read.append(file)
        return real(self, file)  # type: ignore[arg-type]

    monkeypatch.setattr(parallel_scan._Alone, "outcome", outcome)
    report = import_paths(engine, [tmp_path / "in"], on_series=steps, children=0)
    assert len(steps.series) > 3
    assert len(read) == 60
    assert report.counts == {"instances": 60, "series": 1}
    assert library_of(engine)[steps.series[-1].key] == (60, (60, 4, 4))


def test_a_series_whose_headers_were_dropped_grows_all_the_same(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Steps(monkeypatch)
    monkeypatch.setattr(import_piles, "KEPT_HEADERS", 10)
    files = write_stack(tmp_path / "z", VOXELS)
    write_corpus(tmp_path / "m", 60)
    (tmp_path / "a").mkdir()
    for file in files[:3]:
        file.rename(tmp_path / "a" / file.name)
    report = import_paths(engine, [tmp_path / "a", tmp_path / "m", tmp_path / "z"], children=0)
    assert report.counts["instances"] == 66
    assert (6, (6, 8, 10)) in library_of(engine).values()


def test_the_medium_of_a_conflict_goes_away_but_the_file_was_kept(engine: Engine, tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS)
    import_paths(engine, [tmp_path / "in"])
    files = write_stack(tmp_path / "other", VOXELS + 1)
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for file in files:
            archive.write(file, file.name)
    shutil.rmtree(tmp_path / "other")
    import_paths(engine, [tmp_path / "study.zip"])
    conflicts = import_issues.list_conflicts(engine)
    assert len(conflicts) == 6
    assert all(c.other_file.is_file() and is_sealed(c.other_file) for c in conflicts)
    for conflict in conflicts:
        import_issues.resolve_conflict(engine, conflict.conflict_id, "library")
    assert not [p for p in engine.paths.instances.rglob("*") if p.is_file()]


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions")
def test_the_names_of_copies_tell_nothing(engine: Engine, tmp_path: Path) -> None:
    files = write_stack(tmp_path / "PLANTED", VOXELS, name="PLANTED")
    damage(files)
    import_paths(engine, [tmp_path / "PLANTED"], mode="copy")
    names = [str(p) for p in engine.paths.root.rglob("*")]
    assert not [name for name in names if "PLANTED" in name.removeprefix(str(tmp_path))]
