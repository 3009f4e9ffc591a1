"""The whole loop in the real window with the real engine: read, correct, train, watch, compare, promote, roll back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit, QWidget

from app.bootstrap import Application, Start
from app.presenters.training_desk import CANDIDATE, MONITOR
from app.presenters.worklist_rows import STUDY
from core.bundles.bundle import read_bundle
from core.bundles.digest import bundle_digest
from core.bundles.manifest import Inference, Preprocessing, Scale
from core.domain.training import TrainingState
from core.formats.nifti import write_nifti
from core.services import training_board
from core.services.list_models import catalogue
from tests.fakes.bundles import expected_labels, make_torch_bundle, make_volume, segmentation_manifest
from tests.fakes.dicom_files import write_stack

pytestmark = [pytest.mark.gui, pytest.mark.slow, pytest.mark.timeout(600)]
Wait = Callable[..., None]
SEGMENTATION, SHAPE = "fake-threshold", (12, 16, 16)
PATIENTS = 6
SEED = 11  # of weights that find something of both labels everywhere, and almost all of it wrong
WORKERS = {
    # Speaks the protocol and learns nothing.
    "protocol": [sys.executable, "-m", "tests.fakes.fake_trainer"],
    # The one that trains, at the priority of a test: at its own it waits for whatever else runs here.
    "engine": [
        sys.executable,
        "-c",
        "import sys; from core.worker.trainer import main; sys.exit(main(yields=False))",
    ],
}
PATIENCE_S = 100


def make_study(folder: Path, number: int) -> Path:
    """Write one patient's series; every body lies elsewhere, or their images would count as one."""
    volume = make_volume(SHAPE, seed=number)
    voxels = np.roll(volume.voxels, (number % 4, number // 4), (2, 1))
    uid = f"1.2.826.0.1.3680043.10.78.{number}"
    write_stack(
        folder / f"study{number}",
        voxels,
        volume.geometry,
        number=number,
        StudyInstanceUID=uid,
        PatientID=f"PID-{number}",
        PatientName=f"Reader^Case{number}",
        StudyDescription=f"Study {number}",
    )
    return folder / f"study{number}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    manifest = segmentation_manifest(
        id=SEGMENTATION,
        preprocessing=Preprocessing(intensity=(Scale(op="scale", from_low=-1000, from_high=1000),)),
        inference=Inference(patch_kji=(8, 16, 16), divisor=4),
    )
    params = {"in_channels": 1, "out_channels": 3, "channels": [4, 8]}
    make_torch_bundle(tmp_path / "home" / "bundles" / SEGMENTATION, "unet3d", params, (), manifest, SEED)
    return tmp_path / "home"


@pytest.fixture(params=sorted(WORKERS))
def trainer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Choose the worker before a board is made."""
    monkeypatch.setattr(training_board, "trainer_command", lambda: WORKERS[request.param])
    return str(request.param)


@pytest.fixture
def window(
    qt_application: QApplication, trainer: str, home: Path, tmp_path: Path, wait_until: Wait
) -> Iterator[Application]:
    studies = [make_study(tmp_path / "in", number) for number in range(1, PATIENTS + 1)]
    running = Application(qt_application, Start(home, files=tuple(studies)))
    running.window.resize(1600, 1000)
    running.show()
    running.window.activateWindow()
    wait_until(lambda: len(study_uids(running)) == PATIENTS, "the import", PATIENCE_S)
    yield running
    running.window.close()
    running.window.deleteLater()


def study_uids(window: Application) -> list[str]:
    return sorted(
        line.study_uid
        for row in window.worklist.state.rows
        if row.kind == STUDY and (line := window.worklist.line(row.uid)) is not None
    )


def press(
    window: Application, key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier
) -> None:
    QTest.keyClick(window.window.focusWidget() or window.window, key, modifier)


def click(widget: QWidget) -> None:
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton)


def retype(edit: QWidget, text: str) -> None:
    assert isinstance(edit, QLineEdit)
    edit.setFocus()
    edit.selectAll()
    QTest.keyClicks(edit, text)


def read_study(window: Application, study_uid: str, wait_until: Wait) -> None:
    """Open a study and run the model on it."""
    before = window.reading.volume
    window.opener.open_study(study_uid)
    wait_until(
        lambda: window.reading.volume is not None and window.reading.volume is not before,
        "the volume",
        PATIENCE_S,
    )
    wait_until(
        lambda: window.models.state.can_run and bool(window.models.state.rows), "the model", PATIENCE_S
    )
    window.reading_area.setFocus()
    press(window, Qt.Key.Key_R, Qt.KeyboardModifier.ControlModifier)
    wait_until(lambda: bool(window.findings.state.rows), "the findings", PATIENCE_S)


def correct_all(window: Application, folder: Path, wait_until: Wait) -> int:
    """Edit every finding on screen with a mask, as a reader does with the keyboard; returns how many."""
    volume = window.reading.volume
    assert volume is not None
    mask = folder / f"mask-{volume.series_uid[-8:]}.nii.gz"
    write_nifti(mask, volume.geometry, expected_labels(volume.voxels))
    number = len(window.findings.state.rows)
    for place in range(number):
        assert window.findings.state.selected == place
        press(window, Qt.Key.Key_H)
        wait_until(lambda: window.findings_panel.mask_line.isVisible(), "the line for a mask")
        press(window, Qt.Key.Key_Tab)
        QTest.keyClicks(window.findings_panel.mask_line.path, str(mask))
        press(window, Qt.Key.Key_Return)
        wait_until(lambda: window.findings.state.rows[place].corrected, "the mask")  # noqa: B023
        press(window, Qt.Key.Key_Escape)
        press(window, Qt.Key.Key_N)
    return number


def digest_in_use(window: Application) -> str:
    bundle = catalogue(window.engine.engine).get(SEGMENTATION)  # type: ignore[attr-defined]
    return bundle_digest(read_bundle(bundle.path))


def test_correct_train_watch_compare_promote_and_roll_back(
    trainer: str,
    window: Application,
    tmp_path: Path,
    wait_until: Wait,
) -> None:
    before = digest_in_use(window)
    corrected = 0
    for uid in study_uids(window):
        read_study(window, uid, wait_until)
        corrected += correct_all(window, tmp_path, wait_until)
    assert corrected >= PATIENTS
    start_training(window, trainer, wait_until)
    watch_training(window, wait_until)
    assert digest_in_use(window) == before, "nothing is promoted by itself"
    promote(window, wait_until)
    assert digest_in_use(window) != before
    roll_back(window, wait_until)
    assert digest_in_use(window) == before, "the former model is back, bit for bit"
    window.training_commands.open_page(MONITOR)
    wait_until(lambda: bool(window.training.monitor.state.rows), "the agreement", PATIENCE_S)
    assert window.training.monitor.state.rows[0].weeks[-1].edited == corrected
    press(window, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    wait_until(lambda: window.audit.state.check is not None and not window.audit.state.verifying, "the check")
    assert window.audit.state.check is not None and window.audit.state.check.ok


def start_training(window: Application, trainer: str, wait_until: Wait) -> None:
    window.training_commands.improve()
    page = window.training_commands.panel.setup
    wait_until(lambda: page.start.isEnabled(), "Start", PATIENCE_S)
    preview = window.training.setup.state.preview
    assert preview is not None and len(preview.included) == PATIENTS
    assert all(case.is_corrected for case in preview.included)
    retype(page.form.editors["epochs"], "3" if trainer == "protocol" else "20")
    retype(page.form.editors["learning_rate"], "0.01")
    wait_until(lambda: page.start.isEnabled(), "Start with the settings")
    click(page.start)
    wait_until(lambda: window.training.runs.state.run is not None, "the training", PATIENCE_S)
    wait_until(lambda: window.training_commands.panel.progress.isVisible(), "its page")


def watch_training(window: Application, wait_until: Wait) -> None:
    runs, page = window.training.runs, window.training_commands.panel.progress

    def ended() -> bool:
        return runs.state.run is not None and runs.state.run.is_final

    wait_until(lambda: ended() or "validation_loss" in page.curves._lines, "the first curve", PATIENCE_S)
    window.reading_area.setFocus()
    press(window, Qt.Key.Key_Down)
    wait_until(ended, "the end of the training", PATIENCE_S)
    run = runs.state.run
    assert run is not None and run.state is TrainingState.SUCCEEDED, (
        run and run.error,
        run and run.error_code,
    )
    wait_until(lambda: "validation_loss" in page.curves._lines, "the curves", PATIENCE_S)


def promote(window: Application, wait_until: Wait) -> None:
    window.training_commands.open_page(CANDIDATE)
    page = window.training_commands.panel.candidate
    wait_until(lambda: page.scores.rowCount() >= 3, "the comparison", PATIENCE_S)
    candidate = window.training.candidates.state.candidate
    assert candidate is not None and candidate.passed, candidate and candidate.gates
    area = page.scores_table.visualRect(page.scores_table.model().index(0, 0))
    worst = window.training.candidates.state.cases[0].series_key
    QTest.mouseClick(page.scores_table.viewport(), Qt.MouseButton.LeftButton, pos=area.center())
    wait_until(
        lambda: window.session.summary is not None and window.session.summary.key == worst, "the worst case"
    )
    assert not page.promote.isEnabled(), "not without a reason"
    retype(page.reason, "Better borders of bone")
    wait_until(lambda: page.promote.isEnabled(), "Promote")
    click(page.promote)
    wait_until(lambda: page.history.rowCount() == 1, "the history", PATIENCE_S)


def roll_back(window: Application, wait_until: Wait) -> None:
    page = window.training_commands.panel.candidate
    retype(page.reason, "To be looked at again")
    wait_until(lambda: page.roll_back.isEnabled(), "Roll back", PATIENCE_S)
    click(page.roll_back)
    wait_until(lambda: page.history.rowCount() == 2, "the longer history", PATIENCE_S)
