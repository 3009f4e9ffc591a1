from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.domain.geometry import VolumeGeometry
from core.domain.volume import SeriesIssue, Volume
from core.domain.window import Window
from core.render.annotations import (
    badges,
    corner_texts,
    is_flat,
    is_uncalibrated,
    shortened,
    slice_kind,
    value_text,
    window_text,
)
from core.render.planes import Plane
from core.render.presets import initial_window, presets_for
from core.render.series import DisplaySeries
from tests.fakes.pictures import stored_as


def image(modality: str = "CR", frame: str | None = None, slices: int = 1) -> Volume:
    return Volume(
        VolumeGeometry((slices, 4, 5), np.eye(4), frame), np.zeros((slices, 4, 5), np.uint16), modality, "1.2"
    )


def test_the_four_corners_name_plane_series_window_and_picture() -> None:
    series = DisplaySeries(stored_as("LPS"))
    texts = corner_texts(series.volume, series.grids[Plane.AXIAL], 3, Window(-600, 1500, "Lung"))
    assert texts.top_left == "AXIAL\nCT  Thorax"
    assert texts.top_right == ""
    assert texts.bottom_left == "Lung\nW 1500  L −600"
    assert texts.bottom_right == "I 25.0 mm\nim 4/10"


def test_long_descriptions_are_cut_and_control_characters_removed() -> None:
    assert shortened("a" * 60).endswith("…") and len(shortened("a" * 60)) == 42
    assert shortened("one\x1b[31m\ntwo") == "one [31m two"


def test_values_carry_their_unit() -> None:
    volume = stored_as("LPS")
    assert value_text(volume, np.asarray(-842)) == "−842 HU"
    assert value_text(replace(volume, units="SUVbw"), np.asarray(2.347)) == "SUVbw 2.35"
    assert value_text(volume, np.array([1, 2, 3])) == "RGB 1 2 3"
    assert window_text(Window(0.5, 0.75)) == "W 0.75  L 0.5"


def test_pet_shows_activity_and_suv_and_its_window_in_suv() -> None:
    pet = replace(stored_as("LPS"), modality="PT", units="Bq/ml", suvbw_factor=0.0005)
    assert value_text(pet, np.asarray(6000.0)) == "6000 Bq/ml  SUVbw 3.00"
    window = initial_window(replace(pet, windows=(Window(10, 20),)))
    assert (window.center, window.width) == (6000, 12000)
    grid = DisplaySeries(pet).grids[Plane.AXIAL]
    assert corner_texts(pet, grid, 0, window, True).bottom_left == "inverted\nSUVbw 0 – 6"
    unknown = replace(pet, units="stored", suvbw_factor=None)
    assert value_text(unknown, np.asarray(6000.0)) == "6000"


def test_a_time_point_is_named_with_what_is_counted() -> None:
    volume = replace(stored_as("LPS"), time_points=3, time_point=1)
    grid = DisplaySeries(volume).grids[Plane.AXIAL]
    assert corner_texts(volume, grid, 0, None).bottom_right.startswith("t 2/3\n")
    assert corner_texts(volume, grid, 0, None, dimension="b value").bottom_right.startswith("b value  t 2/3")
    assert corner_texts(volume, grid, 0, None, view="R CC").marker == "R CC"


def test_only_a_stack_that_is_straight_and_even_is_cut_across() -> None:
    volume = stored_as("LPS")
    uneven = (SeriesIssue("geometry.irregular_spacing", "Steps differ.", True),)
    assert DisplaySeries(volume).single_plane_reason == ""
    assert DisplaySeries(replace(volume, issues=uneven)).single_plane_reason == "Steps differ."
    assert DisplaySeries(replace(volume, issues=uneven, missing_slices=(3,))).planes != (Plane.AXIAL,)
    sheared = volume.geometry.lps_from_ijk.copy()
    sheared[1, 2] = 0.5
    tilted = replace(volume, geometry=VolumeGeometry(volume.geometry.shape_kji, sheared))
    assert (
        DisplaySeries(tilted).planes == (Plane.AXIAL,)
        and "tilted" in DisplaySeries(tilted).single_plane_reason
    )


def test_slices_that_were_not_acquired_are_told_apart() -> None:
    uids = tuple("" if k in (3, 4) else f"1.{k}" for k in range(10))
    volume = replace(stored_as("LPS"), sop_instance_uids=uids, missing_slices=(4,))
    assert [slice_kind(volume, k) for k in (2, 3, 4)] == ["", "interpolated", "missing"]
    assert slice_kind(stored_as("LPS"), 3) == ""


def test_issues_become_badges_with_cautions_first_and_equal_ones_merged() -> None:
    issues = (
        SeriesIssue("dicom.blank_uid", "UIDs are blank."),
        SeriesIssue("geometry.gap", "2 slices are missing.", True),
        SeriesIssue("geometry.uncalibrated", "No spacing.", True),
        SeriesIssue("geometry.shear_corrected", "Tilt corrected."),
        SeriesIssue("series.split", "One of two."),
        SeriesIssue("something.new", "Distances are wrong.", True),
    )
    found = badges(replace(stored_as("LPS"), issues=issues, lossy=True))
    assert [b.text for b in found] == ["gap", "uncalibrated", "resampled", "geometry", "lossy", "note"]
    assert found[-1].why == "UIDs are blank. One of two." and found[-1].tone == "quiet"
    assert is_uncalibrated(replace(stored_as("LPS"), issues=issues))


@pytest.mark.parametrize(
    ("volume", "flat"),
    [
        (image("CR", "1.2"), True),
        (image("NM", "1.2"), True),
        (image("CT", "1.2"), False),
        (image("CT", None), True),
        (image("CT", None, slices=9), False),
        (replace(image("MR", "1.2", 9), issues=(SeriesIssue("geometry.no_position", "x"),)), True),
    ],
)
def test_projections_and_series_without_position_are_shown_as_stored(volume: Volume, flat: bool) -> None:
    assert is_flat(volume) is flat
    planes = DisplaySeries(volume).planes
    assert (planes == (Plane.IMAGE,)) is flat
    assert len(planes) == (3 if not flat and volume.geometry.shape_kji[0] > 1 else 1)


def test_presets_depend_on_modality_body_part_and_units() -> None:
    chest, head = presets_for("CT", "chest", "HU"), presets_for("CT", "HEAD", "HU")
    assert chest.preset(2).name == "Lung" and chest.initial == 2  # type: ignore[union-attr]
    assert head.preset(1).name == "Brain" and head.initial == 1  # type: ignore[union-attr]
    assert presets_for("PT", "", "SUVbw").preset(1).width == 6  # type: ignore[union-attr]
    assert presets_for("MR", "BRAIN", "stored").preset(9) is None
    keys = [p.key for p in chest.presets]
    assert keys == sorted(set(keys)) and set(keys) <= set(range(1, 10))


def test_a_series_own_window_comes_first() -> None:
    volume = stored_as("LPS")
    assert initial_window(volume).name == "Lung"
    assert initial_window(replace(volume, windows=(Window(10, 20),))) == Window(10, 20)
    ramp = np.arange(280, dtype=np.uint16).reshape(1, 14, 20)
    mr = Volume(VolumeGeometry((1, 14, 20), np.eye(4)), ramp, "MR", "1")
    assert initial_window(mr).width == pytest.approx(273.4, abs=1)
