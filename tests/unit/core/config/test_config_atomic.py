from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from core.config.atomic import PART_PREFIX, atomic_path, atomic_write_bytes, sweep_parts


def test_a_file_appears_only_when_the_block_succeeds(tmp_path: Path) -> None:
    target = tmp_path / "new" / "labels.nii.gz"
    with atomic_path(target) as part:
        part.write_bytes(b"half")
        assert not target.exists()
        assert part.name.endswith("labels.nii.gz")
    assert target.read_bytes() == b"half"
    assert list(target.parent.iterdir()) == [target]


def test_a_failing_writer_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "settings.json"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_path(target) as part:
        part.write_bytes(b"new")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_block_that_writes_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        pass


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_mode_holds_from_the_first_byte(tmp_path: Path) -> None:
    atomic_write_bytes(tmp_path / "key", b"secret", mode=0o600)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_only_the_parts_of_dead_writers_are_swept(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    dead = tmp_path / "sub" / f"{PART_PREFIX}{child.stdout.strip()}-ab-x.dcm"
    alive = tmp_path / f"{PART_PREFIX}{os.getpid()}-ab-y.dcm"
    dead.parent.mkdir()
    dead.touch()
    alive.touch()
    assert sweep_parts(tmp_path) == 1
    assert alive.exists()
    assert not dead.exists()
