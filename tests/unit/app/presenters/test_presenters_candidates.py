"""Candidate against the model in use: nothing is promoted without gates, a name and a reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.presenters.candidates import NONE_YET, CandidatesPresenter
from app.presenters.model_monitor import NO_VERDICTS, MonitorPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.ports_training import CandidateOffer
from app.presenters.training_words import signed, summary_in_words
from core.domain.errors import SafetyError
from core.domain.training import CandidateState, ModelVersions
from tests.fakes.review_engine import ImmediateTasks
from tests.fakes.training_engine import FakeTrainingEngine, candidate, failed_candidate, monitor


class Engine(FakeTrainingEngine):
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.errors: dict[str, Exception] = {}
        self.prepare_training()

    def _note(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        if name in self.errors:
            raise self.errors[name]


@pytest.fixture
def engine() -> Engine:
    fake = Engine()
    fake.candidate_offers = [CandidateOffer(candidate())]
    return fake


@pytest.fixture
def candidates(engine: Engine) -> CandidatesPresenter:
    presenter = CandidatesPresenter(engine, ImmediateTasks(), NoticesPresenter())
    presenter.refresh()
    return presenter


def acts(engine: Engine) -> list[tuple[Any, ...]]:
    return [call for call in engine.calls if call[0] in ("promote_candidate", "roll_back_model")]


def test_the_comparison_is_one_sentence(candidates: CandidatesPresenter) -> None:
    assert candidates.state.summary == (
        "Candidate +0.012 Dice (95 % \N{MINUS SIGN}0.003 … +0.027), 9 cases; not promoted."
    )
    assert candidates.state.means == "Dice: 0.901 → 0.913 · over corrected cases +0.030"


def test_the_cases_on_which_it_lost_most_come_first(candidates: CandidatesPresenter) -> None:
    assert [case.case_id for case in candidates.state.cases[:2]] == ["c1", "c2"]
    opened = []
    candidates.open_series = opened.append
    candidates.open_case(0)
    candidates.open_case(99)
    assert [case.series_key for case in opened] == ["s1"]


def test_the_reader_is_offered_as_the_person(candidates: CandidatesPresenter) -> None:
    assert candidates.state.person == "A. B."
    assert candidates.state.promote_why_not == "Give a reason."


@pytest.mark.parametrize(
    ("person", "reason", "why"),
    [(" ", "better", "Give your name."), ("A", "  ", "Give a reason."), ("A", "x", "")],
)
def test_name_and_reason_are_required(
    candidates: CandidatesPresenter, engine: Engine, person: str, reason: str, why: str
) -> None:
    candidates.sign(person, reason)
    assert candidates.state.promote_why_not == why
    candidates.promote()
    assert len(acts(engine)) == (why == "")


def test_a_worse_candidate_is_refused_with_the_gate_s_name(engine: Engine) -> None:
    engine.candidate_offers = [CandidateOffer(failed_candidate())]
    presenter = CandidatesPresenter(engine, ImmediateTasks(), NoticesPresenter())
    presenter.refresh()
    presenter.sign("A. B.", "it is better, I say")
    assert presenter.state.promote_why_not == "Not passed: Not worse."
    presenter.promote()
    assert acts(engine) == []


def test_what_the_engine_says_against_it_counts(engine: Engine) -> None:
    engine.candidate_offers = [CandidateOffer(candidate(), "Its files were changed.")]
    presenter = CandidatesPresenter(engine, ImmediateTasks(), NoticesPresenter())
    presenter.refresh()
    presenter.sign("A. B.", "better")
    assert presenter.state.promote_why_not == "Its files were changed."


def test_promoted_and_rolled_back_by_name(candidates: CandidatesPresenter, engine: Engine) -> None:
    changed: list[bool] = []
    candidates.changed = lambda: changed.append(True)
    candidates.sign(" C. D. ", "better on small lesions")
    candidates.promote()
    assert acts(engine) == [("promote_candidate", "k1", "C. D.", "better on small lesions")]
    assert candidates.state.reason == "" and candidates.state.versions is not None
    assert candidates.state.versions.current_version == "1.1.0"
    assert candidates.state.promote_why_not.startswith("This candidate was decided on")
    assert candidates.state.roll_back_why_not == "Give a reason."
    candidates.sign("C. D.", "misses nodules")
    candidates.roll_back()
    assert acts(engine)[1] == ("roll_back_model", "thorax-ct", "C. D.", "misses nodules")
    assert candidates.state.roll_back_why_not == "There is no former version to go back to."
    assert candidates.state.candidate is not None
    assert candidates.state.candidate.state is CandidateState.ROLLED_BACK and len(changed) == 2


def test_a_refused_promotion_is_said_and_the_reason_kept(engine: Engine) -> None:
    notices = NoticesPresenter()
    presenter = CandidatesPresenter(engine, ImmediateTasks(), notices)
    presenter.refresh()
    engine.errors["promote_candidate"] = SafetyError(
        "promote.changed", "The files were changed.", "Train again."
    )
    presenter.sign("A. B.", "better")
    presenter.promote()
    assert notices.state.notices[0].what == "The files were changed."
    assert presenter.state.reason == "better" and not presenter.state.busy


def test_a_reason_belongs_to_one_candidate(candidates: CandidatesPresenter, engine: Engine) -> None:
    engine.candidate_offers = [*engine.candidate_offers, CandidateOffer(failed_candidate())]
    candidates.refresh()
    candidates.sign("A. B.", "better")
    candidates.choose("k2")
    assert candidates.state.reason == "" and candidates.state.person == "A. B."


def test_one_that_was_not_compared_says_so() -> None:
    assert summary_in_words(candidate(comparison=None)) == "Candidate 1.1.0 was not compared; not promoted."


def test_without_candidates_the_page_says_the_next_step(engine: Engine) -> None:
    engine.candidate_offers = []
    presenter = CandidatesPresenter(engine, ImmediateTasks(), NoticesPresenter())
    presenter.refresh()
    assert presenter.state.message == NONE_YET
    assert presenter.state.promote_why_not == "There is no candidate."


@pytest.mark.parametrize(
    ("number", "words"),
    [(0.0124, "+0.012"), (-0.5, "\N{MINUS SIGN}0.500"), (-0.0001, "0.000"), (0.0, "0.000")],
)
def test_numbers_have_a_sign_unless_they_are_zero(number: float, words: str) -> None:
    assert signed(number) == words


def test_models_that_need_a_look_come_first(engine: Engine) -> None:
    engine.monitor = monitor()
    presenter = MonitorPresenter(engine, ImmediateTasks(), NoticesPresenter())
    assert presenter.state.message == NO_VERDICTS
    presenter.refresh()
    assert [row.model_id for row in presenter.state.rows] == ["brain-mr", "thorax-ct"]
    assert presenter.state.row is not None and presenter.state.row.alerts
    assert presenter.state.row.words == "29% of 35 findings in 2026-W08"
    assert [drift.feature for drift in presenter.state.drift_of_row] == [
        "mean intensity",
        "volume of label 1",
    ]
    presenter.choose(1)
    assert presenter.state.drift_of_row == ()
    assert [week.week for week in presenter.state.row.weeks] == [f"2026-W0{n}" for n in range(1, 9)]


def test_versions_of_another_model_are_not_shown(candidates: CandidatesPresenter, engine: Engine) -> None:
    engine.versions = ModelVersions("other", "Other", "1", "00")
    engine.candidate_offers = [CandidateOffer(replace(candidate(), candidate_id="k9", model_id="other2"))]
    candidates.refresh()
    assert candidates.state.versions is None
