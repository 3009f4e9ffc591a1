"""The desk without a screen: issues of imports, watched folders, elements, housekeeping."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.presenters.housekeeping import HousekeepingPresenter, removal_in_words, rule_in_words
from app.presenters.identity import IdentityPresenter
from app.presenters.import_issues import ImportIssuesPresenter
from app.presenters.importing import ImportPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.ports_library import ConflictRow, QuarantineRow, RemovalRow
from app.presenters.questions import Choice, QuestionsPresenter
from app.presenters.status import StatusPresenter
from app.presenters.tags import TagsPresenter, text_to_copy, value_to_show
from app.presenters.watching import WatchPresenter
from core.domain.browse import CheckFinding, LibraryCheck, RetentionRule
from core.domain.errors import EnvironmentFault, InputError
from core.domain.study import SkippedFile
from core.domain.tags import HIDDEN
from tests.fakes.library_engine import RULE, study_line
from tests.fakes.review_engine import DeferredTasks, FakeReviewEngine, ImmediateTasks, summary


@pytest.fixture
def engine() -> FakeReviewEngine:
    return FakeReviewEngine()


@pytest.fixture
def notices() -> NoticesPresenter:
    return NoticesPresenter()


# -- questions ---------------------------------------------------------------------------------------


def test_a_question_has_exactly_one_answer() -> None:
    questions, answers = QuestionsPresenter(), []
    first = questions.ask(
        "A?", "", (Choice("y", "Yes"),), lambda choice, text: answers.append((choice, text))
    )
    second = questions.ask(
        "B?", "", (Choice("y", "Yes"),), lambda choice, text: answers.append((choice, text))
    )
    questions.answer(first, "y", "secret")
    questions.answer(first, "y", "again")
    questions.withdraw(second)
    questions.answer(second, "y")
    assert answers == [("y", "secret")] and questions.state.questions == ()


def test_going_to_a_question_asks_for_the_focus_each_time() -> None:
    questions, focus = QuestionsPresenter(), []

    class View:
        def show_state(self, state: object) -> None:
            focus.append(state.focus)  # type: ignore[attr-defined]

    questions.attend()
    number = questions.ask("A?", "", (Choice("y", "Yes"),), lambda *_: None)
    questions.attach(View())
    questions.attend()
    questions.attend()
    assert [place for place in focus if place] == [number, number]


# -- issues of imports -------------------------------------------------------------------------------


def issues_of(
    engine: FakeReviewEngine, notices: NoticesPresenter
) -> tuple[ImportIssuesPresenter, ImportPresenter]:
    issues = ImportIssuesPresenter(engine, ImmediateTasks(), notices)
    imports = ImportPresenter(engine, ImmediateTasks(), notices, StatusPresenter())
    imports.attach(issues)
    return issues, imports


def test_skipped_files_are_listed_by_reason(engine: FakeReviewEngine, notices: NoticesPresenter) -> None:
    engine.skipped = (
        SkippedFile("/cd/Mueller.txt", "dicom.not_dicom", "This is no picture."),
        SkippedFile("/cd/b.txt", "dicom.not_dicom", "This is no picture."),
        SkippedFile("/cd/c.dcm", "dicom.truncated", "It ends early."),
        SkippedFile("/cd/d.dcm", "import.conflict", "Other content."),
    )
    issues, imports = issues_of(engine, notices)
    imports.import_paths([Path("/cd")])
    assert [(r.code, r.count) for r in issues.state.reasons] == [
        ("dicom.not_dicom", 2),
        ("dicom.truncated", 1),
    ]
    assert issues.state.badge is not None and issues.state.badge.text == "3 skipped"
    issues.choose_reason("dicom.truncated")
    assert [s.file for s in issues.state.listed] == ["/cd/c.dcm"]
    issues.choose_reason("")
    hidden = issues.text_of_skipped(identity_hidden=True)
    assert (
        "Mueller" not in hidden
        and hidden.splitlines()[0] == "•••••.txt\tdicom.not_dicom\tThis is no picture."
    )
    assert "/cd/Mueller.txt" in issues.text_of_skipped(identity_hidden=False)
    issues.mark_seen()
    assert issues.state.badge is None, "looked at"
    imports.import_paths([Path("/cd")])
    assert issues.state.badge is not None, "new ones came"


def test_conflicts_are_decided_and_the_list_is_read_again(
    engine: FakeReviewEngine, notices: NoticesPresenter
) -> None:
    engine.conflict_rows = [
        ConflictRow("c1", "t1", "/lib/1", "/cd/1"),
        ConflictRow("c2", "t1", "/lib/2", "/cd/2"),
    ]
    issues, _ = issues_of(engine, notices)
    changed: list[bool] = []
    issues.library_changed = lambda: changed.append(True)
    issues.refresh()
    assert issues.state.badge is not None and issues.state.badge.text == "2 conflicts"
    issues.resolve(["c1"], "new")
    assert ("resolve_conflict", "c1", "new") in engine.calls
    assert [c.conflict_id for c in issues.state.conflicts] == ["c2"] and changed == [True]
    issues.resolve([], "new")
    engine.errors["resolve_conflict"] = InputError(
        "file.missing", "The other file is gone.", "Insert the medium."
    )
    issues.resolve(["c2"], "new")
    assert notices.state.notices[0].remedy == "Insert the medium." and not issues.state.busy


def test_the_quarantine_is_retried_and_forgotten(engine: FakeReviewEngine, notices: NoticesPresenter) -> None:
    engine.quarantine_rows = [QuarantineRow("q1", "/cd/1", "dicom.truncated", "It ends early.", kept=True)]
    issues, _ = issues_of(engine, notices)
    issues.refresh()
    assert issues.state.badge is not None and issues.state.badge.text == "1 in quarantine"
    issues.retry(["q1"])
    assert notices.state.notices[-1].level == "done"
    issues.forget(["q1"])
    assert issues.state.quarantine == () and issues.state.badge is None


# -- watched folders ---------------------------------------------------------------------------------


def watch_of(engine: FakeReviewEngine, notices: NoticesPresenter) -> WatchPresenter:
    imports = ImportPresenter(engine, ImmediateTasks(), notices, StatusPresenter())
    return WatchPresenter(engine, ImmediateTasks(), notices, imports)


def test_watching_is_off_until_a_folder_is_added(engine: FakeReviewEngine, notices: NoticesPresenter) -> None:
    watch = watch_of(engine, notices)
    watch.load()
    assert not any(call[0] == "watch" for call in engine.calls) and watch.state.words.startswith("Off")
    watch.add(Path("/inbox"))
    watch.add(Path("/inbox"))
    assert ("watch", (Path("/inbox"),)) in engine.calls and watch.state.words.startswith("On")
    engine.take([Path("/inbox/1.dcm")])
    assert ("import_paths", (Path("/inbox/1.dcm"),), "link", None) in engine.calls
    assert notices.state.notices == () and watch.state.arrived == 1
    engine.medium = "network"
    engine.take([Path("/inbox/2.dcm")])
    assert ("import_paths", (Path("/inbox/2.dcm"),), "copy", None) in engine.calls
    watch.remove(Path("/inbox"))
    assert engine.calls[-1] == ("watch", ())


# -- elements ----------------------------------------------------------------------------------------


def tags_of(engine: FakeReviewEngine, notices: NoticesPresenter) -> TagsPresenter:
    tags = TagsPresenter(engine, ImmediateTasks(), notices)
    tags.set_visible(True)
    return tags


def asked(engine: FakeReviewEngine) -> list[tuple[object, ...]]:
    return [call[1:] for call in engine.calls if call[0] == "open_tags"]


def test_elements_are_read_only_while_somebody_looks(
    engine: FakeReviewEngine, notices: NoticesPresenter
) -> None:
    tags = TagsPresenter(engine, ImmediateTasks(), notices)
    tags.set_series(summary())
    tags.follow_slice(3, 24)
    assert asked(engine) == [] and "Open a series" in tags.state.message
    tags.set_visible(True)
    assert asked(engine) == [("s1", 3, 0)] and tags.state.place == "Image 21 of 24"


def test_the_viewer_follows_the_picture_until_somebody_steps(
    engine: FakeReviewEngine, notices: NoticesPresenter
) -> None:
    tags = tags_of(engine, notices)
    tags.set_series(summary())
    tags.follow_slice(5, 24)
    tags.follow_slice(5, 24)
    assert asked(engine) == [("s1", 0, 0), ("s1", 5, 0)]
    tags.step(1)
    tags.follow_slice(9, 24)
    assert tags.state.position == 4 and not tags.state.following
    tags.go_to(99)
    assert tags.state.position == 0 and tags.state.place == "Image 24 of 24"
    tags.set_series(summary("s2"))
    assert tags.state.following and tags.state.position == 0


def test_a_late_answer_is_dropped(engine: FakeReviewEngine, notices: NoticesPresenter) -> None:
    tasks = DeferredTasks()
    tags = TagsPresenter(engine, tasks, notices)
    tags.set_visible(True)
    tags.set_series(summary())
    tags.follow_slice(5, 24)
    tasks.run_all()
    assert tags.state.position == 5


def test_neighbours_are_compared(engine: FakeReviewEngine, notices: NoticesPresenter) -> None:
    tags = tags_of(engine, notices)
    tags.set_series(summary())
    tags.compare(-1)
    assert tags.state.compared_with == 1, "the file of the picture before"
    tags.compare(1)
    assert tags.state.compared_with is None, "the last picture has none after it"


def test_files_are_numbered_as_the_viewport_numbers_its_pictures(
    engine: FakeReviewEngine, notices: NoticesPresenter
) -> None:
    tags = tags_of(engine, notices)
    tags.set_series(summary())
    tags.follow_slice(3, 24, against=False)
    assert tags.state.place == "Image 4 of 24"
    tags.follow_slice(3, 24, against=True)
    assert tags.state.place == "Image 21 of 24" and tags.state.position == 3
    tags.step(1)
    assert tags.state.place == "Image 22 of 24" and tags.state.position == 2


def test_files_of_a_time_series_are_numbered_within_their_time_point(
    engine: FakeReviewEngine, notices: NoticesPresenter
) -> None:
    tags = tags_of(engine, notices)
    tags.set_series(replace(summary(), shape_kji=(8, 48, 48), time_points=3))
    tags.follow_slice(8 + 7, 8, against=True)
    assert tags.state.place == "Image 1 of 8, t 2 of 3" and tags.state.position == 15
    tags.step(-1)
    assert tags.state.place == "Image 8 of 8, t 1 of 3" and tags.state.position == 0


def test_any_series_is_looked_into_without_opening_it(
    engine: FakeReviewEngine, notices: NoticesPresenter
) -> None:
    tags = tags_of(engine, notices)
    tags.set_series(summary())
    tags.follow_slice(5, 24, against=True)
    tags.inspect(summary("s2", description="Lung kernel"))
    assert asked(engine)[-1] == ("s2", 23, 0) and tags.state.place == "Image 1 of 24"
    assert tags.state.elsewhere == "Lung kernel: not the series on screen."
    tags.follow_slice(6, 24, against=True)
    assert asked(engine)[-1][0] == "s2", "the picture doesn't move it"
    tags.set_following(True)
    assert asked(engine)[-1] == ("s1", 6, 0) and tags.state.elsewhere == ""


def test_a_resampled_series_says_that_pictures_have_no_file(
    engine: FakeReviewEngine, notices: NoticesPresenter
) -> None:
    engine.instances = 20
    tags = tags_of(engine, notices)
    tags.set_series(summary())
    tags.follow_slice(3, 24)
    assert "resampled" in tags.state.note


def test_hidden_identity_is_neither_shown_nor_found_nor_copied(
    engine: FakeReviewEngine, notices: NoticesPresenter
) -> None:
    identity = IdentityPresenter()
    tags = tags_of(engine, notices)
    identity.attach(tags)
    tags.set_series(summary())
    tags.search("太郎")
    assert tags.state.found is not None
    (line,) = tags.state.found
    assert value_to_show(line, False) == "山田^太郎"
    identity.set_hidden(True)
    assert tags.state.found == () and tags.state.found_words == "Nothing matches “太郎”."
    assert value_to_show(line, True) == HIDDEN
    assert text_to_copy((line,), True, values_only=True) == HIDDEN
    assert text_to_copy((line,), False, values_only=False) == "(0010,0010)\tPatientName\tPN\t山田^太郎"
    tags.search("")
    assert tags.state.found is None


def test_a_file_out_of_reach_is_said_in_place(engine: FakeReviewEngine, notices: NoticesPresenter) -> None:
    engine.errors["open_tags"] = EnvironmentFault(
        "file.missing", "The file isn't there.", "Insert the medium."
    )
    tags = tags_of(engine, notices)
    tags.set_series(summary())
    assert tags.state.message == "The file isn't there. Insert the medium." and tags.state.document is None


# -- housekeeping ------------------------------------------------------------------------------------


class House:
    """A housekeeping presenter with its questions."""

    def __init__(self, engine: FakeReviewEngine, notices: NoticesPresenter) -> None:
        self.questions = QuestionsPresenter()
        self.keeping = HousekeepingPresenter(
            engine, ImmediateTasks(), notices, self.questions, StatusPresenter()
        )
        self.removed: list[tuple[str, ...]] = []
        self.keeping.removed = self.removed.append

    def answer(self, choice: str) -> None:
        self.questions.answer(self.questions.state.questions[0].id, choice)


def test_a_rule_is_previewed_and_applied_only_when_confirmed(
    engine: FakeReviewEngine, notices: NoticesPresenter
) -> None:
    house = House(engine, notices)
    house.keeping.save_rule(RULE)
    assert house.keeping.state.rules == (RULE,)
    house.keeping.preview(RULE.name)
    assert house.keeping.state.preview_words == "“Old and reviewed” would remove nothing now."
    engine.due = [study_line("t1"), study_line("t2")]
    house.keeping.apply(RULE.name)
    question = house.questions.state.questions[0]
    assert question.what == "Remove 2 studies with 96 files, as “Old and reviewed” says?"
    assert house.questions.state.focus == question.id and question.choices[0].id == "no"
    house.answer("no")
    assert not any(call[0] == "apply_rule" for call in engine.calls)
    house.keeping.apply(RULE.name)
    house.answer("yes")
    assert ("apply_rule", RULE.name) in engine.calls and house.removed == [("t1", "t2")]
    assert "8 linked files left where they are" in notices.state.notices[-1].what
    house.keeping.delete_rule(RULE.name)
    assert house.keeping.state.rules == ()


def test_deleting_says_what_goes_and_what_stays(engine: FakeReviewEngine, notices: NoticesPresenter) -> None:
    house = House(engine, notices)
    house.keeping.delete_studies([])
    house.keeping.delete_studies(["t1"])
    question = house.questions.state.questions[0]
    assert question.what == "Delete 1 study from the library?"
    assert question.why == (
        "Deleted for good: 40 copied files, 1 result with its verdicts, thumbnails. "
        "Stays: 8 linked files where they are, the audit trail."
    )
    house.answer("yes")
    assert ("remove_studies", ("t1",)) in engine.calls and house.removed == [("t1",)]
    assert removal_in_words([RemovalRow("a", 3, 0)])[1].startswith("Deleted for good: thumbnails.")


def test_a_backup_is_made_and_restored_after_a_question(
    engine: FakeReviewEngine, notices: NoticesPresenter
) -> None:
    house = House(engine, notices)
    ended: list[bool] = []
    house.keeping.quit = lambda: ended.append(True)
    house.keeping.back_up()
    (backup,) = house.keeping.state.backups
    house.keeping.restore(backup.file)
    assert "2026-01-02 03:04" in house.questions.state.questions[0].what
    house.answer("yes")
    assert ("restore_backup", backup.file) in engine.calls and house.keeping.state.restored
    assert ended == []
    house.answer("yes")
    assert ended == [True]


def test_a_check_says_what_it_found(engine: FakeReviewEngine, notices: NoticesPresenter) -> None:
    house = House(engine, notices)
    assert house.keeping.state.check_words == "Not checked yet."
    house.keeping.check()
    assert house.keeping.state.check_words == "All is well: 1 study, 24 files, 12 events."
    engine.library_check = LibraryCheck(
        False, (CheckFinding("x", "2 files are missing.", "Insert it."),), studies=1
    )
    house.keeping.check(full=True)
    assert house.keeping.state.check_words.startswith("Damaged, 1 finding")
    assert notices.state.notices[-1].level == "danger"


def test_care_backs_up_checks_and_says_only_what_is_not_well(
    engine: FakeReviewEngine, notices: NoticesPresenter
) -> None:
    house = House(engine, notices)
    house.keeping.care()
    assert [call[0] for call in engine.calls] == ["daily_backup", "check_library"]
    assert notices.state.notices == () and not house.keeping.state.checking
    assert engine.calls[-1] == ("check_library", False)
    engine.full_due = True
    engine.library_check = LibraryCheck(
        False,
        (
            CheckFinding("a", "Copies are gone.", "Import them again."),
            CheckFinding("b", "Orphans lie about.", "Delete them.", is_fault=False),
        ),
    )
    house.keeping.care()
    assert engine.calls[-1] == ("check_library", True)
    told = notices.state.notices[-1]
    assert (told.level, told.what) == ("danger", "Library check: Copies are gone.")
    assert told.remedy == "Import them again." and told.details == ("Orphans lie about. Delete them.",)


def test_a_backup_that_fails_is_told_and_the_check_still_made(
    engine: FakeReviewEngine, notices: NoticesPresenter
) -> None:
    engine.errors["daily_backup"] = EnvironmentFault("backup.failed", "No space.", "Free some.")
    house = House(engine, notices)
    house.keeping.care()
    assert notices.state.notices[-1].what == "No space."
    assert ("check_library", False) in engine.calls and house.keeping.state.check is not None


def test_a_rule_is_said_in_words() -> None:
    rule = RetentionRule("r", 90, ("reviewed",), ("teaching",), copies_only=True)
    assert rule_in_words(rule) == (
        "imported more than 90 days ago, reviewed, without the tag “teaching”, copied into the library, "
        "no result waiting"
    )
