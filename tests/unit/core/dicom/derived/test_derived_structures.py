"""Structure sets: contours, holes, planes across any axis, references that lead nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as Items

from core.dicom.derived import polygons, rasterize
from core.dicom.derived.grid import TargetGrid
from core.dicom.derived.polygons import filled
from core.dicom.derived.rasterize import contours_as_segmentation
from core.dicom.derived.rtstruct import read_structures
from core.domain.derived import Contour, DerivedHeader, RegionOfInterest, StructureContours
from core.domain.errors import AppError, InputError, SafetyError
from core.domain.geometry import VolumeGeometry
from core.domain.study import ObjectKind
from tests.fakes.data import data_path
from tests.fakes.derived_files import FRAME_OF_REFERENCE, SOURCE_SERIES, grid_of
from tests.fakes.dicom_files import UID_ROOT, empty_dataset, save
from tests.fakes.marked_phantom import grid, orientations

PHANTOM = "core/dicom/rtstruct-phantom-rtutils"
STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"

Drawing = dict[str, list[np.ndarray]]


def structure_set(
    drawing: Drawing, *, kind: str = "CLOSED_PLANAR", series: str = SOURCE_SERIES
) -> FileDataset:
    data = empty_dataset(STRUCTURES, f"{UID_ROOT}.9.1")
    data.Modality, data.StructureSetLabel = "RTSTRUCT", "Plan"
    data.StructureSetDate, data.StructureSetTime = "20240102", "030405"
    frame, study, referenced = Dataset(), Dataset(), Dataset()
    frame.FrameOfReferenceUID = FRAME_OF_REFERENCE
    referenced.SeriesInstanceUID = series
    study.RTReferencedSeriesSequence = Items([referenced])
    frame.RTReferencedStudySequence = Items([study])
    data.ReferencedFrameOfReferenceSequence = Items([frame])
    data.StructureSetROISequence, data.ROIContourSequence = Items([]), Items([])
    data.RTROIObservationsSequence = Items([])
    for number, (name, contours) in enumerate(drawing.items(), start=1):
        roi, drawn, observation = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ROIDisplayColor = number, [10 * number, 20, 30]
        drawn.ContourSequence = Items([contour_item(points, kind) for points in contours])
        observation.ReferencedROINumber, observation.RTROIInterpretedType = number, "ORGAN"
        data.StructureSetROISequence.append(roi)
        data.ROIContourSequence.append(drawn)
        data.RTROIObservationsSequence.append(observation)
    return data


def contour_item(points: np.ndarray, kind: str) -> Dataset:
    item = Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
    item.ContourData = [f"{v:.8g}" for v in points.ravel()]
    return item


def box(geometry: VolumeGeometry, axis: int, plane: float, low: tuple, high: tuple) -> np.ndarray:
    """A rectangle across an axis, its corners given in the two other index axes."""
    corners = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
    return geometry.lps_of([np.insert(np.array(c, float), axis, plane) for c in corners])


def rasterised(tmp_path: Path, drawing: Drawing, geometry: VolumeGeometry, **options: str):
    path = save(structure_set(drawing, **options), tmp_path / "rt.dcm")
    return contours_as_segmentation(read_structures(path), geometry)


def test_the_phantom_of_rt_utils() -> None:
    folder = data_path(PHANTOM)
    target = grid_of(sorted(folder.glob("ct_*.dcm")))
    structures = read_structures(folder / "rt.dcm", target)
    (region,) = structures.regions
    assert (region.name, len(region.contours), region.color_rgb) == ("ROI-1", 2, (162, 136, 95))
    # rt-utils writes a random frame of reference but names the images
    assert [issue.code for issue in structures.header.issues] == ["derived.frame_of_reference"]
    seg = contours_as_segmentation(structures, target.geometry)
    (layer,) = seg.layers
    outer = 24.0 * 24.0
    assert layer.labels[0].any() and not layer.labels[1].any()
    assert 0 < int(layer.labels.sum()) * np.prod(target.geometry.spacing_ijk_mm[:2]) < outer


@pytest.mark.parametrize("name, missing", [("invalid_reference_rt", 3), ("non_existent_reference_rt", 1)])
def test_dangling_references_are_told(name: str, missing: int) -> None:
    folder = data_path(PHANTOM)
    structures = read_structures(folder / f"{name}.dcm", grid_of(sorted(folder.glob("ct_*.dcm"))))
    assert [region.name for region in structures.regions] == ["ROI-1", "ROI-2", "ROI-3", "ROI-4"]
    assert sum(len(region.contours) for region in structures.regions) == 12
    (issue,) = structures.header.issues
    assert issue.code == "derived.missing_images" and f" {missing} image" in issue.message


def test_pydicoms_structure_set() -> None:
    path = get_testdata_file("rtstruct.dcm", download=False)
    if path is None:
        pytest.skip("pydicom brings no rtstruct.dcm")
    structures = read_structures(Path(str(path)))
    assert [len(region.contours) > 0 for region in structures.regions].count(True) >= 1


def test_contours_within_contours_are_holes_and_holes_may_have_islands(tmp_path: Path) -> None:
    geometry = grid(shape_kji=(3, 20, 20))
    boxes = [box(geometry, 2, 1, (a - 0.5, a - 0.5), (19.5 - a, 19.5 - a)) for a in (2, 5, 8)]
    (layer,) = rasterised(tmp_path, {"Ring": boxes}, geometry).layers
    wanted = np.zeros((20, 20), bool)
    for a in (2, 5, 8):
        wanted[a : 20 - a, a : 20 - a] ^= True
    assert np.array_equal(layer.labels[1] == 1, wanted) and not layer.labels[[0, 2]].any()


def test_a_keyhole_has_its_hole(tmp_path: Path) -> None:
    geometry = grid(shape_kji=(1, 20, 20))
    path_ij = [(1.5, 1.5), (17.5, 1.5), (17.5, 10.2), (12.5, 10.2), (12.5, 5.5), (5.5, 5.5), (5.5, 14.5),
               (12.5, 14.5), (12.5, 10.2), (17.5, 10.2), (17.5, 17.5), (1.5, 17.5)]  # fmt: skip
    keyhole = geometry.lps_of([(i, j, 0) for i, j in path_ij])
    (layer,) = rasterised(tmp_path, {"Keyhole": [keyhole]}, geometry).layers
    wanted = np.zeros((20, 20), bool)
    wanted[2:18, 2:18] = True
    wanted[6:15, 6:13] = False
    assert np.array_equal(layer.labels[0] == 1, wanted)


def test_neighbours_share_no_voxel_and_leave_none_out(tmp_path: Path) -> None:
    geometry = grid(shape_kji=(1, 12, 12))
    left, right = (box(geometry, 2, 0, (a, 2.0), (b, 9.0)) for a, b in ((1.0, 5.0), (5.0, 10.0)))
    seg = rasterised(tmp_path, {"Left": [left], "Right": [right]}, geometry)
    (layer,) = seg.layers
    assert (layer.labels == 1).sum() == 4 * 7 and (layer.labels == 2).sum() == 5 * 7


def test_structures_that_overlap_go_to_layers_of_their_own(tmp_path: Path) -> None:
    geometry = grid(shape_kji=(1, 12, 12))
    body, organ = (box(geometry, 2, 0, (a, a), (11.0 - a, 11.0 - a)) for a in (0.5, 3.5))
    seg = rasterised(tmp_path, {"Body": [body], "Organ": [organ], "Empty": []}, geometry)
    names = [segment.label for layer in seg.layers for segment in layer.segments]
    assert sorted(names) == ["Body", "Empty", "Organ"] and len(seg.layers) == 2
    counts = {s.label: int((x.labels == s.value).sum()) for x in seg.layers for s in x.segments}
    assert counts == {"Body": 100, "Organ": 16, "Empty": 0}


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("index", range(24))
def test_contours_may_be_drawn_across_any_axis(tmp_path: Path, index: int, axis: int) -> None:
    geometry = grid(orientations()[index], shape_kji=(9, 10, 11))
    drawn = [box(geometry, axis, plane, (1.5, 2.5), (5.5, 7.5)) for plane in (3, 4)]
    seg = rasterised(tmp_path, {"Box": drawn}, geometry)
    wanted = np.zeros((9, 10, 11), bool)
    ranges: list = [slice(2, 6), slice(3, 8)]
    ranges.insert(axis, slice(3, 5))
    wanted[tuple(ranges[::-1])] = True
    assert np.array_equal(seg.layers[0].labels == 1, wanted)


def test_what_cannot_be_filled_is_counted(tmp_path: Path) -> None:
    geometry = grid(shape_kji=(9, 10, 11))
    oblique = geometry.lps_of([(1, 1, 1), (8, 1, 4), (8, 8, 7), (1, 8, 4)])
    beyond = box(geometry, 2, 20, (1, 1), (5, 5))
    every_second = [box(geometry, 2, k, (1, 1), (5, 5)) for k in (0, 2, 4, 6)]
    seg = rasterised(tmp_path, {"Odd": [oblique, beyond], "Sparse": every_second}, geometry)
    codes = [issue.code for issue in seg.header.issues]
    assert codes == ["rtstruct.oblique_contours", "derived.outside_grid", "rtstruct.slices_between"]
    assert seg.layers[0].labels.any(axis=(1, 2)).tolist() == [True, False] * 3 + [True, False, False]


@pytest.mark.parametrize("kind, closed", [("CLOSED_PLANAR", True), ("CLOSEDPLANAR_XOR", True),
                                          ("OPEN_PLANAR", False), ("POINT", False)])  # fmt: skip
def test_only_closed_contours_are_filled(tmp_path: Path, kind: str, closed: bool) -> None:
    geometry = grid(shape_kji=(1, 12, 12))
    drawing = {"A": [box(geometry, 2, 0, (1.5, 1.5), (4.5, 4.5))]}
    structures = read_structures(save(structure_set(drawing, kind=kind), tmp_path / "rt.dcm"))
    (contour,) = structures.regions[0].contours
    assert contour.closed is closed and not contour.points_lps_mm.flags.writeable
    assert (structures.regions[0].interpreted_type, structures.header.created) == (
        "ORGAN",
        "2024-01-02 03:04",
    )
    assert contours_as_segmentation(structures, geometry).layers[0].labels.any() == closed


def test_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    geometry = VolumeGeometry(grid().shape_kji, grid().lps_from_ijk, "1.9.9")
    path = save(structure_set({"A": []}, series="1.8.8"), tmp_path / "rt.dcm")
    with pytest.raises(SafetyError, match="another frame of reference"):
        read_structures(path, TargetGrid(geometry, SOURCE_SERIES))


def test_damaged_contours_are_left_out_and_counted(tmp_path: Path) -> None:
    geometry = grid()
    data = structure_set({"A": [box(geometry, 2, 0, (1, 1), (5, 5))] * 5})
    contours = data.ROIContourSequence[0].ContourSequence
    contours[0].ContourData = ["1", "2"]
    del contours[1].ContourData
    contours[2].ContourData = ["1e30", "0", "0"]
    contours[3].NumberOfContourPoints = 77
    structures = read_structures(save(data, tmp_path / "rt.dcm"))
    assert len(structures.regions[0].contours) == 2
    assert [issue.code for issue in structures.header.issues] == [
        "rtstruct.invalid_contours", "rtstruct.point_count",
    ]  # fmt: skip


def test_a_structure_number_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    data = structure_set({"A": [], "B": []})
    data.StructureSetROISequence[1].ROINumber = 1
    with pytest.raises(InputError, match="ROI Number"):
        read_structures(save(data, tmp_path / "rt.dcm"))


def test_contours_that_run_to_and_fro_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasterize, "MAX_CROSSINGS", 1000)
    geometry = grid(shape_kji=(1, 20, 20))
    zigzag = geometry.lps_of([(n / 50, 19.0 * (n % 2), 0) for n in range(200)])
    header = DerivedHeader(ObjectKind.STRUCTURE_SET, "1", "1", "1", "1")
    region = RegionOfInterest(1, "A", (0, 0, 0), "", (Contour(zigzag),))
    with pytest.raises(AppError, match="without end"):
        contours_as_segmentation(StructureContours(header, (region,)), geometry)


def test_filling_agrees_with_a_test_of_each_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polygons, "_CROSSINGS_AT_ONCE", 7)
    random = np.random.default_rng(5)
    for _ in range(40):
        contours = [random.uniform(-4, 24, (int(random.integers(3, 12)), 2)) for _ in range(2)]
        wanted = np.zeros((18, 20), bool)
        for points in contours:
            for row in range(18):
                for column in range(20):
                    wanted[row, column] ^= surrounds(points, column, row)
        found = filled(18, 20, contours)
        mask = np.zeros((18, 20), bool)
        if found is not None:
            mask[found[0]] = found[1]
        assert np.array_equal(mask, wanted)


def surrounds(points: np.ndarray, x: float, y: float) -> bool:
    """The classical ray to the left, one edge at a time."""
    inside = False
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if (y0 < y) != (y1 < y) and x0 + (y - y0) / (y1 - y0) * (x1 - x0) < x:
            inside = not inside
    return inside


def test_a_structure_in_another_frame_of_reference_is_not_drawn(tmp_path: Path) -> None:
    geometry = grid()
    data = structure_set({name: [box(geometry, 2, 0, (1, 1), (5, 5))] for name in ("Here", "Elsewhere")})
    data.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = FRAME_OF_REFERENCE
    data.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.9.9"
    structures = read_structures(save(data, tmp_path / "rt.dcm"))
    assert [len(region.contours) for region in structures.regions] == [1, 0]
    assert [issue.code for issue in structures.header.issues] == ["rtstruct.several_frames"]
