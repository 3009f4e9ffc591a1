from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from core.domain.errors import InputError, SafetyError
from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume
from core.domain.window import Window
from core.services import render as service
from tests.fakes.pictures import explanation_of, segmentation_of, stored_as


@pytest.fixture
def volume(monkeypatch: pytest.MonkeyPatch) -> Volume:
    made = stored_as("LPS")
    monkeypatch.setattr(service, "load_volume", lambda engine, key, time_point: made)
    summary = SimpleNamespace(series_uid="1.2.840.1", key="1.2.840.1")
    monkeypatch.setattr(service, "get_series", lambda engine, key: (summary, ()))
    monkeypatch.setattr(service, "load_result", lambda engine, rid: SimpleNamespace(series_uid="1.2.840.1"))
    monkeypatch.setattr(service, "load_segmentation", lambda engine, rid: segmentation_of(made))
    monkeypatch.setattr(service, "load_explanations", lambda engine, rid: [explanation_of(made)])
    return made


@pytest.mark.parametrize("layout", ["stack", "mpr", "3d"])
def test_each_layout_writes_a_png_of_the_size_asked_for(volume: Volume, tmp_path: Path, layout: str) -> None:
    out = tmp_path / "picture.png"
    told = service.render(None, "1", layout=layout, result_id="r", size=(320, 240), out=out)  # type: ignore[arg-type]
    with Image.open(out) as picture:
        assert picture.size == (320, 240)
        assert np.asarray(picture).std() > 2
    assert told["layout"] == layout and told["file"] == str(out)


def test_the_slice_is_the_index_of_the_array_and_the_number_that_of_the_picture(
    volume: Volume, tmp_path: Path
) -> None:
    told = service.render(None, "1", slice=2, window=Window(50, 100), size=(200, 200), out=tmp_path / "a.png")  # type: ignore[arg-type]
    assert told["slice"] == 2
    assert told["image_number"] == volume.geometry.shape_kji[0] - 2
    assert told["window"] == [50, 100]


def test_without_a_slice_the_hottest_is_shown(volume: Volume, tmp_path: Path) -> None:
    told = service.render(
        None,
        "1",
        result_id="r",
        heatmap="gradcam:bar",
        size=(200, 200),
        out=tmp_path / "a.png",  # type: ignore[arg-type]
    )
    assert told["slice"] == 5


@pytest.mark.parametrize(
    ("wishes", "code"),
    [
        ({"layout": "quad"}, "render.layout"),
        ({"slice": 99}, "render.slice"),
        ({"heatmap": "gradcam:bar"}, "render.no-result"),
        ({"heatmap": "ig:bar", "result_id": "r"}, "render.no-heatmap"),
    ],
)
def test_what_can_not_be_drawn_is_refused_and_nothing_is_written(
    volume: Volume, tmp_path: Path, wishes: dict, code: str
) -> None:
    with pytest.raises(InputError) as refusal:
        service.render(None, "1", size=(200, 200), out=tmp_path / "a.png", **wishes)  # type: ignore[arg-type]
    assert refusal.value.code == code and refusal.value.remedy
    assert not list(tmp_path.glob("*.png"))


def test_a_result_on_another_grid_is_a_matter_of_safety(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        service, "load_segmentation", lambda engine, rid: segmentation_of(volume, fault_shift=40.0)
    )
    with pytest.raises(SafetyError):
        service.render(None, "1", result_id="r", size=(200, 200), out=tmp_path / "a.png")  # type: ignore[arg-type]


def test_a_projection_has_no_cross_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Volume(VolumeGeometry((1, 8, 9), np.eye(4)), np.zeros((1, 8, 9), np.uint16), "CR", "1")
    monkeypatch.setattr(service, "load_volume", lambda engine, key, time_point: picture)
    with pytest.raises(InputError, match="no layout 'mpr'"):
        service.render(None, "1", layout="mpr", size=(200, 200), out=tmp_path / "a.png")  # type: ignore[arg-type]
    assert service.render(None, "1", size=(200, 200), out=tmp_path / "a.png")["slice"] == 0  # type: ignore[arg-type]
