"""PNG, JPEG and TIFF as volumes of one slice (or one slice per page), without a size in millimetres."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core.config.memory import require_memory
from core.config.sealed_file import open_plain
from core.domain.errors import EnvironmentFault, InputError
from core.domain.geometry import VolumeGeometry
from core.domain.volume import SeriesIssue, Volume
from core.formats.nifti import content_uid

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
MAX_PIXELS = 200_000_000
MAX_PAGES = 4096
MIN_STACK = 3
_NUMBERED = re.compile(r"^(.*?)(\d{1,9})$", re.DOTALL)
UNCALIBRATED = SeriesIssue(
    "geometry.uncalibrated",
    "The picture states no size in millimetres and no position; sizes are in pixels.",
    blocks_volumetry=True,
)
_RAISED = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    SyntaxError,
    EOFError,
    RuntimeError,
    ArithmeticError,
    struct.error,
)


@dataclass(frozen=True)
class PictureHeader:
    """Size of a picture file: pages, rows, columns; whether it has colour."""

    pages: int
    rows: int
    columns: int
    colour: bool

    @property
    def geometry(self) -> VolumeGeometry:
        """A grid of 1 mm per pixel by convention, flagged by ``UNCALIBRATED``."""
        return VolumeGeometry((self.pages, self.rows, self.columns), np.eye(4))


def is_picture(path: Path) -> bool:
    """Whether the file begins like PNG, JPEG, TIFF or BMP; OSError if unreadable."""
    with open_plain(path) as stream:
        head = stream.read(8)
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM"))


def read_picture_header(path: Path) -> PictureHeader:
    """Read the size without the pixels; InputError (``image.…``) when the file is damaged or too large."""
    with _opened(path) as picture:
        return _header(picture)


def read_image(path: Path) -> Volume:
    """Read a picture.

    Returns
    -------
    Volume
        ``(pages, rows, columns)`` int16, uint16, int32 or float32 for grey, ``(…, 3)`` uint8 for colour.

    Raises
    ------
    InputError
        When the file is damaged or too large.
    EnvironmentFault
        When it cannot be read.
    """
    with _opened(path) as picture:
        return _volume(picture, content_uid(path))


def read_image_bytes(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Volume:
    """Read a PNG or JPEG that was received instead of opened; see ``read_image``.

    Raises
    ------
    InputError
        ``image.damaged``; ``image.too_large`` for more than ``max_pixels``, before any is decoded.
    """
    # as content_uid names files
    uid = f"2.25.{int.from_bytes(hashlib.sha256(data).digest()[:16], 'big')}"
    with _decoded(BytesIO(data), ("PNG", "JPEG")) as picture:
        return _volume(picture, uid, max_pixels)


def _volume(picture: Image.Image, uid: str, max_pixels: int = MAX_PIXELS) -> Volume:
    header = _header(picture, max_pixels)
    pages = []
    for page in range(header.pages):
        picture.seek(page)
        pages.append(_page(picture, header))
    return Volume(
        geometry=header.geometry,
        voxels=np.ascontiguousarray(np.stack(pages)),
        modality="OT",
        series_uid=uid,
        study_uid=uid,
        issues=(UNCALIBRATED,),
    )


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        stream = open_plain(path)
    except OSError as error:
        raise EnvironmentFault(
            "file.unreadable", f"The picture cannot be read: {error.strerror}.", "Check that it exists."
        ) from error
    with stream, _decoded(stream, FORMATS) as picture:
        yield picture


@contextmanager
def _decoded(stream: IO[bytes], formats: Sequence[str]) -> Iterator[Image.Image]:
    # loaded on first use: most sessions read no pictures
    from PIL import Image, UnidentifiedImageError

    try:
        # what is asked of the picture inside the block is read from the file then
        with Image.open(stream, formats=formats) as picture:
            yield picture
    except MemoryError as error:
        raise EnvironmentFault(
            "memory.exhausted",
            "The picture needs more memory than there is.",
            "Close other programs and try again.",
        ) from error
    except (*_RAISED, OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise _damaged(error) from error


def read_pictures(paths: Sequence[Path]) -> Volume:
    """Read numbered pictures of one size as the slices of a stack; see ``read_image``."""
    first = read_picture_header(paths[0])
    require_memory(2 * first.rows * first.columns * (3 if first.colour else 4) * len(paths), "The stack")
    volumes = [read_image(path) for path in paths]
    if len({(v.voxels.shape[1:], v.voxels.dtype.kind) for v in volumes}) > 1:
        raise InputError(
            "image.mixed_sizes", "The pictures of the stack differ in size.", "Import them apart."
        )
    voxels = np.ascontiguousarray(np.concatenate([v.voxels for v in volumes]))
    header = PictureHeader(len(voxels), voxels.shape[1], voxels.shape[2], voxels.ndim == 4)
    return replace(volumes[0], geometry=header.geometry, voxels=voxels)


@dataclass(frozen=True)
class NumberedPicture:
    """A picture whose name ends in a number: what stands before and behind it, and its size."""

    path: Path
    stem: str
    number: int
    suffix: str
    header: PictureHeader

    @classmethod
    def of(cls, path: Path, header: PictureHeader) -> NumberedPicture | None:
        """Return it, or None for a name without a number and for several pages."""
        match = _NUMBERED.match(path.stem)
        if match is None or header.pages != 1:
            return None
        return cls(path, match[1], int(match[2]), path.suffix.lower(), header)


def stacks_of(pictures: Sequence[NumberedPicture]) -> list[list[NumberedPicture]]:
    """Return runs of at least ``MIN_STACK`` pictures of one folder, name and size whose numbers have no gap."""
    series: dict[tuple[object, ...], dict[int, NumberedPicture]] = {}
    for one in pictures:
        series.setdefault((one.path.parent, one.stem, one.suffix, one.header), {})[one.number] = one
    stacks: list[list[NumberedPicture]] = []
    for numbered in series.values():
        run: list[NumberedPicture] = []
        for number in sorted(numbered):
            if run and number != run[-1].number + 1:
                stacks.append(run)
                run = []
            run.append(numbered[number])
        stacks.append(run)
    return [run for run in stacks if MIN_STACK <= len(run) <= MAX_PAGES]


def _header(picture: Image.Image, max_pixels: int = MAX_PIXELS) -> PictureHeader:
    columns, rows = picture.size
    pages = int(getattr(picture, "n_frames", 1))
    if rows * columns * pages > max_pixels or pages > MAX_PAGES:
        raise InputError(
            "image.too_large",
            f"The picture has {columns} × {rows} pixels on {pages} pages.",
            "Reduce its size.",
        )
    colour = picture.mode not in ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "LA")
    return PictureHeader(pages, rows, columns, colour)


def _page(picture: Image.Image, header: PictureHeader) -> NDArray:
    if picture.size != (header.columns, header.rows):
        raise InputError("image.mixed_sizes", "The pages of the picture differ in size.", "Split the file.")
    if header.colour:
        return np.asarray(picture.convert("RGB"), dtype=np.uint8)
    if picture.mode in ("1", "L", "LA"):
        return np.asarray(picture.convert("L"), dtype=np.int16)
    values = np.asarray(picture)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return values.astype(np.uint16)
    return values.astype(np.int32)


def _damaged(error: BaseException) -> InputError:
    return InputError(
        "image.damaged",
        f"The picture is damaged or incomplete ({type(error).__name__}).",
        "Fetch the file again from its source.",
    )
