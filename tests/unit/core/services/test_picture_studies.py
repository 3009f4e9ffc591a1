"""The pictures of a folder are one study: found again, grown, shared, moved; different folders never become one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.domain.study import ImportReport, StudySummary
from core.services.engine import Engine
from core.services.import_study import import_paths
from core.services.list_studies import list_studies
from core.services.load_volume import load_volume
from tests.fakes.engines import make_engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with make_engine(tmp_path) as opened:
        yield opened


def pictures(folder: Path, seeds: range | tuple[int, ...], name: str = "photo {} of it.png") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for seed in seeds:
        values = np.random.default_rng(seed).integers(0, 255, (6, 5 + seed % 3), dtype=np.uint8)
        files.append(folder / name.format(seed))
        Image.fromarray(values).save(files[-1])
    return files


def studies(engine: Engine) -> list[StudySummary]:
    return list(list_studies(engine))


def sizes(engine: Engine) -> list[int]:
    return sorted(sum(series.instances for series in study.series) for study in studies(engine))


def uids(report: ImportReport) -> set[str]:
    return {study.study_uid for study in report.studies}


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_a_folder_is_one_study_and_is_known_again(engine: Engine, tmp_path: Path, mode: str) -> None:
    files = pictures(tmp_path / "Mustermann", range(40))
    first = import_paths(engine, [tmp_path / "Mustermann"], mode=mode)
    (study,) = studies(engine)
    assert (len(study.series), study.description, study.modalities) == (40, "Pictures", ("OT",))
    assert "Mustermann" not in repr(study)
    again = import_paths(engine, [tmp_path / "Mustermann"], mode=mode)
    alone = import_paths(engine, [files[7]], mode=mode)
    assert (again.counts["instances"], again.already_present) == (0, 40)
    assert (alone.counts["instances"], alone.already_present) == (0, 1)
    assert uids(first) == uids(again) == uids(alone) == {study.study_uid}
    assert sizes(engine) == [40]


def test_different_folders_are_different_studies_of_different_patients(
    engine: Engine, tmp_path: Path
) -> None:
    pictures(tmp_path / "in" / "a", range(3))
    pictures(tmp_path / "in" / "b", range(10, 14))
    pictures(tmp_path / "in" / "b" / "deeper", range(20, 22))
    import_paths(engine, [tmp_path / "in"], mode="link")
    assert sizes(engine) == [2, 3, 4]
    assert len({study.pseudonym for study in studies(engine)}) == 3


def test_another_stick_at_the_same_place_is_another_study(engine: Engine, tmp_path: Path) -> None:
    pictures(tmp_path / "stick", range(3))
    import_paths(engine, [tmp_path / "stick"], mode="copy")
    shutil.rmtree(tmp_path / "stick")
    pictures(tmp_path / "stick", range(10, 14))
    import_paths(engine, [tmp_path / "stick"], mode="copy")
    assert sizes(engine) == [3, 4]


def test_a_folder_that_grew_stays_one_study(engine: Engine, tmp_path: Path) -> None:
    pictures(tmp_path / "in", range(3))
    import_paths(engine, [tmp_path / "in"], mode="link")
    pictures(tmp_path / "in", range(3, 6))
    assert import_paths(engine, [tmp_path / "in"], mode="link").counts["instances"] == 3
    assert sizes(engine) == [6]


def test_a_picture_that_came_alone_is_joined_by_its_folder(engine: Engine, tmp_path: Path) -> None:
    files = pictures(tmp_path / "in", range(5))
    import_paths(engine, [files[2]], mode="link")
    import_paths(engine, [tmp_path / "in"], mode="link")
    assert sizes(engine) == [5]


def test_one_picture_in_two_folders_does_not_make_them_one(engine: Engine, tmp_path: Path) -> None:
    pictures(tmp_path / "a", (0, 1, 2))
    pictures(tmp_path / "b", (0, 11, 12))
    import_paths(engine, [tmp_path / "a"], mode="link")
    import_paths(engine, [tmp_path / "b"], mode="link")
    assert sizes(engine) == [2, 3]
    import_paths(engine, [tmp_path / "a", tmp_path / "b"], mode="link")
    assert sizes(engine) == [2, 3]


def test_pictures_that_moved_stay_in_their_study(engine: Engine, tmp_path: Path) -> None:
    pictures(tmp_path / "old", range(3))
    import_paths(engine, [tmp_path / "old"], mode="link")
    (tmp_path / "old").rename(tmp_path / "new")
    import_paths(engine, [tmp_path / "new"], mode="link")
    (study,) = studies(engine)
    assert sizes(engine) == [3]
    assert load_volume(engine, study.series[0].key).voxels.shape[0] == 1


def test_a_stack_that_grew_lacks_nothing(engine: Engine, tmp_path: Path) -> None:
    stack = tmp_path / "in"
    for seeds, expected in ((range(0, 9, 3), 3), (range(0, 12, 3), 4)):
        for old in stack.glob("*.png"):
            old.unlink()
        for number, file in enumerate(pictures(stack, tuple(seeds), "slice {}x.png")):
            file.rename(stack / f"slice_{number}.png")
        import_paths(engine, [stack], mode="copy")
        assert sizes(engine) == [expected]
