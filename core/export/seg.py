"""DICOM Segmentation (BINARY) from a label map.

BINARY rather than LABELMAP: archives and validators in use today know it. Each frame takes its place
from the source image of its slice, so that a gantry tilt or a slightly irregular stack stays exact.
Source: DICOM PS3.3 A.51, C.8.20.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from core.config.version import app_version
from core.domain.errors import InputError
from core.domain.result import ModelIdentity, Verdict
from core.domain.segmentation import Segmentation, SegmentDefinition
from core.export.concepts import (
    ARTIFICIAL_INTELLIGENCE,
    PRIVATE_SCHEME,
    VERDICT_VALUES,
    concept,
    private_coding_scheme,
)
from core.export.exported import ExportedFile, quiet_writers, translated, write_verified
from core.export.identifiers import (
    INTENDED_USE,
    MANUFACTURER,
    PRODUCT,
    SERIES_NUMBERS,
    new_uid,
    tracking_uid,
)
from core.export.seg_read_back import label_counts, verify_seg
from core.export.source import SourceSeries


@dataclass(frozen=True)
class SegmentAuthor:
    """Who drew the segments: a model, or nobody but a program or person (``model`` None).

    ``edited_values`` are label values whose voxels a reader changed: they are SEMIAUTOMATIC.
    """

    model: ModelIdentity | None = None
    edited_values: frozenset[int] = frozenset()
    reader: str = ""


@dataclass(frozen=True, eq=False)
class WrittenSeg:
    """A written SEG: the file, its header for later evidence, and segment numbers by label value."""

    file: ExportedFile
    header: Dataset
    segment_numbers: Mapping[int, int]
    tracking: Mapping[int, tuple[str, str]]


@dataclass(frozen=True)
class ObjectPlace:
    """Identifiers of the object to write; random where not given (a phantom gives its own)."""

    series_uid: str = ""
    sop_instance_uid: str = ""
    series_number: int = SERIES_NUMBERS.seg
    serial: str = "0"


def write_seg(
    segmentation: Segmentation,
    source: SourceSeries,
    out: Path,
    *,
    result_id: str,
    author: SegmentAuthor,
    tracking_keys: Mapping[int, str] | None = None,
    verdicts: Mapping[int, Verdict] | None = None,
    place: ObjectPlace | None = None,
    description: str = "",
) -> WrittenSeg:
    """Write a label map as DICOM SEG beside its source and read it back.

    Parameters
    ----------
    segmentation : Segmentation
        Label map on the grid of ``source``.
    source : SourceSeries
        The images, matched to the grid by ``read_source``.
    out : Path
        Folder for the file.
    result_id : str
        Entropy of the tracking UIDs: the SR of the same result uses the same ones.
    tracking_keys : mapping of int to str, optional
        Finding id by label value; ``segment:<value>`` where absent.
    verdicts : mapping of int to Verdict, optional
        The reader's verdict by label value; stands in Segment Description (0062,0006). A rejected segment is
        left out: what the reader refused does not go back to the archive as a contour (the SR says so).

    Raises
    ------
    InputError
        Nothing is segmented, all of it was rejected, or the source does not allow a SEG.
    SafetyError
        The read-back differs; no file stays behind.
    """
    place = place or ObjectPlace()
    if source.geometry is None and len(source.headers) > 1:
        raise InputError(
            "export.no_geometry",
            "The source images have no position in the patient (0020,0032).",
            "Export as nifti instead.",
        )
    present = _present_segments(segmentation)
    if not present:
        raise InputError(
            "export.nothing_segmented",
            "The label map is empty: there is no segment to write.",
            "Export as sr or csv to state that nothing was found.",
        )
    rejected = {value for value, verdict in (verdicts or {}).items() if verdict is Verdict.REJECT}
    refused = [s.label for s in present if s.value in rejected]
    present = [s for s in present if s.value not in rejected]
    if not present:
        raise InputError(
            "export.all_rejected",
            "Every segment was rejected: there is no segment to write.",
            "Export as sr or csv to state the verdicts.",
        )
    numbers = {segment.value: number for number, segment in enumerate(present, start=1)}
    keys = tracking_keys or {}
    tracking = {
        s.value: (s.label[:64], str(tracking_uid(result_id, keys.get(s.value, f"segment:{s.value}"))))
        for s in present
    }
    with quiet_writers(), translated("seg"):
        dataset = hd.seg.Segmentation(
            source_images=list(source.headers),
            pixel_array=_frames(segmentation, source, numbers),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _description(s, numbers[s.value], tracking[s.value], author) for s in present
            ],
            series_instance_uid=place.series_uid or new_uid(),
            series_number=place.series_number,
            sop_instance_uid=place.sop_instance_uid or new_uid(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=PRODUCT,
            software_versions=app_version(),
            device_serial_number=place.serial,
            content_description=(description or _content_description(author))[:64],
            content_creator_name=author.reader or None,
            content_label="SEGMENTATION",
            series_description=(description or "Overread segmentation")[:64],
            omit_empty_frames=True,
            specific_character_set=None,
            coding_schemes=_coding_schemes(present),
        )
        if source.geometry is None:
            # Type 2C: required, possibly empty, where no orientation in the patient is given.
            dataset.PatientOrientation = source.first.get("PatientOrientation", "") or ""
        for value, verdict in (verdicts or {}).items():
            if value in numbers:
                dataset.SegmentSequence[numbers[value] - 1].SegmentDescription = VERDICT_VALUES[
                    verdict
                ].meaning
    path = write_verified(
        dataset, out, "seg", source, lambda part: verify_seg(part, segmentation, source, numbers)
    )
    skipped = [s.label for s in segmentation.segments if s.value not in numbers]
    skipped = [label for label in skipped if label not in refused]
    notes = tuple(
        f"{why} segments left out: {', '.join(labels)}"
        for why, labels in (("empty", skipped), ("rejected", refused))
        if labels
    )
    file = ExportedFile("seg", path, str(dataset.SOPInstanceUID), True, notes)
    del dataset.PixelData
    return WrittenSeg(file, dataset, numbers, tracking)


def _present_segments(segmentation: Segmentation) -> list[SegmentDefinition]:
    """List the defined segments that have voxels; refuse voxels without a definition."""
    counts = label_counts(segmentation.labels)
    defined = {segment.value for segment in segmentation.segments}
    unknown = [int(v) for v in np.flatnonzero(counts) if v != 0 and int(v) not in defined]
    if unknown:
        raise InputError(
            "export.undefined_label",
            f"The label map holds the value {unknown[0]}, which no segment defines.",
            "Correct the labels in the model's manifest.",
        )
    return [s for s in segmentation.segments if s.value < len(counts) and counts[s.value] > 0]


def _frames(segmentation: Segmentation, source: SourceSeries, numbers: Mapping[int, int]) -> NDArray[Any]:
    """Return the label map with consecutive segment numbers, one plane per source frame in source order.

    Values without a number (rejected segments) become background.
    """
    labels: NDArray[Any] = segmentation.labels
    highest = int(labels.max(initial=0))
    if highest > len(numbers) or any(value != number for value, number in numbers.items()):
        table = np.zeros(highest + 1, dtype=np.uint8 if len(numbers) < 256 else np.uint16)
        for value, number in numbers.items():
            table[value] = number
        labels = table[labels]
    if not source.is_multiframe:
        return labels
    frames = np.zeros((int(source.first.NumberOfFrames), *labels.shape[1:]), dtype=labels.dtype)
    frames[list(source.frame_of_slice)] = labels
    return frames


def _description(
    segment: SegmentDefinition, number: int, tracking: tuple[str, str], author: SegmentAuthor
) -> hd.seg.SegmentDescription:
    """Describe one segment. Source: DICOM PS3.3 C.8.20.4."""
    types = hd.seg.SegmentAlgorithmTypeValues
    kind, identification = types.MANUAL, None
    if author.model is not None:
        kind = types.SEMIAUTOMATIC if segment.value in author.edited_values else types.AUTOMATIC
        identification = hd.AlgorithmIdentificationSequence(
            name=(author.model.title or author.model.id)[:64],
            family=ARTIFICIAL_INTELLIGENCE,
            version=author.model.version[:64],
            source=MANUFACTURER,
            parameters={"model_id": author.model.id, "weights_sha256": author.model.sha256},
        )
    red, green, blue = segment.color_rgb
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label[:64],
        segmented_property_category=concept(segment.category),
        segmented_property_type=concept(segment.code),
        algorithm_type=kind,
        algorithm_identification=identification,
        tracking_id=tracking[0],
        tracking_uid=tracking[1],
        anatomic_regions=[concept(segment.anatomic_region)] if segment.anatomic_region else None,
        display_color=hd.color.CIELabColor.from_rgb(red, green, blue),
    )


def _content_description(author: SegmentAuthor) -> str:
    """State the model and the intended use within the 64 characters of VR LO."""
    who = f"{author.model.id} {author.model.version}. " if author.model else ""
    return who + INTENDED_USE


def _coding_schemes(segments: list[SegmentDefinition]) -> list[CodingSchemeIdentificationItem] | None:
    """Declare the private scheme when a segment uses it."""
    used = {code.scheme for s in segments for code in (s.code, s.category, s.anatomic_region) if code}
    return [private_coding_scheme()] if PRIVATE_SCHEME in used else None
