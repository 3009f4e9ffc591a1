"""What the study browser needs from the engine: study lines, series on demand, marks, filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from core.domain.browse import SavedFilter, StudyFilter, StudyLine
from core.domain.study import ReadStatus, SeriesSummary


class BrowserEngine(Protocol):
    """The services behind the worklist; every method blocks."""

    def study_lines(self, wanted: StudyFilter) -> Sequence[StudyLine]:
        """Return the studies that match, the newest import first, without their series."""

    def study_line(self, study_uid: str) -> StudyLine:
        """Return one study as the library has it now; raises InputError when it isn't there."""

    def series_of(self, study_uid: str) -> tuple[SeriesSummary, ...]:
        """Return the series of one study, derived objects included."""

    def priors_of(self, study_uid: str) -> Sequence[StudyLine]:
        """Return the other studies of the same patient."""

    def waiting_counts(self) -> Mapping[str, int]:
        """Return, by study UID, how many results wait for a verdict; one query for the whole library."""

    def waiting_series(self, study_uid: str) -> str:
        """Return the key of the series whose result waits, or an empty string."""

    def set_status(self, study_uids: Sequence[str], status: ReadStatus) -> None:
        """Say how far the reading of some studies is."""

    def add_tag(self, study_uids: Sequence[str], tag: str) -> None:
        """Put a tag on some studies."""

    def remove_tag(self, study_uids: Sequence[str], tag: str) -> None:
        """Take a tag off some studies."""

    def all_tags(self) -> tuple[str, ...]:
        """Return every tag in use."""

    def saved_filters(self) -> tuple[SavedFilter, ...]:
        """Return the filters that were saved under a name."""

    def save_filter(self, name: str, wanted: StudyFilter) -> None:
        """Keep a filter under a name; one of that name is replaced."""

    def delete_filter(self, name: str) -> None:
        """Forget a saved filter."""
