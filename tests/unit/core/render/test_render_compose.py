from __future__ import annotations

import numpy as np
import pytest

from core.domain.window import Window
from core.render.compose import Panel, compose_viewport
from core.render.overlay import OverlayStyle
from core.render.palette import safe_colors
from core.render.placement import Camera, place
from core.render.planes import Plane
from core.render.scene import Scene, Viewpoint, axis_marks
from core.render.scene_presets import SEGMENTS_ONLY, default_preset, presets_of
from core.render.series import DisplaySeries
from core.render.style import page_style
from tests.fakes.pictures import explanation_of, segmentation_of, stored_as

SIZE = (360, 280)


@pytest.mark.parametrize("codes", ["LPS", "RAI", "SLP", "AIR"])
def test_the_left_bar_is_drawn_right_of_the_middle_where_the_letter_l_stands(codes: str) -> None:
    series = DisplaySeries(stored_as(codes))
    panel = Panel(series, Plane.AXIAL, 4, Window(50, 100), annotated=False)
    picture = np.asarray(compose_viewport(panel, SIZE, page_style(SIZE))).astype(int)
    placement = place(panel.grid, SIZE, Camera())
    x, y = (round(v) for v in placement.to_viewport(13, 7))
    assert picture[y, x].min() > 200
    mirrored = round(placement.to_viewport(17 - 13, 7)[0])
    assert picture[y, mirrored].max() < 60


def test_layers_are_drawn_over_the_picture() -> None:
    series = DisplaySeries(stored_as("LPS"))
    segmentation = segmentation_of(series.volume)
    panel = Panel(
        series,
        Plane.AXIAL,
        4,
        Window(50, 1000),
        segmentation=segmentation,
        colors=safe_colors(segmentation.segments),
        overlay=OverlayStyle(fill=True, opacity=1.0),
        explanation=explanation_of(series.volume),
        crosshair=(9.0, 3.0),
        crosshair_planes=(Plane.SAGITTAL, Plane.CORONAL),
    )
    style = page_style(SIZE)
    picture = np.asarray(compose_viewport(panel, SIZE, style))
    x, y = (round(v) for v in place(panel.grid, SIZE, Camera()).to_viewport(13, 7))
    assert tuple(picture[y, x]) == (86, 180, 233)
    column = int(place(panel.grid, SIZE, Camera()).to_viewport(9.0, 7.0)[0])
    line = picture[SIZE[1] // 2, column].astype(int)
    assert np.abs(line - np.array(style.color("plane_sagittal"))).max() < 90


def test_a_viewport_has_the_size_asked_for_even_when_zoomed_far_out_or_in() -> None:
    series = DisplaySeries(stored_as("LPS"))
    for zoom in (0.1, 40.0):
        panel = Panel(series, Plane.CORONAL, 4, Window(50, 100), camera=Camera(zoom, 0.3, -0.2))
        assert compose_viewport(panel, SIZE, page_style(SIZE)).size == SIZE


def test_from_the_front_the_patients_left_is_on_the_right_of_the_picture() -> None:
    front = {mark.letter: mark for mark in axis_marks(Viewpoint(0.0, 0.0))}
    assert front["L"].x == pytest.approx(1.0)
    assert front["S"].y == pytest.approx(-1.0)
    assert front["A"].toward_eye == pytest.approx(1.0)
    left_side = {mark.letter: mark for mark in axis_marks(Viewpoint(90.0, 0.0))}
    assert left_side["L"].toward_eye == pytest.approx(1.0)


@pytest.mark.parametrize("codes", ["LPS", "RPI", "SAL"])
@pytest.mark.parametrize("quick", [False, True])
def test_the_3d_picture_agrees_with_the_letters(codes: str, quick: bool) -> None:
    volume = stored_as(codes)
    segmentation = segmentation_of(volume)
    scene = Scene((0, 0, 0))
    try:
        scene.set_volume(volume)
        scene.set_segments(segmentation, {1: (86, 180, 233), 2: (230, 159, 0)})
        scene.set_preset(SEGMENTS_ONLY)
        scene.set_hidden(frozenset({2}))
        front = scene.render(Viewpoint(0.0, 0.0), (160, 120), quick)
        _, columns = np.nonzero(front.sum(axis=2) > 60)
        assert columns.size and columns.mean() > 85
        scene.set_hidden(frozenset(), all_hidden=True)
        assert scene.render(Viewpoint(0.0, 0.0), (160, 120), quick).max() == 0
        scene.set_preset("mip")
        brightest = scene.render(Viewpoint(0.0, 0.0), (160, 120), quick).sum(axis=2)
        rows, _ = np.nonzero(brightest > 0.9 * brightest.max())
        assert rows.mean() < 60, "the dot at the top is the brightest"
    finally:
        scene.close()


def test_presets_in_hounsfield_units_are_offered_for_ct_only() -> None:
    volume = stored_as("LPS")
    assert default_preset(volume) == "bone" and "lung" in {p.id for p in presets_of(volume)}
