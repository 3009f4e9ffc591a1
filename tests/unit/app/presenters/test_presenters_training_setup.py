"""What to train: cases, settings and start, without a screen."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import View
from app.presenters.ports_training import TrainableModel
from app.presenters.training_form import limits_in_words, matters, value_of
from app.presenters.training_setup import NO_CASES, NO_MODELS, TrainingSetupPresenter
from core.domain.errors import InputError, SafetyError
from core.domain.forms import Choice, FormField
from tests.fakes.review_engine import DeferredTasks, ImmediateTasks
from tests.fakes.training_engine import FORM, MODEL, FakeTrainingEngine


class Engine(FakeTrainingEngine):
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.errors: dict[str, Exception] = {}
        self.prepare_training()

    def _note(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        if name in self.errors:
            raise self.errors[name]

    def orders(self) -> list[dict[str, Any]]:
        return [call[1] for call in self.calls if call[0] == "start_training"]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def setup(engine: Engine) -> TrainingSetupPresenter:
    presenter = TrainingSetupPresenter(engine, ImmediateTasks(), NoticesPresenter())
    presenter.refresh()
    return presenter


def test_cases_are_counted_by_patient_and_part(setup: TrainingSetupPresenter) -> None:
    assert setup.state.counts == (
        "4 cases of 3 patients · 2 teach · 1 checks · 1 kept for the comparison · 1 left out"
    )
    assert setup.state.can_start


def test_the_form_hides_what_is_chosen_elsewhere(setup: TrainingSetupPresenter) -> None:
    assert "model_id" not in dict(setup.state.entered)
    assert dict(setup.state.entered)["learning_rate"] == "0.0001"


def test_a_start_hands_over_typed_values(setup: TrainingSetupPresenter, engine: Engine) -> None:
    started: list[str] = []
    setup.started = lambda run: started.append(run.run_id)
    setup.enter("epochs", "3")
    setup.enter("learning_rate", "0,001")
    setup.toggle_case("c2")
    setup.start()
    (order,) = engine.orders()
    assert (order["model_id"], order["epochs"], order["learning_rate"]) == ("thorax-ct", 3, 0.001)
    assert order["excluded"] == ["c2"] and started == ["run1"]


def test_a_wrong_number_names_the_field_and_keeps_it_from_starting(
    setup: TrainingSetupPresenter, engine: Engine
) -> None:
    setup.enter("epochs", "many")
    assert dict(setup.state.problems)["epochs"] == "Passes is a number."
    setup.enter("budget_minutes", "0")
    assert dict(setup.state.problems)["budget_minutes"] == "Time limit is at least 1 min."
    setup.start()
    assert engine.orders() == []
    setup.enter("epochs", "4")
    setup.enter("budget_minutes", "5")
    assert setup.state.problems == () and setup.state.can_start


def test_a_field_without_a_meaning_keeps_nothing_from_starting(
    setup: TrainingSetupPresenter, engine: Engine
) -> None:
    setup.enter("night_from", "late")
    assert setup.state.problems == ()
    setup.enter("start", "night")
    assert "night_from" in dict(setup.state.problems)
    setup.enter("night_from", "9:30")
    assert setup.state.estimate == (
        "Begins at night, 9:30–06:00, ends after 60 minutes at the latest, rests while you read."
    )
    setup.start()
    assert engine.orders()[0]["night_from"] == "09:30"


def test_cases_of_the_comparison_and_unusable_ones_stay(setup: TrainingSetupPresenter) -> None:
    setup.toggle_case("c4")
    setup.toggle_case("c5")
    assert setup.state.left_out == frozenset()
    setup.toggle_case("c1")
    setup.toggle_case("c1")
    assert setup.state.left_out == frozenset()


def test_a_refusal_is_said_with_its_remedy(setup: TrainingSetupPresenter, engine: Engine) -> None:
    engine.refusal = ("training.few", "Two patients are too few.", "Decide on 4 more.")
    setup.refresh()
    assert setup.state.why_not == "Two patients are too few. Decide on 4 more."
    assert not setup.state.can_start


def test_a_leaking_split_is_refused_and_said(setup: TrainingSetupPresenter, engine: Engine) -> None:
    engine.errors["start_training"] = SafetyError(
        "training.leak", "One patient is on both sides.", "Leave it out."
    )
    setup.start()
    assert "both sides" in setup.state.why_not and not setup.state.starting


@pytest.mark.parametrize(
    ("models", "cases", "words"),
    [
        ([], [], NO_MODELS),
        ([MODEL], [], NO_CASES),
        ([TrainableModel("x", "X", "1", "", "ONNX only.")], [], "ONNX only."),
    ],
)
def test_an_empty_page_says_the_next_step(
    engine: Engine, models: list[TrainableModel], cases: list[Any], words: str
) -> None:
    engine.train_models, engine.train_cases = models, cases
    presenter = TrainingSetupPresenter(engine, ImmediateTasks(), NoticesPresenter())
    presenter.refresh()
    assert presenter.state.message == words and not presenter.state.can_start


def test_an_answer_about_an_earlier_choice_is_dropped(engine: Engine) -> None:
    engine.train_models = [MODEL, TrainableModel("brain-mr", "Brain", "2.0.0")]
    tasks = DeferredTasks()
    presenter = TrainingSetupPresenter(engine, tasks, NoticesPresenter())
    presenter.refresh("thorax-ct")
    tasks.run_some(2)
    presenter.refresh("brain-mr")
    tasks.run_all()
    assert presenter.state.model_id == "brain-mr"
    assert presenter.state.preview is not None and presenter.state.preview.model_id == "brain-mr"


def test_what_was_entered_survives_a_refresh(setup: TrainingSetupPresenter) -> None:
    setup.enter("epochs", "7")
    setup.toggle_case("c2")
    setup.refresh()
    assert dict(setup.state.entered)["epochs"] == "7" and setup.state.left_out == {"c2"}


def test_cases_that_cannot_be_read_are_said(engine: Engine) -> None:
    engine.errors["preview_training"] = InputError(
        "model.unknown", "There is no such model.", "Choose another."
    )
    presenter = TrainingSetupPresenter(engine, ImmediateTasks(), NoticesPresenter())
    presenter.refresh()
    assert presenter.state.message == "There is no such model. Choose another."


def test_a_view_gets_every_state(engine: Engine) -> None:
    view = MagicMock(spec=View)
    presenter = TrainingSetupPresenter(engine, ImmediateTasks(), NoticesPresenter())
    presenter.attach(view)
    presenter.refresh()
    assert view.show_state.call_args.args[0] == presenter.state


@pytest.mark.parametrize(
    ("kind", "entered", "value"),
    [("int", " 12 ", 12), ("float", "1e-3", 0.001), ("time", "6:05", "06:05"), ("bool", True, True),
     ("list", "a, b ,", ["a", "b"]), ("text", " x ", "x"), ("int", "automatic", "auto")],
)  # fmt: skip
def test_what_was_typed_becomes_a_value(kind: Any, entered: Any, value: Any) -> None:
    field = FormField("x", "X", "", kind, choices=(Choice("auto", "automatic"),) if kind == "int" else ())
    assert value_of(field, entered) == (value, "")


def test_limits_are_told_with_their_unit() -> None:
    assert limits_in_words(FORM[4]) == "at least 1, at most 1440 min"
    assert limits_in_words(FORM[1]) == ""
    assert matters(FORM[2], {"start": "night"}) and not matters(FORM[2], {"start": "now"})
