"""The elements of the instance on screen: follows the picture, searches, hides who the patient is.

Files are counted as the viewport counts its pictures: from head to feet, from front to back, from right to left. The
index may hold them the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from app.presenters.identity import IdentityState
from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, ReviewEngine, Tasks
from app.presenters.ports_library import OpenedTags
from core.domain.errors import AppError
from core.domain.person_name import isolated
from core.domain.study import SeriesKind, SeriesSummary
from core.domain.tags import HIDDEN, TagDocument, TagLine

FOUND_AT_MOST = 2000
COMPARE_NOT, COMPARE_PREVIOUS, COMPARE_NEXT = 0, -1, 1
_AGAINST_PICTURES = "SAR"
"""Directions of growing slices that run against the numbers of the pictures."""
_EMPTY = "Open a series to see the elements of its files."


@dataclass(frozen=True)
class TagsState:
    """What the viewer shows. ``found`` is None while nothing is searched, else the lines that match.

    ``position`` is the file's place in the index, ``number`` its number as pictures are counted, both from 0;
    ``pictures`` of them make a time point, 0 where files and pictures don't correspond. ``elsewhere`` names the series
    when it isn't the open one. ``message`` stands in place of the tree; ``note`` beside it.
    """

    document: TagDocument | None = None
    title: str = ""
    elsewhere: str = ""
    position: int = 0
    number: int = 0
    total: int = 0
    pictures: int = 0
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
        if not self.pictures:
            return f"File {self.number + 1} of {self.total}{frames}"
        time_point, number = divmod(self.number, self.pictures)
        points = self.total // self.pictures
        time = f", t {time_point + 1} of {points}" if points > 1 else ""
        return f"Image {number + 1} of {self.pictures}{time}{frames}"

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
        self._opened: SeriesSummary | None = None
        self._wanted = 0
        self._slice = 0
        self._slices = 0
        self._reversed: bool | None = None
        self._generation = 0
        self._search_generation = 0
        self._shown: tuple[str, int, int] = ("", -1, 0)
        self.series_in_words: Callable[[SeriesSummary], str] = lambda series: series.description

    # -- what to show ------------------------------------------------------------------------------

    def set_visible(self, visible: bool) -> None:
        """Say whether the viewer is on screen; nothing is read while it isn't."""
        self._visible = visible
        self._read()

    def set_series(self, series: SeriesSummary | None) -> None:
        """Follow to another series."""
        if series is not None and self._opened is not None and series.key == self._opened.key:
            return
        self._opened = series
        self._slice, self._slices, self._reversed = 0, 0, None
        self._show_series(series, following=True)

    def inspect(self, series: SeriesSummary) -> None:
        """Show the elements of any series; the picture stays, and following it leads back to the open one."""
        self._show_series(series, following=self._opened is not None and series.key == self._opened.key)

    def _show_series(self, series: SeriesSummary | None, following: bool) -> None:
        self._series = series
        # Another series begins with its first picture, which may be the last file.
        self._wanted = self._slice if following or series is None else self._swap(0)
        if series is None:
            self._publish(TagsState(identity_hidden=self.state.identity_hidden))
            self._shown = ("", -1, 0)
            return
        title = series.description or series.modality
        self._publish(
            replace(
                self.state,
                title=title,
                elsewhere=self._elsewhere(),
                following=following,
                position=0,
                number=0,
                total=0,
                note="",
            )
        )
        self._read()

    def _elsewhere(self) -> str:
        series = self._series
        if series is None or self._is_opened():
            return ""
        return f"{self.series_in_words(series) or series.modality}: not the series on screen."

    def follow_slice(self, place: int, slices: int, against: bool | None = None) -> None:
        """Take the slice on screen: number ``place`` of ``slices`` in the order of the index.

        ``against`` says whether the viewport counts its pictures against that order; None if nobody knows.
        """
        if (slices, against) != (self._slices, self._reversed):
            self._slices, self._reversed = slices, against
            self._recount()
        self._slice = place
        if self.state.following and place != self._wanted:
            self._wanted = place
            self._read()

    def set_following(self, following: bool) -> None:
        """Follow the picture, or stay."""
        if following and self._opened is not None:
            self._show_series(self._opened, following=True)
        else:
            self._publish(replace(self.state, following=following))

    def step(self, by: int) -> None:
        """Go to the file of the previous or next picture; the picture on screen stays."""
        if self.state.total:
            self.go_to(self.state.number + by)

    def go_to(self, number: int) -> None:
        """Show a file by the number of its picture, from 0; the viewer then no longer follows the picture."""
        number = max(0, min(number, max(self.state.total - 1, 0)))
        self._publish(replace(self.state, following=False))
        self._wanted = self._swap(number)
        self._read()

    def compare(self, with_neighbour: int) -> None:
        """Mark what differs from the file of the picture before (−1) or after (1); 0 marks nothing."""
        self._publish(replace(self.state, compare=with_neighbour))
        self._read()

    def _read(self) -> None:
        series = self._series
        if series is None or not self._visible:
            return
        place = self._file_of_slice() if self.state.following else self._wanted
        compare = self._neighbour(place)
        wanted = (series.key, place, compare)
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

        key = series.key
        self._tasks.io(lambda: self._engine.open_tags(key, place, compare), done, failed)

    def _file_of_slice(self) -> int:
        """Return which file the slice on screen comes from; a file of many frames is one."""
        series = self._series
        if series is None or series.instances <= 1:
            return 0
        return min(self._wanted, series.instances - 1)

    def _pictures(self) -> int:
        """Return how many files make a time point, one for each picture; 0 where they don't correspond."""
        series = self._series
        if series is None:
            return 0
        slices = self._slices if self._is_opened() else 0
        if not slices:
            slices = series.shape_kji[0] if series.shape_kji is not None else series.instances
        return slices if slices and series.instances >= slices and series.instances % slices == 0 else 0

    def _is_opened(self) -> bool:
        return self._series is not None and self._opened is not None and self._series.key == self._opened.key

    def _counts_against(self) -> bool:
        """Whether pictures are counted against the order of the files."""
        series = self._series
        if series is None:
            return False
        if self._is_opened() and self._reversed is not None:
            return self._reversed
        through = series.axis_codes[2:3]
        return series.kind is SeriesKind.VOLUME and bool(through) and through in _AGAINST_PICTURES

    def _swap(self, number: int) -> int:
        """Return the file's place for a picture's number, or the number for a place: the same both ways."""
        if self._series is None or not self._counts_against():
            return number
        group = self._pictures() or max(self._series.instances, 1)
        time_point, within = divmod(number, group)
        return time_point * group + group - 1 - within

    def _neighbour(self, place: int) -> int:
        """Return how far the file to compare with lies from ``place`` in the index; 0 for none."""
        if self._series is None or not self.state.compare:
            return 0
        beside = self._swap(place) + self.state.compare
        return self._swap(beside) - place if 0 <= beside < self._series.instances else 0

    def _recount(self) -> None:
        """Say the number anew: only now is it known how the picture counts."""
        if self.state.total:
            number, pictures = self._swap(self.state.position), self._pictures()
            self._publish(replace(self.state, number=number, pictures=pictures))

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
                number=self._swap(opened.position),
                total=opened.total,
                pictures=self._pictures(),
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
            self._publish(replace(self.state, identity_hidden=state.hidden, elsewhere=self._elsewhere()))
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
