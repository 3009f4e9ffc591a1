"""The board of trainings with a worker that learns nothing: states, wishes, restarts, candidates, promotion."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from core.bundles.bundle import read_bundle
from core.bundles.digest import bundle_digest
from core.domain.errors import InputError, SafetyError
from core.domain.training import (
    CandidateState,
    TrainingChanged,
    TrainingCurves,
    TrainingEvent,
    TrainingRun,
    TrainingState,
)
from core.jobs.liveness import Timing
from core.recipes.finetune import FineTuneSettings
from core.services import verify_audit
from core.services.candidates import list_candidates, load_candidate, why_not
from core.services.engine import Engine, open_engine
from core.services.list_models import catalogue
from core.services.promote_model import model_versions, promote, roll_back
from core.services.start_training import start_training
from core.services.training_board import TrainingBoard
from tests.fakes.engines import make_engine
from tests.fakes.fake_trainer import BETTER, DIES, DIES_COMPARING, RAISES, SLOW, WORSE
from tests.fakes.verdicts import SEGMENTATION, add_segmentation_model, read_segmentations

COMMAND = [sys.executable, "-m", "tests.fakes.fake_trainer"]
TIMING = Timing(timeout_s=30.0, grace_s=5.0, start_timeout_s=120.0)
S = TrainingState


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(tmp_path)
    bundle = add_segmentation_model(engine)
    read_segmentations(engine, bundle, tmp_path / "in", 6, corrected=[1, 2, 3])
    yield engine
    engine.close()


@pytest.fixture
def make_board(engine: Engine) -> Iterator[Callable[..., TrainingBoard]]:
    boards: list[TrainingBoard] = []

    def make(use: Engine | None = None, **options: object) -> TrainingBoard:
        board = TrainingBoard(
            use or engine,
            timing=TIMING,
            worker_command=COMMAND,
            tick_s=0.2,
            **options,  # type: ignore[arg-type]
        )
        boards.append(board)
        return board

    yield make
    for board in boards:
        board.shutdown()


def settings(rate: float = BETTER, epochs: int = 2, **changes: object) -> FineTuneSettings:
    return FineTuneSettings.model_validate(
        {"model_id": SEGMENTATION, "epochs": epochs, "learning_rate": rate, **changes}
    )


def begin(engine: Engine, board: TrainingBoard, rate: float = BETTER, **changes: object) -> TrainingRun:
    run = start_training(engine, settings(rate, **changes))
    board.wake()
    return run


def until(board: TrainingBoard, run_id: str, wanted: Callable[[TrainingRun], bool]) -> TrainingRun:
    deadline = time.monotonic() + 60
    while not wanted(run := board.run(run_id)):
        assert time.monotonic() < deadline, f"it is still {run.state}"
        time.sleep(0.02)
    return run


def codes(engine: Engine) -> list[str]:
    return [event.event_code for event in verify_audit.list_events(engine)]


def test_a_training_ends_in_a_candidate_that_nobody_promotes(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    events: list[TrainingEvent] = []
    board.subscribe(events.append)
    before = bundle_digest(catalogue(engine).get(SEGMENTATION))
    run = begin(engine, board)
    done = board.wait(run.run_id, 60)
    assert (done.state, done.fraction, done.epoch, done.epochs) == (S.SUCCEEDED, 1.0, 2, 2)
    assert [note.code for note in done.notes] == ["early_stopping"]
    (candidate,) = list_candidates(engine)
    assert candidate.candidate_id == done.candidate_id
    assert (candidate.version, candidate.base_version, candidate.state) == (
        "1.1.0",
        "1.0.0",
        CandidateState.WAITING,
    )
    assert candidate.passed and why_not(engine, candidate) == ""
    comparison = candidate.comparison
    assert comparison is not None and len(comparison.cases) == 3
    assert all(case.series_key and case.study_uid for case in comparison.cases)
    assert [case.difference for case in comparison.cases] == pytest.approx([0.05, 0.06, 0.07])
    assert comparison.ci95[0] <= comparison.difference <= comparison.ci95[1]
    states = [event.run.state for event in events if isinstance(event, TrainingChanged)]
    assert states[0] is S.RUNNING and S.COMPARING in states and states[-1] is S.SUCCEEDED
    assert any(isinstance(event, TrainingCurves) and event.points[0].name == "loss" for event in events)
    assert bundle_digest(catalogue(engine).get(SEGMENTATION)) == before
    assert not (engine.paths.training / run.run_id / "cases").exists()
    assert {"training-started", "training-finished", "candidate-evaluated"} <= set(codes(engine))
    assert "model-promoted" not in codes(engine)
    assert verify_audit.verify(engine).ok


def test_promotion_and_roll_back_are_named_audited_and_bit_identical(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    original = catalogue(engine).get(SEGMENTATION)
    before = {name: original.read(name) for name in original.hashes}
    candidate_id = board.wait(begin(engine, board).run_id, 60).candidate_id
    for by, reason, code in (("", "better", "promote.no_name"), ("Dr. Weiß", " ", "promote.no_reason")):
        with pytest.raises(InputError) as caught:
            promote(engine, candidate_id, by, reason)
        assert caught.value.code == code
    versions = promote(engine, candidate_id, "Dr. Weiß", "Better on the test set.")
    assert (versions.current_version, versions.previous_version) == ("1.1.0", "1.0.0")
    assert catalogue(engine).get(SEGMENTATION).manifest.version == "1.1.0"
    assert load_candidate(engine, candidate_id).state is CandidateState.PROMOTED
    with pytest.raises(InputError):
        promote(engine, candidate_id, "Dr. Weiß", "Once more.")
    back = roll_back(engine, SEGMENTATION, "Dr. Weiß", "It misses small lesions.")
    assert (back.current_version, back.previous_version) == ("1.0.0", "")
    now = catalogue(engine).get(SEGMENTATION)
    assert {name: now.read(name) for name in now.hashes} == before
    assert [(e.action, e.by, e.reason) for e in back.history] == [
        ("rollback", "Dr. Weiß", "It misses small lesions."),
        ("promote", "Dr. Weiß", "Better on the test set."),
    ]
    with pytest.raises(InputError) as nothing:
        roll_back(engine, SEGMENTATION, "Dr. Weiß", "Again.")
    assert nothing.value.code == "rollback.nothing"
    events = [e for e in verify_audit.list_events(engine) if e.event_code.startswith("model-")]
    assert [e.event_code for e in events if "promoted" in e.event_code or "rolled" in e.event_code] == [
        "model-promoted",
        "model-rolled-back",
    ]
    assert not any("lesions" in event.detail_json for event in events)
    assert verify_audit.verify(engine).ok
    assert load_candidate(engine, candidate_id).state is CandidateState.ROLLED_BACK


def test_a_worse_candidate_fails_its_gates_and_cannot_be_promoted(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    candidate_id = board.wait(begin(engine, board, WORSE).run_id, 60).candidate_id
    candidate = load_candidate(engine, candidate_id)
    assert [gate.passed for gate in candidate.gates] == [False, False]
    assert "Not worse than the model in use" in why_not(engine, candidate)
    with pytest.raises(SafetyError) as caught:
        promote(engine, candidate_id, "Dr. Weiß", "Please.")
    assert caught.value.code == "promote.gates"
    assert catalogue(engine).get(SEGMENTATION).manifest.version == "1.0.0"


def test_a_candidate_whose_files_changed_is_not_promoted(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    run = begin(engine, board)
    candidate_id = board.wait(run.run_id, 60).candidate_id
    card = engine.paths.training / run.run_id / "run" / "bundle" / "MODEL_CARD.md"
    card.write_text("# Changed\n")
    with pytest.raises(SafetyError) as caught:
        promote(engine, candidate_id, "Dr. Weiß", "Better.")
    assert caught.value.code == "promote.changed"
    assert list(engine.paths.versions.rglob("bundle.json")) == []


def test_a_candidate_compared_with_a_former_version_is_not_promoted(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    first = board.wait(begin(engine, board).run_id, 60).candidate_id
    second = board.wait(begin(engine, board).run_id, 60).candidate_id
    assert load_candidate(engine, second).version == "1.2.0"
    promote(engine, first, "Dr. Weiß", "Better.")
    assert "Another version" in why_not(engine, load_candidate(engine, second))
    with pytest.raises(SafetyError) as caught:
        promote(engine, second, "Dr. Weiß", "Better still.")
    assert caught.value.code == "promote.other_current"


def test_a_promoted_version_that_was_tampered_with_is_not_used_but_can_be_rolled_back(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    promote(engine, board.wait(begin(engine, board).run_id, 60).candidate_id, "Dr. Weiß", "Better.")
    (card,) = engine.paths.versions.rglob("MODEL_CARD.md")
    card.write_text("# Changed\n")
    with pytest.raises(InputError) as caught:
        catalogue(engine).get(SEGMENTATION)
    assert caught.value.code == "bundle.hash"
    assert roll_back(engine, SEGMENTATION, "Dr. Weiß", "Damaged.").current_version == "1.0.0"


def test_two_promotions_are_undone_one_by_one(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    digests = [bundle_digest(catalogue(engine).get(SEGMENTATION))]
    for _ in range(2):
        promote(engine, board.wait(begin(engine, board).run_id, 60).candidate_id, "Dr. Weiß", "Better.")
        digests.append(bundle_digest(catalogue(engine).get(SEGMENTATION)))
    assert model_versions(engine, SEGMENTATION).current_version == "1.2.0"
    roll_back(engine, SEGMENTATION, "Dr. Weiß", "Back.")
    assert bundle_digest(catalogue(engine).get(SEGMENTATION)) == digests[1]
    assert [c.state for c in list_candidates(engine)] == [CandidateState.ROLLED_BACK, CandidateState.PROMOTED]
    roll_back(engine, SEGMENTATION, "Dr. Weiß", "Back.")
    assert bundle_digest(catalogue(engine).get(SEGMENTATION)) == digests[0]


def test_a_refusing_training_fails_with_its_reason(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    run = board.wait(begin(engine, board, RAISES).run_id, 60)
    assert (run.state, run.error_code, run.remedy) == (S.FAILED, "fake.refused", "Ask it nicely.")
    assert list_candidates(engine) == []
    assert "training-finished" in codes(engine)


def test_pause_rests_between_steps_and_resume_goes_on(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    run = begin(engine, board, SLOW, epochs=20)
    until(board, run.run_id, lambda r: r.step > 2)
    board.pause(run.run_id)
    until(board, run.run_id, lambda r: r.state is S.PAUSED)
    counter = engine.paths.training / run.run_id / "run" / "step.txt"
    rested = counter.read_text()
    time.sleep(0.3)
    assert counter.read_text() == rested
    with pytest.raises(InputError):
        board.pause(run.run_id)
    board.resume(run.run_id)
    until(board, run.run_id, lambda r: r.state is S.RUNNING and r.step > int(rested) + 1)


def test_reading_holds_the_training_up_for_a_moment(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    run = begin(engine, board, SLOW, epochs=40)
    until(board, run.run_id, lambda r: r.step > 2)
    stop = threading.Event()

    def read() -> None:
        while not stop.wait(0.05):
            board.reading_active()

    reader = threading.Thread(target=read)
    reader.start()
    held = until(board, run.run_id, lambda r: r.held_by == "reading")
    assert held.state is S.RUNNING
    stop.set()
    reader.join()
    until(board, run.run_id, lambda r: r.held_by == "" and r.step > held.step)


def test_cancel_ends_it_and_leaves_nothing(engine: Engine, make_board: Callable[..., TrainingBoard]) -> None:
    board = make_board()
    run = begin(engine, board, SLOW, epochs=40)
    until(board, run.run_id, lambda r: r.step > 2)
    board.cancel(run.run_id)
    assert board.wait(run.run_id, 20).state is S.CANCELLED
    until(board, run.run_id, lambda r: not (engine.paths.training / run.run_id).exists())
    assert "training-cancelled" in codes(engine)
    with pytest.raises(InputError):
        board.cancel(run.run_id)


def test_one_that_waits_is_cancelled_before_it_begins(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    first = begin(engine, board, SLOW, epochs=40)
    second = begin(engine, board)
    until(board, first.run_id, lambda r: r.state is S.RUNNING)
    assert board.run(second.run_id).state is S.QUEUED
    board.cancel(second.run_id)
    assert board.run(second.run_id).state is S.CANCELLED


def test_a_training_whose_worker_died_is_resumed_from_where_it_was(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    run = begin(engine, board, DIES)
    lost = board.wait(run.run_id, 60)
    assert (lost.state, lost.error_code) == (S.INTERRUPTED, "training.worker_lost")
    assert lost.can_resume
    board.resume(run.run_id)
    assert until(board, run.run_id, lambda r: r.is_final).state is S.SUCCEEDED
    steps = [point.step for point in board.curves(run.run_id) if point.name == "loss"]
    assert steps == list(range(1, 11))


def test_a_comparison_that_was_cut_short_is_done_again_without_training_again(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    run = begin(engine, board, DIES_COMPARING)
    assert board.wait(run.run_id, 60).state is S.INTERRUPTED
    events = engine.paths.training / run.run_id / "run" / "events.jsonl"
    trained = events.read_bytes()
    board.resume(run.run_id)
    assert until(board, run.run_id, lambda r: r.is_final).state is S.SUCCEEDED
    assert events.read_bytes() == trained
    assert len(list_candidates(engine)) == 1


def test_a_training_that_began_with_a_former_version_does_not_start(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    now = [datetime(2026, 1, 1, 15, 0)]
    board = make_board(clock=lambda: now[0])
    waiting = begin(engine, board, start="night")
    first = board.wait(begin(engine, board).run_id, 60)
    promote(engine, first.candidate_id, "Dr. Weiß", "Better.")
    now[0] = datetime(2026, 1, 1, 23, 0)
    failed = until(board, waiting.run_id, lambda r: r.is_final)
    assert (failed.state, failed.error_code) == (S.FAILED, "training.other_base")


def test_a_training_survives_the_end_of_the_program_with_complete_curves(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    run = begin(engine, board, SLOW, epochs=4)
    until(board, run.run_id, lambda r: r.step > 5)
    board.shutdown()
    with open_engine(engine.paths.root) as again:
        kept = TrainingBoard(again, timing=TIMING, worker_command=COMMAND, tick_s=0.2, auto_resume=False)
        try:
            shown = kept.run(run.run_id)
            assert (shown.state, shown.error_code) == (S.INTERRUPTED, "training.closed")
        finally:
            kept.shutdown()
        resumed = make_board(again)
        try:
            assert until(resumed, run.run_id, lambda r: r.is_final).state is S.SUCCEEDED
            steps = [point.step for point in resumed.curves(run.run_id) if point.name == "loss"]
            assert steps == list(range(1, 21))
        finally:
            resumed.shutdown()


def test_what_the_reader_paused_waits_for_the_reader_after_a_restart(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    run = begin(engine, board, SLOW, epochs=20)
    until(board, run.run_id, lambda r: r.step > 2)
    board.pause(run.run_id)
    until(board, run.run_id, lambda r: r.state is S.PAUSED)
    board.shutdown()
    again = make_board()
    time.sleep(0.5)
    assert again.run(run.run_id).state is S.INTERRUPTED
    again.cancel(run.run_id)
    assert again.run(run.run_id).state is S.CANCELLED


def test_a_night_training_waits_for_the_night_and_stops_in_the_morning(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    now = [datetime(2026, 1, 1, 15, 0)]
    board = make_board(clock=lambda: now[0])
    run = begin(engine, board, SLOW, epochs=20, start="night", night_from="22:00", night_to="06:00")
    waiting = until(board, run.run_id, lambda r: r.waits_for == "night")
    assert waiting.state is S.QUEUED and board.worker_pid is None
    now[0] = datetime(2026, 1, 1, 23, 30)
    until(board, run.run_id, lambda r: r.state is S.RUNNING and r.step > 2)
    now[0] = datetime(2026, 1, 2, 6, 0)
    until(board, run.run_id, lambda r: r.state is S.QUEUED and r.waits_for == "night")
    assert board.worker_pid is None
    counter = engine.paths.training / run.run_id / "run" / "step.txt"
    rested = int(counter.read_text())
    now[0] = datetime(2026, 1, 2, 22, 0)
    assert until(board, run.run_id, lambda r: r.step > rested).state is S.RUNNING


def test_another_board_of_the_home_does_not_train_at_the_same_time(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    board = make_board()
    run = begin(engine, board, SLOW, epochs=40)
    until(board, run.run_id, lambda r: r.step > 2)
    other = make_board()
    later = begin(engine, other)
    time.sleep(0.6)
    assert other.run(later.run_id).state is S.QUEUED
    assert other.run(run.run_id).state is S.RUNNING
    with pytest.raises(InputError) as caught:
        other.cancel(run.run_id)
    assert caught.value.code == "training.elsewhere"
    board.cancel(run.run_id)
    assert until(other, later.run_id, lambda r: r.is_final).state is S.SUCCEEDED


def test_the_worker_carries_over_what_a_recipe_does_not_say(
    engine: Engine, make_board: Callable[..., TrainingBoard]
) -> None:
    from core.worker.training_tasks import as_successor

    base = catalogue(engine).get(SEGMENTATION)
    board = make_board()
    run = board.wait(begin(engine, board).run_id, 60)
    trained = read_bundle(engine.paths.training / run.run_id / "run" / "bundle")
    explained = base.manifest.findings.model_copy(update={"per": "component"})
    changed = dataclasses.replace(base, manifest=base.manifest.model_copy(update={"findings": explained}))
    successor = as_successor(trained.path, changed)
    assert successor.manifest.findings.per == "component"
    assert successor.manifest.version == "1.1.0"
