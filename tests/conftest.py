"""Rules that hold for every test: no stray home, no stray logs, no stray threads of computation."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
os.environ.setdefault("QT_LOGGING_RULES", "*.debug=false")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point OVERREAD_HOME into the test's own folder so that no test touches the real home."""
    monkeypatch.setenv("OVERREAD_HOME", str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def _no_unexpected_logs(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that logs at WARNING or above without saying so (``@pytest.mark.expects_logs``)."""
    yield
    if request.node.get_closest_marker("expects_logs"):
        return
    ours = ("app", "core", "models", "qt")
    stray = [
        record
        for phase in ("setup", "call")
        for record in caplog.get_records(phase)
        if record.levelno >= logging.WARNING and record.name.split(".")[0] in ours
    ]
    assert not stray, f"unexpected log: {[(r.name, r.getMessage()) for r in stray]}"
