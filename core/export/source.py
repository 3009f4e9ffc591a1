"""The images that an exported object is derived from: their headers, one per slice of the grid.

Slices of the grid are matched to instances by Image Position (Patient), never by file order, name or
instance number. Headers are copies: gaps that the standard's writers stumble over are mended in them,
the files themselves are never touched.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from core.config.sealed_file import open_plain
from core.domain.errors import InputError, SafetyError
from core.domain.geometry import VolumeGeometry
from core.export.identifiers import new_uid
from core.export.identity_modules import mend_header

IDENTITY_KEYWORDS = (
    "StudyInstanceUID",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
)
_REMEDY_NIFTI = "Export as nifti instead: it needs no DICOM source."


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """Headers of the source, in the order of the grid's slices.

    Attributes
    ----------
    headers : tuple of Dataset
        One per slice k for single-frame images; exactly one for a multi-frame image; without pixels.
    frame_of_slice : tuple of int
        For a multi-frame source the 0-based frame of each slice k; empty otherwise.
    geometry : VolumeGeometry or None
        The grid that was matched; None for images without a position in the patient.
    positions_lps_mm : numpy.ndarray
        ``(K, 3)`` float64 Image Position (Patient) of each slice k; empty when ``geometry`` is None.
    character_set : str, tuple of str or None
        Specific Character Set (0008,0005) of the files. The headers are decoded and no longer carry it.
    identity : mapping
        Patient and study as plain text, for the read-back: objects that inherit from a header share its
        elements, so a header cannot bear witness against them.
    """

    headers: tuple[Dataset, ...]
    frame_of_slice: tuple[int, ...]
    geometry: VolumeGeometry | None
    positions_lps_mm: NDArray[np.float64]
    character_set: str | tuple[str, ...] | None = None
    identity: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_multiframe(self) -> bool:
        """Whether the source is one multi-frame image."""
        return bool(self.frame_of_slice)

    @property
    def first(self) -> Dataset:
        """The header that patient and study modules are taken from."""
        return self.headers[0]

    def header_of_slice(self, k: int) -> Dataset:
        """Return the header of the image that holds slice ``k``."""
        return self.headers[0] if self.is_multiframe else self.headers[k]


@dataclass(frozen=True, eq=False)
class _Plane:
    """One frame of the source: its header, 0-based frame, place and orientation."""

    header: Dataset
    frame: int
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    spacing_mm: tuple[float, float] | None


def read_source(files: Sequence[Path], geometry: VolumeGeometry | None) -> SourceSeries:
    """Read the headers of a series and match them to the slices of a grid.

    Parameters
    ----------
    files : sequence of Path
        The DICOM files of the series, in any order. More than the grid needs is allowed.
    geometry : VolumeGeometry or None
        The grid, in the images' own row and column order. None takes every image as it comes (projection
        radiographs and secondary captures, which have no place in the patient).

    Raises
    ------
    InputError
        A file is not DICOM, or identifying attributes are blank (codes ``export.not_dicom``,
        ``export.source_without_uid``).
    SafetyError
        The grid does not lie on the images (codes ``export.grid_differs``, ``export.slice_missing``,
        ``export.slice_ambiguous``).
    """
    headers = [_read_header(file) for file in files]
    if not headers:
        raise InputError("export.no_source", "The series has no DICOM images.", _REMEDY_NIFTI)
    _require_one_series(headers)
    planes = [plane for header in headers for plane in _planes(header)]
    if geometry is None or all(plane.position is None for plane in planes):
        return _without_geometry(headers)
    chosen = _match(planes, geometry)
    frame_of_reference = geometry.frame_of_reference_uid or str(
        chosen[0].header.get("FrameOfReferenceUID", "") or new_uid()
    )
    multiframe = int(headers[0].get("NumberOfFrames", 1) or 1) > 1
    kept = [chosen[0].header] if multiframe else [plane.header for plane in chosen]
    character_set = _character_set(kept[0])
    for header in kept:
        header.FrameOfReferenceUID = frame_of_reference
        if not multiframe and not header.get("SliceThickness"):
            header.SliceThickness = round(geometry.spacing_ijk_mm[2], 6)
        mend_header(header)
    return SourceSeries(
        headers=tuple(kept),
        frame_of_slice=tuple(plane.frame for plane in chosen) if multiframe else (),
        geometry=geometry,
        positions_lps_mm=np.array([plane.position for plane in chosen], dtype=np.float64),
        character_set=character_set,
        identity=_identity(kept[0]),
    )


def _identity(header: Dataset) -> dict[str, str]:
    """Copy what names patient and study."""
    return {keyword: str(header.get(keyword, "") or "") for keyword in IDENTITY_KEYWORDS}


def _character_set(header: Dataset) -> str | tuple[str, ...] | None:
    """Take Specific Character Set as plain strings."""
    value = header.get("SpecificCharacterSet")
    if value is None or isinstance(value, str):
        return str(value) if value else None
    return tuple(str(item) for item in value)


def _read_header(file: Path) -> Dataset:
    """Read a header without pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_plain(file) as stream:
                header = dcmread(stream, stop_before_pixels=True)
            header.remove_private_tags()
            return header
    except InvalidDicomError as error:
        raise InputError(
            "export.not_dicom",
            "The series does not come from DICOM files, so DICOM objects cannot refer to it.",
            _REMEDY_NIFTI,
        ) from error
    except OSError as error:
        raise InputError(
            "export.source_unreadable",
            "A file of the source series can no longer be read.",
            "Check that the disk or folder from which the study was imported is still there.",
        ) from error


def _require_one_series(headers: Sequence[Dataset]) -> None:
    """Refuse blank identifiers and a mixture of series."""
    for keyword, tag in (
        ("StudyInstanceUID", "(0020,000D)"),
        ("SeriesInstanceUID", "(0020,000E)"),
        ("SOPInstanceUID", "(0008,0018)"),
        ("SOPClassUID", "(0008,0016)"),
    ):
        if any(not header.get(keyword) for header in headers):
            raise InputError(
                "export.source_without_uid",
                f"The source images have no {keyword} {tag}; a DICOM object cannot refer to them.",
                _REMEDY_NIFTI,
            )
    if len({(str(h.StudyInstanceUID), str(h.SeriesInstanceUID)) for h in headers}) > 1:
        raise SafetyError(
            "export.mixed_series",
            "The source images belong to more than one series.",
            "Import the study again and run the model on one series.",
        )
    if len({str(h.get("PatientID", "") or "") for h in headers}) > 1:
        raise SafetyError(
            "export.mixed_patients",
            "The source images carry more than one Patient ID (0010,0020).",
            "Check the source series: it mixes patients.",
        )


def _planes(header: Dataset) -> list[_Plane]:
    """List the frames of an image with their place in the patient."""
    frames = int(header.get("NumberOfFrames", 1) or 1)
    if "PerFrameFunctionalGroupsSequence" not in header:
        place = (
            header.get("ImagePositionPatient"),
            header.get("ImageOrientationPatient"),
            header.get("PixelSpacing"),
        )
        return [_Plane(header, frame, *_numbers(*place)) for frame in range(frames)]
    shared = (
        header.SharedFunctionalGroupsSequence[0]
        if header.get("SharedFunctionalGroupsSequence")
        else Dataset()
    )
    return [
        _Plane(header, frame, *_functional_group_place(groups, shared))
        for frame, groups in enumerate(header.PerFrameFunctionalGroupsSequence)
    ]


def _functional_group_place(groups: Dataset, shared: Dataset) -> tuple:
    """Take position, orientation and spacing from per-frame groups, else from the shared ones."""

    def value(sequence: str, keyword: str) -> object:
        for item in (groups, shared):
            if item.get(sequence):
                return item[sequence].value[0].get(keyword)
        return None

    return _numbers(
        value("PlanePositionSequence", "ImagePositionPatient"),
        value("PlaneOrientationSequence", "ImageOrientationPatient"),
        value("PixelMeasuresSequence", "PixelSpacing"),
    )


def _numbers(position: object, orientation: object, spacing: object) -> tuple:
    """Turn the three elements into arrays, None where absent or of the wrong length."""

    def array(value: object, size: int) -> NDArray[np.float64] | None:
        if value is None or isinstance(value, str):
            return None
        numbers = np.array([float(v) for v in value], dtype=np.float64)  # type: ignore[attr-defined]
        return numbers if numbers.shape == (size,) else None

    pair = array(spacing, 2)
    return (
        array(position, 3),
        array(orientation, 6),
        None if pair is None else (float(pair[0]), float(pair[1])),
    )


def _without_geometry(headers: Sequence[Dataset]) -> SourceSeries:
    """Take images that have no place in the patient, in instance order."""
    ordered = sorted(headers, key=lambda h: (int(h.get("InstanceNumber") or 0), str(h.SOPInstanceUID)))
    character_set = _character_set(ordered[0])
    for header in ordered:
        mend_header(header)
    return SourceSeries(tuple(ordered), (), None, np.empty((0, 3)), character_set, _identity(ordered[0]))


def _match(planes: Sequence[_Plane], geometry: VolumeGeometry) -> list[_Plane]:
    """Find for each slice of the grid the one plane at its position."""
    count = geometry.shape_kji[0]
    found: list[_Plane | None] = [None] * count
    for plane in planes:
        if plane.position is None or plane.orientation is None or plane.spacing_mm is None:
            continue
        offset_ijk = geometry.ijk_of([plane.position])[0]
        k = round(float(offset_ijk[2]))
        # Half a voxel: slices of real series are not placed on an exactly regular grid.
        if not 0 <= k < count or np.abs(offset_ijk - (0, 0, k)).max() > 0.5:
            continue
        _require_same_raster(plane, geometry)
        earlier = found[k]
        if earlier is not None and (earlier.header.SOPInstanceUID, earlier.frame) != (
            plane.header.SOPInstanceUID,
            plane.frame,
        ):
            raise _two_at_one_slice(earlier, plane, k, count)
        found[k] = plane
    missing = [k for k, plane in enumerate(found) if plane is None]
    if missing:
        raise SafetyError(
            "export.slice_missing",
            f"{len(missing)} of {count} slices of the result have no source image at their position "
            f"(first: slice {missing[0] + 1}).",
            "Check Image Position (0020,0032) of the series; export as nifti if the result was resampled.",
        )
    return [plane for plane in found if plane is not None]


def _two_at_one_slice(first: _Plane, second: _Plane, k: int, count: int) -> SafetyError:
    """Return the error for two images that belong to one slice of the grid."""
    if first.position is not None and second.position is not None:
        distance = float(np.linalg.norm(first.position - second.position))
        if distance > 1e-2:
            return SafetyError(
                "export.irregular_stack",
                f"The images are not equally spaced: two, {distance:.2f} mm apart, belong to slice {k + 1} of {count}.",
                "Export as nifti; DICOM objects need a result on the images' own slices.",
            )
    return SafetyError(
        "export.slice_ambiguous",
        f"Two images of the series lie at slice {k + 1} of {count}; it is unclear which was analysed.",
        "Export as nifti, or split the series by time or echo and run the model again.",
    )


def _require_same_raster(plane: _Plane, geometry: VolumeGeometry) -> None:
    """Refuse a grid whose rows and columns are not those of the image."""
    header = plane.header
    rows, columns = int(header.Rows), int(header.Columns)
    assert plane.orientation is not None and plane.spacing_mm is not None
    axes = np.column_stack(
        [plane.orientation[:3] * plane.spacing_mm[1], plane.orientation[3:] * plane.spacing_mm[0]]
    )
    # Half a voxel at the far corner, so that the overlay never leaves its voxel.
    drift = np.abs((axes - geometry.lps_from_ijk[:3, :2]) * (columns, rows)).max()
    if (rows, columns) != geometry.shape_kji[1:] or drift > 0.5 * min(geometry.spacing_ijk_mm):
        raise SafetyError(
            "export.grid_differs",
            "The result's rows and columns are not those of the source images.",
            "Export as nifti, or run the model again on this series.",
        )
