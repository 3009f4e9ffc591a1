"""Bytes of a file, read in windows, so that a header costs one system call and never the whole file."""

from __future__ import annotations

import os
import stat
import zlib
from io import FileIO
from pathlib import Path
from types import TracebackType

from core.config.sealed_file import MAGIC, SealedReader, unsealed
from core.dicom.faults import malformed

WINDOW_BYTES = 16384
INFLATED_MINIMUM_BYTES = 64 << 20
INFLATED_MAXIMUM_BYTES = 1 << 30
INFLATED_RATIO = 200


class ByteSource:
    """Random access to a file through one sliding window.

    Attributes
    ----------
    size : int
        Bytes in the file; of the plaintext, when the file is sealed.
    base, window : int, bytes
        The window and where it begins; the element parser reads these directly.
    stamp : tuple of int
        Size, modification time (ns) and inode: together they tell whether the file changed.
    """

    def __init__(self, file: FileIO | SealedReader | None, size: int, window: bytes = b"") -> None:
        self._file = file
        self.size = size
        self.base = 0
        self.window = window
        self.stamp = (size, 0, 0)

    @classmethod
    def open(cls, path: Path) -> ByteSource:
        """Open a regular file; OSError when it cannot be read, InputError when it is not a regular file."""
        file = FileIO(path, "rb")
        try:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise malformed("This is not a regular file.", "file.not_regular")
            source = cls(file, status.st_size)
            source.stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
            source.window = file.read(WINDOW_BYTES) or b""
            if source.window.startswith(MAGIC):
                source._read_sealed(unsealed(file, path, source.window))
        except BaseException:
            file.close()
            raise
        return source

    @classmethod
    def of_bytes(cls, data: bytes) -> ByteSource:
        """Wrap bytes that are in memory already."""
        return cls(None, len(data), data)

    def _read_sealed(self, file: SealedReader) -> None:
        """Go on with the plaintext of a sealed copy."""
        self._file, self.size = file, file.size
        self.window = file.read(WINDOW_BYTES)

    def load(self, position: int, count: int) -> int:
        """Make ``count`` bytes at ``position`` available in ``window``; return their offset within it.

        Raises
        ------
        InputError
            If the file ends before (code ``dicom.truncated``).
        """
        offset = position - self.base
        if offset >= 0 and offset + count <= len(self.window):
            return offset
        if position + count > self.size or self._file is None:
            raise malformed(
                f"The file ends at byte {self.size}, but byte {position + count} is needed.",
                "dicom.truncated",
            )
        self._file.seek(position)
        self.window = self._read_exactly(max(count, WINDOW_BYTES), count)
        self.base = position
        return 0

    def read(self, position: int, count: int) -> bytes:
        """Return ``count`` bytes at ``position``."""
        offset = self.load(position, count)
        return self.window[offset : offset + count]

    def _read_exactly(self, wanted: int, needed: int) -> bytes:
        assert self._file is not None
        data = self._file.read(wanted) or b""
        while len(data) < needed:
            more = self._file.read(needed - len(data))
            if not more:
                raise malformed("The file became shorter while it was read.", "dicom.truncated")
            data += more
        return data

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> ByteSource:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


def inflate(data: bytes) -> bytes:
    """Inflate a raw deflate stream under a cap (the larger of 64 MB and 200 times the input, at most 1 GB).

    Raises
    ------
    InputError
        When the cap is reached (``dicom.inflated_too_large``) or the stream is damaged or cut.

    Source: DICOM PS3.5 A.5.
    """
    cap = min(INFLATED_MAXIMUM_BYTES, max(INFLATED_MINIMUM_BYTES, INFLATED_RATIO * len(data)))
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        out = stream.decompress(data, cap)
    except zlib.error as error:
        raise malformed("The deflated data set is damaged.") from error
    if not stream.eof:
        if len(out) >= cap:
            raise malformed(f"The deflated data set grows beyond {cap >> 20} MB.", "dicom.inflated_too_large")
        raise malformed("The deflated data set is cut short.", "dicom.truncated")
    return out
