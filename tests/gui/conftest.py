"""Real windows under a real X server; warnings of Qt, stray windows and stray threads fail a test."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

_X_SIZE = "2560x1440x24"


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """Return the display to use; an Xvfb of this process's own when there is none (one per xdist worker)."""
    present = os.environ.get("DISPLAY", "")
    if present or os.environ.get("QT_QPA_PLATFORM"):
        yield present
        return
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is absent: apt-get install xvfb")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", _X_SIZE, "-nolisten", "tcp"],
        pass_fds=(write,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as answer:
        number = answer.readline().strip()
    os.environ["DISPLAY"] = f":{number}"
    try:
        yield os.environ["DISPLAY"]
    finally:
        os.environ.pop("DISPLAY", None)
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="session")
def qt_application(display: str) -> Iterator[object]:
    """Return the one QApplication of the test process."""
    from PySide6.QtWidgets import QApplication

    application = QApplication.instance() or QApplication(["overread-tests"])
    yield application


@pytest.fixture(autouse=True)
def _clean_qt(qt_application: object, _own_home: None) -> Iterator[None]:
    """Fail on Qt warnings, on windows that stay, and on threads that stay."""
    from PySide6.QtCore import QEvent, QtMsgType, qInstallMessageHandler
    from PySide6.QtWidgets import QApplication

    warnings: list[str] = []

    def note(kind: QtMsgType, _context: object, text: str) -> None:
        if kind in (QtMsgType.QtWarningMsg, QtMsgType.QtCriticalMsg, QtMsgType.QtFatalMsg):
            warnings.append(text)

    before = set(threading.enumerate())
    qInstallMessageHandler(note)
    try:
        yield
        gc.collect()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        QApplication.processEvents()
    finally:
        qInstallMessageHandler(None)
    visible = [w for w in QApplication.topLevelWidgets() if w.isVisible()]
    for widget in visible:
        widget.close()
    assert not visible, f"windows left open: {visible}"
    stray = [t.name for t in set(threading.enumerate()) - before if t.is_alive() and not t.daemon]
    assert not stray, f"threads left behind: {stray}"
    assert not warnings, f"Qt warned: {warnings}"


@pytest.fixture
def wait_until(qt_application: object) -> Callable[..., None]:
    """Return a function that runs the event loop until a condition holds."""
    from PySide6.QtTest import QTest

    def wait(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
        waited = 0.0
        while not condition():
            assert waited < timeout_s, f"waited {timeout_s:.0f} s for: {what}"
            QTest.qWait(20)
            waited += 0.02

    return wait
