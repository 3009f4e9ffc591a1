"""A drift within rounding is no tilt, and moves no pixel; a slight tilt is one."""

from __future__ import annotations

import numpy as np
import pytest

from core.dicom.assemble import assemble_volume
from core.dicom.scan import scan_paths
from core.dicom.shear import needs_straightening, straightened
from core.dicom.stack import Stack, build_stack
from core.domain.volume import Volume
from tests.fakes.data import data_path

ORIENTATION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
PIXEL_MM = 0.86


def stack_of(
    tilt_deg: float,
    slices: int = 36,
    step_mm: float = 3.0,
    without: tuple[int, ...] = (),
    pixel_mm: float = PIXEL_MM,
) -> Stack:
    heights = np.array([step_mm * n for n in range(slices) if n not in without])
    drift = heights * np.tan(np.radians(tilt_deg))
    positions = np.column_stack([np.full(len(heights), -80.0), 5.0 + drift, heights])
    return build_stack(positions, ORIENTATION, (pixel_mm, pixel_mm), (12, 10))


def volume_on(stack: Stack) -> Volume:
    rng = np.random.default_rng(1)
    voxels = rng.integers(0, 900, stack.geometry.shape_kji).astype(np.int16)
    return Volume(stack.geometry, voxels, "MR", "1")


@pytest.mark.parametrize("tilt_deg", [0.03, 0.08, -0.09])
def test_a_drift_within_rounding_is_no_tilt(tilt_deg: float) -> None:
    stack = stack_of(tilt_deg)
    assert (stack.issues, stack.tilt_deg, stack.regular) == ((), 0.0, True)
    assert not needs_straightening(stack.geometry, stack.positions_mm)
    places = stack.geometry.lps_of([(0, 0, k) for k in range(36)])
    off = stack.positions_mm - places
    assert np.linalg.norm(off, axis=1).max() < PIXEL_MM / 4
    np.testing.assert_allclose(off.mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(stack.geometry.direction_ijk[:, 2], (0, 0, 1), atol=1e-12)


@pytest.mark.parametrize(("tilt_deg", "slices"), [(0.5, 36), (-0.5, 36), (18.5, 36), (0.09, 80), (0.5, 5)])
def test_a_slight_tilt_is_one(tilt_deg: float, slices: int) -> None:
    stack = stack_of(tilt_deg, slices)
    assert [issue.code for issue in stack.issues] == ["geometry.tilt"]
    assert stack.tilt_deg == pytest.approx(abs(tilt_deg))
    assert needs_straightening(stack.geometry, stack.positions_mm)


def test_fine_pixels_leave_less_room_for_rounding() -> None:
    assert stack_of(0.08, pixel_mm=0.1).tilt_deg > 0
    assert stack_of(0.02, pixel_mm=0.1).tilt_deg > 0


def test_missing_slices_beside_rounding_move_no_pixel() -> None:
    stack = stack_of(0.08, without=(7, 8))
    volume = volume_on(stack)
    upright = straightened(volume, stack.positions_mm)
    assert upright.missing_slices == (7, 8)
    there = [k for k in range(36) if k not in upright.missing_slices]
    np.testing.assert_array_equal(upright.voxels[there], volume.voxels)


def test_a_real_series_with_rounded_positions_keeps_its_voxels() -> None:
    (series,) = scan_paths([data_path("core/dicom/mr-brain-pd-papaya")]).series
    acquired = assemble_volume(series.instances, series.summary)
    volume = assemble_volume(series.instances, series.summary, correct=True)
    assert not {"geometry.tilt", "geometry.shear_corrected"} & {issue.code for issue in volume.issues}
    np.testing.assert_array_equal(volume.voxels, acquired.voxels)
    axes = volume.geometry.direction_ijk
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-5)
