"""Segmentations land on the voxels they were made from, whatever their encoding, order and orientation."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataset import FileDataset

from core.dicom.derived import grid as derived_grid
from core.dicom.derived.grid import TargetGrid
from core.dicom.derived.seg import read_segmentation
from core.domain.derived import DerivedSegmentation
from core.domain.errors import AppError, EnvironmentFault, InputError, SafetyError
from core.domain.geometry import VolumeGeometry, apply_reorientation
from tests.fakes.data import data_path
from tests.fakes.derived_files import (
    FRAME_OF_REFERENCE,
    SOURCE_SERIES,
    frames_of_labels,
    grid_of,
    seg_dataset,
    write_seg_file,
)
from tests.fakes.dicom_files import save
from tests.fakes.marked_phantom import SPACING_IJK_MM, grid, labels, orientations

ZOO = "core/dicom/pydicom-data-zoo"
LIVER = "core/dicom/seg-liver-dcmqi"
VALUES = (2, 5)
CODES = [
    "".join(pair[side] for pair, side in zip(order, sides, strict=True))
    for order in permutations(("LR", "PA", "SI"))
    for sides in product((0, 1), repeat=3)
]


def named(geometry: VolumeGeometry) -> TargetGrid:
    with_frame = VolumeGeometry(geometry.shape_kji, geometry.lps_from_ijk, FRAME_OF_REFERENCE)
    return TargetGrid(with_frame, SOURCE_SERIES)


def voxels(seg: DerivedSegmentation, label: str) -> int:
    return sum(
        int((layer.labels == s.value).sum())
        for layer in seg.layers
        for s in layer.segments
        if s.label == label
    )


def union(seg: DerivedSegmentation) -> np.ndarray:
    return np.max([layer.labels for layer in seg.layers], axis=0)


def centroid(seg: DerivedSegmentation, value: int) -> np.ndarray:
    k, j, i = np.nonzero(union(seg) == value)
    return seg.layers[0].geometry.lps_of(np.column_stack([i, j, k])).mean(axis=0)


def ct() -> TargetGrid:
    return grid_of(sorted(data_path(f"{LIVER}/ct-3slice").glob("*.dcm")))


@pytest.mark.parametrize("name", ["liver", "liver_expb", "liver_rle", "liver_j2k", "liver_deflate"])
def test_every_encoding_gives_the_same_liver(name: str) -> None:
    seg = read_segmentation(data_path(f"{ZOO}/{name}.dcm"), ct())
    reference = read_segmentation(data_path(f"{LIVER}/liver.dcm"), ct())
    assert voxels(seg, "Liver") == 107098 and seg.header.issues == () and seg.outside_voxels == 0
    assert np.array_equal(union(seg), union(reference))


def test_overlapping_segments_go_to_layers_of_their_own() -> None:
    seg = read_segmentation(data_path(f"{LIVER}/partial_overlaps.dcm"), ct())
    counts = {name: voxels(seg, name) for name in ("GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE")}
    assert sum(counts.values()) == 43639 and min(counts.values()) > 0
    assert len(seg.layers) == 3
    assert sorted(s.value for layer in seg.layers for s in layer.segments) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("size", ["23x38x3", "24x38x3"])
def test_columns_need_not_be_a_multiple_of_eight(size: str) -> None:
    """Weasis #820: bits run on from frame to frame."""
    folder = data_path(f"{LIVER}/{size}")
    seg = read_segmentation(folder / "seg" / "label.seg", grid_of(sorted((folder / "image").glob("*.dcm"))))
    whole = read_segmentation(folder / "seg" / "label.seg", grid_of([folder / "multiframe" / "mf.dcm"]))
    assert voxels(seg, "Liver") == voxels(whole, "Liver") > 300
    assert np.array_equal(union(seg), union(whole))


@pytest.mark.parametrize("name", ["sparse-labelmap-noppv", "sparse-labelmap-ppv5"])
def test_label_maps_leave_out_background_and_padding(name: str) -> None:
    grid_24 = grid_of(sorted(data_path(f"{LIVER}/24x38x3/image").glob("*.dcm")))
    seg = read_segmentation(data_path(f"{LIVER}/{name}.dcm"), grid_24)
    (layer,) = seg.layers
    assert [s.label for s in layer.segments] == ["Liver"] and layer.labels.shape == (3, 38, 24)
    assert voxels(seg, "Liver") == 630


@pytest.mark.data
def test_a_tumour_on_pet() -> None:
    folder = data_path("large/dicom/pt-headneck-qin0024")
    target = grid_of(sorted((folder / "PET").rglob("*.dcm")) or sorted((folder / "PET").iterdir()))
    seg = read_segmentation(next((folder / "SEG").iterdir()), target)
    total = voxels(seg, "Neoplasm, Primary") + voxels(seg, "Neoplasm, Secondary")
    assert total == 266
    assert total * target.geometry.voxel_volume_ml == pytest.approx(11.24, abs=0.005)


@pytest.mark.parametrize("codes", CODES)
def test_any_orientation_and_order_of_frames_lands_on_the_same_voxels(tmp_path: Path, codes: str) -> None:
    """The bug of TotalSegmentator PR 598 and OHIF #3420: mirrored in one axis, unnoticed."""
    source = grid()
    truth = labels()
    other, permutation, flips = source.reoriented(codes)
    turned = np.ascontiguousarray(apply_reorientation(truth, permutation, flips))
    frames = frames_of_labels(turned, other, VALUES)
    order = np.random.default_rng(len(codes) + CODES.index(codes)).permutation(len(frames))
    path = write_seg_file(tmp_path / "seg.dcm", [frames[n] for n in order], VALUES)
    seg = read_segmentation(path, named(source))
    assert np.array_equal(union(seg), truth) and seg.header.issues == () and seg.outside_voxels == 0
    alone = read_segmentation(path)
    for value in VALUES:
        assert np.linalg.norm(centroid(alone, value) - centroid(seg, value)) < 1e-3


@pytest.mark.parametrize("tilt_deg", [-15.0, 0.0, 20.0])
@pytest.mark.parametrize("index", range(24))
def test_on_another_grid_each_segment_keeps_its_centroid(tmp_path: Path, index: int, tilt_deg: float) -> None:
    own = grid(orientations()[index], tilt_deg=tilt_deg)
    truth = labels()
    path = write_seg_file(tmp_path / "seg.dcm", frames_of_labels(truth, own, VALUES), VALUES)
    fine = VolumeGeometry.from_axes((110, 130, 140), (0.25, 0.25, 0.25), np.eye(3), (0.0, 0.0, 0.0))
    matrix = fine.lps_from_ijk.copy()
    matrix[:3, 3] += np.array(own.center_lps_mm) - np.array(fine.center_lps_mm)
    target = named(VolumeGeometry(fine.shape_kji, matrix))
    seg = read_segmentation(path, target)
    assert [issue.code for issue in seg.header.issues] == ["derived.resampled"]
    for value in VALUES:
        k, j, i = np.nonzero(truth == value)
        wanted = own.lps_of(np.column_stack([i, j, k])).mean(axis=0)
        assert np.linalg.norm(centroid(seg, value) - wanted) <= 0.5 * min(SPACING_IJK_MM)
        ratio = own.voxel_volume_ml / target.geometry.voxel_volume_ml
        assert (union(seg) == value).sum() == pytest.approx((truth == value).sum() * ratio, rel=0.2)


def test_a_slightly_irregular_stack_is_matched_by_the_images_that_frames_name(tmp_path: Path) -> None:
    even = grid()
    truth = labels()
    uids = [f"1.2.3.{k}" for k in range(len(truth))]
    frames = []
    for value, mask, _, k in frames_of_labels(truth, even, VALUES):
        matrix = even.lps_from_ijk.copy()
        matrix[:3, 3] += matrix[:3, 2] * (0.4 if k == 1 else 0.0)
        frames.append((value, mask, VolumeGeometry(even.shape_kji, matrix), k))
    target = TargetGrid(named(even).geometry, SOURCE_SERIES, tuple(uids), (1,) * len(uids))
    path = write_seg_file(tmp_path / "seg.dcm", frames, VALUES, images=uids)
    seg = read_segmentation(path, target)
    assert np.array_equal(union(seg), truth) and seg.header.issues == ()


def test_voxels_beyond_the_images_are_counted_and_told(tmp_path: Path) -> None:
    own = grid()
    truth = labels()
    path = write_seg_file(tmp_path / "seg.dcm", frames_of_labels(truth, own, VALUES), VALUES)
    target = named(own.cropped((1, 2, 0), (4, 7, 11)))
    seg = read_segmentation(path, target)
    assert np.array_equal(union(seg), truth[1:, 2:])
    assert seg.outside_voxels == int((truth > 0).sum() - (truth[1:, 2:] > 0).sum()) > 0
    assert "derived.outside_grid" in [issue.code for issue in seg.header.issues]
    shifted = own.lps_from_ijk.copy()
    shifted[:3, 3] += (0.45 * own.spacing_ijk_mm[0], 0, 0)
    part = VolumeGeometry((4, 9, 11), shifted)
    assert read_segmentation(path, named(part)).outside_voxels == int((truth[4:] > 0).sum()) > 0


def test_fractions_are_kept_and_shown_from_one_half(tmp_path: Path) -> None:
    own = grid()
    values = np.zeros(own.shape_kji, np.uint8)
    values[1, 2:5, 3] = (99, 100, 200)
    path = write_seg_file(
        tmp_path / "seg.dcm", [(1, values[1], own, 1)], (1,), kind="FRACTIONAL", bits=8, maximum=200
    )
    seg = read_segmentation(path, named(own))
    (fractional,) = seg.fractional
    assert fractional.meaning == "probability" and not fractional.fraction.flags.writeable
    assert fractional.fraction[1, 2:5, 3].tolist() == pytest.approx([0.495, 0.5, 1.0])
    assert union(seg)[1, 2:5, 3].tolist() == [0, 1, 1] and union(seg).sum() == 2


@pytest.mark.parametrize("bits", [8, 16])
def test_label_maps_of_both_depths(tmp_path: Path, bits: int) -> None:
    own = grid()
    truth = labels().astype(np.uint16)
    numbers = (2, 5)
    if bits == 16:
        truth[truth == 5] = 4005
        numbers = (2, 4005)
    frames = [(0, plane, own, k) for k, plane in enumerate(truth)][::-1]
    path = write_seg_file(tmp_path / "seg.dcm", frames, numbers, kind="LABELMAP", bits=bits)
    seg = read_segmentation(path, named(own))
    assert np.array_equal(union(seg), truth) and len(seg.layers) == 1


def test_a_label_map_may_call_a_segment_zero_and_hold_undescribed_values(tmp_path: Path) -> None:
    own = grid()
    stored = np.full((9, 11), 7, np.uint8)
    stored[0, :3], stored[1, :4] = 0, 9
    data = seg_dataset([(0, stored, own, 0)], (0, 2), kind="LABELMAP", bits=8)
    data.PixelPaddingValue = 7
    seg = read_segmentation(save(data, tmp_path / "seg.dcm"), named(own))
    assert voxels(seg, "Mark 0") == 3 and voxels(seg, "segment 9") == 4
    assert "seg.undescribed" in [issue.code for issue in seg.header.issues]
    assert (union(seg)[0, 2:] == 0).all()


def test_frames_without_position_lie_on_the_image_they_name(tmp_path: Path) -> None:
    own = grid(shape_kji=(1, 9, 11))
    mask = labels()[1] == 2
    target = TargetGrid(own, SOURCE_SERIES, ("1.2.3",), (1,), positioned=False)
    path = write_seg_file(tmp_path / "seg.dcm", [(2, mask, own, 0)], (2,), positions=False, images=["1.2.3"])
    assert np.array_equal(union(read_segmentation(path, target))[0] == 2, mask)
    with pytest.raises(InputError, match="no position"):
        read_segmentation(path, named(grid()))
    with pytest.raises(InputError, match="no position"):
        read_segmentation(path)


def test_another_frame_of_reference_is_refused_unless_the_images_are_named(tmp_path: Path) -> None:
    own = grid()
    frames = frames_of_labels(labels(), own, VALUES)
    stranger = write_seg_file(
        tmp_path / "a.dcm", frames, VALUES, frame_of_reference="1.9.9", source_series="1.8.8"
    )
    with pytest.raises(SafetyError) as refusal:
        read_segmentation(stranger, named(own))
    assert refusal.value.code == "derived.frame_of_reference"
    careless = write_seg_file(tmp_path / "b.dcm", frames, VALUES, frame_of_reference="1.9.9")
    seg = read_segmentation(careless, named(own))
    assert [issue.code for issue in seg.header.issues] == ["derived.frame_of_reference"]
    assert np.array_equal(union(seg), labels())


def test_planes_that_are_missing_leave_a_gap_in_the_own_grid(tmp_path: Path) -> None:
    own = grid(shape_kji=(9, 9, 11))
    truth = labels((9, 9, 11))
    assert not truth[3].any()
    seg = read_segmentation(
        write_seg_file(tmp_path / "seg.dcm", frames_of_labels(truth, own, VALUES), VALUES)
    )
    filled = np.flatnonzero(truth.any(axis=(1, 2)))
    assert np.array_equal(union(seg), truth[filled[0] : filled[-1] + 1])


def test_three_hundred_segments_take_one_layer(tmp_path: Path) -> None:
    """OHIF #5407: a study of 132 MB with many segments took 30 GB."""
    own = VolumeGeometry.from_axes((20, 64, 64), (1, 1, 1), np.eye(3), (0, 0, 0))
    mask = np.ones((2, 2), bool)
    frames = []
    for number in range(1, 301):
        row, column = divmod(number - 1, 32)
        for k in range(20):
            plane = np.zeros((64, 64), bool)
            plane[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = mask
            frames.append((number, plane, own, k))
    path = write_seg_file(tmp_path / "seg.dcm", frames, range(1, 301))
    seg = read_segmentation(path, named(own))
    assert len(seg.layers) == 1 and seg.layers[0].labels.dtype == np.uint16
    assert np.bincount(seg.layers[0].labels.ravel())[1:].tolist() == [80] * 300


def test_what_would_not_fit_is_refused_before_it_is_allocated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = grid()
    frames = [(n, np.ones((9, 11), bool), own, 0) for n in range(1, 9)]
    path = write_seg_file(tmp_path / "seg.dcm", frames, range(1, 9))
    assert len(read_segmentation(path, named(own)).layers) == 8
    monkeypatch.setattr(derived_grid, "memory_limit", lambda: 4 * 495)
    with pytest.raises(EnvironmentFault, match="MB may be used"):
        read_segmentation(path, named(own))


def spoilt(data: FileDataset, what: str) -> FileDataset:
    groups = data.PerFrameFunctionalGroupsSequence
    match what:
        case "planes a kilometre apart":
            groups[-1].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 1e6]
            groups[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 0.002
        case "not a number":
            groups[0].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 2e7]
        case "orientation":
            groups[0].PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 1, 0, 0]
        case "spacing":
            groups[0].PixelMeasuresSequence[0].PixelSpacing = [0, 0]
        case "one turned":
            groups[0].PlaneOrientationSequence[0].ImageOrientationPatient = [0, 1, 0, 0, 0, 1]
        case "groups":
            data.PerFrameFunctionalGroupsSequence = groups[:-1]
        case "no segments":
            del data.SegmentSequence
        case "twice":
            data.SegmentSequence[1].SegmentNumber = 2
        case "type":
            data.SegmentationType = "SURFACE"
        case "pixels":
            data.PixelData = data.PixelData[:8]
        case "frames":
            data.NumberOfFrames = 900_000
        case "size":
            data.Rows = data.Columns = 65_535
    return data


@pytest.mark.parametrize(
    "what",
    ["planes a kilometre apart", "not a number", "orientation", "spacing", "one turned", "groups", "no segments",
     "twice", "type", "pixels", "frames", "size"],
)  # fmt: skip
def test_nonsense_is_refused(tmp_path: Path, what: str) -> None:
    data = spoilt(seg_dataset(frames_of_labels(labels(), grid(), VALUES), VALUES), what)
    path = save(data, tmp_path / "seg.dcm")
    with pytest.raises(AppError):
        read_segmentation(path)


@pytest.mark.parametrize("name", ["liver.dcm", "partial_overlaps.dcm", "23x38x3/seg/label.seg"])
def test_voxels_and_centroids_agree_with_highdicom(name: str) -> None:
    path = data_path(f"{LIVER}/{name}")
    seg = read_segmentation(path)
    reference = hd.seg.segread(path)
    for number in reference.segment_numbers:
        volume = reference.get_volume(segment_numbers=[number], combine_segments=False)
        indices = np.argwhere(volume.array[..., 0] > 0)
        (layer,) = (layer for layer in seg.layers if (layer.labels == number).any())
        k, j, i = np.nonzero(layer.labels == number)
        assert len(k) == len(indices)
        found = layer.geometry.lps_of(np.column_stack([i, j, k])).mean(axis=0)
        assert np.allclose(found, volume.map_indices_to_reference(indices).mean(axis=0), atol=1e-6)
