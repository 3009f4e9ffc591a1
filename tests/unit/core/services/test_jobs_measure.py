"""Measures against numbers that can be worked out by hand, findings in a stable order."""

from __future__ import annotations

import numpy as np
import pytest

from core.bundles.manifest import Findings
from core.domain.coding import CodedConcept
from core.domain.geometry import VolumeGeometry
from core.domain.result import ClassProbability
from core.domain.segmentation import Segmentation, SegmentDefinition
from core.domain.volume import Volume
from core.services.measure import (
    boxes_of,
    find_in_classes,
    find_in_segments,
    largest_diameter_mm,
    measure_segments,
)
from tests.fakes.bundles import classification_manifest, make_image, segmentation_manifest

CODE = CodedConcept("123037004", "SCT", "Anatomical Structure")
OBLIQUE = np.array([[0.0, 0.6, 0.8], [1.0, 0.0, 0.0], [0.0, 0.8, -0.6]])


def segmentation(labels: np.ndarray, geometry: VolumeGeometry) -> Segmentation:
    names = {1: "Soft tissue", 2: "Bone", 3: "Absent"}
    segments = tuple(SegmentDefinition(v, n, CODE, CODE, (1, 2, 3)) for v, n in names.items())
    return Segmentation(geometry, labels.astype(np.uint8), segments)


def grid(
    shape: tuple[int, int, int], spacing: tuple[float, float, float] = (0.5, 2.0, 3.0)
) -> VolumeGeometry:
    return VolumeGeometry.from_axes(shape, spacing, OBLIQUE, (10.0, -20.0, 30.0))


def test_volume_centroid_and_mean_are_those_of_the_voxels() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, (7, 9, 11)).astype(np.uint8)
    geometry = grid(labels.shape)
    voxels = rng.integers(-1000, 1000, labels.shape).astype(np.int16)
    measures = measure_segments(Volume(geometry, voxels, "CT", "1.2"), segmentation(labels, geometry))
    for measure in measures[:2]:
        inside = np.argwhere(labels == measure.value)
        assert measure.voxels == len(inside)
        assert measure.volume_ml == pytest.approx(len(inside) * 3.0 / 1000.0)
        assert measure.mean_hu == pytest.approx(float(voxels[labels == measure.value].mean()))
        expected = geometry.lps_of(inside[:, ::-1]).mean(axis=0)
        assert measure.centroid_lps_mm == pytest.approx(tuple(expected))
    absent = measures[2]
    assert (absent.voxels, absent.volume_ml, absent.centroid_lps_mm, absent.mean_hu) == (0, 0.0, None, None)


def test_colour_has_no_mean() -> None:
    labels = np.ones((2, 3, 4), np.uint8)
    volume = Volume(grid((2, 3, 4)), np.zeros((2, 3, 4, 3), np.uint8), "OT", "1.2")
    assert measure_segments(volume, segmentation(labels, volume.geometry))[0].mean_hu is None


def ball(radius_mm: float, spacing: tuple[float, float, float]) -> tuple[np.ndarray, VolumeGeometry]:
    shape = tuple(int(2 * radius_mm / s) + 5 for s in spacing[::-1])
    geometry = VolumeGeometry.from_axes(shape, spacing, OBLIQUE, (0.0, 0.0, 0.0))  # type: ignore[arg-type]
    k, j, i = np.indices(shape)
    ijk = np.stack([i, j, k], axis=-1) - (np.array(shape[::-1]) - 1) / 2
    return np.linalg.norm(ijk * np.array(spacing), axis=-1) <= radius_mm, geometry


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 2.5)])
def test_the_diameter_of_a_ball_is_its_diameter(spacing: tuple[float, float, float]) -> None:
    mask, geometry = ball(10.0, spacing)
    box = boxes_of(mask.astype(np.uint8))[1]
    assert largest_diameter_mm(mask[box], box, geometry) == pytest.approx(20.0, abs=max(spacing) / 2 + 0.6)


def test_the_diameter_of_a_diagonal_rod_is_its_length() -> None:
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[range(5, 25), range(5, 25), range(5, 25)] = 1
    geometry = grid((30, 30, 30), (1.0, 1.0, 1.0))
    box = boxes_of(labels)[1]
    expected = 19 * np.sqrt(3.0) + 1.0
    assert largest_diameter_mm(labels[box] == 1, box, geometry) == pytest.approx(expected, rel=0.005)


def test_a_single_voxel_has_the_size_of_a_voxel() -> None:
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[1, 1, 1] = 1
    box = boxes_of(labels)[1]
    assert largest_diameter_mm(labels[box] == 1, box, grid((3, 3, 3), (2.0, 2.0, 2.0))) == pytest.approx(2.0)


def lesions() -> Segmentation:
    labels = np.zeros((12, 20, 20), np.uint8)
    labels[1:3, 1:3, 1:3] = 2  # 8 voxels
    labels[3, 3, 3] = 2  # touches it by a corner: 9
    labels[6:9, 10:14, 10:14] = 2  # 48 voxels
    labels[11, 19, 19] = 2  # a speck
    labels[5, 1, 1] = 1
    return segmentation(labels, VolumeGeometry.from_axes((12, 20, 20), (1, 1, 1), np.eye(3), (0.0, 0.0, 0.0)))


def test_components_become_findings_by_falling_volume() -> None:
    found = lesions()
    manifest = segmentation_manifest(findings=Findings(per="component", labels=(2,), min_component_ml=0.005))
    volume = Volume(found.geometry, np.zeros(found.labels.shape, np.int16), "CT", "1.2")
    findings = find_in_segments(manifest, found, measure_segments(volume, found))
    assert [(f.id, f.label, f.kind, f.segment_value) for f in findings] == [
        ("f1", "Bone 1", "lesion", 2),
        ("f2", "Bone 2", "lesion", 2),
    ]
    assert findings[0].volume_ml == pytest.approx(0.048)
    assert findings[0].centroid_lps_mm == pytest.approx((11.5, 11.5, 7.0))
    assert findings[1].volume_ml == pytest.approx(0.009)
    assert findings[0].diameter_mm == pytest.approx(np.sqrt(9 + 9 + 4) + 1.0, rel=0.01)


def test_without_a_choice_of_labels_all_components_count() -> None:
    found = lesions()
    volume = Volume(found.geometry, np.zeros(found.labels.shape, np.int16), "CT", "1.2")
    findings = find_in_segments(
        segmentation_manifest(findings=Findings(per="component")), found, measure_segments(volume, found)
    )
    assert [f.label for f in findings] == ["Soft tissue", "Bone 1", "Bone 2", "Bone 3"]


def test_segments_become_findings_only_where_there_are_voxels() -> None:
    found = lesions()
    volume = Volume(found.geometry, np.zeros(found.labels.shape, np.int16), "CT", "1.2")
    measures = measure_segments(volume, found)
    findings = find_in_segments(segmentation_manifest(), found, measures)
    assert [(f.id, f.label, f.diameter_mm) for f in findings] == [
        ("f1", "Soft tissue", None),
        ("f2", "Bone", None),
    ]
    assert find_in_segments(segmentation_manifest(findings=Findings(per="none")), found, measures) == ()


def test_a_class_is_found_in_the_middle_of_the_image() -> None:
    image = make_image()
    classes = [ClassProbability("Dark", 0.3), ClassProbability("Bright", 0.7)]
    alone = find_in_classes(classification_manifest(), classes, (), image)
    assert [(f.id, f.label, f.kind, f.score) for f in alone] == [("f1", "Bright", "class", 0.7)]
    assert alone[0].centroid_lps_mm == pytest.approx(image.geometry.center_lps_mm)
    both = find_in_classes(classification_manifest(), classes, ("Dark", "Bright"), image)
    assert [(f.id, f.label) for f in both] == [("f1", "Bright"), ("f2", "Dark")]
    assert find_in_classes(classification_manifest(), (), (), image) == ()
