"""Thumbnails: the right slice, the right window, colour kept, made once, gone with the study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from core.domain.geometry import VolumeGeometry
from core.domain.study import InstanceRef, ObjectKind, SeriesKind, SeriesSummary
from core.domain.volume import Volume
from core.domain.window import Window
from core.services import browse, list_studies, thumbnails
from core.services.engine import Engine
from core.services.import_study import import_paths
from core.services.library_files import thumbnail_file
from tests.fakes.data import data_path
from tests.fakes.dicom_files import write_stack
from tests.fakes.engines import CT_IMAGE, make_engine, series_summary

RAMP = np.tile(np.arange(64, dtype=np.int16), (64, 1))


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    with make_engine(tmp_path) as opened:
        yield opened


def summary_of(modality: str, body_part: str = "", **more: Any) -> SeriesSummary:
    summary = replace(series_summary(modality=modality), body_part=body_part, kind=SeriesKind.IMAGE)
    return replace(summary, instances=1, frames=1, spacing_kji_mm=None, **more)


def picture(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, pixels: NDArray, summary: SeriesSummary, **volume: Any
) -> NDArray[np.uint8]:
    """Return the thumbnail of a slice that the loader gives."""
    grid = VolumeGeometry((1, *pixels.shape[:2]), np.eye(4), None)

    def load(*_: Any, **__: Any) -> Volume:
        return Volume(grid, pixels[np.newaxis].copy(), summary.modality, summary.series_uid, **volume)

    monkeypatch.setattr(thumbnails, "load_files", load)
    found = thumbnails.thumbnail(engine, summary, [InstanceRef("1.2.3", CT_IMAGE, Path("x"))])
    assert found is not None
    return found


def test_uptake_is_shown_dark_on_white_in_suv(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    activity = RAMP.astype(np.float32) * 1000.0
    shown = picture(engine, monkeypatch, activity, summary_of("PT"), suvbw_factor=1e-4)
    assert shown[5, 0] == 255
    assert int(shown[5, 64]) == pytest.approx(255 - 255 * 3.2 / 6.0, abs=6)
    assert shown[5, 127] == 0
    relative = replace(summary_of("PT"), key="1.2.9")
    assert picture(engine, monkeypatch, activity, relative)[5, 0] == 255


def test_an_image_that_is_stored_inverted_is_shown_as_meant(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = (Window(32.0, 64.0),)
    shown = picture(engine, monkeypatch, RAMP, summary_of("MG", "BREAST"), windows=window, inverted=True)
    assert shown[5, 0] > 250
    assert shown[5, 127] < 5
    upright = replace(summary_of("DX"), key="1.2.9")
    assert picture(engine, monkeypatch, RAMP, upright, windows=window)[5, 0] < 5


@pytest.mark.parametrize(
    ("body_part", "value", "grey"),
    [("CHEST", -600, 127), ("HEAD", 40, 127), ("ABDOMEN", 40, 127), ("HEAD", 80, 255)],
)
def test_ct_is_windowed_by_its_region(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, body_part: str, value: int, grey: int
) -> None:
    pixels = np.full((64, 64), value, dtype=np.int16)
    shown = picture(engine, monkeypatch, pixels, summary_of("CT", body_part))
    assert int(shown[9, 9]) == pytest.approx(grey, abs=2)


def test_a_ct_without_region_is_shown_as_lung_when_it_is_lung(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.full((64, 64), 40, dtype=np.int16)
    pixels[:32] = -800
    shown = picture(engine, monkeypatch, pixels, summary_of("CT"))
    assert 80 < shown[10, 10] < 110


def test_mr_is_windowed_by_its_values_and_padding_does_not_matter(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = (RAMP * 10).astype(np.int16)
    assert (
        picture(engine, monkeypatch, pixels, summary_of("MR"), windows=(Window(5.0, 2000.0),))[9, 120] > 230
    )
    pixels[:, :20] = -20000
    padded = replace(summary_of("MR"), key="1.2.9")
    shown = picture(engine, monkeypatch, pixels, padded, windows=(Window(320.0, 640.0),))
    assert int(shown[9, 60]) == pytest.approx(255 * 30 / 64, abs=8)


def test_colour_stays_colour(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((64, 32, 3), dtype=np.uint8)
    pixels[..., 0] = 200
    summary = summary_of("US")
    shown = picture(engine, monkeypatch, pixels, summary)
    assert shown.shape == (128, 64, 3)
    assert tuple(shown[50, 30]) == (200, 0, 0)
    again = thumbnails.thumbnail(engine, summary, [InstanceRef("1.2.3", CT_IMAGE, Path("x"))])
    np.testing.assert_array_equal(shown, again)


def test_grey_bytes_are_shown_as_they_are(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.full((64, 64), 90, dtype=np.uint8)
    assert picture(engine, monkeypatch, pixels, summary_of("US"))[3, 3] == 90


def test_nothing_but_blanks_makes_a_picture_too(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.full((64, 64), np.nan, dtype=np.float32)
    assert picture(engine, monkeypatch, pixels, summary_of("MR")).shape == (128, 128)


def test_derived_objects_have_none(engine: Engine) -> None:
    ref = [InstanceRef("1.2.3", CT_IMAGE, Path("x"))]
    assert thumbnails.thumbnail(engine, summary_of("SEG", object_kind=ObjectKind.SEGMENTATION), ref) is None
    assert thumbnails.thumbnail(engine, replace(summary_of("SR"), kind=SeriesKind.OTHER), ref) is None
    assert thumbnails.thumbnail(engine, summary_of("CT"), []) is None
    assert list(engine.paths.thumbnails.iterdir()) == []


def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how many files each load decodes."""
    seen: list[int] = []
    real: Callable[..., Volume] = thumbnails.load_files

    def counted(summary: Any, instances: Any, **more: Any) -> Volume:
        seen.append(len(instances))
        return real(summary, instances, **more)

    monkeypatch.setattr(thumbnails, "load_files", counted)
    return seen


def test_one_file_is_decoded_once(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = loads(monkeypatch)
    voxels = np.zeros((5, 16, 16), dtype=np.int16)
    voxels[2] = 300
    write_stack(tmp_path / "in", voxels)
    study = import_paths(engine, [tmp_path / "in"]).studies[0]
    key = study.series[0].key
    shown = list_studies.thumbnail(engine, key)
    assert shown is not None and shown.min() == 255
    for _ in range(3):
        list_studies.thumbnail(engine, key)
    assert seen == [1]
    assert thumbnail_file(engine, key).exists()


@pytest.mark.parametrize(
    ("path", "colour"),
    [
        ("core/dicom/wg04-codecs/US1_J2KR.dcm", True),
        ("core/dicom/pydicom-data-zoo/emri_small.dcm", False),
    ],
)
def test_real_files_have_a_picture(engine: Engine, path: str, colour: bool) -> None:
    file = data_path(path)
    (study,) = import_paths(engine, [file]).studies
    shown = list_studies.thumbnail(engine, browse.series_of(engine, study.study_uid)[0].key)
    assert shown is not None
    assert (shown.ndim == 3) is colour
    assert shown.std() > 10
