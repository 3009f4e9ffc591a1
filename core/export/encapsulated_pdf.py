"""A PDF report as DICOM Encapsulated PDF, so that the archive can keep it with the study.

Source: DICOM PS3.3 A.45.1, C.24.2.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from core.config.version import app_version
from core.export.exported import ExportedFile, differs, require_identity, write_verified
from core.export.identifiers import MANUFACTURER, PRODUCT, SERIES_NUMBERS, new_uid
from core.export.source import SourceSeries

_SOP_CLASS = UID("1.2.840.10008.5.1.4.1.1.104.1")
# Patient and study attributes that the new object inherits when the source has them.
_INHERITED = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge",
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber",
    "ReferringPhysicianName",
)  # fmt: skip


def write_encapsulated_pdf(content: bytes, source: SourceSeries, out: Path, *, serial: str) -> ExportedFile:
    """Wrap a PDF in a DICOM object of the source's study and read it back.

    Raises
    ------
    SafetyError
        If the read-back differs; no file stays behind.
    EnvironmentFault
        If the folder cannot be written.
    """
    dataset = _dataset(content, source, serial)
    path = write_verified(dataset, out, "report", source, lambda part: _verify(part, content, source))
    return ExportedFile("encapsulated-pdf", path, str(dataset.SOPInstanceUID), True)


def _dataset(content: bytes, source: SourceSeries, serial: str) -> Dataset:
    """Build the object."""
    now = datetime.now()
    dataset = Dataset()
    for keyword in _INHERITED:
        if keyword in source.first:
            dataset[keyword] = source.first[keyword]
    values: dict[str, object] = {
        "SOPClassUID": _SOP_CLASS,
        "SOPInstanceUID": new_uid(),
        "InstanceCreationDate": now.strftime("%Y%m%d"),
        "InstanceCreationTime": now.strftime("%H%M%S"),
        "Modality": "DOC",
        "SeriesInstanceUID": new_uid(),
        "SeriesNumber": SERIES_NUMBERS.pdf,
        "SeriesDescription": "Overread report",
        "InstanceNumber": 1,
        "Manufacturer": MANUFACTURER,
        "ManufacturerModelName": PRODUCT,
        "DeviceSerialNumber": serial,
        "SoftwareVersions": app_version(),
        "ConversionType": "WSD",
        "ContentDate": now.strftime("%Y%m%d"),
        "ContentTime": now.strftime("%H%M%S"),
        "AcquisitionDateTime": "",
        "BurnedInAnnotation": "NO",
        "DocumentTitle": "Report of computer-assisted findings. Not for primary diagnosis.",
        "ConceptNameCodeSequence": [_code("121144", "DCM", "Document Title")],
        "MIMETypeOfEncapsulatedDocument": "application/pdf",
        "EncapsulatedDocument": content + b"\0" * (len(content) % 2),
        "EncapsulatedDocumentLength": len(content),
        "SourceInstanceSequence": [_reference(header) for header in source.headers],
    }
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = _SOP_CLASS
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return one item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _reference(header: Dataset) -> Dataset:
    """Return a reference to a source image."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item


def _verify(path: Path, content: bytes, source: SourceSeries) -> None:
    """Compare the document's bytes and the identity."""
    dataset = dcmread(path)
    if dataset.EncapsulatedDocument[: int(dataset.EncapsulatedDocumentLength)] != content:
        raise differs("pdf", "the encapsulated document")
    require_identity("pdf", dataset, source)
