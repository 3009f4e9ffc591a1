"""What the worklist shows, as its views draw it."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.presenters.worklist_rows import Row
from app.presenters.worklist_words import Wording
from core.domain.browse import SavedFilter, StudyFilter


@dataclass(frozen=True)
class PriorRow:
    """Another study of the patient whose study is open; ``relation`` is ``"prior"`` or ``"newer"``."""

    uid: str
    date: str
    modalities: str
    title: str
    relation: str
    interval: str
    status: str


@dataclass(frozen=True)
class WorklistState:
    """What the worklist shows.

    Attributes
    ----------
    rows : tuple of Row
        The visible lines; their words come from ``WorklistPresenter.words``. ``version`` changes with the words.
    found, total : int
        Studies that match, and studies in the library.
    modalities, tags : tuple of str
        What the whole library offers for filtering.
    newer : str
        When the open study isn't the patient's newest, the date of the newest; else empty.
    waiting : int
        Results that wait for a verdict in all studies.
    """

    rows: tuple[Row, ...] = ()
    version: int = 0
    found: int = 0
    total: int = 0
    wanted: StudyFilter = field(default_factory=StudyFilter)
    modalities: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    saved: tuple[SavedFilter, ...] = ()
    columns: tuple[str, ...] = Wording().columns
    sort: str = "imported"
    identity_hidden: bool = False
    current_series: str = ""
    current_study: str = ""
    priors: tuple[PriorRow, ...] = ()
    newer: str = ""
    waiting: int = 0
    loaded: bool = False

    @property
    def query(self) -> str:
        """The words that are searched for."""
        return self.wanted.text

    @property
    def filtered(self) -> bool:
        """Whether anything narrows the list."""
        return self.wanted != StudyFilter()
