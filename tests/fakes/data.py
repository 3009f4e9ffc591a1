"""Where the real test studies lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def data_root() -> Path:
    """Return OVERREAD_TEST_DATA, by default ``../shared/data`` beside the checkout."""
    return Path(os.environ.get("OVERREAD_TEST_DATA", ROOT.parent / "shared" / "data"))


def data_path(relative: str) -> Path:
    """Return a file or folder of the test data, or skip the calling test with the reason."""
    path = data_root() / relative
    if not path.exists():
        pytest.skip(f"real test data is absent: {relative} (set OVERREAD_TEST_DATA)")
    return path
