"""Parametric Map (float32) of a heat map, on the source images' own grid.

Source: DICOM PS3.3 A.75; the quantity is Saliency (DCM 130404) without unit, 0 … 1.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from core.config.version import app_version
from core.domain.errors import InputError, SafetyError
from core.domain.explanation import Explanation
from core.domain.result import ModelIdentity
from core.export.concepts import NO_UNITS, SALIENCY
from core.export.exported import (
    ExportedFile,
    differs,
    quiet_writers,
    require_identity,
    translated,
    write_verified,
)
from core.export.identifiers import INTENDED_USE, MANUFACTURER, PRODUCT, SERIES_NUMBERS, new_uid
from core.export.source import SourceSeries

_TOLERANCE = 1e-6
_AXES = {
    "L": (1.0, 0.0, 0.0),
    "R": (-1.0, 0.0, 0.0),
    "P": (0.0, 1.0, 0.0),
    "A": (0.0, -1.0, 0.0),
    "H": (0.0, 0.0, 1.0),
    "F": (0.0, 0.0, -1.0),
}
"""Direction in LPS of each letter of Patient Orientation. Source: DICOM PS3.3 C.7.6.1.1.1."""


def write_parametric_map(
    explanation: Explanation,
    source: SourceSeries,
    out: Path,
    *,
    model: ModelIdentity,
    serial: str = "0",
    instance_number: int = 1,
) -> ExportedFile:
    """Write a heat map as Parametric Map and read it back.

    Parameters
    ----------
    explanation : Explanation
        Heat 0 … 1 on the grid of ``source``.
    source : SourceSeries
        The images, matched to the same grid by ``read_source``.
    out : Path
        Folder for the file.

    Raises
    ------
    InputError
        The source does not allow a Parametric Map.
    SafetyError
        The heat map is not on the images' grid, or the read-back differs; no file stays behind.
    """
    images = [_in_own_frame(source)] if source.geometry is None else list(source.headers)
    with quiet_writers(), translated("pm"):
        dataset = hd.pm.ParametricMap(
            source_images=images,
            pixel_array=_frames(explanation, source),
            series_instance_uid=new_uid(),
            series_number=SERIES_NUMBERS.pm,
            sop_instance_uid=new_uid(),
            instance_number=instance_number,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=PRODUCT,
            software_versions=app_version(),
            device_serial_number=serial,
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[_mapping(explanation)],
            voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
            content_description=f"{model.id} {model.version}. {INTENDED_USE}"[:64],
            content_label="HEATMAP",
            series_description=f"Overread {explanation.method}: {explanation.class_label}"[:64],
            image_flavor=hd.pm.ImageFlavorValues.VOLUME,
            derived_pixel_contrast=hd.pm.DerivedPixelContrastValues.QUANTITY,
        )
        dataset.ImageComments = _comment(explanation, source)
        _complete_series(dataset, source)
    path = write_verified(dataset, out, "pm", source, lambda part: verify_pm(part, explanation, source))
    return ExportedFile("pm", path, str(dataset.SOPInstanceUID), True)


def _in_own_frame(source: SourceSeries) -> Dataset:
    """Return the header of a projection with coordinates of its own.

    The IOD demands a position, a projection has none in the patient: the map gets a frame of reference that
    nothing else shares, with the axes that Patient Orientation (0020,0020) names.
    """
    if len(source.headers) != 1:
        raise InputError(
            "export.no_geometry",
            "A heat map on several images without position cannot be a Parametric Map.",
            "Export as nifti instead.",
        )
    header = copy.copy(source.first)
    header.FrameOfReferenceUID = new_uid()
    letters = [str(v)[:1] for v in header.get("PatientOrientation") or ()]
    known = len(letters) == 2 and all(letter in _AXES for letter in letters)
    row, column = (_AXES[letter] for letter in letters) if known else (_AXES["L"], _AXES["P"])
    header.ImageOrientationPatient = [*row, *column]
    header.ImagePositionPatient = [0.0, 0.0, 0.0]
    spacing = header.get("PixelSpacing") or header.get("ImagerPixelSpacing") or ()
    header.PixelSpacing = (
        list(spacing) if len(spacing) == 2 and all(float(v) > 0 for v in spacing) else [1.0, 1.0]
    )
    header.SliceThickness = 1.0
    return header


def _complete_series(dataset: Dataset, source: SourceSeries) -> None:
    """Add body part and laterality as the source has them.

    Laterality (0020,0060) is type 2C: an unpaired body part needs none, an unknown one an empty value.
    """
    if source.first.get("BodyPartExamined"):
        dataset.BodyPartExamined = source.first.BodyPartExamined
    if source.first.get("Laterality"):
        dataset.Laterality = source.first.Laterality
    elif not source.first.get("BodyPartExamined"):
        dataset.Laterality = ""


def _mapping(explanation: Explanation) -> hd.pm.RealWorldValueMapping:
    """Return the identity mapping of stored values to saliency."""
    return hd.pm.RealWorldValueMapping(
        lut_label=explanation.method.upper()[:16],
        lut_explanation=f"Saliency of {explanation.class_label}"[:64],
        unit=NO_UNITS,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=SALIENCY,
    )


def _comment(explanation: Explanation, source: SourceSeries) -> str:
    """Say how fine the map really is, and whether the sanity check passed."""
    i, j, k = explanation.resolution_mm
    check = {True: "passed", False: "failed", None: "not done"}[explanation.sanity_passed]
    own = " Coordinates are local to the image." if source.geometry is None else ""
    return f"True resolution {i:.1f} x {j:.1f} x {k:.1f} mm. Weight randomisation check: {check}.{own} {INTENDED_USE}"


def _frames(explanation: Explanation, source: SourceSeries) -> NDArray[np.float32]:
    """Return the heat in the order of the source's frames."""
    if source.geometry is None and explanation.geometry.shape_kji != (
        len(source.headers),
        int(source.first.Rows),
        int(source.first.Columns),
    ):
        raise SafetyError(
            "export.grid_differs",
            "The heat map does not have the rows and columns of the source image.",
            "Explain the result again, or export as nifti.",
        )
    heat = np.ascontiguousarray(explanation.heat, dtype=np.float32)
    if not source.is_multiframe:
        return heat
    frames = np.zeros((int(source.first.NumberOfFrames), *heat.shape[1:]), dtype=np.float32)
    frames[list(source.frame_of_slice)] = heat
    return frames


def verify_pm(path: Path, explanation: Explanation, source: SourceSeries) -> None:
    """Compare a Parametric Map file with the heat map: values, places, identity.

    Raises
    ------
    SafetyError
        Code ``export.read_back``.
    """
    dataset = dcmread(path)
    require_identity("pm", dataset, source)
    if source.geometry is not None and dataset.FrameOfReferenceUID != source.first.FrameOfReferenceUID:
        raise differs("pm", "the frame of reference is not the source's")
    seen = np.zeros(explanation.geometry.shape_kji[0], dtype=bool)
    for frame, (position, values) in enumerate(_read_frames(dataset)):
        k = _slice_of(frame, position, source)
        if k is None:
            continue
        if not np.allclose(values, explanation.heat[k], rtol=0, atol=_TOLERANCE):
            raise differs("pm", f"values on slice {k + 1}")
        seen[k] = True
    if not seen.all():
        raise differs("pm", f"{int((~seen).sum())} slices are missing")
    _compare_axes(dataset, explanation, source)


def _read_frames(dataset: Dataset) -> Iterator[tuple[NDArray[np.float64] | None, NDArray[np.float32]]]:
    """Yield position and ``(rows, columns)`` values of each frame."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    stored = np.frombuffer(dataset.FloatPixelData, dtype="<f4").reshape(-1, rows, columns)
    for groups, values in zip(dataset.PerFrameFunctionalGroupsSequence, stored, strict=True):
        item = groups.get("PlanePositionSequence") or dataset.SharedFunctionalGroupsSequence[0].get(
            "PlanePositionSequence"
        )
        yield (np.array(item[0].ImagePositionPatient, dtype=np.float64) if item else None), values


def _slice_of(frame: int, position: NDArray[np.float64] | None, source: SourceSeries) -> int | None:
    """Return the slice of a frame by position; None for a source frame outside the grid."""
    if source.geometry is None:
        return frame
    if position is None:
        raise differs("pm", f"frame {frame + 1} has no position")
    distance = np.linalg.norm(source.positions_lps_mm - position, axis=1)
    k = int(np.argmin(distance))
    if distance[k] > 1e-2:
        if source.is_multiframe:
            return None
        raise differs("pm", f"position of frame {frame + 1}")
    return k


def _compare_axes(dataset: Dataset, explanation: Explanation, source: SourceSeries) -> None:
    """Compare the direction and spacing of rows and columns; half a voxel at the far corner is the limit."""
    if source.geometry is None:
        return
    shared = dataset.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=np.float64)
    row_mm, column_mm = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    axes = np.column_stack([cosines[:3] * column_mm, cosines[3:] * row_mm])
    drift = np.abs(
        (axes - explanation.geometry.lps_from_ijk[:3, :2]) * explanation.geometry.shape_ijk[:2]
    ).max()
    if drift > 0.5 * min(explanation.geometry.spacing_ijk_mm):
        raise differs("pm", "orientation or spacing of the rows and columns")
