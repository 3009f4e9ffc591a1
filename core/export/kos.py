"""Key Object Selection: the images that show what was found and not rejected.

Source: DICOM PS3.3 A.35.4, PS3.16 TID 2010.
"""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from core.config.version import app_version
from core.domain.errors import InputError
from core.domain.result import Verdict
from core.export.exported import (
    ExportedFile,
    differs,
    quiet_writers,
    require_identity,
    translated,
    write_verified,
)
from core.export.identifiers import INTENDED_USE, MANUFACTURER, PRODUCT, SERIES_NUMBERS, new_uid
from core.export.observers import device_observer, person_observer
from core.export.report_facts import ReportFacts
from core.export.source import SourceSeries


def write_kos(facts: ReportFacts, source: SourceSeries, out: Path) -> ExportedFile:
    """Write the selection and read it back.

    Raises
    ------
    InputError
        No finding with a place is left that was not rejected, or the source does not allow the object.
    SafetyError
        The read-back differs; no file stays behind.
    """
    images = _key_images(facts, source)
    if not images:
        raise InputError(
            "export.no_key_images",
            "No finding is left that was not rejected, so there is no key image.",
            "Export as sr to state the verdicts.",
        )
    with quiet_writers(), translated("kos"):
        dataset = hd.ko.KeyObjectSelectionDocument(
            evidence=images,
            content=hd.ko.KeyObjectSelection(
                document_title=codes.DCM.OfInterest,
                referenced_objects=images,
                observer_person_context=person_observer(facts),
                observer_device_context=device_observer(facts),
                description=f"{facts.result.model.id} {facts.result.model.version}. {INTENDED_USE}",
            ),
            series_instance_uid=new_uid(),
            series_number=SERIES_NUMBERS.kos,
            sop_instance_uid=new_uid(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=PRODUCT,
            software_versions=app_version(),
            device_serial_number=facts.serial,
            series_description="Overread key images",
        )
    path = write_verified(dataset, out, "kos", source, lambda part: _verify(part, images, source))
    return ExportedFile("kos", path, str(dataset.SOPInstanceUID), True)


def _key_images(facts: ReportFacts, source: SourceSeries) -> list[Dataset]:
    """Return the image through the centre of each finding that was not rejected, each image once.

    A class has no place: it selects the image where there is only one.
    """
    chosen: dict[str, Dataset] = {}
    for finding in facts.result.findings:
        if facts.verdict(finding) is Verdict.REJECT:
            continue
        if source.geometry is not None and finding.centroid_lps_mm is not None:
            height = float(source.geometry.ijk_of([finding.centroid_lps_mm])[0, 2])
            k = int(np.clip(round(height), 0, source.geometry.shape_kji[0] - 1))
            header = source.header_of_slice(k)
        elif len(source.headers) == 1:
            header = source.first
        else:
            continue
        chosen.setdefault(str(header.SOPInstanceUID), header)
    return list(chosen.values())


def _verify(path: Path, images: list[Dataset], source: SourceSeries) -> None:
    """Compare identity and the selected images."""
    dataset = dcmread(path)
    require_identity("kos", dataset, source)
    named = [
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in dataset.ContentSequence
        if item.ValueType == "IMAGE"
    ]
    if named != [str(image.SOPInstanceUID) for image in images]:
        raise differs("kos", "the selected images")
