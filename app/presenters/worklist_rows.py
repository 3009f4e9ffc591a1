"""From study lines to the rows of the worklist: grouped, sorted, folded. Pure, so that it can be tested as a table.

Everything that grows with the library (``Listing.of``) runs on the database thread; what the GUI thread does for
10,000 studies (``flatten``) only joins tuples that exist already.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from core.domain.browse import StudyLine
from core.domain.person_name import folded
from core.domain.study import SeriesKind, SeriesSummary

PATIENT, STUDY, SERIES, NOTE = "patient", "study", "series", "note"
SORTS = (
    ("imported", "Newest import first"),
    ("date", "Newest study first"),
    ("name", "Name"),
    ("modality", "Modality"),
)
_NAMES_KEPT = 50_000


class Row(NamedTuple):
    """One line of the list: what it is, whose it is, how far it is indented."""

    kind: str
    uid: str
    depth: int = 0

    @property
    def key(self) -> str:
        """What identifies the line between two states, such as ``"series:1.2.3"``."""
        return f"{self.kind}:{self.uid}"


class PatientGroup(NamedTuple):
    """The studies of one patient in their order, with their rows, made once."""

    key: str
    lines: tuple[StudyLine, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, eq=False)
class Listing:
    """The studies that match, as the list shows them.

    ``lines`` holds every study by its UID, in order; ``group_of`` and ``by_patient`` find a patient's group.
    """

    groups: tuple[PatientGroup, ...] = ()
    lines: Mapping[str, StudyLine] = field(default_factory=dict)
    group_of: Mapping[str, PatientGroup] = field(default_factory=dict)
    by_patient: Mapping[str, PatientGroup] = field(default_factory=dict)

    @classmethod
    def of(cls, lines: Iterable[StudyLine], sort: str = "imported", before: Listing | None = None) -> Listing:
        """Group and sort the lines.

        A patient stands where the first of the patient's studies stands; within a patient, the newest study is first.
        Groups that are as they were ``before`` are taken from there: most are, while somebody types.
        """
        grouped: dict[str, list[StudyLine]] = {}
        for line in sorted_lines(lines, sort):
            grouped.setdefault(line.patient_key, []).append(line)
        for found in grouped.values():
            if len(found) > 1:
                found.sort(key=_day_of_study, reverse=True)
        known = before.by_patient if before is not None else {}
        groups = tuple(_group(key, found, known.get(key)) for key, found in grouped.items())
        return cls._made(groups)

    @classmethod
    def _made(cls, groups: tuple[PatientGroup, ...]) -> Listing:
        by_uid = {line.study_uid: line for group in groups for line in group.lines}
        group_of = {line.study_uid: group for group in groups for line in group.lines}
        return cls(groups, by_uid, group_of, {group.key: group for group in groups})

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that occur, in alphabetical order."""
        return tuple(sorted({m for line in self.lines.values() for m in line.modalities}))

    def order(self) -> list[str]:
        """Return the UIDs of the studies as listed."""
        return list(self.lines)

    def changed(self, study_uids: Collection[str], change: Callable[[StudyLine], StudyLine]) -> Listing:
        """Return the listing with some lines replaced, in the same order."""
        lines = {**self.lines}
        touched = {self.group_of[uid].key for uid in study_uids if uid in lines}
        lines.update({uid: change(lines[uid]) for uid in study_uids if uid in lines})
        groups = tuple(
            group._replace(lines=tuple(lines[line.study_uid] for line in group.lines))
            if group.key in touched
            else group
            for group in self.groups
        )
        return Listing._made(groups)


def sorted_lines(lines: Iterable[StudyLine], sort: str) -> list[StudyLine]:
    """Return lines in an order of ``SORTS``; studies that are alike stand newest first."""
    newest = sorted(lines, key=lambda line: line.imported_utc, reverse=True)
    if sort == "date":
        newest.sort(key=lambda line: line.study_date, reverse=True)
    elif sort == "name":
        newest.sort(key=lambda line: typed_name(line))
    elif sort == "modality":
        newest.sort(key=lambda line: (not line.modalities, line.modalities))
    return newest


def _day_of_study(line: StudyLine) -> str:
    return line.study_date


def typed_name(line: StudyLine) -> str:
    """Return the name as one types it to get there; a patient without a name stands last, by pseudonym."""
    return _typed(line.identity.patient_name, line.patient_key)


@lru_cache(maxsize=_NAMES_KEPT)
def _typed(patient_name: str, patient_key: str) -> str:
    return folded(patient_name.partition("=")[0]) or folded(patient_name) or f"\uffff{patient_key.casefold()}"


def _group(key: str, lines: list[StudyLine], before: PatientGroup | None) -> PatientGroup:
    if before is not None and _same(before.lines, lines):
        return before
    rows = (Row(PATIENT, key), *[Row(STUDY, line.study_uid, 1) for line in lines])
    return PatientGroup(key, tuple(lines), rows)


def _same(lines: Sequence[StudyLine], others: Sequence[StudyLine]) -> bool:
    return len(lines) == len(others) and all(one is other for one, other in zip(lines, others, strict=True))


def flatten(
    listing: Listing,
    folded_patients: Collection[str],
    unfolded: Collection[str],
    series: Mapping[str, Sequence[SeriesSummary]],
) -> tuple[Row, ...]:
    """Return the visible rows.

    Parameters
    ----------
    folded_patients : collection of str
        Keys of patients whose studies are not shown.
    unfolded : collection of str
        UIDs of studies whose series are shown.
    series : mapping
        The series of studies that were read already; an unfolded study without them has a note.
    """
    open_groups = {listing.group_of[uid].key for uid in unfolded if uid in listing.group_of}
    rows: list[Row] = []
    for group in listing.groups:
        if group.key in folded_patients:
            rows.append(group.rows[0])
        elif group.key in open_groups:
            rows.append(group.rows[0])
            for row in group.rows[1:]:
                rows.append(row)
                if row.uid in unfolded:
                    rows.extend(_series_rows(row.uid, series.get(row.uid)))
        else:
            rows.extend(group.rows)
    return tuple(rows)


def _series_rows(study_uid: str, series: Sequence[SeriesSummary] | None) -> list[Row]:
    if series is None:
        return [Row(NOTE, study_uid, 2)]
    return [Row(SERIES, found.key, depth) for found, depth in arranged(series)]


def arranged(series: Sequence[SeriesSummary]) -> list[tuple[SeriesSummary, int]]:
    """Return the series of a study with their depths: a derived object stands below its source, one step in.

    An object whose source isn't in the study stands at the end, as does one that names none.
    """
    pictures = [s for s in series if s.kind is not SeriesKind.OTHER]
    objects = [s for s in series if s.kind is SeriesKind.OTHER]
    owner = {picture.series_uid: picture.key for picture in reversed(pictures)}
    below: dict[str, list[SeriesSummary]] = {}
    homeless: list[SeriesSummary] = []
    for found in objects:
        home = next((owner[uid] for uid in found.source_series if uid in owner), None)
        if home is None:
            homeless.append(found)
        else:
            below.setdefault(home, []).append(found)
    rows: list[tuple[SeriesSummary, int]] = []
    for picture in pictures:
        rows.append((picture, 2))
        rows.extend((found, 3) for found in below.get(picture.key, ()))
    rows.extend((found, 2) for found in homeless)
    return rows


def first_to_open(series: Sequence[SeriesSummary]) -> SeriesSummary | None:
    """Return the series of a study to open first: the largest volume, else the first with pixels."""
    shown = [s for s in series if s.kind is not SeriesKind.OTHER]
    volumes = [s for s in shown if s.kind is SeriesKind.VOLUME]
    if volumes:
        return max(volumes, key=lambda s: s.frames)
    return shown[0] if shown else None
