"""Imports in the background: the queue, what is asked before, what is said after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.presenters.importing import (
    ImportPresenter,
    locked_archives,
    masked_file,
    plain_title_of,
    report_in_words,
)
from app.presenters.notices import NoticesPresenter
from app.presenters.ports_library import ImportOrder
from app.presenters.questions import QuestionsPresenter
from app.presenters.status import StatusPresenter
from core.domain.errors import EnvironmentFault
from core.domain.study import ImportReport, SkippedFile
from tests.fakes.review_engine import DeferredTasks, FakeReviewEngine, ImmediateTasks, study, summary


@pytest.fixture
def engine() -> FakeReviewEngine:
    return FakeReviewEngine()


class Desk:
    """An import presenter with everything around it."""

    def __init__(
        self, engine: FakeReviewEngine, tasks: object = None, clock: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.notices, self.status, self.questions = (
            NoticesPresenter(),
            StatusPresenter(),
            QuestionsPresenter(),
        )
        self.imports = ImportPresenter(
            engine,
            tasks or ImmediateTasks(),
            self.notices,
            self.status,
            self.questions,
            clock,  # type: ignore[arg-type]
        )
        self.refreshes = 0
        self.imports.series_arrived = self._count

    def _count(self) -> None:
        self.refreshes += 1

    @property
    def states(self) -> list[str]:
        """States of the lines, newest first."""
        return [run.state for run in self.imports.state.runs]


def orders(engine: FakeReviewEngine) -> list[tuple[object, ...]]:
    return [call[1:] for call in engine.calls if call[0] == "import_paths"]


def test_imports_run_one_after_the_other(engine: FakeReviewEngine) -> None:
    tasks = DeferredTasks()
    desk = Desk(engine, tasks)
    desk.imports.import_paths([Path("a")])
    desk.imports.import_paths([Path("b")])
    desk.imports.import_paths([])
    tasks.run_some(2)
    tasks.run_some(2)
    assert desk.states == ["waiting", "running"]
    assert desk.imports.busy and desk.status.state.cancels == "import"
    tasks.run_all()
    assert [order[0] for order in orders(engine)] == [(Path("a"),), (Path("b"),)]
    assert not desk.imports.busy and desk.status.state.activity == ""
    assert desk.states == ["done", "done"]


def test_the_status_bar_counts_series_and_what_waits(engine: FakeReviewEngine) -> None:
    tasks, seen = DeferredTasks(), []
    desk = Desk(engine, tasks)

    class Bar:
        def show_state(self, state: object) -> None:
            seen.append(state.activity)  # type: ignore[attr-defined]

    desk.status.attach(Bar())
    desk.imports.import_paths([Path("a")])
    desk.imports.import_paths([Path("b")])
    tasks.run_all()
    assert "Importing · reading headers · 1 series · 1 more waiting" in seen


def test_series_are_shown_while_the_import_runs_but_not_all_the_time(engine: FakeReviewEngine) -> None:
    engine.studies = [study("t1", "P-1", *(summary(f"s{n}") for n in range(40)))]
    times = iter(range(10_000))
    desk = Desk(engine, clock=lambda: next(times) * 0.06)
    desk.imports.import_paths([Path("a")])
    assert 3 <= desk.refreshes <= 8
    assert desk.imports.state.runs[0].series == 40


def test_a_cancelled_import_is_no_error(engine: FakeReviewEngine) -> None:
    tasks = DeferredTasks()
    desk = Desk(engine, tasks)
    desk.imports.import_paths([Path("a")])
    desk.imports.import_paths([Path("b")])
    tasks.run_some(2)
    tasks.run_some(2)
    desk.imports.cancel()
    tasks.run_all()
    assert desk.notices.state.notices == () and not desk.imports.busy
    assert desk.states == ["cancelled", "cancelled"]


def test_a_failure_is_said_and_the_next_import_runs(engine: FakeReviewEngine) -> None:
    engine.errors["import_paths"] = EnvironmentFault("import.process_lost", "It ended.", "Import again.")
    desk = Desk(engine)
    desk.imports.import_paths([Path("a")])
    assert desk.states == ["failed"] and desk.imports.state.runs[0].words == "It ended."
    assert desk.notices.state.notices[0].remedy == "Import again."
    assert desk.refreshes == 1, "what was written before it ended is shown"
    del engine.errors["import_paths"]
    desk.imports.import_paths([Path("a")])
    assert desk.states == ["done", "failed"]


@pytest.mark.parametrize(("medium", "mode"), [("removable", "copy"), ("network", "link")])
def test_what_may_go_away_is_asked_about_once(engine: FakeReviewEngine, medium: str, mode: str) -> None:
    engine.medium = medium
    desk = Desk(engine)
    desk.imports.import_paths([Path("/media/cd")])
    assert orders(engine) == [] and desk.states == ["asking"]
    assert desk.imports.state.runs[0].words == "Nothing imported yet: waits for your answer"
    question = desk.questions.state.questions[0]
    assert [choice.id for choice in question.choices] == ["copy", "link", "later"]
    assert desk.questions.state.focus == 0, "nobody's focus is taken"
    desk.questions.answer(question.id, mode)
    desk.questions.answer(question.id, "link")
    assert orders(engine) == [((Path("/media/cd"),), mode, None)]
    assert desk.questions.state.questions == ()


def test_no_answer_imports_nothing_and_no_is_kept(engine: FakeReviewEngine) -> None:
    engine.medium = "removable"
    desk = Desk(engine)
    desk.imports.import_paths([Path("/media/cd")])
    desk.imports.import_paths([Path("/media/stick")])
    desk.questions.answer(desk.questions.state.questions[0].id, "later")
    assert desk.states == ["asking", "cancelled"] and orders(engine) == []
    desk.imports.close()
    assert desk.questions.state.questions == ()


def test_an_encrypted_zip_asks_for_its_password_until_it_fits(engine: FakeReviewEngine) -> None:
    engine.studies = []
    locked = SkippedFile("/in/a.zip:1.dcm", "zip.encrypted", "The entry is encrypted.")
    engine.skipped = (locked, SkippedFile("/in/a.zip:2.dcm", "zip.encrypted", "The entry is encrypted."))
    desk = Desk(engine)
    desk.imports.import_paths([Path("/in/a.zip")])
    assert desk.notices.state.notices == (), "the question says it"
    (question,) = desk.questions.state.questions
    assert question.secret
    desk.questions.answer(question.id, "unlock", "wrong")
    (again,) = desk.questions.state.questions
    assert again.what == "The password doesn't open the ZIP."
    engine.skipped = ()
    engine.studies = [study()]
    desk.questions.answer(again.id, "unlock", "right")
    assert orders(engine)[1:] == [
        ((Path("/in/a.zip"),), "link", "wrong"),
        ((Path("/in/a.zip"),), "link", "right"),
    ]
    assert desk.questions.state.questions == ()
    assert "right" not in repr(ImportOrder((), password="right"))


def test_the_locked_archives_of_a_folder_are_found() -> None:
    skipped = (
        SkippedFile("/cd/b.ZIP:x/1.dcm", "zip.encrypted", ""),
        SkippedFile("/cd/b.ZIP:x/2.dcm", "zip.encrypted", ""),
        SkippedFile("/cd/c.dcm", "dicom.truncated", ""),
    )
    report = ImportReport((), 0, skipped, 1.0)
    assert locked_archives(report, ImportOrder((Path("/cd"),))) == (Path("/cd/b.ZIP"),)
    assert locked_archives(report, None) == ()


def test_watched_folders_are_imported_without_a_word(engine: FakeReviewEngine) -> None:
    desk = Desk(engine)
    desk.imports.import_watched([Path("/in/1.dcm"), Path("/in/2.dcm")], "link")
    assert desk.notices.state.notices == ()
    (run,) = desk.imports.state.runs
    assert run.watched and run.title == "2 files of a watched folder" and run.state == "done"


def test_the_report_points_to_the_panel() -> None:
    skipped = tuple(SkippedFile(f"/cd/{n}.dcm", "dicom.truncated", "It ends early.") for n in range(10))
    level, words, remedy = report_in_words(ImportReport((), 0, skipped, 1.0))
    assert level == "caution" and "10 files skipped" in words and "Import panel" in remedy
    assert "dcm" not in words, "names of files are not for notices"


def test_names_of_files_can_be_hidden() -> None:
    assert masked_file("/cd/Mueller_Hans.dcm") == "•••••.dcm"
    assert masked_file("/cd/Mueller.Hans-Georg") == "•••••"
    assert plain_title_of((Path("/x/Mueller.zip"),)) == "A ZIP archive"
    assert plain_title_of((Path("/x/Mueller"),)) == "A folder or file"
