"""Sealed files read like files, and nothing that was changed in them passes."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import sealed_file
from core.config.sealed_file import CHUNK_BYTES, HEADER_BYTES, TAG_BYTES
from core.domain.errors import EnvironmentFault, SafetyError

KEY = bytes(range(32))
SIZES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 40 * CHUNK_BYTES + 77)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    below = tmp_path / "instances"
    below.mkdir()
    with sealed_file.mounted(below, KEY):
        yield below


def content(size: int, seed: int = 7) -> bytes:
    return hashlib.shake_128(bytes([seed])).digest(size)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_reads_back(folder: Path, tmp_path: Path, size: int) -> None:
    data = content(size)
    source = tmp_path / "plain"
    source.write_bytes(data)
    target = folder / "ab" / "sealed.dcm"
    assert sealed_file.seal_file(source, target) == hashlib.sha256(data).hexdigest()
    assert sealed_file.is_sealed(target) and not sealed_file.is_sealed(source)
    assert sealed_file.plain_size(target) == size == sealed_file.plain_size(source)
    with sealed_file.open_plain(target) as stream:
        assert stream.read() == data
    with sealed_file.open_plain(source) as stream:
        assert stream.read() == data
    assert size < 16 or data[:16] not in target.read_bytes()
    assert os.name == "nt" or target.stat().st_mode & 0o177 == 0
    again = folder / "again.dcm"
    assert sealed_file.seal_file(target, again) == hashlib.sha256(data).hexdigest()
    assert again.read_bytes() != target.read_bytes()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 6 * CHUNK_BYTES),
    st.lists(st.tuples(st.integers(0, 7 * CHUNK_BYTES), st.integers(0, 5 * CHUNK_BYTES)), max_size=8),
)
def test_any_place_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, size: int, reads: list[tuple[int, int]]
) -> None:
    below = tmp_path_factory.mktemp("instances")
    data = content(size)
    with sealed_file.mounted(below, KEY):
        sealed_file.seal_bytes(data, below / "x")
        with sealed_file.open_raw(below / "x") as stream:
            for position, count in reads:
                stream.seek(position)
                assert stream.read(count) == data[position : position + count]
                assert stream.tell() == max(position, min(size, position + count)) or position > size


def test_streams_that_libraries_use_work(folder: Path) -> None:
    packed = gzip.compress(content(300_000))
    sealed_file.seal_bytes(packed, folder / "x.gz")
    with sealed_file.open_plain(folder / "x.gz") as raw, gzip.open(raw) as stream:
        assert stream.read() == content(300_000)
    with sealed_file.open_raw(folder / "x.gz") as sealed, pytest.raises(io.UnsupportedOperation):
        sealed.fileno()


def test_only_the_chunks_that_are_read_are_decrypted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed_file.seal_bytes(content(30 * CHUNK_BYTES), folder / "x")
    opened: list[int] = []
    reader = sealed_file.SealedReader
    original = reader._open_chunk

    def counted(self: sealed_file.SealedReader, number: int, stored: memoryview, target: memoryview) -> None:
        opened.append(number)
        original(self, number, stored, target)

    monkeypatch.setattr(reader, "_open_chunk", counted)
    with sealed_file.open_raw(folder / "x") as stream:
        stream.read(16384)
        stream.read(16384)
        stream.seek(20 * CHUNK_BYTES + 5)
        stream.read(10)
    assert opened == [0, 20]


@pytest.mark.parametrize("size", [0, 10, CHUNK_BYTES, 3 * CHUNK_BYTES + 5])
def test_every_changed_byte_is_noticed(folder: Path, size: int) -> None:
    path = folder / "x"
    sealed_file.seal_bytes(content(size), path)
    good = path.read_bytes()
    places = {*range(8, HEADER_BYTES), HEADER_BYTES, len(good) - 1, len(good) // 2, len(good) - TAG_BYTES}
    for place in places:
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(SafetyError, match="changed or damaged"):
            read_all(path)


def test_cutting_swapping_and_repeating_chunks_is_noticed(folder: Path) -> None:
    path = folder / "x"
    sealed_file.seal_bytes(content(3 * CHUNK_BYTES), path)
    good = path.read_bytes()
    head, chunks = (
        good[:HEADER_BYTES],
        [good[HEADER_BYTES + i * 65552 : HEADER_BYTES + (i + 1) * 65552] for i in range(3)],
    )
    shorter = head[:24] + (2 * CHUNK_BYTES).to_bytes(8, "little")
    sealed_file.seal_bytes(content(3 * CHUNK_BYTES, 9), folder / "y")
    other = (folder / "y").read_bytes()
    for bad in (
        good[:-1],
        good[: HEADER_BYTES + 2 * 65552],
        good[:20],
        good + b"x",
        shorter + chunks[0] + chunks[1],
        head + chunks[1] + chunks[0] + chunks[2],
        head + chunks[0] + chunks[0] + chunks[2],
        head + chunks[0] + other[HEADER_BYTES + 65552 : HEADER_BYTES + 2 * 65552] + chunks[2],
        other[:HEADER_BYTES] + good[HEADER_BYTES:],
        other,
    ):
        path.write_bytes(bad)
        with pytest.raises(SafetyError):
            read_all(path)


def test_an_older_plain_copy_still_opens(folder: Path) -> None:
    (folder / "x").write_bytes(b"plain")
    assert read_all(folder / "x") == b"plain"


def test_without_the_key_a_sealed_file_is_refused(tmp_path: Path) -> None:
    below = tmp_path / "instances"
    with sealed_file.mounted(below, KEY), sealed_file.mounted(below, KEY):
        sealed_file.seal_bytes(b"secret", below / "x")
    with pytest.raises(EnvironmentFault, match="belongs to a library"):
        read_all(below / "x")
    with pytest.raises(EnvironmentFault, match="belongs to a library"):
        sealed_file.seal_bytes(b"secret", below / "y")
    assert [p.name for p in below.iterdir()] == ["x"]
    with sealed_file.mounted(below, bytes(32)), pytest.raises(SafetyError):
        read_all(below / "x")
    with sealed_file.mounted(below, KEY), pytest.raises(ValueError, match="another key"):
        sealed_file.mount(below, bytes(32))


def test_a_home_may_be_moved_and_reached_through_a_link(tmp_path: Path) -> None:
    first = tmp_path / "first"
    with sealed_file.mounted(first, KEY):
        sealed_file.seal_bytes(b"secret", first / "ab" / "x")
    first.rename(tmp_path / "second")
    (tmp_path / "link").symlink_to(tmp_path / "second")
    for name in ("second", "link"):
        with sealed_file.mounted(tmp_path / name, KEY):
            assert read_all(tmp_path / name / "ab" / "x") == b"secret"
            assert read_all(tmp_path / "second" / "ab" / ".." / "ab" / "x") == b"secret"


def test_threads_may_open_the_same_file(folder: Path) -> None:
    data = content(20 * CHUNK_BYTES)
    sealed_file.seal_bytes(data, folder / "x")
    wrong: list[int] = []

    def read() -> None:
        for _ in range(5):
            if read_all(folder / "x") != data:
                wrong.append(1)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_source_that_changes_meanwhile_leaves_no_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "plain"
    source.write_bytes(content(10))

    class Shorter(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            return super().seek(offset, whence) + (5 if whence == 2 else 0)

    monkeypatch.setattr(sealed_file, "open_plain", lambda path: Shorter(path.read_bytes()))
    with pytest.raises(OSError, match="changed while"):
        sealed_file.seal_file(source, folder / "x")
    assert list(folder.iterdir()) == []


def read_all(path: Path) -> bytes:
    with sealed_file.open_plain(path) as stream:
        return stream.read()
