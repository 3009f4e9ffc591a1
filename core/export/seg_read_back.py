"""Read-back of a written SEG, by other means than it was written.

The bits are unpacked here from the file's Pixel Data and placed by the positions in the file, so an error
in the writer's frame order, bit order or geometry cannot cancel itself out. Works frame by frame: peak
memory beyond the file's own bytes is one frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from core.domain.segmentation import Segmentation
from core.export.exported import differs, require_identity
from core.export.source import SourceSeries


def verify_seg(
    path: Path, segmentation: Segmentation, source: SourceSeries, numbers: Mapping[int, int]
) -> None:
    """Compare a SEG file with the label map it was made from.

    Every voxel of every segment on the source grid, the source image each frame refers to, the segments'
    codes and labels, the frame of reference, and each segment's centroid in LPS computed from the file's own
    geometry (within half a voxel; the method that found a mirrored SEG in TotalSegmentator, PR 598).

    Raises
    ------
    SafetyError
        Code ``export.read_back``.
    """
    dataset = dcmread(path)
    _compare_header(dataset, segmentation, source, numbers)
    value_of = {number: value for value, number in numbers.items()}
    seen = dict.fromkeys(numbers, 0)
    moments = {value: np.zeros(3) for value in numbers}
    index_sums = {value: np.zeros(3) for value in numbers}
    for frame, (groups, mask) in enumerate(_frames(dataset)):
        value = value_of[_segment_number(dataset, groups)]
        k = _slice_of(frame, dataset, groups, source)
        if not np.array_equal(mask, segmentation.labels[k] == value):
            raise differs("seg", f"voxels of segment {numbers[value]} on slice {k + 1}")
        count, column_sum, row_sum = _index_sums(mask)
        seen[value] += count
        index_sums[value] += (column_sum, row_sum, k * count)
        moments[value] += _moment((count, column_sum, row_sum), dataset, groups)
    wanted = label_counts(segmentation.labels)
    for value, number in numbers.items():
        if seen[value] != wanted[value]:
            raise differs("seg", f"segment {number} has {seen[value]} voxels instead of {wanted[value]}")
        if source.geometry is not None:
            centroid = segmentation.geometry.lps_of([index_sums[value] / seen[value]])[0]
            _compare_centroid(segmentation, number, moments[value] / seen[value], centroid)


def label_counts(labels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.int64]:
    """Count the voxels of each label value, slice by slice (a count at once would need 8 bytes a voxel)."""
    size = int(labels.max(initial=0)) + 1
    return sum((np.bincount(plane.reshape(-1), minlength=size) for plane in labels), np.zeros(size, np.int64))


def _compare_header(
    dataset: Dataset, segmentation: Segmentation, source: SourceSeries, numbers: Mapping[int, int]
) -> None:
    """Compare identity, frame of reference and segment descriptions."""
    require_identity("seg", dataset, source)
    if dataset.get("FrameOfReferenceUID") != source.first.get("FrameOfReferenceUID"):
        raise differs("seg", "the frame of reference is not the source's")
    described = {
        int(item.SegmentNumber): (
            item.SegmentLabel,
            item.SegmentedPropertyTypeCodeSequence[0].CodeValue,
        )
        for item in dataset.SegmentSequence
    }
    wanted = {}
    for value, number in numbers.items():
        segment = segmentation.definition(value)
        wanted[number] = (segment.label[:64].strip(), segment.code.value)
    if described != wanted:
        raise differs("seg", "labels or codes of the segments")


def _frames(dataset: Dataset) -> Iterator[tuple[Dataset, NDArray[np.bool_]]]:
    """Yield each frame's functional groups and its ``(rows, columns)`` mask.

    Frames are packed bit by bit without padding, least significant bit first. Source: DICOM PS3.5 8.1.1.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    size = rows * columns
    packed = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    for frame, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        first = frame * size
        bits = np.unpackbits(packed[first // 8 : -(-(first + size) // 8)], bitorder="little")
        yield groups, bits[first % 8 : first % 8 + size].reshape(rows, columns).view(np.bool_)


def _item(dataset: Dataset, groups: Dataset, sequence: str) -> Dataset:
    """Return a functional group of a frame, per-frame first, then shared."""
    if sequence in groups:
        return groups[sequence].value[0]
    return dataset.SharedFunctionalGroupsSequence[0][sequence].value[0]


def _segment_number(dataset: Dataset, groups: Dataset) -> int:
    """Return the segment that a frame belongs to."""
    return int(_item(dataset, groups, "SegmentIdentificationSequence").ReferencedSegmentNumber)


def _slice_of(frame: int, dataset: Dataset, groups: Dataset, source: SourceSeries) -> int:
    """Return the slice k that a frame lies on, by position, and check the image it refers to."""
    if source.geometry is None:
        k = 0
    else:
        position = np.array(
            _item(dataset, groups, "PlanePositionSequence").ImagePositionPatient, dtype=np.float64
        )
        distance = np.linalg.norm(source.positions_lps_mm - position, axis=1)
        k = int(np.argmin(distance))
        if distance[k] > 1e-2:
            raise differs("seg", f"position of frame {frame + 1}")
    derivation = groups.get("DerivationImageSequence")
    references = derivation[0].SourceImageSequence if derivation else []
    wanted = source.header_of_slice(k).SOPInstanceUID
    if len(references) != 1 or references[0].ReferencedSOPInstanceUID != wanted:
        raise differs("seg", f"source image of frame {frame + 1}")
    if source.is_multiframe and int(references[0].ReferencedFrameNumber) != source.frame_of_slice[k] + 1:
        raise differs("seg", f"source frame of frame {frame + 1}")
    return k


def _index_sums(mask: NDArray[np.bool_]) -> tuple[int, float, float]:
    """Return the number of voxels of a frame and the sums of their column and row indices."""
    by_row = mask.sum(axis=1, dtype=np.int64)
    by_column = mask.sum(axis=0, dtype=np.int64)
    return (
        int(by_row.sum()),
        float(by_column @ np.arange(len(by_column))),
        float(by_row @ np.arange(len(by_row))),
    )


def _moment(sums: tuple[int, float, float], dataset: Dataset, groups: Dataset) -> NDArray[np.float64]:
    """Return the sum of the LPS positions in mm of a frame's voxels, by the file's own geometry.

    Source: DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.
    """
    count, column_sum, row_sum = sums
    if not _has_place(dataset, groups):
        return np.zeros(3)
    position = np.array(
        _item(dataset, groups, "PlanePositionSequence").ImagePositionPatient, dtype=np.float64
    )
    orientation = _item(dataset, groups, "PlaneOrientationSequence").ImageOrientationPatient
    cosines = np.array(orientation, dtype=np.float64)
    row_mm, column_mm = (float(v) for v in _item(dataset, groups, "PixelMeasuresSequence").PixelSpacing)
    return position * count + cosines[:3] * column_mm * column_sum + cosines[3:] * row_mm * row_sum


def _has_place(dataset: Dataset, groups: Dataset) -> bool:
    """Whether a frame has a position in the patient."""
    return (
        "PlanePositionSequence" in groups
        or "PlanePositionSequence" in dataset.SharedFunctionalGroupsSequence[0]
    )


def _compare_centroid(
    segmentation: Segmentation,
    number: int,
    found_lps_mm: NDArray[np.float64],
    wanted_lps_mm: NDArray[np.float64],
) -> None:
    """Refuse a centroid that is more than half a voxel away."""
    distance = float(np.linalg.norm(found_lps_mm - wanted_lps_mm))
    if distance > 0.5 * min(segmentation.geometry.spacing_ijk_mm):
        raise differs("seg", f"centroid of segment {number} is {distance:.2f} mm away")
