"""Studies, their series and instances, and the identity behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from core.domain.study import InstanceRef, PatientIdentity, SeriesKind, SeriesSummary, StudySummary
from core.domain.volume import SeriesIssue
from core.library.files import FileStamp, StoredFile, resolved, stored_text
from core.library.repositories.meta import MetaRepository
from core.library.tables import IdentityRow, InstanceRow, SeriesRow, StudyRow
from core.library.vault import IdentityVault

_CHUNK = 500


class StudyRepository:
    """Studies of the index; each change advances the library's revision and stamps the study with it."""

    def __init__(self, session: Session, vault: IdentityVault, meta: MetaRepository) -> None:
        self._session = session
        self._vault = vault
        self._meta = meta

    def add(self, study: StudySummary, identity: PatientIdentity) -> None:
        """Add a study (its series are added by ``SeriesRepository``) and its patient."""
        self._session.add(
            StudyRow(
                study_uid=study.study_uid,
                pseudonym=study.pseudonym,
                sealed_description=self._vault.seal_text(_description_of(study.study_uid), study.description),
                study_year_month=study.study_date[:7],
                status=study.status,
                imported_utc=study.imported_utc,
                revision=self._meta.next_revision(),
            )
        )
        sealed = self._vault.seal_identity(study.study_uid, identity)
        self._session.flush()
        self._session.add(IdentityRow(study_uid=study.study_uid, sealed=sealed))

    def exists(self, study_uid: str) -> bool:
        """Whether the study is in the index."""
        return self._session.get(StudyRow, study_uid) is not None

    def count(self) -> int:
        """Number of studies."""
        return self._session.scalar(select(func.count()).select_from(StudyRow)) or 0

    def set_status(self, study_uid: str, status: str) -> bool:
        """Write a reading status; False when there is no such study."""
        row = self._session.get(StudyRow, study_uid)
        if row is None:
            return False
        row.status = status
        row.revision = self._meta.next_revision()
        return True

    def touch(self, study_uid: str) -> None:
        """Say that something below the study changed."""
        row = self._session.get(StudyRow, study_uid)
        if row is not None:
            row.revision = self._meta.next_revision()

    def uids(self) -> set[str]:
        """Return the UIDs of all studies."""
        return set(self._session.scalars(select(StudyRow.study_uid)))

    def changed_since(self, revision: int) -> list[StudySummary]:
        """Return the studies whose stamp is newer, with their series; revision -1 returns all."""
        rows = self._session.execute(select(*StudyRow.__table__.c).where(StudyRow.revision > revision)).all()
        uids = [row.study_uid for row in rows] if revision >= 0 else None
        series = SeriesRepository(self._session, self._vault).by_study(uids)
        return [self._summary(row, tuple(series.get(row.study_uid, ()))) for row in rows]

    def get(self, study_uid: str) -> StudySummary | None:
        """Return one study with its series."""
        row = self._session.get(StudyRow, study_uid)
        if row is None:
            return None
        series = SeriesRepository(self._session, self._vault).by_study([study_uid])
        return self._summary(row, tuple(series.get(study_uid, ())))

    def identity(self, study_uid: str) -> PatientIdentity | None:
        """Return the patient of a study, None when there is no such study."""
        row = self._session.get(IdentityRow, study_uid)
        return None if row is None else self._vault.open_identity(study_uid, row.sealed)

    def identities(self, study_uids: Iterable[str] | None = None) -> dict[str, PatientIdentity]:
        """Return the patients of the studies, of all studies when None."""
        query = select(IdentityRow.study_uid, IdentityRow.sealed)
        rows = _chunked(self._session, query, IdentityRow.study_uid, study_uids)
        return {row.study_uid: self._vault.open_identity(row.study_uid, row.sealed) for row in rows}

    def _summary(self, row: Any, series: tuple[SeriesSummary, ...]) -> StudySummary:
        return StudySummary(
            study_uid=row.study_uid,
            pseudonym=row.pseudonym,
            description=self._vault.open_text(_description_of(row.study_uid), row.sealed_description),
            modalities=tuple(sorted({s.modality for s in series if s.modality})),
            status=row.status,
            series=series,
            study_date=row.study_year_month,
            imported_utc=row.imported_utc,
        )


class SeriesRepository:
    """Displayable series."""

    def __init__(self, session: Session, vault: IdentityVault) -> None:
        self._session = session
        self._vault = vault

    def put(self, summary: SeriesSummary, source_format: str) -> None:
        """Add a series."""
        self._session.add(
            SeriesRow(
                key=summary.key,
                series_uid=summary.series_uid,
                study_uid=summary.study_uid,
                modality=_short(summary.modality, 16),
                sealed_description=self._vault.seal_text(_description_of(summary.key), summary.description),
                body_part=_short(summary.body_part, 64),
                instances=summary.instances,
                frames=summary.frames,
                kind=str(summary.kind),
                shape_kji=list(summary.shape_kji) if summary.shape_kji else None,
                spacing_kji_mm=list(summary.spacing_kji_mm) if summary.spacing_kji_mm else None,
                regular=summary.regular,
                issues=[asdict(issue) for issue in summary.issues],
                series_number=summary.series_number,
                axis_codes=summary.axis_codes,
                lossy=summary.lossy,
                frame_of_reference_uid=summary.frame_of_reference_uid,
                source_format=source_format,
            )
        )
        self._session.flush()

    def remove_series_uid(self, series_uid: str) -> None:
        """Delete all groups of a DICOM series and their instance rows (not the files)."""
        keys = select(SeriesRow.key).where(SeriesRow.series_uid == series_uid)
        self._session.execute(delete(InstanceRow).where(InstanceRow.series_key.in_(keys)))
        self._session.execute(delete(SeriesRow).where(SeriesRow.series_uid == series_uid))

    def get(self, key_or_uid: str) -> SeriesSummary | None:
        """Return the series of a key, or the first group of a Series Instance UID."""
        row = self._session.get(SeriesRow, key_or_uid)
        if row is None:
            query = select(SeriesRow).where(SeriesRow.series_uid == key_or_uid).order_by(SeriesRow.key)
            row = self._session.scalars(query).first()
        return None if row is None else self._summary(row)

    def by_study(self, study_uids: Iterable[str] | None) -> dict[str, list[SeriesSummary]]:
        """Return the series of each study, ordered by series number and key; of all studies when None."""
        query = select(*SeriesRow.__table__.c).order_by(SeriesRow.series_number, SeriesRow.key)
        found: dict[str, list[SeriesSummary]] = {}
        for row in _chunked(self._session, query, SeriesRow.study_uid, study_uids):
            found.setdefault(row.study_uid, []).append(self._summary(row))
        return found

    def present(self, series_uids: Iterable[str]) -> set[str]:
        """Return those of the Series Instance UIDs that are in the index."""
        rows = _chunked(self._session, select(SeriesRow.series_uid), SeriesRow.series_uid, series_uids)
        return {row.series_uid for row in rows}

    def _summary(self, row: Any) -> SeriesSummary:
        return SeriesSummary(
            key=row.key,
            series_uid=row.series_uid,
            study_uid=row.study_uid,
            modality=row.modality,
            description=self._vault.open_text(_description_of(row.key), row.sealed_description),
            body_part=row.body_part,
            instances=row.instances,
            frames=row.frames,
            kind=SeriesKind(row.kind),
            shape_kji=_triple(row.shape_kji),
            spacing_kji_mm=_triple(row.spacing_kji_mm),
            regular=row.regular,
            issues=tuple(SeriesIssue(**issue) for issue in row.issues),
            series_number=row.series_number,
            axis_codes=row.axis_codes,
            lossy=row.lossy,
            frame_of_reference_uid=row.frame_of_reference_uid,
        )


class InstanceRepository:
    """Files of the series; paths are sealed."""

    def __init__(self, session: Session, vault: IdentityVault, instances_folder: Path) -> None:
        self._session = session
        self._vault = vault
        self._folder = instances_folder

    def put(self, series_key: str, instances: Sequence[tuple[InstanceRef, FileStamp]]) -> None:
        """Add the instances of a series in their order."""
        self._session.add_all(
            InstanceRow(
                sop_instance_uid=ref.sop_instance_uid,
                series_key=series_key,
                position=position,
                sop_class_uid=ref.sop_class_uid,
                sealed_file=self._vault.seal_text(
                    _file_of(ref.sop_instance_uid), stored_text(ref.file, self._folder)
                ),
                frames=ref.frames,
                instance_number=ref.instance_number,
                sha256=ref.sha256,
                size=stamp.size,
                mtime_ns=stamp.mtime_ns,
            )
            for position, (ref, stamp) in enumerate(instances)
        )
        self._session.flush()

    def of_series(self, series_key: str) -> tuple[InstanceRef, ...]:
        """Return the instances of a series in their order."""
        query = select(InstanceRow).where(InstanceRow.series_key == series_key).order_by(InstanceRow.position)
        return tuple(self._reference(row) for row in self._session.scalars(query))

    def get(self, sop_instance_uid: str) -> InstanceRef | None:
        """Return one instance."""
        row = self._session.get(InstanceRow, sop_instance_uid)
        return None if row is None else self._reference(row)

    def known(self, sop_instance_uids: Iterable[str]) -> dict[str, StoredFile]:
        """Return what is stored of those UIDs that are in the index."""
        query = select(*InstanceRow.__table__.c, SeriesRow.series_uid).join(
            SeriesRow, SeriesRow.key == InstanceRow.series_key
        )
        rows = _chunked(self._session, query, InstanceRow.sop_instance_uid, sop_instance_uids)
        return {row.sop_instance_uid: self._stored(row) for row in rows}

    def of_series_uid(self, series_uid: str) -> dict[str, StoredFile]:
        """Return what is stored of all groups of a DICOM series."""
        query = (
            select(*InstanceRow.__table__.c, SeriesRow.series_uid)
            .join(SeriesRow, SeriesRow.key == InstanceRow.series_key)
            .where(SeriesRow.series_uid == series_uid)
        )
        return {row.sop_instance_uid: self._stored(row) for row in self._session.execute(query)}

    def count(self) -> int:
        """Number of instances in the index."""
        return self._session.scalar(select(func.count()).select_from(InstanceRow)) or 0

    def _stored(self, row: Any) -> StoredFile:
        return StoredFile(self._reference(row), FileStamp(row.size, row.mtime_ns), row.series_uid)

    def _reference(self, row: Any) -> InstanceRef:
        text = self._vault.open_text(_file_of(row.sop_instance_uid), row.sealed_file)
        return InstanceRef(
            sop_instance_uid=row.sop_instance_uid,
            sop_class_uid=row.sop_class_uid,
            file=resolved(text, self._folder),
            frames=row.frames,
            instance_number=row.instance_number,
            sha256=row.sha256,
        )


def _short(text: str, limit: int) -> str:
    """Return what a column of PostgreSQL takes: no NUL, no more than ``limit`` characters."""
    return text.replace("\0", "")[:limit]


def _description_of(identifier: str) -> str:
    return f"description/{identifier}"


def _file_of(sop_instance_uid: str) -> str:
    return f"file/{sop_instance_uid}"


def _triple(values: Sequence[Any] | None) -> Any:
    return tuple(values) if values else None


def _chunked(session: Session, query: Any, column: Any, values: Iterable[str] | None) -> Iterable[Any]:
    """Run ``query`` for all rows, or for those whose ``column`` is among ``values``, some hundred at a time."""
    if values is None:
        yield from session.execute(query)
        return
    wanted = list(values)
    for start in range(0, len(wanted), _CHUNK):
        yield from session.execute(query.where(column.in_(wanted[start : start + _CHUNK])))
