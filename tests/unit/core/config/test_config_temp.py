from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.config.temp import sweep_temp, work_folder


def test_a_work_folder_is_removed_when_its_work_is_done_or_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), work_folder(tmp_path / "temp", "import") as folder:
        (folder / "identity.dcm").touch()
        raise RuntimeError
    assert list((tmp_path / "temp").iterdir()) == []


def test_what_a_killed_process_left_is_swept_and_the_living_kept(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    dead = tmp_path / f"import-{child.stdout.strip()}-00ff"
    alive = tmp_path / f"import-{os.getpid()}-00ff"
    odd = tmp_path / "odd"
    for folder in (dead, alive, odd):
        (folder / "sub").mkdir(parents=True)
    assert sweep_temp(tmp_path) == 1
    assert sorted(tmp_path.iterdir()) == [alive, odd]
    assert sweep_temp(tmp_path / "none") == 0
