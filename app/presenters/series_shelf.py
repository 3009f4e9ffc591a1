"""The series that were read already: of what is unfolded or open, and of a few studies more."""

from __future__ import annotations

from collections.abc import Collection

from core.domain.study import SeriesSummary

MOST_STUDIES = 64


class SeriesShelf:
    """Holds series by study and by key; the whole library's never lie here."""

    def __init__(self) -> None:
        self.by_study: dict[str, tuple[SeriesSummary, ...]] = {}
        self._by_key: dict[str, SeriesSummary] = {}

    def put(self, study_uid: str, series: tuple[SeriesSummary, ...], needed: Collection[str]) -> None:
        """Take the series of a study; beyond ``MOST_STUDIES``, those of studies not ``needed`` go, the oldest first."""
        self.drop((study_uid,))
        self.by_study[study_uid] = series
        self._by_key.update({found.key: found for found in series})
        spare = [uid for uid in self.by_study if uid not in needed and uid != study_uid]
        self.drop(spare[: max(0, len(self.by_study) - MOST_STUDIES)])

    def put_one(self, summary: SeriesSummary) -> None:
        """Take a series that was opened before its study was read."""
        self._by_key.setdefault(summary.key, summary)

    def drop(self, study_uids: Collection[str]) -> None:
        """Forget the series of some studies."""
        for uid in study_uids:
            for gone in self.by_study.pop(uid, ()):
                self._by_key.pop(gone.key, None)

    def get(self, series_key: str) -> SeriesSummary | None:
        """Return a series by its key."""
        return self._by_key.get(series_key)

    def of(self, study_uid: str) -> tuple[SeriesSummary, ...]:
        """Return the series of a study; none when they were not read."""
        return self.by_study.get(study_uid, ())
