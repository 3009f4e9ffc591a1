"""Painted lesions: drawn by number, on training pictures only, judged where something is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.domain.errors import InputError
from core.phantom.lesions import EXTRA_AXIAL, INTRA_AXIAL, SIDE, depth_of, paint
from core.recipes.cases import UNJUDGED, Part
from core.recipes.reading import read_case
from core.recipes.schema import Data
from core.recipes.sources.registry import list_cases


def head() -> np.ndarray:
    """A bright disc with a darker middle."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    away = np.hypot(y, x)
    return np.where(away < 70, 0.45, 0.0).astype(np.float32) + np.where(abs(away - 66) < 4, 0.4, 0.0).astype(
        np.float32
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            shade = head() * (0.9 + 0.02 * number)
            picture = Image.fromarray((shade * 255).astype(np.uint8)).resize((200, 200))
            picture.save(tmp_path / name / f"{number}.png")
    return tmp_path


def data(count: int = 6) -> Data:
    hosts = {"name": "class_folders", "classes": ["a", "b"]}
    split = {"method": "ordered", "train": 0.5, "validation": 0.0, "test": 0.5, "near_duplicates": None}
    source = {"name": "painted_lesions", "hosts": hosts, "split": split, "count": count, "held_out": 1}
    return Data.model_validate({"source": source})


def test_cases_are_made_of_training_pictures_only(folder: Path) -> None:
    cases = list_cases(data(40).source, folder)
    used = {path.relative_to(folder).as_posix() for case in cases for path in case.images["image"]}
    assert used == {"a/0.png", "a/1.png", "b/0.png", "b/1.png"}
    assert [case.part for case in cases].count(Part.TRAIN) == 40
    assert cases[-1].part is Part.TEST


def test_a_case_is_the_same_each_time_and_another_one_differs(folder: Path) -> None:
    settings = data()
    first, second = list_cases(settings.source, folder)[:2]
    once, again, other = (read_case(case, settings) for case in (first, first, second))
    assert np.array_equal(once.volumes["image"].voxels, again.volumes["image"].voxels)
    assert np.array_equal(once.labels, again.labels)
    assert not np.array_equal(once.labels, other.labels)


def test_a_patient_s_picture_is_judged_around_the_lesion_only(folder: Path) -> None:
    settings = data()
    labels = read_case(list_cases(settings.source, folder)[0], settings).labels
    assert labels is not None
    values = set(np.unique(labels).tolist())
    assert UNJUDGED in values
    assert values & {INTRA_AXIAL, EXTRA_AXIAL}
    lesion = np.isin(labels, (INTRA_AXIAL, EXTRA_AXIAL))
    assert 0 < lesion.sum() < (labels != UNJUDGED).sum() < labels.size


def test_a_lesion_changes_the_picture_where_it_is_and_stays_in_the_skull() -> None:
    picture = head()
    depth = depth_of(picture)
    for kind in (INTRA_AXIAL, EXTRA_AXIAL):
        for seed in range(10):
            painted, opacity = paint(picture, depth, kind, np.random.default_rng(seed))
            assert (opacity[depth < 5] == 0).all()
            core = opacity > 0.5
            assert core.any()
            assert abs(painted - picture)[core].mean() > abs(painted - picture)[opacity < 0.01].mean()
            assert 0 <= painted.min() <= painted.max() <= 1


def test_a_picture_without_a_head_is_refused_by_name(folder: Path) -> None:
    for name in ("a", "b"):
        for number in range(4):
            Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / name / f"{number}.png")
    settings = data()
    case = list_cases(settings.source, folder)[0]
    with pytest.raises(InputError, match="no head"):
        read_case(case, settings)
