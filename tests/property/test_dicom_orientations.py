"""An asymmetric phantom keeps its place in the patient through DICOM and NIfTI, however it was scanned."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.dicom.assemble import assemble_volume
from core.dicom.scan import scan_paths
from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume
from core.formats.nifti import read_nifti, write_nifti
from tests.fakes.dicom_files import axial_geometry, write_stack

SHAPE_KJI = (8, 10, 12)
SPACING_IJK_MM = (0.8, 1.1, 2.0)
MARKS_IJK = {900: (2, 3, 1), 700: (10, 3, 1), 500: (2, 8, 1), 300: (2, 3, 6)}


def signed_permutations() -> list[np.ndarray]:
    """Return the 24 rotations of the cube as direction matrices (columns i, j, k)."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            for column, (axis, sign) in enumerate(zip(order, signs, strict=True)):
                matrix[axis, column] = sign
            if np.linalg.det(matrix) > 0:
                found.append(matrix)
    return found


def phantom() -> np.ndarray:
    values = np.full(SHAPE_KJI, -800, dtype=np.int16)
    values[1:7, 2:9, 1:11] = 20
    for value, (i, j, k) in MARKS_IJK.items():
        values[k, j, i] = value
    return values


def tilted(direction: np.ndarray, tilt_deg: float) -> VolumeGeometry:
    upright = VolumeGeometry.from_axes(SHAPE_KJI, SPACING_IJK_MM, direction, (11.0, -22.0, 33.0))
    matrix = upright.lps_from_ijk.copy()
    matrix[:3, 2] += direction[:, 1] * SPACING_IJK_MM[2] * np.tan(np.radians(tilt_deg))
    return VolumeGeometry(SHAPE_KJI, matrix)


def load(folder: Path) -> Volume:
    (series,) = scan_paths([folder]).series
    return assemble_volume(series.instances, series.summary)


def marks_of(volume: Volume) -> dict[int, np.ndarray]:
    found = {}
    for value in MARKS_IJK:
        (where,) = np.argwhere(volume.voxels == value)
        found[value] = volume.geometry.lps_of([where[::-1]])[0]
    return found


@pytest.mark.parametrize("tilt_deg", [-15.0, 0.0, 15.0])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("number", range(24))
def test_marks_stay_where_they_were_written(
    tmp_path: Path, number: int, descending: bool, tilt_deg: float
) -> None:
    direction = signed_permutations()[number]
    grid = tilted(direction, tilt_deg)
    write_stack(tmp_path / "in", phantom(), grid, descending=descending)
    volume = load(tmp_path / "in")

    for value, place in marks_of(volume).items():
        expected = grid.lps_of([MARKS_IJK[value]])[0]
        assert np.abs(place - expected).max() < 1e-3
    assert volume.geometry.axis_codes() == grid.axis_codes()
    assert any(issue.code == "geometry.tilt" for issue in volume.issues) == (tilt_deg != 0.0)
    assert volume.geometry.is_sheared == (tilt_deg != 0.0)
    assert volume.allows_volumetry

    back = read_nifti(write_nifti(tmp_path / "out.nii.gz", volume.geometry, volume.voxels))
    assert back.geometry.same_grid_as(volume.geometry, 1e-4)
    assert np.array_equal(back.voxels, volume.voxels)
    assert back.geometry.axis_codes() == grid.axis_codes()
    ras_from_ijk = nibabel.load(tmp_path / "out.nii.gz").affine
    for value, ijk in ((v, tuple(np.argwhere(volume.voxels == v)[0][::-1])) for v in MARKS_IJK):
        ras = ras_from_ijk @ (*ijk, 1.0)
        assert np.abs(ras[:3] * (-1, -1, 1) - grid.lps_of([MARKS_IJK[value]])[0]).max() < 1e-3


@pytest.mark.parametrize("number", range(24))
def test_slices_against_the_normal_are_turned_over(tmp_path: Path, number: int) -> None:
    direction = signed_permutations()[number].copy()
    direction[:, 2] *= -1.0  # left-handed: slices run against row × column
    grid = VolumeGeometry.from_axes(SHAPE_KJI, SPACING_IJK_MM, direction, (0.0, 5.0, -9.0))
    write_stack(tmp_path, phantom(), grid)
    volume = load(tmp_path)
    assert np.linalg.det(volume.geometry.direction_ijk) > 0
    for value, place in marks_of(volume).items():
        assert np.abs(place - grid.lps_of([MARKS_IJK[value]])[0]).max() < 1e-3


@pytest.mark.parametrize("tilt_deg", [-15.0, 15.0])
def test_corrected_tilt_keeps_the_marks_within_half_a_voxel(tmp_path: Path, tilt_deg: float) -> None:
    grid = tilted(np.eye(3), tilt_deg)
    write_stack(tmp_path, phantom(), grid)
    (series,) = scan_paths([tmp_path]).series
    volume = assemble_volume(series.instances, series.summary, correct=True)
    assert not volume.geometry.is_sheared
    assert "geometry.shear_corrected" in {issue.code for issue in volume.issues}
    strong = volume.voxels.astype(float)
    expected = grid.lps_of([MARKS_IJK[900]])[0]
    k, j, i = (int(n) for n in np.unravel_index(strong.argmax(), strong.shape))
    off = np.abs(volume.geometry.lps_of([(i, j, k)])[0] - expected)
    assert (off <= np.array(SPACING_IJK_MM) / 2 + 1e-6).all()


@pytest.mark.parametrize("left_handed", [False, True])
def test_nifti_keeps_oblique_and_left_handed_grids(tmp_path: Path, left_handed: bool) -> None:
    angle = np.radians(20.0)
    direction = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    if left_handed:
        direction[:, 0] *= -1
    grid = VolumeGeometry.from_axes(SHAPE_KJI, SPACING_IJK_MM, direction, (1.0, 2.0, 3.0))
    path = write_nifti(tmp_path / "oblique.nii", grid, phantom())
    assert read_nifti(path).geometry.same_grid_as(grid, 1e-4)
    header = nibabel.load(path).header
    assert np.abs(header.get_qform() - header.get_sform()).max() < 1e-4


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)))
def test_the_order_of_files_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("order")
    values = np.arange(6 * 4 * 5, dtype=np.int16).reshape(6, 4, 5)
    paths = write_stack(folder, values, axial_geometry((6, 4, 5)))
    (series,) = scan_paths([paths[n] for n in order]).series
    assert [ref.file for ref in series.instances] == paths
    shuffled = [series.instances[n] for n in order]
    assert np.array_equal(assemble_volume(shuffled, series.summary).voxels, values)


@settings(max_examples=50, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3.0, 3.0)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 9.0)] * 3),
    point=st.tuples(*[st.floats(-400.0, 400.0)] * 3),
)
def test_coordinates_make_the_round_trip(
    angles: tuple[float, ...], spacing: tuple[float, float, float], point: tuple[float, ...]
) -> None:
    direction = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        direction = direction @ turn
    grid = VolumeGeometry.from_axes((7, 8, 9), spacing, direction, (1.0, 2.0, 3.0))
    assert np.abs(grid.lps_of(grid.ijk_of([point]))[0] - np.array(point)).max() < 1e-6
