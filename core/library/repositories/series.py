"""Displayable series and the files they consist of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from core.domain.study import InstanceRef, ObjectKind, SeriesKind, SeriesSummary
from core.domain.volume import SeriesIssue
from core.library.files import FileStamp, StoredFile, remembered_texts, resolved, stored_text
from core.library.repositories.chunks import in_chunks
from core.library.tables import InstanceRow, SeriesRow
from core.library.vault import IdentityVault

_COLUMNS = (
    "sop_instance_uid",
    "series_key",
    "position",
    "sop_class_uid",
    "sealed_file",
    "frames",
    "instance_number",
    "sha256",
    "size",
    "mtime_ns",
)

# A statement that is made once and gets its values apart: making one per row takes longer than running it.
_INSERT_SERIES = insert(SeriesRow.__table__)  # type: ignore[arg-type]


class SeriesRepository:
    """Displayable series.

    Parameters
    ----------
    touched : set of str
        Receives the studies whose series change; see ``StudyRepository``.
    """

    def __init__(self, session: Session, vault: IdentityVault, touched: set[str]) -> None:
        self._session = session
        self._vault = vault
        self._touched = touched

    def put(self, summary: SeriesSummary, source_format: str) -> None:
        """Add a series."""
        self._touched.add(summary.study_uid)
        self._session.connection().execute(
            _INSERT_SERIES,
            {
                "key": summary.key,
                "series_uid": summary.series_uid,
                "study_uid": summary.study_uid,
                "modality": _short(summary.modality, 16),
                "sealed_description": self._vault.seal_text(
                    _description_of(summary.key), summary.description
                ),
                "body_part": _short(summary.body_part, 64),
                "instances": summary.instances,
                "frames": summary.frames,
                "kind": str(summary.kind),
                "shape_kji": list(summary.shape_kji) if summary.shape_kji else None,
                "spacing_kji_mm": list(summary.spacing_kji_mm) if summary.spacing_kji_mm else None,
                "regular": summary.regular,
                "issues": [asdict(issue) for issue in summary.issues],
                "series_number": summary.series_number,
                "axis_codes": summary.axis_codes,
                "lossy": summary.lossy,
                "frame_of_reference_uid": summary.frame_of_reference_uid,
                "source_format": source_format,
                "time_points": summary.time_points,
                "dimension": _short(summary.dimension, 32),
                "view": _short(summary.view, 32),
                "object_kind": str(summary.object_kind),
                "source_series": list(summary.source_series),
            },
        )

    def remove_series_uid(self, series_uid: str) -> None:
        """Delete all groups of a DICOM series and their instance rows (not the files)."""
        groups = select(SeriesRow.study_uid).where(SeriesRow.series_uid == series_uid)
        self._touched.update(self._session.scalars(groups))
        keys = select(SeriesRow.key).where(SeriesRow.series_uid == series_uid)
        self._session.execute(delete(InstanceRow).where(InstanceRow.series_key.in_(keys)))
        self._session.execute(delete(SeriesRow).where(SeriesRow.series_uid == series_uid))

    def get(self, key_or_uid: str) -> SeriesSummary | None:
        """Return the series of a key, or the first group of a Series Instance UID."""
        query = select(*SeriesRow.__table__.c).order_by(SeriesRow.key)
        row = self._session.execute(query.where(SeriesRow.key == key_or_uid)).first()
        if row is None:
            row = self._session.execute(query.where(SeriesRow.series_uid == key_or_uid)).first()
        return None if row is None else self._summary(row)

    def by_study(self, study_uids: Iterable[str] | None) -> dict[str, list[SeriesSummary]]:
        """Return the series of each study, ordered by series number and key; of all studies when None."""
        query = select(*SeriesRow.__table__.c).order_by(SeriesRow.series_number, SeriesRow.key)
        found: dict[str, list[SeriesSummary]] = {}
        for row in _chunked(self._session, query, SeriesRow.study_uid, study_uids):
            found.setdefault(row.study_uid, []).append(self._summary(row))
        return found

    def keys_of_studies(self, study_uids: Iterable[str] | None) -> list[str]:
        """Return the keys of all series of the studies; of all studies when None."""
        rows = _chunked(self._session, select(SeriesRow.key), SeriesRow.study_uid, study_uids)
        return [row.key for row in rows]

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
            time_points=row.time_points,
            dimension=row.dimension,
            view=row.view,
            object_kind=ObjectKind(row.object_kind),
            source_series=tuple(row.source_series),
        )


class InstanceRepository:
    """Files of the series; paths are sealed."""

    def __init__(self, session: Session, vault: IdentityVault, instances_folder: Path) -> None:
        self._session = session
        self._vault = vault
        self._folder = instances_folder

    def put(self, series_key: str, instances: Sequence[tuple[InstanceRef, FileStamp]]) -> None:
        """Add the instances of a series in their order."""
        if not instances:
            return
        seal = self._vault.seal_text
        texts = remembered_texts([ref.file for ref, _ in instances], self._folder)
        connection = self._session.connection()
        mark = "%s" if connection.dialect.name == "postgresql" else "?"
        # The driver's own statement with all rows: compiled values and an object per row would take four times as
        # long for a study of 20,000 files.
        connection.exec_driver_sql(
            f"INSERT INTO instance ({', '.join(_COLUMNS)}) VALUES ({', '.join([mark] * len(_COLUMNS))})",
            [
                (
                    ref.sop_instance_uid,
                    series_key,
                    position,
                    ref.sop_class_uid,
                    seal(_file_of(ref.sop_instance_uid), text),
                    ref.frames,
                    ref.instance_number,
                    ref.sha256,
                    stamp.size,
                    stamp.mtime_ns,
                )
                for position, ((ref, stamp), text) in enumerate(zip(instances, texts, strict=True))
            ],
        )

    def note_digests(self, digests: Sequence[tuple[str, str, FileStamp]]) -> None:
        """Write the sha256 of files that still have the stamp they were imported with: (UID, sha256, stamp)."""
        connection = self._session.connection()
        mark = "%s" if connection.dialect.name == "postgresql" else "?"
        connection.exec_driver_sql(
            f"UPDATE instance SET sha256 = {mark} "
            f"WHERE sop_instance_uid = {mark} AND size = {mark} AND mtime_ns = {mark}",
            [(sha256, uid, stamp.size, stamp.mtime_ns) for uid, sha256, stamp in digests],
        )

    def replace_file(self, sop_instance_uid: str, file: Path, stamp: FileStamp, sha256: str) -> bool:
        """Let an instance be another file from now on; False when there is no such instance."""
        outcome: Any = self._session.connection().execute(
            InstanceRow.__table__.update()  # type: ignore[attr-defined]
            .where(InstanceRow.sop_instance_uid == sop_instance_uid)
            .values(
                sealed_file=self._vault.seal_text(
                    _file_of(sop_instance_uid), stored_text(file, self._folder)
                ),
                size=stamp.size,
                mtime_ns=stamp.mtime_ns,
                sha256=sha256,
            )
        )
        return bool(outcome.rowcount)

    def of_series(self, series_key: str) -> tuple[InstanceRef, ...]:
        """Return the instances of a series in their order."""
        query = select(*InstanceRow.__table__.c).where(InstanceRow.series_key == series_key)
        rows = self._session.execute(query.order_by(InstanceRow.position))
        return tuple(self._reference(row) for row in rows)

    def get(self, sop_instance_uid: str) -> InstanceRef | None:
        """Return one instance."""
        query = select(*InstanceRow.__table__.c).where(InstanceRow.sop_instance_uid == sop_instance_uid)
        row = self._session.execute(query).one_or_none()
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

    def of_studies(self, study_uids: Iterable[str] | None) -> Iterable[StoredFile]:
        """Yield what is stored of all series of the studies; of all studies when None."""
        query = select(*InstanceRow.__table__.c, SeriesRow.series_uid).join(
            SeriesRow, SeriesRow.key == InstanceRow.series_key
        )
        for row in _chunked(self._session, query, SeriesRow.study_uid, study_uids):
            yield self._stored(row)

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
    for part in in_chunks(list(values)):
        yield from session.execute(query.where(column.in_(part)))
