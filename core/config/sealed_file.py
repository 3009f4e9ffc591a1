"""Files that are encrypted at rest and still read like files: any place, without decrypting the rest.

A sealed file is a header and chunks of 64 KiB of plaintext, each encrypted by AES-256-GCM::

    magic (8) | random identifier (16) | size of the plaintext (8, little endian)
    chunk 0: ciphertext (65536) and tag (16) | chunk 1 … | last chunk: the rest (1 to 65536 bytes) and tag (16)

The key of a file is HMAC-SHA256 of its random identifier under the folder's key, so no nonce is ever used twice under
one key: the nonce is the number of the chunk. Header, place of the file below its folder, number of the chunk and
whether it is the last are authenticated with each chunk. A chunk that was changed, moved, taken from another file or
cut off is refused, and so is a whole file that stands in the place of another one. An empty file has one empty chunk.

Which key opens a folder is known to the process (``mount``). A file that doesn't begin with the magic is read as it
is: copies made before the encryption, linked files.

Source: NIST SP 800-38D (GCM; unique nonces, 8.2.1), NIST SP 800-108 (keys from a key by a PRF); the construction
follows Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance" (STREAM).
"""

from __future__ import annotations

import hashlib
import hmac
import io
import os
import secrets
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO, RawIOBase
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from core.config.atomic import atomic_path
from core.domain.errors import EnvironmentFault, SafetyError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"OVRSEAL1"
CHUNK_BYTES = 1 << 16
TAG_BYTES = 16
HEADER_BYTES = 32
_STORED_BYTES = CHUNK_BYTES + TAG_BYTES
_HEADER = struct.Struct("<8s16sQ")
_NUMBER = struct.Struct("<Q")
_READ_CHUNKS = 8
_NOTHING = memoryview(b"")
_PURPOSE = b"overread sealed file 1"


class SourceChangedError(OSError):
    """What is sealed hasn't the size that it should have."""


class _Mounts:
    """Which key opens which folder; for the whole process, because readers deep below know only a path."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, tuple[bytes, int]] = {}

    def add(self, folder: str, key: bytes) -> None:
        with self._lock:
            known, count = self._keys.get(folder, (key, 0))
            if known != key:
                raise ValueError("the folder is open under another key")
            self._keys = {**self._keys, folder: (key, count + 1)}

    def remove(self, folder: str) -> None:
        with self._lock:
            key, count = self._keys.get(folder, (b"", 0))
            others = {name: entry for name, entry in self._keys.items() if name != folder}
            self._keys = {**others, folder: (key, count - 1)} if count > 1 else others

    def of(self, path: str) -> tuple[str, bytes] | None:
        # The dictionary is replaced, never changed: reading needs no lock.
        for folder, (key, _) in self._keys.items():
            if path.startswith(folder):
                return path[len(folder) :].replace(os.sep, "/"), key
        return None


_mounts = _Mounts()


def mount(folder: Path, key: bytes) -> None:
    """Let this process open and write sealed files below ``folder``; counts, so each call needs its ``unmount``.

    Raises
    ------
    ValueError
        If the folder is mounted with another key.
    """
    for prefix in _prefixes(folder):
        _mounts.add(prefix, key)


def unmount(folder: Path) -> None:
    """Forget the key of ``folder`` when nobody else mounted it."""
    for prefix in _prefixes(folder):
        _mounts.remove(prefix)


@contextmanager
def mounted(folder: Path, key: bytes) -> Iterator[None]:
    """Mount ``folder`` for the time of the block."""
    mount(folder, key)
    try:
        yield
    finally:
        unmount(folder)


def seal_file(source: Path, target: Path) -> str:
    """Copy ``source`` (plain or sealed) to ``target``, sealed and atomically; thread-safe.

    Returns
    -------
    str
        SHA-256 of the plaintext in hexadecimal.

    Raises
    ------
    OSError
        If one can't be read or the other can't be written, or the source changed its size meanwhile.
    EnvironmentFault
        If ``target`` lies below no mounted folder (``sealed.no_key``).
    """
    digest = hashlib.sha256()
    with open_plain(source) as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        with atomic_path(target) as part, _created(part) as sink:
            _write(sink, stream, size, _place_and_key(target), digest)
    return digest.hexdigest()


def seal_bytes(data: bytes | memoryview, target: Path) -> str:
    """Write ``data`` to ``target``, sealed and atomically; returns and raises as ``seal_file``."""
    digest = hashlib.sha256()
    with atomic_path(target) as part, _created(part) as sink:
        _write(sink, io.BytesIO(data), len(data), _place_and_key(target), digest)
    return digest.hexdigest()


def seal_stream(stream: IO[bytes], size: int, target: Path) -> None:
    """Write ``size`` bytes of a stream to ``target``, sealed, for the time being: neither flushed nor atomic.

    Raises
    ------
    SourceChangedError
        If the stream has fewer or more bytes; other OSErrors when the file can't be written.
    """
    with _created(target) as sink:
        _write(sink, stream, size, _place_and_key(target), hashlib.sha256())


def is_mounted(path: Path) -> bool:
    """Whether ``path`` lies below a mounted folder."""
    return _mount_of(path) is not None


def write_kept(path: Path, data: bytes | memoryview) -> None:
    """Write what the program keeps: sealed below a mounted folder, as it is elsewhere; atomically.

    Raises
    ------
    OSError
        If it can't be written.
    """
    if _mount_of(path) is not None:
        seal_bytes(data, path)
        return
    with atomic_path(path) as part:
        part.write_bytes(data)


def is_sealed(path: Path) -> bool:
    """Whether the file begins as a sealed one; OSError when it can't be read."""
    with FileIO(path, "rb") as file:
        return (file.read(len(MAGIC)) or b"") == MAGIC


def plain_size(path: Path) -> int:
    """Return the bytes of the plaintext; OSError when the file can't be read, SafetyError when it is cut."""
    with open_raw(path) as stream:
        return stream.seek(0, os.SEEK_END)


def open_plain(path: Path) -> BufferedReader:
    """Open a file for reading its plaintext, buffered and seekable; close it as any file.

    Raises
    ------
    OSError
        If it can't be read.
    EnvironmentFault
        If it is sealed and its folder isn't mounted (``sealed.no_key``).
    SafetyError
        If it is sealed and damaged (``sealed.changed``); reading raises it for a damaged chunk.
    """
    return BufferedReader(open_raw(path))


def open_raw(path: Path) -> FileIO | SealedReader:
    """Open as ``open_plain`` without a buffer: for those who read whole blocks into arrays of their own."""
    file = FileIO(path, "rb")
    try:
        head = file.read(HEADER_BYTES) or b""
        if head.startswith(MAGIC):
            return unsealed(file, path, head)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def unsealed(file: FileIO, path: Path, head: bytes) -> SealedReader:
    """Return the reader of an opened file whose first bytes are ``head`` and begin with the magic; it owns the file."""
    place, key = _place_and_key(path)
    return SealedReader(file, head[:HEADER_BYTES], place, key)


class SealedReader(RawIOBase):
    """The plaintext of a sealed file; decrypts the chunks that are read. One thread at a time.

    Parameters
    ----------
    file : io.FileIO
        The opened file, owned from now on.
    header : bytes
        Its first bytes.
    place : str
        Where it lies below its folder.
    key : bytes
        The folder's key.
    """

    def __init__(self, file: FileIO, header: bytes, place: str, key: bytes) -> None:
        super().__init__()
        self._file = file
        if len(header) < HEADER_BYTES:
            raise changed("its header is incomplete")
        _, _, self.size = _HEADER.unpack(header)
        self._chunks = max(1, -(-self.size // CHUNK_BYTES))
        stored = os.fstat(file.fileno()).st_size
        expected = HEADER_BYTES + self.size + self._chunks * TAG_BYTES
        if stored != expected:
            raise changed(f"it has {stored} bytes instead of {expected}")
        self._context = header + place.encode("utf-8", "surrogateescape")
        self._cipher = _cipher(key, header)
        self._position = 0
        self._kept = -1
        self._kept_bytes = 0
        self._chunk = _NOTHING
        if not self.size:
            self._load(0)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Refuse: the descriptor's bytes are not the plaintext."""
        raise io.UnsupportedOperation("a sealed file has no descriptor of its plaintext")

    def tell(self) -> int:
        """Return the place in the plaintext."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place in the plaintext; nothing is read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("a place before the beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill ``buffer`` as far as the plaintext goes; returns the number of bytes.

        Raises
        ------
        SafetyError
            If a chunk isn't the one that was written (``sealed.changed``).
        """
        target = memoryview(buffer).cast("B")
        wanted = min(len(target), max(0, self.size - self._position))
        done = 0
        while done < wanted:
            number, offset = divmod(self._position, CHUNK_BYTES)
            whole = (wanted - done) // CHUNK_BYTES if offset == 0 and number != self._kept else 0
            if whole:
                count = self._read_whole(number, min(whole, _READ_CHUNKS), target[done:])
            else:
                self._load(number)
                count = min(wanted - done, self._kept_bytes - offset)
                target[done : done + count] = self._chunk[offset : offset + count]
            self._position += count
            done += count
        return done

    def read(self, size: int | None = -1) -> bytes:
        """Return up to ``size`` bytes, by default all that follow; fewer only at the end."""
        rest = max(0, self.size - self._position)
        out = bytearray(rest if size is None or size < 0 else min(size, rest))
        self.readinto(out)
        return bytes(out)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
            _scratch.give(self._chunk)
            self._chunk = _NOTHING
        super().close()

    def _read_whole(self, number: int, count: int, target: memoryview) -> int:
        """Decrypt ``count`` whole chunks from ``number`` straight into ``target``; return the bytes."""
        stored = self._stored(number, count * _STORED_BYTES)
        for one in range(count):
            self._open_chunk(
                number + one,
                stored[one * _STORED_BYTES : (one + 1) * _STORED_BYTES],
                target[one * CHUNK_BYTES : (one + 1) * CHUNK_BYTES],
            )
        return count * CHUNK_BYTES

    def _load(self, number: int) -> None:
        """Keep the plaintext of a chunk of which only a part is wanted."""
        if number == self._kept:
            return
        self._kept = -1
        length = min(CHUNK_BYTES, self.size - number * CHUNK_BYTES)
        if not len(self._chunk):
            self._chunk = _scratch.take()
        self._open_chunk(number, self._stored(number, length + TAG_BYTES), self._chunk[:length])
        self._kept, self._kept_bytes = number, length

    def _stored(self, number: int, count: int) -> memoryview:
        """Return the ciphertext and tags from chunk ``number`` on; valid until this thread reads again."""
        target = _scratch.of(count)
        self._file.seek(HEADER_BYTES + number * _STORED_BYTES)
        done = 0
        while done < count:
            got = self._file.readinto(target[done:])
            if not got:
                raise changed(f"chunk {number + 1} of {self._chunks} is incomplete")
            done += got
        return target

    def _open_chunk(self, number: int, stored: memoryview, target: memoryview) -> None:
        from cryptography.exceptions import InvalidTag

        authenticated = _authenticated(self._context, number, number == self._chunks - 1)
        try:
            self._cipher.decrypt_into(_nonce(number), stored, authenticated, target)
        except InvalidTag:
            raise changed(f"chunk {number + 1} of {self._chunks} isn't the one that was written") from None


class _Scratch(threading.local):
    """Room for what a thread is decrypting, kept for the next file: fresh memory costs more than the reading."""

    def __init__(self) -> None:
        self._room = memoryview(bytearray(_READ_CHUNKS * _STORED_BYTES))
        self._spare: list[memoryview] = []

    def of(self, count: int) -> memoryview:
        """Return room for ciphertext."""
        return self._room[:count]

    def take(self) -> memoryview:
        """Return room for a chunk of plaintext, owned by the caller until it is given back."""
        return self._spare.pop() if self._spare else memoryview(bytearray(CHUNK_BYTES))

    def give(self, chunk: memoryview) -> None:
        """Take back room of a reader that is closed."""
        if len(chunk) and not self._spare:
            self._spare.append(chunk)


_scratch = _Scratch()


def changed(what: str) -> SafetyError:
    """Return the error for a sealed file that isn't as it was written."""
    return SafetyError(
        "sealed.changed",
        f"An encrypted file of the library was changed or damaged: {what}.",
        "Restore it from a backup, or remove the study and import it again.",
    )


def _cipher(key: bytes, header: bytes) -> AESGCM:
    # loaded on first use: processes that read plain files only start in half the time
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(_file_key(key, header))


def _write(sink: FileIO, stream: IO[bytes], size: int, place_and_key: tuple[str, bytes], digest: Any) -> None:
    place, key = place_and_key
    header = _HEADER.pack(MAGIC, secrets.token_bytes(16), size)
    context = header + place.encode("utf-8", "surrogateescape")
    cipher = _cipher(key, header)
    chunks = max(1, -(-size // CHUNK_BYTES))
    sink.write(header)
    for first in range(0, chunks, _READ_CHUNKS):
        block = memoryview(stream.read(_READ_CHUNKS * CHUNK_BYTES))
        if len(block) != min(size - first * CHUNK_BYTES, _READ_CHUNKS * CHUNK_BYTES):
            raise SourceChangedError("the file changed while it was copied")
        digest.update(block)
        out = []
        for number in range(first, min(first + _READ_CHUNKS, chunks)):
            start = (number - first) * CHUNK_BYTES
            data = block[start : start + CHUNK_BYTES]
            out.append(
                cipher.encrypt(_nonce(number), data, _authenticated(context, number, number == chunks - 1))
            )
        _write_all(sink, b"".join(out))
    if stream.read(1):
        raise SourceChangedError("the file changed while it was copied")


def _write_all(sink: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[sink.write(view) or 0 :]


def _created(part: Path) -> FileIO:
    """Create a file that only its owner may read and that isn't executable."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return FileIO(os.open(part, flags, 0o600), "wb")


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "little")


def _authenticated(context: bytes, number: int, last: bool) -> bytes:
    return context + _NUMBER.pack(number << 1 | last)


def _file_key(key: bytes, header: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + header[8:24], "sha256")


def _prefixes(folder: Path) -> set[str]:
    """Return how paths below ``folder`` may begin: as it was named, and with links followed."""
    return {f"{folder.absolute()}{os.sep}", f"{folder.resolve()}{os.sep}"}


def _mount_of(path: Path) -> tuple[str, bytes] | None:
    named = None if ".." in path.parts else _mounts.of(str(path.absolute()))
    return named or _mounts.of(str(path.resolve()))


def _place_and_key(path: Path) -> tuple[str, bytes]:
    found = _mount_of(path)
    if found is None:
        raise EnvironmentFault(
            "sealed.no_key",
            "This file is an encrypted copy that belongs to a library; it can't be read by itself.",
            "Open it through its library, or use the original file.",
        )
    return found
