"""Ways to a study: by click, by step, back in time, to what waits. Series are read when they are needed."""

from __future__ import annotations

from collections.abc import Callable

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import ReviewEngine, Tasks
from app.presenters.worklist import WorklistPresenter
from app.presenters.worklist_rows import SERIES, Row, first_to_open, sorted_lines
from core.domain.browse import StudyLine
from core.domain.study import SeriesKind, SeriesSummary


class StudyOpener:
    """Finds the series to open and hands it to ``opened``; only the last wish counts."""

    def __init__(
        self,
        engine: ReviewEngine,
        tasks: Tasks,
        notices: NoticesPresenter,
        worklist: WorklistPresenter,
    ) -> None:
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._worklist = worklist
        self._wish = 0
        self._target = ""
        self.opened: Callable[[SeriesSummary], None] = lambda _: None
        self.inspected: Callable[[SeriesSummary], None] = lambda _: None

    def open_series(self, series_key: str) -> None:
        """Open a series that the list shows."""
        summary = self._worklist.series(series_key)
        if summary is not None:
            self._open(summary)

    def open_study(self, study_uid: str) -> None:
        """Open the series of a study that one wants to see first."""
        known = self._worklist.known_series(study_uid)
        if known and self._worklist.line(study_uid) is not None:
            self._open_first(known)
            return
        self._fetch(study_uid, lambda: study_uid, lambda _: "")

    def open_series_of(self, study_uid: str, series_key: str) -> None:
        """Open a series of a study, whether the list shows it or not."""
        known = next((s for s in self._worklist.known_series(study_uid) if s.key == series_key), None)
        if known is not None and self._worklist.line(study_uid) is not None:
            self._open(known)
        else:
            self._fetch(study_uid, lambda: study_uid, lambda _: series_key)

    def inspect(self, row: Row) -> None:
        """Hand the series that a line stands for to ``inspected``; nothing is opened."""
        worklist = self._worklist
        if row.kind == SERIES:
            summary = worklist.series(row.uid)
            if summary is not None:
                self.inspected(summary)
            return
        study_uid = next(iter(worklist.studies_of(row)), "")
        if not study_uid:
            return

        def done(series: tuple[SeriesSummary, ...]) -> None:
            first = first_to_open(series) or next(iter(series), None)
            if first is not None:
                self.inspected(first)

        known = worklist.known_series(study_uid)
        if known:
            done(known)
        else:
            self._tasks.db(lambda: self._engine.series_of(study_uid), done, self._notices.report)

    def step_series(self, step: int) -> None:
        """Open the series ``step`` places after the open one within its study; nothing at the end."""
        state = self._worklist.state
        siblings = [
            s for s in self._worklist.known_series(state.current_study) if s.kind is not SeriesKind.OTHER
        ]
        here = next((i for i, s in enumerate(siblings) if s.key == state.current_series), None)
        if here is not None and 0 <= here + step < len(siblings):
            self._open(siblings[here + step])

    def step_study(self, step: int) -> None:
        """Open the study ``step`` places further in the list as shown."""
        order = self._worklist.order()
        here = self._target or self._worklist.state.current_study
        if not order:
            return
        if here not in order:
            self._go(order[0])
            return
        place = order.index(here) + step
        if 0 <= place < len(order):
            self._go(order[place])

    def step_in_time(self, step: int) -> None:
        """Open the same patient's study before (-1) or after (+1) the open one."""
        current = self._worklist.line(self._worklist.state.current_study)
        if current is None:
            return
        oldest_first = sorted_lines((current, *self._worklist.priors), "date")[::-1]
        place = oldest_first.index(current) + step
        if 0 <= place < len(oldest_first):
            self._go(oldest_first[place].study_uid)

    def open_waiting(self) -> None:
        """Open the first study with a result that waits; from there, the next one."""
        current, order = self._worklist.state.current_study, self._worklist.order()

        def choose() -> str:
            counts = self._engine.waiting_counts()
            place = {uid: number for number, uid in enumerate(order)}
            waiting = sorted(counts, key=lambda uid: place.get(uid, len(order)))
            if current in waiting and len(waiting) > 1:
                return waiting[(waiting.index(current) + 1) % len(waiting)]
            return waiting[0] if waiting else ""

        self._fetch("", choose, self._engine.waiting_series)

    def _go(self, study_uid: str) -> None:
        self._target = study_uid
        self.open_study(study_uid)

    def _fetch(self, target: str, choose: Callable[[], str], prefer: Callable[[str], str]) -> None:
        """Read on the database thread what is needed to open the study that ``choose`` names."""
        self._wish += 1
        wish = self._wish
        self._target = target or self._target
        worklist = self._worklist

        def work() -> tuple[str, tuple[SeriesSummary, ...], str, StudyLine | None]:
            study_uid = choose()
            if not study_uid:
                return "", (), "", None
            line = worklist.line(study_uid) or self._engine.study_line(study_uid)
            return study_uid, self._engine.series_of(study_uid), prefer(study_uid), line

        def done(answer: tuple[str, tuple[SeriesSummary, ...], str, StudyLine | None]) -> None:
            study_uid, series, preferred, line = answer
            if wish != self._wish or not study_uid:
                return
            if line is not None:
                worklist.keep_line(line)
            worklist.keep_series(study_uid, series)
            wanted = next((found for found in series if found.key == preferred), None)
            if wanted is not None:
                self._open(wanted)
            else:
                self._open_first(series)

        self._tasks.db(work, done, self._notices.report)

    def _open_first(self, series: tuple[SeriesSummary, ...]) -> None:
        first = first_to_open(series)
        if first is not None:
            self._open(first)
        else:
            self._target = ""
            self._notices.say(
                "info", "This study has no pictures of its own.", "Unfold it to see what it holds."
            )

    def _open(self, summary: SeriesSummary) -> None:
        self._wish += 1
        self._target = ""
        self.opened(summary)
