from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.domain.derived import (
    Annotation,
    Contour,
    DerivedHeader,
    RegionOfInterest,
    ReportPlace,
    SourceImage,
    StructureContours,
)
from core.domain.geometry import VolumeGeometry
from core.domain.study import ObjectKind
from core.domain.volume import Volume
from core.render.objects import (
    marks_of_annotations,
    marks_of_places,
    place_lps,
    planar_contours,
    screen_points,
    slices_of,
    value_in_words,
    value_map,
    volumes_ml,
)
from core.render.planes import Plane
from core.render.series import DisplaySeries
from tests.fakes.pictures import stored_as

HEADER = DerivedHeader(ObjectKind.STRUCTURE_SET, "9.1", "1.2", "9", "1.2")


def contours_at(volume: Volume, k: float) -> StructureContours:
    square = np.array([[2.0, 3.0, k], [6.0, 3.0, k], [6.0, 8.0, k], [2.0, 8.0, k]])
    contour = Contour(volume.geometry.lps_of(square))
    return StructureContours(HEADER, (RegionOfInterest(7, "PTV", (255, 0, 0), "PTV", (contour,)),))


@pytest.mark.parametrize("codes", ["LPS", "RAI", "LPI"])
def test_a_contour_lies_exactly_where_its_points_are(codes: str) -> None:
    volume = stored_as(codes)
    found = planar_contours(contours_at(volume, 4.2), volume.geometry)
    assert list(found) == [4] and found[4][0].value == 1
    np.testing.assert_allclose(found[4][0].points_ij[0], (2.0, 3.0), atol=1e-9)
    grid = DisplaySeries(volume).grids[Plane.AXIAL]
    column, row = screen_points(grid, found[4][0].points_ij, 4)[0]
    assert grid.ijk_of(column, row, grid.number_of_array_index(4)) == pytest.approx((2, 3, 4))


def test_contours_beyond_the_stack_or_across_it_are_no_lines() -> None:
    volume = stored_as("LPS")
    assert planar_contours(contours_at(volume, 30.0), volume.geometry) == {}
    across = np.array([[2.0, 3.0, 1.0], [6.0, 3.0, 5.0], [6.0, 8.0, 5.0]])
    region = RegionOfInterest(1, "x", (1, 2, 3), "", (Contour(volume.geometry.lps_of(across)),))
    assert planar_contours(StructureContours(HEADER, (region,)), volume.geometry) == {}


def with_uids(frames: bool = False) -> Volume:
    volume = stored_as("LPS")
    count = volume.geometry.shape_kji[0]
    if frames:
        return replace(volume, sop_instance_uids=("1.5",) * count, frame_numbers=tuple(range(1, count + 1)))
    return replace(volume, sop_instance_uids=tuple(f"1.{k}" for k in range(count)))


def test_an_image_is_found_by_its_uid_and_frames() -> None:
    assert slices_of(with_uids(), SourceImage("1.3")) == (3,)
    assert slices_of(with_uids(True), SourceImage("1.5", (2, 4))) == (1, 3)
    assert slices_of(with_uids(), SourceImage("7")) == ()


def test_graphics_of_a_presentation_state_lie_on_their_image() -> None:
    image = SourceImage("1.3")
    marks = marks_of_annotations(
        with_uids(),
        (
            Annotation(image, "circle", ((5.0, 5.0), (8.0, 5.0))),
            Annotation(image, "ellipse", ((1.0, 5.0), (9.0, 5.0), (5.0, 3.0), (5.0, 7.0))),
            Annotation(image, "text", ((2.0, 2.0),), "look here"),
            Annotation(SourceImage("elsewhere"), "point", ((1.0, 1.0),)),
        ),
    )
    assert list(marks) == [3] and len(marks[3]) == 3
    circle, ellipse, words = marks[3]
    np.testing.assert_allclose(np.hypot(*(circle.lines_ij[0] - (5.0, 5.0)).T), 3.0)
    np.testing.assert_allclose(ellipse.lines_ij[0].min(axis=0), (1.0, 3.0), atol=1e-6)
    np.testing.assert_allclose(ellipse.lines_ij[0].max(axis=0), (9.0, 7.0), atol=0.01)
    assert words.text == "look here" and words.anchor_ij == (2.0, 2.0) and not words.points_ij


def test_a_place_of_a_report_is_found_in_the_patient_and_on_an_image() -> None:
    volume = with_uids()
    points = tuple(map(tuple, volume.geometry.lps_of([(4, 5, 6), (6, 5, 6)])))
    in_patient = ReportPlace("polyline", points)  # type: ignore[arg-type]
    assert list(marks_of_places(volume, [in_patient], "12 mm")) == [6]
    assert place_lps(volume, in_patient) == pytest.approx(tuple(volume.geometry.lps_of([(5, 5, 6)])[0]))
    on_image = ReportPlace("point", image=SourceImage("1.2"), points_ij=((3.0, 4.0),))
    assert marks_of_places(volume, [on_image])[2][0].points_ij == ((3.0, 4.0),)
    assert place_lps(volume, on_image) == pytest.approx(tuple(volume.geometry.lps_of([(3, 4, 2)])[0]))
    assert place_lps(volume, ReportPlace("point", image=SourceImage("no"))) is None


def test_values_on_another_grid_are_interpolated_and_unknown_beyond_it() -> None:
    source = VolumeGeometry.from_axes((4, 4, 4), (2.0, 2.0, 2.0), np.eye(3), (0.0, 0.0, 0.0))
    target = VolumeGeometry.from_axes((7, 7, 9), (1.0, 1.0, 1.0), np.eye(3), (0.0, 0.0, 0.0))
    values = np.broadcast_to(np.arange(4, dtype=np.float32), (4, 4, 4)).copy()
    found = value_map(values, source, target, "ADC", "um2/s")
    assert found.interpolated and np.isnan(found.values[..., 8]).all()
    np.testing.assert_allclose(found.values[3, 3, :7], np.arange(7) / 2, atol=1e-6)
    same = value_map(values, source, source, "ADC")
    assert not same.interpolated and (same.low, round(same.high, 2)) == (0.0, 3.0)


def test_words_and_volumes() -> None:
    assert value_in_words(-0.1234, "mm") == "−0.123 mm" and value_in_words(1500.4) == "1500"
    labels = np.zeros((2, 3, 4), np.uint8)
    labels[0, 0, :2] = 1
    assert volumes_ml(labels, 0.5, (1, 2)) == {1: 1.0, 2: 0.0}
