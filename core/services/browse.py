"""The worklist: studies as lines, found as one types; reading status, priors, results that wait, saved filters.

All functions may be called from any thread. The first list of a process reads the index into memory, later ones only
what changed since.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

from core.domain.audit import AuditCode
from core.domain.browse import SavedFilter, StudyFilter, StudyLine
from core.domain.changes import OperationChanges
from core.domain.errors import InputError
from core.domain.person_name import folded
from core.domain.study import PatientIdentity, ReadStatus, SeriesSummary
from core.library import browse_index
from core.library.search_words import holds_identity, identity_parts
from core.library.unit_of_work import UnitOfWork
from core.services import list_studies
from core.services.engine import Engine

MOST_TAG = 40
MOST_NAME = 80
_EVERYTHING = StudyFilter()
_CONTROLS = re.compile("[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def study_lines(engine: Engine, filter: StudyFilter = _EVERYTHING) -> list[StudyLine]:
    """Return the studies that a filter lets through, the newest import first.

    Notes
    -----
    Searches go to the audit trail at most once in ten seconds, as counts.
    """
    lines = engine.browse_index.lines(_reader(engine), filter.text)
    if filter != StudyFilter(text=filter.text):
        lines = _narrowed(lines, filter)
    if filter.text.strip():
        engine.note_query(len(filter.text), len(lines))
    return lines


def study_line(engine: Engine, study_uid: str) -> StudyLine:
    """Return one study; raises InputError (``library.unknown_study``) when it isn't there."""
    line = engine.browse_index.line(_reader(engine), study_uid)
    if line is None:
        raise list_studies.unknown_study()
    return line


def series_of(engine: Engine, study_uid: str) -> tuple[SeriesSummary, ...]:
    """Return the series of a study by their number; none when the study isn't there."""
    with engine.unit_of_work(writes=False) as uow:
        return tuple(uow.series.by_study([study_uid]).get(study_uid, ()))


def priors_of(engine: Engine, study_uid: str) -> list[StudyLine]:
    """Return the other studies of the same patient, those of the latest month first.

    The pseudonym finds them; then the identities are compared, because another patient's study shown as a prior would
    mislead: a study with another Patient ID, or with another birth date, is left out.
    """
    own = study_line(engine, study_uid)
    with engine.unit_of_work(writes=False) as uow:
        uids = set(uow.studies.of_patient(study_uid)) - {study_uid}
    lines = engine.browse_index.lines(_reader(engine)) if uids else []
    found = [line for line in lines if line.study_uid in uids and _same_patient(own.identity, line.identity)]
    return sorted(found, key=lambda line: (line.study_date, line.imported_utc), reverse=True)


def waiting_counts(engine: Engine) -> dict[str, int]:
    """Return how many results of each study have findings without a verdict; one query for all studies."""
    with engine.unit_of_work(writes=False) as uow:
        return browse_index.waiting_counts(uow)


def set_status(engine: Engine, study_uid: str, status: ReadStatus | str) -> OperationChanges:
    """Say how far the reading of a study is; raises InputError when there is no such status or study."""
    return list_studies.set_status(engine, study_uid, str(status))


def note_opened(engine: Engine, study_uid: str) -> OperationChanges:
    """Say that a series of a study is being looked at: an unread study becomes one in progress."""
    with engine.unit_of_work(writes=False) as uow:
        status = uow.studies.status(study_uid)
    if status is not ReadStatus.UNREAD:
        return OperationChanges()
    return list_studies.set_status(engine, study_uid, ReadStatus.IN_PROGRESS)


def add_tag(engine: Engine, study_uid: str, tag: str) -> OperationChanges:
    """Put a tag on a study; a tag in use is taken over in the letter case it has.

    Raises
    ------
    InputError
        If the tag is empty or longer than 40 characters (``tags.invalid``), names the patient
        (``tags.identity``; tags stand in the index unsealed), or there is no such study.
    """
    wanted = _tidy(tag)
    if not wanted or len(wanted) > MOST_TAG:
        raise InputError(
            "tags.invalid",
            f"A tag has 1 to {MOST_TAG} characters.",
            "Give a short word, such as “follow-up”.",
        )
    with engine.unit_of_work() as uow:
        identity = uow.studies.identity(study_uid)
        if identity is None:
            raise list_studies.unknown_study()
        parts = identity_parts(identity)
        if any(holds_identity(word, parts) for word in folded(wanted).split()):
            raise InputError(
                "tags.identity",
                "This tag may name the patient: it holds a part of the name or an ID, or a long number.",
                "Choose a word that says nothing about who the patient is.",
            )
        known = {one.casefold(): one for one in uow.tags.all()}
        if not uow.tags.add(study_uid, known.get(wanted.casefold(), wanted)):
            return OperationChanges()
        _record_tag(engine, study_uid, "C")
    return OperationChanges(studies=frozenset({study_uid}), audit=True)


def remove_tag(engine: Engine, study_uid: str, tag: str) -> OperationChanges:
    """Take a tag off a study; nothing happens when it hasn't it."""
    with engine.unit_of_work() as uow:
        if not uow.tags.remove(study_uid, tag):
            return OperationChanges()
        _record_tag(engine, study_uid, "D")
    return OperationChanges(studies=frozenset({study_uid}), audit=True)


def all_tags(engine: Engine) -> tuple[str, ...]:
    """Return every tag in use, the most used first."""
    with engine.unit_of_work(writes=False) as uow:
        return tuple(uow.tags.all())


def save_filter(engine: Engine, name: str, filter: StudyFilter) -> SavedFilter:
    """Keep a filter under a name, sealed as a whole; one of the same name is replaced.

    Raises
    ------
    InputError
        If the name is empty or longer than 80 characters (``filters.invalid_name``).
    """
    wanted = _tidy(name)
    if not wanted or len(wanted) > MOST_NAME:
        raise InputError(
            "filters.invalid_name",
            f"The name of a filter has 1 to {MOST_NAME} characters.",
            "Give the filter a short name.",
        )
    with engine.unit_of_work() as uow:
        return uow.filters.put(wanted, filter)


def saved_filters(engine: Engine) -> list[SavedFilter]:
    """Return the saved filters by name."""
    with engine.unit_of_work(writes=False) as uow:
        return uow.filters.all()


def delete_filter(engine: Engine, name: str) -> bool:
    """Forget a saved filter, given by name or ``filter_id``; False when there is no such."""
    with engine.unit_of_work() as uow:
        found = [
            saved.filter_id
            for saved in uow.filters.all()
            if saved.filter_id == name or saved.name.casefold() == _tidy(name).casefold()
        ]
        for filter_id in found:
            uow.filters.remove(filter_id)
    return bool(found)


def _narrowed(lines: list[StudyLine], wanted: StudyFilter) -> list[StudyLine]:
    modalities = {m.strip().upper() for m in wanted.modalities}
    statuses = {str(status) for status in wanted.statuses}
    tags = {tag.casefold() for tag in wanted.tags}
    oldest = "" if wanted.imported_within_days is None else _start_of_day(wanted.imported_within_days)
    until = wanted.until or "9999-99"

    def passes(line: StudyLine) -> bool:
        return (
            (not modalities or not modalities.isdisjoint(line.modalities))
            and (not statuses or line.status in statuses)
            and (not tags or any(tag.casefold() in tags for tag in line.tags))
            and (not wanted.waiting_only or line.waiting > 0)
            and line.imported_utc >= oldest
            and wanted.since <= line.study_date <= until
            and bool(line.study_date or not (wanted.since or wanted.until))
        )

    return [line for line in lines if passes(line)]


def _start_of_day(days_ago: int) -> str:
    """Return when the day that many days ago began here, as the index writes times."""
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - timedelta(days=days_ago)).astimezone(UTC).isoformat(timespec="milliseconds")


def _same_patient(one: PatientIdentity, other: PatientIdentity) -> bool:
    if one.patient_id.strip() != other.patient_id.strip():
        return False
    births = {one.birth_date.strip(), other.birth_date.strip()} - {""}
    if len(births) > 1:
        return False
    return bool(one.patient_id.strip()) or one.patient_name.strip() == other.patient_name.strip()


def _record_tag(engine: Engine, study_uid: str, action: str) -> None:
    engine.record(AuditCode.STUDY_TAG, action=action, object_kind="study", object_ref=study_uid, n_objects=1)


def _tidy(text: str) -> str:
    return " ".join(_CONTROLS.sub(" ", unicodedata.normalize("NFC", text)).split())


def _reader(engine: Engine) -> Callable[[], AbstractContextManager[UnitOfWork]]:
    return lambda: engine.unit_of_work(writes=False)
