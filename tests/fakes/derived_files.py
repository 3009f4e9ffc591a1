"""Synthetic segmentations, written by hand so that reader and writer share no code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as Items

from core.dicom.derived.grid import TargetGrid
from core.dicom.layout import lay_out
from core.dicom.reading import read_header
from core.domain.geometry import VolumeGeometry
from tests.fakes.dicom_files import UID_ROOT, empty_dataset, save

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
SOURCE_SERIES = f"{UID_ROOT}.2000.1"
FRAME_OF_REFERENCE = f"{UID_ROOT}.3000"

Frame = tuple[int, NDArray, VolumeGeometry, int]
"""Segment number, ``(rows, columns)`` stored values, the grid and the slice k whose plane it lies on."""


def grid_of(files: Sequence[Path]) -> TargetGrid:
    """Return the grid of single-frame or multi-frame images as acquired."""
    headers = [read_header(file) for file in files]
    layout = lay_out(headers)
    return TargetGrid(
        layout.geometry,
        headers[0].series_uid,
        tuple(headers[n].sop_instance_uid for n, _ in layout.frames),
        tuple(frame for _, frame in layout.frames),
        layout.positioned,
    )


def frames_of_labels(labels: NDArray, grid: VolumeGeometry, values: Sequence[int]) -> list[Frame]:
    """Return one frame for each value and slice where it occurs, on the grid's own planes."""
    return [
        (value, plane == value, grid, k)
        for value in values
        for k, plane in enumerate(labels)
        if (plane == value).any()
    ]


def seg_dataset(
    frames: Sequence[Frame],
    numbers: Sequence[int],
    *,
    kind: str = "BINARY",
    bits: int = 1,
    frame_of_reference: str = FRAME_OF_REFERENCE,
    source_series: str = SOURCE_SERIES,
    images: Sequence[str] = (),
    positions: bool = True,
    maximum: int = 255,
) -> FileDataset:
    """Return a SEG. ``images`` are the source images by slice k, if frames shall name them."""
    data = empty_dataset(LABEL_MAP if kind == "LABELMAP" else SEGMENTATION, f"{UID_ROOT}.8.1")
    data.SeriesInstanceUID = f"{UID_ROOT}.2000.8"
    data.Modality = "SEG"
    data.SegmentationType = kind
    if frame_of_reference:
        data.FrameOfReferenceUID = frame_of_reference
    if source_series:
        reference = Dataset()
        reference.SeriesInstanceUID = source_series
        data.ReferencedSeriesSequence = Items([reference])
    data.SegmentSequence = Items([segment_item(number) for number in numbers])
    data.NumberOfFrames = len(frames)
    data.Rows, data.Columns = frames[0][1].shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = bits
    data.HighBit = bits - 1
    if kind == "FRACTIONAL":
        data.MaximumFractionalValue, data.SegmentationFractionalType = maximum, "PROBABILITY"
    data.SharedFunctionalGroupsSequence = Items([Dataset()])
    data.PerFrameFunctionalGroupsSequence = Items(
        [_groups(frame, kind, images, positions) for frame in frames]
    )
    data.PixelData = _pixels([frame[1] for frame in frames], bits)
    data["PixelData"].VR = "OB" if bits <= 8 else "OW"
    return data


def write_seg_file(path: Path, frames: Sequence[Frame], numbers: Sequence[int], **options: object) -> Path:
    """Write ``seg_dataset``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(seg_dataset(frames, numbers, **options), path)  # type: ignore[arg-type]


def segment_item(number: int) -> Dataset:
    """Return a segment's description."""
    item = Dataset()
    item.SegmentNumber, item.SegmentLabel, item.SegmentAlgorithmType = number, f"Mark {number}", "MANUAL"
    item.SegmentedPropertyCategoryCodeSequence = Items([code("123037004", "SCT", "Anatomical Structure")])
    item.SegmentedPropertyTypeCodeSequence = Items([code("10200004", "SCT", "Liver")])
    return item


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return a code."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _groups(frame: Frame, kind: str, images: Sequence[str], positions: bool) -> Dataset:
    number, _, grid, k = frame
    item = Dataset()
    if positions:
        position, orientation, measures = Dataset(), Dataset(), Dataset()
        axes = grid.direction_ijk
        position.ImagePositionPatient = [f"{v:.10g}" for v in grid.lps_of([(0, 0, k)])[0]]
        orientation.ImageOrientationPatient = [f"{v:.10g}" for v in (*axes[:, 0], *axes[:, 1])]
        spacing_i, spacing_j, spacing_k = grid.spacing_ijk_mm
        measures.PixelSpacing = [f"{spacing_j:.10g}", f"{spacing_i:.10g}"]
        measures.SliceThickness = measures.SpacingBetweenSlices = f"{spacing_k:.10g}"
        item.PlanePositionSequence = Items([position])
        item.PlaneOrientationSequence = Items([orientation])
        item.PixelMeasuresSequence = Items([measures])
    if kind != "LABELMAP":
        identification = Dataset()
        identification.ReferencedSegmentNumber = number
        item.SegmentIdentificationSequence = Items([identification])
    if images:
        reference, derivation = Dataset(), Dataset()
        reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        reference.ReferencedSOPInstanceUID = images[k]
        derivation.SourceImageSequence = Items([reference])
        item.DerivationImageSequence = Items([derivation])
    return item


def _pixels(planes: Sequence[NDArray], bits: int) -> bytes:
    stacked = np.stack(planes)
    if bits == 1:
        raw = np.packbits(stacked.astype(np.uint8).ravel(), bitorder="little").tobytes()
    else:
        raw = stacked.astype(np.uint8 if bits == 8 else "<u2").tobytes()
    return raw + b"\0" * (len(raw) % 2)
