"""Grouping: what may be stacked and what may not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.dicom.assemble import assemble_volume
from core.dicom.scan import scan_paths
from core.domain.errors import InputError
from core.domain.geometry import VolumeGeometry
from core.domain.study import ScannedSeries, SeriesKind
from tests.fakes.dicom_files import UID_ROOT, axial_geometry, empty_dataset, save, set_pixels, write_stack

VOXELS = np.arange(6 * 4 * 5, dtype=np.int16).reshape(6, 4, 5)
GRID = axial_geometry((6, 4, 5))


def issues(series: ScannedSeries) -> dict[str, bool]:
    return {issue.code: issue.blocks_volumetry for issue in series.summary.issues}


def message(series: ScannedSeries, code: str) -> str:
    return next(issue.message for issue in series.summary.issues if issue.code == code)


def scan(folder: Path) -> tuple[ScannedSeries, ...]:
    return scan_paths([folder]).series


def test_a_regular_stack_has_no_issue(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS, GRID)
    (series,) = scan(tmp_path)
    assert series.summary.regular
    assert series.summary.issues == ()
    assert series.summary.key == series.summary.series_uid
    assert series.summary.spacing_kji_mm == pytest.approx((2.0, 1.0, 1.0))
    assert series.summary.axis_codes == "LPS"


def test_a_localiser_is_no_slice(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS, GRID)
    side = VolumeGeometry.from_axes(
        (1, 4, 5), (1, 1, 1), np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]]), (0, 0, 0)
    )
    write_stack(tmp_path, VOXELS[:1], side, name="loc", SOPInstanceUID=f"{UID_ROOT}.5.1",
                ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])  # fmt: skip
    first, second = scan(tmp_path)
    assert (first.summary.instances, second.summary.instances) == (6, 1)
    assert second.summary.key == first.summary.key + "#2"
    assert second.summary.kind is SeriesKind.IMAGE
    assert "series.split" in issues(first)


@pytest.mark.parametrize(
    ("keyword", "values"),
    [("EchoTime", ("5", "80")), ("ConvolutionKernel", ("B30", "B70")), ("DiffusionBValue", (0.0, 1000.0))],
)
def test_images_at_one_position_split_by_what_they_state(tmp_path: Path, keyword: str, values: tuple) -> None:
    for number, value in enumerate(values):
        write_stack(tmp_path, VOXELS + 100 * number, GRID, modality="MR", name=f"t{number}_",
                    SOPInstanceUID=lambda k, n=number: f"{UID_ROOT}.6.{n}.{k + 1}", **{keyword: value})  # fmt: skip
    first, second = scan(tmp_path)
    assert first.summary.shape_kji == second.summary.shape_kji == (6, 4, 5)
    assert {s.summary.key[-2:] for s in (first, second)} >= {"#2"}
    means = [assemble_volume(s.instances, s.summary).voxels.mean() for s in (first, second)]
    assert abs(means[1] - means[0]) == pytest.approx(100)
    assert all("[" in s.summary.description for s in (first, second))


def write_times(folder: Path, times: int, **overrides: object) -> list[Path]:
    """Write VOXELS + 10 × t at the same positions; instance numbers count slices first."""
    paths = []
    for time in range(times):
        given = {k: (lambda n, v=v, t=time: v(t, n)) if callable(v) else v for k, v in overrides.items()}
        paths += write_stack(folder, VOXELS + 10 * time, GRID, modality="MR", name=f"t{time}_",
                             **{"SOPInstanceUID": lambda k, t=time: f"{UID_ROOT}.7.{t}.{k + 1}",
                                "InstanceNumber": lambda k, t=time: 6 * t + k + 1, **given})  # fmt: skip
    return paths


def first_values(series: ScannedSeries) -> list[int]:
    times = range(series.summary.time_points)
    volumes = [assemble_volume(series.instances, series.summary, time_point=t) for t in times]
    assert all(v.time_point == t and v.time_points == len(times) for t, v in enumerate(volumes))
    return [int(v.voxels[0, 0, 0]) for v in volumes]


def test_repetitions_without_any_statement_stay_together_in_instance_order(tmp_path: Path) -> None:
    write_times(tmp_path, 3)
    (series,) = scan(tmp_path)
    summary = series.summary
    assert (summary.time_points, summary.dimension) == (3, "repetition")
    assert (summary.shape_kji, summary.instances, summary.frames) == ((6, 4, 5), 18, 18)
    assert summary.regular and list(issues(series)) == ["series.repeats_unstated"]
    assert first_values(series) == [0, 10, 20]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({"TemporalPositionIdentifier": lambda t, _k: 3 - t}, "time point"),
        ({"TriggerTime": lambda t, k: 300 - 100 * t + 0.3 * k, "NominalInterval": 900}, "cardiac phase"),
        ({"AcquisitionTime": lambda t, k: f"1015{50 - 10 * t:02d}.{k:02d}"}, "time point"),
    ],
)
def test_stated_times_win_over_instance_numbers(tmp_path: Path, overrides: dict, name: str) -> None:
    write_times(tmp_path, 3, **overrides)
    (series,) = scan(tmp_path)
    assert series.summary.dimension == name
    assert series.summary.issues == ()
    assert first_values(series) == [20, 10, 0]


@pytest.mark.parametrize(("stated", "name"), [(3, "time point"), (1, "repetition")])
def test_a_stated_number_of_times_makes_repetitions_time_points(
    tmp_path: Path, stated: int, name: str
) -> None:
    write_times(tmp_path, 3, NumberOfTemporalPositions=stated)
    (series,) = scan(tmp_path)
    assert series.summary.dimension == name
    assert ("series.repeats_unstated" in issues(series)) is (name == "repetition")
    assert first_values(series) == [0, 10, 20]


def test_an_incomplete_last_time_point_is_kept_apart(tmp_path: Path) -> None:
    for path in write_times(tmp_path, 3)[-2:]:
        path.unlink()
    whole, rest = scan(tmp_path)
    assert (whole.summary.time_points, whole.summary.instances) == (2, 12)
    assert (rest.summary.time_points, rest.summary.instances) == (1, 4)
    assert issues(rest)["series.incomplete_time_point"]


def test_an_incomplete_stated_time_point_is_kept_apart(tmp_path: Path) -> None:
    write_times(tmp_path, 3, TemporalPositionIdentifier=lambda t, _k: t + 1)[8].unlink()
    whole, rest = scan(tmp_path)
    assert first_values(whole) == [0, 20]
    assert "time point 2" in rest.summary.description


def test_a_time_point_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_times(tmp_path, 2)
    (series,) = scan(tmp_path)
    with pytest.raises(InputError) as caught:
        assemble_volume(series.instances, series.summary, time_point=2)
    assert caught.value.code == "series.time_point"


def test_a_missing_slice_is_named(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS, GRID)[3].unlink()
    (series,) = scan(tmp_path)
    assert issues(series)["geometry.gap"]
    assert "after slice 3" in message(series, "geometry.gap")
    assert not series.summary.regular
    assert series.summary.spacing_kji_mm is None


def test_irregular_spacing_is_named(tmp_path: Path) -> None:
    z = [0.0, 2.0, 4.0, 7.3, 9.3, 12.7]
    write_stack(tmp_path, VOXELS, GRID, ImagePositionPatient=lambda k: [0, 0, z[k]])
    (series,) = scan(tmp_path)
    assert issues(series)["geometry.irregular_spacing"]
    assert "3.400" in message(series, "geometry.irregular_spacing")


def test_rounded_positions_are_regular(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS, GRID, ImagePositionPatient=lambda k: [0, 0, round(0.625 * k, 1)])
    (series,) = scan(tmp_path)
    assert series.summary.regular
    assert issues(series) == {"geometry.spacing_jitter": False}


def test_a_slice_shifted_sideways_blocks_volumetry(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS, GRID, ImagePositionPatient=lambda k: [3.0 if k == 2 else 0.0, 0, 2.0 * k])
    (series,) = scan(tmp_path)
    assert issues(series)["geometry.misaligned"]
    assert "Slice 3" in message(series, "geometry.misaligned")


def test_a_repeated_slice_with_equal_pixels_is_dropped(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS, GRID)
    write_stack(tmp_path / "b", VOXELS[2:3], axial_geometry((1, 4, 5), origin_lps_mm=(-10, -20, 34)),
                SOPInstanceUID=f"{UID_ROOT}.8.1", InstanceNumber=50)  # fmt: skip
    result = scan_paths([tmp_path])
    assert [s.code for s in result.skipped] == ["dicom.duplicate_slice"]
    (series,) = result.series
    assert issues(series) == {"geometry.duplicate_slice": False}
    assert series.summary.instances == 6


def test_different_images_at_one_position_block_volumetry(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS, GRID)
    write_stack(tmp_path / "b", VOXELS[4:5] + 7, axial_geometry((1, 4, 5), origin_lps_mm=(-10, -20, 34)),
                SOPInstanceUID=f"{UID_ROOT}.8.1", InstanceNumber=50)  # fmt: skip
    series = scan(tmp_path)
    assert [s.summary.instances for s in series] == [6, 1]
    assert all(issues(s)["geometry.duplicate_position"] for s in series)


def test_mixed_frames_of_reference_are_separated(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS, GRID, FrameOfReferenceUID=lambda k: f"{UID_ROOT}.{3000 + (k > 2)}")
    series = scan(tmp_path)
    assert [s.summary.instances for s in series] == [3, 3]
    assert "images 1 to 3" in message(series[0], "geometry.mixed_frame_of_reference")


def test_a_frame_of_reference_per_slice_is_tolerated(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS, GRID, FrameOfReferenceUID=lambda k: f"{UID_ROOT}.{3000 + k}")
    (series,) = scan(tmp_path)
    assert issues(series) == {"geometry.frame_of_reference_varies": False}


def test_two_patients_in_one_series_are_separated(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS, GRID, PatientID=lambda k: f"P{k // 3}", PatientName=lambda k: f"N{k // 3}")
    series = scan(tmp_path)
    assert [s.summary.instances for s in series] == [3, 3]
    assert all(issues(s)["dicom.mixed_patients"] for s in series)


def test_sizes_and_spacings_are_separated(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS, GRID, PixelSpacing=lambda k: [1, 1] if k < 4 else [2, 2])
    assert [s.summary.instances for s in scan(tmp_path)] == [4, 2]


@pytest.mark.parametrize("spacing", [None, [0, 0], ["0.000", "0.000"], [-1, 1]])
def test_unusable_pixel_spacing_blocks_volumetry(tmp_path: Path, spacing: list | None) -> None:
    write_stack(tmp_path, VOXELS, GRID, PixelSpacing=spacing)
    (series,) = scan(tmp_path)
    assert issues(series)["geometry.no_spacing"]
    volume = assemble_volume(series.instances, series.summary)
    assert volume.geometry.spacing_ijk_mm[:2] == (1.0, 1.0)
    assert not volume.allows_volumetry


def radiograph(path: Path, **elements: object) -> None:
    data = empty_dataset("1.2.840.10008.5.1.4.1.1.1", f"{UID_ROOT}.40.{abs(hash(path.name)) % 1000}")
    data.Modality = "CR"
    set_pixels(data, np.arange(30, dtype=np.uint16).reshape(5, 6))
    data.PhotometricInterpretation = "MONOCHROME1"
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    save(data, path)


def test_radiographs_stand_alone_and_say_how_they_are_calibrated(tmp_path: Path) -> None:
    radiograph(tmp_path / "a.dcm", PixelSpacing=[0.2, 0.2], InstanceNumber=1)
    radiograph(tmp_path / "b.dcm", ImagerPixelSpacing=[0.1, 0.1], InstanceNumber=2)
    radiograph(tmp_path / "c.dcm", ImagerPixelSpacing=[0, 0], InstanceNumber=3)
    a, b, c = scan(tmp_path)
    assert all(s.summary.kind is SeriesKind.IMAGE and s.summary.instances == 1 for s in (a, b, c))
    assert "geometry.uncalibrated" not in issues(a)
    assert issues(b)["geometry.uncalibrated"]
    assert issues(c)["geometry.no_spacing"]
    assert assemble_volume(a.instances, a.summary).inverted
    assert b.summary.axis_codes == ""


def multi_frame(path: Path, positions: list[tuple[float, float, float]] | None) -> None:
    from pydicom.dataset import Dataset

    data = empty_dataset("1.2.840.10008.5.1.4.1.1.4.1", f"{UID_ROOT}.50")
    data.Modality = "MR"
    set_pixels(data, np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6))
    if positions is not None:
        shared = Dataset()
        measures, orientation = Dataset(), Dataset()
        measures.PixelSpacing = [1.5, 1.5]
        orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        shared.PixelMeasuresSequence = [measures]
        shared.PlaneOrientationSequence = [orientation]
        data.SharedFunctionalGroupsSequence = [shared]
        frames = []
        for position in positions:
            plane, item = Dataset(), Dataset()
            plane.ImagePositionPatient = list(position)
            item.PlanePositionSequence = [plane]
            frames.append(item)
        data.PerFrameFunctionalGroupsSequence = frames
    save(data, path)


def test_enhanced_frames_are_sorted_into_a_volume(tmp_path: Path) -> None:
    multi_frame(tmp_path / "e.dcm", [(0, 0, 6), (0, 0, 3), (0, 0, 9), (0, 0, 0)])
    (series,) = scan(tmp_path)
    assert series.summary.kind is SeriesKind.VOLUME
    assert series.summary.spacing_kji_mm == pytest.approx((3.0, 1.5, 1.5))
    volume = assemble_volume(series.instances, series.summary)
    assert volume.frame_numbers == (4, 2, 1, 3)
    assert [int(v) for v in volume.voxels[:, 0, 0]] == [90, 30, 0, 60]
    assert volume.geometry.origin_lps_mm == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("positions", [None, [(0, 0, 0)] * 4])
def test_frames_without_distinct_positions_are_a_cine(tmp_path: Path, positions: list | None) -> None:
    multi_frame(tmp_path / "e.dcm", positions)
    (series,) = scan(tmp_path)
    assert series.summary.kind is SeriesKind.CINE
    assert issues(series)["geometry.no_position"]
    assert assemble_volume(series.instances, series.summary).voxels.shape == (4, 5, 6)


def test_keys_do_not_depend_on_the_order_of_files(tmp_path: Path) -> None:
    paths = []
    for time in range(2):
        paths += write_stack(tmp_path / str(time), VOXELS, GRID, modality="MR",
                             SOPInstanceUID=lambda k, t=time: f"{UID_ROOT}.7.{t}.{k + 1}")  # fmt: skip
    forward = scan_paths(paths).series
    backward = scan_paths(paths[::-1]).series
    assert [(s.summary.key, s.instances) for s in forward] == [(s.summary.key, s.instances) for s in backward]
