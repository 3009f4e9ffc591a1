"""NRRD, attached and detached. Source: https://teem.sourceforge.net/nrrd/format.html"""

from __future__ import annotations

import bz2
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from core.config.memory import require_memory
from core.config.sealed_file import open_plain, plain_size
from core.domain.errors import AppError, EnvironmentFault, InputError
from core.domain.geometry import Matrix, VolumeGeometry
from core.domain.study import SeriesKind
from core.domain.volume import SeriesIssue, Volume
from core.formats.modality import looks_like_hounsfield
from core.formats.nifti import content_uid
from core.formats.voxels import exact_voxels

MAX_HEADER_BYTES = 1 << 16
MAX_BYTES = 16 << 30
MAX_TEXT_VALUES = 50_000_000
_CHUNK = 1 << 20
_MAGIC = re.compile(rb"^NRRD000[1-5]\r?\n")
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}  # fmt: skip
_LPS_FROM = {
    "left-posterior-superior": (1.0, 1.0, 1.0), "lps": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0), "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0), "las": (1.0, -1.0, 1.0),
}  # fmt: skip
_COLOUR_KINDS = frozenset({"rgb-color", "3-color", "rgba-color", "4-color"})
_ENCODINGS = {
    "raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2", "ascii": "text", "text": "text",
    "txt": "text",
}  # fmt: skip
_NO_ORIENTATION = SeriesIssue(
    "nrrd.no_orientation", "The file states no orientation in the patient: left and right are a guess."
)
_NO_SPACING = SeriesIssue(
    "nrrd.no_spacing",
    "The file states no spacing; sizes are in voxels, not in millimetres.",
    blocks_volumetry=True,
)


@dataclass(frozen=True)
class NrrdHeader:
    """What a header says.

    ``sizes`` counts voxels along the file's axes, the fastest first; ``spatial`` are the three axes i, j, k among them
    (-1 for one that isn't there), ``extra`` the axis of time points or colours (-1 without). ``data_file`` is where the
    voxels of a detached header lie.
    """

    geometry: VolumeGeometry
    sizes: tuple[int, ...]
    dtype: np.dtype[np.generic]
    encoding: str
    spatial: tuple[int, int, int]
    extra: int
    rgb: bool
    issues: tuple[SeriesIssue, ...]
    offset: int
    line_skip: int
    byte_skip: int
    data_file: Path | None

    @property
    def frames(self) -> int:
        """Number of time points."""
        return 1 if self.rgb or self.extra < 0 else self.sizes[self.extra]

    @property
    def kind(self) -> SeriesKind:
        """A volume, or an image when there is one slice."""
        return SeriesKind.IMAGE if self.geometry.shape_kji[0] == 1 else SeriesKind.VOLUME

    @property
    def data_bytes(self) -> int:
        """Bytes of all voxels, uncompressed."""
        return prod(self.sizes) * self.dtype.itemsize


def is_nrrd(path: Path) -> bool:
    """Whether the file begins like NRRD; OSError if unreadable."""
    with open_plain(path) as stream:
        return _MAGIC.match(stream.read(16)) is not None


def read_nrrd_header(path: Path) -> NrrdHeader:
    """Read geometry and issues without the voxels.

    Raises
    ------
    InputError
        ``nrrd.…`` when the header is damaged or says what isn't read.
    EnvironmentFault
        When the file cannot be read.
    """
    try:
        with open_plain(path) as stream:
            data = stream.read(MAX_HEADER_BYTES)
    except OSError as error:
        raise _unreadable(error) from error
    fields, offset = _fields(data)
    return _described(fields, offset, path)


def read_nrrd(path: Path, frame: int = 0, *, data_file: Path | None = None) -> Volume:
    """Read a NRRD file as a volume in LPS.

    Parameters
    ----------
    path : Path
        ``.nrrd`` or ``.nhdr``.
    frame : int
        Which volume of a four-dimensional file.
    data_file : Path or None
        Where the voxels of a detached header lie now; beside the header under the name that it states otherwise.

    Raises
    ------
    InputError
        When the file is damaged (``nrrd.damaged``, ``nrrd.truncated``) or says what isn't read.
    EnvironmentFault
        When it cannot be read or the memory doesn't suffice.
    """
    header = read_nrrd_header(path)
    if not 0 <= frame < header.frames:
        raise _refusal(
            "nrrd.frame", f"The file holds {header.frames} volumes, not {frame + 1}.", "Choose another."
        )
    try:
        voxels = _voxels(header, (data_file or header.data_file) if header.data_file else path, frame)
    except AppError:
        raise
    except OSError as error:
        raise _unreadable(error) from error
    except (ValueError, EOFError, zlib.error, OverflowError) as error:
        raise _damaged(type(error).__name__) from error
    ct = looks_like_hounsfield(voxels)
    uid = content_uid(path)
    return Volume(
        geometry=header.geometry,
        voxels=voxels,
        modality="CT" if ct else "OT",
        series_uid=uid,
        study_uid=uid,
        units="HU" if ct else "stored",
        issues=header.issues,
        time_point=frame,
        time_points=header.frames,
    )


def _fields(data: bytes) -> tuple[dict[str, str], int]:
    """Return the fields by lower-case name, and where the header ends (-1 without an empty line)."""
    if _MAGIC.match(data) is None:
        raise _damaged("no NRRD")
    fields: dict[str, str] = {}
    position = data.index(b"\n") + 1
    while position < len(data):
        end = data.find(b"\n", position)
        if end < 0:
            if len(data) >= MAX_HEADER_BYTES:
                raise _damaged("header without end")
            end = len(data)
        line = data[position:end].rstrip(b"\r").decode("utf-8", "replace")
        position = end + 1
        if not line:
            return fields, position
        if line.startswith("#") or ":=" in line:
            continue
        name, colon, value = line.partition(": ")
        if not colon:
            name, colon, value = line.partition(":")
        if not colon:
            raise _damaged("a line without a field")
        key = name.strip().lower().replace("datafile", "data file").replace("lineskip", "line skip")
        fields[key.replace("byteskip", "byte skip")] = value.strip()
    return fields, -1


def _described(fields: dict[str, str], offset: int, path: Path) -> NrrdHeader:
    try:
        dimension = int(fields["dimension"])
        sizes = tuple(int(part) for part in fields["sizes"].split())
        dtype = _dtype(fields)
        line_skip, byte_skip = int(fields.get("line skip", "0")), int(fields.get("byte skip", "0"))
    except KeyError as error:
        raise _damaged(f"no {error.args[0]}") from error
    except ValueError as error:
        raise _damaged("a number that is none") from error
    if len(sizes) != dimension or not 1 <= dimension <= 5 or min(sizes) < 1:
        raise _refusal("nrrd.dimensions", "The sizes of the file are not possible.", "Check the file.")
    if prod(sizes) * dtype.itemsize > MAX_BYTES:
        raise _refusal("nrrd.dimensions", f"A grid of {sizes} voxels is too large.", "Check the file.")
    if not 0 <= line_skip <= 1_000_000 or not -1 <= byte_skip <= MAX_BYTES:
        raise _damaged("an impossible skip")
    encoding = _ENCODINGS.get(fields.get("encoding", "").lower(), "")
    if not encoding:
        raise _refusal(
            "nrrd.encoding", "The encoding of the NRRD file isn't read.", "Save it as raw or gzip."
        )
    data_file = _data_file(fields.get("data file", ""), path)
    if data_file is None and offset < 0:
        raise _truncated()
    spatial, extra, rgb = _axes(fields, sizes, dtype)
    geometry, issues = _geometry(fields, sizes, spatial)
    return NrrdHeader(
        geometry, sizes, dtype, encoding, spatial, extra, rgb, issues, 0 if data_file else offset, line_skip,
        byte_skip, data_file,
    )  # fmt: skip


def _dtype(fields: dict[str, str]) -> np.dtype[np.generic]:
    name = fields["type"].lower()
    code = next((code for code, names in _TYPES.items() if name in names), "")
    if not code:
        raise _refusal(
            "nrrd.type", "The voxel type of the NRRD file isn't read.", "Save it as short or float."
        )
    endian = fields.get("endian", "").lower()
    if code[1] != "1" and endian not in ("little", "big"):
        if _ENCODINGS.get(fields.get("encoding", "").lower()) != "text":
            raise _damaged("no endian")
        endian = "little"
    return np.dtype((">" if endian == "big" else "<") + code)


def _data_file(stated: str, path: Path) -> Path | None:
    """Return the file that a detached header names: one beside it."""
    if not stated:
        return None
    if stated.upper().startswith("LIST") or (len(stated.split()) > 3 and "%" in stated):
        raise _refusal(
            "nrrd.several_files",
            "The NRRD header spreads its voxels over several files.",
            "Save it as one .nrrd.",
        )
    found = path.parent / stated
    if Path(stated).is_absolute() or "\0" in stated or found.resolve().parent != path.parent.resolve():
        raise _refusal(
            "nrrd.data_elsewhere",
            "The NRRD header names a file in another folder; only one beside it is read.",
            "Put both into one folder.",
        )
    return found


def _axes(
    fields: dict[str, str], sizes: tuple[int, ...], dtype: np.dtype[np.generic]
) -> tuple[tuple[int, int, int], int, bool]:
    """Tell the axes of space from that of time or colour."""
    kinds = [kind.lower() for kind in fields.get("kinds", "").split()]
    kinds += [""] * (len(sizes) - len(kinds))
    vectors = _vectors(fields.get("space directions", ""))
    if vectors:
        if len(vectors) != len(sizes):
            raise _damaged("space directions for another number of axes")
        spatial = [n for n, vector in enumerate(vectors) if vector is not None]
    else:
        spatial = [n for n in range(len(sizes)) if kinds[n] in ("", "space", "domain")]
        spatial = spatial[:3]
    others = [n for n in range(len(sizes)) if n not in spatial and sizes[n] > 1]
    if not 1 <= len(spatial) <= 3 or len(others) > 1:
        raise _refusal(
            "nrrd.dimensions",
            f"NRRD with {len(sizes)} dimensions of this kind isn't read.",
            "Split the file.",
        )
    extra = others[0] if others else -1
    rgb = extra >= 0 and kinds[extra] in _COLOUR_KINDS and sizes[extra] in (3, 4) and dtype.itemsize == 1
    i, j, k = (*spatial, -1, -1)[:3]
    return (i, j, k), extra, rgb


def _vectors(text: str) -> list[tuple[float, ...] | None]:
    """Parse ``(1,0,0) (0,1,0) none``."""
    found: list[tuple[float, ...] | None] = []
    for part in re.findall(r"\([^()]*\)|none", text):
        try:
            numbers = None if part == "none" else tuple(float(v) for v in part[1:-1].split(","))
        except ValueError as error:
            raise _damaged("a vector that is none") from error
        found.append(numbers if numbers is None or np.isfinite(numbers).all() else None)
    return found


def _geometry(
    fields: dict[str, str], sizes: tuple[int, ...], spatial: tuple[int, int, int]
) -> tuple[VolumeGeometry, tuple[SeriesIssue, ...]]:
    issues: list[SeriesIssue] = []
    shape = tuple(sizes[axis] if axis >= 0 else 1 for axis in reversed(spatial))
    vectors = _vectors(fields.get("space directions", ""))
    matrix: Matrix = np.eye(4)
    if vectors:
        columns = [vectors[axis] if axis >= 0 else None for axis in spatial]
        if any(column is not None and len(column) != 3 for column in columns):
            raise _refusal(
                "nrrd.space", "Only NRRD files in a space of three dimensions are read.", "Convert it."
            )
        for column, vector in enumerate(columns):
            if vector is not None:
                matrix[:3, column] = vector
        if columns[2] is None:
            normal = np.cross(matrix[:3, 0], matrix[:3, 1])
            matrix[:3, 2] = normal / (np.linalg.norm(normal) or 1.0)
        origin = _vectors(fields.get("space origin", ""))
        if origin and origin[0] is not None and len(origin[0]) == 3:
            matrix[:3, 3] = origin[0]
        signs = _LPS_FROM.get(fields.get("space", "").lower().removesuffix("-time"))
        if signs is None:
            issues.append(_NO_ORIENTATION)
        else:
            matrix = np.diag([*signs, 1.0]) @ matrix
    else:
        issues.append(_NO_ORIENTATION)
        spacings = _spacings(fields, len(sizes))
        for column, axis in enumerate(spatial):
            matrix[column, column] = spacings[axis] if spacings and axis >= 0 else 1.0
        if not spacings:
            issues.append(_NO_SPACING)
    return VolumeGeometry((shape[0], shape[1], shape[2]), matrix), tuple(issues)


def _spacings(fields: dict[str, str], count: int) -> list[float]:
    try:
        values = [float(part) for part in fields.get("spacings", "").split()]
    except ValueError as error:
        raise _damaged("a spacing that is no number") from error
    if len(values) != count:
        return []
    return [abs(v) if np.isfinite(v) and v != 0 else 1.0 for v in values]


def _voxels(header: NrrdHeader, path: Path, frame: int) -> NDArray:
    require_memory(2 * header.data_bytes, "The file")
    data = _text_values(header, path) if header.encoding == "text" else _binary_values(header, path)
    array = data.reshape(header.sizes, order="F")
    if header.extra >= 0 and not header.rgb:
        array = np.take(array, frame, axis=header.extra)
        lost = header.extra
    else:
        lost = -1
    order = [axis - (0 <= lost < axis) for axis in reversed(header.spatial) if axis >= 0]
    rest = [axis for axis in range(array.ndim) if axis not in order]
    array = array.transpose(*order, *rest)
    if header.rgb:
        colour = array.reshape(*header.geometry.shape_kji, -1)[..., :3]
        return np.ascontiguousarray(colour.astype(np.uint8))
    return exact_voxels(array.reshape(header.geometry.shape_kji))


def _binary_values(header: NrrdHeader, path: Path) -> NDArray:
    needed = header.data_bytes
    with open_plain(path) as stream:
        if header.encoding == "raw" and header.byte_skip == -1:
            start = plain_size(path) - needed
            if start < header.offset:
                raise _truncated()
            stream.seek(start)
            raw = _exactly(stream.read, needed)
        else:
            stream.seek(header.offset)
            for _ in range(header.line_skip):
                stream.readline(_CHUNK)
            if header.encoding == "raw":
                stream.seek(max(0, header.byte_skip), 1)
                left = plain_size(path) - stream.tell()
                if left < needed:
                    raise _truncated()
                raw = _exactly(stream.read, needed)
            else:
                unpack = _Inflated(stream, header.encoding)
                _exactly(unpack.read, max(0, header.byte_skip))
                raw = _exactly(unpack.read, needed)
    return np.frombuffer(raw, dtype=header.dtype)


def _text_values(header: NrrdHeader, path: Path) -> NDArray:
    count = prod(header.sizes)
    if count > MAX_TEXT_VALUES:
        raise _refusal("nrrd.dimensions", "A NRRD file in text of this size isn't read.", "Save it as gzip.")
    with open_plain(path) as stream:
        stream.seek(header.offset)
        for _ in range(header.line_skip):
            stream.readline(_CHUNK)
        text = stream.read(count * 40 + 1)
    parts = text.split()[:count]
    if len(parts) < count:
        raise _truncated()
    values = np.array(parts, dtype="S40").astype(np.float64)
    return values.astype(header.dtype.newbyteorder("="))


class _Inflated:
    """Reads a compressed stream piece by piece; never inflates more than is asked for."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._gzip = encoding == "gzip"
        self._start()

    def _start(self) -> None:
        self._zlib = zlib.decompressobj(31)
        self._bz2 = bz2.BZ2Decompressor()
        self._packed = b""

    def read(self, count: int) -> bytes:
        """Return up to ``count`` bytes, at least one until the end."""
        while True:
            if self._gzip:
                self._packed = self._packed or self._stream.read(_CHUNK)
                out = self._zlib.decompress(self._packed, count)
                self._packed = self._zlib.unconsumed_tail
                finished = self._zlib.eof
            else:
                if self._bz2.needs_input:
                    self._packed = self._stream.read(_CHUNK)
                else:
                    self._packed = b""
                out = self._bz2.decompress(self._packed, count) if not self._bz2.eof else b""
                finished = self._bz2.eof
            if out or finished:
                return out
            if not self._packed:
                return b""


def _exactly(read: Callable[[int], bytes], count: int) -> bytearray:
    out = bytearray()
    while len(out) < count:
        piece = read(min(_CHUNK * 8, count - len(out)))
        if not piece:
            raise _truncated()
        out += piece
    return out


def _refusal(code: str, message: str, remedy: str) -> InputError:
    return InputError(code, message, remedy)


def _damaged(why: str) -> InputError:
    return InputError(
        "nrrd.damaged", f"The NRRD file is damaged ({why}).", "Fetch the file again from its source."
    )


def _truncated() -> InputError:
    return InputError(
        "nrrd.truncated", "The NRRD file ends before its voxels do.", "Fetch the file again from its source."
    )


def _unreadable(error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        "file.unreadable", f"The NRRD file cannot be read: {error.strerror}.", "Check that it exists."
    )
