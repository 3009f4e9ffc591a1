"""A recipe may list its cases itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.domain.errors import InputError
from core.recipes.cases import Part
from core.recipes.reading import read_case
from core.recipes.schema import Data
from core.recipes.sources.registry import list_cases


def data_of(**changes: object) -> Data:
    case = {"id": "a", "images": {"image": "one/a.png"}, "mask": "masks/a.png", "part": "test"}
    source = {"name": "listed", "cases": [{**case, **changes}], "values": {7: 1}}
    return Data.model_validate({"source": source})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, value in (("one/a.png", 100), ("masks/a.png", 7)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((12, 16), value, np.uint8)).save(tmp_path / name)
    return tmp_path


def test_files_are_found_and_mask_values_become_labels(folder: Path) -> None:
    data = data_of()
    (case,) = list_cases(data.source, folder)
    assert case.part is Part.TEST
    assert case.patient == "a"
    read = read_case(case, data)
    assert read.labels is not None
    assert read.labels.shape == (1, 12, 16)
    assert np.unique(read.labels).tolist() == [1]


def test_a_file_that_is_not_there_or_outside_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"b\.png"):
        list_cases(data_of(images={"image": "one/b.png"}).source, folder)
    with pytest.raises(InputError, match="outside"):
        list_cases(data_of(images={"image": "../a.png"}).source, folder)


def test_a_folder_stands_for_its_files(folder: Path) -> None:
    (case,) = list_cases(data_of(images={"image": "one"}).source, folder)
    assert [path.name for path in case.images["image"]] == ["a.png"]
