"""The data report counts, measures, shows and warns; it names no patient."""

from __future__ import annotations

import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.domain.errors import InputError
from core.recipes.explore.facts import PICTURE, facts_of
from core.recipes.explore.page import page, write_report
from core.recipes.explore.pictures import COLOURS, outlined
from core.recipes.explore.report import DataReport, explore
from core.recipes.reading import read_case
from core.recipes.schema import Data
from core.recipes.sources.registry import list_cases
from tests.fakes.data import data_path
from tests.fakes.recipes import class_folders, cube, noise, save_picture, save_volume


def data_of(**data: Any) -> Data:
    return Data.model_validate_json(json.dumps(data))


CATS = data_of(source={"name": "class_folders", "classes": ["cat", "dog"]})
NAMES = {0: "cat", 1: "dog"}


def report_of(folder: Path) -> DataReport:
    return explore(folder, CATS, 0, NAMES, name="pets")


def test_counts_by_class_part_and_patient_are_told(tmp_path: Path) -> None:
    document = report_of(class_folders(tmp_path, {"cat": 60, "dog": 20})).document()
    assert (document["cases"], document["patients"], document["imbalance"]) == (80, 80, 3.0)
    assert document["classes"] == [
        {"value": 0, "name": "cat", "cases": 60, "patients": 60},
        {"value": 1, "name": "dog", "cases": 20, "patients": 20},
    ]
    assert document["parts"]["train"] == {"cases": 56, "patients": 56, "classes": {"cat": 42, "dog": 14}}
    assert document["warnings"] == [] and document["unreadable"] == {}
    assert document["geometry"] == [
        {"shape_kji": [1, 24, 24], "spacing_ijk_mm": None, "orientation": "", "modality": "OT", "cases": 80}
    ]


def test_what_is_wrong_is_warned_of(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 30, "dog": 5})
    save_picture(tmp_path / "cat/flat.png", np.full((24, 24), 7, np.uint8))
    shutil.copy(tmp_path / "cat/cat-000.png", tmp_path / "dog/copy.png")
    (tmp_path / "cat/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    report = report_of(tmp_path)
    told = "\n".join(report.warnings)
    assert "Only 6 patients have the class dog" in told
    assert "The same picture is cat and dog: cat/cat-000.png, dog/copy.png" in told
    assert "5.3 times as many" in told
    assert "1 images have one value only" in told and "1 cases can't be read" in told
    assert report.duplicates == (("cat/cat-000.png", "dog/copy.png"),)
    assert report.unreadable.keys() == {"cat/broken.png"}


def volumes(folder: Path) -> Path:
    for number in range(4):
        voxels = np.random.default_rng(number).integers(0, 90, (6, 6, 6)).astype(np.int16)
        mask = np.zeros((6, 6, 6), np.uint8)
        mask[4, 1 : 2 + number] = number > 0
        save_volume(folder / f"sub{number}/t1.nii.gz", voxels, cube())
        save_volume(folder / f"sub{number}/mask.nii.gz", mask, cube())
    return folder


PATIENTS = data_of(source={"name": "nifti_patients"}, channels=["t1"])


def test_structures_are_measured_and_empty_masks_told(tmp_path: Path) -> None:
    report = explore(volumes(tmp_path), PATIENTS, 0, {1: "lesion"})
    (structure,) = report.document()["structures"]
    # two, three and four rows of six voxels of 8 mm³
    assert (structure["name"], structure["cases"], structure["of"]) == ("lesion", 3, 4)
    assert structure["median_voxels"] == 18 and structure["median_ml"] == pytest.approx(18 * 8 / 1000)
    assert "1 masks are empty." in report.warnings


def test_values_are_those_of_the_files(tmp_path: Path) -> None:
    values = explore(volumes(tmp_path), PATIENTS, 0, {}).document()["values"]["t1"]
    whole = np.concatenate([np.random.default_rng(n).integers(0, 90, 216) for n in range(4)])
    assert values["mean"] == pytest.approx(whole.mean()) and values["std"] == pytest.approx(
        whole.std(), rel=1e-6
    )
    assert values["percentiles"]["50"] == np.percentile(whole, 50)


def test_a_data_set_that_can_not_be_read_at_all_is_refused(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(InputError) as raised:
        report_of(tmp_path)
    assert raised.value.code == "data.unreadable"


def test_the_picture_of_a_case_shows_its_most_labelled_slice_as_one_reads_it() -> None:
    folder = data_path("core/nifti/ct-totalseg-small")
    settings = data_of(
        source={
            "name": "listed",
            "cases": [
                {"id": "ct", "images": {"image": "example_ct_sm.nii.gz"}, "mask": "example_seg.nii.gz"}
            ],
            "values": {"5": 1},
        }
    )
    (case,) = list_cases(settings.source, folder, settings.channels)
    facts = facts_of(case, read_case(case, settings))
    assert facts.picture.shape == (PICTURE, PICTURE) and facts.marks is not None
    rows, columns = np.nonzero(facts.marks == 1)
    # the liver: at the left of an axial picture, in front of the spine
    assert columns.mean() < PICTURE / 2 and rows.mean() < 0.6 * PICTURE
    assert facts.volume_ml_by_label[1] == pytest.approx(38634 * 27 / 1000, rel=1e-3)


def test_outlines_are_drawn_at_the_border_only() -> None:
    marks = np.zeros((9, 9), np.uint8)
    marks[2:7, 2:7] = 1
    picture = outlined(np.full((9, 9), 50, np.uint8), marks)
    assert tuple(picture[2, 4]) == COLOURS[0] and tuple(picture[4, 4]) == (50, 50, 50)


class Tags(HTMLParser):
    """Collects what an HTML file holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Every tag closes the one that was opened last."""
        assert self.open.pop() == tag


def test_the_report_is_one_file_without_scripts_or_outside_references(tmp_path: Path) -> None:
    files = write_report(
        report_of(class_folders(tmp_path / "data", {"cat": 12, "dog": 12})), tmp_path / "out"
    )
    text = files["html"].read_text(encoding="utf-8")
    parsed = Tags(text)
    assert parsed.open == []
    sources = [attributes.get("src") or "" for tag, attributes in parsed.tags if tag == "img"]
    assert len(sources) == 2 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in parsed.tags}
    assert json.loads(files["json"].read_text())["cases"] == 24
    sheet = Image.open(io.BytesIO(files["pictures"].read_bytes()))
    assert sheet.width > 8 * PICTURE and np.asarray(sheet).std() > 20


def test_names_from_the_data_can_not_inject_markup(tmp_path: Path) -> None:
    report = report_of(class_folders(tmp_path, {"cat": 3, "dog": 3}))
    nasty = DataReport(
        **{**report.__dict__, "labels": {0: "<script>x</script>", 1: '"><img src=x>'}, "name": "<b>"}
    )
    text = page(nasty, nasty.document(), b"", b"")
    assert "<script>" not in text and "<img src=x>" not in text and "<h1>Data report: &lt;b&gt;</h1>" in text


def test_a_report_of_dicom_names_no_patient(tmp_path: Path) -> None:
    root = data_path("core/dicom/seg-liver-dcmqi")
    shutil.copytree(root / "ct-3slice", tmp_path / "Miller^John" / "ct")
    shutil.copy(root / "liver.dcm", tmp_path / "Miller^John")
    settings = data_of(source={"name": "dicom_series", "structures": {"liver": 1}})
    files = write_report(explore(tmp_path, settings, 0, {1: "Liver"}, name="ct"), tmp_path / "out")
    for kind in ("html", "json"):
        assert "Miller" not in files[kind].read_text(encoding="utf-8")


def test_pictures_and_their_report_do_not_change_from_run_to_run(tmp_path: Path) -> None:
    class_folders(tmp_path / "data", {"cat": 9, "dog": 9})
    first, second = (write_report(report_of(tmp_path / "data"), tmp_path / name) for name in ("one", "two"))
    assert all(first[kind].read_bytes() == second[kind].read_bytes() for kind in first)
    assert noise(1).any()
