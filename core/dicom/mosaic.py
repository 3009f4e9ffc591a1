"""Siemens mosaics: one image tiled with all slices of a volume.

The number of slices, their direction and their times stand in the vendor's CSA header (0029,1010), a private
structure of named values; where it is missing, in (0019,100A) and (0019,1029).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.dicom.decode import PixelReader
from core.dicom.faults import malformed
from core.dicom.header import Header
from core.dicom.part10 import parse_file
from core.dicom.stack import normal_of

MAX_TILES = 4096
_CSA_IMAGE, _CSA_BLOCK, _CSA_CREATOR = 0x00291010, 0x00290010, "SIEMENS CSA HEADER"
_MAX_ENTRIES, _MAX_ITEMS, _MAX_CSA_BYTES = 4096, 1024, 16 << 20
_ENTRY = struct.Struct("<64si4sii4s")
_WANTED = frozenset(
    {"NumberOfImagesInMosaic", "SliceNormalVector", "MosaicRefAcqTimes", "ProtocolSliceNumber"}
)


def is_mosaic(header: Header) -> bool:
    """Whether the image is a Siemens mosaic: many slices tiled in one."""
    return "MOSAIC" in header.image_type and header.frames == 1


@dataclass(frozen=True)
class Mosaic:
    """How the tiles of an image are slices.

    ``origin_mm`` is the place of the first pixel of the first tile, ``normal`` the direction in which the tiles
    follow each other. ``reversed_numbering`` is set when the scanner numbered its slices against that direction.
    """

    tiles: int
    per_row: int
    rows: int
    columns: int
    origin_mm: tuple[float, float, float]
    normal: tuple[float, float, float]
    slice_times_ms: tuple[float, ...] = ()
    reversed_numbering: bool = False


def read_mosaic(header: Header) -> Mosaic | None:
    """Return how a mosaic is tiled; None when it doesn't say, or the tiles don't fit the image."""
    if header.position is None or not header.orientation or len(header.pixel_spacing) != 2:
        return None
    csa = _csa_of(header.file, header.stamp)
    tiles = int(next(iter(csa.get("NumberOfImagesInMosaic", ())), 0)) or (
        header.elements.integer(0x0019100A) or 0
    )
    if not 1 <= tiles <= MAX_TILES:
        return None
    per_row = math.isqrt(tiles - 1) + 1
    if header.rows % per_row or header.columns % per_row:
        return None
    rows, columns = header.rows // per_row, header.columns // per_row
    times = csa.get("MosaicRefAcqTimes") or header.elements.numbers(0x00191029)
    numbering = next(iter(csa.get("ProtocolSliceNumber", ())), 0.0)
    backwards = numbering > 0 and tiles > 1
    return Mosaic(
        tiles,
        per_row,
        rows,
        columns,
        _origin(header, rows, columns),
        _normal(header, csa.get("SliceNormalVector", ())),
        tuple(times) if len(times) == tiles and not backwards else (),
        backwards,
    )


def _origin(header: Header, rows: int, columns: int) -> tuple[float, float, float]:
    """Return the first pixel of a tile: the position is given as if the mosaic were one large slice."""
    assert header.position is not None
    row, column = np.asarray(header.orientation[:3]), np.asarray(header.orientation[3:])
    x, y, z = (
        np.asarray(header.position)
        + row * header.pixel_spacing[1] * (header.columns - columns) / 2.0
        + column * header.pixel_spacing[0] * (header.rows - rows) / 2.0
    )
    return float(x), float(y), float(z)


def _normal(header: Header, stated: tuple[float, ...]) -> tuple[float, float, float]:
    """Return ±(row × column), with the sign of the stated normal."""
    normal = normal_of(header.orientation)
    if len(stated) == 3 and float(normal @ np.asarray(stated)) < -0.5:
        normal = -normal
    return float(normal[0]), float(normal[1]), float(normal[2])


@lru_cache(maxsize=8192)
def _csa_of(file: Path, _stamp: tuple[int, int, int]) -> Mapping[str, tuple[float, ...]]:
    """Read the CSA header of a file; empty when it has none that can be read."""
    elements = parse_file(file, frozenset({_CSA_BLOCK, _CSA_IMAGE})).elements
    if elements.text(_CSA_BLOCK) != _CSA_CREATOR or _CSA_IMAGE not in elements:
        return {}
    return read_csa(elements.raw[_CSA_IMAGE].value)


def read_csa(data: bytes) -> dict[str, tuple[float, ...]]:
    """Return the numbers of the entries that a mosaic needs; what is damaged is left out.

    Both versions are read: ``SV10`` and the older one without a signature.
    """
    found: dict[str, tuple[float, ...]] = {}
    if len(data) > _MAX_CSA_BYTES:
        return found
    newer = data[:4] == b"SV10"
    position = 8 if newer else 0
    try:
        (count,) = struct.unpack_from("<I", data, position)
        position += 8
        excess = 0
        for entry in range(min(count, _MAX_ENTRIES)):
            name, _, _, _, items, _ = _ENTRY.unpack_from(data, position)
            position += _ENTRY.size
            if not 0 <= items <= _MAX_ITEMS:
                break
            if entry == 0 and not newer:
                excess = items  # the older version adds the first entry's count to every length
            values: list[float] = []
            for _ in range(items):
                lengths = struct.unpack_from("<4i", data, position)
                position += 16
                length = lengths[1] if newer else lengths[0] - excess
                if length < 0 or position + length > len(data):
                    break
                text = data[position : position + length].split(b"\0")[0].strip()
                position += -(-length // 4) * 4
                if text:
                    values.extend(_number(text))
            word = name.split(b"\0")[0].decode("latin-1")
            if word in _WANTED and values:
                found[word] = tuple(values)
    except struct.error:
        return found
    return found


def _number(text: bytes) -> list[float]:
    try:
        value = float(text)
    except ValueError:
        return []
    return [value] if math.isfinite(value) else []


class TileReader(PixelReader):
    """Gives the tiles of a mosaic as if they were frames; the image is decoded once."""

    def __init__(self, header: Header, mosaic: Mosaic) -> None:
        super().__init__(header)
        self._mosaic = mosaic
        self._whole: NDArray | None = None

    @property
    def is_plain(self) -> bool:
        """False: a tile is no run of bytes."""
        return False

    def decode(self, frame: int) -> NDArray:
        """Return tile ``frame`` (from 0) as a contiguous copy ``(rows, columns)``."""
        if self._whole is None:
            plain = PixelReader(self._header)
            self._whole = plain.decode(0)
        m = self._mosaic
        if not 0 <= frame < m.tiles:
            raise malformed(f"The mosaic has {m.tiles} slices, not {frame + 1}.", "dicom.invalid_image")
        down, across = divmod(frame, m.per_row)
        top, left = down * m.rows, across * m.columns
        return np.ascontiguousarray(self._whole[top : top + m.rows, left : left + m.columns])
