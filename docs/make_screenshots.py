"""Takes the pictures of the documentation from the real window: ``python docs/make_screenshots.py``.

Needs a display (``xvfb-run -s "-screen 0 1920x1200x24" python docs/make_screenshots.py`` where there is none). It works
in a data folder of its own, with synthetic studies and the models that ship; nobody's data is touched or shown.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid
from PySide6.QtCore import QBuffer, QIODevice
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from app.bootstrap import Application, Start
from app.presenters.reading_state import Slot
from app.presenters.worklist_rows import STUDY
from app.views.theme import Theme
from app.views.volume3d.scene_view import SceneView
from core.domain.browse import RetentionRule
from core.services.engine import open_engine
from core.services.import_study import import_paths
from core.services.make_phantom import make_phantom
from core.services.manage_models import add_model
from core.services.preferences import change_settings

ROOT = Path(__file__).resolve().parents[1]
SIZE = (1600, 1000)
MOST_BYTES = 290_000
SEED = 7
MODEL = "thorax-ct"
SEGMENT = "Liver"
TIME_POINTS = 6
STUDIES = (
    ("ct-thorax", {"patient_name": "Phantom^Thorax", "patient_id": "PH-001"}),
    ("mr-brain", {"patient_name": "Phantom^Brain", "patient_id": "PH-002"}),
    ("cxr", {"patient_name": "Phantom^Chest", "patient_id": "PH-003"}),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare a data folder, drive the window and save the pictures."""
    parser = argparse.ArgumentParser(description="Take the pictures of the documentation.")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder for the PNG files")
    parser.add_argument("--bundle", type=Path, help="use this model instead of the one that ships")
    parser.add_argument("--desk-only", action="store_true", help="take the pictures that need no model")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    asked = parser.parse_args(arguments)
    # The key of the throw-away folder must not enter the reader's keyring.
    os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="overread-pictures-") as folder:
        home = Path(folder) / "home"
        prepare(home, Path(folder) / "studies", asked.bundle, asked.theme)
        qt = QApplication(["overread"])
        photographer = Photographer(Application(qt, Start(home)), asked.out)
        try:
            photographer.take_desk(Path(folder) / "courier")
            if not asked.desk_only:
                photographer.take_all()
        finally:
            photographer.close()
    return 0


def prepare(home: Path, studies: Path, bundle: Path | None, theme: str) -> None:
    """Fill a new data folder with synthetic studies."""
    with open_engine(home, actor="A. Reader") as engine:
        change_settings(engine, theme=theme, reader_name="A. Reader")
        # A layout that was kept says that this is no first start, whose notices would stand in the pictures.
        engine.save_settings(engine.settings.model_copy(update={"window_layout": "{}"}))
        for kind, patient in STUDIES:
            say(f"making {kind}")
            make_phantom(kind, studies / kind, seed=SEED, **patient)
            # The ground truth of the CT plays the segmentation that another program left in the archive.
            import_paths(engine, [studies / kind / ("" if kind == "ct-thorax" else "images")], mode="copy")
        say("making priors and time points")
        import_paths(engine, [make_prior(studies / "prior"), make_times(studies / "times")], mode="copy")
        if bundle is not None:
            add_model(engine, bundle)


def make_prior(folder: Path) -> Path:
    """Return an older radiograph of the patient with the CT."""
    make_phantom("cxr", folder, seed=SEED + 2, patient_name="Phantom^Thorax", patient_id="PH-001")
    for path in (folder / "images").glob("*.dcm"):
        data = pydicom.dcmread(path)
        data.StudyDate = data.SeriesDate = data.AcquisitionDate = data.ContentDate = "20240312"
        data.save_as(path)
    return folder / "images"


def make_times(folder: Path) -> Path:
    """Return a brain of which every slice was taken several times while it grew brighter."""
    make_phantom(
        "mr-brain",
        folder / "once",
        seed=SEED + 3,
        patient_name="Phantom^Times",
        patient_id="PH-005",
        matrix=128,
    )
    target = folder / "times"
    target.mkdir()
    for path in sorted((folder / "once" / "images").glob("*.dcm"))[::4]:
        for time_point in range(TIME_POINTS):
            at_time(pydicom.dcmread(path), time_point).save_as(target / f"{path.stem}-{time_point}.dcm")
    return target


def at_time(data: FileDataset, time_point: int) -> FileDataset:
    """Return a slice as one of several points in time shows it."""
    data.SOPInstanceUID = generate_uid(entropy_srcs=[data.SOPInstanceUID, str(time_point)])
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.SeriesDescription = "T1 dynamic"
    data.TemporalPositionIdentifier = time_point + 1
    data.NumberOfTemporalPositions = TIME_POINTS
    data.TemporalResolution = 2000
    brighter = data.pixel_array * (0.6 + 0.4 * time_point / (TIME_POINTS - 1))
    data.PixelData = brighter.astype(np.dtype(data.pixel_array.dtype)).tobytes()
    return data


def make_courier(folder: Path) -> Path:
    """Return a folder as couriers bring them: one picture, one that ends early, and things that are none."""
    make_phantom("cxr", folder / "study", seed=SEED + 1, patient_name="Phantom^Courier", patient_id="PH-004")
    whole = next((folder / "study" / "images").glob("*.dcm"))
    parcel = folder / "parcel"
    parcel.mkdir()
    (parcel / "IM0001").write_bytes(whole.read_bytes())
    (parcel / "IM0002").write_bytes(whole.read_bytes()[:5000])
    for name in ("README.TXT", "AUTORUN.INF", "VIEWER.EXE"):
        (parcel / name).write_text("This disc needs a viewer.\n" * 20)
    return parcel


class Photographer:
    """Drives a window as a reader does and saves what it shows."""

    def __init__(self, application: Application, out: Path) -> None:
        self._app = application
        self._out = out
        application.window.resize(*SIZE)
        application.show()
        application.window.move(0, 0)

    def take_desk(self, courier: Path) -> None:
        """Take the pictures of what lies around a reading: elements, imports, the library's upkeep."""
        app = self._app
        self._open()
        self._save("worklist")
        app.worklist.search("phantom")
        app.worklist.narrow(modalities=("CT", "MR"))
        self._wait(lambda: 0 < app.worklist.state.found < app.worklist.state.total, "the filter")
        self._save("filters")
        app.worklist.clear_filters()
        self._wait(lambda: not app.worklist.state.filtered, "the whole list")
        self._show_archive()
        self._show_times()
        self._open()
        app.registry.trigger("series.tags")
        self._wait(lambda: app.tags.state.document is not None, "the elements")
        app.tags_panel.search.setText("spacing")
        self._wait(lambda: bool(app.tags.state.found), "what the search found")
        self._save("elements")
        app.tags_panel.search.clear()
        app.imports.import_paths([make_courier(courier)])
        self._wait(lambda: bool(app.issues.state.skipped) and not app.imports.busy, "the import")
        app.registry.trigger("panel.import")
        self._save("import")
        app.registry.trigger("library.check")
        self._wait(lambda: app.housekeeping.state.check is not None, "the check")
        app.housekeeping.save_rule(RetentionRule("Read a year ago", 365, tags_kept=("teaching",)))
        self._wait(lambda: bool(app.housekeeping.state.rules), "the rule")
        app.registry.trigger("library.retention")
        self._save("library")
        app.window.bottom_panel.hide()
        app.reading_area.setFocus()

    def take_all(self) -> None:
        """Take the pictures that need a model, in the order of a reading."""
        self._run()
        self._app.registry.trigger("ai.fill")
        self._save("mpr-segments")
        self._app.registry.trigger("ai.fill")
        self._decide()
        self._save("findings")
        self._app.reading.set_layout("2x2")
        self._build_scene()
        self._save("volume3d")
        self._app.reading.set_layout("mpr")
        self._ask_why()
        self._save("heatmap")

    def close(self) -> None:
        """Close the window."""
        self._app.window.close()
        QTest.qWait(200)

    def _show_archive(self) -> None:
        derived = self._app.derived
        self._wait(lambda: bool(derived.state.rows), "what the archive holds of the series")
        uid = derived.state.rows[0].uid
        derived.show(uid)
        self._wait(lambda: any(row.shown and not row.state for row in derived.state.rows), "the segmentation")
        self._save("archive")
        derived.toggle(uid)

    def _show_times(self) -> None:
        app = self._app
        before = app.reading.volume
        lines = [app.worklist.line(uid) for uid in app.worklist.order()]
        app.opener.open_study(
            next(
                line.study_uid for line in lines if line is not None and "PH-005" in line.identity.patient_id
            )
        )
        self._wait(
            lambda: app.reading.volume is not None and app.reading.volume is not before, "the time points"
        )
        app.playback.slide_to(TIME_POINTS // 2)
        self._wait(
            lambda: app.reading.volume is not None and app.reading.volume.time_point == TIME_POINTS // 2,
            "a time point",
        )
        self._save("time-points")

    def _open(self) -> None:
        app = self._app
        self._wait(lambda: app.worklist.state.loaded, "the worklist")
        lines = [app.worklist.line(row.uid) for row in app.worklist.state.rows if row.kind == STUDY]
        found = [line.study_uid for line in lines if line is not None and "CT" in line.modalities]
        app.opener.open_study(found[0])
        self._wait(lambda: app.reading.volume is not None, "the volume")
        self._wait(lambda: app.models.state.can_run, "the models")
        app.reading.set_layout("mpr")
        app.reading_area.setFocus()

    def _run(self) -> None:
        app = self._app
        if MODEL not in {row.id for row in app.models.state.rows}:
            raise SystemExit(
                f"The model {MODEL} isn't in models/bundles and fits nothing; give it with --bundle."
            )
        app.models.run(MODEL)
        self._wait(lambda: bool(app.findings.state.rows), "the findings", 900)
        self._select(SEGMENT)

    def _select(self, label: str) -> None:
        rows = [row.label for row in self._app.findings.state.rows]
        self._app.findings.select(rows.index(label) if label in rows else 0)

    def _decide(self) -> None:
        findings = self._app.findings
        findings.select(0)
        for verdict in ("accept", "accept", "unsure", "accept"):
            before = findings.state.undecided
            self._app.registry.trigger(f"finding.{verdict}")
            self._wait(lambda before=before: findings.state.undecided < before, "the verdict")  # type: ignore[misc]
            findings.step(1)
        self._select(SEGMENT)
        self._app.reading_area.setFocus()

    def _build_scene(self) -> None:
        scene = self._app.reading_area.viewport(Slot.SCENE)
        if not isinstance(scene, SceneView):
            raise SystemExit("There is no 3-D view.")
        self._app.reading.want_scene()
        self._wait(lambda: scene.sharp, "the 3-D view", 300)

    def _ask_why(self) -> None:
        why = self._app.explanation
        self._select(SEGMENT)
        self._wait(lambda: why.state.available, "the explanations")
        if SEGMENT in why.state.classes:
            why.choose(class_label=SEGMENT)
        why.ask()
        self._wait(lambda: why.state.shown, "the heat map", 900)

    def _wait(self, condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            failed = self._app.jobs.state.retryable
            if failed is not None:
                raise SystemExit(f"{failed.title} failed: {failed.error}")
            if time.monotonic() > until:
                told = [notice.what for notice in self._app.notices.state.notices]
                raise SystemExit(f"Waited {seconds:.0f} s for {what}. The window says: {told}")
            QTest.qWait(30)

    def _save(self, name: str) -> None:
        for notice in self._app.notices.state.notices:
            self._app.notices.dismiss(notice.id)
        QTest.qWait(400)
        buffer = QBuffer()
        buffer.open(QIODevice.OpenModeFlag.WriteOnly)
        self._app.window.grab().save(buffer, "PNG")
        path = self._out / f"{name}.png"
        path.write_bytes(squeezed(bytes(buffer.data().data())))
        say(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def squeezed(png: bytes) -> bytes:
    """Return a picture with a palette that is as large as ``MOST_BYTES`` allows."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    if picture.size != SIZE:
        # A screen with more than one device pixel per point.
        picture = picture.resize(SIZE, Image.Resampling.LANCZOS)
    encoded = b""
    # The few pixels of an accent lose against all the greys of a picture: the theme's colours are given.
    given = [int(color[at : at + 2], 16) for color in theme_colors() for at in (1, 3, 5)]
    for colors in (200, 160, 128, 96, 64):
        buffer = io.BytesIO()
        found = (
            picture.quantize(colors, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).getpalette() or []
        )
        palette = Image.new("P", (1, 1))
        palette.putpalette((given + found)[:768])
        # Without dithering: texts stay clean, and noise doesn't compress.
        picture.quantize(palette=palette, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        encoded = buffer.getvalue()
        if len(encoded) <= MOST_BYTES:
            break
    return encoded


def theme_colors() -> list[str]:
    """Return the colours that the window itself uses."""
    tokens = Theme.load("dark").colors
    return sorted(set(tokens.values()))


def say(words: str) -> None:
    """Tell what happens."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
