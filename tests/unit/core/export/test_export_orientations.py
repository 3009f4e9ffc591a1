"""SEG, SR, PM and NIfTI keep every voxel's place in all orientations, orders and tilts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from core.domain.explanation import Explanation
from core.export.pm import write_parametric_map
from core.export.seg import SegmentAuthor, write_seg
from core.export.source import read_source
from core.export.sr import write_sr
from core.formats.nifti import read_nifti, write_nifti
from tests.fakes.marked_phantom import (
    MODEL,
    SPACING_IJK_MM,
    MarkedPhantom,
    facts,
    grid,
    orientations,
    write_marked,
)

HALF_VOXEL_MM = 0.5 * min(SPACING_IJK_MM)
DIRECTIONS = orientations()


def centroid_of_label(phantom: MarkedPhantom, value: int) -> np.ndarray:
    k, j, i = np.nonzero(phantom.segmentation.labels == value)
    return phantom.geometry.lps_of(np.column_stack([i, j, k])).mean(axis=0)


def frame_points(dataset, frame: int, mask: np.ndarray) -> np.ndarray:
    """LPS positions of a frame's voxels by PS3.3 equation C.7.6.2.1-1, from the file alone."""
    groups, shared = (
        dataset.PerFrameFunctionalGroupsSequence[frame],
        dataset.SharedFunctionalGroupsSequence[0],
    )
    position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    row_mm, column_mm = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    rows, columns = np.nonzero(mask)
    return position + np.outer(columns * column_mm, cosines[:3]) + np.outer(rows * row_mm, cosines[3:])


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("tilt_deg", [-15.0, 0.0, 15.0])
@pytest.mark.parametrize("index", range(len(DIRECTIONS)))
def test_objects_lie_where_the_voxels_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: int, tilt_deg: float, descending: bool
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    phantom = write_marked(tmp_path / "ct", grid(DIRECTIONS[index], tilt_deg=tilt_deg), descending=descending)
    files = sorted(phantom.study.files)
    source = read_source(files, phantom.geometry)
    seg = write_seg(
        phantom.segmentation, source, tmp_path, result_id="result-1", author=SegmentAuthor(MODEL),
        tracking_keys={2: "f2", 5: "f5"},
    )  # fmt: skip
    check_seg(phantom, seg.file.path, seg.segment_numbers)
    back = read_nifti(write_nifti(tmp_path / "map.nii.gz", phantom.geometry, phantom.segmentation.labels))
    assert np.array_equal(back.voxels, phantom.segmentation.labels)
    corners = phantom.geometry.corners_ijk()
    assert np.abs(back.geometry.lps_of(corners) - phantom.geometry.lps_of(corners)).max() < 1e-3
    if (index + descending) % 2:
        # The report and the map take their places from the same source as the segmentation; every orientation
        # and tilt in one of the two orders keeps the suite short.
        return
    check_sr(phantom, write_sr(facts(phantom), source, tmp_path, seg=seg).path)
    heat = (phantom.segmentation.labels == 5).astype(np.float32)
    explanation = Explanation(phantom.geometry, heat, "gradcam", "Spleen", "layer", (2.0, 2.0, 2.0))
    check_pm(phantom, write_parametric_map(explanation, source, tmp_path, model=MODEL).path)


def check_seg(phantom: MarkedPhantom, path: Path, numbers) -> None:
    dataset = dcmread(path)
    by_uid = {str(d.SOPInstanceUID): d for d in (dcmread(f) for f in phantom.study.files)}
    points: dict[int, list] = {number: [] for number in numbers.values()}
    for frame, mask in enumerate(dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)):
        groups = dataset.PerFrameFunctionalGroupsSequence[frame]
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        reference = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        source = by_uid[str(reference)]
        value = next(v for v, n in numbers.items() if n == number)
        hounsfield = source.pixel_array.astype(int) + int(source.RescaleIntercept)
        assert np.array_equal(mask == 1, hounsfield // 100 == value), (
            "the frame does not overlay its source image"
        )
        assert groups.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
        points[number].append(frame_points(dataset, frame, mask))
    for value, number in numbers.items():
        centroid = np.vstack(points[number]).mean(axis=0)
        assert np.linalg.norm(centroid - centroid_of_label(phantom, value)) <= HALF_VOXEL_MM


def check_sr(phantom: MarkedPhantom, path: Path) -> None:
    found = {}
    imaging = [c for c in dcmread(path).ContentSequence if c.ValueType == "CONTAINER"]
    for group in (
        g for container in imaging for g in container.ContentSequence if g.ValueType == "CONTAINER"
    ):
        label = next(i.TextValue for i in group.ContentSequence if i.ValueType == "TEXT")
        for item in group.ContentSequence:
            if item.ValueType == "SCOORD3D":
                found[label] = item.GraphicData
    assert set(found) == {"Liver", "Spleen"}
    for label, value in (("Liver", 2), ("Spleen", 5)):
        assert (
            np.linalg.norm(np.array(found[label], float) - centroid_of_label(phantom, value)) <= HALF_VOXEL_MM
        )


def check_pm(phantom: MarkedPhantom, path: Path) -> None:
    dataset = dcmread(path)
    values = np.frombuffer(dataset.FloatPixelData, "<f4").reshape(-1, dataset.Rows, dataset.Columns)
    points = np.vstack([frame_points(dataset, frame, plane > 0.5) for frame, plane in enumerate(values)])
    assert len(points) == int((phantom.segmentation.labels == 5).sum())
    assert np.linalg.norm(points.mean(axis=0) - centroid_of_label(phantom, 5)) <= HALF_VOXEL_MM
