"""No library reports its use to its maker."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
from core.config.telemetry import refuse_telemetry
refuse_telemetry()
from mlflow.telemetry.utils import is_telemetry_disabled
assert is_telemetry_disabled()
"""


def test_mlflow_reports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    for name in ("CI", "PYTEST_CURRENT_TEST", "DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([sys.executable, "-c", CODE], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
