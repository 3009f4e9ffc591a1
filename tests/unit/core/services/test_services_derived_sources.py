"""The series that an object lies over, and the time point that an image belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.domain.derived import SourceImage
from core.domain.errors import InputError
from core.domain.study import InstanceRef, ObjectKind, SeriesKind, SeriesSummary
from core.library.files import FileStamp
from core.services.derived_sources import find_image, source_of
from core.services.engine import Engine
from tests.fakes.engines import CT_IMAGE, insert_study, make_engine, series_summary


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with make_engine(tmp_path) as opened:
        yield opened


def add(engine: Engine, series: SeriesSummary, refs: tuple[InstanceRef, ...] = ()) -> SeriesSummary:
    with engine.unit_of_work() as uow:
        uow.series.put(series, "dicom")
        uow.instances.put(series.key, [(ref, FileStamp(0, 0)) for ref in refs])
    return series


def derived(key: str, kind: ObjectKind, *sources: str, frame: str | None = None) -> SeriesSummary:
    return replace(
        series_summary(series_uid=key),
        kind=SeriesKind.OTHER,
        object_kind=kind,
        source_series=sources,
        frame_of_reference_uid=frame,
        shape_kji=None,
    )


def test_the_named_source_is_found_and_a_missing_one_is_none(engine: Engine) -> None:
    image = insert_study(engine)
    add(engine, derived("d1", ObjectKind.SEGMENTATION, "1.9", image.series_uid))
    add(engine, derived("d2", ObjectKind.SEGMENTATION, "1.9"))
    found = source_of(engine, "d1")
    assert found is not None and found.key == image.key
    assert source_of(engine, "d2") is None
    with pytest.raises(InputError):
        source_of(engine, "nowhere")


def test_without_a_named_source_the_frame_of_reference_decides(engine: Engine) -> None:
    insert_study(engine)
    larger = replace(series_summary(series_uid="1.7"), frames=80, frame_of_reference_uid="1.5")
    add(engine, larger)
    add(engine, derived("d1", ObjectKind.STRUCTURE_SET, frame="1.5"))
    add(engine, derived("d2", ObjectKind.STRUCTURE_SET, frame="1.6"))
    add(engine, derived("d3", ObjectKind.STRUCTURE_SET))
    add(engine, derived("d4", ObjectKind.DOCUMENT))
    found = source_of(engine, "d1")
    assert found is not None and found.key == "1.7"
    assert source_of(engine, "d2") is None and source_of(engine, "d3") is None
    letter = source_of(engine, "d4")
    assert letter is not None and letter.key == "1.7", "a letter lies over the largest series of its study"


def test_an_image_is_found_with_its_time_point(engine: Engine) -> None:
    insert_study(engine)
    refs = tuple(InstanceRef(f"7.{n}", CT_IMAGE, engine.paths.instances / f"{n}.dcm") for n in range(6))
    add(engine, replace(series_summary(series_uid="1.7"), time_points=3, instances=6, frames=6), refs)
    times = [found[1] for n in range(6) if (found := find_image(engine, SourceImage(f"7.{n}"))) is not None]
    assert times == [0, 0, 1, 1, 2, 2]
    one = (InstanceRef("8.1", CT_IMAGE, engine.paths.instances / "8.dcm", frames=6),)
    add(engine, replace(series_summary(series_uid="1.8"), time_points=2, instances=1, frames=6), one)
    found = find_image(engine, SourceImage("8.1", (5,)))
    assert found is not None and found[0].key == "1.8" and found[1] == 1
    assert find_image(engine, SourceImage("9.9")) is None
