"""Compressed frames are decoded in child processes that cannot hurt the program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import JPEGLSLosslessEncoder, RLELosslessEncoder

from core.dicom import decoder_pool
from core.dicom.codec import CodedFrame, decode_frame
from core.dicom.decoder_pool import DecoderPool
from core.domain.errors import EnvironmentFault, InputError

ROOT = Path(__file__).resolve().parents[4]
JPEG_LS, RLE = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5"
PIXELS = (np.arange(48 * 40, dtype=np.uint16).reshape(48, 40) * 7) % 4096


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    """Return a pool of its own; its children end with the test."""
    pool = DecoderPool()
    yield pool
    pool.close()


def coded(uid: str = JPEG_LS) -> CodedFrame:
    """Describe ``PIXELS``."""
    return CodedFrame(uid, 48, 40, 1, "MONOCHROME2", 16, 12, signed=False)


def compressed(uid: str = JPEG_LS) -> bytes:
    """``PIXELS`` as encapsulated pixel data."""
    encoder = {JPEG_LS: JPEGLSLosslessEncoder, RLE: RLELosslessEncoder}[uid]
    frame = encoder.encode(
        PIXELS.tobytes(),
        rows=48,
        columns=40,
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=12,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
    )
    return bytes(encapsulate([frame], has_bot=False))


def child_that(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Let decoder processes do ``body`` in place of decoding."""
    program = (
        "import os, time, numpy as np, core.dicom.decoder_process as process\n"
        f"def decode(coded, data):\n    {body}\n"
        "process.decode_frame = decode\n"
        "process.FRAME_LIMIT_S = 0.5\n"
        "process.main()\n"
    )
    monkeypatch.setattr(decoder_pool, "decoder_command", lambda: [sys.executable, "-c", program])


@pytest.mark.parametrize("uid", [JPEG_LS, RLE])
def test_a_child_returns_what_the_codec_returns(pool: DecoderPool, uid: str) -> None:
    data = compressed(uid)
    found = pool.decode(coded(uid), data)
    assert found.dtype == np.uint16
    assert np.array_equal(found, PIXELS)
    assert np.array_equal(found, decode_frame(coded(uid), data))
    assert found.flags.writeable


def test_a_child_serves_many_frames(pool: DecoderPool) -> None:
    for _ in range(5):
        pool.decode(coded(), compressed())
    assert len(pool._idle) == 1


def test_an_idle_child_that_died_is_replaced(pool: DecoderPool) -> None:
    pool.decode(coded(), compressed())
    first = pool._idle[0].pid
    psutil.Process(first).kill()
    assert np.array_equal(pool.decode(coded(), compressed()), PIXELS)
    assert pool._idle[0].pid != first


def test_damaged_bytes_are_refused_with_the_transfer_syntax_named_and_the_child_lives(
    pool: DecoderPool,
) -> None:
    with pytest.raises(InputError, match="JPEG-LS Lossless") as refused:
        pool.decode(coded(), compressed()[:60])
    assert refused.value.code == "dicom.undecodable"
    assert np.array_equal(pool.decode(coded(), compressed()), PIXELS)


def test_another_size_than_announced_is_refused(pool: DecoderPool) -> None:
    with pytest.raises(InputError) as refused:
        pool.decode(replace(coded(), rows=47), compressed())
    assert refused.value.code == "dicom.undecodable"


def test_a_codec_that_crashes_costs_one_frame(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        child_that(patch, "os.kill(os.getpid(), 11)" if os.name == "posix" else "os._exit(7)")
        with pytest.raises(InputError, match="crashed") as refused:
            pool.decode(coded(), compressed())
    assert refused.value.code == "dicom.undecodable"
    assert np.array_equal(pool.decode(coded(), compressed()), PIXELS)


def test_a_codec_that_never_ends_is_ended(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    child_that(monkeypatch, "sum(iter(int, 1))")  # endless, and in C: no other thread of the child runs
    with pytest.raises(InputError, match="took too long"):
        pool.decode(coded(), compressed())


@pytest.mark.skipif(sys.platform == "win32", reason="limits of the address space are POSIX")
def test_a_codec_that_asks_for_too_much_memory_is_refused(
    pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_that(monkeypatch, "return np.ones((1 << 31,), np.float64)")
    with pytest.raises(EnvironmentFault) as refused:
        pool.decode(coded(), compressed())
    assert refused.value.code == "memory.exhausted"


def test_a_program_that_cannot_be_started_is_named(
    pool: DecoderPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(decoder_pool, "decoder_command", lambda: [str(tmp_path / "absent")])
    with pytest.raises(EnvironmentFault) as refused:
        pool.decode(coded(), compressed())
    assert refused.value.code == "dicom.decoder_not_started"


def test_closing_ends_the_children(pool: DecoderPool) -> None:
    pool.decode(coded(), compressed())
    pid = pool._idle[0].pid
    pool.close()
    assert not psutil.pid_exists(pid)


PROGRAM = """
import sys, time
from core.dicom.codec import CodedFrame
from core.dicom.decoder_pool import decoders
coded = CodedFrame("1.2.840.10008.1.2.4.80", 48, 40, 1, "MONOCHROME2", 16, 12, signed=False)
decoders.decode(coded, bytes.fromhex(sys.stdin.readline()))
codecs = {"jpeg_ls", "_CharLS", "openjpeg", "rle", "gdcm", "SimpleITK", "pydicom.pixels.decoders.pyjpegls"}
print(decoders._idle[0].pid, sorted(codecs & set(sys.modules)), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_children_end_with_a_killed_parent_and_no_codec_enters_it() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write(compressed().hex() + "\n")
    parent.stdin.flush()
    pid, loaded = parent.stdout.readline().split(maxsplit=1)
    child = psutil.Process(int(pid))
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    assert loaded.strip() == "[]"
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
