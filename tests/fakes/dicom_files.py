"""Tiny synthetic DICOM files for tests. Identity is fictitious and marked as such."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from core.domain.geometry import VolumeGeometry

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
CR_IMAGE = "1.2.840.10008.5.1.4.1.1.1"
UID_ROOT = "1.2.826.0.1.3680043.8.498.77"
PATIENT_NAME = "PLANTED^MARKER"
CLASSES = {"CT": CT_IMAGE, "MR": MR_IMAGE, "CR": CR_IMAGE}

Override = Any | Callable[[int], Any]


def axial_geometry(
    shape_kji: tuple[int, int, int] = (5, 8, 10),
    spacing_ijk_mm: tuple[float, float, float] = (1.0, 1.0, 2.0),
    origin_lps_mm: tuple[float, float, float] = (-10.0, -20.0, 30.0),
) -> VolumeGeometry:
    """Return an upright axial grid."""
    return VolumeGeometry.from_axes(shape_kji, spacing_ijk_mm, np.eye(3), origin_lps_mm)


def write_stack(
    folder: Path,
    voxels: NDArray,
    geometry: VolumeGeometry | None = None,
    *,
    modality: str = "CT",
    number: int = 1,
    intercept: float = -1024.0,
    slope: float = 1.0,
    descending: bool = False,
    syntax: str = ExplicitVRLittleEndian,
    name: str = "image",
    **overrides: Override,
) -> list[Path]:
    """Write ``(K, J, I)`` values in the modality's units as single-frame files, one per slice.

    Parameters
    ----------
    geometry : VolumeGeometry or None
        Where the slices lie; a sheared grid gives a tilted stack. ``axial_geometry`` by default.
    number : int
        Distinguishes series: it is part of the series and instance UIDs.
    descending : bool
        Number the instances against the order of the slices.
    overrides : keyword=value or keyword=function of k
        Elements to change; None deletes the element.

    Returns
    -------
    list of Path
        The files, in the order of the slices.
    """
    grid = geometry or axial_geometry(voxels.shape[:3])
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(len(voxels)):
        instance = len(voxels) - k if descending else k + 1
        data = slice_dataset(voxels[k], grid, k, modality, number, instance, slope, intercept, syntax)
        for keyword, value in overrides.items():
            given = value(k) if callable(value) else value
            if given is None:
                if keyword in data:
                    delattr(data, keyword)
            else:
                setattr(data, keyword, given)
        path = folder / f"{name}{instance:04d}.dcm"
        save(data, path)
        paths.append(path)
    return paths


def slice_dataset(
    values: NDArray,
    grid: VolumeGeometry,
    k: int,
    modality: str,
    number: int,
    instance: int,
    slope: float = 1.0,
    intercept: float = 0.0,
    syntax: str = ExplicitVRLittleEndian,
) -> FileDataset:
    """Return one single-frame image of int16 stored values."""
    sop_class = CLASSES.get(modality, CT_IMAGE)
    data = empty_dataset(sop_class, f"{UID_ROOT}.{number}.{instance}", syntax)
    data.StudyInstanceUID = f"{UID_ROOT}.1000"
    data.SeriesInstanceUID = f"{UID_ROOT}.2000.{number}"
    data.FrameOfReferenceUID = f"{UID_ROOT}.3000"
    data.Modality = modality
    data.SeriesNumber = number
    data.InstanceNumber = instance
    data.SeriesDescription = f"synthetic {modality}"
    data.BodyPartExamined = "CHEST"
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    axes = grid.direction_ijk
    data.ImageOrientationPatient = [f"{v:.10f}"[:16] for v in (*axes[:, 0], *axes[:, 1])]
    data.ImagePositionPatient = [f"{v:.8f}"[:16] for v in grid.lps_of([(0, 0, k)])[0]]
    spacing_i, spacing_j, _ = grid.spacing_ijk_mm
    data.PixelSpacing = [f"{spacing_j:.8g}", f"{spacing_i:.8g}"]
    data.SliceThickness = f"{abs(float(grid.lps_from_ijk[:3, 2] @ np.cross(axes[:, 0], axes[:, 1]))):.6g}"
    data.RescaleSlope, data.RescaleIntercept = slope, intercept
    stored = np.rint((np.asarray(values, dtype=np.float64) - intercept) / slope).astype(np.int16)
    set_pixels(data, stored)
    return data


def empty_dataset(sop_class: str, sop_instance_uid: str, syntax: str = ExplicitVRLittleEndian) -> FileDataset:
    """Return a data set with file meta information, patient and study, without pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID(f"{UID_ROOT}.9")
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = sop_class
    data.SOPInstanceUID = sop_instance_uid
    data.StudyInstanceUID = f"{UID_ROOT}.1000"
    data.SeriesInstanceUID = f"{UID_ROOT}.2000"
    data.PatientName = PATIENT_NAME
    data.PatientID = "MARKER-0001"
    data.PatientBirthDate = "19700101"
    data.PatientSex = "O"
    data.AccessionNumber = "MARKER-A1"
    data.StudyDate = "20240102"
    data.StudyTime = "101112"
    data.StudyDescription = "synthetic study"
    data.StudyID = "1"
    return data


def set_pixels(data: Dataset, stored: NDArray) -> None:
    """Put integer pixels ``(J, I)``, ``(N, J, I)`` or RGB ``(J, I, 3)`` into a data set."""
    colour = stored.ndim == 3 and stored.shape[-1] == 3 and stored.dtype == np.uint8
    spatial = stored.shape[:2] if colour else stored.shape[-2:]
    if stored.ndim == 3 and not colour:
        data.NumberOfFrames = stored.shape[0]
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        data.PlanarConfiguration = 0
    data.Rows, data.Columns = spatial
    bits = stored.dtype.itemsize * 8
    data.BitsAllocated = data.BitsStored = bits
    data.HighBit = bits - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    raw = stored.tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    data["PixelData"].VR = "OB" if bits == 8 else "OW"


def save(data: FileDataset, path: Path) -> Path:
    """Write a data set in the syntax of its meta information."""
    implicit = data.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    data.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    return path
