"""Jobs, imports, audit, status and palette."""

from __future__ import annotations

import pytest

from app.presenters.audit import AuditPresenter
from app.presenters.jobs import JobsPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.palette import Command, PalettePresenter
from app.presenters.ports import AuditCheck, JobRow, error_of, seconds_in_words
from app.presenters.status import StatusPresenter, geometry_badge, lossy_badge
from app.presenters.wording import date_in_words, probability_in_words, volume_in_words
from core.domain.errors import InputError
from core.domain.progress import Cancelled
from core.domain.volume import SeriesIssue
from core.jobs.messages import JobFailed, JobProgress, JobStarted, JobSucceeded, WorkerLost
from tests.fakes.review_engine import DeferredTasks, FakeReviewEngine, ImmediateTasks, summary

RUNNING = JobRow("j1", "run", "Thorax organs", "running", series_key="s1", model_id="thorax-ct")


@pytest.fixture
def engine() -> FakeReviewEngine:
    return FakeReviewEngine()


def jobs_of(engine: FakeReviewEngine, notices: NoticesPresenter | None = None) -> JobsPresenter:
    return JobsPresenter(engine, ImmediateTasks(), notices or NoticesPresenter())


def test_progress_moves_without_asking_again(engine: FakeReviewEngine) -> None:
    jobs = jobs_of(engine)
    engine.job_rows = [RUNNING]
    jobs.on_event(JobStarted("j1", 4711, "cpu"))
    asked = len(engine.calls)
    jobs.on_event(JobProgress("j1", "resampling", 0.4, 9.0))
    assert len(engine.calls) == asked
    running = jobs.state.running
    assert running is not None and (running.phase, running.fraction) == ("resampling", 0.4)
    assert jobs.state.device == "cpu"


def test_a_finished_job_is_announced_once(engine: FakeReviewEngine) -> None:
    jobs, finished = jobs_of(engine), []
    jobs.finished = finished.append
    engine.job_rows = [RUNNING]
    jobs.refresh()
    engine.job_rows = [JobRow("j1", "run", "Thorax organs", "succeeded", result_id="r1")]
    jobs.on_event(JobSucceeded("j1", {"result_id": "r1"}))
    jobs.refresh()
    assert [job.result_id for job in finished] == ["r1"]


def test_a_lost_worker_is_said_and_can_be_retried(engine: FakeReviewEngine) -> None:
    notices = NoticesPresenter()
    jobs = jobs_of(engine, notices)
    engine.job_rows = [JobRow("j1", "run", "Thorax organs", "lost", error="killed by signal 9")]
    jobs.on_event(WorkerLost("j1", "killed by signal 9"))
    assert "killed by signal 9" in notices.state.notices[0].what
    jobs.retry("j1")
    assert ("retry_job", "j1") in engine.calls


def test_a_failure_is_said_with_its_remedy(engine: FakeReviewEngine) -> None:
    notices = NoticesPresenter()
    jobs_of(engine, notices).on_event(
        JobFailed("j1", "model.memory", "Not enough memory.", "Close other programs.")
    )
    assert notices.state.notices[0].remedy == "Close other programs."


def test_only_a_running_job_is_cancelled(engine: FakeReviewEngine) -> None:
    jobs = jobs_of(engine)
    jobs.cancel_running()
    engine.job_rows = [RUNNING]
    jobs.refresh()
    jobs.cancel_running()
    assert [call for call in engine.calls if call[0] == "cancel_job"] == [("cancel_job", "j1")]


def test_questions_that_come_meanwhile_are_answered_by_one_more(engine: FakeReviewEngine) -> None:
    tasks = DeferredTasks()
    jobs = JobsPresenter(engine, tasks, NoticesPresenter())
    for _ in range(5):
        jobs.refresh()
    tasks.run_all()
    assert [call[0] for call in engine.calls] == ["jobs", "jobs"]


def test_the_status_bar_says_phase_and_time_left(engine: FakeReviewEngine) -> None:
    status, jobs = StatusPresenter(), jobs_of(engine)
    jobs.attach(status)
    engine.job_rows = [RUNNING]
    jobs.refresh()
    jobs.on_event(JobProgress("j1", "resampling", 0.4, 9.0))
    assert status.state.activity == "Thorax organs · resampling · 9 s left"
    assert status.state.cancels == "job"
    status.set_task("import", "Importing", 0.1)
    assert status.state.cancels == "import"
    status.end_task("import")
    assert status.state.cancels == "job"


def test_badges_say_what_may_be_trusted() -> None:
    gap = SeriesIssue("series.gap", "2 slices are missing (between 41 and 44).", True)
    assert geometry_badge(summary(issues=(gap,))).level == "danger"
    assert "between 41 and 44" in geometry_badge(summary(issues=(gap,))).explanation
    assert geometry_badge(summary(issues=(SeriesIssue("series.note", "Tilted.", False),))).level == "caution"
    assert geometry_badge(summary()).text == "geometry ✓"
    assert geometry_badge(None).level == "none"
    assert lossy_badge(summary()).level == "none"


def test_a_broken_chain_is_said_loudly(engine: FakeReviewEngine) -> None:
    notices = NoticesPresenter()
    audit = AuditPresenter(engine, ImmediateTasks(), notices)
    audit.verify()
    assert audit.state.words == "12 events, chain intact."
    engine.check = AuditCheck(12, False, 7)
    audit.verify()
    assert "broken at event 7" in audit.state.words
    assert notices.state.notices[0].level == "danger"
    audit.refresh()
    assert [row.seq for row in audit.state.rows] == [2, 1]


def test_notices_are_kept_until_dismissed() -> None:
    notices = NoticesPresenter()
    first = notices.say("info", "one")
    notices.say("info", "two")
    notices.say("info", "one")
    assert [n.what for n in notices.state.notices] == ["two", "one"]
    notices.dismiss(first)
    notices.dismiss_last()
    assert [n.what for n in notices.state.notices] == ["two"]
    notices.report(Cancelled())
    assert len(notices.state.notices) == 1


def palette_of(ran: list[str]) -> PalettePresenter:
    commands = [
        Command("a", "Accept the finding", "Findings", "Y", True),
        Command("b", "Next finding", "Findings", "N", True),
        Command("c", "Find a command", "Program", "Ctrl+K", False),
    ]
    return PalettePresenter(lambda: commands, ran.append)


def test_the_palette_ranks_and_runs() -> None:
    ran: list[str] = []
    palette = palette_of(ran)
    palette.open()
    assert len(palette.state.commands) == 3
    palette.search("find")
    assert [c.id for c in palette.state.commands] == ["c", "a", "b"]
    palette.run()
    assert ran == [] and palette.state.open
    palette.move(1)
    palette.run()
    assert ran == ["a"] and not palette.state.open


def test_the_palette_takes_letters_in_order() -> None:
    palette = palette_of([])
    palette.search("nxfnd")
    assert [c.id for c in palette.state.commands] == ["b"]
    palette.search("zzz")
    palette.run()
    assert palette.state.commands == ()


def test_numbers_have_units_and_words() -> None:
    assert date_in_words("20250302") == "2025-03-02"
    assert date_in_words("2025-03") == "2025-03"
    assert date_in_words("soon") == ""
    assert volume_in_words(1234.0) == "1.23 l"
    assert volume_in_words(0.512) == "0.51 ml"
    assert volume_in_words(694.52) == "694.5 ml"
    assert probability_in_words(0.86) == "very likely, 0.86"
    assert seconds_in_words(200) == "~3 min"
    assert seconds_in_words(None) == ""


def test_an_unknown_error_becomes_ours_without_its_text() -> None:
    assert "secret" not in error_of(ValueError("secret")).user_message
    known = InputError("a.b", "c")
    assert error_of(known) is known
