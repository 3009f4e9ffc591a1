"""Load the volume of a series, and export it as NIfTI."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.dicom.assemble import assemble_volume, of_time_point
from core.domain.errors import EnvironmentFault, InputError
from core.domain.geometry import VolumeGeometry
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.study import InstanceRef, SeriesKind, SeriesSummary
from core.domain.volume import Volume
from core.formats.images import is_picture, read_image, read_pictures
from core.formats.nifti import is_nifti, read_nifti, write_nifti
from core.formats.nrrd import is_nrrd, read_nrrd
from core.services.engine import Engine
from core.services.list_studies import get_series

OnSlice = Callable[[int, VolumeGeometry, NDArray], None]


def load_volume(
    engine: Engine,
    series_key: str,
    *,
    time_point: int = 0,
    correct: bool = True,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    on_slice: OnSlice | None = None,
) -> Volume:
    """Load the voxels of a series of the library.

    Parameters
    ----------
    series_key : str
        Key of the displayable group, or Series Instance UID.
    time_point : int
        Which time point of a 4-D series, from 0.
    correct : bool
        Straighten gantry tilt and resample irregular spacing; issues tell of it, and slices that are missing are blank
        and listed. False gives what was acquired.
    on_slice : callable or None
        Called in the calling thread with (k, geometry, pixels) for each complete slice, the middle one first.

    Raises
    ------
    InputError
        When the series is unknown, isn't an image, or its files are damaged.
    EnvironmentFault
        When a file is gone or the memory doesn't suffice.
    """
    summary, instances = get_series(engine, series_key)
    engine.note_access(summary.study_uid, summary.key, len(instances))
    return load_files(
        summary,
        instances,
        time_point=time_point,
        correct=correct,
        progress=progress,
        cancel=cancel,
        on_slice=on_slice,
    )


def load_files(
    summary: SeriesSummary,
    instances: Sequence[InstanceRef],
    *,
    time_point: int = 0,
    correct: bool = True,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    on_slice: OnSlice | None = None,
) -> Volume:
    """Load the voxels of a series that need not be in the library; see ``load_volume``."""
    if summary.kind is SeriesKind.OTHER:
        raise InputError(
            "series.not_an_image",
            f"A {summary.modality} series holds no images to show.",
            "Choose an image series of the study.",
        )
    from_dicom = bool(instances) and bool(instances[0].sop_class_uid)
    for instance in of_time_point(instances, summary, time_point) if from_dicom else instances:
        if not instance.file.is_file():
            raise EnvironmentFault(
                "file.missing",
                f"A file of series {summary.series_number or ''} is gone.".replace("  ", " "),
                "Put the medium back or import the study again.",
            )
    if instances and not from_dicom:
        return _load_other(summary, instances, time_point, progress, on_slice)
    return assemble_volume(
        instances,
        summary,
        time_point=time_point,
        correct=correct,
        progress=progress,
        cancel=cancel,
        on_slice=on_slice,
    )


def _load_other(
    summary: SeriesSummary,
    instances: Sequence[InstanceRef],
    time_point: int,
    progress: Progress,
    on_slice: OnSlice | None,
) -> Volume:
    """Load what isn't DICOM under the identity that the index gave it."""
    progress("Reading the file", 0.0)
    volume = _read_other([instance.file for instance in instances], time_point)
    codes = {issue.code for issue in volume.issues}
    volume = dataclasses.replace(
        volume,
        modality=summary.modality,
        series_uid=summary.series_uid,
        study_uid=summary.study_uid,
        description=summary.description,
        body_part=summary.body_part,
        issues=volume.issues + tuple(issue for issue in summary.issues if issue.code not in codes),
    )
    if on_slice is not None:
        middle = volume.geometry.shape_kji[0] // 2
        on_slice(middle, volume.geometry, volume.voxels[middle])
    progress("Reading the file", 1.0)
    return volume


def _read_other(files: Sequence[Path], time_point: int) -> Volume:
    first = files[0]
    if is_nifti(first):
        return read_nifti(first, time_point)
    if is_nrrd(first):
        return read_nrrd(first, time_point, data_file=files[1] if len(files) > 1 else None)
    if is_picture(first):
        return read_image(first) if len(files) == 1 else read_pictures(files)
    raise InputError(
        "file.unknown_format", "The file is neither NIfTI, NRRD nor a picture.", "Import the file again."
    )


def as_suv(volume: Volume) -> Volume:
    """Return a PET volume as SUV by body weight.

    Raises
    ------
    InputError
        ``pet.no_suv`` with the name of what is missing.
    """
    if volume.suvbw_factor is None:
        why = next((issue.message for issue in volume.issues if issue.code == "pet.no_suv"), "")
        raise InputError(
            "pet.no_suv",
            why or f"SUV is for PET; this is a {volume.modality} series.",
            "Export the values as they are, or ask the scanner for complete headers.",
        )
    voxels = (volume.voxels * np.float64(volume.suvbw_factor)).astype(np.float32)
    return dataclasses.replace(volume, voxels=voxels, units="SUVbw")


def export_volume(
    engine: Engine,
    series_uid: str,
    out: Path,
    *,
    time_point: int = 0,
    suv: bool = False,
    correct: bool = True,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Write the assembled volume as NIfTI with its geometry kept; see ``load_volume``.

    Parameters
    ----------
    suv : bool
        Write PET as SUV by body weight.

    Returns
    -------
    dict
        The document of ``overread volume``: shape_kji, spacing_mm (i, j, k), lps_from_ijk (4 × 4 rows), min, max,
        units, time_point, time_points, slice_times_ms, frame_times_ms, missing_slices, suvbw_factor, issues, file.
    """
    volume = load_volume(
        engine, series_uid, time_point=time_point, correct=correct, progress=progress, cancel=cancel
    )
    if suv:
        volume = as_suv(volume)
    write_nifti(out, volume.geometry, volume.voxels, description=f"{volume.modality} {volume.units}")
    low, high = volume.value_range()
    return {
        "shape_kji": list(volume.geometry.shape_kji),
        "spacing_mm": list(volume.geometry.spacing_ijk_mm),
        "lps_from_ijk": volume.geometry.lps_from_ijk.tolist(),
        "min": low,
        "max": high,
        "units": volume.units,
        "time_point": volume.time_point,
        "time_points": volume.time_points,
        "slice_times_ms": list(volume.slice_times_ms),
        "frame_times_ms": list(volume.frame_times_ms),
        "missing_slices": list(volume.missing_slices),
        "suvbw_factor": volume.suvbw_factor,
        "issues": [{"code": issue.code, "message": issue.message} for issue in volume.issues],
        "file": str(out),
    }
