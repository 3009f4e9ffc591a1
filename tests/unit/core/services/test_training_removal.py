"""What a study leaves in trainings when it is removed, and what a model with a promoted version refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.domain.errors import InputError
from core.domain.training import TrainingState
from core.recipes.finetune import FineTuneSettings
from core.services.check_library import delete_orphans
from core.services.engine import Engine
from core.services.remove_study import remove_studies
from core.services.start_training import start_training
from core.services.training_store import TrainingStore
from tests.fakes.engines import make_engine
from tests.fakes.verdicts import SEGMENTATION, add_segmentation_model, read_segmentations


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(tmp_path)
    read_segmentations(engine, add_segmentation_model(engine), tmp_path / "in", 3)
    yield engine
    engine.close()


def settings() -> FineTuneSettings:
    return FineTuneSettings(model_id=SEGMENTATION)


def test_a_study_that_a_training_learns_from_stays_until_it_is_over(engine: Engine) -> None:
    run = start_training(engine, settings())
    with engine.unit_of_work(writes=False) as uow:
        case = uow.trainings.cases(run.run_id)[0]
    with pytest.raises(InputError) as caught:
        remove_studies(engine, [case.study_uid], "patient-request")
    assert caught.value.code == "remove.in_training"
    copy = engine.paths.training / run.run_id / "cases" / case.case_id
    assert copy.is_dir()
    TrainingStore(engine).move(replace(run, state=TrainingState.FAILED))
    remove_studies(engine, [case.study_uid], "patient-request")
    assert not copy.exists()
    with engine.unit_of_work(writes=False) as uow:
        assert len(uow.trainings.cases(run.run_id)) == 2


def test_the_folder_of_no_training_is_an_orphan(engine: Engine) -> None:
    run = start_training(engine, settings())
    stray = engine.paths.training / "0123456789abcdef"
    (stray / "cases").mkdir(parents=True)
    delete_orphans(engine)
    assert not stray.exists()
    assert (engine.paths.training / run.run_id / "cases" / "cases.json").is_file()
