from __future__ import annotations

import numpy as np
import pytest

from core.domain.coding import CodedConcept
from core.domain.errors import SafetyError
from core.domain.geometry import VolumeGeometry
from core.domain.segmentation import SegmentDefinition
from core.domain.window import Window
from core.render.grey import automatic_window, window_picture
from core.render.heat import HeatColors, HeatStyle, color_ramp, draw_heat
from core.render.overlay import OverlayStyle, draw_labels
from core.render.palette import OKABE_ITO, SAFE, safe_colors
from core.render.placement import Camera, Placement, place, scale_bar, zoom_about
from core.render.planes import Plane, plane_grid
from core.render.series import require_same_grid

CODE = CodedConcept("1", "99TEST", "x")


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32])
@pytest.mark.parametrize("inverted", [False, True])
def test_the_table_windows_as_the_standard_says(dtype: type, inverted: bool) -> None:
    window = Window(40.0, 400.0)
    low = 0 if dtype is np.uint16 else -1200
    values = np.arange(low, 3000, dtype=dtype).reshape(-1, 10)
    screen = window_picture(values, window, inverted)
    np.testing.assert_array_equal(screen & 255, window.to_uint8(values, inverted))
    assert (screen >> 24 == 255).all()
    assert ((screen >> 16 & 255) == (screen & 255)).all()


def test_real_values_below_one_use_the_whole_grey_scale() -> None:
    values = np.linspace(0, 1, 101, dtype=np.float32).reshape(1, -1)
    grey = window_picture(values, automatic_window(values)) & 255
    assert grey.min() == 0 and grey.max() == 255 and len(np.unique(grey)) > 90


def test_colour_passes_the_window_unchanged() -> None:
    rgb = np.array([[[1, 2, 3]]], dtype=np.uint8)
    assert window_picture(rgb, Window(0, 1))[0, 0] == 0xFF010203


def placement(scale: float = 4.0) -> Placement:
    return Placement(10.0, 20.0, scale, scale, 8, 6)


def test_an_outline_lies_inside_its_segment_and_has_the_width_asked_for() -> None:
    labels = np.zeros((6, 8), dtype=np.uint8)
    labels[1:5, 2:6] = 3
    patch = draw_labels(labels, placement(), (60, 60), {3: (255, 0, 0)}, OverlayStyle(outline_px=2))
    assert patch is not None
    drawn = np.zeros((60, 60), dtype=bool)
    drawn[patch.y : patch.y + patch.pixels.shape[0], patch.x : patch.x + patch.pixels.shape[1]] = (
        patch.pixels > 0
    )
    inside = np.zeros_like(drawn)
    inside[20 + 4 : 20 + 20, 10 + 8 : 10 + 24] = True
    core = np.zeros_like(drawn)
    core[20 + 6 : 20 + 18, 10 + 10 : 10 + 22] = True
    np.testing.assert_array_equal(drawn, inside & ~core)


def test_fill_hidden_segments_and_hatching() -> None:
    labels = np.full((6, 8), 1, dtype=np.uint8)
    labels[:, 4:] = 2
    colors = {1: (100, 0, 0), 2: (0, 100, 0)}
    filled = draw_labels(
        labels, placement(), (60, 60), colors, OverlayStyle(fill=True, opacity=0.5), frozenset({2})
    )
    assert filled is not None
    assert filled.pixels[2, 2] >> 24 == 128
    assert (filled.pixels[:, 20:] == 0).all()
    hatched = draw_labels(labels, placement(), (60, 60), colors, OverlayStyle(hatched=True, opacity=1.0))
    assert hatched is not None
    share = (hatched.pixels[3:-3, 3:14] > 0).mean()
    assert 0.2 < share < 0.5


def test_an_empty_label_picture_draws_nothing() -> None:
    assert draw_labels(np.zeros((6, 8), np.uint8), placement(), (60, 60), {}, OverlayStyle()) is None


def test_a_segment_outside_the_zoomed_viewport_is_not_drawn() -> None:
    labels = np.zeros((6, 8), dtype=np.uint8)
    labels[5, 7] = 1
    patch = draw_labels(labels, Placement(0, 0, 100, 100, 8, 6), (60, 60), {1: (9, 9, 9)}, OverlayStyle())
    assert patch is not None and not patch.pixels.any()


def test_the_heat_colours_are_those_of_the_published_tables() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    for name in HeatColors:
        table = matplotlib.colormaps[name.value](np.arange(256))[:, :3] * 255
        assert np.abs(color_ramp(name) - table).max() <= 6.0


def test_heat_below_the_threshold_is_clear_and_above_has_the_opacity() -> None:
    drawn = draw_heat(np.array([[0.0, 0.29, 0.31, 1.0, np.nan]]), HeatStyle(opacity=0.5, threshold=0.3))
    assert (drawn[0, [0, 1, 4]] == 0).all()
    assert (drawn[0, [2, 3]] >> 24 == 128).all()


def test_segments_keep_safe_colours_and_get_distinct_ones_otherwise() -> None:
    wanted = [OKABE_ITO[0], (85, 181, 230), (255, 0, 0), OKABE_ITO[0]]
    segments = [SegmentDefinition(n + 1, f"s{n}", CODE, CODE, rgb) for n, rgb in enumerate(wanted)]
    colors = safe_colors(segments)
    assert colors[1] == OKABE_ITO[0]
    assert len(set(colors.values())) == 4
    assert set(colors.values()) <= set(SAFE)


def test_the_picture_fits_keeps_its_proportions_and_is_centred() -> None:
    grid = plane_grid(
        VolumeGeometry.from_axes((4, 10, 20), (2.0, 1.0, 3.0), np.eye(3), (0, 0, 0)), Plane.AXIAL
    )
    found = place(grid, (400, 400), Camera())
    assert found.width == pytest.approx(400) and found.height == pytest.approx(100)
    assert found.top == pytest.approx(150)
    assert found.dx / found.dy == pytest.approx(2.0)
    assert found.to_picture(*found.to_viewport(3.0, 7.0)) == pytest.approx((3.0, 7.0))


def test_zooming_keeps_what_lies_under_the_mouse() -> None:
    grid = plane_grid(VolumeGeometry((4, 10, 20), np.eye(4)), Plane.AXIAL)
    before = place(grid, (300, 200), Camera()).to_picture(40.0, 60.0)
    zoomed = zoom_about(Camera(), grid, (300, 200), (40.0, 60.0), 3.0)
    assert place(grid, (300, 200), zoomed).to_picture(40.0, 60.0) == pytest.approx(before)


@pytest.mark.parametrize(
    ("per_mm", "longest", "label"),
    [(2.0, 220, "10 cm"), (20.0, 150, "5 mm"), (0.5, 100, "20 cm"), (0.01, 10, None)],
)
def test_the_scale_bar_is_the_longest_round_length(per_mm: float, longest: float, label: str | None) -> None:
    bar = scale_bar(per_mm, longest)
    assert (bar.label if bar else None) == label
    assert bar is None or bar.length_px == pytest.approx(bar.length_mm * per_mm)


def test_a_layer_on_another_grid_is_refused_with_both_shapes() -> None:
    here = VolumeGeometry((4, 5, 6), np.eye(4))
    with pytest.raises(SafetyError, match=r"6×5×3.*6×5×4"):
        require_same_grid(here, VolumeGeometry((3, 5, 6), np.eye(4)), "segmentation")
