"""The study browser's part of the gateway: each method is one service call, on a worker thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from core.domain.browse import SavedFilter, StudyFilter, StudyLine
from core.domain.study import ReadStatus, SeriesSummary

if TYPE_CHECKING:
    from core.services.engine import Engine


class BrowserGateway(ABC):
    """Calls the services of the browser; ``engine`` comes from the class that inherits this one."""

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """The opened engine."""

    def study_lines(self, wanted: StudyFilter) -> Sequence[StudyLine]:
        """Return the studies that match."""
        from core.services import browse

        return browse.study_lines(self.engine, wanted)

    def study_line(self, study_uid: str) -> StudyLine:
        """Return one study as the library has it now."""
        from core.services import browse

        return browse.study_line(self.engine, study_uid)

    def series_of(self, study_uid: str) -> tuple[SeriesSummary, ...]:
        """Return the series of one study."""
        from core.services import browse

        return browse.series_of(self.engine, study_uid)

    def priors_of(self, study_uid: str) -> Sequence[StudyLine]:
        """Return the other studies of the same patient."""
        from core.services import browse

        return browse.priors_of(self.engine, study_uid)

    def waiting_counts(self) -> Mapping[str, int]:
        """Return how many results of each study wait for a verdict."""
        from core.services import browse

        return browse.waiting_counts(self.engine)

    def waiting_series(self, study_uid: str) -> str:
        """Return the key of the series whose result waits, or an empty string."""
        from core.services import results

        for result in results.results_for(self.engine, study_uid):
            decided = results.decisions_for(self.engine, result.result_id)
            if len(decided) < len(result.findings):
                return result.series_uid
        return ""

    def set_status(self, study_uids: Sequence[str], status: ReadStatus) -> None:
        """Say how far the reading of some studies is."""
        from core.services import browse

        for study_uid in study_uids:
            browse.set_status(self.engine, study_uid, status)

    def add_tag(self, study_uids: Sequence[str], tag: str) -> None:
        """Put a tag on some studies."""
        from core.services import browse

        for study_uid in study_uids:
            browse.add_tag(self.engine, study_uid, tag)

    def remove_tag(self, study_uids: Sequence[str], tag: str) -> None:
        """Take a tag off some studies."""
        from core.services import browse

        for study_uid in study_uids:
            browse.remove_tag(self.engine, study_uid, tag)

    def all_tags(self) -> tuple[str, ...]:
        """Return every tag in use."""
        from core.services import browse

        return tuple(browse.all_tags(self.engine))

    def saved_filters(self) -> tuple[SavedFilter, ...]:
        """Return the filters that were saved under a name."""
        from core.services import browse

        return tuple(browse.saved_filters(self.engine))

    def save_filter(self, name: str, wanted: StudyFilter) -> None:
        """Keep a filter under a name."""
        from core.services import browse

        browse.save_filter(self.engine, name, wanted)

    def delete_filter(self, name: str) -> None:
        """Forget a saved filter."""
        from core.services import browse

        browse.delete_filter(self.engine, name)
