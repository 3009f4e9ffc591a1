from __future__ import annotations

from dataclasses import replace
from unittest.mock import MagicMock

import numpy as np
import pytest

from app.presenters.reading import ReadingPresenter
from app.presenters.reading_frame import EMPTY
from app.presenters.reading_state import Layout, LayoutState, ReadingView, Slot, Tool, ViewportState
from core.domain.geometry import VolumeGeometry
from core.domain.study import SeriesKind, SeriesSummary
from core.domain.volume import Volume
from core.domain.window import Window
from core.render.planes import Plane
from tests.fakes.pictures import explanation_of, segmentation_of, stored_as

PLANES = (Slot.AXIAL, Slot.CORONAL, Slot.SAGITTAL)


def view() -> MagicMock:
    return MagicMock(spec=ReadingView)


def presenter_with(volume: Volume | None = None) -> tuple[ReadingPresenter, MagicMock]:
    presenter, shown = ReadingPresenter(), view()
    presenter.attach(shown)
    presenter.show_volume(volume or stored_as("LPS"))
    shown.reset_mock()
    return presenter, shown


def changed(shown: MagicMock) -> dict[Slot, ViewportState]:
    return {call.args[0]: call.args[1] for call in shown.show_viewport.call_args_list}


def summary(series_uid: str = "1.2.840.1", modality: str = "CT") -> SeriesSummary:
    return SeriesSummary(
        series_uid,
        series_uid,
        "1.2",
        modality,
        "Thorax",
        "CHEST",
        10,
        10,
        SeriesKind.VOLUME,
        (10, 14, 18),
        None,
        True,
    )


def test_at_first_the_next_step_is_said() -> None:
    presenter, shown = ReadingPresenter(), view()
    presenter.attach(shown)
    layout: LayoutState = shown.show_layout.call_args.args[0]
    assert layout.notice == EMPTY and "Ctrl+O" in EMPTY.detail and layout.cells == ()
    shown.show_viewport.assert_not_called()


def test_a_volume_fills_four_viewports_that_meet_in_its_middle() -> None:
    presenter, shown = ReadingPresenter(), view()
    presenter.attach(shown)
    presenter.show_volume(stored_as("LPS"))
    assert set(changed(shown)) == set(PLANES)
    assert presenter.intent.cursor_ijk == (9, 7, 5)
    axial = changed(shown)[Slot.AXIAL]
    assert axial.grid is not None and axial.number == axial.grid.count - 1 - 5
    assert axial.corners.bottom_left.startswith("Lung")
    assert shown.show_scene.call_args.args[0].wanted is False


def test_only_viewports_that_differ_reach_the_view() -> None:
    presenter, shown = presenter_with()
    presenter.set_window(presenter.intent.window)
    shown.show_viewport.assert_not_called()
    presenter.activate(Slot.CORONAL)
    assert set(changed(shown)) == {Slot.AXIAL, Slot.CORONAL}


def test_scrolling_one_plane_changes_its_picture_and_moves_the_lines_in_the_others() -> None:
    presenter, shown = presenter_with()
    before = presenter.intent.cursor_ijk
    presenter.scroll(2, Slot.AXIAL)
    assert presenter.intent.cursor_ijk == (before[0], before[1], before[2] - 2), "down is towards the feet"
    states = changed(shown)
    assert set(states) == set(PLANES)
    first = states[Slot.CORONAL]
    shown.reset_mock()
    presenter.scroll(1, Slot.AXIAL)
    again = changed(shown)[Slot.CORONAL]
    assert again.picture == first.picture and again.crosshair != first.crosshair
    assert changed(shown)[Slot.AXIAL].picture != states[Slot.AXIAL].picture


def test_scrolling_stops_at_both_ends() -> None:
    presenter, _ = presenter_with()
    presenter.scroll(-1000, Slot.SAGITTAL)
    assert presenter.intent.cursor_ijk[0] == 0
    presenter.activate(Slot.SAGITTAL)
    presenter.last()
    assert presenter.intent.cursor_ijk[0] == 17
    presenter.first()
    assert presenter.intent.cursor_ijk[0] == 0


@pytest.mark.parametrize("codes", ["LPS", "RAI", "PSL", "ILA"])
def test_a_jump_puts_the_crosshair_of_every_plane_on_the_point(codes: str) -> None:
    volume = stored_as(codes)
    presenter, shown = presenter_with(volume)
    k, j, i = (int(n[0]) for n in np.nonzero(volume.voxels == 300))
    target = volume.geometry.lps_of([(i, j, k)])[0]
    presenter.jump_to((float(target[0]), float(target[1]), float(target[2])))
    assert presenter.intent.cursor_ijk == (i, j, k)
    assert presenter.cursor_lps_mm == pytest.approx(tuple(target))
    for slot, state in changed(shown).items():
        assert state.crosshair is not None and state.grid is not None
        pixels = state.grid.extract(volume.voxels, state.number)
        assert pixels[round(state.crosshair.row), round(state.crosshair.column)] == 300, slot


def test_a_jump_outside_goes_to_the_nearest_voxel() -> None:
    presenter, _ = presenter_with()
    presenter.jump_to((-9999.0, 0.0, 9999.0))
    i, _, k = presenter.intent.cursor_ijk
    assert (i, k) == (0, 9)


def test_the_lines_have_the_colours_of_the_planes_that_they_stand_for() -> None:
    presenter, shown = presenter_with()
    presenter.scroll(1, Slot.AXIAL)
    cross = changed(shown)[Slot.AXIAL].crosshair
    assert cross is not None and (cross.vertical, cross.horizontal) == (Plane.SAGITTAL, Plane.CORONAL)


def test_pointing_moves_the_other_planes_only() -> None:
    presenter, shown = presenter_with()
    presenter.point_at(Slot.AXIAL, 3.2, 4.4)
    assert presenter.intent.cursor_ijk[:2] == (3, 4)
    assert changed(shown)[Slot.AXIAL].number == 4
    presenter.point_at(Slot.AXIAL, -50, 500)
    assert presenter.intent.cursor_ijk[:2] == (0, 13)


def test_the_number_keys_apply_presets_and_zero_looks_at_the_picture() -> None:
    presenter, _ = presenter_with()
    presenter.preset(4)
    assert presenter.intent.window.name == "Bone"
    presenter.preset(0)
    assert presenter.intent.window.name == "Auto"
    presenter.invert()
    assert presenter.intent.inverted
    presenter.reset()
    assert presenter.intent.window.name == "Lung" and not presenter.intent.inverted


def test_dragging_right_widens_and_down_darkens() -> None:
    presenter, _ = presenter_with()
    presenter.set_window(Window(40, 400))
    presenter.drag_window(30, 0)
    assert presenter.intent.window.width > 400 and presenter.intent.window.center == 40
    presenter.drag_window(0, 30)
    assert presenter.intent.window.center > 40
    for _ in range(100):
        presenter.drag_window(-300, 0)
    assert presenter.intent.window.width == 1.0


def test_monochrome1_is_inverted_from_the_start_and_its_window_stays() -> None:
    volume = replace(stored_as("LPS"), inverted=True)
    presenter, shown = ReadingPresenter(), view()
    presenter.attach(shown)
    presenter.show_volume(volume)
    layer = changed(shown)[Slot.AXIAL].picture
    assert layer is not None
    assert (layer.load()[0, 0] & 255) != (layer.load()[7, 9] & 255)
    plain, shown2 = presenter_with()
    plain.scroll(1)
    plain.scroll(-1)
    upright = changed(shown2)[Slot.AXIAL].picture
    assert upright is not None
    np.testing.assert_array_equal((layer.load() & 255) + (upright.load() & 255), 255)


def test_layouts_maximise_and_restore() -> None:
    presenter, shown = presenter_with()
    presenter.set_layout("mpr")
    assert [c.slot for c in shown.show_layout.call_args.args[0].cells] == list(PLANES)
    presenter.maximise(Slot.CORONAL)
    assert [c.slot for c in shown.show_layout.call_args.args[0].cells] == [Slot.CORONAL]
    presenter.maximise(Slot.CORONAL)
    assert len(shown.show_layout.call_args.args[0].cells) == 3
    presenter.set_layout("stack")
    assert [c.slot for c in shown.show_layout.call_args.args[0].cells] == [Slot.AXIAL]
    with pytest.raises(ValueError):
        presenter.set_layout("cube")


def test_the_3d_layout_is_the_wish_that_loads_vtk() -> None:
    presenter, shown = presenter_with()
    presenter.set_layout("3d")
    assert presenter.intent.layout is Layout.SCENE
    scene = shown.show_scene.call_args.args[0]
    assert scene.wanted and scene.preset == "bone" and scene.volume is presenter.volume
    presenter.set_segmentation(segmentation_of(presenter.volume))  # type: ignore[arg-type]
    assert shown.show_scene.call_args.args[0].preset == "segments"
    assert presenter.scene_presets()[0][0] == "segments"


def test_an_image_has_one_viewport_whatever_the_layout() -> None:
    picture = Volume(VolumeGeometry((1, 8, 9), np.eye(4)), np.zeros((1, 8, 9), np.uint16), "CR", "1.2.840.1")
    presenter, shown = ReadingPresenter(), view()
    presenter.attach(shown)
    presenter.show_volume(picture)
    assert [c.slot for c in shown.show_layout.call_args.args[0].cells] == [Slot.IMAGE]
    state = changed(shown)[Slot.IMAGE]
    assert state.crosshair is None and state.corners.top_left.startswith("CR")


def test_zoom_pan_and_fit_belong_to_one_viewport() -> None:
    presenter, shown = presenter_with()
    presenter.zoom(Slot.AXIAL, 2.0, (200, 200), (50, 50))
    presenter.pan(Slot.AXIAL, 20, 0, (200, 200))
    assert set(changed(shown)) == {Slot.AXIAL}
    assert presenter.intent.camera(Slot.AXIAL).zoom == 2.0
    presenter.fit()
    assert presenter.intent.cameras == ()


def test_one_key_hides_everything_from_models_and_says_so() -> None:
    presenter, shown = presenter_with()
    presenter.set_segmentation(segmentation_of(presenter.volume))  # type: ignore[arg-type]
    presenter.set_heatmap(explanation_of(presenter.volume))  # type: ignore[arg-type]
    state = changed(shown)[Slot.AXIAL]
    assert (
        state.labels is not None and state.heat is not None and "10" not in state.heat.note.split("cells")[0]
    )
    presenter.toggle_ai()
    hidden = changed(shown)[Slot.AXIAL]
    assert hidden.labels is None and hidden.heat is None
    assert [b.text for b in hidden.badges] == ["AI hidden"]
    presenter.toggle_ai()
    presenter.hold_overlays(True)
    assert changed(shown)[Slot.AXIAL].labels is None
    presenter.hold_overlays(False)
    assert changed(shown)[Slot.AXIAL].labels is not None


def test_a_result_on_another_grid_is_not_drawn_and_the_badge_says_why() -> None:
    presenter, shown = presenter_with()
    presenter.set_segmentation(segmentation_of(presenter.volume, fault_shift=30.0))  # type: ignore[arg-type]
    state = changed(shown)[Slot.AXIAL]
    assert state.labels is None
    assert state.badges[0].text == "AI result not shown" and "grid" in state.badges[0].why


def test_a_result_that_failed_a_check_is_hatched_with_the_reason() -> None:
    presenter, shown = presenter_with()
    presenter.set_segmentation(segmentation_of(presenter.volume), fault="left and right lung touch")  # type: ignore[arg-type]
    state = changed(shown)[Slot.AXIAL]
    assert state.labels is not None and state.labels.style.hatched
    assert state.badges[0].why == "left and right lung touch"


def test_overlay_and_heat_styles_are_clipped_to_what_makes_sense() -> None:
    presenter, _ = presenter_with()
    presenter.set_overlay_style(True, 7.0)
    presenter.set_heat_style(-1.0, 2.0, "viridis")
    assert presenter.intent.overlay.fill and presenter.intent.overlay.opacity == 1.0
    assert (presenter.intent.heat.opacity, presenter.intent.heat.threshold) == (0.0, 1.0)
    presenter.set_segment_visible(2, False)
    assert presenter.intent.hidden_segments == {2}
    presenter.set_segment_visible(2, True)
    assert presenter.intent.hidden_segments == frozenset()


def test_a_blinking_heat_map_comes_and_goes_and_ends_with_the_map() -> None:
    presenter, shown = presenter_with()
    presenter.set_heatmap(explanation_of(presenter.volume))  # type: ignore[arg-type]
    presenter.blink(True)
    shown.set_blinking.assert_called_once_with(True)
    presenter.blink_tick()
    assert changed(shown)[Slot.AXIAL].heat is None
    presenter.blink_tick()
    assert changed(shown)[Slot.AXIAL].heat is not None
    presenter.set_heatmap(None)
    assert shown.set_blinking.call_args.args == (False,) and not presenter.intent.blink


def test_the_value_and_the_segment_under_the_mouse_are_read_out() -> None:
    presenter, shown = presenter_with()
    presenter.set_segmentation(segmentation_of(presenter.volume))  # type: ignore[arg-type]
    presenter.hover(Slot.AXIAL, 13.2, 6.9)
    shown.show_readout.assert_called_with(Slot.AXIAL, "100 HU  Left bar")
    presenter.hover(Slot.AXIAL, -3, 0)
    shown.show_readout.assert_called_with(Slot.AXIAL, "")
    presenter.leave(Slot.AXIAL)


def test_slices_appear_as_they_arrive_and_missing_ones_stay_blank() -> None:
    volume = stored_as("LPS")
    presenter, shown = ReadingPresenter(), view()
    presenter.attach(shown)
    presenter.begin_series(summary(), 7)
    assert shown.show_layout.call_args.args[0].notice.title == "Loading…"
    presenter.show_slice(7, 5, volume.geometry, volume.voxels[5])
    state = changed(shown)[Slot.AXIAL]
    assert state.picture is not None and state.notice is None
    assert state.badges[0].text == "loading 1/10" and presenter.volume is None
    np.testing.assert_array_equal(state.picture.load() & 255, state.picture.load() >> 8 & 255)
    presenter.scroll(1, Slot.AXIAL)
    blank = changed(shown)[Slot.AXIAL]
    assert blank.picture is None and blank.notice is not None and "1 of 10" in blank.notice.detail
    presenter.set_window(Window(50, 300))
    presenter.show_volume(volume, 7)
    full = changed(shown)[Slot.AXIAL]
    assert full.picture is not None and full.badges == ()
    assert presenter.intent.window == Window(50, 300), "the reader's own window stays"
    assert presenter.intent.cursor_ijk == (9, 7, 4), "and so does the place"


def test_late_answers_are_dropped() -> None:
    volume = stored_as("LPS")
    presenter, shown = ReadingPresenter(), view()
    presenter.attach(shown)
    presenter.begin_series(summary(), 1)
    presenter.begin_series(summary("9.9.9"), 2)
    shown.reset_mock()
    presenter.show_slice(1, 0, volume.geometry, volume.voxels[0])
    presenter.show_volume(volume, 1)
    presenter.show_volume(volume)
    presenter.fail("old failure", generation=1)
    shown.show_viewport.assert_not_called()
    shown.show_layout.assert_not_called()
    assert presenter.generation == 2 and presenter.volume is None


def test_nothing_stale_stays_when_another_series_begins_or_fails() -> None:
    presenter, shown = presenter_with()
    presenter.begin_series(summary("9.9.9"), 5)
    assert shown.show_layout.call_args.args[0].cells == ()
    presenter.fail("Slice 41 can't be read", "JPEG 2000 stream is cut", "Import the study again.", 5)
    notice = shown.show_layout.call_args.args[0].notice
    assert notice.tone == "danger" and notice.remedy
    presenter.set_segmentation(segmentation_of(stored_as("LPS")))
    presenter.clear("The study was removed.")
    assert shown.show_layout.call_args.args[0].notice.title == "The study was removed."
    presenter.clear()
    assert shown.show_layout.call_args.args[0].notice == EMPTY


def test_keys_without_a_series_do_nothing() -> None:
    presenter = ReadingPresenter()
    presenter.attach(view())
    for act in (
        presenter.first,
        presenter.last,
        presenter.auto_window,
        presenter.reset,
        presenter.next_viewport,
    ):
        act()
    presenter.scroll(1)
    presenter.preset(3)
    presenter.jump_to((0, 0, 0))
    presenter.point_at(Slot.AXIAL, 0, 0)
    presenter.hover(Slot.AXIAL, 0, 0)
    presenter.set_heatmap(None)
    assert presenter.presets == () and presenter.cursor_lps_mm is None and presenter.scene_presets() == ()


def test_listeners_hear_of_changes_and_the_keyboard_walks_through_the_viewports() -> None:
    presenter, _ = presenter_with()
    heard: list[Slot] = []
    presenter.subscribe(lambda: heard.append(presenter.intent.active))
    for _ in range(4):
        presenter.next_viewport()
    assert heard == [Slot.CORONAL, Slot.SAGITTAL, Slot.SCENE, Slot.AXIAL]
    presenter.toggle_crosshair()
    assert presenter.intent.tool is Tool.CROSSHAIR
    presenter.toggle_texts()
    assert not presenter.intent.texts
