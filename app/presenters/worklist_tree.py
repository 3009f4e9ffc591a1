"""From studies and identities to the lines of the worklist: pure, so that it can be tested as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.presenters.wording import date_in_words, series_detail, series_title
from core.domain.person_name import folded, name_in_words, search_text
from core.domain.study import PatientIdentity, SeriesSummary, StudySummary


@dataclass(frozen=True)
class SeriesRow:
    """A series as a line of the tree; ``caution`` is the first thing to know about it, or empty."""

    key: str
    modality: str
    title: str
    detail: str
    caution: str
    kind: str


@dataclass(frozen=True)
class StudyRow:
    """A study as a line of the tree; ``results`` counts results that wait for a verdict."""

    uid: str
    title: str
    date: str
    modalities: tuple[str, ...]
    status: str
    series: tuple[SeriesRow, ...]
    results: int = 0


@dataclass(frozen=True)
class PatientRow:
    """A patient as a line of the tree; ``name`` is the pseudonym when identity is hidden or unknown."""

    key: str
    name: str
    detail: str
    studies: tuple[StudyRow, ...]


@dataclass(frozen=True)
class Index:
    """The index as read from the library, with its search texts folded once."""

    studies: tuple[StudySummary, ...] = ()
    identities: Mapping[str, PatientIdentity] | None = None
    texts: Mapping[str, str] | None = None

    @classmethod
    def of(cls, studies: Sequence[StudySummary], identities: Mapping[str, PatientIdentity]) -> Index:
        """Build the index and its search texts."""
        texts = {
            s.study_uid: _search_text(s, identities.get(s.study_uid, PatientIdentity())) for s in studies
        }
        return cls(tuple(studies), identities, texts)

    def identity(self, study_uid: str) -> PatientIdentity:
        """Return who the patient of a study is; empty when the vault doesn't know."""
        return (self.identities or {}).get(study_uid, PatientIdentity())

    def study(self, study_uid: str) -> StudySummary | None:
        """Return a study by its UID."""
        return next((s for s in self.studies if s.study_uid == study_uid), None)

    def name(self, study: StudySummary, hidden: bool) -> str:
        """Return the patient's name, or the pseudonym when it is hidden or unknown."""
        name = self.identity(study.study_uid).patient_name
        return study.pseudonym if hidden or not name.strip("^= ") else name_in_words(name)


def build_tree(index: Index, query: str, hidden: bool, waiting: Mapping[str, int]) -> tuple[PatientRow, ...]:
    """Return the lines for the studies that contain every word of ``query``."""
    words = folded(query).split()
    grouped: dict[str, list[StudySummary]] = {}
    for study in index.studies:
        text = (index.texts or {})[study.study_uid]
        if all(word in text for word in words):
            grouped.setdefault(study.pseudonym, []).append(study)
    return tuple(_patient(key, studies, index, hidden, waiting) for key, studies in grouped.items())


def priors_of(index: Index, study_uid: str, waiting: Mapping[str, int]) -> tuple[StudyRow, ...]:
    """Return the other studies of the same patient, newest first."""
    study = index.study(study_uid)
    if study is None:
        return ()
    others = [s for s in index.studies if s.pseudonym == study.pseudonym and s.study_uid != study_uid]
    others.sort(key=lambda s: s.study_date, reverse=True)
    return tuple(study_row(s, waiting) for s in others)


def study_row(study: StudySummary, waiting: Mapping[str, int]) -> StudyRow:
    """Return a study's line with those of its series."""
    return StudyRow(
        study.study_uid,
        study.description or "Study without description",
        date_in_words(study.study_date),
        study.modalities,
        study.status,
        tuple(_series_row(series) for series in study.series),
        waiting.get(study.study_uid, 0),
    )


def _patient(
    key: str, studies: list[StudySummary], index: Index, hidden: bool, waiting: Mapping[str, int]
) -> PatientRow:
    identity = index.identity(studies[0].study_uid)
    private = [] if hidden else [identity.patient_id, date_in_words(identity.birth_date)]
    detail = " · ".join(part for part in [*private, identity.sex] if part)
    rows = tuple(study_row(study, waiting) for study in studies)
    return PatientRow(key, index.name(studies[0], hidden), detail, rows)


def _series_row(series: SeriesSummary) -> SeriesRow:
    caution = series.issues[0].message if series.issues else ""
    kind = str(series.kind)
    return SeriesRow(series.key, series.modality, series_title(series), series_detail(series), caution, kind)


def _search_text(study: StudySummary, identity: PatientIdentity) -> str:
    words = [study.pseudonym, study.description, study.study_date, study.status, *study.modalities]
    words += [identity.patient_id, identity.accession_number]
    words += [f"{s.description} {s.body_part} {s.modality}" for s in study.series]
    return f"{folded(' '.join(words))} {search_text(identity.patient_name)}"
