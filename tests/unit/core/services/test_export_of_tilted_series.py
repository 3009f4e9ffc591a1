"""What was marked on a straightened volume lies in the exported SEG where it lay in the patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from core.domain.explanation import Explanation
from core.domain.geometry import VolumeGeometry
from core.domain.result import Finding, ModelResult
from core.domain.segmentation import Segmentation
from core.services.acquired_grid import acquired_grid, segmentation_on
from core.services.engine import open_engine
from core.services.export_result import export_result
from core.services.import_study import import_paths
from core.services.list_studies import get_series
from core.services.load_volume import load_volume
from core.services.measure import measure_segments
from core.services.results import store_explanation, store_result
from tests.fakes.marked_phantom import MODEL, SEGMENTS, SPACING_IJK_MM, grid, orientations, write_marked
from tests.fakes.validators import dciodvfy_errors


def centroids(labels: NDArray, geometry: VolumeGeometry) -> dict[int, NDArray]:
    return {
        int(value): geometry.lps_of(np.argwhere(labels == value)[:, ::-1]).mean(axis=0)
        for value in np.unique(labels)
        if value
    }


def exported_centroids(path: Path) -> dict[int, NDArray]:
    """Read a SEG by its own geometry."""
    data = dcmread(path)
    numbers = {item.SegmentNumber: item.SegmentLabel for item in data.SegmentSequence}
    shared = data.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    points: dict[str, list[NDArray]] = {}
    frames = np.atleast_3d(data.pixel_array).reshape(-1, data.Rows, data.Columns)
    for frame, item in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(item.PlanePositionSequence[0].ImagePositionPatient, float)
        label = numbers[item.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
        for j, i in np.argwhere(frame):
            place = position + orientation[:3] * spacing[1] * i + orientation[3:] * spacing[0] * j
            points.setdefault(label, []).append(place)
    values = {segment.label: segment.value for segment in SEGMENTS}
    return {values[label]: np.mean(found, axis=0) for label, found in points.items()}


@pytest.mark.parametrize("tilt_deg", [-18.5, 12.0])
@pytest.mark.parametrize("orientation", [0, 7, 16])
def test_marks_come_back_within_half_a_voxel(tmp_path: Path, tilt_deg: float, orientation: int) -> None:
    phantom = write_marked(tmp_path / "ct", grid(orientations()[orientation], tilt_deg=tilt_deg))
    with open_engine(tmp_path / "home", actor="Rita") as engine:
        key = import_paths(engine, [tmp_path / "ct"]).studies[0].series[0].key
        volume = load_volume(engine, key)
        assert not volume.geometry.is_sheared
        assert volume.allows_volumetry
        marked = segmentation_on(phantom.segmentation, volume.geometry)
        truth = Segmentation(volume.geometry, marked.labels, SEGMENTS)
        measures = measure_segments(volume, truth)
        findings = tuple(
            Finding(f"f{m.value}", m.label, "segment", m.centroid_lps_mm, 5.0, m.volume_ml, None, m.value)
            for m in measures
            if m.voxels
        )
        result = ModelResult(
            "r1",
            phantom.study.study_uid,
            key,
            MODEL,
            "segmentation",
            "cpu",
            segments=measures,
            findings=findings,
        )
        store_result(engine, result, truth)
        heat = (marked.labels == 2).astype(np.float32)
        store_explanation(
            engine, "r1", Explanation(volume.geometry, heat, "gradcam", "Liver", "layer", (2.0, 2.0, 2.0))
        )
        files = export_result(engine, "r1", ["seg", "sr", "pm", "kos", "nifti"], tmp_path / "out")
        assert all(file.verified for file in files)
        assert all(dciodvfy_errors(f.path) == [] for f in files if f.path.suffix == ".dcm")
        expected = centroids(phantom.segmentation.labels, phantom.geometry)
        found = exported_centroids(files[0].path)
        assert found.keys() == expected.keys()
        for value, place in found.items():
            assert np.linalg.norm(place - expected[value]) < 0.5 * min(SPACING_IJK_MM)
        acquired = acquired_grid(volume.geometry, *get_series(engine, key))
        assert acquired.same_grid_as(phantom.geometry, 1e-3)


def test_an_upright_grid_is_left_alone(tmp_path: Path) -> None:
    phantom = write_marked(tmp_path / "ct")
    with open_engine(tmp_path / "home") as engine:
        key = import_paths(engine, [tmp_path / "ct"]).studies[0].series[0].key
        geometry = load_volume(engine, key).geometry
        assert acquired_grid(geometry, *get_series(engine, key)) is geometry
        assert segmentation_on(phantom.segmentation, geometry) is phantom.segmentation
