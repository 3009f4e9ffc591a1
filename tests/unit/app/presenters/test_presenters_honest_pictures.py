"""What was never acquired, was calculated, or belongs to another time is told on the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.presenters.reading_state import Layout, Slot
from core.domain.volume import SeriesIssue, Volume
from tests.fakes.pictures import segmentation_of, stored_as
from tests.unit.app.presenters.test_reading_presenter import changed, presenter_with, summary


def with_gap() -> Volume:
    uids = tuple("" if k in (3, 4) else f"1.{k}" for k in range(10))
    return replace(stored_as("LPS"), sop_instance_uids=uids, missing_slices=(4,))


def test_a_missing_slice_is_no_picture_but_a_hatched_place_with_the_reason() -> None:
    presenter, shown = presenter_with(with_gap())
    presenter.go_to_slice(4)
    state = changed(shown)[Slot.AXIAL]
    assert state.picture is None and state.notice is not None and state.notice.title == "Slice missing"
    assert "1 of 10" in state.notice.detail and len(state.gaps) == 1
    assert (state.gaps[0].columns, state.gaps[0].rows) == (18, 14)


def test_cuts_across_are_hatched_where_slices_are_missing() -> None:
    presenter, shown = presenter_with(with_gap())
    presenter.scroll(1, Slot.CORONAL)
    state = changed(shown)[Slot.CORONAL]
    assert state.picture is not None and len(state.gaps) == 1 and state.grid is not None
    gap = state.gaps[0]
    assert (gap.columns, gap.rows) == (18, 1)
    assert state.grid.ijk_of(0, gap.row, state.number)[2] == pytest.approx(4)
    assert "slices missing" in [badge.text for badge in state.badges]


def test_an_interpolated_slice_says_so() -> None:
    presenter, shown = presenter_with(with_gap())
    presenter.go_to_slice(3)
    assert "interpolated" in [badge.text for badge in changed(shown)[Slot.AXIAL].badges]
    presenter.go_to_slice(2)
    assert "interpolated" not in [badge.text for badge in changed(shown)[Slot.AXIAL].badges]


def test_a_stack_that_cannot_be_cut_keeps_one_plane_and_says_why() -> None:
    issue = SeriesIssue("geometry.misaligned", "The slices are shifted.", True)
    presenter, shown = presenter_with(replace(stored_as("LPS"), issues=(issue,)))
    presenter.set_layout("mpr")
    assert presenter.single_plane_reason() == "The slices are shifted."
    assert presenter.intent.layout is Layout.MPR and set(changed(shown)) <= {Slot.AXIAL}
    presenter.go_to_slice(2)
    badges = {badge.text: badge.why for badge in changed(shown)[Slot.AXIAL].badges}
    assert badges["one plane only"] == "The slices are shifted."


def test_a_result_of_the_first_time_point_is_told_on_another() -> None:
    volume = replace(stored_as("LPS"), time_points=2)
    presenter, shown = presenter_with(volume)
    presenter.set_segmentation(segmentation_of(volume))
    later = replace(volume, voxels=volume.voxels + np.int16(1), time_point=1)
    presenter.show_time_point(later, presenter.generation)
    assert presenter.volume is later
    state = changed(shown)[Slot.AXIAL]
    assert "AI result of t 1" in [badge.text for badge in state.badges]
    assert state.corners.bottom_right.startswith("t 2/2") and state.labels is not None


def test_a_time_point_of_another_grid_or_series_is_not_shown() -> None:
    volume = replace(stored_as("LPS"), time_points=2)
    presenter, _ = presenter_with(volume)
    presenter.show_time_point(replace(volume, series_uid="9", time_point=1), presenter.generation)
    presenter.show_time_point(replace(stored_as("RAI"), time_points=2, time_point=1), presenter.generation)
    presenter.show_time_point(replace(volume, time_point=1), presenter.generation + 1)
    assert presenter.volume is volume


def test_uptake_is_shown_black_on_white_and_a_projection_with_its_side() -> None:
    presenter, shown = presenter_with()
    presenter.begin_series(replace(summary(modality="PT"), view="R CC"), 3)
    pet = replace(stored_as("LPS"), modality="PT", suvbw_factor=0.5)
    presenter.show_volume(pet, 3)
    state = changed(shown)[Slot.AXIAL]
    assert presenter.intent.inverted and state.corners.marker == "R CC"
    assert state.corners.bottom_left == "inverted\nSUVbw 0 – 6"
    presenter.invert()
    presenter.reset()
    assert presenter.intent.inverted


def test_windows_of_the_file_are_gone_through() -> None:
    from core.domain.window import SIGMOID, Window

    windows = (Window(40, 400, "Soft"), Window(-600, 1500, "Lung", SIGMOID))
    presenter, shown = presenter_with(replace(stored_as("LPS"), windows=windows))
    assert presenter.intent.window == windows[0] and presenter.file_windows() == windows
    before = changed(shown).get(Slot.AXIAL)
    presenter.next_file_window()
    assert presenter.intent.window == windows[1]
    state = changed(shown)[Slot.AXIAL]
    assert before is None and state.picture is not None
    presenter.next_file_window()
    assert presenter.intent.window == windows[0]
