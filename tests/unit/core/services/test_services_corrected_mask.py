"""A corrected mask is refused before it is kept when it can't be one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest

from core.domain.errors import AppError, InputError, SafetyError
from core.domain.geometry import VolumeGeometry
from core.formats.nifti import write_nifti
from core.services import corrected_mask
from tests.fakes.review_engine import segmentation, volume


@pytest.fixture(autouse=True)
def _result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrected_mask, "load_segmentation", lambda _engine, _result: segmentation())


def written(folder: Path, labels: np.ndarray, geometry: VolumeGeometry) -> Path:
    write_nifti(folder / "mask.nii.gz", geometry, labels)
    return folder / "mask.nii.gz"


def check(file: Path) -> None:
    corrected_mask.require_mask_of(MagicMock(), "r1", file)


def test_a_mask_on_the_grid_is_taken(tmp_path: Path) -> None:
    check(written(tmp_path, segmentation().labels, segmentation().geometry))


def test_a_mask_of_another_place_is_refused_with_the_way_out(tmp_path: Path) -> None:
    matrix = segmentation().geometry.lps_from_ijk.copy()
    matrix[0, 3] += 5.0
    moved = replace(segmentation().geometry, lps_from_ijk=matrix)
    with pytest.raises(SafetyError) as caught:
        check(written(tmp_path, segmentation().labels, moved))
    assert caught.value.code == "decisions.mask_grid" and "Export" in caught.value.remedy


def test_an_empty_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        check(written(tmp_path, np.zeros_like(segmentation().labels), segmentation().geometry))
    assert caught.value.code == "decisions.mask_empty"


def test_a_classification_has_no_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrected_mask, "load_segmentation", lambda _engine, _result: None)
    with pytest.raises(InputError) as caught:
        check(tmp_path / "x.nii")
    assert caught.value.code == "decisions.no_label_map"


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mask.nii").write_bytes(b"no picture")
    with pytest.raises(AppError):
        check(tmp_path / "mask.nii")
    assert volume().geometry.same_grid_as(segmentation().geometry)
