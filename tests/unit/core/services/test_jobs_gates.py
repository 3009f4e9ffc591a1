"""The gate before a model runs and the read-back after: they refuse, and they say why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.bundles.manifest import Requirements
from core.dicom.shear import straightened
from core.domain.coding import CodedConcept
from core.domain.errors import SafetyError
from core.domain.geometry import VolumeGeometry
from core.domain.result import SegmentMeasure
from core.domain.segmentation import Segmentation, SegmentDefinition
from core.domain.volume import SeriesIssue, Volume
from core.formats.nifti import write_nifti
from core.services.geometry_gate import check_volume
from core.services.measure import measure_segments
from core.services.read_back import check_label_map, check_laterality
from tests.fakes.bundles import classification_manifest, make_image, make_volume, segmentation_manifest

CODE = CodedConcept("123037004", "SCT", "Anatomical Structure")
OBLIQUE = np.array([[0.0, 0.6, 0.8], [1.0, 0.0, 0.0], [0.0, 0.8, -0.6]])
LEFT_HANDED = np.diag([1.0, 1.0, -1.0])


def changed(**changes: object) -> Volume:
    return dataclasses.replace(make_volume(), **changes)  # type: ignore[arg-type]


def test_a_regular_volume_passes() -> None:
    assert check_volume(segmentation_manifest(), make_volume()) == {"spacing": "ok", "regular grid": "ok"}
    assert check_volume(classification_manifest(), make_image()) == {"spacing": "ok"}


def test_slices_that_cannot_be_measured_are_refused_with_their_reason() -> None:
    gap = SeriesIssue("series.gap", "Slice 12 is missing.", blocks_volumetry=True)
    with pytest.raises(SafetyError, match=r"Slice 12 is missing\. \(series\.gap\)") as caught:
        check_volume(segmentation_manifest(), changed(issues=(gap,)))
    assert caught.value.code == "geometry.volumetry"
    tolerant = segmentation_manifest(requirements=Requirements(modalities=("CT",), regular=False))
    assert check_volume(tolerant, changed(issues=(gap,)))


def test_a_sheared_grid_is_refused() -> None:
    volume = make_volume()
    matrix = volume.geometry.lps_from_ijk.copy()
    matrix[1, 2] += 0.5
    sheared = VolumeGeometry(volume.geometry.shape_kji, matrix)
    with pytest.raises(SafetyError) as caught:
        check_volume(segmentation_manifest(), changed(geometry=sheared))
    assert caught.value.code == "geometry.sheared"


def test_a_straightened_stack_is_allowed() -> None:
    volume = make_volume()
    matrix = volume.geometry.lps_from_ijk.copy()
    matrix[1, 2] += 0.5
    sheared = VolumeGeometry(volume.geometry.shape_kji, matrix)
    places = sheared.lps_of([(0, 0, k) for k in range(sheared.shape_kji[0])])
    straight = straightened(changed(geometry=sheared), places)
    assert not straight.geometry.is_sheared
    assert check_volume(segmentation_manifest(), straight)["regular grid"] == "ok"


def test_voxels_that_are_not_numbers_are_refused() -> None:
    voxels = make_volume().voxels.astype(np.float32)
    voxels[0, 0, 0] = np.nan
    with pytest.raises(SafetyError) as caught:
        check_volume(segmentation_manifest(), changed(voxels=voxels))
    assert caught.value.code == "geometry.not_finite"


def made(direction: np.ndarray = OBLIQUE) -> tuple[Segmentation, tuple[SegmentMeasure, ...]]:
    """An off-centre block, near-symmetric under no flip but one (j)."""
    labels = np.zeros((8, 10, 12), np.uint8)
    labels[1:4, 4:6, 2:9] = 1
    labels[6, 4:6, 1] = 2
    geometry = VolumeGeometry.from_axes((8, 10, 12), (0.8, 1.0, 2.5), direction, (5.0, -7.0, 100.0))
    segments = tuple(SegmentDefinition(v, f"part {v}", CODE, CODE, (1, 2, 3)) for v in (1, 2, 3))
    segmentation = Segmentation(geometry, labels, segments)
    volume = Volume(geometry, np.zeros(labels.shape, np.int16), "CT", "1.2")
    return segmentation, measure_segments(volume, segmentation)


@pytest.mark.parametrize("direction", [np.eye(3), OBLIQUE, LEFT_HANDED, np.eye(3)[:, [2, 0, 1]]])
def test_what_was_written_right_reads_back(tmp_path: Path, direction: np.ndarray) -> None:
    segmentation, measures = made(direction)
    file = write_nifti(tmp_path / "l.nii.gz", segmentation.geometry, segmentation.labels)
    checks = check_label_map(file, segmentation, measures)
    assert checks == {"orientation": "ok", "centroids": "ok", "voxels": "ok", "laterality": "not applicable"}


def shifted(geometry: VolumeGeometry, mm: float) -> VolumeGeometry:
    matrix = geometry.lps_from_ijk.copy()
    matrix[0, 3] += mm
    return VolumeGeometry(geometry.shape_kji, matrix)


def turned(geometry: VolumeGeometry) -> VolumeGeometry:
    """The RAS affine written as if it were LPS."""
    return VolumeGeometry(geometry.shape_kji, np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.lps_from_ijk)


def drop(labels: np.ndarray) -> np.ndarray:
    return np.where(labels == 2, 0, labels)


def invent(labels: np.ndarray) -> np.ndarray:
    out = labels.copy()
    out[0, 0, 0] = 9
    return out


Change = Callable[[np.ndarray], np.ndarray]


@pytest.mark.parametrize(
    ("move", "change", "code"),
    [
        (turned, np.copy, "readback.orientation"),
        (lambda g: shifted(g, 0.5), np.copy, "readback.centroid"),
        (np.copy, lambda a: a[::-1], "readback.centroid"),
        (np.copy, lambda a: a[:, :, ::-1], "readback.centroid"),
        (np.copy, lambda a: np.roll(a, 1, axis=1), "readback.centroid"),
        (np.copy, drop, "readback.voxels"),
        (np.copy, invent, "readback.values"),
    ],
)
def test_what_lies_elsewhere_is_refused(tmp_path: Path, move: Callable, change: Change, code: str) -> None:
    segmentation, measures = made()
    geometry = segmentation.geometry if move is np.copy else move(segmentation.geometry)
    file = write_nifti(tmp_path / "l.nii.gz", geometry, np.ascontiguousarray(change(segmentation.labels)))
    with pytest.raises(SafetyError) as caught:
        check_label_map(file, segmentation, measures)
    assert caught.value.code == code


def test_a_mirrored_organ_that_keeps_its_centroid_is_refused(tmp_path: Path) -> None:
    labels = np.zeros((3, 5, 5), np.uint8)
    labels[1, 1, 1] = labels[1, 3, 3] = 1
    geometry = VolumeGeometry.from_axes((3, 5, 5), (1.0, 1.0, 1.0), np.eye(3), (0.0, 0.0, 0.0))
    segmentation = Segmentation(geometry, labels, (SegmentDefinition(1, "part", CODE, CODE, (1, 2, 3)),))
    measures = measure_segments(Volume(geometry, np.zeros((3, 5, 5)), "CT", "1.2"), segmentation)
    file = write_nifti(tmp_path / "l.nii.gz", geometry, np.ascontiguousarray(labels[:, :, ::-1]))
    with pytest.raises(SafetyError) as caught:
        check_label_map(file, segmentation, measures)
    assert caught.value.code == "readback.voxels"


def side(label: str, x_mm: float, volume_ml: float = 2000.0) -> SegmentMeasure:
    return SegmentMeasure(1, label, None, 1000, volume_ml, (x_mm, 0.0, 0.0), -800.0)


def test_left_lies_to_the_left() -> None:
    right_way = [side("Left lung", 80.0), side("Right lung", -75.0), side("Heart", 10.0)]
    assert check_laterality(right_way) == {"laterality": "ok"}
    with pytest.raises(SafetyError, match="left lung lies 155 mm to the right") as caught:
        check_laterality([side("Left lung", -75.0), side("Right lung", 80.0)])
    assert caught.value.code == "readback.laterality"


@pytest.mark.parametrize(
    "measures",
    [
        [side("Left lung", -75.0)],
        [side("Left lung", -75.0), side("Right kidney", 80.0)],
        [side("Left lung", -75.0, 0.01), side("Right lung", 80.0)],
        [side("Heart", 1.0)],
    ],
)
def test_what_has_no_counterpart_has_no_wrong_side(measures: list[SegmentMeasure]) -> None:
    assert check_laterality(measures) == {"laterality": "not applicable"}
