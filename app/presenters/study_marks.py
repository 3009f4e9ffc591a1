"""Marks on studies: how far the reading is, tags, and the wish to delete. They hold for all chosen studies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import ReviewEngine, Tasks
from app.presenters.worklist import WorklistPresenter
from core.domain.browse import StudyLine
from core.domain.person_name import isolated
from core.domain.study import ReadStatus

LONGEST_TAG = 40
_STEPS_KEPT = 20


class StudyMarks:
    """Changes the chosen studies; without a choice, the open one.

    ``delete_requested`` is told the studies when somebody wants them deleted; whoever sets it asks first.
    """

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
        self._chosen: tuple[str, ...] = ()
        self._before: list[list[StudyLine]] = []
        self.delete_requested: Callable[[tuple[str, ...]], None] | None = None
        self.changed: Callable[[], None] = lambda: None

    def choose(self, study_uids: Sequence[str]) -> None:
        """Take the studies of the lines that are selected."""
        self._chosen = tuple(dict.fromkeys(study_uids))

    @property
    def studies(self) -> tuple[str, ...]:
        """The studies that a mark would change."""
        listed = tuple(uid for uid in self._chosen if self._worklist.line(uid) is not None)
        current = self._worklist.state.current_study
        return listed or ((current,) if current else ())

    def lines(self) -> list[StudyLine]:
        """Return the lines of those studies."""
        found = (self._worklist.line(uid) for uid in self.studies)
        return [line for line in found if line is not None]

    def set_status(self, status: ReadStatus) -> None:
        """Say how far the reading is."""
        uids = self.studies
        self._change(uids, lambda: self._engine.set_status(uids, status))

    def toggle_tag(self, tag: str) -> None:
        """Put a tag on the studies, or take it off when all of them have it."""
        name = plain_tag(tag)
        uids, lines = self.studies, self.lines()
        if not name or not uids:
            return
        if all(name.casefold() in (t.casefold() for t in line.tags) for line in lines):
            self._change(uids, lambda: self._engine.remove_tag(uids, name))
        else:
            self._change(uids, lambda: self._engine.add_tag(uids, name))

    @property
    def can_undo(self) -> bool:
        """Whether a mark was made that can be taken back."""
        return bool(self._before)

    def undo(self) -> None:
        """Take back the last mark: each study gets the status and the tags that it had."""
        if not self._before:
            return
        before = self._before.pop()
        engine = self._engine

        def work() -> None:
            for old in before:
                uid, now = (old.study_uid,), self._engine.study_line(old.study_uid)
                if now.status != old.status:
                    engine.set_status(uid, old.status)
                for tag in set(now.tags) - set(old.tags):
                    engine.remove_tag(uid, tag)
                for tag in set(old.tags) - set(now.tags):
                    engine.add_tag(uid, tag)

        self._write(tuple(line.study_uid for line in before), work)

    def request_delete(self) -> None:
        """Ask whoever confirms deletions to delete the studies."""
        if self.delete_requested is not None and self.studies:
            self.delete_requested(self.studies)

    def _change(self, uids: tuple[str, ...], work: Callable[[], None]) -> None:
        if uids:
            before = self.lines()
            self._write(uids, work, lambda: self._remember(before))

    def _remember(self, before: list[StudyLine]) -> None:
        self._before = [*self._before, before][-_STEPS_KEPT:]

    def _write(
        self, uids: tuple[str, ...], work: Callable[[], None], kept: Callable[[], None] = lambda: None
    ) -> None:
        def write() -> tuple[list[StudyLine], tuple[str, ...]]:
            work()
            return [self._engine.study_line(uid) for uid in uids], self._engine.all_tags()

        def done(answer: tuple[list[StudyLine], tuple[str, ...]]) -> None:
            lines, tags = answer
            kept()
            self._worklist.take_lines(lines)
            self._worklist.set_tags(tags)
            wanted = self._worklist.state.wanted
            if wanted.statuses or wanted.tags:
                self._worklist.refresh()
            self.changed()

        self._tasks.db(write, done, self._notices.report)


def plain_tag(text: str) -> str:
    """Return a tag as it is kept: one line, no control characters, not too long."""
    return isolated(" ".join(text.split()))[:LONGEST_TAG].strip()
