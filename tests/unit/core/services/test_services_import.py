from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.domain.errors import InputError
from core.domain.progress import Cancelled, CancelToken
from core.domain.study import ImportReport
from core.services import import_batches, import_writer, list_studies, thumbnails, verify_audit
from core.services.engine import Engine, open_engine
from core.services.import_study import import_paths
from core.services.load_volume import load_volume
from tests.fakes.dicom_files import PATIENT_NAME, axial_geometry, write_stack
from tests.fakes.engines import make_engine

VOXELS = np.arange(6 * 8 * 10, dtype=np.int16).reshape(6, 8, 10)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(tmp_path)
    yield engine
    engine.close()


def counts(report: ImportReport) -> tuple[int, int, int]:
    return report.counts["instances"], report.already_present, len(report.skipped)


def forget_thumbnails(engine: Engine) -> None:
    """Remove what the import made of each study's first series."""
    for file in engine.paths.thumbnails.iterdir():
        file.unlink()


def test_a_series_is_linked_where_it_lies(engine: Engine, tmp_path: Path) -> None:
    files = write_stack(tmp_path / "in", VOXELS)
    heard = []
    report = import_paths(engine, [tmp_path / "in"], on_series=heard.append)
    assert counts(report) == (6, 0, 0)
    (study,) = report.studies
    (series,) = study.series
    assert series.shape_kji == (6, 8, 10)
    assert [s.key for s in heard] == [series.key]
    _, instances = list_studies.get_series(engine, series.key)
    assert {ref.file for ref in instances} == set(files)
    assert list_studies.identity_of(engine, study.study_uid).patient_name == PATIENT_NAME
    assert PATIENT_NAME not in repr(report)
    np.testing.assert_array_equal(load_volume(engine, series.key).voxels, VOXELS)
    assert list(engine.paths.instances.iterdir()) == []


def test_a_second_import_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS)
    import_paths(engine, [tmp_path / "in"])
    before = [r for r in verify_audit.list_events(engine) if r.event_code == "110107"]
    report = import_paths(engine, [tmp_path / "in"])
    assert counts(report) == (0, 6, 0)
    assert len(report.studies) == 1
    after = [r for r in verify_audit.list_events(engine) if r.event_code == "110107"]
    assert len(before) == len(after) == 1
    assert before[0].n_objects == 6


def test_a_series_is_completed_by_a_later_import(engine: Engine, tmp_path: Path) -> None:
    files = write_stack(tmp_path / "in", VOXELS)
    late = tmp_path / "late"
    late.mkdir()
    for file in files[3:]:
        file.rename(late / file.name)
    first = import_paths(engine, [tmp_path / "in"])
    assert first.studies[0].series[0].shape_kji == (3, 8, 10)
    second = import_paths(engine, [late])
    assert counts(second) == (3, 0, 0)
    (series,) = second.studies[0].series
    assert series.shape_kji == (6, 8, 10)
    np.testing.assert_array_equal(load_volume(engine, series.key).voxels, VOXELS)


def test_other_content_under_a_known_uid_is_a_conflict_and_nothing_is_overwritten(
    engine: Engine, tmp_path: Path
) -> None:
    write_stack(tmp_path / "in", VOXELS)
    write_stack(tmp_path / "other", VOXELS + 1)
    key = import_paths(engine, [tmp_path / "in"]).studies[0].series[0].key
    report = import_paths(engine, [tmp_path / "other"])
    assert counts(report) == (0, 0, 6)
    assert {s.code for s in report.skipped} == {"import.conflict"}
    np.testing.assert_array_equal(load_volume(engine, key).voxels, VOXELS)


def test_the_same_content_elsewhere_is_already_present(engine: Engine, tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS)
    shutil.copytree(tmp_path / "in", tmp_path / "copy")
    import_paths(engine, [tmp_path / "in"])
    assert counts(import_paths(engine, [tmp_path / "copy"])) == (0, 6, 0)


def test_files_that_moved_are_found_again(engine: Engine, tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS)
    key = import_paths(engine, [tmp_path / "in"]).studies[0].series[0].key
    (tmp_path / "in").rename(tmp_path / "moved")
    assert counts(import_paths(engine, [tmp_path / "moved"])) == (0, 6, 0)
    np.testing.assert_array_equal(load_volume(engine, key).voxels, VOXELS)


def test_a_linked_file_that_changed_in_place_is_a_conflict(engine: Engine, tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS)
    import_paths(engine, [tmp_path / "in"])
    write_stack(tmp_path / "in", VOXELS + 7)
    report = import_paths(engine, [tmp_path / "in"])
    assert counts(report) == (0, 0, 6)


def test_copies_are_ours_and_survive_the_source(engine: Engine, tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS, name="PLANTED")
    key = import_paths(engine, [tmp_path / "in"], mode="copy").studies[0].series[0].key
    shutil.rmtree(tmp_path / "in")
    np.testing.assert_array_equal(load_volume(engine, key).voxels, VOXELS)
    names = [p.name for p in engine.paths.instances.rglob("*") if p.is_file()]
    assert len(names) == 6
    assert all(len(name) == 36 and name.endswith(".dcm") for name in names)
    write_stack(tmp_path / "in", VOXELS)
    assert import_paths(engine, [tmp_path / "in"], mode="copy").already_present == 6


def test_what_an_archive_holds_is_copied_and_the_work_folder_emptied(engine: Engine, tmp_path: Path) -> None:
    files = write_stack(tmp_path / "in", VOXELS)
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for file in files:
            archive.write(file, file.name)
    shutil.rmtree(tmp_path / "in")
    key = import_paths(engine, [tmp_path / "study.zip"]).studies[0].series[0].key
    np.testing.assert_array_equal(load_volume(engine, key).voxels, VOXELS)
    assert list(engine.paths.temp.iterdir()) == []


def test_batches_done_before_a_cancel_stay(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_batches, "BATCH_INSTANCES", 1)
    write_stack(tmp_path / "in", VOXELS, number=1, name="a")
    write_stack(tmp_path / "in", VOXELS, number=2, name="b")
    cancel = CancelToken()
    with pytest.raises(Cancelled):
        import_paths(engine, [tmp_path / "in"], cancel=cancel, on_series=lambda _: cancel.cancel())
    assert sum(len(s.series) for s in list_studies.list_studies(engine)) == 1
    assert counts(import_paths(engine, [tmp_path / "in"])) == (6, 6, 0)


def test_progress_runs_from_nought_to_one(engine: Engine, tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS)
    write_stack(tmp_path / "in2", VOXELS, number=2)
    told: list[float] = []
    import_paths(
        engine, [tmp_path / "in", tmp_path / "in2"], progress=lambda phase, fraction: told.append(fraction)
    )
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_what_cannot_be_imported_is_refused(engine: Engine, tmp_path: Path) -> None:
    for paths, mode in (([tmp_path / "none"], "link"), ([tmp_path], "move")):
        with pytest.raises(InputError):
            import_paths(engine, paths, mode=mode)


def test_two_processes_that_import_the_same_files_do_not_double_them(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stack(tmp_path / "in", VOXELS)
    real = import_writer.verdicts_on
    raced = []

    def race(*args: object) -> dict:
        if not raced:
            raced.append(True)
            with open_engine(engine.paths.root) as other:
                assert counts(import_paths(other, [tmp_path / "in"])) == (6, 0, 0)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(import_writer, "verdicts_on", race)
    assert counts(import_paths(engine, [tmp_path / "in"])) == (0, 6, 0)
    assert verify_audit.verify(engine).ok


def test_a_thumbnail_is_made_once_and_kept_encrypted(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    geometry = axial_geometry((6, 8, 10), (1.0, 2.0, 3.0))
    write_stack(tmp_path / "in", VOXELS, geometry)
    key = import_paths(engine, [tmp_path / "in"]).studies[0].series[0].key
    picture = list_studies.thumbnail(engine, key)
    assert picture is not None
    assert picture.shape == (128, 80)
    (file,) = engine.paths.thumbnails.iterdir()
    assert b"PNG" not in file.read_bytes()
    shutil.rmtree(tmp_path / "in")
    again = list_studies.thumbnail(engine, key)
    np.testing.assert_array_equal(picture, again)


def test_a_thumbnail_is_made_once_the_medium_is_back(engine: Engine, tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS)
    key = import_paths(engine, [tmp_path / "in"]).studies[0].series[0].key
    forget_thumbnails(engine)
    shutil.move(tmp_path / "in", tmp_path / "away")
    assert list_studies.thumbnail(engine, key) is None
    shutil.move(tmp_path / "away", tmp_path / "in")
    assert list_studies.thumbnail(engine, key) is not None


def test_a_series_that_cannot_be_decoded_is_not_tried_again(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stack(tmp_path / "in", VOXELS)
    key = import_paths(engine, [tmp_path / "in"]).studies[0].series[0].key
    forget_thumbnails(engine)
    tried = []

    def fail(*_: object) -> None:
        tried.append(True)
        raise InputError("dicom.undecodable", "The pixels can't be decoded.")

    monkeypatch.setattr(thumbnails, "_middle_slice", fail)
    assert list_studies.thumbnail(engine, key) is None
    assert list_studies.thumbnail(engine, key) is None
    assert len(tried) == 1
