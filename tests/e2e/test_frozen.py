"""The frozen folder works as it stands: commands, the worker, the demonstration and the window.

Runs when ``OVERREAD_FROZEN`` names the folder that ``python installer/build.py --out DIR`` made (``DIR/overread``).
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import nibabel
import numpy as np
import psutil
import pytest
from PIL import Image, ImageGrab

from tests.fakes.command_line import ROOT, dicom_errors
from tests.fakes.data import data_path

T = TypeVar("T")
SUFFIX = ".exe" if os.name == "nt" else ""
SHOWN_S, ENDED_S, RUN_S = 60.0, 30.0, 120.0
_BACKGROUND_COLORS = 50


@pytest.fixture(scope="session")
def frozen() -> Path:
    folder = os.environ.get("OVERREAD_FROZEN", "")
    if not folder:
        pytest.skip(
            "OVERREAD_FROZEN names no frozen folder: python installer/build.py --out DIR makes DIR/overread"
        )
    path = Path(folder)
    assert (path / f"overread{SUFFIX}").exists(), f"no overread{SUFFIX} in {path}"
    return path


def clean_environment() -> dict[str, str]:
    """Return the environment without what would let the frozen program borrow from the sources."""
    strange = ("PYTHON", "VIRTUAL_ENV", "OVERREAD_FROZEN", "LD_LIBRARY_PATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    return kept | {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}


def command(
    frozen: Path, home: Path, *arguments: str | Path, expect: int = 0, timeout_s: float = RUN_S
) -> dict[str, Any]:
    """Run a command of the frozen program, away from the sources, and return its document."""
    home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [frozen / f"overread{SUFFIX}", *map(str, arguments), "--json"],
        cwd=home.parent,
        env=clean_environment() | {"OVERREAD_HOME": str(home)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    document: dict[str, Any] = json.loads(done.stdout)
    return document


# -- commands --------------------------------------------------------------------------------------


def test_the_window_executable_knows_every_command() -> None:
    """A command that it doesn't know would be taken for a file to open."""
    from core.cli.main import app

    source = (ROOT / "installer" / "entry_app.py").read_text(encoding="utf-8")
    listed = re.search(r"COMMANDS = frozenset\((.*?)\n\)", source, re.DOTALL)
    assert listed is not None
    names = {info.name for info in app.registered_commands} | {info.name for info in app.registered_groups}
    assert set(re.findall(r'"([a-z-]+)"', listed.group(1))) == names | {"--help"}


def test_every_package_of_a_build_brings_its_licence_or_is_named(tmp_path: Path) -> None:
    count = runpy.run_path(str(ROOT / "installer" / "licences.py"))["collect_licences"](tmp_path)
    index = (tmp_path / "INDEX.txt").read_text(encoding="utf-8").splitlines()[2:]
    assert len(index) == count > 30
    assert {"torch", "pyside6-essentials", "numpy"} <= {line.split()[0] for line in index}
    assert "hypothesis" not in {line.split()[0] for line in index}
    for line in index:
        assert ("no text" in line) != (tmp_path / line.split()[0]).is_dir(), line


def test_doctor_finds_codecs_compute_libraries_and_database(frozen: Path, tmp_path: Path) -> None:
    checks = {c["name"]: c["status"] for c in command(frozen, tmp_path / "home", "doctor")["checks"]}
    assert {name: checks[name] for name in ("codecs", "ai pack", "database", "models")} == {
        "codecs": "ok",
        "ai pack": "ok",
        "database": "ok",
        "models": "ok",
    }


def test_the_shipped_models_are_listed_and_pass_their_self_tests(frozen: Path, tmp_path: Path) -> None:
    """A self-test starts the worker executable and moves arrays through shared memory."""
    home = tmp_path / "home"
    listed = {m["id"]: m["verified"] for m in command(frozen, home, "models")["models"]}
    carried = {file.parent.name for file in frozen.glob("_internal/models/bundles/*/bundle.json")}
    assert carried
    assert listed == dict.fromkeys(carried, "signed")
    for model in sorted(listed):
        command(frozen, home, "models", "selftest", model)


def test_training_is_refused_with_the_way_to_do_it(frozen: Path, tmp_path: Path) -> None:
    answer = command(frozen, tmp_path / "home", "train", "mednist", "--out", tmp_path / "out", expect=1)
    assert answer["error"]["code"] == "train.not_in_this_build"
    assert "overread[train]" in answer["error"]["remedy"]


def test_texts_are_utf_8_whatever_the_locale_says(frozen: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("LC_ALL", "POSIX")
    answer = command(frozen, tmp_path / "home", "tags", tmp_path / "Übersicht.dcm", expect=1)
    assert answer["error"]["remedy"]


def test_the_licences_of_what_it_carries_lie_beside_it(frozen: Path) -> None:
    index = (frozen / "licences" / "INDEX.txt").read_text(encoding="utf-8")
    for name in ("pyside6-essentials", "torch", "vtk", "simpleitk", "python-gdcm"):
        assert f"\n{name} " in index
        assert any((frozen / "licences" / name).iterdir())
    assert (frozen / "LICENSE").exists()


def voxels(frozen: Path, home: Path, file: Path) -> np.ndarray:
    """Return the voxels of a file that the frozen program imported."""
    imported = command(frozen, home, "import", file)
    series = imported["studies"][0]["series"][0]["series_uid"]
    command(frozen, home, "volume", series, "--out", home / "volume.nii.gz")
    return np.asarray(nibabel.load(home / "volume.nii.gz").dataobj)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("coded", "largest_difference"),
    [("CT1_JPLL", 0), ("CT1_JLSL", 0), ("CT1_JLSN", 4), ("CT1_J2KR", 0), ("CT1_RLE", 0), ("NM1_JPLY", 40)],
)
def test_every_codec_decodes_in_its_child_process(
    frozen: Path, tmp_path: Path, coded: str, largest_difference: int
) -> None:
    """JPEG lossless, JPEG-LS, JPEG 2000, RLE and twelve-bit JPEG, beside the same picture uncompressed."""
    folder = data_path("core/dicom/wg04-codecs")
    found = voxels(frozen, tmp_path / "coded", folder / f"{coded}.dcm")
    truth = voxels(frozen, tmp_path / "plain", folder / f"{coded.split('_')[0]}_UNC.dcm")
    assert found.shape == truth.shape
    assert np.abs(found.astype(float) - truth.astype(float)).max() <= largest_difference


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demonstration_does_the_main_job(frozen: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    if "thorax-ct" not in {m["id"] for m in command(frozen, home, "models")["models"]}:
        pytest.skip("this build ships no thorax-ct model")
    demo = command(frozen, home, "demo", "--out", tmp_path / "out", timeout_s=800)
    assert demo["ok"]
    assert demo["audit"]["first_bad_seq"] is None
    files = [(f["kind"], Path(f["path"])) for f in demo["files"]]
    assert {kind for kind, _ in files} >= {"seg", "sr", "pm", "nifti", "pdf", "picture"}
    assert all(path.exists() for _, path in files)
    assert sum(kind == "picture" for kind, _ in files) == 5
    if shutil.which("dciodvfy"):
        objects = [path for kind, path in files if kind in ("seg", "sr", "pm")]
        assert {str(path): dicom_errors(path) for path in objects} == {str(path): [] for path in objects}


# -- the window ------------------------------------------------------------------------------------


@pytest.fixture
def screen() -> Iterator[str]:
    """Yield the display of an Xvfb of the test's own, where no other window covers ours."""
    if sys.platform != "linux" or shutil.which("Xvfb") is None or shutil.which("xdotool") is None:
        pytest.skip("Xvfb or xdotool is absent: apt-get install xvfb xdotool")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1920x1080x24", "-nolisten", "tcp"],
        pass_fds=(write,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as answer:
        name = f":{answer.readline().strip()}"
    yield name
    server.terminate()
    server.wait(10)


class FrozenWindow:
    """The frozen window as its own process."""

    def __init__(self, frozen: Path, home: Path, display: str, *arguments: str | Path) -> None:
        self.display = display
        self._told = ""
        self.environment = clean_environment() | {"DISPLAY": display, "QT_QPA_PLATFORM": "xcb"}
        self.environment.pop("WAYLAND_DISPLAY", None)
        self.process = subprocess.Popen(
            [frozen / f"overread{SUFFIX}", "--home", str(home), *map(str, arguments)],
            cwd=home.parent,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self, look: Callable[[], T], what: str, limit_s: float) -> T:
        """Wait until ``look`` returns something true."""
        until = time.monotonic() + limit_s
        while not (found := look()):
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.end()[-500:]}"
            assert time.monotonic() < until, f"waited {limit_s:.0f} s for {what}"
            time.sleep(0.1)
        return found

    def picture(self) -> Image.Image:
        """Return what the display shows."""
        return ImageGrab.grab(xdisplay=self.display)

    def is_painted(self) -> bool:
        """Whether the display shows more than its background."""
        return self.picture().getcolors(_BACKGROUND_COLORS) is None

    def window(self) -> str:
        """Return the number of the window on the display, empty while there is none."""
        search = ["xdotool", "search", "--onlyvisible", "--pid", str(self.process.pid)]
        done = subprocess.run(search, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout.split()[-1] if done.stdout.split() else ""

    def key(self, key: str) -> None:
        """Press a key in the window."""
        focus = ["xdotool", "windowfocus", "--sync", self.window()]
        subprocess.run(focus, env=self.environment, check=True, timeout=20)
        subprocess.run(["xdotool", "key", key], env=self.environment, check=True, timeout=20)

    def worker(self) -> psutil.Process | None:
        """Return the worker that the window started."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        workers = (child for child in children if child.name().startswith("overread-worke"))
        helpers = {"decode", "pages", "scan", "import-process"}
        return next((child for child in workers if helpers.isdisjoint(child.cmdline()[1:2])), None)

    def libraries(self) -> str:
        """Return the files that are mapped into the window's process."""
        return Path(f"/proc/{self.process.pid}/maps").read_text(encoding="utf-8")

    def end(self) -> str:
        """Take the window away if it is still there; return what it wrote to standard error."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(ENDED_S)
        assert self.process.stderr is not None
        if not self.process.stderr.closed:
            with self.process.stderr as stream:
                self._told = stream.read()
        return self._told


@pytest.mark.gui
@pytest.mark.slow
def test_the_window_opens_without_torch_and_closes(frozen: Path, tmp_path: Path, screen: str) -> None:
    window = FrozenWindow(frozen, tmp_path / "home", screen)
    try:
        window.wait(window.window, "the window", SHOWN_S)
        window.wait(window.is_painted, "the first picture", SHOWN_S)
        window.wait(lambda: (tmp_path / "home" / "library.db").exists(), "the library", SHOWN_S)
        assert "libQt6Widgets" in window.libraries()
        for heavy in ("libtorch", "onnxruntime", "libvtk"):
            assert heavy not in window.libraries()
        window.process.send_signal(signal.SIGTERM)
        assert window.process.wait(ENDED_S) == 0
    finally:
        told = window.end()
    assert "Traceback" not in told


@pytest.mark.gui
@pytest.mark.slow
def test_a_killed_window_takes_its_worker_along(frozen: Path, tmp_path: Path, screen: str) -> None:
    """Open a radiograph, run the classifier with the keyboard, kill -9 the window."""
    home = tmp_path / "home"
    command(frozen, home, "phantom", "cxr", "--out", tmp_path / "cxr")
    command(frozen, home, "import", tmp_path / "cxr")
    window = FrozenWindow(frozen, home, screen, tmp_path / "cxr")
    try:
        window.wait(window.window, "the window", SHOWN_S)
        window.wait(window.is_painted, "the first picture", SHOWN_S)

        def started() -> psutil.Process | None:
            window.key("ctrl+r")
            time.sleep(1.0)
            return window.worker()

        worker = window.wait(started, "the worker", SHOWN_S)
        assert worker is not None
        window.wait(lambda: "libtorch" in _maps(worker), "torch in the worker", SHOWN_S)
        assert "libtorch" not in window.libraries()
        window.process.send_signal(signal.SIGKILL)
        worker.wait(ENDED_S)
    finally:
        window.end()


def _maps(process: psutil.Process) -> str:
    return Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
