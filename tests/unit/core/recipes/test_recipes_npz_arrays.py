"""Archives of arrays: parts as given, pictures that occur twice, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.domain.errors import InputError
from core.recipes.cases import Part
from core.recipes.reading import read_case
from core.recipes.schema import Data
from core.recipes.sources.registry import list_cases
from core.recipes.splits import split_cases
from core.recipes.thumbnails import picture_thumbnail
from tests.fakes.data import data_path

COUNTS = {"train": 6, "val": 2, "test": 4}


def arrays(**changes: Any) -> dict[str, np.ndarray]:
    """An archive of noise in the layout of MedMNIST."""
    rng = np.random.default_rng(3)
    found: dict[str, np.ndarray] = {}
    for prefix, count in COUNTS.items():
        found[f"{prefix}_images"] = rng.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        found[f"{prefix}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    return {**found, **changes}


def data(**settings: Any) -> Data:
    return Data.model_validate({"source": {"name": "npz_arrays", **settings}, "split": {"method": "given"}})


def saved(folder: Path, **changes: Any) -> Path:
    np.savez(folder / "pictures.npz", **arrays(**changes))
    return folder


def test_rows_are_cases_of_the_part_that_the_archive_names(tmp_path: Path) -> None:
    settings = data()
    cases = list_cases(settings.source, saved(tmp_path))
    assert Counter(case.part for case in cases) == {Part.TRAIN: 6, Part.VALIDATION: 2, Part.TEST: 4}
    split = split_cases(cases, settings.split, 0, picture_thumbnail)
    assert [len(split.parts[part]) for part in Part] == [6, 2, 4]
    content = arrays()
    case = next(case for case in cases if case.id == "test-000003")
    read = read_case(case, settings)
    assert np.array_equal(read.volumes["image"].voxels[0], content["test_images"][3])
    assert read.label == case.label == 1


def test_a_picture_that_occurs_again_stays_where_it_judges(tmp_path: Path) -> None:
    content = arrays()
    train = content["train_images"].copy()
    train[1], train[2], train[4] = content["test_images"][0], content["val_images"][1], train[3]
    folder = saved(tmp_path, train_images=train)
    kept = {case.id for case in list_cases(data().source, folder)}
    everything = {case.id for case in list_cases(data(repeats="keep").source, folder)}
    assert everything - kept == {"train-000001", "train-000002", "train-000004"}


def test_colour_and_volumes_keep_their_axes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for shape, voxels in (((9, 8, 3), (1, 9, 8, 3)), ((5, 9, 8), (5, 9, 8))):
        images = {f"{p}_images": rng.integers(0, 255, (n, *shape), dtype=np.uint8) for p, n in COUNTS.items()}
        np.savez(tmp_path / "pictures.npz", **arrays(**images))
        case = list_cases(data().source, tmp_path)[0]
        assert read_case(case, data()).volumes["image"].voxels.shape == voxels


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"val_labels": np.zeros((2, 14), np.uint8)}, "val_labels"),
        ({"test_labels": np.zeros(3, np.uint8)}, "4 test_images and 3 labels"),
        ({"train_images": np.zeros((6, 28), np.uint8)}, "train_images"),
        ({"train_images": np.array([{}] * 6, dtype=object)}, "plain arrays"),
    ],
)
def test_an_archive_that_is_not_of_this_layout_is_refused_by_the_name_of_the_array(
    tmp_path: Path, changes: dict[str, np.ndarray], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        list_cases(data().source, saved(tmp_path, **changes))


def test_a_missing_array_a_damaged_file_and_two_files_are_refused(tmp_path: Path) -> None:
    content = arrays()
    del content["val_images"]
    np.savez(tmp_path / "pictures.npz", **content)
    with pytest.raises(InputError, match="val_images"):
        list_cases(data().source, tmp_path)
    (tmp_path / "pictures.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InputError, match="no archive"):
        list_cases(data().source, tmp_path)
    np.savez(tmp_path / "other.npz", **arrays())
    with pytest.raises(InputError, match=r"2 \.npz files"):
        list_cases(data().source, tmp_path)
    assert len(list_cases(data(file="other.npz").source, tmp_path)) == 12
    with pytest.raises(InputError, match="leaves the data folder"):
        list_cases(data(file="../other.npz").source, tmp_path)


def test_no_picture_of_pneumoniamnist_stands_in_two_parts() -> None:
    folder = data_path("core/images2d/pneumoniamnist")
    settings = data()
    cases = list_cases(settings.source, folder)
    # Five pictures occur twice in the training part and three of it in the validation part too.
    assert Counter(case.part for case in cases) == {Part.TRAIN: 2420, Part.VALIDATION: 270, Part.TEST: 468}
    pixels = {case.id: read_case(case, settings).volumes["image"].voxels.tobytes() for case in cases}
    assert len(set(pixels.values())) == len(cases)
