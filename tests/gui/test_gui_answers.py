"""A result of several tasks in the window: structures, classes, measurements, contrasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from PySide6.QtWidgets import QApplication, QLabel

from app.bootstrap import Application, Start
from core.domain.result import ClassProbability, MeasuredValue
from tests.fakes.review_engine import OFFER, FakeReviewEngine, result, study, summary

pytestmark = pytest.mark.gui
Wait = Callable[..., None]


@pytest.fixture
def engine() -> FakeReviewEngine:
    fake = FakeReviewEngine()
    fake.studies = [study("t1", "P-1", summary("s1", "t1"))]
    measured = tuple(MeasuredValue(f"Volume of structure {n}", 10.0 * n + 1, "mL") for n in range(12))
    fake.results = [
        replace(
            result(),
            task="multitask",
            classes=(ClassProbability("Glioma", 0.7), ClassProbability("None", 0.3)),
            prediction_set=("Glioma",),
            measurements=measured,
            inputs={"T1": "s1", "FLAIR": ""},
        )
    ]
    fake.offers = [replace(OFFER, inputs=("T1", "FLAIR"), missing=("FLAIR",), why="Takes T1 of this study.")]
    return fake


@pytest.fixture
def application(
    qt_application: QApplication, engine: FakeReviewEngine, wait_until: Wait
) -> Iterator[Application]:
    running = Application(qt_application, Start(), lambda _start, _publish: engine)
    running.window.resize(1280, 800)
    running.show()
    wait_until(lambda: running.worklist.state.loaded, "the worklist")
    running.opener.open_study("t1")
    wait_until(lambda: bool(running.findings.state.rows), "the findings")
    yield running
    running.window.close()
    running.window.deleteLater()


def test_the_answers_stand_below_the_findings_and_stay_within_the_panel(
    application: Application, wait_until: Wait
) -> None:
    block = application.findings_panel.answers
    wait_until(lambda: block.isVisible() and block.height() > 0, "the answers")
    texts = [label.text().replace("\N{NO-BREAK SPACE}", " ") for label in block.findChildren(QLabel)]
    assert {"Glioma 0.70 · None 0.30", "Not excluded: Glioma", "From T1", "Run without FLAIR."} <= set(texts)
    assert "Volume of structure 11" in texts and "111" in texts and texts.count("mL") == 12
    assert block.height() <= 216
    panel = application.findings_panel
    assert panel.list.height() >= 44
    assert panel.buttons["accept"].isVisible()


def test_without_answers_the_block_takes_no_room(application: Application, wait_until: Wait) -> None:
    block = application.findings_panel.answers
    wait_until(block.isVisible, "the answers")
    application.findings.set_results([result("r2")])
    wait_until(lambda: application.findings.state.result_id == "r2", "the other result")
    assert not block.isVisible()


def test_a_model_of_several_contrasts_says_which_it_takes(application: Application, wait_until: Wait) -> None:
    wait_until(lambda: "thorax-ct" in application.models_panel.cards, "the model")
    card = application.models_panel.cards["thorax-ct"]
    assert "takes T1 · FLAIR missing" in [label.text() for label in card.findChildren(QLabel)]
    assert "Takes T1 of this study." in card.run_button.toolTip()
