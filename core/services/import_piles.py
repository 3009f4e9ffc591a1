"""Headers of an import by series, until a series is complete enough to enter the library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from core.dicom.header import Header

QUIET_FILES = 512
"""Files of other series after which a series whose folders were left counts as complete."""
QUIET_FILES_IN_FOLDER = 2048
"""The same while one of its folders is still being read: files of many series may lie mixed in one."""
KEPT_HEADERS = 12_000
"""Headers of series in the library that stay in memory in case that more files of them come."""


@dataclass(eq=False)
class Pile:
    """The headers of one series. ``written`` is how many of them are in the library."""

    headers: list[Header] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    last: int = 0
    written: int = 0
    shortfall: int = 0
    dropped: bool = False

    @property
    def series_uid(self) -> str:
        """Series Instance UID."""
        return self.headers[0].series_uid


class SeriesPiles:
    """Sorts headers into piles and tells which are due."""

    def __init__(self) -> None:
        self._piles: dict[tuple[str, str], Pile] = {}
        self._fresh: dict[Pile, None] = {}
        self._written: dict[Pile, None] = {}
        self._in_folder: dict[str, set[Pile]] = {}
        self._count = 0

    def add(self, header: Header) -> None:
        """Lay a header onto the pile of its series."""
        self._count += 1
        key = (header.study_uid, header.series_uid)
        pile = self._piles.get(key)
        if pile is None or pile.dropped:
            pile = self._piles[key] = Pile()
        pile.headers.append(header)
        pile.last = self._count
        folder = str(header.file)
        folder = folder[: max(folder.rfind("/"), folder.rfind("\\"), 0)]
        if folder not in pile.folders:
            pile.folders.add(folder)
            self._in_folder.setdefault(folder, set()).add(pile)
        self._fresh[pile] = None

    def leave(self, folder: str) -> None:
        """Hear that the walk is done with a folder."""
        for pile in self._in_folder.pop(folder, ()):
            pile.folders.discard(folder)

    def settled(self) -> list[Pile]:
        """Return the piles with something new whose series seem complete."""
        return [pile for pile in self._fresh if self._is_quiet(pile)]

    def growing(self) -> list[Pile]:
        """Return all piles with something new."""
        return list(self._fresh)

    def largest(self) -> list[Pile]:
        """Return the pile with the most that is new."""
        most = max(self._fresh, key=lambda pile: len(pile.headers) - pile.written, default=None)
        return [] if most is None else [most]

    def wrote(self, piles: Sequence[Pile]) -> None:
        """Hear that piles are in the library; the oldest ones are dropped when too many headers are kept."""
        for pile in piles:
            pile.written = len(pile.headers)
            self._fresh.pop(pile, None)
            self._written.pop(pile, None)
            self._written[pile] = None
        kept = sum(pile.written for pile in self._written)
        for pile in list(self._written):
            if kept <= KEPT_HEADERS:
                break
            if pile in self._fresh or not self._is_quiet(pile):
                continue
            kept -= pile.written
            del self._written[pile]
            self._drop(pile)

    def _drop(self, pile: Pile) -> None:
        key = (pile.headers[0].study_uid, pile.headers[0].series_uid)
        pile.dropped = True
        pile.headers = []
        if self._piles.get(key) is pile:
            del self._piles[key]

    def _is_quiet(self, pile: Pile) -> bool:
        quiet = self._count - pile.last
        return quiet >= (QUIET_FILES_IN_FOLDER if pile.folders else QUIET_FILES)


def replace_headers(piles: Sequence[Pile], kept: Sequence[Header]) -> None:
    """Leave those headers on the piles that are among ``kept``."""
    counted = Counter(map(id, kept))
    for pile in piles:
        pile.headers = [header for header in pile.headers if counted[id(header)]]
