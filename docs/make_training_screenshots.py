"""Takes the pictures of the training screens from the real window: ``python docs/make_training_screenshots.py``.

Needs a display, as ``make_screenshots.py`` does. It works in a data folder of its own with six synthetic patients, a
tiny model that is wrong on purpose, and verdicts that correct it; the training, the comparison and the curves are real.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from make_screenshots import Photographer, say  # noqa: E402

from app.bootstrap import Application, Start  # noqa: E402
from app.presenters.training_desk import CANDIDATE  # noqa: E402
from core.bundles.manifest import Inference, Preprocessing, Scale  # noqa: E402
from core.domain.training import TrainingState  # noqa: E402
from core.services import training_board  # noqa: E402
from core.services.engine import Engine, open_engine  # noqa: E402
from core.services.import_study import import_paths  # noqa: E402
from core.services.list_studies import list_studies  # noqa: E402
from core.services.load_volume import load_volume  # noqa: E402
from core.services.make_phantom import make_phantom  # noqa: E402
from core.services.preferences import change_settings  # noqa: E402
from tests.fakes.bundles import expected_labels, make_torch_bundle, segmentation_manifest  # noqa: E402
from tests.fakes.verdicts import add_segmentation_result, correct  # noqa: E402

PATIENTS, SEED, EPOCHS = 7, 7, 40
MODEL = "tissue-ct"
# At its own priority the worker waits for whatever else this machine does.
WORKER = [
    sys.executable,
    "-c",
    "import sys; from core.worker.trainer import main; sys.exit(main(yields=False))",
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare a data folder, train in the window and save the pictures."""
    parser = argparse.ArgumentParser(description="Take the pictures of the training screens.")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder for the PNG files")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    asked = parser.parse_args(arguments)
    os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"
    training_board.trainer_command = lambda: WORKER
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="overread-pictures-") as folder:
        home = Path(folder) / "home"
        prepare(home, Path(folder), asked.theme)
        qt = QApplication(["overread"])
        photographer = TrainingPhotographer(Application(qt, Start(home)), asked.out)
        try:
            photographer.take_training()
        finally:
            photographer.close()
    return 0


def prepare(home: Path, folder: Path, theme: str) -> None:
    """Fill a new data folder with patients, a model, its results and a reader's verdicts."""
    manifest = segmentation_manifest(
        id=MODEL,
        title="Tissue by density",
        preprocessing=Preprocessing(intensity=(Scale(op="scale", from_low=-1000, from_high=1000),)),
        inference=Inference(patch_kji=(16, 48, 48), divisor=4),
    )
    params = {"in_channels": 1, "out_channels": 3, "channels": [6, 12]}
    bundle = make_torch_bundle(home / "bundles" / MODEL, "unet3d", params, (), manifest, SEED)
    with open_engine(home, actor="A. Reader") as engine:
        change_settings(engine, theme=theme, reader_name="A. Reader")
        engine.save_settings(engine.settings.model_copy(update={"window_layout": "{}"}))
        for number in range(1, PATIENTS + 1):
            say(f"making patient {number}")
            study = folder / "studies" / str(number)
            made = make_phantom(
                "ct-thorax",
                study,
                seed=SEED + number,
                matrix=96,
                slices=40,
                fov_mm=380,
                slice_thickness_mm=8,
                patient_name=f"Phantom^Patient{number}",
                patient_id=f"PH-{number:03d}",
            )
            import_paths(engine, [study / "images"], mode="copy")
            read(engine, bundle, str(made["series_uid"]), number, folder)


def read(engine: Engine, bundle: object, series_uid: str, number: int, folder: Path) -> None:
    """Store what a model that misses the lower slices would find, and correct it; the last patient waits."""
    series = next(s for study in list_studies(engine) for s in study.series if s.series_uid == series_uid)
    truth = expected_labels(load_volume(engine, series.key).voxels)
    found = np.where(np.arange(truth.shape[0])[:, None, None] < 6 + 2 * number, 0, truth).astype(np.uint8)
    result = add_segmentation_result(engine, bundle, series, found)  # type: ignore[arg-type]
    if number == PATIENTS:
        return
    for finding in result.findings:
        correct(engine, result, finding.id, truth, folder)


class TrainingPhotographer(Photographer):
    """Trains as a reader does and saves what the window shows."""

    def take_training(self) -> None:
        """Choose, train, watch, compare."""
        app = self._app
        self._open()
        app.registry.trigger("training.improve")
        setup = app.training.setup
        setup.refresh(MODEL)
        self._wait(lambda: setup.state.can_start, "the cases")
        self._save("training")
        setup.enter("epochs", str(EPOCHS))
        setup.enter("learning_rate", "0.01")
        setup.start()
        runs = app.training.runs
        self._wait(lambda: runs.state.run is not None, "the training")
        self._wait(lambda: self._epoch() >= EPOCHS // 2 or self._ended(), "half of the training", 1200)
        app.registry.trigger("training.follow")
        QTest.qWait(1500)
        self._save("training-progress")
        self._wait(self._ended, "the end of the training", 1200)
        app.training_commands.open_page(CANDIDATE)
        candidates = app.training.candidates
        self._wait(lambda: bool(candidates.state.cases), "the comparison")
        candidates.open_case(0)
        candidates.sign("A. Reader", "Finds the lower slices")
        QTest.qWait(1500)
        self._save("candidate")

    def _epoch(self) -> int:
        run = self._app.training.runs.state.run
        return run.epoch if run is not None else 0

    def _ended(self) -> bool:
        run = self._app.training.runs.state.run
        if run is not None and run.state is TrainingState.FAILED:
            raise SystemExit(f"The training failed: {run.error}")
        return run is not None and run.is_final


if __name__ == "__main__":
    sys.exit(main())
