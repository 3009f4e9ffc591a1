"""What an import works on: whole series in batches, what the library has of them, what it shall have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from core.domain.study import InstanceRef, ReadStatus, ScannedSeries, StudySummary
from core.library.files import FileStamp, StoredFile
from core.library.unit_of_work import UnitOfWork
from core.services.engine import Engine
from core.services.import_files import Known, classify

BATCH_INSTANCES = 500
"""Instances after which a batch, one transaction, is full."""


@dataclass(frozen=True)
class Group:
    """All scanned parts of one DICOM series."""

    series_uid: str
    parts: tuple[ScannedSeries, ...]

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""
        return self.parts[0].summary.study_uid

    @property
    def instances(self) -> list[InstanceRef]:
        """The files of all parts."""
        return [ref for part in self.parts for ref in part.instances]


@dataclass(frozen=True)
class Plan:
    """The state that a series shall have; ``replaces`` when a former state is in the library.

    ``new`` are the SOP Instance UIDs that it gains.
    """

    series_uid: str
    parts: tuple[ScannedSeries, ...]
    replaces: bool
    new: tuple[str, ...]

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""
        return self.parts[0].summary.study_uid


def grouped(series: Sequence[ScannedSeries]) -> list[Group]:
    """Return one group per DICOM series, those of a study together."""
    by_uid: dict[str, list[ScannedSeries]] = {}
    for one in series:
        by_uid.setdefault(one.summary.series_uid, []).append(one)
    groups = [Group(uid, tuple(parts)) for uid, parts in by_uid.items()]
    return sorted(groups, key=lambda g: g.study_uid)


def batches(groups: Sequence[Group]) -> Iterator[list[Group]]:
    """Yield whole series until a batch has some hundred instances."""
    batch: list[Group] = []
    for group in groups:
        batch.append(group)
        if sum(len(g.instances) for g in batch) >= BATCH_INSTANCES:
            yield batch
            batch = []
    if batch:
        yield batch


def present(uow: UnitOfWork, batch: Sequence[Group]) -> tuple[dict[str, StoredFile], set[str]]:
    """Return what the library has of a batch: files by SOP Instance UID, and Series Instance UIDs."""
    files = uow.instances.known(ref.sop_instance_uid for group in batch for ref in group.instances)
    return files, uow.series.present(group.series_uid for group in batch)


def verdicts_on(batch: Sequence[Group], known: dict[str, StoredFile]) -> dict[str, Known]:
    """Return how each file of a batch whose UID is known stands to the library's file."""
    return {
        ref.sop_instance_uid: classify(ref, known[ref.sop_instance_uid])
        for group in batch
        for ref in group.instances
        if ref.sop_instance_uid in known
    }


def with_digests(part: ScannedSeries, digests: dict[str, str]) -> ScannedSeries:
    """Return a series whose files have the digests that the library knew of them."""
    instances = (replace(ref, sha256=digests.get(ref.sop_instance_uid, ref.sha256)) for ref in part.instances)
    return replace(part, instances=tuple(instances))


def study_of(engine: Engine, first: ScannedSeries) -> StudySummary:
    """Return the pseudonymised study of a series that is new in the library."""
    uid = first.summary.study_uid
    return StudySummary(
        study_uid=uid,
        pseudonym=engine.vault.pseudonym(first.identity, uid),
        description=first.study_description,
        modalities=(),
        status=ReadStatus.UNREAD,
        study_date=_year_month(first.study_date),
        imported_utc=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )


def _year_month(date: str) -> str:
    """Return ``YYYY-MM`` of a DICOM or ISO date, empty when it has no such part: the day stays in the file."""
    digits = "".join(c for c in date if c.isdigit())
    return f"{digits[:4]}-{digits[4:6]}" if len(digits) >= 6 else ""


def stamp_of(file: Path) -> FileStamp:
    """Return a file's stamp; one that never agrees when the file is out of reach."""
    try:
        return FileStamp.of(file)
    except OSError:
        return FileStamp(-1, -1)
