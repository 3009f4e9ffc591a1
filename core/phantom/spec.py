"""What a thorax phantom is asked to look like, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.domain.geometry import VolumeGeometry
from core.domain.segmentation import SegmentDefinition


@dataclass(frozen=True)
class ThoraxSpec:
    """Parameters of a thorax phantom; everything not given here follows from ``seed``.

    Attributes
    ----------
    seed : int
        Decides all random choices; the same spec gives the same voxels.
    shape_kji : tuple of int
        Slices, rows, columns.
    spacing_kji_mm : tuple of float
        Slice distance, row and column spacing. Slices are as thick as they are distant.
    center_mm : tuple of float
        Anatomical position (x, y, z) of the middle of the field of view; z = 0 is the right diaphragm
        dome, about +210 the lung apex, −160 the lower edge of the liver.
    habitus : float
        0 thin … 1 obese.
    size : float
        Scale of the whole person (1 = reference adult).
    female : bool
        With breasts.
    arms : str
        ``"up"``, ``"down"`` or ``"none"``.
    rotation_deg, tilt_deg, shift_mm : float, float, tuple of float
        Pose on the table: rotation about the long axis, lateral tilt, shift (x, y).
    kernel : str
        ``"soft"``, ``"standard"`` or ``"sharp"``: sharpness and texture of the noise.
    noise_hu : float
        Standard deviation of the noise in soft tissue.
    contrast : str
        ``"none"``, ``"arterial"`` or ``"venous"``.
    deform_mm : float
        Strength of the smooth random deformation.
    inspiration : float
        −1 expiration … 1 deep inspiration.
    disease : float
        0 healthy … 1: density and extent of opacities, emphysema, thickened vessels.
    missing : tuple of str
        Any of ``"effusion_left"``, ``"effusion_right"``, ``"pneumothorax_left"``,
        ``"pneumothorax_right"``, ``"collapse_left"``, ``"collapse_right"``, ``"resection_left"``,
        ``"resection_right"``.
    nodules : int
        Number of solid lung nodules.
    vessel_count : int
        End branches of the vessel tree per lung: more is finer and slower.
    streaks : float
        Strength of beam-hardening-like streaks through the shoulders (0 = none).
    table : bool
        Whether the patient table is in the picture.
    """

    seed: int = 0
    shape_kji: tuple[int, int, int] = (120, 256, 256)
    spacing_kji_mm: tuple[float, float, float] = (2.5, 1.5, 1.5)
    center_mm: tuple[float, float, float] = (0.0, 0.0, 50.0)
    habitus: float = 0.35
    size: float = 1.0
    female: bool = False
    arms: str = "up"
    rotation_deg: float = 0.0
    tilt_deg: float = 0.0
    shift_mm: tuple[float, float] = (0.0, 0.0)
    kernel: str = "standard"
    noise_hu: float = 12.0
    contrast: str = "none"
    deform_mm: float = 4.0
    inspiration: float = 0.0
    disease: float = 0.1
    missing: tuple[str, ...] = ()
    nodules: int = 3
    vessel_count: int = 160
    streaks: float = 0.2
    table: bool = True


@dataclass(frozen=True, eq=False)
class Phantom:
    """A procedural image with its truth.

    Attributes
    ----------
    geometry : VolumeGeometry
        The grid (LPS).
    hu : numpy.ndarray
        ``(K, J, I)`` int16: Hounsfield units (CT) or signal (MR).
    labels : numpy.ndarray
        ``(K, J, I)`` uint8 truth; 0 is background.
    segments : tuple of SegmentDefinition
        Meaning of the label values.
    """

    geometry: VolumeGeometry
    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    segments: tuple[SegmentDefinition, ...]
