"""Lists studies, finds series, and tells who the patient is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from core.domain.audit import AuditCode
from core.domain.changes import OperationChanges
from core.domain.errors import InputError
from core.domain.study import InstanceRef, PatientIdentity, ReadStatus, SeriesSummary, StudySummary
from core.library.unit_of_work import UnitOfWork
from core.services.engine import Engine

STATUSES = tuple(str(status) for status in ReadStatus)


def list_studies(engine: Engine, query: str = "", modality: str = "") -> list[StudySummary]:
    """Return studies with their series, the newest import first.

    Parameters
    ----------
    query : str
        Words that must all occur in pseudonym, descriptions, body part, modality, month, status, tags, or the
        patient's name (in any of its groups), ID or accession number; case and accents don't matter.
    modality : str
        Only studies with a series of this modality.

    Notes
    -----
    Reads the series of all studies found; ``core.services.browse.study_lines`` doesn't and is what a screen wants.
    Searches go to the audit trail at most once in ten seconds, as counts.
    """
    wanted = modality.strip().upper()
    uids = [
        line.study_uid
        for line in engine.browse_index.lines(_reader(engine), query)
        if not wanted or wanted in line.modalities
    ]
    if query.strip():
        engine.note_query(len(query), len(uids))
    return studies_of(engine, uids)


def studies_of(engine: Engine, study_uids: Sequence[str]) -> list[StudySummary]:
    """Return those of the studies that are in the library, with their series, in the order given."""
    with engine.unit_of_work(writes=False) as uow:
        return uow.studies.summaries(study_uids)


def get_study(engine: Engine, study_uid: str) -> StudySummary:
    """Return a study.

    Raises
    ------
    InputError
        If it isn't in the library (``library.unknown_study``).
    """
    with engine.unit_of_work(writes=False) as uow:
        study = uow.studies.get(study_uid)
    if study is None:
        raise unknown_study()
    return study


def get_series(engine: Engine, series_key: str) -> tuple[SeriesSummary, tuple[InstanceRef, ...]]:
    """Return a series and its files in their order.

    Parameters
    ----------
    series_key : str
        Key of a displayable series, or a Series Instance UID (then its first group).

    Raises
    ------
    InputError
        If it isn't in the library (``library.unknown_series``).
    """
    with engine.unit_of_work(writes=False) as uow:
        summary = uow.series.get(series_key)
        if summary is None:
            raise InputError(
                "library.unknown_series",
                "There is no such series in the library.",
                "Import it, or list the studies for the UIDs that are there.",
            )
        return summary, uow.instances.of_series(summary.key)


def identity_of(engine: Engine, study_uid: str) -> PatientIdentity:
    """Return the patient of a study, for the screen only.

    Raises
    ------
    InputError
        If the study isn't in the library.
    SafetyError
        If the sealed record was changed.
    """
    with engine.unit_of_work(writes=False) as uow:
        identity = uow.studies.identity(study_uid)
    if identity is None:
        raise unknown_study()
    return identity


def identities(engine: Engine) -> dict[str, PatientIdentity]:
    """Return the patient of every study, by Study Instance UID; for the screen only."""
    return {line.study_uid: line.identity for line in engine.browse_index.lines(_reader(engine))}


def set_status(engine: Engine, study_uid: str, status: str) -> OperationChanges:
    """Say how far the reading of a study is.

    Raises
    ------
    InputError
        If there is no such status or study.
    """
    if status not in STATUSES:
        raise InputError(
            "library.unknown_status",
            "There is no such reading status.",
            f"Use one of: {', '.join(STATUSES)}.",
        )
    with engine.unit_of_work() as uow:
        former = uow.studies.status(study_uid)
        if former is None:
            raise unknown_study()
        if former == status:
            return OperationChanges()
        uow.studies.set_status(study_uid, status)
        engine.record(
            AuditCode.STUDY_STATUS,
            action="U",
            object_kind="study",
            object_ref=study_uid,
            n_objects=1,
            detail={"status": str(status), "from": str(former)},
        )
    return OperationChanges(studies=frozenset({study_uid}), audit=True)


def thumbnail(engine: Engine, series_key: str) -> NDArray[np.uint8] | None:
    """Return a small picture of a series' middle slice.

    Returns
    -------
    numpy.ndarray or None
        ``(H, W)`` uint8, for colour ``(H, W, 3)``, at most 128 pixels a side; None when the series has no picture.
        Made once, then read from the encrypted cache. Takes up to a second the first time: call it off the GUI thread.
    """
    # Here, not above: listing studies shall not load the decoders.
    from core.services import thumbnails

    summary, instances = get_series(engine, series_key)
    return thumbnails.thumbnail(engine, summary, instances)


def _reader(engine: Engine) -> Callable[[], AbstractContextManager[UnitOfWork]]:
    return lambda: engine.unit_of_work(writes=False)


def unknown_study() -> InputError:
    """Return the refusal of a study that isn't in the library."""
    return InputError(
        "library.unknown_study", "There is no such study in the library.", "List the studies that are there."
    )
