"""The courier's study by mouse and keyboard: drop a ZIP and a DICOMDIR, search, open the prior, read elements."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.fileset import FileSet

from tests.fakes.dicom_files import write_stack
from tests.fakes.hands import Hands

pytestmark = [pytest.mark.gui, pytest.mark.slow]
PATIENT = {"PatientName": "Dropped^Patient", "PatientID": "DROP-1", "PatientBirthDate": "19600101"}


@pytest.fixture
def hands(display: str, tmp_path: Path) -> Iterator[Hands]:
    if shutil.which("xdotool") is None:
        pytest.skip("xdotool is absent: apt-get install xdotool")
    running = Hands(tmp_path / "home")
    yield running
    running.end()


def study(folder: Path, number: int, description: str, date: str) -> list[Path]:
    """Write a study of the one patient."""
    return write_stack(
        folder, np.full((6, 32, 32), 40, np.int16), number=number,
        StudyInstanceUID=f"1.2.826.0.1.3680043.10.7.{number}", StudyDescription=description,
        SeriesDescription=description, StudyDate=date, **PATIENT,
    )  # fmt: skip


def test_a_study_is_dropped_found_compared_and_looked_into(hands: Hands, tmp_path: Path) -> None:
    study(tmp_path / "new", 1, "Followup thorax", "20260105")
    archive = Path(shutil.make_archive(str(tmp_path / "courier"), "zip", tmp_path / "new"))
    disc = FileSet()
    for file in study(tmp_path / "old", 2, "Baseline thorax", "20240105"):
        disc.add(file)
    disc.write(tmp_path / "cd")
    before = sorted(path.name for path in (tmp_path / "cd").rglob("*"))

    hands.wait("painted")
    assert hands.drop(archive) == "CopyAction"
    hands.wait("studies", lambda found: found == ["Followup thorax"])
    hands.wait("open", lambda name: name == "Followup thorax")
    hands.wait("volume", bool)

    assert hands.drop(tmp_path / "cd" / "DICOMDIR") == "CopyAction"
    hands.wait("studies", lambda found: found == ["Baseline thorax", "Followup thorax"])
    hands.wait("imports", lambda states: states == ["done", "done"])
    assert hands.shown["open"]["value"] == "Followup thorax", "an import takes no picture away"
    hands.wait("priors", lambda count: count == 1)

    hands.key("o")
    hands.wait("open", lambda name: name == "Baseline thorax")

    hands.key("ctrl+f")
    hands.type("followup")
    hands.wait("studies", lambda found: found == ["Followup thorax"])
    hands.key("Escape")
    hands.wait("studies", lambda found: len(found) == 2)

    hands.key("t")
    hands.wait("elements", lambda total: total == 6)
    hands.type("studydate")
    hands.wait("found", lambda found: found == ["StudyDate"])
    hands.key("Escape", "ctrl+q")
    hands.wait("end")
    assert hands.process.wait(30) == 0
    assert hands.qt == []
    assert sorted(path.name for path in (tmp_path / "cd").rglob("*")) == before, "the disc is as it was"
