"""The elements of the instance on screen: follows the picture, searches, hides who the patient is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.presenters.identity import IdentityState
from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, ReviewEngine, Tasks
from app.presenters.ports_library import OpenedTags
from core.domain.errors import AppError
from core.domain.person_name import isolated
from core.domain.study import SeriesSummary
from core.domain.tags import HIDDEN, TagDocument, TagLine

FOUND_AT_MOST = 2000
COMPARE_NOT, COMPARE_PREVIOUS, COMPARE_NEXT = 0, -1, 1
_EMPTY = "Open a series to see the elements of its files."


@dataclass(frozen=True)
class TagsState:
    """What the viewer shows. ``found`` is None while nothing is searched, else the lines that match.

    ``message`` stands in place of the tree; ``note`` beside it.
    """

    document: TagDocument | None = None
    title: str = ""
    position: int = 0
    total: int = 0
    frames: int = 1
    following: bool = True
    compare: int = COMPARE_NOT
    compared_with: int | None = None
    query: str = ""
    found: tuple[TagLine, ...] | None = None
    identity_hidden: bool = False
    loading: bool = False
    message: str = _EMPTY
    note: str = ""

    @property
    def place(self) -> str:
        """Which instance is shown, in words."""
        if not self.total:
            return ""
        frames = f", {self.frames} frames" if self.frames > 1 else ""
        return f"File {self.position + 1} of {self.total}{frames}"

    @property
    def found_words(self) -> str:
        """How much the search found."""
        if self.found is None:
            return ""
        if not self.found:
            return f"Nothing matches “{self.query}”."
        more = "first " if len(self.found) >= FOUND_AT_MOST else ""
        return f"{more}{len(self.found)} found"


class TagsPresenter(Presenter[TagsState]):
    """Reads elements only while somebody looks at them (``show`` and ``hide``)."""

    def __init__(self, engine: ReviewEngine, tasks: Tasks, notices: NoticesPresenter) -> None:
        super().__init__(TagsState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._visible = False
        self._series: SeriesSummary | None = None
        self._wanted = 0
        self._slices = 0
        self._generation = 0
        self._search_generation = 0
        self._shown: tuple[str, int, int] = ("", -1, 0)

    # -- what to show ------------------------------------------------------------------------------

    def set_visible(self, visible: bool) -> None:
        """Say whether the viewer is on screen; nothing is read while it isn't."""
        self._visible = visible
        self._read()

    def set_series(self, series: SeriesSummary | None) -> None:
        """Follow to another series."""
        if series is not None and self._series is not None and series.key == self._series.key:
            return
        self._series = series
        self._wanted, self._slices = 0, 0
        title = "" if series is None else series.description or series.modality
        self._publish(replace(self.state, title=title, following=True, position=0, total=0, note=""))
        if series is None:
            self._publish(TagsState(identity_hidden=self.state.identity_hidden))
            self._shown = ("", -1, 0)
        self._read()

    def follow_slice(self, place: int, slices: int) -> None:
        """Take the slice on screen: number ``place`` of ``slices`` in the order of the index."""
        self._slices = slices
        if self.state.following and place != self._wanted:
            self._wanted = place
            self._read()

    def set_following(self, following: bool) -> None:
        """Follow the picture, or stay."""
        self._publish(replace(self.state, following=following))

    def step(self, by: int) -> None:
        """Go to the previous or next file; the picture stays."""
        if self.state.total:
            self.go_to(self.state.position + by)

    def go_to(self, position: int) -> None:
        """Show a file by its number from 0; the viewer then no longer follows the picture."""
        place = max(0, min(position, max(self.state.total - 1, 0)))
        self._publish(replace(self.state, following=False))
        self._wanted = place
        self._read()

    def compare(self, with_neighbour: int) -> None:
        """Mark what differs from the file before (−1) or after (1); 0 marks nothing."""
        self._publish(replace(self.state, compare=with_neighbour))
        self._read()

    def _read(self) -> None:
        series = self._series
        if series is None or not self._visible:
            return
        place = self._file_of_slice() if self.state.following else self._wanted
        wanted = (series.key, place, self.state.compare)
        if wanted == self._shown:
            return
        self._shown = wanted
        self._generation += 1
        generation = self._generation
        self._publish(replace(self.state, loading=True))

        def done(opened: OpenedTags) -> None:
            if generation == self._generation:
                self._take(opened)

        def failed(error: AppError) -> None:
            if generation == self._generation:
                self._shown = ("", -1, 0)
                words = f"{error.user_message} {error.remedy}".strip()
                self._publish(
                    replace(self.state, document=None, found=None, loading=False, message=words, total=0)
                )

        key, compare = series.key, self.state.compare
        self._tasks.io(lambda: self._engine.open_tags(key, place, compare), done, failed)

    def _file_of_slice(self) -> int:
        """Return which file the slice on screen comes from; a file of many frames is one."""
        series = self._series
        if series is None or series.instances <= 1:
            return 0
        return min(self._wanted, series.instances - 1)

    def _take(self, opened: OpenedTags) -> None:
        resampled = self.state.following and self._slices > 1 and opened.total not in (1, self._slices)
        time_points = self._series.time_points if self._series is not None else 1
        if time_points > 1 and opened.total == self._slices * time_points:
            resampled = False
        note = "The slices were resampled: a picture has no file of its own." if resampled else ""
        self._publish(
            replace(
                self.state,
                document=opened.document,
                position=opened.position,
                total=opened.total,
                frames=opened.frames,
                compared_with=opened.compared_with,
                loading=False,
                message="",
                note=note,
            )
        )
        self._search()

    # -- search ------------------------------------------------------------------------------------

    def search(self, query: str) -> None:
        """List the lines that contain ``query``; an empty one shows the tree again."""
        self._publish(replace(self.state, query=query))
        self._search()

    def _search(self) -> None:
        self._search_generation += 1
        generation = self._search_generation
        query, document, hidden = self.state.query.strip(), self.state.document, self.state.identity_hidden
        if not query or document is None:
            self._publish(replace(self.state, found=None))
            return

        def done(found: tuple[TagLine, ...]) -> None:
            if generation == self._search_generation:
                self._publish(replace(self.state, found=found))

        self._tasks.io(lambda: document.search(query, FOUND_AT_MOST, hidden), done, self._notices.report)

    # -- identity ----------------------------------------------------------------------------------

    def show_state(self, state: IdentityState) -> None:
        """Take whether identity is hidden, as a view of its presenter."""
        if state.hidden != self.state.identity_hidden:
            self._publish(replace(self.state, identity_hidden=state.hidden))
            self._search()


def value_to_show(line: TagLine, identity_hidden: bool) -> str:
    """Return a value for screen and clipboard; one that identifies is masked while identity is hidden."""
    if identity_hidden and line.identifies and line.value:
        return HIDDEN
    return isolated(line.value)


def text_to_copy(lines: tuple[TagLine, ...], identity_hidden: bool, values_only: bool) -> str:
    """Return lines for the clipboard: the value of one, or whole lines separated by tabs."""
    shown = []
    for line in lines:
        value = HIDDEN if identity_hidden and line.identifies and line.value else line.value
        shown.append(
            value if values_only else "\t".join((line.tag, line.keyword or line.name, line.vr, value))
        )
    return "\n".join(shown)
