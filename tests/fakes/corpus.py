"""Many small instances with realistic headers, written fast: one template per series, patched per instance."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from tests.fakes.dicom_files import CT_IMAGE, MR_IMAGE, UID_ROOT, empty_dataset, set_pixels

INSTANCES_PER_SERIES = 80
SERIES_PER_STUDY = 5
FILES_PER_FOLDER = 400
SIDES = (64, 96, 128)


def write_corpus(folder: Path, instances: int) -> list[Path]:
    """Write ``instances`` files without suffix in nested folders, as on a medium.

    Every third study has its files mixed over folders in the order of acquisition number instead of a folder per
    series. Identity is fictitious and marked as such.
    """
    files: list[Path] = []
    per_study = INSTANCES_PER_SERIES * SERIES_PER_STUDY
    for study in range(-(-instances // per_study)):
        templates = [_template(study, series) for series in range(SERIES_PER_STUDY)]
        mixed = study % 3 == 2
        place = folder / f"DICOM/{study:08X}"
        for number in range(min(per_study, instances - study * per_study)):
            series, k = number % SERIES_PER_STUDY, number // SERIES_PER_STUDY
            if not mixed:
                series, k = number // INSTANCES_PER_SERIES, number % INSTANCES_PER_SERIES
            part = f"{number // FILES_PER_FOLDER:08X}" if mixed else f"{series:08X}"
            path = place / part / f"{number:08X}"
            if number % 50 == 0 or not files or files[-1].parent != path.parent:
                path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_patched(templates[series], study, series, k))
            files.append(path)
    return files


def _template(study: int, series: int) -> bytes:
    """Return a whole file of the series."""
    is_ct = (study + series) % 2 == 0
    data = empty_dataset(CT_IMAGE if is_ct else MR_IMAGE, f"{UID_ROOT}.7")
    data.StudyInstanceUID = f"{UID_ROOT}.5.{study}"
    data.SeriesInstanceUID = f"{UID_ROOT}.5.{study}.{series}"
    data.FrameOfReferenceUID = f"{UID_ROOT}.5.{study}.9"
    data.PatientID = f"MARKER-{study // 2:05d}"
    data.PatientName = f"PLANTED^MARKER {study // 2}"
    data.StudyDate = f"20{10 + study % 15:02d}{1 + study % 12:02d}{1 + study % 28:02d}"
    data.StudyDescription = f"corpus study {study}"
    data.SeriesDescription = f"corpus series {series}"
    data.Modality = "CT" if is_ct else "MR"
    data.SeriesNumber = series + 1
    data.InstanceNumber = 1
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.BodyPartExamined = "ABDOMEN"
    data.Manufacturer = "Fictitious"
    data.ManufacturerModelName = "Synthetic 1"
    data.InstitutionName = "Nowhere"
    data.ContentDate = data.AcquisitionDate = data.SeriesDate = data.StudyDate
    data.ContentTime = data.AcquisitionTime = data.SeriesTime = "101213.250000"
    data.SoftwareVersions = ["a1", "b2", "c3"]
    data.KVP = "120"
    data.ExposureTime, data.XRayTubeCurrent = "500", "212"
    data.ConvolutionKernel = "B30f"
    data.PatientPosition = "HFS"
    data.SliceThickness = "1.5"
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = ["-120.5", "-130.25", "0"]
    data.SliceLocation = "0"
    data.PixelSpacing = ["1.25", "1.25"]
    data.RescaleIntercept, data.RescaleSlope = ("-1024", "1") if is_ct else ("0", "1")
    data.WindowCenter, data.WindowWidth = ["40", "-600"], ["400", "1500"]
    data.RequestAttributesSequence = Sequence([_step(n) for n in range(2)])
    data.ReferencedImageSequence = Sequence([_reference(n) for n in range(6)])
    data.ProcedureCodeSequence = Sequence([_code()])
    _add_private(data)
    side = SIDES[(study + series) % len(SIDES)]
    j, i = np.mgrid[0:side, 0:side]
    set_pixels(data, ((i - side / 2) ** 2 + (j - side / 2) ** 2 < (side / 3) ** 2).astype(np.int16) * 1064)
    stream = io.BytesIO()
    assert data.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    data.save_as(stream, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return stream.getvalue()


def _patched(template: bytes, study: int, series: int, k: int) -> bytes:
    """Give a template the values of one instance; as on real media, their lengths differ from file to file."""
    uid = f"{UID_ROOT}.7.{study}.{series}.{k + 1}"
    height = f"{k * 1.5 - 60:g}"
    moment = f"1012{k % 60:02d}.{(k * 7919) % 1000000:06d}".rstrip("0")
    data = template
    for group, element, vr, value in (
        (0x0002, 0x0003, b"UI", uid),
        (0x0008, 0x0018, b"UI", uid),
        (0x0008, 0x0032, b"TM", moment),
        (0x0008, 0x0033, b"TM", moment),
        (0x0018, 0x1151, b"IS", str(90 + (k * 37) % 400)),
        (0x0020, 0x0013, b"IS", str(k + 1)),
        (0x0020, 0x0032, b"DS", f"-120.5\\-130.25\\{height}"),
        (0x0020, 0x1041, b"DS", height),
    ):
        data = _with_value(
            data, struct.pack("<HH2s", group, element, vr), value, b"\0" if vr == b"UI" else b" "
        )
    (meta_bytes,) = struct.unpack_from("<I", data, 140)
    grown = meta_bytes + _even(uid) - _even(f"{UID_ROOT}.7")
    return data[:140] + struct.pack("<I", grown) + data[144:]


def _even(value: str) -> int:
    return len(value) + len(value) % 2


def _with_value(data: bytes, head: bytes, value: str, padding: bytes) -> bytes:
    """Replace the value of the first element with ``head`` (tag and a VR with a short length)."""
    at = data.index(head)
    (length,) = struct.unpack_from("<H", data, at + 6)
    new = value.encode() + padding * (len(value) % 2)
    return data[:at] + head + struct.pack("<H", len(new)) + new + data[at + 8 + length :]


def _add_private(data: Dataset) -> None:
    """Add what scanners add: blocks of their own, text and binary, some kilobytes together."""
    first = data.private_block(0x0029, "FICTITIOUS CSA", create=True)
    first.add_new(0x10, "OB", bytes(range(256)) * 10)
    first.add_new(0x20, "OB", bytes(range(256)) * 6)
    second = data.private_block(0x0051, "FICTITIOUS MR", create=True)
    for number in range(12):
        second.add_new(number, "LO", f"value {number} of a private block")
    third = data.private_block(0x0019, "FICTITIOUS SCAN", create=True)
    for number in range(24):
        third.add_new(number, "DS", f"{number * 1.5:.4f}")


def _reference(number: int) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = CT_IMAGE
    item.ReferencedSOPInstanceUID = f"{UID_ROOT}.6.{number}"
    return item


def _code() -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "CT1", "99X", "Fictitious procedure"
    return item


def _step(number: int) -> Dataset:
    item = Dataset()
    item.RequestedProcedureID = f"RP{number}"
    item.ScheduledProcedureStepID = f"SPS{number}"
    item.ScheduledProcedureStepDescription = "Fictitious step"
    item.ScheduledProtocolCodeSequence = Sequence([_code()])
    return item
