"""A second start with the same data folder: files go to the first window, crashes leave nothing in the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QDir
from PySide6.QtNetwork import QLocalSocket
from PySide6.QtTest import QTest

from app.bridge.single_instance import Request, SingleInstance, server_name

pytestmark = pytest.mark.gui
ROOT = Path(__file__).resolve().parents[2]
_OTHER = """
import sys
from pathlib import Path
from PySide6.QtCore import QCoreApplication
from app.bridge.single_instance import Request, SingleInstance
core = QCoreApplication(sys.argv)
guard = SingleInstance(Path(sys.argv[1]))
first = guard.claim(Request(tuple(Path(file) for file in sys.argv[2:])))
print("first" if first else "second", flush=True)
if first:
    core.exec()
"""


def other(home: Path, *files: str) -> subprocess.Popen[str]:
    """Start another process with the data folder."""
    return subprocess.Popen(
        [sys.executable, "-c", _OTHER, str(home), *files], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def first(tmp_path: Path) -> Iterator[SingleInstance]:
    guard = SingleInstance(tmp_path / "home")
    assert guard.claim(Request())
    yield guard
    guard.release()


def test_a_second_start_hands_its_files_over(
    first: SingleInstance, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    received: list[Request] = []
    first.received = received.append
    started = other(tmp_path / "home", "/data/a.dcm", "/data/Müller b")
    wait_until(lambda: bool(received), "the files")
    assert started.communicate(timeout=20)[0].strip() == "second"
    assert received == [Request((Path("/data/a.dcm"), Path("/data/Müller b")))]


def test_another_data_folder_is_another_window(first: SingleInstance, tmp_path: Path) -> None:
    guard = SingleInstance(tmp_path / "elsewhere")
    assert guard.claim(Request())
    guard.release()
    assert server_name(tmp_path / "home") == server_name(tmp_path / "x" / ".." / "home")


def test_what_a_killed_window_left_is_replaced(tmp_path: Path) -> None:
    killed = other(tmp_path / "home")
    assert killed.stdout is not None and killed.stdout.readline().strip() == "first"
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=20)
    socket = Path(QDir.tempPath()) / server_name(tmp_path / "home")
    assert socket.exists(), "nothing was left behind: the test proves nothing"
    guard = SingleInstance(tmp_path / "home")
    assert guard.claim(Request())
    guard.release()
    assert not socket.exists()


@pytest.mark.parametrize("sent", [b"no json\n", b"[]\n", b'{"files": 3}\n', b"{}\n"])
def test_what_is_no_request_is_refused(
    first: SingleInstance, sent: bytes, wait_until: Callable[..., None]
) -> None:
    received: list[Request] = []
    first.received = received.append
    socket = QLocalSocket()
    socket.connectToServer(first.name)
    assert socket.waitForConnected(2000)
    socket.write(sent)
    socket.flush()
    wait_until(lambda: socket.state() is QLocalSocket.LocalSocketState.UnconnectedState, "the refusal")
    QTest.qWait(20)
    assert received == []


def test_relative_files_never_come_from_elsewhere() -> None:
    asked = Request((Path("/data/a"), Path("b")), sample=True)
    assert Request.decoded(asked.encoded()) == Request((Path("/data/a"),), sample=True)
