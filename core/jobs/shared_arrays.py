"""Arrays that two processes see at once.

On POSIX a block is a file that is mapped: on Linux it lies in ``/dev/shm`` (memory), elsewhere, or when
that is too small, in a folder of temporary files. On Windows it is a named section of the page file.

Why not ``multiprocessing.shared_memory``: before Python 3.13 it registers every *attached* block with a
resource tracker, which unlinks the block when the worker ends while the owner still needs it; it reserves
nothing, so that a full ``/dev/shm`` kills the writer with SIGBUS instead of raising; and its ``close`` unmaps
under the feet of NumPy, which holds no lock on the buffer, so that a forgotten view ends in a segmentation
fault. Here a map is never closed by hand: it goes when the last view of it goes.

Ownership
---------
The process that creates a block owns and unlinks it; a process that attaches only closes it. The owner
holds a shared lock on the block's file for its whole life; the kernel drops it even after kill -9, which is
how ``sweep_stale`` tells a forgotten block from a used one.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

import numpy as np
import psutil
from numpy.typing import DTypeLike, NDArray

from core.domain.errors import BugError, EnvironmentFault
from core.jobs.messages import SharedArraySpec

if sys.platform != "win32":
    import fcntl

PREFIX = "overread-"
MEMORY_FOLDER = Path("/dev/shm")
_NAME = re.compile(rf"{PREFIX}(\d+)-[0-9a-f]{{16}}")
_KINDS = "buif"


class _Block(Protocol):
    """A mapped piece of memory. Letting go of the block and of all views unmaps it."""

    name: str
    file: Path | None
    memory: mmap.mmap

    def unlink(self) -> None: ...


class _FileBlock:
    """A mapped file; on Linux in ``/dev/shm``."""

    def __init__(self, path: Path, stream: IO[bytes], size: int) -> None:
        self.name = path.name
        self.path = path
        self.file: Path | None = None if path.parent == MEMORY_FOLDER else path
        # The map keeps a duplicate of the descriptor, and with it the owner's lock.
        self.memory = mmap.mmap(stream.fileno(), size)

    @classmethod
    def create(cls, path: Path, size: int) -> _FileBlock:
        """Create, reserve and map a file that only this user may read."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(handle, "r+b", buffering=0) as stream:
            try:
                _hold(stream)
                _reserve(stream, size)
                return cls(path, stream, size)
            except BaseException:
                path.unlink(missing_ok=True)
                raise

    @classmethod
    def attach(cls, path: Path, size: int) -> _FileBlock:
        """Map an existing file of at least ``size`` bytes."""
        with path.open("r+b", buffering=0) as stream:
            return cls(path, stream, size)

    def unlink(self) -> None:
        # Windows refuses while the file is mapped; sweep_stale removes it later.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            self.path.unlink()


class _PageFileBlock:
    """A named section of the Windows page file; it vanishes with the last handle.

    Windows makes a section when it is opened under an unknown name, full of zeros. So its end holds a mark:
    a guest that does not find it has come too late.
    """

    file: Path | None = None

    def __init__(self, name: str, size: int, create: bool) -> None:
        mark = name.encode()[-16:]
        self.name = name
        self.memory = _section(name, size + len(mark))
        if create:
            self.memory[size : size + len(mark)] = mark
        elif self.memory[size : size + len(mark)] != mark:
            raise FileNotFoundError(errno.ENOENT, "the section is gone")

    def unlink(self) -> None:
        """Do nothing: there is no name to remove."""


def _section(name: str, size: int) -> mmap.mmap:
    if sys.platform != "win32":
        raise OSError(errno.ENOSYS, "sections exist on Windows only")
    return mmap.mmap(-1, size, tagname=name)


class SharedArray:
    """A NumPy array in a block that another process can attach to.

    Create with ``SharedArray.create`` or ``SharedArray.attach``; use as a context manager or call ``close``.
    Leaving the context closes the block, and removes it where this process created it.

    Attributes
    ----------
    spec : SharedArraySpec
        What to send to the other process.
    """

    def __init__(self, spec: SharedArraySpec, block: _Block, owner: bool) -> None:
        self.spec = spec
        self._block: _Block | None = block
        self._owner = owner

    @classmethod
    def create(
        cls, shape: tuple[int, ...], dtype: DTypeLike, fallback_dir: Path | None = None
    ) -> SharedArray:
        """Reserve a block for an array of zeros.

        Parameters
        ----------
        shape : tuple of int
            Shape of the array; at least one voxel.
        dtype : numpy dtype
            Boolean, integer or floating point.
        fallback_dir : pathlib.Path, optional
            Folder for a file when shared memory is too small; the system's temporary folder by default.

        Raises
        ------
        EnvironmentFault
            If neither memory nor disk have room (``jobs.no_shared_memory``); the message has the numbers.
        """
        kind = np.dtype(dtype)
        size = _size_of(shape, kind)
        name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
        block = _create_block(name, size, fallback_dir or Path(tempfile.gettempdir()))
        file = None if block.file is None else str(block.file)
        return cls(SharedArraySpec(name, kind.str, tuple(int(n) for n in shape), file), block, owner=True)

    @classmethod
    def of(cls, array: NDArray, fallback_dir: Path | None = None) -> SharedArray:
        """Reserve a block and copy ``array`` into it."""
        shared = cls.create(array.shape, array.dtype, fallback_dir)
        shared.array()[...] = array
        return shared

    @classmethod
    def attach(cls, spec: SharedArraySpec) -> SharedArray:
        """Map the block of another process.

        Raises
        ------
        EnvironmentFault
            If the block no longer exists (``jobs.block_missing``).
        BugError
            If the name or the type is none of ours.
        """
        kind = _dtype_of(spec)
        size = _size_of(spec.shape, kind)
        path = _path_of(spec)
        try:
            if path is None:
                return cls(spec, _PageFileBlock(spec.name, size, create=False), owner=False)
            return cls(spec, _FileBlock.attach(path, size), owner=False)
        except (OSError, ValueError) as error:
            raise EnvironmentFault(
                "jobs.block_missing",
                f"The shared memory of the job is gone or too small ({type(error).__name__}).",
                "Run the job again.",
            ) from error

    def array(self, *, writeable: bool = True) -> NDArray:
        """Return the array, a view of the block in C order.

        A view stays valid after ``close``, but the memory is only given back when the last view is gone.

        Raises
        ------
        BugError
            After ``close``.
        """
        if self._block is None:
            raise BugError("jobs.block_closed", "An array of a closed block was asked for.")
        view: NDArray = np.ndarray(self.spec.shape, np.dtype(self.spec.dtype), buffer=self._block.memory)
        view.flags.writeable = writeable
        return view

    def unlink(self) -> None:
        """Remove the name; processes that have attached keep their view. Only the owner's call does anything."""
        if self._owner and self._block is not None:
            self._block.unlink()

    def close(self) -> None:
        """Give the block back; the owner's call removes its name as well. May be called twice."""
        if self._block is None:
            return
        self.unlink()
        self._block = None

    def __enter__(self) -> SharedArray:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the block."""
        self.close()


def sweep_stale(fallback_dir: Path | None = None) -> tuple[str, ...]:
    """Remove blocks whose owner is dead and return their names.

    A block is stale when the process of its name is gone *and* nobody holds its lock (the second condition
    protects owners in another process namespace that share ``/dev/shm``).
    """
    if sys.platform == "win32":
        folders = [fallback_dir] if fallback_dir else []
    else:
        folders = [MEMORY_FOLDER, fallback_dir or Path(tempfile.gettempdir())]
    removed = []
    for path in (p for folder in folders if folder.is_dir() for p in _blocks_in(folder)):
        if _is_stale(path):
            with contextlib.suppress(OSError):
                path.unlink()
                removed.append(path.name)
    return tuple(removed)


def _blocks_in(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob(f"{PREFIX}*") if _NAME.fullmatch(path.name))


def _is_stale(path: Path) -> bool:
    match = _NAME.fullmatch(path.name)
    if match is None or psutil.pid_exists(int(match.group(1))):
        return False
    return not _is_held(path)


def _is_held(path: Path) -> bool:
    """Whether the lock of a block's owner still stands; on Windows a live owner keeps the file from removal."""
    if sys.platform != "win32":
        try:
            with path.open("r+b") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _create_block(name: str, size: int, fallback_dir: Path) -> _Block:
    """Try memory, then a file; raise with the numbers when neither has room."""
    if sys.platform == "win32":
        with contextlib.suppress(OSError):
            return _PageFileBlock(name, size, create=True)
    elif MEMORY_FOLDER.is_dir():
        try:
            return _FileBlock.create(MEMORY_FOLDER / name, size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOMEM, errno.EDQUOT):
                raise _no_room(size, fallback_dir, error) from error
    try:
        fallback_dir.mkdir(parents=True, exist_ok=True)
        return _FileBlock.create(fallback_dir / name, size)
    except OSError as error:
        raise _no_room(size, fallback_dir, error) from error


def _no_room(size: int, fallback_dir: Path, error: OSError) -> EnvironmentFault:
    memory = _free_mb(MEMORY_FOLDER)
    disk = _free_mb(fallback_dir)
    return EnvironmentFault(
        "jobs.no_shared_memory",
        f"The job needs {size / 2**20:.0f} MB to hand its voxels to the worker; shared memory has {memory} free, "
        f"the folder of temporary files {disk} ({errno.errorcode.get(error.errno or 0, 'unknown error')}).",
        "Free disk space or memory, or raise the size of /dev/shm, then run the job again.",
    )


def _free_mb(folder: Path) -> str:
    try:
        return f"{psutil.disk_usage(str(folder)).free / 2**20:.0f} MB"
    except OSError:
        return "none"


def _reserve(stream: IO[bytes], size: int) -> None:
    """Give the file its size and its memory, so that a full device raises now and not while voxels are written."""
    if sys.platform == "linux":
        os.posix_fallocate(stream.fileno(), 0, size)
    else:
        os.truncate(stream.fileno(), size)


def _hold(stream: IO[bytes]) -> None:
    if sys.platform != "win32":
        fcntl.flock(stream, fcntl.LOCK_SH)


def _path_of(spec: SharedArraySpec) -> Path | None:
    """Return the block's file (None: the Windows page file), after checking that the name is one of ours."""
    name = Path(spec.file).name if spec.file else spec.name
    if not _NAME.fullmatch(name) or name != spec.name:
        raise BugError("jobs.bad_block", "A block with a foreign name was asked for.")
    if spec.file:
        return Path(spec.file)
    return None if sys.platform == "win32" else MEMORY_FOLDER / spec.name


def _dtype_of(spec: SharedArraySpec) -> np.dtype:
    try:
        kind = np.dtype(spec.dtype)
    except TypeError as error:
        raise BugError("jobs.bad_block", "A block with an unknown voxel type was asked for.") from error
    if kind.kind not in _KINDS:
        raise BugError("jobs.bad_block", "A block with a voxel type other than a number was asked for.")
    return kind


def _size_of(shape: tuple[int, ...], kind: np.dtype) -> int:
    size = kind.itemsize
    for length in shape:
        size *= int(length)
    if size <= 0 or kind.kind not in _KINDS:
        raise BugError("jobs.bad_block", f"A block of {shape} voxels of {kind.str} was asked for.")
    return size
