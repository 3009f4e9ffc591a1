"""A planted identity is in no byte of the home, its logs or the temporary folder, at any time."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest

from core.config.logs import configure_logging, stop_logging
from core.config.paths import Paths
from core.services import list_studies, results, verify_audit
from core.services.engine import Engine, open_engine
from core.services.import_study import import_paths
from core.services.load_volume import load_volume
from core.services.record_decision import record_decision
from tests.fakes.dicom_files import write_stack
from tests.fakes.engines import model_result

NAME = "ZZPLANTED^CANARY"
WORDS = ("ZZPLANTED", "CANARY", "PID-0815-ZZ", "ACC-ZZ-77", "19331103")
MARKS = [form for word in WORDS for form in (word.encode(), word.encode("utf-16-le"), word.lower().encode())]


def occurrences(*folders: Path) -> list[str]:
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            text = path.relative_to(folder).as_posix().encode()
            data = path.read_bytes() if path.is_file() else b""
            found += [f"{mark!r} at {path.name}" for mark in MARKS if mark in text or mark in data]
    return found


def read_a_study(engine: Engine, folder: Path, mask: Path) -> None:
    report = import_paths(engine, [folder])
    (series,) = report.studies[0].series
    assert list_studies.identity_of(engine, series.study_uid).patient_name == NAME
    assert list_studies.list_studies(engine, "zzplanted")
    assert list_studies.thumbnail(engine, series.key) is not None
    load_volume(engine, series.key)
    results.store_result(engine, model_result("r1", series.study_uid, series.series_uid))
    record_decision(engine, "r1", "f1", "edit", f"as {NAME} said", mask_file=mask)
    logging.getLogger("core.services").info("imported %s", folder)
    logging.getLogger("pydicom").error("bad value %s", NAME)
    warnings.warn(f"Invalid value for VR DA: '{NAME}'", UserWarning, stacklevel=1)


@pytest.mark.filterwarnings("always")
def test_identity_reaches_no_byte_of_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary, home = tmp_path / "temporary", tmp_path / "home"
    temporary.mkdir()
    for variable in ("TMPDIR", "TEMP", "TMP", "SQLITE_TMPDIR"):
        monkeypatch.setenv(variable, str(temporary))
    folder = tmp_path / "ZZPLANTED CANARY" / "PID-0815-ZZ"
    identity = {
        "PatientName": NAME,
        "PatientID": "PID-0815-ZZ",
        "AccessionNumber": "ACC-ZZ-77",
        "PatientBirthDate": "19331103",
        "StudyDescription": "CT of ZZPLANTED",
        "SeriesDescription": "CANARY 5.0",
    }
    write_stack(folder, np.arange(480, dtype=np.int16).reshape(6, 8, 10), name="ZZPLANTED", **identity)
    mask = folder / "CANARY.nii"
    mask.write_bytes(b"mask")
    paths = Paths(home)
    paths.create()
    level = logging.getLogger().level
    handler = configure_logging(paths)
    try:
        engine = open_engine(home, actor="reader")
        read_a_study(engine, folder, mask)
        assert occurrences(home, temporary) == []
        with engine.unit_of_work() as uow:
            uow.session.connection().exec_driver_sql("DELETE FROM study")
            uow.meta.next_revision()
        verify_audit.export_events(engine, "xml", home / "audit.xml")
        engine.close()
    finally:
        stop_logging(handler)
        logging.getLogger().setLevel(level)
    assert (paths.logs / "overread.log").read_text("utf-8").count("\n") >= 2
    assert occurrences(home, temporary) == []


def test_free_pages_hold_nothing_even_for_who_has_the_databases_key(tmp_path: Path) -> None:
    """Without SQLCipher below (as on PostgreSQL, or for who knows the database's key), the rows are sealed too."""
    import sqlcipher3.dbapi2 as driver

    folder = tmp_path / "in"
    write_stack(
        folder, np.arange(480, dtype=np.int16).reshape(6, 8, 10), PatientName=NAME, PatientID="PID-0815-ZZ"
    )
    with open_engine(tmp_path / "home") as engine:
        import_paths(engine, [folder])
        key = engine.keys.derive("database").hex()
    connection = driver.connect(str(tmp_path / "home" / "library.db"))
    connection.execute(f"PRAGMA key = \"x'{key}'\"")
    connection.execute(f"ATTACH DATABASE '{tmp_path / 'plain.db'}' AS plain KEY ''")
    connection.execute("SELECT sqlcipher_export('plain')")
    connection.close()
    data = (tmp_path / "plain.db").read_bytes()
    assert data.startswith(b"SQLite format 3")
    assert not [mark for mark in (*MARKS, str(folder).encode()) if mark in data]
