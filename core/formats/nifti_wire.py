"""Volumes as they are sent to a model server, and label maps as they come back. Nothing of this touches a disk.

What is sent are voxels, grid and first grey-scale window: no identifier, no description, no name, no date. NIfTI-2
keeps the grid in double precision, so that the server resamples exactly as this computer would; an inverted picture
(MONOCHROME1) is turned around first, because NIfTI has no word for it.

Source: https://nifti.nimh.nih.gov/pub/dist/doc/nifti2.h ; DICOM PS3.3 C.7.6.3.1.2 (Photometric Interpretation).
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.config.memory import require_memory
from core.domain.errors import SafetyError
from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume
from core.domain.window import Window
from core.formats.nifti import SCANNER_CODE, SENT_WITH_WINDOW, lps_from_ras_affine

_WITHOUT_WINDOW = b"Overread image"
_LEVEL = 1
_LARGEST_RATIO = 100.0
"""Files that shrink more are sent unpacked: servers take those for archive bombs (they allow 200)."""
_HEADER_BYTES = 2048
_ALLOWED_MM = 1e-2


def image_bytes(volume: Volume, *, single: bool) -> bytes:
    """Return a volume as a NIfTI-2 file, packed where that pays.

    Parameters
    ----------
    volume : Volume
        ``(K, J, I)`` of any dtype, or ``(K, J, I, 3)`` uint8 colour.
    single : bool
        Whether the model takes single images: their window is turned around with them, as for models of this
        computer; that of volumes stays.

    Raises
    ------
    EnvironmentFault
        ``memory.volume_too_large``.
    """
    import nibabel

    require_memory(3 * volume.voxels.nbytes, "Sending the series")
    voxels, window = _upright(volume, single)
    data: NDArray[Any] = voxels.transpose(2, 1, 0, *range(3, voxels.ndim))
    if data.ndim == 4:
        data = np.ascontiguousarray(data).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    affine = lps_from_ras_affine(volume.geometry.lps_from_ijk)
    image = nibabel.Nifti2Image(data, affine, dtype=data.dtype)
    image.set_sform(affine, SCANNER_CODE)
    image.header["qform_code"] = 0
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = _WITHOUT_WINDOW
    if window is not None:
        image.header["descrip"] = SENT_WITH_WINDOW
        image.header["cal_min"], image.header["cal_max"] = window.low, window.high
    plain = image.to_bytes()
    packer = zlib.compressobj(_LEVEL, wbits=31)
    packed = packer.compress(plain) + packer.flush()
    return packed if len(packed) * _LARGEST_RATIO > len(plain) > len(packed) else plain


def label_map_of(data: bytes, geometry: VolumeGeometry, values: frozenset[int]) -> NDArray[np.uint8]:
    """Return the label map of an answer.

    Parameters
    ----------
    data : bytes
        NIfTI, plain or packed.
    geometry : VolumeGeometry
        The grid of the volume that was sent.
    values : frozenset of int
        What its voxels may be, besides 0.

    Returns
    -------
    numpy.ndarray
        ``(K, J, I)`` uint8 on ``geometry``.

    Raises
    ------
    SafetyError
        ``engine.label_map``: damaged or too large; ``engine.grid``: it lies on another grid; ``engine.values``: it
        holds values that stand for nothing.
    """
    voxels = int(np.prod(geometry.shape_kji, dtype=np.int64))
    labels, affine = _unpacked(data, _HEADER_BYTES + 8 * voxels, geometry.shape_ijk)
    try:
        found = VolumeGeometry(geometry.shape_kji, lps_from_ras_affine(affine))
    except SafetyError:
        raise _other_grid("its position is unusable") from None
    if not found.same_grid_as(geometry, _ALLOWED_MM):
        raise _other_grid("a corner of it lies elsewhere")
    if labels.dtype.kind not in "iu":
        raise _damaged("its voxels are no whole numbers")
    present = frozenset(map(int, np.unique(labels)))
    if unknown := present - values - {0}:
        raise SafetyError(
            "engine.values",
            f"The label map holds the values {sorted(unknown)[:8]}, which stand for nothing; it was dropped.",
            "Press “Connect” in Settings to see which model the server has.",
        )
    return np.ascontiguousarray(labels.transpose(2, 1, 0), dtype=np.uint8)


def _upright(volume: Volume, single: bool) -> tuple[NDArray[Any], Window | None]:
    """Return voxels and first window so that high is white. Source: as core.compute.inference.prepare does it."""
    window = volume.windows[0] if volume.windows else None
    if not volume.inverted:
        return volume.voxels, window
    if volume.voxels.dtype == np.uint8:
        low, high = 0.0, 255.0
        voxels: NDArray[Any] = 255 - volume.voxels
    else:
        low, high = volume.value_range()
        voxels = (low + high) - volume.voxels.astype(np.float32)
    if window is not None and single:
        window = Window(low + high - window.center, window.width, window.name)
    return voxels, window


def _unpacked(
    data: bytes, most: int, shape_ijk: tuple[int, int, int]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return voxels ``(I, J, K)`` and RAS affine of a file of at most ``most`` bytes."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    raised = (
        ImageFileError,
        HeaderDataError,
        WrapStructError,
        ValueError,
        TypeError,
        IndexError,
        OSError,
        EOFError,
    )
    if data[:2] == b"\x1f\x8b":
        try:
            unpacker = zlib.decompressobj(wbits=31)
            data = unpacker.decompress(data, most)
        except zlib.error:
            raise _damaged("it can't be unpacked") from None
        if not unpacker.eof:
            raise _damaged("it is cut off, or larger than the series")
    if len(data) > most:
        raise _damaged("it is larger than the series")
    kind = nibabel.Nifti2Image if data[4:8] == b"n+2\0" else nibabel.Nifti1Image
    try:
        image = kind.from_bytes(data)
        # an array proxy with scaling yields floats, which are refused below
        if image.shape != shape_ijk:
            raise _other_grid(f"it has {image.shape} voxels instead of {shape_ijk}")
        return np.asarray(image.dataobj), np.asarray(image.affine, dtype=np.float64)
    except raised as error:
        raise _damaged(type(error).__name__) from None


def _damaged(why: str) -> SafetyError:
    return SafetyError(
        "engine.label_map",
        f"The server's label map can't be used: {why}. Nothing was kept.",
        "Try it again, or run a model of this computer.",
    )


def _other_grid(why: str) -> SafetyError:
    return SafetyError(
        "engine.grid",
        f"The server's label map doesn't lie on the series: {why}. Nothing was kept.",
        "Run a model of this computer, and have the server looked at.",
    )
