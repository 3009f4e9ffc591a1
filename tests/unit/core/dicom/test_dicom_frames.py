"""Multi-frame objects: stacks, time points and what else repeats a position; per-frame windows and rescale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from core.dicom.assemble import assemble_volume
from core.dicom.scan import scan_paths
from core.domain.study import ScannedSeries, SeriesKind
from core.domain.window import Window
from tests.fakes.data import data_path
from tests.fakes.dicom_files import UID_ROOT, empty_dataset, save, set_pixels

AXIAL, CORONAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1)
ENHANCED = {
    "CT": "1.2.840.10008.5.1.4.1.1.2.1",
    "MR": "1.2.840.10008.5.1.4.1.1.4.1",
    "PT": "1.2.840.10008.5.1.4.1.1.130",
}


@dataclass(frozen=True)
class Frame:
    """One frame; its pixels all hold its number in the file."""

    position: tuple[float, float, float]
    orientation: tuple[float, ...] = AXIAL
    time: int | None = None
    trigger: float | None = None
    b_value: float | None = None
    stack: str = ""
    slope: float | None = None
    window: tuple[float, float] | None = None


def item(**elements: object) -> list[Dataset]:
    data = Dataset()
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    return [data]


def write(path: Path, frames: Sequence[Frame], modality: str = "MR") -> ScannedSeries:
    data = empty_dataset(ENHANCED[modality], f"{UID_ROOT}.51")
    data.Modality = modality
    data.FrameOfReferenceUID = f"{UID_ROOT}.52"
    set_pixels(data, np.repeat(np.arange(len(frames), dtype=np.int16), 20).reshape(-1, 4, 5))
    data.NumberOfFrames = len(frames)
    (shared,) = item(PixelMeasuresSequence=item(PixelSpacing=[1.5, 2.5], SliceThickness=3))
    data.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for frame in frames:
        (group,) = item(
            PlanePositionSequence=item(ImagePositionPatient=list(frame.position)),
            PlaneOrientationSequence=item(ImageOrientationPatient=list(frame.orientation)),
        )
        content = Dataset()
        if frame.time is not None:
            content.TemporalPositionIndex = frame.time
        if frame.stack:
            content.StackID, content.InStackPositionNumber = frame.stack, 1
        group.FrameContentSequence = [content]
        if frame.trigger is not None:
            group.CardiacSynchronizationSequence = item(NominalCardiacTriggerDelayTime=frame.trigger)
        if frame.b_value is not None:
            group.MRDiffusionSequence = item(DiffusionBValue=frame.b_value)
        if frame.slope is not None:
            group.PixelValueTransformationSequence = item(
                RescaleSlope=frame.slope, RescaleIntercept=0, RescaleType="HU" if modality == "CT" else "US"
            )
        if frame.window is not None:
            group.FrameVOILUTSequence = item(WindowCenter=frame.window[0], WindowWidth=frame.window[1])
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = groups
    (series,) = scan_paths([save(data, path)]).series
    return series


def stacks(series: ScannedSeries) -> list[list[int]]:
    """Return the numbers of the frames in each time point, and check that places belong to them."""
    found = []
    for time in range(series.summary.time_points):
        volume = assemble_volume(series.instances, series.summary, time_point=time)
        found.append([int(v) for v in volume.voxels[:, 0, 0]])
        assert volume.frame_numbers == tuple(n + 1 for n in found[-1])
    return found


def at(z: float, **more: object) -> Frame:
    return Frame((0.0, 0.0, z), **more)  # type: ignore[arg-type]


def test_temporal_positions_are_time_points(tmp_path: Path) -> None:
    frames = [at(z, time=t) for t in (2, 1, 3) for z in (4.0, 0.0)]
    series = write(tmp_path / "e.dcm", frames)
    assert (series.summary.time_points, series.summary.dimension) == (3, "time point")
    assert (series.summary.shape_kji, series.summary.frames, series.summary.instances) == ((2, 4, 5), 6, 1)
    assert stacks(series) == [[3, 2], [1, 0], [5, 4]]


def test_trigger_delays_are_cardiac_phases(tmp_path: Path) -> None:
    frames = [at(z, trigger=t + z / 10) for z in (0.0, 4.0) for t in (300.0, 0.0, 150.0)]
    series = write(tmp_path / "e.dcm", frames)
    assert series.summary.dimension == "cardiac phase"
    assert stacks(series) == [[1, 4], [2, 5], [0, 3]]


def test_b_values_of_one_file_are_a_dimension(tmp_path: Path) -> None:
    series = write(tmp_path / "e.dcm", [at(z, b_value=b) for b in (1000.0, 0.0) for z in (0.0, 4.0)])
    assert series.summary.dimension == "b-value"
    assert stacks(series) == [[2, 3], [0, 1]]


def test_repetitions_without_any_statement_follow_the_frames(tmp_path: Path) -> None:
    series = write(tmp_path / "e.dcm", [at(z) for _ in range(2) for z in (0.0, 4.0)])
    assert (series.summary.time_points, series.summary.dimension) == (2, "repetition")
    assert "series.repeats_unstated" in {issue.code for issue in series.summary.issues}
    assert stacks(series) == [[0, 1], [2, 3]]


def test_stacks_of_other_directions_are_shown_one_by_one(tmp_path: Path) -> None:
    frames = [at(z, stack="1") for z in (0.0, 4.0)]
    frames += [Frame((0.0, y, 0.0), CORONAL, stack="2") for y in (0.0, 5.0)]
    series = write(tmp_path / "e.dcm", frames)
    assert (series.summary.time_points, series.summary.dimension) == (2, "stack")
    assert "series.stacks" in {issue.code for issue in series.summary.issues}
    assert stacks(series) == [[0, 1], [2, 3]]
    spacings = [
        assemble_volume(series.instances, series.summary, time_point=t).geometry.spacing_ijk_mm[2]
        for t in (0, 1)
    ]
    assert spacings == pytest.approx([4.0, 5.0])


def test_parallel_stacks_that_continue_each_other_are_one(tmp_path: Path) -> None:
    series = write(tmp_path / "e.dcm", [at(4.0 * n, stack="1" if n < 2 else "2") for n in range(4)])
    assert series.summary.time_points == 1
    assert stacks(series) == [[0, 1, 2, 3]]


def test_parallel_stacks_apart_from_each_other_stay_apart(tmp_path: Path) -> None:
    frames = [at(z, stack="1") for z in (0.0, 4.0, 8.0)] + [at(z, stack="2") for z in (100.0, 104.0, 108.0)]
    series = write(tmp_path / "e.dcm", frames)
    assert (series.summary.time_points, series.summary.dimension) == (2, "stack")
    assert stacks(series) == [[0, 1, 2], [3, 4, 5]]


def test_frames_that_form_no_stacks_are_a_cine(tmp_path: Path) -> None:
    series = write(tmp_path / "e.dcm", [at(0.0), at(0.0), at(4.0)])
    assert series.summary.kind is SeriesKind.CINE
    assert "geometry.frames_unordered" in {issue.code for issue in series.summary.issues}
    assert stacks(series) == [[0, 1, 2]]


def test_missing_frames_are_blank_when_corrected(tmp_path: Path) -> None:
    series = write(tmp_path / "e.dcm", [at(z) for z in (0.0, 3.0, 6.0, 12.0, 15.0, 18.0)])
    assert "geometry.gap" in {issue.code for issue in series.summary.issues}
    volume = assemble_volume(series.instances, series.summary, correct=True)
    assert volume.missing_slices == (3,)
    assert [int(v) for v in volume.voxels[:, 0, 0]] == [0, 1, 2, 0, 3, 4, 5]
    assert volume.frame_numbers == (1, 2, 3, 0, 4, 5, 6)


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_frames_have_their_own_rescale_and_window(tmp_path: Path, modality: str) -> None:
    frames = [at(4.0 * n, slope=float(n + 1), window=(10.0 * n + 10, 100.0)) for n in range(3)]
    series = write(tmp_path / "e.dcm", frames, modality)
    volume = assemble_volume(series.instances, series.summary)
    assert [float(v) for v in volume.voxels[:, 0, 0]] == [0.0, 2.0, 6.0]
    assert volume.windows == (Window(20.0, 100.0),)
    assert volume.units == ("HU" if modality == "CT" else "stored")
    assert volume.geometry.spacing_ijk_mm == pytest.approx((2.5, 1.5, 4.0))


@pytest.mark.parametrize("size", ["23x38x3", "24x38x3"])
def test_a_legacy_converted_ct_equals_its_single_frames(size: str) -> None:
    folder = data_path(f"core/dicom/seg-liver-dcmqi/{size}")
    found = [s for s in scan_paths([folder]).series if s.summary.modality == "CT"]
    single, multi = sorted(found, key=lambda s: -s.summary.instances)
    assert (single.summary.instances, multi.summary.instances) == (3, 1)
    a, b = (assemble_volume(s.instances, s.summary) for s in (single, multi))
    assert np.array_equal(a.voxels, b.voxels)
    assert a.geometry.same_grid_as(b.geometry, 1e-3)
    assert a.windows == b.windows
