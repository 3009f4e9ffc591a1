"""The worklist: names from the vault, search, hiding identity, neighbours, priors."""

from __future__ import annotations

import numpy as np
import pytest

from app.presenters.notices import NoticesPresenter
from app.presenters.worklist import WorklistPresenter
from core.domain.errors import EnvironmentFault
from core.domain.study import PatientIdentity
from tests.fakes.review_engine import DeferredTasks, FakeReviewEngine, ImmediateTasks, result, study, summary


@pytest.fixture
def engine() -> FakeReviewEngine:
    fake = FakeReviewEngine()
    fake.studies = [
        study(
            "t1", "P-1", summary("s1", "t1"), summary("s2", "t1", description="Lung kernel"), date="2026-01"
        ),
        study("t0", "P-1", summary("s0", "t0"), date="2024-05"),
        study("t9", "P-2", summary("s9", "t9", description="Kopf"), date="2025-02"),
    ]
    fake.patients["t0"] = fake.patients["t1"]
    fake.patients["t9"] = PatientIdentity("Łukasiewicz^Jan", "ID-9")
    return fake


@pytest.fixture
def worklist(engine: FakeReviewEngine) -> WorklistPresenter:
    presenter = WorklistPresenter(engine, ImmediateTasks(), NoticesPresenter())
    presenter.refresh()
    return presenter


def test_patients_are_named_from_the_vault(worklist: WorklistPresenter) -> None:
    assert [patient.name for patient in worklist.state.patients] == ["Muster, Erika", "Łukasiewicz, Jan"]
    assert worklist.state.patients[0].detail == "ID-1 · 1970-01-01 · F"
    assert [study.uid for study in worklist.state.patients[0].studies] == ["t1", "t0"]
    assert worklist.state.patients[0].studies[0].series[0].detail == "CT · 24 slices · 5 mm"


def test_identity_can_be_hidden(worklist: WorklistPresenter) -> None:
    worklist.toggle_identity()
    text = repr(worklist.state.patients)
    assert "Muster" not in text and "ID-1" not in text and "P-1" in text
    assert worklist.patient_name("t1") == "P-1"
    worklist.toggle_identity()
    assert worklist.patient_name("t1") == "Muster, Erika"


@pytest.mark.parametrize(
    ("query", "uids"),
    [
        ("muster", ["t1", "t0"]),
        ("lukasiewicz", ["t9"]),
        ("KOPF", ["t9"]),
        ("erika lung", ["t1"]),
        ("", ["t1", "t0", "t9"]),
    ],
)
def test_search_finds_every_word_without_case(
    worklist: WorklistPresenter, query: str, uids: list[str]
) -> None:
    worklist.search(query)
    assert [s.uid for p in worklist.state.patients for s in p.studies] == uids
    assert worklist.state.total == 3


def test_search_ignores_accents(engine: FakeReviewEngine) -> None:
    engine.patients["t9"] = PatientIdentity("Müller^José")
    presenter = WorklistPresenter(engine, ImmediateTasks(), NoticesPresenter())
    presenter.refresh()
    presenter.search("muller jose")
    assert [s.uid for p in presenter.state.patients for s in p.studies] == ["t9"]


def test_priors_are_the_patients_other_studies(worklist: WorklistPresenter) -> None:
    worklist.set_current("s1")
    assert [(prior.uid, prior.date) for prior in worklist.state.priors] == [("t0", "2024-05")]


def test_neighbours_follow_the_list(worklist: WorklistPresenter) -> None:
    assert worklist.neighbour_series(1) is None
    worklist.set_current("s1")
    following = worklist.neighbour_series(1)
    assert following is not None and following.key == "s2"
    assert worklist.neighbour_series(-1) is None
    next_study = worklist.neighbour_study(1)
    assert next_study is not None and next_study.study_uid == "t0"
    assert worklist.neighbour_study(-1) is None


def test_a_late_answer_is_dropped(engine: FakeReviewEngine) -> None:
    tasks = DeferredTasks()
    presenter = WorklistPresenter(engine, tasks, NoticesPresenter())
    presenter.refresh()
    presenter.refresh()
    seen: list[int] = []
    presenter.refreshed = lambda: seen.append(1)
    tasks.run_all()
    assert seen == [1]


def test_a_library_that_cannot_be_read_is_said(engine: FakeReviewEngine) -> None:
    notices = NoticesPresenter()
    engine.errors["list_studies"] = EnvironmentFault(
        "library.locked", "The library is locked.", "Close the other one."
    )
    WorklistPresenter(engine, ImmediateTasks(), notices).refresh()
    assert notices.state.notices[0].remedy == "Close the other one."


def test_a_missing_thumbnail_is_no_error(engine: FakeReviewEngine, worklist: WorklistPresenter) -> None:
    seen: list[tuple[str, np.ndarray | None]] = []
    engine.errors["thumbnail"] = EnvironmentFault("x.y", "No.", "")
    worklist.request_thumbnail("s1", lambda key, pixels: seen.append((key, pixels)))
    assert seen == [("s1", None)]


def test_waiting_results_are_counted(engine: FakeReviewEngine, worklist: WorklistPresenter) -> None:
    told: list[int] = []
    worklist.waiting_changed = told.append
    engine.results = [result("r1"), result("r2")]
    worklist.refresh_waiting()
    assert told == [2]
    assert worklist.state.patients[0].studies[0].results == 2
