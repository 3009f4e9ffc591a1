"""A training's folder, its messages and its candidate hold nothing of who the patients are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from core.config.sealed_file import open_plain
from core.domain.training import TrainingState
from core.formats.nifti import write_nifti
from core.jobs.liveness import Timing
from core.recipes.finetune import FineTuneSettings
from core.services import verify_audit
from core.services.engine import open_engine
from core.services.import_study import import_paths
from core.services.load_volume import load_volume
from core.services.promote_model import promote
from core.services.record_decision import record_decision
from core.services.start_training import start_training
from core.services.training_board import TrainingBoard
from tests.fakes.dicom_files import UID_ROOT, write_stack
from tests.fakes.fake_trainer import BETTER
from tests.fakes.verdicts import SEGMENTATION, add_segmentation_model, add_segmentation_result, truth_of

WORDS = ("ZZPLANTED", "CANARY", "PID-0815", "ACC-ZZ-77", "19331103", UID_ROOT)
MARKS = [form for word in WORDS for form in (word.encode(), word.encode("utf-16-le"), word.lower().encode())]


def hits(data: bytes, where: str) -> list[str]:
    return [f"{mark!r} in {where}" for mark in MARKS if mark in data]


@pytest.mark.slow
def test_identity_reaches_neither_a_trainings_folder_nor_its_events(tmp_path: Path) -> None:
    home = tmp_path / "home"
    told: list[str] = []
    with open_engine(home, actor="reader") as engine:
        bundle = add_segmentation_model(engine)
        for number in range(6):
            voxels = np.full((6, 16, 16), -1000, np.int16)
            voxels[:, 4 + number % 3 : 12, 3 + number // 3 : 12] = 40
            voxels[2:4, 6:9, 5 + number : 8 + number] = 800
            folder = tmp_path / "ZZPLANTED CANARY" / f"PID-0815-{number}"
            identity = {
                "PatientName": f"ZZPLANTED^CANARY{number}",
                "PatientID": f"PID-0815-{number}",
                "AccessionNumber": "ACC-ZZ-77",
                "PatientBirthDate": "19331103",
                "StudyDescription": "CT of ZZPLANTED",
                "SeriesDescription": "CANARY 5.0",
                "StudyInstanceUID": f"{UID_ROOT}.100{number}",
                "SeriesInstanceUID": f"{UID_ROOT}.200{number}",
            }
            write_stack(folder, voxels, number=number + 1, **identity)
            (series,) = import_paths(engine, [folder]).studies[0].series
            truth = truth_of(engine, series)
            result = add_segmentation_result(engine, bundle, series, truth)
            for finding in result.findings:
                mask = folder / "CANARY.nii.gz"
                write_nifti(mask, load_volume(engine, series.key).geometry, truth)
                record_decision(
                    engine, result.result_id, finding.id, "edit", "as ZZPLANTED said", mask_file=mask
                )
        run = start_training(engine, FineTuneSettings(model_id=SEGMENTATION, epochs=2, learning_rate=BETTER))
        laid = engine.paths.training / run.run_id / "cases"
        for path in laid.rglob("*"):
            if path.is_file():
                with open_plain(path) as stream:
                    plain = stream.read()
                assert hits(plain, path.name) == [], "not even under the seal"
        board = TrainingBoard(
            engine,
            timing=Timing(timeout_s=60.0, start_timeout_s=200.0),
            worker_command=[sys.executable, "-m", "tests.fakes.fake_trainer"],
            tick_s=0.2,
        )
        board.subscribe(lambda event: told.append(repr(event)))
        try:
            done = board.wait(run.run_id, 120)
        finally:
            board.shutdown()
        assert done.state is TrainingState.SUCCEEDED
        promote(engine, done.candidate_id, "Dr. A", "Better for ZZPLANTED CANARY.")
        details = json.dumps([event.detail_json for event in verify_audit.list_events(engine)])
        assert hits(details.encode(), "the audit trail") == []
        assert hits("".join(told).encode(), "the events of the board") == []
    found = []
    for path in home.rglob("*"):
        found += hits(path.relative_to(home).as_posix().encode(), "a name")
        if path.is_file():
            found += hits(path.read_bytes(), path.name)
    assert found == []
