"""The worklist: studies as lines, series when a study is unfolded, a filter, and which study is open.

Nothing here grows the GUI thread's work with the library: lines are read, filtered, sorted and grouped on the
database thread, and an answer that a later question has overtaken is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from app.presenters.identity import IdentityPresenter, IdentityState
from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, ReviewEngine, Tasks
from app.presenters.series_shelf import SeriesShelf
from app.presenters.thumbnails import Deliver, ThumbnailQueue
from app.presenters.worklist_rows import (
    NOTE,
    PATIENT,
    SERIES,
    STUDY,
    Listing,
    Row,
    flatten,
    sorted_lines,
    typed_name,
)
from app.presenters.worklist_state import PriorRow, WorklistState
from app.presenters.worklist_words import Wording, Words, interval_in_words, modalities_in_words
from core.domain.browse import SavedFilter, StudyFilter, StudyLine
from core.domain.errors import AppError
from core.domain.person_name import folded, isolated
from core.domain.study import PatientIdentity, SeriesSummary

UNFOLDED_UP_TO = 12
"""A library of so few studies is shown unfolded."""

_NO_LINES: tuple[StudyLine, ...] = ()


@dataclass(frozen=True, eq=False)
class _Answer:
    """What the database thread hands over; ``library`` is None when only the filter changed."""

    listing: Listing
    library: tuple[int, tuple[str, ...], tuple[str, ...], tuple[SavedFilter, ...]] | None


class WorklistPresenter(Presenter[WorklistState]):
    """Lists studies while the reader types, reads series on demand, and knows which study is open."""

    def __init__(
        self,
        engine: ReviewEngine,
        tasks: Tasks,
        notices: NoticesPresenter,
        identity: IdentityPresenter | None = None,
    ) -> None:
        super().__init__(WorklistState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._listing = Listing()
        self._shelf = SeriesShelf()
        self._asked: set[str] = set()
        self._unfolded: set[str] = set()
        self._folded: set[str] = set()
        self._folded_patients: set[str] = set()
        self._kept: dict[str, StudyLine] = {}
        self._priors: tuple[StudyLine, ...] = _NO_LINES
        self._counts: Mapping[str, int] = {}
        self._generation = 0
        self._reading = False
        self._whole_library = False
        self.identity = identity or IdentityPresenter()
        self.thumbnails = ThumbnailQueue(engine.thumbnail, tasks)
        self.waiting_changed: Callable[[int], None] = lambda _: None
        self.refreshed: Callable[[], None] = lambda: None
        self.identity.attach(self._Follower(self))

    class _Follower:
        """Takes the state of the identity presenter."""

        def __init__(self, worklist: WorklistPresenter) -> None:
            self._worklist = worklist

        def show_state(self, state: IdentityState) -> None:
            """Say all lines anew."""
            worklist = self._worklist
            worklist._show(replace(worklist.state, identity_hidden=state.hidden))

    # -- reading the list ----------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read the library again: its lines, what it offers for filtering, and the saved filters."""
        self._whole_library = True
        self._relist()

    def search(self, text: str) -> None:
        """Show only the studies that contain every word of ``text``."""
        self.narrow(text=text)

    def narrow(self, **changes: object) -> None:
        """Change some fields of the filter."""
        self.use_filter(replace(self.state.wanted, **changes))  # type: ignore[arg-type]

    def use_filter(self, wanted: StudyFilter) -> None:
        """List what a filter lets through."""
        if wanted != self.state.wanted:
            self._publish(replace(self.state, wanted=wanted))
            self._relist()

    def clear_filters(self) -> None:
        """List everything."""
        self.use_filter(StudyFilter())

    def arrange(self, columns: tuple[str, ...], sort: str) -> None:
        """Choose the details of a line and the order of the studies."""
        before = self.state.sort
        self._show(replace(self.state, columns=columns, sort=sort))
        if sort != before:
            self._relist()

    @property
    def reading_lines(self) -> bool:
        """Whether the database thread is reading lines."""
        return self._reading

    def _relist(self) -> None:
        self._generation += 1
        # One question at a time: while somebody types, the questions in between are never asked.
        if not self._reading:
            self._read()

    def _read(self) -> None:
        self._reading = True
        generation, wanted, sort = self._generation, self.state.wanted, self.state.sort
        whole, before = self._whole_library, self._listing

        def work() -> _Answer:
            listing = Listing.of(self._engine.study_lines(wanted), sort, before)
            if not whole:
                return _Answer(listing, None)
            everything = listing
            if wanted != StudyFilter():
                everything = Listing.of(self._engine.study_lines(StudyFilter()))
            facts = (len(everything.lines), everything.modalities)
            return _Answer(listing, (*facts, self._engine.all_tags(), self._engine.saved_filters()))

        def done(answer: _Answer) -> None:
            self._reading = False
            if generation != self._generation:
                self._read()
                return
            self._take(answer)

        def failed(error: AppError) -> None:
            self._reading = False
            if generation != self._generation:
                self._read()
                return
            self._notices.report(error)

        self._tasks.db(work, done, failed)

    def _take(self, answer: _Answer) -> None:
        before, self._listing = self._listing, answer.listing
        state = replace(self.state, loaded=True, found=len(answer.listing.lines))
        if answer.library is not None:
            self._whole_library = False
            total, modalities, tags, saved = answer.library
            state = replace(state, total=total, modalities=modalities, tags=tags, saved=saved)
            self._read_changed_series(before)
        self._show(state)
        if state.current_study:
            self._read_priors(state.current_study)
        if answer.library is not None:
            self.refreshed()

    def _read_changed_series(self, before: Listing) -> None:
        """Read the series of studies that grew again; what is shown stays until they are there."""
        for uid in list(self._shelf.by_study):
            old, new = before.lines.get(uid), self._listing.lines.get(uid)
            if new is not None and (old is None or _size(old) != _size(new)):
                self._ask_series(uid)

    # -- what is shown -------------------------------------------------------------------------------

    def _show(self, state: WorklistState) -> None:
        """Publish ``state`` with its rows and with words that may have changed."""
        unfolded = self._shown_unfolded(state)
        rows = flatten(self._listing, self._folded_patients, unfolded, self._shelf.by_study)
        priors = tuple(self._prior(line, state) for line in self._priors)
        newer = next((row.date for row in priors if row.relation == "newer"), "")
        self._publish(replace(state, rows=rows, version=state.version + 1, priors=priors, newer=newer))
        for uid in unfolded - self._shelf.by_study.keys():
            self._ask_series(uid)

    def _shown_unfolded(self, state: WorklistState) -> set[str]:
        lines = self._listing.lines
        if 0 < state.total <= UNFOLDED_UP_TO or len(lines) == 1:
            return {uid for uid in lines if uid not in self._folded}
        return {uid for uid in self._unfolded if uid in lines}

    def is_unfolded(self, row: Row) -> bool:
        """Whether what belongs to a line is shown below it."""
        if row.kind == PATIENT:
            return row.uid not in self._folded_patients
        return row.kind == STUDY and row.uid in self._shown_unfolded(self.state)

    def set_unfolded(self, row: Row, unfolded: bool) -> None:
        """Show or hide what belongs to a patient's or a study's line."""
        if row.kind == PATIENT:
            (self._folded_patients.discard if unfolded else self._folded_patients.add)(row.uid)
        elif row.kind == STUDY:
            (self._unfolded.add if unfolded else self._unfolded.discard)(row.uid)
            (self._folded.discard if unfolded else self._folded.add)(row.uid)
        else:
            return
        self._show(self.state)

    def words(self, row: Row) -> Words:
        """Return what a line says; worded when it is painted, so that 10,000 lines cost nothing."""
        wording = self.wording
        if row.kind == PATIENT:
            group = self._listing.by_patient.get(row.uid)
            return wording.patient(group.lines, not self.is_unfolded(row)) if group else Words("")
        if row.kind == STUDY:
            line = self._listing.lines.get(row.uid)
            return wording.study(line, self._relation(line)) if line else Words("")
        if row.kind == SERIES:
            found = self._shelf.get(row.uid)
            line = self._listing.lines.get(found.study_uid) if found else None
            return wording.series(found, line.identity if line else PatientIdentity()) if found else Words("")
        return Words("Reading the series…" if row.kind == NOTE else "")

    @property
    def wording(self) -> Wording:
        """How lines are worded now."""
        return Wording(self.identity.hidden, self.state.columns)

    def _relation(self, line: StudyLine) -> str:
        if line.study_uid == self.state.current_study:
            return "current"
        current = self.line(self.state.current_study)
        # The engine compares who the patients are: a study that only shares the pseudonym is no prior.
        if current is None or all(prior.study_uid != line.study_uid for prior in self._priors):
            return ""
        return _relation(current, line)

    def find_typed(self, text: str, after: int) -> int:
        """Return the number of the next patient's row whose name starts with ``text``, or -1."""
        wanted, rows = folded(text), self.state.rows
        for place in range(len(rows)):
            number = (after + place) % len(rows)
            row = rows[number]
            if row.kind == PATIENT:
                group = self._listing.by_patient[row.uid]
                typed = row.uid.casefold() if self.identity.hidden else typed_name(group.lines[0])
                if typed.startswith(wanted):
                    return number
        return -1

    # -- lines and series ----------------------------------------------------------------------------

    def line(self, study_uid: str) -> StudyLine | None:
        """Return a study's line: of the list, or of a study that was opened while a filter hides it."""
        return self._listing.lines.get(study_uid) or self._kept.get(study_uid)

    def order(self) -> list[str]:
        """Return the UIDs of the studies as listed."""
        return self._listing.order()

    def studies_of(self, row: Row) -> tuple[str, ...]:
        """Return the studies that a line stands for: a patient's all, a series' own."""
        if row.kind == PATIENT:
            group = self._listing.by_patient.get(row.uid)
            return tuple(line.study_uid for line in group.lines) if group else ()
        if row.kind == SERIES:
            found = self._shelf.get(row.uid)
            return (found.study_uid,) if found else ()
        return (row.uid,)

    def series(self, series_key: str) -> SeriesSummary | None:
        """Return a series that was read already."""
        return self._shelf.get(series_key)

    def known_series(self, study_uid: str) -> tuple[SeriesSummary, ...]:
        """Return the series of a study that were read already."""
        return self._shelf.of(study_uid)

    def patient_name(self, study_uid: str) -> str:
        """Return the name to show for a study: the vault's, else the pseudonym."""
        line = self.line(study_uid)
        return self.wording.one_name(line) if line else ""

    def series_in_words(self, summary: SeriesSummary) -> str:
        """Return whose series it is and what it is called, for the top bar."""
        described = isolated(self.text_of(summary.study_uid, summary.description))
        parts = (self.patient_name(summary.study_uid), described)
        return " · ".join(part for part in parts if part)

    def text_of(self, study_uid: str, text: str) -> str:
        """Return a hand-written text of a study's file as it may be shown.

        While identity is hidden, one of a study whose patient isn't known here is left out: it can't be masked.
        """
        line = self.line(study_uid)
        if line is None:
            return "" if self.identity.hidden else text
        if not self.identity.hidden:
            return text
        return "\n".join(self.wording.text(part, line.identity) for part in text.splitlines())

    def keep_series(self, study_uid: str, series: tuple[SeriesSummary, ...]) -> None:
        """Take the series of a study; those of studies that nobody looks at are forgotten in time."""
        self._shelf.put(study_uid, series, self._unfolded | {self.state.current_study})

    def keep_line(self, line: StudyLine) -> None:
        """Remember the line of a study that is opened though the filter hides it."""
        self._kept = {line.study_uid: line}

    def _ask_series(self, study_uid: str) -> None:
        if study_uid in self._asked:
            return
        self._asked.add(study_uid)

        def done(series: tuple[SeriesSummary, ...]) -> None:
            self._asked.discard(study_uid)
            self.keep_series(study_uid, series)
            self._show(self.state)

        def failed(error: AppError) -> None:
            self._asked.discard(study_uid)
            self._unfolded.discard(study_uid)
            self._folded.add(study_uid)
            self._notices.report(error)
            self._show(self.state)

        self._tasks.db(lambda: self._engine.series_of(study_uid), done, failed)

    def request_thumbnail(self, series_key: str, deliver: Deliver) -> None:
        """Fetch a thumbnail in the background; ``deliver(key, pixels or None)`` runs on the GUI thread."""
        self.thumbnails.request(series_key, deliver)

    # -- the open study ------------------------------------------------------------------------------

    def set_current(self, summary: SeriesSummary) -> None:
        """Mark the series that is open, unfold its study, and look for priors of the patient."""
        study, other_study = summary.study_uid, summary.study_uid != self.state.current_study
        line = self.line(study)
        if line is not None:
            self.keep_line(line)
            self._folded_patients.discard(line.patient_key)
        self._unfolded.add(study)
        self._folded.discard(study)
        self._shelf.put_one(summary)
        if other_study:
            self._priors = _NO_LINES
        self._show(replace(self.state, current_series=summary.key, current_study=study))
        if other_study:
            self._read_priors(study)

    def reread(self, study_uid: str) -> None:
        """Show one study as the engine has it now: opening it may have changed how far its reading is."""

        def ignore(_: AppError) -> None:
            # It was deleted meanwhile; the next refresh shows that.
            return

        self._tasks.db(
            lambda: self._engine.study_line(study_uid), lambda found: self.take_lines((found,)), ignore
        )

    def _read_priors(self, study_uid: str) -> None:
        def done(lines: Collection[StudyLine]) -> None:
            if study_uid == self.state.current_study:
                self._priors = tuple(sorted_lines(lines, "date"))
                self._show(self.state)

        def failed(error: AppError) -> None:
            # A study that another program has removed has no priors; that it is gone, the list says.
            if error.code != "library.unknown_study":
                self._notices.report(error)

        self._tasks.db(lambda: self._engine.priors_of(study_uid), done, failed)

    def _prior(self, line: StudyLine, state: WorklistState) -> PriorRow:
        current = self.line(state.current_study)
        wording = Wording(state.identity_hidden, state.columns)
        words = wording.study(line, "")
        return PriorRow(
            line.study_uid,
            line.study_date or "no date",
            "/".join(modalities_in_words(line.modalities)),
            words.title,
            _relation(current, line) if current else "prior",
            interval_in_words(current.study_date, line.study_date) if current else "",
            words.status,
        )

    @property
    def priors(self) -> tuple[StudyLine, ...]:
        """The other studies of the open study's patient, newest first."""
        return self._priors

    # -- marks ---------------------------------------------------------------------------------------

    def take_lines(self, lines: Collection[StudyLine]) -> None:
        """Show some lines as the engine has them now."""
        by_uid = {line.study_uid: line for line in lines}
        self.change_lines(by_uid, lambda line: by_uid[line.study_uid])

    def change_lines(self, study_uids: Collection[str], change: Callable[[StudyLine], StudyLine]) -> None:
        """Show some lines changed; the engine has made the change already."""
        self._listing = self._listing.changed(study_uids, change)
        self._kept = {u: change(line) if u in study_uids else line for u, line in self._kept.items()}
        self._priors = tuple(change(line) if line.study_uid in study_uids else line for line in self._priors)
        self._show(self.state)

    def forget(self, study_uids: Collection[str]) -> None:
        """Take studies that were deleted out of the list at once, and with them what is known of them."""
        gone = set(study_uids)
        kept = [line for line in self._listing.lines.values() if line.study_uid not in gone]
        # The lines keep their order; what is listed for good comes with the next refresh.
        self._listing = Listing.of(kept, self.state.sort, self._listing)
        self._shelf.drop(gone)
        self._unfolded -= gone
        self._kept = {uid: line for uid, line in self._kept.items() if uid not in gone}
        self._priors = tuple(line for line in self._priors if line.study_uid not in gone)
        state = replace(self.state, found=len(kept))
        if state.current_study in gone:
            self._priors = _NO_LINES
            state = replace(state, current_study="", current_series="")
        self._show(state)

    def set_saved(self, saved: tuple[SavedFilter, ...]) -> None:
        """Take the saved filters."""
        self._publish(replace(self.state, saved=saved))

    def set_tags(self, tags: tuple[str, ...]) -> None:
        """Take the tags that the library knows."""
        self._publish(replace(self.state, tags=tags))

    def refresh_waiting(self) -> None:
        """Count the results that wait for the reader, in all studies, with one query."""

        def done(counts: Mapping[str, int]) -> None:
            changed = [uid for uid, line in self._listing.lines.items() if line.waiting != counts.get(uid, 0)]
            self._counts = dict(counts)
            if changed:
                self.change_lines(changed, lambda line: replace(line, waiting=counts.get(line.study_uid, 0)))
            self._publish(replace(self.state, waiting=self.waiting))
            self.waiting_changed(self.waiting)

        self._tasks.db(self._engine.waiting_counts, done, self._notices.report)

    @property
    def waiting(self) -> int:
        """How many results wait for a verdict in all studies."""
        return sum(self._counts.values())


def _size(line: StudyLine) -> tuple[int, int]:
    return line.series_count, line.instance_count


def _relation(current: StudyLine, other: StudyLine) -> str:
    return "newer" if other.study_date > current.study_date else "prior"
