"""Crawlers find cases, and say which file is at fault and what to do."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from core.domain.errors import EnvironmentFault, InputError
from core.recipes.cases import Case, Part
from core.recipes.schema import Data
from core.recipes.sources import registry
from core.recipes.sources.base import CaseSource, natural_key, pseudonym
from core.recipes.sources.registry import list_cases
from tests.fakes.data import data_path
from tests.fakes.recipes import class_folders, cube, noise, save_picture, save_volume


def cases_of(folder: Path | None, **data: Any) -> list[Case]:
    settings = Data.model_validate_json(json.dumps(data))
    return list_cases(settings.source, folder, settings.channels, settings.missing)


def refused(folder: Path | None, **data: Any) -> InputError:
    with pytest.raises(InputError) as raised:
        cases_of(folder, **data)
    return raised.value


FOLDERS = {"name": "class_folders", "classes": ["cat", "dog"]}
PAIRS = {"name": "image_mask_files"}
PATIENTS = {"name": "nifti_patients"}
TABLE = {"name": "csv_manifest"}


def test_class_folders_give_a_case_per_picture_in_the_order_of_the_classes(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 3, "dog": 2})
    save_picture(tmp_path / "cat" / "._cat-000.png", noise(0))
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"x")
    found = cases_of(tmp_path, source=FOLDERS)
    assert [(case.id, case.label) for case in found] == [
        ("cat/cat-000.png", 0), ("cat/cat-001.png", 0), ("cat/cat-002.png", 0),
        ("dog/dog-000.png", 1), ("dog/dog-001.png", 1),
    ]  # fmt: skip
    assert all(case.patient == case.id for case in found)
    assert found[0].images == {"image": (tmp_path / "cat/cat-000.png",)}


def test_runs_of_consecutive_pictures_are_one_patient(tmp_path: Path) -> None:
    for n in (1, 2, 3, 9, 10, 11):
        save_picture(tmp_path / "cat" / f"{n}.png", noise(n))
    save_picture(tmp_path / "dog" / "1.png", noise(99))
    found = cases_of(tmp_path, source={**FOLDERS, "run_length": 3})
    # 9 stands before 10, so it is in the second run
    assert [case.patient for case in found[:6]] == ["cat/run-00000"] * 3 + ["cat/run-00001"] * 3


def test_the_patient_in_a_files_name_becomes_a_pseudonym(tmp_path: Path) -> None:
    for name in ("Miller_1", "Miller_2", "Smith_1"):
        save_picture(tmp_path / "cat" / f"{name}.png", noise(len(name)))
    save_picture(tmp_path / "dog" / "Smith_2.png", noise(7))
    found = cases_of(tmp_path, source={**FOLDERS, "patient_pattern": "^([A-Za-z]+)_"})
    assert Counter(case.patient for case in found) == {pseudonym("Miller"): 2, pseudonym("Smith"): 2}
    assert not any("Miller" in case.patient for case in found)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "isn't a regular expression"),
        ("a", "no group"),
        ("(x+)+y", "repeats a repetition"),
        ("^(z)", "finds no"),
    ],
)
def test_a_pattern_that_can_not_work_is_refused(tmp_path: Path, pattern: str, message: str) -> None:
    class_folders(tmp_path, {"cat": 1, "dog": 1})
    error = refused(tmp_path, source={**FOLDERS, "patient_pattern": pattern})
    assert error.code == "data.pattern" and message in error.user_message


def test_parts_may_be_folders(tmp_path: Path) -> None:
    class_folders(tmp_path / "training", {"cat": 2, "dog": 1})
    class_folders(tmp_path / "testing", {"cat": 1, "dog": 1})
    found = cases_of(tmp_path, source={**FOLDERS, "parts": {"train": "training", "test": "testing"}})
    assert Counter(case.part for case in found) == {Part.TRAIN: 3, Part.TEST: 2}
    assert found[-1].id == "testing/dog/dog-000.png" and found[-1].label == 1


def test_missing_and_empty_class_folders_are_named(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 1, "hog": 1})
    error = refused(tmp_path, source=FOLDERS)
    assert error.code == "data.no_class" and "“dog”" in error.user_message and "cat, hog" in error.remedy
    (tmp_path / "dog").mkdir()
    assert refused(tmp_path, source=FOLDERS).code == "data.empty_class"
    assert refused(tmp_path / "nowhere", source=FOLDERS).code == "data.no_folder"
    assert refused(None, source=FOLDERS).code == "data.no_folder"
    outside = refused(tmp_path / "cat", source={**FOLDERS, "folders": ["../hog", "."]})
    assert outside.code == "data.folders"


def test_pairs_are_found_by_name_over_formats_and_folders(tmp_path: Path) -> None:
    save_picture(tmp_path / "images/a/1.jpg", noise(1))
    save_picture(tmp_path / "images/2.png", noise(2))
    save_picture(tmp_path / "masks/a/1.png", noise(3))
    save_picture(tmp_path / "masks/2.png", noise(4))
    found = {case.id: case for case in cases_of(tmp_path, source=PAIRS)}
    assert found.keys() == {"a/1", "2"}
    assert found["a/1"].mask == tmp_path / "masks/a/1.png"


def test_pairs_in_one_folder_are_told_apart_by_the_suffix(tmp_path: Path) -> None:
    for name in ("1", "1_mask", "2", "2_mask"):
        save_picture(tmp_path / f"{name}.png", noise(1))
    source = {**PAIRS, "images": ".", "masks": "."}
    assert "mask_suffix" in refused(tmp_path, source=source).remedy
    found = cases_of(tmp_path, source={**source, "mask_suffix": "_mask"})
    assert [(case.id, case.mask and case.mask.name) for case in found] == [
        ("1", "1_mask.png"),
        ("2", "2_mask.png"),
    ]


def test_an_image_without_mask_and_a_mask_without_image_are_named(tmp_path: Path) -> None:
    save_picture(tmp_path / "images/1.png", noise(1))
    save_picture(tmp_path / "masks/2.png", noise(1))
    error = refused(tmp_path, source=PAIRS)
    assert error.code == "data.no_mask" and "“1.png”" in error.user_message and "empty mask" in error.remedy
    save_picture(tmp_path / "masks/1.png", noise(1))
    error = refused(tmp_path, source=PAIRS)
    assert error.code == "data.no_image" and "“2.png”" in error.user_message
    save_picture(tmp_path / "images/1.jpg", noise(1))
    assert refused(tmp_path, source=PAIRS).code == "data.same_name"


def contrast(folder: Path, *names: str) -> None:
    for name in names:
        save_volume(folder / name, np.ones((6, 6, 6), np.int16), cube())


def test_patient_folders_give_a_case_with_a_file_per_contrast(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        contrast(tmp_path / f"sub{number}", "t1.nii.gz", "t2.nii.gz", "mask.nii.gz")
    found = cases_of(tmp_path, source=PATIENTS, channels=["t1", "t2"])
    assert [case.id for case in found] == ["sub1", "sub2", "sub10"]
    assert found[0].images == {"t1": (tmp_path / "sub1/t1.nii.gz",), "t2": (tmp_path / "sub1/t2.nii.gz",)}


def test_several_studies_of_a_patient_stay_that_patients(tmp_path: Path) -> None:
    for study in ("2023", "2024"):
        contrast(tmp_path / "sub1" / study, "t1.nii.gz", "mask.nii.gz")
    found = cases_of(tmp_path, source=PATIENTS, channels=["t1"])
    assert [(case.id, case.patient) for case in found] == [("sub1/2023", "sub1"), ("sub1/2024", "sub1")]


def test_a_missing_contrast_is_refused_left_out_or_kept(tmp_path: Path) -> None:
    contrast(tmp_path / "sub1", "t1.nii.gz", "t2.nii.gz", "mask.nii.gz")
    contrast(tmp_path / "sub2", "t1.nii.gz", "mask.nii.gz")
    settings = {"source": PATIENTS, "channels": ["t1", "t2"]}
    error = refused(tmp_path, **settings)
    assert error.code == "data.no_channel" and "“sub2” lacks t2" in error.user_message
    assert [case.id for case in cases_of(tmp_path, **settings, missing="leave_out")] == ["sub1"]
    assert [case.id for case in cases_of(tmp_path, **settings, missing="zeros")] == ["sub1", "sub2"]


def test_a_patient_without_mask_or_images_is_named(tmp_path: Path) -> None:
    contrast(tmp_path / "sub1", "t1.nii.gz")
    assert "“sub1” has no mask" in refused(tmp_path, source=PATIENTS, channels=["t1"]).user_message
    contrast(tmp_path / "sub1", "mask.nii.gz")
    assert refused(tmp_path, source=PATIENTS, channels=["flair"]).code == "data.no_image"
    error = refused(tmp_path, source={**PATIENTS, "files": {"t9": "x.nii.gz"}}, channels=["t1"])
    assert error.code == "data.channels"
    escaping = refused(tmp_path, source={**PATIENTS, "mask": "../mask.nii.gz"}, channels=["t1"])
    assert escaping.code == "data.files"


def table(folder: Path, text: str) -> Path:
    for name in ("x1.png", "x2.png", "m1.png"):
        save_picture(folder / "files" / name, noise(1))
    (folder / "manifest.csv").write_text(text, encoding="utf-8-sig")
    return folder


def test_a_table_gives_labels_parts_patients_and_attributes(tmp_path: Path) -> None:
    table(
        tmp_path,
        "file;label;patient;part;sex\nfiles/x2.png;dog;Smith;val;F\n\nfiles/x1.png;cat;Smith;train;\n",
    )
    first, second = cases_of(tmp_path, source={**TABLE, "classes": ["cat", "dog"]})
    assert (first.id, first.label, first.part, first.attributes) == ("files/x1", 0, Part.TRAIN, {})
    assert (second.id, second.label, second.part, second.attributes) == (
        "files/x2", 1, Part.VALIDATION, {"sex": "F"},
    )  # fmt: skip
    assert first.patient == second.patient == pseudonym("Smith")


def test_a_table_may_name_a_file_per_channel_and_masks(tmp_path: Path) -> None:
    table(tmp_path, "id,file_t1,file_t2,mask\none,files/x1.png,files/x2.png,files/m1.png\n")
    (case,) = cases_of(tmp_path, source=TABLE, channels=["t1", "t2"])
    assert (
        case.id == "one" and case.images["t2"][0].name == "x2.png" and case.mask == tmp_path / "files/m1.png"
    )


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("file,label\nfiles/x9.png,0\n", "no_image", "“x9.png”"),
        ("file,label\n../x1.png,0\n", "outside", "Row 2"),
        ("file,label\n/etc/hosts,0\n", "outside", "Row 2"),
        ("file,label\nfiles/x1.png,owl\n", "label", "“owl”"),
        ("file,label\nfiles/x1.png,7\n", "label", "“7”"),
        ("file,label,part\nfiles/x1.png,0,later\n", "part", "“later”"),
        ("file,label\n,0\n", "no_image", "Row 2"),
        ("file,mask\nfiles/x1.png,\n", "no_mask", "Row 2"),
        ("picture,label\nfiles/x1.png,0\n", "columns", "none of the columns"),
        ("file\nfiles/x1.png\n", "columns", "neither"),
        ("file,file,label\na,b,0\n", "columns", "one name"),
        ("file,label\nfiles/x1.png\n", "table", "Row 2 has 1 cells"),
        ('file,label\n"files/x1.png,0\n', "table", "damaged"),
        ("file,label\n", "no_images", "no rows"),
        ("file,label\nfiles/x1.png,0\nfiles/x1.png,1\n", "same_name", "files/x1"),
    ],
)
def test_a_faulty_table_is_refused_with_the_row(tmp_path: Path, text: str, code: str, message: str) -> None:
    error = refused(table(tmp_path, text), source={**TABLE, "classes": ["cat", "dog"]})
    assert error.code == f"data.{code}" and message in error.user_message


def test_a_table_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, source=TABLE).code == "data.no_table"
    (tmp_path / "manifest.csv").write_bytes(b"file,label\n\xff\xfe,0")
    assert refused(tmp_path, source=TABLE).code == "data.table"
    assert refused(tmp_path, source={**TABLE, "file": "../x.csv"}).code == "data.no_table"


def library(folder: Path, **entry: Any) -> Path:
    save_volume(folder / "c1/image.nii.gz", np.ones((6, 6, 6), np.int16), cube())
    case = {"id": "c1", "patient": "p1", "images": {"image": ["c1/image.nii.gz"]}, **entry}
    (folder / "cases.json").write_text(json.dumps({"schema_version": 1, "cases": [case]}))
    return folder


def test_listed_library_cases_are_found(tmp_path: Path) -> None:
    (case,) = cases_of(
        library(tmp_path, mask="c1/image.nii.gz", part="test", attributes={"sex": "F"}),
        source={"name": "library_cases"},
    )
    assert (case.id, case.patient, case.study, case.part) == ("c1", "p1", "c1", Part.TEST)
    assert case.mask == tmp_path / "c1/image.nii.gz" and case.attributes == {"sex": "F"}


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"images": {"image": ["../outside.nii.gz"]}}, "list"),
        ({"images": {"image": ["c1/absent.nii.gz"]}}, "no_image"),
        ({"name": "Miller"}, "list"),
        ({"label": 999}, "list"),
    ],
)
def test_a_faulty_list_of_library_cases_is_refused(tmp_path: Path, entry: dict[str, Any], code: str) -> None:
    assert refused(library(tmp_path, **entry), source={"name": "library_cases"}).code == f"data.{code}"


def test_phantoms_need_no_folder_and_hold_the_last_ones_out() -> None:
    found = cases_of(None, source={"name": "phantoms", "count": 3, "holdout": 2, "first_seed": 7})
    assert [(case.seed, case.part) for case in found] == [
        (7, Part.TRAIN), (8, Part.TRAIN), (9, Part.TRAIN), (10, Part.TEST), (11, Part.TEST),
    ]  # fmt: skip


def dicom_folder(folder: Path, *names: str) -> Path:
    root = data_path("core/dicom/seg-liver-dcmqi")
    shutil.copytree(root / "ct-3slice", folder / "Miller^John" / "ct")
    for name in names:
        shutil.copy(root / name, folder / "Miller^John")
    return folder


def test_a_dicom_series_is_found_with_its_segmentation_and_without_identity(tmp_path: Path) -> None:
    dicom_folder(tmp_path, "liver.dcm")
    (case,) = cases_of(tmp_path, source={"name": "dicom_series", "structures": {"LIVER ": 1}})
    assert len(case.images["image"]) == 3 and case.mask is not None and case.mask.name == "liver.dcm"
    assert "Miller" not in f"{case.id} {case.patient} {case.study}"
    assert case.attributes["modality"] == "CT"


def test_structures_in_several_objects_are_gathered(tmp_path: Path) -> None:
    dicom_folder(tmp_path, "liver.dcm", "partial_overlaps.dcm")
    (case,) = cases_of(tmp_path, source={"name": "dicom_series", "structures": {"Liver": 1, "GREEN": 2}})
    assert {path.name for path in (case.mask, *case.more_masks) if path} == {
        "liver.dcm",
        "partial_overlaps.dcm",
    }


def test_absent_structures_name_those_that_are_there(tmp_path: Path) -> None:
    error = refused(
        dicom_folder(tmp_path, "liver.dcm"), source={"name": "dicom_series", "structures": {"spleen": 1}}
    )
    assert error.code == "data.no_structure" and "Liver" in error.remedy
    other = refused(tmp_path, source={"name": "dicom_series", "structures": {"liver": 1}, "modality": "MR"})
    assert other.code == "data.no_image"


def test_a_folder_without_segmentations_is_refused(tmp_path: Path) -> None:
    error = refused(dicom_folder(tmp_path), source={"name": "dicom_series", "structures": {"liver": 1}})
    assert error.code == "data.no_mask"


def test_two_objects_with_one_structure_of_a_series_are_refused() -> None:
    folder = data_path("core/dicom/rtstruct-phantom-rtutils")
    error = refused(folder, source={"name": "dicom_series", "structures": {"roi-1": 1}})
    assert error.code == "data.two_masks" and "rt.dcm" in error.user_message


class OwnSource(CaseSource):
    """A source as an installed package would bring it."""

    name: ClassVar[str] = "own"

    def cases(self, settings: Any, folder: Path, channels: tuple[str, ...]) -> list[Case]:
        """Return as many cases as asked for."""
        return [
            Case(f"c{n}", f"c{n}", images={channels[0]: (folder / "x.png",)})
            for n in range(settings["count"])
        ]


class Point:
    """An entry point."""

    def __init__(self, name: str, loaded: Any) -> None:
        self.name, self._loaded = name, loaded

    def load(self) -> Any:
        """Return what it names, or fail as an import does."""
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [Point("own", OwnSource), Point("broken", ImportError("x")), Point("other", int)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "overread.sources" else [])
    registry._plugin.cache_clear()


@pytest.mark.usefixtures("installed")
def test_a_package_brings_its_own_source(tmp_path: Path) -> None:
    found = cases_of(tmp_path, source={"name": "plugin", "source": "own", "params": {"count": 2}})
    assert [case.id for case in found] == ["c0", "c1"]
    assert "Did you mean “own”" in refused(tmp_path, source={"name": "plugin", "source": "owm"}).remedy
    for broken in ("broken", "other"):
        with pytest.raises(EnvironmentFault, match="source"):
            cases_of(tmp_path, source={"name": "plugin", "source": broken})


def test_natural_order_counts_numbers_and_tells_all_texts_apart() -> None:
    assert sorted(["s10", "s9", "s09", "a"], key=natural_key) == ["a", "s09", "s9", "s10"]
    assert natural_key("s1") != natural_key("s01")
