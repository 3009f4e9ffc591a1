"""NIfTI-1 and NIfTI-2. The only module that knows RAS coordinates.

Source: https://nifti.nimh.nih.gov/nifti-1 ; DICOM PS3.3 C.7.6.2.1.1 for LPS.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.config.memory import require_memory
from core.config.sealed_file import is_sealed, open_plain, write_kept
from core.domain.errors import AppError, EnvironmentFault, InputError
from core.domain.geometry import Matrix, VolumeGeometry
from core.domain.study import SeriesKind
from core.domain.volume import SeriesIssue, Volume
from core.domain.window import LINEAR_EXACT, Window
from core.formats.modality import looks_like_hounsfield
from core.formats.voxels import exact_voxels

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Negates x and y; its own inverse."""

SUFFIXES = (".nii", ".nii.gz")
MAX_VOXELS = 4 << 30
SENT_WITH_WINDOW = b"Overread image with window"
"""Marks files whose ``cal_min`` and ``cal_max`` are the first grey-scale window of the series, black and white."""
_SINGLE_FILE_MAGICS = (b"n+1\0", b"n+2\0")
SCANNER_CODE = 1
_NIFTI_2_HEADER_BYTES = 540


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI header says. ``frames`` is the size of the fourth dimension; ``rgb`` for RGB24 voxels."""

    geometry: VolumeGeometry
    frames: int
    rgb: bool
    issues: tuple[SeriesIssue, ...]
    description: str

    @property
    def kind(self) -> SeriesKind:
        """A volume, or an image when there is one slice."""
        return SeriesKind.IMAGE if self.geometry.shape_kji[0] == 1 else SeriesKind.VOLUME


def _sent_window(image: Any) -> tuple[Window, ...]:
    """Return the window of a file that ``core.formats.nifti_wire`` made; that of other files is often stale."""
    if bytes(image.header["descrip"]).rstrip(b"\0") != SENT_WITH_WINDOW:
        return ()
    low, high = float(image.header["cal_min"]), float(image.header["cal_max"])
    if not (np.isfinite((low, high)).all() and low <= high):
        return ()
    return (Window((low + high) / 2.0, high - low, function=LINEAR_EXACT),)


def lps_from_ras_affine(ras_from_ijk: Matrix) -> Matrix:
    """Return the ``(4, 4)`` LPS affine of a RAS affine (and the other way round: the map is its own inverse)."""
    return np.asarray(LPS_FROM_RAS @ np.asarray(ras_from_ijk, dtype=np.float64), dtype=np.float64)


def is_nifti(path: Path) -> bool:
    """Whether the file begins like single-file NIfTI-1 or -2, plain or gzipped; OSError if unreadable."""
    with open_plain(path) as stream:
        head = stream.read(348)
    if head[:2] == b"\x1f\x8b":
        try:
            with open_plain(path) as stream, gzip.open(stream) as packed:
                head = packed.read(348)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return path.name.lower().endswith(SUFFIXES)
    return len(head) == 348 and (head[344:348] in _SINGLE_FILE_MAGICS or head[4:8] in _SINGLE_FILE_MAGICS)


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read geometry and issues without the voxels.

    Raises
    ------
    InputError
        ``nifti.…`` when the file is damaged or no image of two to four dimensions.
    """
    with _opened(path) as image:
        return _header_of(image)


def read_nifti(path: Path, frame: int = 0) -> Volume:
    """Read a NIfTI file as a volume in LPS.

    Parameters
    ----------
    path : Path
        ``.nii`` or ``.nii.gz``.
    frame : int
        Which volume of a four-dimensional file.

    Returns
    -------
    Volume
        Integers stay integers where scaling allows, anything else becomes float32.

    Raises
    ------
    InputError
        When the file is damaged (``nifti.damaged``), truncated or has no usable geometry.
    EnvironmentFault
        When it cannot be read.
    """
    with _opened(path) as image:
        header = _header_of(image)
        voxels = _voxels(image, header, frame)
        windows = _sent_window(image)
    ct = looks_like_hounsfield(voxels)
    uid = content_uid(path)
    return Volume(
        geometry=header.geometry,
        voxels=voxels,
        modality="CT" if ct else "OT",
        series_uid=uid,
        study_uid=uid,
        units="HU" if ct else "stored",
        description=header.description,
        issues=header.issues,
        windows=windows,
        time_point=frame,
        time_points=header.frames,
    )


def write_nifti(
    path: Path, geometry: VolumeGeometry, array: NDArray, *, description: str = "", intent_label: bool = False
) -> Path:
    """Write an array on its grid, atomically.

    Parameters
    ----------
    path : Path
        Target; compressed when it ends in ``.gz``.
    geometry : VolumeGeometry
        LPS grid; oblique, left-handed and sheared grids are kept exactly by the sform (float32), and by the
        qform unless sheared.
    array : numpy.ndarray
        ``(K, J, I)`` of any real dtype, or ``(K, J, I, 3)`` uint8 colour.
    description : str
        Goes into ``descrip`` (79 characters); must not name a patient.
    intent_label : bool
        Mark the file as a label map.

    Raises
    ------
    EnvironmentFault
        When the file cannot be written.
    """
    if array.shape[:3] != geometry.shape_kji:
        raise InputError(
            "nifti.shape",
            f"The array {array.shape[:3]} does not fit the grid {geometry.shape_kji}.",
            "Report this.",
        )
    image = _image(geometry, array)
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    image.header.set_xyzt_units("mm")
    if intent_label:
        image.header.set_intent("label")
    try:
        data = image.to_bytes()
        write_kept(path, gzip.compress(data, 4, mtime=0) if path.name.endswith(".gz") else data)
    except OSError as error:
        raise EnvironmentFault(
            "file.unwritable",
            f"The NIfTI file cannot be written: {error.strerror}.",
            "Choose another folder.",
        ) from error
    return path


def _image(geometry: VolumeGeometry, array: NDArray) -> Any:
    import nibabel

    data = array.transpose(2, 1, 0, *range(3, array.ndim))
    if array.ndim == 4:
        data = np.ascontiguousarray(data).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    if data.dtype == np.bool_:
        data = data.astype(np.uint8)
    if data.dtype == np.float16:
        data = data.astype(np.float32)
    affine = lps_from_ras_affine(geometry.lps_from_ijk)
    image = nibabel.Nifti1Image(data, affine, dtype=data.dtype)
    image.set_sform(affine, SCANNER_CODE)
    if geometry.is_sheared:
        image.header["qform_code"] = 0
    else:
        image.set_qform(affine, SCANNER_CODE)
    return image


def content_uid(path: Path) -> str:
    """Return a stable UID under ``2.25.`` from the file's bytes. Source: DICOM PS3.5 B.2."""
    with open_plain(path) as stream:
        digest = hashlib.file_digest(stream, "sha256").digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _damaged(error: BaseException) -> InputError:
    return InputError(
        "nifti.damaged",
        f"The NIfTI file is damaged or incomplete ({type(error).__name__}).",
        "Fetch the file again from its source.",
    )


_RAISED = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    ArithmeticError,
    EOFError,
    zlib.error,
    gzip.BadGzipFile,
    np.linalg.LinAlgError,
)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an image for the time of the block; its voxels are read lazily, so they are taken within."""
    image = _open(path)
    try:
        yield image
    finally:
        stream = image.file_map["image"].fileobj
        if stream is not None:
            stream.close()


class _Unpacked(gzip.GzipFile):
    """The content of a packed stream that closes the stream with itself."""

    def __init__(self, packed: Any) -> None:
        super().__init__(fileobj=packed)
        self._packed = packed

    def close(self) -> None:
        """Close both."""
        super().close()
        self._packed.close()


def _open(path: Path) -> Any:
    # loaded on first use: most sessions read no NIfTI
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        named = path.name.lower().endswith(
            SUFFIXES
        )  # nibabel goes by the name; members of archives have none
        return nibabel.load(path) if named and not is_sealed(path) else _of_stream(path)
    except (*_RAISED, ImageFileError, HeaderDataError) as error:
        raise _damaged(error) from error
    except OSError as error:
        raise EnvironmentFault(
            "file.unreadable", f"The NIfTI file cannot be read: {error.strerror}.", "Check that it exists."
        ) from error


def _of_stream(path: Path) -> Any:
    """Open a sealed copy or a file of any name; ``_opened`` closes it."""
    import nibabel

    stream: Any = open_plain(path)
    if stream.read(2) == b"\x1f\x8b":
        stream.seek(0)
        stream = _Unpacked(stream)
    stream.seek(0)
    size = stream.read(4)
    stream.seek(0)
    second = _NIFTI_2_HEADER_BYTES in (int.from_bytes(size, "little"), int.from_bytes(size, "big"))
    return (nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_stream(stream)


def _header_of(image: Any) -> NiftiHeader:
    import nibabel
    from nibabel.spatialimages import HeaderDataError

    if not isinstance(image, nibabel.Nifti1Image | nibabel.Nifti2Image):
        raise InputError(
            "nifti.other_format", "This is not a single-file NIfTI image.", "Convert it to .nii.gz."
        )
    try:
        shape = tuple(int(n) for n in image.shape)
        affine, issues = _affine(image)
        description = bytes(image.header["descrip"]).rstrip(b"\0").decode("ascii", "replace").strip()
        rgb = image.get_data_dtype().names is not None
    except (*_RAISED, HeaderDataError) as error:
        raise _damaged(error) from error
    spatial = (*shape[:3], 1, 1, 1)[:3]
    frames = int(np.prod(shape[3:], dtype=np.int64)) if len(shape) > 3 else 1
    if len(shape) > 4 and int(np.prod(shape[4:])) != 1:
        raise InputError(
            "nifti.dimensions", f"NIfTI with {len(shape)} dimensions is not supported.", "Split it."
        )
    if min(*spatial, frames) < 1 or np.prod(spatial, dtype=np.float64) > MAX_VOXELS:
        raise InputError(
            "nifti.dimensions", f"A grid of {spatial} voxels is not possible.", "Check the file."
        )
    geometry = VolumeGeometry((spatial[2], spatial[1], spatial[0]), affine)
    return NiftiHeader(geometry, frames, rgb, tuple(issues), description)


def _affine(image: Any) -> tuple[Matrix, list[SeriesIssue]]:
    """Return the LPS affine: sform, else qform, else spacing alone (flagged)."""
    header = image.header
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    issues: list[SeriesIssue] = []
    if sform_code == 0 and qform_code == 0:
        issues.append(
            SeriesIssue(
                "nifti.no_orientation",
                "The file states no orientation (sform and qform are unset): left and right are a guess.",
                blocks_volumetry=False,
            )
        )
        zooms = [*(float(z) for z in header.get_zooms()[:3]), 1.0, 1.0, 1.0][:3]
        return lps_from_ras_affine(np.diag([*zooms, 1.0])), issues
    affine = np.asarray(header.get_sform() if sform_code else header.get_qform(), dtype=np.float64)
    if sform_code and qform_code:
        other = np.asarray(header.get_qform(), dtype=np.float64)
        extent = max(image.shape[:3])
        if np.abs(affine - other)[:3, :3].max() * extent > 1.0 or np.abs(affine - other)[:3, 3].max() > 1.0:
            issues.append(
                SeriesIssue(
                    "nifti.two_orientations", "sform and qform disagree by more than 1 mm; sform is used."
                )
            )
    return lps_from_ras_affine(affine), issues


def _voxels(image: Any, header: NiftiHeader, frame: int) -> NDArray:
    if not 0 <= frame < header.frames:
        raise InputError(
            "nifti.frame", f"The file holds {header.frames} volumes, not {frame + 1}.", "Choose another."
        )
    try:
        raw, slope, inter = _unscaled(image, header, frame)
        if header.rgb:
            names = (raw.dtype.names or ())[:3]
            return np.ascontiguousarray(
                np.stack([raw[name] for name in names], axis=-1).transpose(2, 1, 0, 3)
            )
        return _scaled(raw, slope, inter)
    except AppError:
        raise
    except MemoryError as error:
        raise EnvironmentFault(
            "memory.exhausted",
            "The NIfTI file needs more memory than there is.",
            "Close other programs and try again.",
        ) from error
    except (*_RAISED, OSError, AttributeError) as error:
        raise _damaged(error) from error


def _unscaled(image: Any, header: NiftiHeader, frame: int) -> tuple[NDArray, float, float]:
    """Read one volume as stored ``(I, J, K)``; of a 4-D file only that one."""
    # loaded on first use: most sessions read no NIfTI
    from nibabel.fileslice import fileslice
    from nibabel.openers import ImageOpener

    proxy = image.dataobj
    shape = header.geometry.shape_ijk
    require_memory(2 * prod(shape) * proxy.dtype.itemsize, "The file")
    if header.frames == 1:
        raw = np.asarray(proxy.get_unscaled()).reshape(shape, order="F")
    else:
        place = (slice(None),) * 3 + (frame,) + (0,) * (len(proxy.shape) - 4)
        with ImageOpener(proxy.file_like) as stream:
            raw = fileslice(stream, place, proxy.shape, proxy.dtype, proxy.offset, order="F")
    slope, inter = proxy.slope, proxy.inter
    return raw, 1.0 if slope is None else float(slope), 0.0 if inter is None else float(inter)


def _scaled(raw: NDArray, slope: float, inter: float) -> NDArray:
    """Return ``(K, J, I)`` contiguous values in the smallest type that is exact."""
    values = raw.transpose(2, 1, 0)
    if values.dtype.kind == "c":
        raise InputError(
            "nifti.complex", "Complex voxels cannot be shown.", "Export magnitude and phase apart."
        )
    return exact_voxels(values, slope, inter)
