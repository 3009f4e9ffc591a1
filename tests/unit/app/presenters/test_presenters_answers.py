"""What a model of several tasks says of the whole image, and of which contrasts."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import MagicMock

import pytest

from app.presenters.answer_rows import NO_ANSWERS, MeasureRow, answers_of
from app.presenters.explanation import classes_of
from app.presenters.findings import FindingsPresenter
from app.presenters.models import inputs_in_words
from app.presenters.notices import NoticesPresenter
from app.presenters.ports import ModelOffer
from app.presenters.reading import ReadingPresenter
from app.presenters.wording import number_in_words
from core.domain.result import ClassProbability, MeasuredValue, ModelResult
from tests.fakes.review_engine import FakeReviewEngine, ImmediateTasks, result


def several() -> ModelResult:
    return replace(
        result(),
        task="multitask",
        classes=(
            ClassProbability("None", 0.1),
            ClassProbability("Glioma", 0.7),
            ClassProbability("Old bleed", 0.2),
        ),
        prediction_set=("Glioma", "Old bleed"),
        measurements=(
            MeasuredValue("Brain volume", 1423.4567, "mL"),
            MeasuredValue("Midline shift", -2.25, "mm"),
            MeasuredValue("Asymmetry", 0.031234, "1"),
            MeasuredValue("Age", 61.5, "a"),
        ),
        inputs={"T1": "s1", "T2": "s2", "FLAIR": ""},
        fallbacks=("the series was taken for T1: its description names no contrast", "run without FLAIR: …"),
    )


def test_numbers_keep_their_units_and_four_digits() -> None:
    assert answers_of(several()).measures == (
        MeasureRow("Brain volume", "1423", "mL"),
        MeasureRow("Midline shift", "\N{MINUS SIGN}2.25", "mm"),
        MeasureRow("Asymmetry", "0.03123", ""),
        MeasureRow("Age", "61.5", "years"),
    )
    assert [number_in_words(value) for value in (123456.0, 0.0, 1e-6)] == [
        "123456",
        "0",
        "1e\N{MINUS SIGN}06",
    ]


def test_classes_the_set_and_the_contrasts_are_said() -> None:
    answers = answers_of(several())
    assert answers.classes.replace("\N{NO-BREAK SPACE}", " ") == "Glioma 0.70 · Old bleed 0.20 · None 0.10"
    assert answers.not_excluded == "Not excluded: Glioma, Old bleed"
    assert answers.inputs == "From T1 and T2"
    assert answers.caution.splitlines() == [
        "Run without FLAIR.",
        "The series was taken for T1: its description names no contrast.",
    ]


def test_a_result_of_one_task_has_nothing_more_to_say() -> None:
    assert answers_of(result()) == NO_ANSWERS and NO_ANSWERS.is_empty
    classified = replace(result(), task="classification", classes=(ClassProbability("Hand", 0.9),))
    assert answers_of(classified) == NO_ANSWERS


def test_many_classes_are_cut_and_counted() -> None:
    many = replace(several(), classes=tuple(ClassProbability(f"c{n}", 0.1) for n in range(10)))
    assert answers_of(many).classes.endswith("· 6 more")


def test_the_panel_hides_the_answers_with_the_findings() -> None:
    presenter = FindingsPresenter(
        FakeReviewEngine(), ImmediateTasks(), NoticesPresenter(), MagicMock(spec=ReadingPresenter)
    )
    presenter.set_results([several()])
    assert presenter.state.answers.classes
    presenter.set_withheld(True)
    assert presenter.state.answers is NO_ANSWERS
    presenter.set_withheld(False)
    assert presenter.state.answers.inputs == "From T1 and T2"


def test_classes_come_before_structures_where_one_asks_why() -> None:
    assert classes_of(several())[:3] == ("Glioma", "Old bleed", "None")
    assert set(classes_of(several())) >= {"left lung", "heart"}


@pytest.mark.parametrize(
    ("inputs", "missing", "words"),
    [
        ((), (), ""),
        (("T1", "T2", "FLAIR"), (), "takes T1, T2 and FLAIR"),
        (("T1", "T2", "FLAIR"), ("FLAIR",), "takes T1 and T2 · FLAIR missing"),
    ],
)
def test_a_model_names_the_contrasts_of_its_next_run(inputs: tuple, missing: tuple, words: str) -> None:
    offer = ModelOffer("brain", "Brain", "1.0.0", "multitask", True, inputs=inputs, missing=missing)
    assert inputs_in_words(offer) == words
