"""All studies in memory, so that a search answers as one types.

Pseudonym, description, modality and body part come from the index, name and ID from the vault; they are decrypted once
and kept in this process only. The catalogue follows the library's revision and reads again only what changed, also
when another process changed it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from core.domain.study import PatientIdentity, StudySummary
from core.library.unit_of_work import UnitOfWork

Reader = Callable[[], AbstractContextManager[UnitOfWork]]


@dataclass(frozen=True)
class Entry:
    """A study, its patient, and the folded text that a search looks through."""

    study: StudySummary
    identity: PatientIdentity
    haystack: str


class StudyCatalogue:
    """Studies of the library, the newest import first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._ordered: list[Entry] = []
        self._revision = -1

    def entries(self, reader: Reader) -> list[Entry]:
        """Return all studies; ``reader`` opens a unit of work that only reads."""
        with self._lock:
            self._refresh(reader)
            return self._ordered

    def entry(self, reader: Reader, study_uid: str) -> Entry | None:
        """Return one study."""
        with self._lock:
            self._refresh(reader)
            return self._entries.get(study_uid)

    def search(self, reader: Reader, query: str, modality: str = "") -> list[StudySummary]:
        """Return the studies in which every word of ``query`` occurs, upper and lower case being the same."""
        words = folded(query).split()
        wanted = modality.strip().upper()
        return [
            entry.study
            for entry in self.entries(reader)
            if all(word in entry.haystack for word in words)
            and (not wanted or wanted in entry.study.modalities)
        ]

    def _refresh(self, reader: Reader) -> None:
        with reader() as uow:
            revision = uow.meta.revision()
            if revision == self._revision:
                return
            changed = uow.studies.changed_since(self._revision)
            uids = None if self._revision < 0 else [study.study_uid for study in changed]
            identities = uow.studies.identities(uids)
            if uow.studies.count() != len(self._entries.keys() | {s.study_uid for s in changed}):
                present = uow.studies.uids()
                self._entries = {uid: e for uid, e in self._entries.items() if uid in present}
        for study in changed:
            identity = identities.get(study.study_uid, PatientIdentity())
            self._entries[study.study_uid] = Entry(study, identity, _haystack(study, identity))
        self._ordered = sorted(
            self._entries.values(), key=lambda e: (e.study.imported_utc, e.study.study_uid), reverse=True
        )
        self._revision = revision


def folded(text: str) -> str:
    """Return text as it is compared: case folded, the parts of a DICOM person name separated by spaces."""
    return text.replace("^", " ").replace("=", " ").casefold()


def _haystack(study: StudySummary, identity: PatientIdentity) -> str:
    parts = [
        study.pseudonym,
        study.description,
        study.study_date,
        study.status,
        *study.modalities,
        *(series.description for series in study.series),
        *(series.body_part for series in study.series),
        identity.patient_name,
        identity.patient_id,
        identity.accession_number,
        study.study_uid,
    ]
    return folded("\n".join(part for part in parts if part))
