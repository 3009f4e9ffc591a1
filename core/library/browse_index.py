"""All studies as lines in memory, so that the worklist opens at once and a search answers as one types.

The lines come from raw rows of the study table, whose sums spare reading any series. Identities are decrypted once and
kept in this process only. The index follows the library's revision and reads again only what changed, also when
another process changed it.

A word is looked for on two sides: in the search table of the library (words of the metadata without identity), and in
memory in what the vault holds (names in all spellings, IDs, the full description). All words must be found, each on
either side.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.domain.browse import StudyLine
from core.domain.person_name import folded, search_text
from core.domain.study import PatientIdentity, ReadStatus
from core.library.repositories.studies import description_of, parted
from core.library.unit_of_work import UnitOfWork
from core.library.vault import IdentityVault

Reader = Callable[[], AbstractContextManager[UnitOfWork]]

_ROWS = """
SELECT study_uid, number, pseudonym, sealed_description, study_year_month, status, imported_utc, modalities,
       body_parts, series_count, instance_count, issue_count
FROM study WHERE revision > :revision
"""
_WAITING = """
SELECT result.study_uid, count(*) FROM result
JOIN (SELECT result_id, count(*) AS n FROM finding GROUP BY result_id) AS found
  ON found.result_id = result.result_id
LEFT JOIN (SELECT result_id, count(DISTINCT finding_id) AS n FROM decision GROUP BY result_id) AS decided
  ON decided.result_id = result.result_id
WHERE found.n > coalesce(decided.n, 0) GROUP BY result.study_uid
"""
# A trigram needs three characters; shorter words are looked for row by row, which 10,000 rows allow.
_LEAST_MATCH = 3
_MATCH = "SELECT rowid FROM study_search WHERE study_search MATCH :word"
_SHORT = "SELECT rowid FROM study_search WHERE instr(words, :word) > 0"
_POSTGRES = "SELECT rowid FROM study_search WHERE strpos(words, :word) > 0"


@dataclass(slots=True)
class _Entry:
    """A line, its row in the search table, and its folded identity, made when it is first searched."""

    line: StudyLine
    number: int
    hidden: str | None = None


class BrowseIndex:
    """The worklist of one library. Thread-safe.

    Parameters
    ----------
    vault : IdentityVault
        Opens identities and descriptions.
    """

    def __init__(self, vault: IdentityVault) -> None:
        self._vault = vault
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._ordered: list[_Entry] = []
        self._revision = -1
        self._values: dict[str, tuple[str, ...]] = {}
        self._spellings: dict[str, str] = {}

    def lines(self, reader: Reader, query: str = "") -> list[StudyLine]:
        """Return the studies in which all words of ``query`` occur, the newest import first.

        Parameters
        ----------
        reader : callable
            Opens a unit of work that only reads.
        """
        words = list(dict.fromkeys(folded(query).split()))
        with self._lock, reader() as uow:
            self._refresh(uow)
            entries = self._matching(uow.session, words) if words else self._ordered
            waiting = waiting_counts(uow)
        return [_with_waiting(entry.line, waiting) for entry in entries] if waiting else _plain(entries)

    def line(self, reader: Reader, study_uid: str) -> StudyLine | None:
        """Return one study."""
        with self._lock, reader() as uow:
            self._refresh(uow)
            entry = self._entries.get(study_uid)
            return None if entry is None else _with_waiting(entry.line, waiting_counts(uow))

    def _matching(self, session: Session, words: list[str]) -> list[_Entry]:
        left = self._ordered
        for word in words:
            numbers = _found(session, word)
            left = [e for e in left if e.number in numbers or word in self._hidden(e)]
            if not left:
                break
        return left

    def _hidden(self, entry: _Entry) -> str:
        """Return what the vault adds to the words of a study, folded."""
        if entry.hidden is None:
            identity = entry.line.identity
            numbers = f"{identity.patient_id} {identity.accession_number} {entry.line.description}"
            names = (self._spelled(identity.patient_name), self._spelled(identity.referring_physician))
            entry.hidden = "\n".join((*names, folded(numbers), entry.line.study_uid))
        return entry.hidden

    def _spelled(self, name: str) -> str:
        """Return all spellings of a name; patients and physicians come again."""
        found = self._spellings.get(name)
        if found is None:
            found = self._spellings[name] = search_text(name)
        return found

    def _refresh(self, uow: UnitOfWork) -> None:
        revision = uow.meta.revision()
        if revision == self._revision:
            return
        with _uncollected():
            changed = uow.session.execute(text(_ROWS), {"revision": self._revision}).all()
            # Two scans and a dictionary: a join would look each study up in an index.
            uids = None if self._revision < 0 else [row[0] for row in changed]
            identities = uow.studies.identities(uids)
            tags = uow.tags.by_study(uids)
            for row in changed:
                self._take(row, identities.get(row[0], _NOBODY), tags.get(row[0], ()))
        if uow.studies.count() != len(self._entries):
            present = uow.studies.uids()
            self._entries = {uid: e for uid, e in self._entries.items() if uid in present}
            self._spellings.clear()  # the name of a patient who left the library isn't kept
        self._ordered = sorted(
            self._entries.values(), key=lambda e: (e.line.imported_utc, e.line.study_uid), reverse=True
        )
        self._revision = revision

    def _take(self, row: Any, identity: PatientIdentity, tags: tuple[str, ...]) -> None:
        (uid, number, pseudonym, description, month, status, imported, modalities, parts, series) = row[:10]
        line = StudyLine(
            study_uid=uid,
            patient_key=pseudonym,
            identity=identity,
            description=self._vault.open_text(description_of(uid), description),
            study_date=month,
            modalities=self._parted(modalities),
            series_count=max(series, 0),
            instance_count=row[10],
            status=_STATUSES[status],
            tags=tags,
            waiting=0,
            has_issues=row[11] > 0,
            imported_utc=imported,
            body_parts=self._parted(parts),
        )
        former = self._entries.get(uid)
        same = former is not None and (former.line.identity, former.line.description) == (
            identity,
            line.description,
        )
        self._entries[uid] = _Entry(line, number, former.hidden if former is not None and same else None)

    def _parted(self, values: str) -> tuple[str, ...]:
        """Return the values of a column; equal columns share one tuple."""
        found = self._values.get(values)
        if found is None:
            found = self._values[values] = parted(values)
        return found


_NOBODY = PatientIdentity()
_STATUSES = {str(status): status for status in ReadStatus}


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let the garbage collector wait: it would look through all modules again and again while lines only come."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def waiting_counts(uow: UnitOfWork) -> dict[str, int]:
    """Return for each study how many results have findings without a verdict; studies without any are left out."""
    return {uid: count for uid, count in uow.session.execute(text(_WAITING))}  # noqa: C416 - rows, not pairs


def _found(session: Session, word: str) -> set[int]:
    """Return the rows of the search table in which a folded word occurs."""
    parameter = word
    if session.get_bind().dialect.name == "postgresql":
        statement = _POSTGRES
    elif len(word) < _LEAST_MATCH:
        statement = _SHORT
    else:
        statement = _MATCH
        parameter = '"' + word.replace('"', '""') + '"'
    return set(session.execute(text(statement), {"word": parameter}).scalars())


def _with_waiting(line: StudyLine, waiting: dict[str, int]) -> StudyLine:
    count = waiting.get(line.study_uid, 0)
    return replace(line, waiting=count) if count else line


def _plain(entries: list[_Entry]) -> list[StudyLine]:
    return [entry.line for entry in entries]
