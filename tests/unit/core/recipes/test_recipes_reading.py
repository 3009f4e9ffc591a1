"""Images and masks of a case come onto one grid, or the case is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image

from core.domain.errors import AppError, InputError, SafetyError
from core.formats.nifti import read_nifti
from core.recipes.cases import CaseData
from core.recipes.reading import label_values, on_grid, read_case
from core.recipes.schema import Data
from core.recipes.sources.registry import list_cases
from tests.fakes.data import data_path
from tests.fakes.recipes import cube, noise, save_picture, save_volume


def first_case(folder: Path | None, **data: Any) -> CaseData:
    settings = Data.model_validate_json(json.dumps(data))
    return read_case(list_cases(settings.source, folder, settings.channels, settings.missing)[0], settings)


PATIENTS = {"source": {"name": "nifti_patients"}, "channels": ["t1"]}


def block(size: int = 6) -> np.ndarray[Any, np.dtype[np.int16]]:
    voxels = np.zeros((size, size, size), dtype=np.int16)
    voxels[1:3, 2:5, 1:4] = 1
    return voxels


def patient(folder: Path, mask: np.ndarray[Any, Any], **geometry: float) -> Path:
    save_volume(folder / "sub1/t1.nii.gz", np.arange(216, dtype=np.int16).reshape(6, 6, 6), cube())
    save_volume(folder / "sub1/mask.nii.gz", mask, cube(len(mask), **geometry))
    return folder


def test_a_picture_and_its_class(tmp_path: Path) -> None:
    save_picture(tmp_path / "a/1.png", noise(1))
    save_picture(tmp_path / "b/1.png", noise(2))
    data = first_case(tmp_path, source={"name": "class_folders", "classes": ["a", "b"]})
    assert data.label == 0 and data.labels is None
    assert np.array_equal(data.volumes["image"].voxels[0], noise(1))


def test_a_mask_on_the_images_grid_is_taken_as_it_is(tmp_path: Path) -> None:
    data = first_case(patient(tmp_path, block()), **PATIENTS)
    assert data.labels is not None and data.labels.dtype == np.uint8
    assert np.array_equal(data.labels, block()) and data.issues == ()


def test_a_mask_of_another_grid_is_brought_over_as_simpleitk_does(tmp_path: Path) -> None:
    folder = patient(tmp_path, block(8), spacing_mm=1.5, shift_mm=1.0)
    data = first_case(folder, **PATIENTS)
    moved = SimpleITK.Resample(
        SimpleITK.ReadImage(str(folder / "sub1/mask.nii.gz")),
        SimpleITK.ReadImage(str(folder / "sub1/t1.nii.gz")),
        SimpleITK.Transform(),
        SimpleITK.sitkNearestNeighbor,
    )
    image = read_nifti(folder / "sub1/t1.nii.gz")
    reference = SimpleITK.GetArrayFromImage(moved)
    assert data.labels is not None and reference.any()
    # SimpleITK keeps the file's order of axes, and so do we.
    assert data.labels.shape == image.voxels.shape and np.array_equal(data.labels, reference)
    assert [issue.code for issue in data.issues] == ["case.resampled"]


def test_a_mask_in_another_place_is_refused_naming_the_case(tmp_path: Path) -> None:
    with pytest.raises(SafetyError, match=r"Case “sub1”: The mask “mask\.nii\.gz” lies in another place"):
        first_case(patient(tmp_path, block(), shift_mm=500.0), **PATIENTS)


def test_contrasts_come_onto_the_first_ones_grid(tmp_path: Path) -> None:
    patient(tmp_path, block())
    ramp = np.tile(np.arange(12, dtype=np.float32), (12, 12, 1))
    save_volume(tmp_path / "sub1/t2.nii.gz", ramp, cube(12, spacing_mm=1.0))
    data = first_case(tmp_path, source=PATIENTS["source"], channels=["t1", "t2"])
    assert list(data.volumes) == ["t1", "t2"]
    # t2 is its own x in millimetres, so on the first grid it is x at 2 mm steps
    assert np.allclose(data.volumes["t2"].voxels, 2 * np.arange(6), atol=1e-5)


def test_a_missing_contrast_is_zeros_where_the_recipe_says_so(tmp_path: Path) -> None:
    patient(tmp_path, block())
    data = first_case(tmp_path, source=PATIENTS["source"], channels=["t0", "t1"], missing="zeros")
    assert not data.volumes["t0"].voxels.any() and data.volumes["t1"].voxels.any()
    assert data.volumes["t0"].geometry.same_grid_as(data.volumes["t1"].geometry)


def test_values_of_a_mask_become_labels() -> None:
    voxels = np.array([[[0, 40, 80, 80, 7]]], dtype=np.int16)
    assert label_values(voxels, {40: 1, 80: 2}, "m.png").tolist() == [[[0, 1, 2, 2, 0]]]
    assert label_values(np.array([[[0, 255]]], np.uint8), {}, "m.png").tolist() == [[[0, 1]]]
    assert label_values(np.array([[[0, 3]]], np.uint8), {}, "m.png").tolist() == [[[0, 3]]]
    blurred = np.array([[[3, 120, 131, 250]]], dtype=np.uint8)
    assert label_values(blurred, {}, "m.jpg").tolist() == [[[0, 0, 1, 1]]]
    assert label_values(blurred, {128: 1, 255: 2}, "m.jpeg").tolist() == [[[0, 1, 1, 2]]]
    grey = np.repeat(np.array([[[0, 255]]], np.uint8)[..., None], 3, axis=3)
    assert label_values(grey, {}, "m.png").tolist() == [[[0, 1]]]


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        (np.array([[[0.5]]], np.float32), "fractions"),
        (np.array([[[-1]]], np.int16), "from -1 to -1"),
        (np.array([[[0, 300]]], np.int16), "from 0 to 300"),
        (np.zeros((1, 1, 1, 3), np.uint8) + np.array([1, 2, 3], np.uint8), "colour"),
    ],
)
def test_values_that_are_no_labels_are_refused(voxels: np.ndarray[Any, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        label_values(voxels, {}, "m.png")


def test_a_picture_and_a_mask_of_another_size_are_refused(tmp_path: Path) -> None:
    save_picture(tmp_path / "images/1.png", noise(1, 24))
    save_picture(tmp_path / "masks/1.png", noise(2, 20) // 128)
    with pytest.raises(InputError, match=r"20 × 20 × 1, the image 24 × 24 × 1") as raised:
        first_case(tmp_path, source={"name": "image_mask_files"})
    assert raised.value.code == "data.mask_size"


def test_a_damaged_file_is_refused_naming_the_case(tmp_path: Path) -> None:
    save_picture(tmp_path / "a/1.png", noise(1))
    save_picture(tmp_path / "b/1.png", noise(2))
    (tmp_path / "a/1.png").write_bytes((tmp_path / "a/1.png").read_bytes()[:90])
    with pytest.raises(AppError, match=r"Case “a/1\.png”"):
        first_case(tmp_path, source={"name": "class_folders", "classes": ["a", "b"]})


def test_resampling_is_exact_for_the_grid_itself() -> None:
    voxels = np.random.default_rng(0).integers(0, 5, (6, 6, 6)).astype(np.uint8)
    assert np.array_equal(on_grid(voxels, cube(), cube(), order=0, outside=0), voxels)


def test_a_phantom_is_rendered_with_its_truth() -> None:
    data = first_case(None, source={"name": "phantoms", "count": 1, "holdout": 0, "spacing_mm": 12.0})
    volume = data.volumes["image"]
    assert volume.units == "HU" and data.labels is not None and data.labels.shape == volume.voxels.shape
    assert data.labels.max() > 3


def test_a_segmentation_lies_on_its_series(tmp_path: Path) -> None:
    root = data_path("core/dicom/seg-liver-dcmqi")
    shutil.copytree(root / "ct-3slice", tmp_path / "ct")
    shutil.copy(root / "liver.dcm", tmp_path)
    data = first_case(tmp_path, source={"name": "dicom_series", "structures": {"liver": 2}})
    assert data.labels is not None
    assert np.bincount(data.labels.ravel()).tolist() == [3 * 512 * 512 - 107098, 0, 107098]
    inside = data.volumes["image"].voxels[data.labels == 2]
    assert 30 < np.median(inside) < 150  # HU of a liver, with and without contrast medium


def test_overlapping_structures_keep_the_higher_label_and_say_so(tmp_path: Path) -> None:
    root = data_path("core/dicom/seg-liver-dcmqi")
    shutil.copytree(root / "ct-3slice", tmp_path / "ct")
    shutil.copy(root / "partial_overlaps.dcm", tmp_path)
    names = {"GREEN": 1, "ORANGE": 2, "PURPLE": 3, "LIGHT_BLUE": 4, "DARK_BLUE": 5}
    data = first_case(tmp_path, source={"name": "dicom_series", "structures": names})
    assert data.labels is not None and set(np.unique(data.labels)) == {0, 1, 2, 3, 4, 5}
    assert "case.overlap" in [issue.code for issue in data.issues]
    assert np.count_nonzero(data.labels) < 43639  # voxels of the five segments together


def test_contours_are_filled_on_their_images(tmp_path: Path) -> None:
    root = data_path("core/dicom/rtstruct-phantom-rtutils")
    for name in ("ct_1.dcm", "ct_2.dcm", "rt.dcm"):
        shutil.copy(root / name, tmp_path)
    data = first_case(tmp_path, source={"name": "dicom_series", "structures": {"ROI-1": 1}})
    assert data.labels is not None and np.count_nonzero(data.labels) == 1443
    assert "derived.frame_of_reference" in [issue.code for issue in data.issues]


def test_a_tumour_lies_on_its_pet() -> None:
    folder = data_path("large/dicom/pt-headneck-qin0024")
    data = first_case(
        folder,
        source={"name": "dicom_series", "structures": {"Neoplasm, Primary": 1, "Neoplasm, Secondary": 2}},
    )
    assert data.labels is not None and np.count_nonzero(data.labels) == 266
    assert data.volumes["image"].voxels[data.labels > 0].max() == pytest.approx(24477, rel=1e-3)


def test_a_dicom_picture_counts_as_a_picture(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(data_path("core/dicom/rtstruct-phantom-rtutils") / "ct_1.dcm", tmp_path / name)
    data = first_case(tmp_path, source={"name": "class_folders", "classes": ["a", "b"]})
    assert data.volumes["image"].voxels.shape == (1, 512, 512)


def test_a_mask_in_colour_is_refused(tmp_path: Path) -> None:
    save_picture(tmp_path / "images/1.png", noise(1))
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.stack([noise(1), noise(2), noise(3)], axis=-1)).save(tmp_path / "masks/1.png")
    with pytest.raises(InputError, match="in colour"):
        first_case(tmp_path, source={"name": "image_mask_files"})


def second_contrast(folder: Path, description: str) -> None:
    """Write the slices again as another series of the study, coarser: every second column and row."""
    for number, path in enumerate(sorted((folder / "ct").glob("*.dcm"))):
        slice_ = pydicom.dcmread(path)
        slice_.SeriesInstanceUID = f"{slice_.SeriesInstanceUID}.9"
        slice_.SOPInstanceUID = f"{slice_.SOPInstanceUID}.9"
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
        slice_.SeriesDescription = description
        pixels = slice_.pixel_array[::2, ::2]
        slice_.Rows, slice_.Columns = pixels.shape
        slice_.PixelSpacing = [2 * float(mm) for mm in slice_.PixelSpacing]
        slice_.PixelData = pixels.tobytes()
        (folder / "again").mkdir(exist_ok=True)
        slice_.save_as(folder / "again" / f"{number}.dcm")


def test_dicom_contrasts_of_a_study_come_onto_the_first_ones_grid_with_the_mask(tmp_path: Path) -> None:
    root = data_path("core/dicom/seg-liver-dcmqi")
    shutil.copytree(root / "ct-3slice", tmp_path / "ct")
    shutil.copy(root / "liver.dcm", tmp_path)
    second_contrast(tmp_path, "Coarse pass")
    first = str(pydicom.dcmread(tmp_path / "ct/01.dcm").SeriesDescription)
    source = {
        "name": "dicom_series",
        "structures": {"liver": 1},
        "series": {"fine": first, "coarse": "coarse"},
    }
    data = first_case(tmp_path, source=source, channels=["coarse", "fine"])
    assert {volume.voxels.shape for volume in data.volumes.values()} == {(3, 256, 256)}
    assert data.labels is not None and data.labels.shape == (3, 256, 256)
    assert np.count_nonzero(data.labels) == pytest.approx(107098 / 4, rel=0.01)
    # the coarse voxels lie where every second fine one lies
    assert np.array_equal(data.volumes["coarse"].voxels, data.volumes["fine"].voxels)


@pytest.mark.parametrize(
    ("series", "code"),
    [
        ({}, "data.channels"),
        ({"fine": "x"}, "data.channels"),
        ({"fine": "coarse", "coarse": "coarse"}, "data.channels"),
        ({"fine": "", "coarse": ""}, "data.channels"),
    ],
)
def test_dicom_contrasts_that_are_not_told_apart_are_refused(
    tmp_path: Path, series: dict[str, str], code: str
) -> None:
    root = data_path("core/dicom/seg-liver-dcmqi")
    shutil.copytree(root / "ct-3slice", tmp_path / "ct")
    shutil.copy(root / "liver.dcm", tmp_path)
    second_contrast(tmp_path, "Coarse pass")
    with pytest.raises(InputError) as raised:
        first_case(
            tmp_path,
            source={"name": "dicom_series", "structures": {"liver": 1}, "series": series},
            channels=["fine", "coarse"],
        )
    assert raised.value.code == code


def test_dicom_pictures_of_one_patient_are_one_group(tmp_path: Path) -> None:
    root = data_path("core/dicom/rtstruct-phantom-rtutils")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    shutil.copy(root / "ct_1.dcm", tmp_path / "a")
    shutil.copy(root / "ct_2.dcm", tmp_path / "b")
    settings = Data.model_validate_json(
        json.dumps({"source": {"name": "class_folders", "classes": ["a", "b"]}})
    )
    first, second = list_cases(settings.source, tmp_path)
    assert first.patient == second.patient != first.id
    assert str(pydicom.dcmread(root / "ct_1.dcm").PatientID) not in first.patient
