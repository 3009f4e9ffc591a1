"""A planted patient is in no byte of the home or the temporary folder, whatever is done with the files."""

from __future__ import annotations

import base64
import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest

from core.config.logs import configure_logging, stop_logging
from core.config.paths import Paths
from core.config.sealed_file import is_sealed
from core.services import backup, browse, import_issues, list_studies
from core.services.engine import Engine, open_engine
from core.services.import_study import import_paths
from core.services.load_volume import load_volume
from core.services.read_tags import read_tags
from core.services.remove_study import remove_studies
from tests.fakes.dicom_files import write_stack

NAME = "ZZPLANTED^CANARY=植込^患者=ウエコミ^カンジャ"
IDENTITY = {
    "SpecificCharacterSet": "ISO_IR 192",
    "PatientName": NAME,
    "PatientID": "PID-0815-ZZ",
    "PatientBirthDate": "19331103",
    "AccessionNumber": "ACC-ZZ-77",
    "StudyDescription": "CT of ZZPLANTED",
    "SeriesDescription": "CANARY 5.0",
}
_ROOT = "1.2.826.0.1.3680043.8.498.471108150"
UIDS = (f"{_ROOT}1", f"{_ROOT}2", f"{_ROOT}3")
WORDS = (
    *("ZZPLANTED", "CANARY", "PID-0815-ZZ", "ACC-ZZ-77", "19331103"),
    *("植込", "患者", "ウエコミ", "カンジャ", "47110815"),
)


def forms(word: str) -> set[bytes]:
    """Return a word as it may be written: encodings, letter case, and base64 at its three alignments."""
    out = {word.encode(), word.lower().encode(), word.encode("utf-16-le"), word.encode("utf-16-be")}
    for ahead in range(3):
        packed = base64.b64encode(b"\0" * ahead + word.encode())
        # the first and last letters of base64 mix with what stands around
        out.add(packed[(ahead * 8 + 5) // 6 : len(packed.rstrip(b"=")) - 1])
    return {form for form in out if len(form) >= 4}


MARKS = sorted({form for word in WORDS for form in forms(word)})


def occurrences(*folders: Path) -> list[str]:
    """List the marks in names and bytes of files."""
    found = []
    for path in (path for folder in folders for path in folder.rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        name = path.name.encode("utf-8", "surrogateescape")
        found += [f"{mark!r} at {path.name}" for mark in MARKS if mark in name or mark in data]
    return found


def plant(folder: Path, values: np.ndarray, **changes: object) -> list[Path]:
    """Write a series of the planted patient."""
    study, series, instance = UIDS
    return write_stack(
        folder,
        values,
        name="ZZPLANTED",
        **{
            **IDENTITY,
            "StudyInstanceUID": study,
            "SeriesInstanceUID": series,
            "SOPInstanceUID": lambda k: f"{instance}.{k}",
            "FrameOfReferenceUID": f"{study}.9",
            **changes,
        },
    )


def packed(folder: Path, archive: Path) -> Path:
    """Put a folder into an archive."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for file in folder.iterdir():
            out.write(file, f"ZZPLANTED/{file.name}")
    return archive


def use(engine: Engine) -> str:
    """Search, view, mark and read tags; returns the study's UID."""
    (line,) = browse.study_lines(engine, browse.StudyFilter(text="zzplanted"))
    assert browse.study_lines(engine, browse.StudyFilter(text="患者"))
    assert line.identity.patient_name == NAME
    browse.note_opened(engine, line.study_uid)
    for series in browse.series_of(engine, line.study_uid):
        assert list_studies.thumbnail(engine, series.key) is not None
        load_volume(engine, series.key)
        assert any(row["value"] == NAME for row in read_tags(engine, series.key))
    return line.study_uid


@pytest.mark.parametrize("way", ["link", "copy", "zip"])
@pytest.mark.filterwarnings("ignore")
def test_a_planted_patient_reaches_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    temporary, home = tmp_path / "temporary", tmp_path / "home"
    temporary.mkdir()
    for variable in ("TMPDIR", "TEMP", "TMP", "SQLITE_TMPDIR"):
        monkeypatch.setenv(variable, str(temporary))
    values = np.arange(480, dtype=np.int16).reshape(6, 8, 10)
    source = tmp_path / "ZZPLANTED CANARY" / "PID-0815-ZZ"
    files = plant(source, values)
    rival = plant(tmp_path / "rival CANARY", values + 1)
    damaged = tmp_path / "CANARY damaged.dcm"
    damaged.write_bytes(files[2].read_bytes()[:-50])
    chosen = packed(source, tmp_path / "ZZPLANTED.zip") if way == "zip" else source
    mode = "copy" if way == "copy" else "link"
    paths = Paths(home)
    paths.create()
    level = logging.getLogger().level
    handler = configure_logging(paths)
    try:
        with open_engine(home, actor="reader") as engine:
            meanwhile: list[str] = []
            import_paths(
                engine,
                [chosen],
                mode=mode,
                on_series=lambda *_: meanwhile.extend(occurrences(home, temporary)),
            )
            assert meanwhile == [], "not while an archive is unpacked either"
            study = use(engine)
            import_paths(engine, [rival[0], damaged], mode=mode)
            assert import_issues.list_conflicts(engine) and import_issues.list_quarantine(engine)
            backup.make_backup(engine)
            copies = [file for file in paths.instances.rglob("*") if file.is_file()]
            assert bool(copies) == (way != "link") and all(is_sealed(file) for file in copies)
            assert occurrences(home, temporary) == []
            remove_studies(engine, [study], "no longer needed")
            assert occurrences(home, temporary) == []
    finally:
        stop_logging(handler)
        logging.getLogger().setLevel(level)
    assert occurrences(home, temporary) == []
    assert all(file.exists() for file in files), "the reader's own files stay"


def test_the_search_itself_finds_what_is_planted(tmp_path: Path) -> None:
    """Without this, a search that never finds anything would pass."""
    plant(tmp_path, np.zeros((1, 8, 10), np.int16))
    (tmp_path / "letter").write_bytes(base64.b64encode(b"Dear ZZPLANTED CANARY"))
    found = occurrences(tmp_path)
    assert any("ZZPLANTED0001.dcm" in one for one in found) and any("at letter" in one for one in found)
