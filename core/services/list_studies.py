"""Lists studies, finds series, and tells who the patient is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from core.domain.audit import AuditCode
from core.domain.changes import OperationChanges
from core.domain.errors import InputError
from core.domain.study import InstanceRef, PatientIdentity, SeriesSummary, StudySummary
from core.library.unit_of_work import UnitOfWork
from core.services.engine import Engine

STATUSES = ("new", "reading", "unsure", "read", "reviewed", "dictated")


def list_studies(engine: Engine, query: str = "", modality: str = "") -> list[StudySummary]:
    """Return studies, the newest import first.

    Parameters
    ----------
    query : str
        Words that must all occur in pseudonym, descriptions, body part, modality, month, status, or the patient's
        name, ID or accession number; case doesn't matter.
    modality : str
        Only studies with a series of this modality.

    Notes
    -----
    The first call reads the index into memory (10,000 studies take about a second), later ones only what changed.
    Searches go to the audit trail at most once in ten seconds, as counts.
    """
    found = engine.catalogue.search(_reader(engine), query, modality)
    if query.strip():
        engine.note_query(len(query), len(found))
    return found


def get_study(engine: Engine, study_uid: str) -> StudySummary:
    """Return a study.

    Raises
    ------
    InputError
        If it isn't in the library (``library.unknown_study``).
    """
    entry = engine.catalogue.entry(_reader(engine), study_uid)
    if entry is None:
        raise _unknown_study()
    return entry.study


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
    entry = engine.catalogue.entry(_reader(engine), study_uid)
    if entry is None:
        raise _unknown_study()
    return entry.identity


def identities(engine: Engine) -> dict[str, PatientIdentity]:
    """Return the patient of every study, by Study Instance UID; for the screen only."""
    return {e.study.study_uid: e.identity for e in engine.catalogue.entries(_reader(engine))}


def set_status(engine: Engine, study_uid: str, status: str) -> OperationChanges:
    """Set a study's reading status.

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
        if not uow.studies.set_status(study_uid, status):
            raise _unknown_study()
        engine.record(
            AuditCode.STUDY_STATUS,
            action="U",
            object_kind="study",
            object_ref=study_uid,
            n_objects=1,
            detail={"status": status},
        )
    return OperationChanges(studies=frozenset({study_uid}), audit=True)


def thumbnail(engine: Engine, series_key: str) -> NDArray[np.uint8] | None:
    """Return a small picture of a series' middle slice.

    Returns
    -------
    numpy.ndarray or None
        ``(H, W)`` uint8, at most 128 pixels a side; None when the series has no picture. Made once, then read from
        the encrypted cache. Takes up to a second the first time: call it off the GUI thread.
    """
    # Here, not above: listing studies shall not load the decoders.
    from core.services import thumbnails

    summary, instances = get_series(engine, series_key)
    return thumbnails.thumbnail(engine, summary, instances)


def _reader(engine: Engine) -> Callable[[], AbstractContextManager[UnitOfWork]]:
    return lambda: engine.unit_of_work(writes=False)


def _unknown_study() -> InputError:
    return InputError(
        "library.unknown_study", "There is no such study in the library.", "List the studies that are there."
    )
