"""A planted patient is nowhere to be found in the home, the logs or the temporary folder."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from tests.fakes.command_line import overread

NAME, IDENTIFIER, ACCESSION, BIRTH = "ZZCANARY^PLANTED", "PID-ZZ-4711", "ACC-ZZ-0815", "19311103"
MARKS = [b"ZZCANARY", b"PLANTED", IDENTIFIER.encode(), ACCESSION.encode(), b"19311103", b"1931-11-03"]


def plant(folder: Path) -> None:
    """Give the studies in a folder an identity."""
    for file in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(file)
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = NAME, IDENTIFIER, BIRTH
        dataset.AccessionNumber = ACCESSION
        dataset.save_as(file)


def occurrences(folder: Path) -> list[str]:
    """List the marks found in bytes, file names included; UTF-16 too."""
    found = []
    for path in folder.rglob("*"):
        found += [f"name of {path.name}" for mark in MARKS if mark in str(path.relative_to(folder)).encode()]
        if path.is_file():
            content = path.read_bytes()
            found += [
                f"{mark!r} in {path.name}"
                for mark in MARKS
                if mark in content or mark.decode().encode("utf-16-le") in content
            ]
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_identity_stays_in_the_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    temporary.mkdir()
    for variable in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(variable, str(temporary))
    folder = tmp_path / "ZZCANARY_PLANTED"
    overread("phantom", "cxr", "--out", folder)
    plant(folder)
    imported = overread("import", "--link", folder, home=home)
    series = next(
        s["series_uid"] for study in imported["studies"] for s in study["series"] if s["kind"] == "image"
    )
    result = overread("run", "mednist", "--series", series, home=home)
    overread(
        "decide",
        result["result_id"],
        "--finding",
        result["findings"][0]["id"],
        "--verdict",
        "accept",
        home=home,
    )
    assert NAME not in str(overread("list", home=home))
    assert overread("list", "--query", "zzcanary", home=home)["studies"], "the vault answers the search"
    assert occurrences(home) == []
    assert occurrences(temporary) == []
