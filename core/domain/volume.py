"""A series assembled into a regular volume."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.domain.geometry import VolumeGeometry
from core.domain.window import Window


@dataclass(frozen=True)
class SeriesIssue:
    """Something about a series that a reader must know before relying on it.

    ``blocks_volumetry`` is set when distances along the stack or volumes would be wrong.
    """

    code: str
    message: str
    blocks_volumetry: bool = False


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with their place in the patient.

    Attributes
    ----------
    geometry : VolumeGeometry
        The grid.
    voxels : numpy.ndarray
        ``(K, J, I)``, or ``(K, J, I, 3)`` uint8 for colour; int16, uint16, int32 or float32 after the
        modality LUT; C-contiguous and read-only. Owned by the volume.
    units : str
        ``"HU"`` for CT, ``"stored"`` otherwise, ``"SUVbw"`` for converted PET.
    sop_instance_uids : tuple of str
        One per slice k, in array order; empty when the source is not DICOM. For a multi-frame source
        the same UID repeats and ``frame_numbers`` tells the frames apart. Empty strings stand for slices that
        were interpolated or are missing.
    time_point, time_points : int
        Which time point of a 4-D series this is, from 0, and how many there are.
    slice_times_ms : tuple of float
        When each slice of a time point was acquired, relative to its first one; empty when not stated.
    frame_times_ms : tuple of float
        For a cine, when each frame is due, from 0; empty when not stated.
    missing_slices : tuple of int
        Slices k of the grid that were never found; they hold the padding and must be shown as missing.
    suvbw_factor : float or None
        For PET in Bq/ml, what multiplies a voxel to give SUVbw in g/ml; None when a needed element is missing
        (an issue then names it).
    positioned : bool
        Whether the images state their place in the patient; if not, the grid is one by convention that nothing else
        shares, as that of a radiograph.
    """

    geometry: VolumeGeometry
    voxels: NDArray
    modality: str
    series_uid: str
    study_uid: str = ""
    units: str = "stored"
    body_part: str = ""
    description: str = ""
    sop_instance_uids: tuple[str, ...] = ()
    frame_numbers: tuple[int, ...] = ()
    sop_class_uid: str = ""
    windows: tuple[Window, ...] = ()
    inverted: bool = False
    lossy: bool = False
    issues: tuple[SeriesIssue, ...] = ()
    padding_value: float | None = None
    extra: dict[str, str] = field(default_factory=dict)
    time_point: int = 0
    time_points: int = 1
    slice_times_ms: tuple[float, ...] = ()
    frame_times_ms: tuple[float, ...] = ()
    missing_slices: tuple[int, ...] = ()
    suvbw_factor: float | None = None
    positioned: bool = True

    def __post_init__(self) -> None:
        if self.voxels.shape[:3] != self.geometry.shape_kji:
            raise ValueError(f"voxels {self.voxels.shape} do not match the grid {self.geometry.shape_kji}")
        self.voxels.flags.writeable = False

    @property
    def allows_volumetry(self) -> bool:
        """Whether volumes and distances along the stack may be trusted."""
        return not any(issue.blocks_volumetry for issue in self.issues)

    def value_range(self) -> tuple[float, float]:
        """Smallest and largest voxel value."""
        return float(np.min(self.voxels)), float(np.max(self.voxels))
