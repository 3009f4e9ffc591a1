"""Phantoms as conformant DICOM: CT, MR and computed radiography, single-frame, explicit little endian.

Every identifier follows from a key, so the same phantom is the same study on every machine. What is
written says that it is a phantom: Quality Control Subject (0010,0200) is YES.
Source: DICOM PS3.3 A.2 (CR), A.3 (CT), A.4 (MR).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from core.config.atomic import atomic_path
from core.domain.geometry import VolumeGeometry
from core.phantom.acquisition import Acquisition

_STUDY_DATE = "20260115"
_STUDY_TIME = "101500"
_IMPLEMENTATION_CLASS_UID = "2.25.224563829870283642096823109871456230877"


@dataclass(frozen=True)
class PhantomSubject:
    """Who the phantom pretends to be; invented, and marked as a phantom."""

    patient_name: str = "PHANTOM^THORAX"
    patient_id: str = "PHANTOM-0001"
    birth_date: str = "19700101"
    sex: str = "O"
    age_years: int = 56
    accession_number: str = "PH000001"
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class WrittenStudy:
    """The study that was written; ``files`` in the order of the slices."""

    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    sop_instance_uids: tuple[str, ...]
    files: tuple[Path, ...]


def uid_of(*parts: str) -> str:
    """Return the UID under 2.25 that belongs to ``parts``."""
    digest = hashlib.sha256("\x1f".join(("overread.phantom", *parts)).encode()).digest()
    return f"2.25.{UUID(bytes=digest[:16], version=4).int}"


def write_study(
    voxels: NDArray,
    geometry: VolumeGeometry,
    acquisition: Acquisition,
    subject: PhantomSubject,
    *,
    key: str,
    out: Path,
    file_order: Sequence[int] | None = None,
) -> WrittenStudy:
    """Write one series, one file per slice.

    Parameters
    ----------
    voxels : numpy.ndarray
        ``(K, J, I)`` in the acquisition's units (Hounsfield units for CT), stored minus the intercept in
        twelve bits and clipped to what they hold.
    geometry : VolumeGeometry
        Where the voxels lie; any orientation, shear along the stack allowed. i and j must be
        perpendicular, as Image Orientation (Patient) requires.
    acquisition : Acquisition
        Modality and its technical attributes.
    key : str
        Decides every UID.
    file_order : sequence of int, optional
        Slice of each file, for tests of order independence; ascending by default.
    """
    study_uid, series_uid, frame_uid = (
        uid_of(key, part) for part in ("study", "series", "frame of reference")
    )
    common = _common(geometry, acquisition, subject, study_uid, series_uid, frame_uid)
    stored = np.clip(np.asarray(voxels, dtype=np.int32) - acquisition.intercept, 0, 4095).astype("<u2")
    order = list(range(len(stored))) if file_order is None else list(file_order)
    files, uids = {}, {}
    for number, k in enumerate(order, start=1):
        dataset = Dataset()
        dataset.update(common)
        uids[k] = uid_of(key, "instance", str(k))
        _add_slice(dataset, stored[k], geometry, acquisition, k, number, uids[k])
        files[k] = out / f"{acquisition.modality}{number:04d}.dcm"
        _save(dataset, files[k])
    slices = range(len(stored))
    return WrittenStudy(
        study_uid, series_uid, frame_uid, tuple(uids[k] for k in slices), tuple(files[k] for k in slices)
    )


def _common(
    geometry: VolumeGeometry,
    acquisition: Acquisition,
    subject: PhantomSubject,
    study_uid: str,
    series_uid: str,
    frame_uid: str,
) -> Dataset:
    """Return the modules that all instances share: patient, study, series, equipment, raster, technique."""
    dataset = Dataset()
    values: dict[str, object] = {
        "SpecificCharacterSet": "ISO_IR 100" if _is_latin(subject) else "ISO_IR 192",
        "ImageType": list(acquisition.image_type),
        "InstanceCreationDate": _STUDY_DATE,
        "InstanceCreationTime": _STUDY_TIME,
        "SOPClassUID": UID(acquisition.sop_class_uid),
        "StudyDate": _STUDY_DATE,
        "SeriesDate": _STUDY_DATE,
        "AcquisitionDate": _STUDY_DATE,
        "ContentDate": _STUDY_DATE,
        "StudyTime": _STUDY_TIME,
        "SeriesTime": _STUDY_TIME,
        "AcquisitionTime": _STUDY_TIME,
        "ContentTime": _STUDY_TIME,
        "AccessionNumber": subject.accession_number,
        "Modality": acquisition.modality,
        "Manufacturer": "Overread phantom",
        "ManufacturerModelName": "Procedural anatomy",
        "DeviceSerialNumber": "1",
        "SoftwareVersions": "1",
        "InstitutionName": "Synthetic",
        "ReferringPhysicianName": "",
        "StudyDescription": acquisition.study_description,
        "SeriesDescription": acquisition.series_description,
        "PatientName": subject.patient_name,
        "PatientID": subject.patient_id,
        "PatientBirthDate": subject.birth_date,
        "PatientSex": subject.sex,
        "PatientAge": f"{subject.age_years:03d}Y",
        "QualityControlSubject": "YES",
        "BodyPartExamined": acquisition.body_part,
        "PatientPosition": "HFS",
        "StudyInstanceUID": study_uid,
        "SeriesInstanceUID": series_uid,
        "StudyID": "1",
        "SeriesNumber": acquisition.series_number,
        "AcquisitionNumber": 1,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": geometry.shape_kji[1],
        "Columns": geometry.shape_kji[2],
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "00",
        "ImageComments": "Synthetic phantom, not a patient",
        "WindowCenter": [DSfloat(center) for center, _, _ in acquisition.windows],
        "WindowWidth": [DSfloat(width) for _, width, _ in acquisition.windows],
        "WindowCenterWidthExplanation": [name for _, _, name in acquisition.windows],
        **acquisition.elements,
        **subject.extra,
    }
    if acquisition.in_patient_space:
        values |= {"FrameOfReferenceUID": frame_uid, "PositionReferenceIndicator": ""}
    else:
        del values["PatientPosition"]
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def _is_latin(subject: PhantomSubject) -> bool:
    """Whether the subject's texts fit Latin-1."""
    texts = [
        subject.patient_name,
        subject.patient_id,
        *(v for v in subject.extra.values() if isinstance(v, str)),
    ]
    try:
        "".join(texts).encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _add_slice(
    dataset: Dataset,
    stored: NDArray[np.uint16],
    geometry: VolumeGeometry,
    acquisition: Acquisition,
    k: int,
    number: int,
    sop_instance_uid: str,
) -> None:
    """Add what differs from slice to slice: identity, place and pixels."""
    dataset.SOPInstanceUID = sop_instance_uid
    dataset.InstanceNumber = number
    column_mm, row_mm, slice_mm = geometry.spacing_ijk_mm
    if acquisition.in_patient_space:
        normal = np.cross(geometry.direction_ijk[:, 0], geometry.direction_ijk[:, 1])
        position = geometry.lps_of([[0, 0, k]])[0]
        dataset.ImagePositionPatient = [DSfloat(v, auto_format=True) for v in position]
        dataset.ImageOrientationPatient = [
            DSfloat(v, auto_format=True)
            for v in (*geometry.direction_ijk[:, 0], *geometry.direction_ijk[:, 1])
        ]
        dataset.PixelSpacing = [DSfloat(row_mm, auto_format=True), DSfloat(column_mm, auto_format=True)]
        # Thickness is measured along the normal; a tilted stack advances obliquely.
        thickness = abs(float(normal @ geometry.lps_from_ijk[:3, 2])) or slice_mm
        dataset.SliceThickness = DSfloat(thickness, auto_format=True)
        dataset.SliceLocation = DSfloat(float(normal @ position), auto_format=True)
    else:
        dataset.ImagerPixelSpacing = [DSfloat(row_mm, auto_format=True), DSfloat(column_mm, auto_format=True)]
        dataset.PixelSpacing = dataset.ImagerPixelSpacing
    if acquisition.rescale_type:
        dataset.RescaleIntercept = DSfloat(acquisition.intercept)
        dataset.RescaleSlope = DSfloat(1)
        dataset.RescaleType = acquisition.rescale_type
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"


def _save(dataset: Dataset, path: Path) -> None:
    """Write a Part 10 file with a zero preamble."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = "OVERREAD"
    dataset.file_meta = meta
    dataset.preamble = b"\x00" * 128
    with atomic_path(path) as part:
        dataset.save_as(part, enforce_file_format=True)
