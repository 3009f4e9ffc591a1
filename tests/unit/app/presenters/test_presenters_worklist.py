"""The worklist: lines, series on demand, search, filters, priors, marks, hidden identity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.presenters.identity import IdentityPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.saved_filters import SavedFilters, filter_in_words
from app.presenters.study_marks import StudyMarks, plain_tag
from app.presenters.study_opening import StudyOpener
from app.presenters.thumbnails import ThumbnailQueue
from app.presenters.worklist import WorklistPresenter
from app.presenters.worklist_rows import PATIENT, STUDY, Row
from core.domain.browse import StudyFilter
from core.domain.errors import EnvironmentFault
from core.domain.study import PatientIdentity, ReadStatus
from tests.fakes.browser_engine import many_lines
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
def notices() -> NoticesPresenter:
    return NoticesPresenter()


@pytest.fixture
def worklist(engine: FakeReviewEngine, notices: NoticesPresenter) -> WorklistPresenter:
    presenter = WorklistPresenter(engine, ImmediateTasks(), notices)
    presenter.refresh()
    return presenter


@pytest.fixture
def opener(engine: FakeReviewEngine, notices: NoticesPresenter, worklist: WorklistPresenter) -> StudyOpener:
    found = StudyOpener(engine, ImmediateTasks(), notices, worklist)
    found.opened = worklist.set_current
    return found


@pytest.fixture
def marks(engine: FakeReviewEngine, notices: NoticesPresenter, worklist: WorklistPresenter) -> StudyMarks:
    return StudyMarks(engine, ImmediateTasks(), notices, worklist)


def large(engine: FakeReviewEngine, number: int = 40) -> WorklistPresenter:
    """Return the worklist of a library that is too large to be shown unfolded."""
    engine.studies, engine.lines = [], many_lines(number)
    presenter = WorklistPresenter(engine, ImmediateTasks(), NoticesPresenter())
    presenter.refresh()
    return presenter


def keys(worklist: WorklistPresenter) -> list[str]:
    """Return the keys of the visible lines."""
    return [row.key for row in worklist.state.rows]


def everything_said(worklist: WorklistPresenter) -> str:
    """Return all that the visible lines, their tool tips and the priors say."""
    words = [worklist.words(row) for row in worklist.state.rows]
    return " ".join([*(w.tip for w in words), *(w.spoken for w in words), repr(worklist.state.priors)])


def test_patients_are_named_from_the_vault(worklist: WorklistPresenter) -> None:
    patients = [worklist.words(row) for row in worklist.state.rows if row.kind == PATIENT]
    assert [words.title for words in patients] == ["Muster, Erika", "Łukasiewicz, Jan"]
    assert patients[0].detail == "ID-1 · 1970-01-01 · 56 y F"
    assert keys(worklist)[:5] == ["patient:P-1", "study:t1", "series:s1", "series:s2", "study:t0"]
    assert worklist.words(worklist.state.rows[2]).detail == "CT · 24 slices · 5 mm"


def test_identity_is_hidden_everywhere_and_comes_back(
    engine: FakeReviewEngine, worklist: WorklistPresenter
) -> None:
    engine.studies[1] = replace(engine.studies[1], description="Thorax Muster ID-1")
    worklist.refresh()
    worklist.arrange(("patient_id", "birth_date", "age_sex", "accession"), "imported")
    worklist.set_current(engine.studies[0].series[0])
    shown = everything_said(worklist) + worklist.patient_name("t1")
    assert all(text in shown for text in ("Muster", "ID-1", "1970", "A-1"))
    worklist.identity.toggle()
    said = everything_said(worklist) + worklist.patient_name("t1") + worklist.series_in_words(summary())
    assert not any(text in said for text in ("Muster", "Erika", "ID-1", "1970", "A-1"))
    assert "P-1" in said
    assert worklist.state.identity_hidden
    assert worklist.find_typed("muster", 0) == -1
    worklist.identity.toggle()
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
def test_search_lists_what_the_engine_finds(worklist: WorklistPresenter, query: str, uids: list[str]) -> None:
    worklist.search(query)
    assert worklist.order() == uids
    assert (worklist.state.found, worklist.state.total) == (len(uids), 3)
    assert worklist.state.filtered == bool(query)


def test_while_somebody_types_only_the_last_question_is_answered(engine: FakeReviewEngine) -> None:
    tasks = DeferredTasks()
    presenter = WorklistPresenter(engine, tasks, NoticesPresenter())
    presenter.refresh()
    tasks.run_all()
    engine.calls.clear()
    for text in ("k", "ko", "kop", "kopf"):
        presenter.search(text)
    shown: list[list[str]] = []
    presenter.refreshed = lambda: shown.append(presenter.order())
    tasks.run_all()
    asked = [call[1].text for call in engine.calls if call[0] == "study_lines"]
    assert asked == ["k", "kopf"]
    assert presenter.order() == ["t9"]


def test_a_late_answer_is_dropped(engine: FakeReviewEngine) -> None:
    tasks = DeferredTasks()
    presenter = WorklistPresenter(engine, tasks, NoticesPresenter())
    presenter.refresh()
    presenter.refresh()
    seen: list[int] = []
    presenter.refreshed = lambda: seen.append(1)
    tasks.run_all()
    assert seen == [1]


def test_a_small_library_is_unfolded_and_a_large_one_is_not(engine: FakeReviewEngine) -> None:
    presenter = large(engine)
    assert {row.kind for row in presenter.state.rows} == {PATIENT, STUDY}
    assert [call for call in engine.calls if call[0] == "series_of"] == []


def test_series_are_read_when_a_study_is_unfolded(engine: FakeReviewEngine) -> None:
    engine.lines = [
        replace(line, study_uid="t1", patient_key="P-1") if n == 0 else line
        for n, line in enumerate(many_lines(40))
    ]
    engine.studies = [study("t1", "P-1", summary("s1", "t1"))]
    tasks = DeferredTasks()
    presenter = WorklistPresenter(engine, tasks, NoticesPresenter())
    presenter.refresh()
    tasks.run_all()
    presenter.set_unfolded(Row(STUDY, "t1", 1), True)
    assert "note:t1" in keys(presenter)
    tasks.run_all()
    assert "series:s1" in keys(presenter) and "note:t1" not in keys(presenter)
    presenter.set_unfolded(Row(STUDY, "t1", 1), False)
    assert "series:s1" not in keys(presenter)


def test_a_folded_patient_says_how_much_is_hidden(worklist: WorklistPresenter) -> None:
    row = worklist.state.rows[0]
    worklist.set_unfolded(row, False)
    assert keys(worklist)[:2] == ["patient:P-1", "patient:P-2"]
    assert worklist.words(row).count == "2 studies"


def test_series_that_cannot_be_read_fold_again(engine: FakeReviewEngine, notices: NoticesPresenter) -> None:
    engine.errors["series_of"] = EnvironmentFault(
        "library.locked", "The library is locked.", "Close the other one."
    )
    presenter = WorklistPresenter(engine, ImmediateTasks(), notices)
    presenter.refresh()
    assert not any(row.kind in ("series", "note") for row in presenter.state.rows)
    assert notices.state.notices[0].remedy == "Close the other one."


def test_a_study_that_grew_is_read_again(engine: FakeReviewEngine, worklist: WorklistPresenter) -> None:
    engine.studies[2] = study("t9", "P-2", summary("s9", "t9"), summary("s10", "t9"), date="2025-02")
    worklist.refresh()
    assert "series:s10" in keys(worklist)


def test_priors_say_how_far_back_they_are(worklist: WorklistPresenter, opener: StudyOpener) -> None:
    opener.open_study("t1")
    assert [(p.uid, p.date, p.relation, p.interval) for p in worklist.state.priors] == [
        ("t0", "2024-05", "prior", "20 months earlier")
    ]
    relations = {row.uid: worklist.words(row).relation for row in worklist.state.rows if row.kind == STUDY}
    assert relations == {"t1": "current", "t0": "prior", "t9": ""}
    assert worklist.state.newer == ""


def test_a_study_of_somebody_else_under_the_same_id_is_no_prior(
    engine: FakeReviewEngine,
    worklist: WorklistPresenter,
    opener: StudyOpener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "priors_of", lambda _: [])
    engine.patients["t0"] = replace(engine.patients["t1"], birth_date="19800101")
    worklist.refresh()
    opener.open_study("t1")
    row = next(row for row in worklist.state.rows if row.uid == "t0")
    assert (worklist.words(row).relation, worklist.state.priors) == ("", ())
    assert "birth date" in worklist.words(worklist.state.rows[0]).caution


def test_an_open_prior_says_that_there_is_a_newer_study(
    worklist: WorklistPresenter, opener: StudyOpener
) -> None:
    opener.open_study("t0")
    assert (worklist.state.priors[0].relation, worklist.state.newer) == ("newer", "2026-01")
    opener.step_in_time(1)
    assert worklist.state.current_study == "t1"
    opener.step_in_time(1)
    assert worklist.state.current_study == "t1"
    opener.step_in_time(-1)
    assert worklist.state.current_study == "t0"


def test_steps_follow_the_list(worklist: WorklistPresenter, opener: StudyOpener) -> None:
    opener.step_series(1)
    assert worklist.state.current_series == ""
    opener.step_study(1)
    assert worklist.state.current_series == "s1"
    opener.step_series(1)
    assert worklist.state.current_series == "s2"
    opener.step_series(1)
    assert worklist.state.current_series == "s2"
    opener.step_study(1)
    assert worklist.state.current_study == "t0"
    opener.step_study(1)
    opener.step_study(1)
    assert worklist.state.current_study == "t9"


def test_many_steps_in_a_row_open_only_the_last_study(engine: FakeReviewEngine) -> None:
    engine.lines = many_lines(40)
    engine.studies = [
        study(line.study_uid, line.patient_key, summary(f"s-{n}", line.study_uid))
        for n, line in enumerate(engine.lines)
    ]
    tasks = DeferredTasks()
    presenter = WorklistPresenter(engine, tasks, NoticesPresenter())
    found = StudyOpener(engine, tasks, NoticesPresenter(), presenter)
    opened: list[str] = []
    found.opened = lambda series: opened.append(series.study_uid)
    presenter.refresh()
    tasks.run_all()
    for _ in range(4):
        found.step_study(1)
    tasks.run_all()
    assert opened == [presenter.order()[3]]


def test_a_study_opens_though_a_filter_hides_it(worklist: WorklistPresenter, opener: StudyOpener) -> None:
    worklist.search("kopf")
    opener.open_study("t1")
    assert worklist.state.current_study == "t1"
    assert worklist.patient_name("t1") == "Muster, Erika"
    assert worklist.order() == ["t9"]


def test_the_waiting_result_is_opened_at_its_series(
    engine: FakeReviewEngine, worklist: WorklistPresenter, opener: StudyOpener
) -> None:
    told: list[int] = []
    worklist.waiting_changed = told.append
    engine.results = [result("r1", "s2"), replace(result("r2", "s9"), study_uid="t9")]
    worklist.refresh_waiting()
    assert told == [2]
    assert worklist.words(worklist.state.rows[1]).results == 1
    opener.open_waiting()
    assert worklist.state.current_series == "s2"
    opener.open_waiting()
    assert worklist.state.current_series == "s9"


def test_nothing_waits_and_nothing_happens(worklist: WorklistPresenter, opener: StudyOpener) -> None:
    opener.open_waiting()
    assert worklist.state.current_series == ""


def test_status_goes_to_all_chosen_studies(
    engine: FakeReviewEngine, worklist: WorklistPresenter, marks: StudyMarks
) -> None:
    marks.choose(["t1", "t9", "t1"])
    marks.set_status(ReadStatus.REVIEWED)
    assert ("set_status", ("t1", "t9"), ReadStatus.REVIEWED) in engine.calls
    said = {row.uid: worklist.words(row).status for row in worklist.state.rows if row.kind == STUDY}
    assert said == {"t1": "Reviewed", "t0": "Unread", "t9": "Reviewed"}


def test_without_a_choice_the_open_study_is_marked(
    engine: FakeReviewEngine, opener: StudyOpener, marks: StudyMarks
) -> None:
    marks.set_status(ReadStatus.REVIEWED)
    assert not any(call[0] == "set_status" for call in engine.calls)
    opener.open_study("t0")
    marks.set_status(ReadStatus.REVIEWED)
    assert ("set_status", ("t0",), ReadStatus.REVIEWED) in engine.calls


def test_a_marked_study_leaves_a_list_that_it_no_longer_belongs_to(
    worklist: WorklistPresenter, marks: StudyMarks
) -> None:
    worklist.narrow(statuses=("unread",))
    marks.choose(["t1"])
    marks.set_status(ReadStatus.REVIEWED)
    assert worklist.order() == ["t0", "t9"]


def test_tags_are_put_on_and_taken_off(worklist: WorklistPresenter, marks: StudyMarks) -> None:
    marks.choose(["t1", "t0"])
    marks.toggle_tag("  follow \n up ")
    line = worklist.line("t0")
    assert line is not None and line.tags == ("follow up",)
    assert "follow up" in worklist.state.tags
    marks.toggle_tag("follow up")
    assert "follow up" not in worklist.state.tags
    assert plain_tag("x" * 99) == "x" * 40


def test_marks_are_taken_back_one_by_one(worklist: WorklistPresenter, marks: StudyMarks) -> None:
    marks.choose(["t1", "t0"])
    marks.undo()
    marks.set_status(ReadStatus.REVIEWED)
    marks.toggle_tag("x")
    marks.choose([])
    marks.undo()
    line = worklist.line("t1")
    assert line is not None and (line.status, line.tags) == (ReadStatus.REVIEWED, ())
    marks.undo()
    line = worklist.line("t0")
    assert line is not None and line.status is ReadStatus.UNREAD
    assert not marks.can_undo


def test_deleted_studies_leave_the_list_at_once(
    engine: FakeReviewEngine, notices: NoticesPresenter, worklist: WorklistPresenter, opener: StudyOpener
) -> None:
    opener.open_study("t1")
    engine.studies = engine.studies[2:]
    worklist.forget(["t1", "t0"])
    assert keys(worklist)[:2] == ["patient:P-2", "study:t9"]
    assert (worklist.state.current_study, worklist.state.priors, worklist.series("s1")) == ("", (), None)
    worklist.refresh()
    assert notices.state.notices == ()


def test_a_mark_that_cannot_be_kept_is_said_and_not_shown(
    engine: FakeReviewEngine, notices: NoticesPresenter, worklist: WorklistPresenter, marks: StudyMarks
) -> None:
    engine.errors["set_status"] = EnvironmentFault("disk.full", "The disk is full.", "Free some space.")
    marks.choose(["t1"])
    marks.set_status(ReadStatus.REVIEWED)
    line = worklist.line("t1")
    assert line is not None and line.status is ReadStatus.UNREAD
    assert notices.state.notices[0].what == "The disk is full."


def test_deleting_is_asked_of_who_confirms(marks: StudyMarks) -> None:
    asked: list[tuple[str, ...]] = []
    marks.choose(["t1", "t9"])
    marks.request_delete()
    marks.delete_requested = asked.append
    marks.request_delete()
    assert asked == [("t1", "t9")]


def test_filters_narrow_and_are_cleared(engine: FakeReviewEngine) -> None:
    presenter = large(engine, 100)
    presenter.narrow(modalities=("CT", "MR"), statuses=("reviewed",))
    state = presenter.state
    assert 0 < state.found < state.total == 100
    assert state.modalities == ("CR", "CT", "MR", "PT", "US")
    presenter.clear_filters()
    assert presenter.state.found == 100 and not presenter.state.filtered


def test_saved_filters_come_back_by_name_and_by_command(
    engine: FakeReviewEngine, notices: NoticesPresenter, worklist: WorklistPresenter
) -> None:
    saved = SavedFilters(engine, ImmediateTasks(), notices, worklist)
    saved.save("nothing is filtered")
    assert worklist.state.saved == ()
    worklist.narrow(text="muster", modalities=("CT",))
    saved.save("  Erika   Muster ")
    worklist.clear_filters()
    command = saved.commands()[0]
    assert command.title == "Filter: Erika Muster"
    worklist.identity.set_hidden(True)
    assert [title for _, title in saved.titled()] == ["Saved filter 1"]
    saved.use(command.id.removeprefix("filter.use:"))
    assert worklist.state.wanted == StudyFilter(text="muster", modalities=("CT",))
    saved.delete("Erika Muster")
    assert worklist.state.saved == ()


def test_a_filter_is_told_in_words() -> None:
    wanted = StudyFilter(
        "kopf", ("CT", "MR"), ("in_progress",), ("x",), waiting_only=True, imported_within_days=7
    )
    assert (
        filter_in_words(wanted)
        == "“kopf” · CT/MR · in progress · imported within 7 days · x · with waiting results"
    )
    assert "kopf" not in filter_in_words(wanted, hidden=True)
    assert filter_in_words(StudyFilter(imported_within_days=0)) == "imported today"


def test_typing_a_name_finds_its_patient(worklist: WorklistPresenter) -> None:
    rows = worklist.state.rows
    assert rows[worklist.find_typed("LUKA", 0)].uid == "P-2"
    assert rows[worklist.find_typed("m", 1)].uid == "P-1"
    assert worklist.find_typed("zz", 0) == -1


def test_the_order_is_chosen(worklist: WorklistPresenter) -> None:
    worklist.arrange(worklist.state.columns, "name")
    assert worklist.order() == ["t9", "t1", "t0"]
    worklist.arrange(("counts",), "date")
    assert worklist.order() == ["t1", "t0", "t9"]
    assert worklist.words(worklist.state.rows[1]).detail == "2 series, 48 pictures"


def test_a_library_that_cannot_be_read_is_said(engine: FakeReviewEngine, notices: NoticesPresenter) -> None:
    engine.errors["study_lines"] = EnvironmentFault(
        "library.locked", "The library is locked.", "Close the other one."
    )
    presenter = WorklistPresenter(engine, ImmediateTasks(), notices)
    presenter.refresh()
    assert notices.state.notices[0].remedy == "Close the other one."
    del engine.errors["study_lines"]
    presenter.refresh()
    assert presenter.state.loaded


def test_a_missing_thumbnail_is_no_error(engine: FakeReviewEngine, worklist: WorklistPresenter) -> None:
    seen: list[tuple[str, np.ndarray | None]] = []
    engine.errors["thumbnail"] = EnvironmentFault("x.y", "No.", "")
    worklist.request_thumbnail("s1", lambda key, pixels: seen.append((key, pixels)))
    assert seen == [("s1", None)]


def test_thumbnails_in_sight_come_first_and_those_out_of_sight_are_dropped() -> None:
    tasks = DeferredTasks()
    made: list[str] = []
    dropped: list[str] = []
    queue = ThumbnailQueue(lambda key: made.append(key), tasks)
    queue.dropped = dropped.append
    for number in range(60):
        queue.request(str(number), lambda _key, _pixels: None)
    tasks.run_all()
    assert made[:3] == ["0", "1", "59"]
    assert dropped and len(made) + len(dropped) == 60


def test_identity_has_one_truth() -> None:
    seen: list[bool] = []

    class Panel:
        def show_state(self, state: object) -> None:
            seen.append(bool(getattr(state, "hidden", None)))

    identity = IdentityPresenter(hidden=True)
    identity.attach(Panel())
    identity.toggle()
    identity.set_hidden(False)
    assert seen == [True, False] and not identity.hidden
