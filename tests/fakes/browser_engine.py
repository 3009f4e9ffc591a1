"""The study browser's part of the engine in memory, and libraries of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.domain.browse import SavedFilter, StudyFilter, StudyLine
from core.domain.errors import InputError
from core.domain.person_name import folded, search_text
from core.domain.study import ObjectKind, PatientIdentity, ReadStatus, SeriesKind, SeriesSummary, StudySummary

FAMILIES = ("Muster", "Okafor", "Łukasiewicz", "Nguyen", "García", "Şahin", "Berg", "Ito", "Haddad", "Olsen")
GIVEN = ("Erika", "Ada", "Jan", "Linh", "José", "Ayşe", "Nils", "Yuki", "Samir", "Ingrid")
KINDS = (
    ("CT", "CT thorax"),
    ("MR", "MR brain"),
    ("CR", "Chest PA"),
    ("US", "Abdomen"),
    ("PT", "PET whole body"),
)


def many_lines(number: int) -> list[StudyLine]:
    """Return study lines of a large library: some patients have several, some studies are read, some wait."""
    return [_line(n) for n in range(number)]


def _line(n: int) -> StudyLine:
    patient = n * 7 // 10
    modality, description = KINDS[n % len(KINDS)]
    name = f"{FAMILIES[patient % 10]}^{GIVEN[patient // 10 % 10]} {patient}"
    identity = PatientIdentity(
        name, f"ID-{patient:06d}", f"19{patient % 90 + 10}0101", "FM"[patient % 2], f"A-{n}"
    )
    return StudyLine(
        f"study-{n}", f"P-{patient:06d}", identity, description, f"{2026 - n // 2000}-{n % 12 + 1:02d}", (modality,),
        n % 5 + 1, 100 + n % 400, list(ReadStatus)[n % 3], ("follow-up",) if n % 50 == 0 else (),
        1 if n % 100 == 3 else 0, n % 40 == 1, f"2026-01-{28 - n * 27 // 20000:02d}T{n % 24:02d}:00:00+00:00",
    )  # fmt: skip


def derived_series(
    key: str, study: str, kind: ObjectKind, *sources: str, description: str = ""
) -> SeriesSummary:
    """Return a series of objects made from other series."""
    modality = {"seg": "SEG", "sr": "SR", "gsps": "PR", "kos": "KO", "rtstruct": "RTSTRUCT", "pdf": "DOC"}
    return SeriesSummary(
        key, key, study, modality.get(kind.value, "OT"), description or kind.value, "", 1, 1, SeriesKind.OTHER, None,
        None, True, object_kind=kind, source_series=sources,
    )  # fmt: skip


class FakeBrowserEngine:
    """Answers from ``studies`` and ``patients``, or from ``lines`` where a test gives them."""

    studies: list[StudySummary]
    patients: dict[str, PatientIdentity]

    def __init__(self) -> None:
        self.lines: list[StudyLine] | None = None
        self.marks: dict[str, ReadStatus] = {}
        self.tags: dict[str, tuple[str, ...]] = {}
        self.filters: dict[str, SavedFilter] = {}
        self._texts: dict[str, str] = {}

    def _note(self, name: str, *arguments: Any) -> None:
        raise NotImplementedError

    def waiting_counts(self) -> Mapping[str, int]:
        return {}

    def waiting_series(self, study_uid: str) -> str:
        return ""

    def _all_lines(self) -> list[StudyLine]:
        if self.lines is not None:
            return self.lines
        counts = self.waiting_counts()
        return [self._line_of(study, counts) for study in self.studies]

    def _line_of(self, study: StudySummary, counts: Mapping[str, int]) -> StudyLine:
        uid = study.study_uid
        return StudyLine(
            uid,
            study.pseudonym,
            self.patients.get(uid, PatientIdentity()),
            study.description,
            study.study_date,
            study.modalities,
            len(study.series),
            sum(series.instances for series in study.series),
            self.marks.get(uid, ReadStatus(study.status)),
            self.tags.get(uid, study.tags),
            counts.get(uid, 0),
            any(series.issues for series in study.series),
            study.imported_utc,
            tuple(sorted({series.body_part for series in study.series if series.body_part})),
        )

    def study_lines(self, wanted: StudyFilter) -> Sequence[StudyLine]:
        self._note("study_lines", wanted)
        words = folded(wanted.text).split()
        return [line for line in self._all_lines() if self._passes(line, wanted, words)]

    def _passes(self, line: StudyLine, wanted: StudyFilter, words: list[str]) -> bool:
        return (
            all(word in self._text(line) for word in words)
            and (not wanted.modalities or bool({*wanted.modalities} & {*line.modalities}))
            and (not wanted.statuses or line.status.value in wanted.statuses)
            and (not wanted.tags or bool({*wanted.tags} & {*line.tags}))
            and (not wanted.waiting_only or line.waiting > 0)
        )

    def _text(self, line: StudyLine) -> str:
        if line.study_uid not in self._texts:
            identity = line.identity
            series = [
                s.description
                for study in self.studies
                if study.study_uid == line.study_uid
                for s in study.series
            ]
            words = [line.patient_key, line.description, *line.modalities, identity.patient_id, *series]
            self._texts[line.study_uid] = f"{folded(' '.join(words))} {search_text(identity.patient_name)}"
        return self._texts[line.study_uid]

    def study_line(self, study_uid: str) -> StudyLine:
        found = next((line for line in self._all_lines() if line.study_uid == study_uid), None)
        if found is None:
            raise InputError("library.unknown_study", "There is no such study.", "List the studies.")
        return found

    def series_of(self, study_uid: str) -> tuple[SeriesSummary, ...]:
        self._note("series_of", study_uid)
        return next((study.series for study in self.studies if study.study_uid == study_uid), ())

    def priors_of(self, study_uid: str) -> Sequence[StudyLine]:
        self._note("priors_of", study_uid)
        own = self.study_line(study_uid).patient_key
        return [line for line in self._all_lines() if line.patient_key == own and line.study_uid != study_uid]

    def set_status(self, study_uids: Sequence[str], status: ReadStatus) -> None:
        self._note("set_status", tuple(study_uids), status)
        self.marks.update(dict.fromkeys(study_uids, status))
        self._replace(study_uids, status=status)

    def note_opened(self, study_uid: str) -> None:
        self._note("note_opened", study_uid)
        if self.study_line(study_uid).status is ReadStatus.UNREAD:
            self.marks[study_uid] = ReadStatus.IN_PROGRESS
            self._replace((study_uid,), status=ReadStatus.IN_PROGRESS)

    def add_tag(self, study_uids: Sequence[str], tag: str) -> None:
        self._note("add_tag", tuple(study_uids), tag)
        for uid in study_uids:
            self.tags[uid] = tuple(sorted({*self.study_line(uid).tags, tag}))
            self._replace((uid,), tags=self.tags[uid])

    def remove_tag(self, study_uids: Sequence[str], tag: str) -> None:
        self._note("remove_tag", tuple(study_uids), tag)
        for uid in study_uids:
            self.tags[uid] = tuple(t for t in self.study_line(uid).tags if t != tag)
            self._replace((uid,), tags=self.tags[uid])

    def _replace(self, study_uids: Sequence[str], **changes: Any) -> None:
        if self.lines is not None:
            self.lines = [replace(li, **changes) if li.study_uid in study_uids else li for li in self.lines]

    def all_tags(self) -> tuple[str, ...]:
        return tuple(sorted({tag for line in self._all_lines() for tag in line.tags}))

    def saved_filters(self) -> tuple[SavedFilter, ...]:
        return tuple(self.filters.values())

    def save_filter(self, name: str, wanted: StudyFilter) -> None:
        self._note("save_filter", name, wanted)
        self.filters[name] = SavedFilter(f"id-{name}", name, wanted)

    def delete_filter(self, name: str) -> None:
        self._note("delete_filter", name)
        self.filters.pop(name, None)
