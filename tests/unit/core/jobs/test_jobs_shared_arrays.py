"""Shared arrays: seen by two processes, owned by one, left by none."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.domain.errors import BugError, EnvironmentFault
from core.jobs import shared_arrays
from core.jobs.messages import SharedArraySpec
from core.jobs.shared_arrays import MEMORY_FOLDER, SharedArray, sweep_stale
from tests.fakes.left_behind import own_blocks

ROOT = Path(__file__).resolve().parents[4]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /dev/shm")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = own_blocks()
    yield
    assert own_blocks() <= before


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


CHILD = """
import json, sys, numpy as np
from core.jobs.messages import SharedArraySpec
from core.jobs.shared_arrays import SharedArray
name, dtype, shape, file = json.loads(sys.argv[1])
block = SharedArray.attach(SharedArraySpec(name, dtype, tuple(shape), file))
block.array()[1, 2, 3] = 77
"""


def as_argument(spec: SharedArraySpec) -> str:
    import json

    return json.dumps([spec.name, spec.dtype, spec.shape, spec.file])


@pytest.mark.parametrize("dtype", ["<i2", "<u2", "|u1", "<f4", "<i4", "|b1"])
def test_what_is_written_is_read(dtype: str) -> None:
    values = np.arange(60).reshape(3, 4, 5).astype(dtype)
    with SharedArray.of(values) as owner, SharedArray.attach(owner.spec) as guest:
        assert np.array_equal(guest.array(), values)
        assert guest.array().dtype == values.dtype
        guest.array()[0, 0, 0] = 1
        assert owner.array()[0, 0, 0] == 1
        with pytest.raises(ValueError, match="read-only"):
            guest.array(writeable=False)[0, 0, 0] = 2


def test_a_guest_that_leaves_without_closing_takes_nothing_with_it() -> None:
    with SharedArray.create((2, 3, 4), "i2") as block:
        done = run(CHILD, as_argument(block.spec))
        assert (done.returncode, done.stderr) == (0, "")
        time.sleep(0.2)  # a resource tracker would unlink now
        assert (MEMORY_FOLDER / block.spec.name).exists()
        assert block.array()[1, 2, 3] == 77
    assert not (MEMORY_FOLDER / block.spec.name).exists()


def test_a_name_may_go_before_the_memory() -> None:
    with SharedArray.create((4,), "u1") as owner, SharedArray.attach(owner.spec) as guest:
        owner.unlink()
        assert not (MEMORY_FOLDER / owner.spec.name).exists()
        guest.array()[:] = 9
        assert owner.array().tolist() == [9, 9, 9, 9]
        with pytest.raises(EnvironmentFault) as caught:
            SharedArray.attach(owner.spec)
        assert caught.value.code == "jobs.block_missing"


def test_an_array_may_outlive_its_block() -> None:
    block = SharedArray.of(np.arange(10))
    view = block.array()
    block.close()
    block.close()
    assert view.tolist() == list(range(10))
    with pytest.raises(BugError):
        block.array()


@pytest.mark.fault
def test_a_full_memory_falls_back_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.posix_fallocate

    def full(handle: int, offset: int, size: int) -> None:
        if Path(f"/proc/self/fd/{handle}").readlink().parent == MEMORY_FOLDER:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    with SharedArray.create((2, 3, 4), "i2", tmp_path) as block:
        assert block.spec.file is not None
        assert Path(block.spec.file).parent == tmp_path
        assert Path(block.spec.file).stat().st_mode & 0o077 == 0
        assert run(CHILD, as_argument(block.spec)).returncode == 0
        assert block.array()[1, 2, 3] == 77
    assert not list(tmp_path.iterdir())


@pytest.mark.fault
def test_no_room_anywhere_says_how_much_was_needed(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"needs 1073741824 MB .* MB free.* MB") as caught:
        SharedArray.create((2**20, 2**20, 2**9), "u2", tmp_path)
    assert caught.value.code == "jobs.no_shared_memory"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "spec",
    [
        SharedArraySpec("passwd", "|u1", (1,), "/etc/passwd"),
        SharedArraySpec("overread-1-0123456789abcdef", "|u1", (1,), "/etc/passwd"),
        SharedArraySpec("../overread-1-0123456789abcdef", "|u1", (1,)),
        SharedArraySpec("overread-1-0123456789abcdef", "|O", (1,)),
        SharedArraySpec("overread-1-0123456789abcdef", "nonsense", (1,)),
        SharedArraySpec("overread-1-0123456789abcdef", "|u1", (0, 4)),
    ],
)
def test_a_foreign_block_is_not_touched(spec: SharedArraySpec) -> None:
    with pytest.raises(BugError):
        SharedArray.attach(spec)


def test_a_block_that_is_too_small_is_refused() -> None:
    with SharedArray.create((4,), "u1") as block:
        larger = SharedArraySpec(block.spec.name, "|u1", (1_000_000,))
        with pytest.raises(EnvironmentFault):
            SharedArray.attach(larger)


@pytest.mark.fault
def test_the_blocks_of_a_killed_owner_are_swept_and_no_others(tmp_path: Path) -> None:
    code = """
import sys, time
from core.jobs.shared_arrays import SharedArray
block = SharedArray.create((4,), "u1"); print(block.spec.name, flush=True); time.sleep(60)
"""
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    name = owner.stdout.readline().strip()
    with SharedArray.create((4,), "u1") as mine:
        assert name not in sweep_stale(tmp_path), "its owner lives"
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        owner.stdout.close()
        assert (MEMORY_FOLDER / name).exists()
        assert name in sweep_stale(tmp_path)
        assert (MEMORY_FOLDER / mine.spec.name).exists()
    assert not (MEMORY_FOLDER / name).exists()


def test_a_block_that_somebody_holds_is_not_swept_even_without_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_arrays.psutil, "pid_exists", lambda pid: False)
    with SharedArray.create((4,), "u1") as block:
        assert block.spec.name not in sweep_stale(tmp_path)
