from __future__ import annotations

import numpy as np
import pytest

from core.domain.geometry import VolumeGeometry
from core.render.planes import ORTHOGONAL, EdgeLetters, Plane, direction_letters, native_plane, plane_grid
from core.render.series import DisplaySeries
from tests.fakes.pictures import ORIENTATIONS, SHAPE_LPS, marked_voxels, stored_as

LETTERS = {
    Plane.AXIAL: EdgeLetters("R", "L", "A", "P"),
    Plane.CORONAL: EdgeLetters("R", "L", "S", "I"),
    Plane.SAGITTAL: EdgeLetters("A", "P", "S", "I"),
}


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_stored_orientation_gives_the_same_radiological_pictures(codes: str) -> None:
    series = DisplaySeries(stored_as(codes))
    assert series.volume.geometry.axis_codes() == codes
    upright = marked_voxels()
    for plane in ORTHOGONAL:
        grid = series.grids[plane]
        assert grid.letters == LETTERS[plane]
        for number in range(grid.count):
            expected = {
                Plane.AXIAL: upright[SHAPE_LPS[0] - 1 - number % SHAPE_LPS[0]]
                if plane is Plane.AXIAL
                else None,
                Plane.CORONAL: upright[::-1, number % SHAPE_LPS[1]],
                Plane.SAGITTAL: upright[::-1, :, number % SHAPE_LPS[2]],
            }[plane]
            np.testing.assert_array_equal(series.values(plane, number), expected)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_screen_positions_map_to_the_patient_point_that_the_letters_promise(codes: str) -> None:
    geometry = stored_as(codes).geometry
    for plane in ORTHOGONAL:
        grid = plane_grid(geometry, plane)
        here, right, down = (
            geometry.lps_of([grid.ijk_of(*where)])[0] for where in ((3, 4, 5), (4, 4, 5), (3, 5, 5))
        )
        assert direction_letters(right - here) == grid.letters.right
        assert direction_letters(down - here) == grid.letters.bottom
        assert grid.position_of(grid.ijk_of(3.25, 4.5, 5)) == (3.25, 4.5, 5)
        assert np.linalg.norm(right - here) == pytest.approx(grid.spacing_mm[1])
        assert np.linalg.norm(down - here) == pytest.approx(grid.spacing_mm[0])


@pytest.mark.parametrize(
    ("codes", "plane"),
    [("LPS", Plane.AXIAL), ("LSA", Plane.CORONAL), ("PSL", Plane.SAGITTAL), ("PIR", Plane.SAGITTAL)],
)
def test_the_native_plane_is_that_of_the_stored_slices(codes: str, plane: Plane) -> None:
    assert native_plane(stored_as(codes).geometry) is plane


def test_an_oblique_series_names_every_direction_that_it_leans_to() -> None:
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    letters = DisplaySeries(stored_as("LPS", turn)).grids[Plane.AXIAL].letters
    assert letters == EdgeLetters("RA", "LP", "AL", "PR")


def test_a_slight_tilt_keeps_the_plain_letters() -> None:
    angle = np.radians(10)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    assert DisplaySeries(stored_as("LPS", turn)).grids[Plane.AXIAL].letters == LETTERS[Plane.AXIAL]


def test_pictures_are_numbered_from_head_to_feet() -> None:
    volume = stored_as("LPS")
    grid = plane_grid(volume.geometry, Plane.AXIAL)
    first, last = (volume.geometry.lps_of([grid.ijk_of(0, 0, n)])[0][2] for n in (0, grid.count - 1))
    assert first > last
    assert grid.number_of_array_index(grid.array_index(3)) == 3


def test_a_picture_that_does_not_exist_is_refused() -> None:
    grid = plane_grid(stored_as("LPS").geometry, Plane.AXIAL)
    with pytest.raises(IndexError):
        grid.extract(marked_voxels(), grid.count)


def test_an_image_without_orientation_gets_no_letters_and_with_one_gets_four() -> None:
    geometry = VolumeGeometry((1, 4, 6), np.eye(4))
    assert plane_grid(geometry, Plane.IMAGE).letters == EdgeLetters()
    assert plane_grid(geometry, Plane.IMAGE, ("L", "F")).letters == EdgeLetters("R", "L", "H", "F")
