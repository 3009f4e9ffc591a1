"""Studies, the identity behind them, and the words under which a search finds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.orm import Session

from core.domain.study import PatientIdentity, ReadStatus, SeriesSummary, StudySummary
from core.library.repositories.chunks import in_chunks
from core.library.repositories.meta import MetaRepository
from core.library.repositories.series import SeriesRepository
from core.library.repositories.tags import TagRepository
from core.library.search_words import search_words
from core.library.tables import NOT_COUNTED, SEARCH, ConflictRow, IdentityRow, StudyRow
from core.library.vault import IdentityVault

_PARTED = "\\"
# Statements that are made once and get their values apart: making one per row takes longer than running it.
_INSERT_STUDY = insert(StudyRow.__table__)  # type: ignore[arg-type]
_INSERT_IDENTITY = insert(IdentityRow.__table__)  # type: ignore[arg-type]
_INSERT_WORDS = insert(SEARCH)
_OWN = StudyRow.__table__.c.study_uid == bindparam("uid")
_UPDATE_STATUS = update(StudyRow.__table__).where(_OWN).values(status=bindparam("value"))  # type: ignore[arg-type]
_SUMMED = (
    "modalities",
    "body_parts",
    "series_count",
    "instance_count",
    "frame_count",
    "issue_count",
    "revision",
)
_UPDATE_SUMS = (
    update(StudyRow.__table__)  # type: ignore[arg-type]
    .where(_OWN)
    .values({name: bindparam(name) for name in _SUMMED})
)


class StudyRepository:
    """Studies of the index; each change advances the library's revision and stamps the study with it.

    Parameters
    ----------
    touched : set of str
        Studies below which something changed in this transaction; shared with the repositories of series and tags.
        Their sums and search words are made anew before the transaction is committed.
    """

    def __init__(
        self, session: Session, vault: IdentityVault, meta: MetaRepository, touched: set[str]
    ) -> None:
        self._session = session
        self._vault = vault
        self._meta = meta
        self._touched = touched
        self._series = SeriesRepository(session, vault, touched)
        self._tags = TagRepository(session, touched)

    def add(self, study: StudySummary, identity: PatientIdentity) -> None:
        """Add a study (its series are added by ``SeriesRepository``) and its patient."""
        last = self._session.scalar(select(func.max(StudyRow.number))) or 0
        uid = study.study_uid
        connection = self._session.connection()
        connection.execute(
            _INSERT_STUDY,
            {
                "study_uid": uid,
                "pseudonym": study.pseudonym,
                "sealed_description": self._vault.seal_text(description_of(uid), study.description),
                "study_year_month": study.study_date[:7],
                "status": str(ReadStatus(study.status)),
                "imported_utc": study.imported_utc,
                "revision": self._meta.next_revision(),
                "number": last + 1,
            },
        )
        sealed = self._vault.seal_identity(uid, identity)
        connection.execute(_INSERT_IDENTITY, {"study_uid": uid, "sealed": sealed})
        for tag in study.tags:
            self._tags.add(study.study_uid, tag)
        self._touched.add(study.study_uid)

    def exists(self, study_uid: str) -> bool:
        """Whether the study is in the index."""
        return self.status(study_uid) is not None

    def count(self) -> int:
        """Number of studies."""
        return self._session.scalar(select(func.count()).select_from(StudyRow)) or 0

    def status(self, study_uid: str) -> ReadStatus | None:
        """Return how far the reading of a study is, None when there is no such study."""
        found = self._session.scalar(select(StudyRow.status).where(StudyRow.study_uid == study_uid))
        return None if found is None else ReadStatus(found)

    def set_status(self, study_uid: str, status: str) -> bool:
        """Write a reading status; False when there is no such study."""
        if not self.exists(study_uid):
            return False
        self._session.connection().execute(
            _UPDATE_STATUS, {"uid": study_uid, "value": str(ReadStatus(status))}
        )
        self._touched.add(study_uid)
        return True

    def touch(self, study_uid: str) -> None:
        """Say that something below the study changed: its sums are made anew before the transaction ends."""
        self._touched.add(study_uid)

    def recount(self, study_uid: str) -> None:
        """Sum up the study's series, write its search words and stamp it with this transaction's revision."""
        self.recount_all([study_uid])

    def recount_touched(self) -> None:
        """Recount all studies below which something changed."""
        if self._touched:
            self.recount_all(sorted(self._touched))

    def recount_all(self, study_uids: Sequence[str]) -> None:
        """Recount studies; a few statements for all of them."""
        self._touched.difference_update(study_uids)
        for part in in_chunks(study_uids):
            studies = {study.study_uid: study for study in self.summaries(part)}
            if not studies:
                continue
            revision = self._meta.next_revision()
            self._session.connection().execute(
                _UPDATE_SUMS,
                [{"uid": uid, "revision": revision, **_sums(study)} for uid, study in studies.items()],
            )
            identities = self.identities(studies)
            self._write_words(
                {
                    uid: search_words(study, identities.get(uid, PatientIdentity()))
                    for uid, study in studies.items()
                }
            )

    def not_counted(self, most: int) -> list[str]:
        """Return up to ``most`` studies of an older schema whose sums were never made."""
        query = select(StudyRow.study_uid).where(StudyRow.series_count == NOT_COUNTED).limit(most)
        return list(self._session.scalars(query))

    def remove(self, study_uids: Iterable[str]) -> None:
        """Delete studies with all that hangs on them; the files are the caller's."""
        wanted = list(study_uids)
        for part in in_chunks(wanted):
            numbers = list(self._session.scalars(select(StudyRow.number).where(StudyRow.study_uid.in_(part))))
            self._session.execute(delete(SEARCH).where(SEARCH.c.rowid.in_(numbers)))
            self._session.execute(delete(ConflictRow).where(ConflictRow.study_uid.in_(part)))
            self._session.execute(delete(StudyRow).where(StudyRow.study_uid.in_(part)))
        self._touched.difference_update(wanted)
        self._meta.next_revision()

    def uids(self) -> set[str]:
        """Return the UIDs of all studies."""
        return set(self._session.scalars(select(StudyRow.study_uid)))

    def newest_first(self) -> list[str]:
        """Return the UIDs of all studies, the newest import first."""
        order = (StudyRow.imported_utc.desc(), StudyRow.study_uid.desc())
        return list(self._session.scalars(select(StudyRow.study_uid).order_by(*order)))

    def summaries(self, study_uids: Sequence[str]) -> list[StudySummary]:
        """Return those of the studies that are in the index, with their series, in the order given."""
        query = select(*StudyRow.__table__.c)
        rows: dict[str, Any] = {}
        for part in in_chunks(list(dict.fromkeys(study_uids))):
            found = self._session.execute(query.where(StudyRow.study_uid.in_(part)))
            rows.update((row.study_uid, row) for row in found)
        series = self._series.by_study(rows)
        tags = self._tags.by_study(rows)
        return [
            self._summary(rows[uid], tuple(series.get(uid, ())), tags.get(uid, ()))
            for uid in dict.fromkeys(study_uids)
            if uid in rows
        ]

    def get(self, study_uid: str) -> StudySummary | None:
        """Return one study with its series."""
        return next(iter(self.summaries([study_uid])), None)

    def of_patient(self, study_uid: str) -> list[str]:
        """Return all studies of the same patient as a study, itself too, the newest import first."""
        pseudonym = select(StudyRow.pseudonym).where(StudyRow.study_uid == study_uid).scalar_subquery()
        query = select(StudyRow.study_uid).where(StudyRow.pseudonym == pseudonym)
        return list(
            self._session.scalars(query.order_by(StudyRow.imported_utc.desc(), StudyRow.study_uid.desc()))
        )

    def identity(self, study_uid: str) -> PatientIdentity | None:
        """Return the patient of a study, None when there is no such study."""
        return self.identities([study_uid]).get(study_uid)

    def identities(self, study_uids: Iterable[str] | None = None) -> dict[str, PatientIdentity]:
        """Return the patients of the studies, of all studies when None."""
        query = select(IdentityRow.study_uid, IdentityRow.sealed)
        rows = (
            list(self._session.execute(query))
            if study_uids is None
            else [
                row
                for part in in_chunks(list(study_uids))
                for row in self._session.execute(query.where(IdentityRow.study_uid.in_(part)))
            ]
        )
        return {row.study_uid: self._vault.open_identity(row.study_uid, row.sealed) for row in rows}

    def _write_words(self, words: dict[str, str]) -> None:
        """Write the search words of studies, where they changed."""
        own = select(StudyRow.study_uid, StudyRow.number).where(StudyRow.study_uid.in_(words))
        numbers = {row.number: row.study_uid for row in self._session.execute(own)}
        written = select(SEARCH.c.rowid, SEARCH.c.words).where(SEARCH.c.rowid.in_(numbers))
        stored = {row.rowid: row.words for row in self._session.execute(written)}
        new = [
            {"rowid": number, "words": words[uid]}
            for number, uid in numbers.items()
            if stored.get(number) != words[uid]
        ]
        if new:
            gone = [row["rowid"] for row in new if row["rowid"] in stored]
            self._session.execute(delete(SEARCH).where(SEARCH.c.rowid.in_(gone)))
            self._session.connection().execute(_INSERT_WORDS, new)

    def _summary(self, row: Any, series: tuple[SeriesSummary, ...], tags: tuple[str, ...]) -> StudySummary:
        return StudySummary(
            study_uid=row.study_uid,
            pseudonym=row.pseudonym,
            description=self._vault.open_text(description_of(row.study_uid), row.sealed_description),
            modalities=tuple(sorted({s.modality for s in series if s.modality})),
            status=row.status,
            series=series,
            study_date=row.study_year_month,
            imported_utc=row.imported_utc,
            tags=tags,
        )


def _sums(study: StudySummary) -> dict[str, Any]:
    """Return what the series of a study sum up to."""
    series = study.series
    return {
        "modalities": _PARTED.join(study.modalities),
        "body_parts": _PARTED.join(sorted({s.body_part for s in series if s.body_part})),
        "series_count": len(series),
        "instance_count": sum(s.instances for s in series),
        "frame_count": sum(s.frames for s in series),
        "issue_count": sum(len(s.issues) for s in series),
    }


def description_of(identifier: str) -> str:
    """Return the context to which the description of a study or series is sealed."""
    return f"description/{identifier}"


def parted(text: str) -> tuple[str, ...]:
    """Return the values of a column that holds several."""
    return tuple(text.split(_PARTED)) if text else ()
