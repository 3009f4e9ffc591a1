"""Watched folders: what arrives there is imported without a word. Off until a folder is added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.presenters.importing import ImportPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, ReviewEngine, Tasks
from app.presenters.ports_library import COPY, FIXED, LINK, UNKNOWN
from core.domain.errors import AppError


@dataclass(frozen=True)
class WatchState:
    """The watched folders, and how many files came from them since the start."""

    folders: tuple[Path, ...] = ()
    arrived: int = 0

    @property
    def words(self) -> str:
        """What the settings say."""
        if not self.folders:
            return "Off. New files of a watched folder are imported by themselves."
        return f"On. {self.arrived} files came since the start." if self.arrived else "On. Nothing new yet."


class WatchPresenter(Presenter[WatchState]):
    """Adds and removes folders, and hands what arrives to the imports."""

    def __init__(
        self, engine: ReviewEngine, tasks: Tasks, notices: NoticesPresenter, imports: ImportPresenter
    ) -> None:
        super().__init__(WatchState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._imports = imports

    def load(self) -> None:
        """Begin to watch the folders of the settings."""
        self._tasks.db(self._engine.watched_folders, self._take_folders, self._notices.report)

    def add(self, folder: Path) -> None:
        """Watch a folder too."""
        if folder not in self.state.folders:
            self._keep((*self.state.folders, folder))

    def remove(self, folder: Path) -> None:
        """Watch a folder no longer; what came from it stays."""
        self._keep(tuple(other for other in self.state.folders if other != folder))

    def _keep(self, folders: tuple[Path, ...]) -> None:
        self._tasks.db(
            lambda: self._engine.set_watched_folders(folders), self._take_folders, self._notices.report
        )

    def _take_folders(self, folders: tuple[Path, ...]) -> None:
        if folders == self.state.folders:
            return
        self._publish(replace(self.state, folders=folders))
        self._tasks.io(
            lambda: self._engine.watch(folders, self._on_files), lambda _: None, self._notices.report
        )

    def _on_files(self, files: Sequence[Path]) -> None:
        """Take new files, on the watching thread."""
        kept = tuple(files)
        try:
            medium = self._engine.medium_of(kept[:1])
        except AppError:
            medium = UNKNOWN
        # A folder on a share is emptied by others: a link into it would break.
        mode = LINK if medium in (FIXED, UNKNOWN) else COPY
        self._tasks.post(lambda: self._arrived(kept, mode))

    def _arrived(self, files: tuple[Path, ...], mode: str) -> None:
        self._publish(replace(self.state, arrived=self.state.arrived + len(files)))
        self._imports.import_watched(files, mode)
