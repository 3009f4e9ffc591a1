"""The real program in its own process, driven by xdotool: reading, running, dying, coming back."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.fakes.bundles import make_segmentation_bundle, make_volume
from tests.fakes.dicom_files import write_stack
from tests.fakes.hands import Hands

pytestmark = [pytest.mark.gui, pytest.mark.slow]
COMPUTE = {"torch", "onnxruntime", "captum", "monai", "lightning", "vtkmodules", "vtk", "pyqtgraph.opengl"}
LATE = {"pydicom", "sqlalchemy", "highdicom", "SimpleITK", "nibabel", "alembic"}


SMALL, LONG = (24, 28, 32), (64, 144, 144)


@pytest.fixture
def hands(display: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hands]:
    if shutil.which("xdotool") is None:
        pytest.skip("xdotool is absent: apt-get install xdotool")
    home = tmp_path / "home"
    make_segmentation_bundle(home / "bundles" / "fake")
    volume = make_volume(getattr(request, "param", SMALL))
    write_stack(tmp_path / "study", volume.voxels, volume.geometry)
    running = Hands(home, tmp_path / "study")
    yield running
    running.end()


def decisions(home: Path) -> list[tuple[str, str]]:
    """Return the standing verdicts of a home that nobody has open."""
    from core.services import list_studies, results
    from core.services.engine import open_engine

    with open_engine(home) as engine:
        found = results.results_for(engine, list_studies.list_studies(engine)[0].series[0].key)
        return [
            (d.finding_id, d.verdict.value)
            for r in found
            for d in results.decisions_for(engine, r.result_id).values()
        ]


def test_a_whole_reading_with_the_keyboard_and_a_kill_in_the_middle(hands: Hands, tmp_path: Path) -> None:
    """Import, read, run, decide, explain, kill -9: the verdict is there and the worker is gone."""
    painted = hands.wait("painted")
    assert not (COMPUTE | LATE) & set(painted["modules"]), "heavy libraries before the first paint"
    hands.wait("can_run", bool)
    hands.wait("models", bool)
    hands.key("ctrl+r")
    hands.wait("findings", bool)
    hands.key("y")
    hands.wait("findings", lambda rows: rows[0][1] == "accept")
    hands.key("g")
    hands.wait("heat", bool)
    worker = hands.shown["worker"]["value"]
    hands.process.send_signal(signal.SIGKILL)
    hands.process.wait(20)
    gone = time.monotonic() + 15
    while worker and psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < gone, "the worker outlived the window"
        time.sleep(0.1)
    verdicts = decisions(tmp_path / "home")
    assert [verdict for _, verdict in verdicts] == ["accept"]
    assert hands.qt == []


@pytest.mark.parametrize("hands", [LONG], indirect=True)
def test_a_lost_worker_leaves_the_window_alive_and_retry_works(hands: Hands, tmp_path: Path) -> None:
    """kill -9 of the worker in mid-run, then Retry, and an orderly end without a heavy module."""
    hands.wait("painted")
    hands.wait("can_run", bool)
    hands.wait("models", bool)
    hands.key("ctrl+r")
    # The first tenth is preparation in the window's process; beyond it the worker holds the job.
    hands.wait("progress", lambda fraction: fraction >= 0.2)
    os.kill(hands.wait("worker", bool)["value"], signal.SIGKILL)
    hands.wait("jobs", lambda states: states == ["lost"])
    assert hands.process.poll() is None
    hands.wait("notices", lambda texts: any("lost" in text for text in texts))
    hands.key("F8", "ctrl+shift+r")
    hands.wait("jobs", lambda states: states == ["succeeded"])
    hands.wait("findings", bool)
    hands.key("ctrl+q")
    end = hands.wait("end")
    assert not COMPUTE & set(end["modules"]), "heavy libraries in the window's process"
    assert hands.process.wait(30) == 0
    assert hands.qt == []
