"""Writes series into the library, a transaction per batch, and notes what could not be taken."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from core.config.sealed_file import seal_file
from core.dicom.scan import DamagedFile
from core.domain.audit import AuditCode
from core.domain.errors import EnvironmentFault, SafetyError
from core.domain.study import InstanceRef, ScannedSeries, SeriesSummary, SkippedFile
from core.library.files import StoredFile, copied_name, file_sha256
from core.library.unit_of_work import UnitOfWork
from core.services.engine import Engine
from core.services.import_batches import Group, Plan, present, stamp_of, study_of, verdicts_on, with_digests
from core.services.import_files import Known, copy_file, take_copies
from core.services.picture_studies import PICTURES, in_study
from core.services.scan_sources import scan_sources

OnSeries = Callable[[SeriesSummary], None]
_CONFLICT = "The library has another file with the same SOP Instance UID but other content; both were kept."


@dataclass
class Tally:
    """What an import did so far.

    ``added`` and ``present`` are SOP Instance UIDs, ``parts`` how many series of the library each Series Instance UID
    became, ``unhashed`` the linked files whose digest isn't known.
    """

    added: set[str] = field(default_factory=set)
    present: set[str] = field(default_factory=set)
    parts: dict[str, int] = field(default_factory=dict)
    skipped: list[SkippedFile] = field(default_factory=list)
    studies: dict[str, None] = field(default_factory=dict)
    unhashed: dict[str, Path] = field(default_factory=dict)
    conflicts: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Rival:
    """A file whose SOP Instance UID belongs to another file with other content."""

    sop_instance_uid: str
    study_uid: str
    file: Path


class ImportWriter:
    """Takes batches of whole series into the library.

    Parameters
    ----------
    work_dir : Path
        What lies below is always copied.
    copies : bool
        Whether all files are.
    keeps_damaged : bool
        Whether the bytes of damaged files are kept: their medium goes away.
    """

    def __init__(
        self,
        engine: Engine,
        work_dir: Path,
        tally: Tally,
        *,
        copies: bool,
        keeps_damaged: bool,
        on_series: OnSeries | None = None,
    ) -> None:
        self._engine = engine
        self._work_dir = work_dir
        self._tally = tally
        self._copies = copies
        self._keeps_damaged = keeps_damaged
        self._on_series = on_series

    def take(self, batch: Sequence[Group]) -> list[ScannedSeries]:
        """Bring a batch in: look what is known, complete and copy, then write in one transaction.

        Returns
        -------
        list of ScannedSeries
            What was written, as it is in the library.
        """
        while True:
            known, stored_series = self._known(batch)
            verdicts = verdicts_on(batch, known)
            plans = [
                plan
                for group in batch
                if (plan := self._plan(group, known, verdicts, group.series_uid in stored_series))
            ]
            if self._write(batch, known, stored_series, plans):
                break
            # Another process imported some of these files meanwhile: look again.
        self._note(batch, plans, verdicts, known)
        written = [part for plan in plans for part in plan.parts]
        if self._on_series is not None:
            for part in written:
                self._on_series(part.summary)
        return written

    def note_rivals(self, rivals: Sequence[Rival]) -> None:
        """Put files with the UID of another one on the list of conflicts; of media that go away, copies."""
        notes = [(rival, *self._kept_rival(rival)) for rival in rivals]
        if not notes:
            return
        with self._engine.unit_of_work() as uow:
            for rival, file, digest in notes:
                uow.conflicts.add(rival.sop_instance_uid, rival.study_uid, file, digest, _now())

    def note_damaged(self, damaged: Sequence[DamagedFile]) -> None:
        """Put damaged files into quarantine; of media that go away, with their bytes."""
        notes = [(one, self._kept_damaged(one)) for one in damaged]
        if not notes:
            return
        with self._engine.unit_of_work() as uow:
            for one, copy in notes:
                uow.quarantine.put(copy or one.file, one.code, one.message, _now(), kept=copy is not None)

    def release(self, looked_at: Collection[str], skipped: Collection[str]) -> None:
        """Take files off the quarantine that this import read without a fault; kept copies of them are deleted.

        Parameters
        ----------
        looked_at, skipped : collection of str
            Names to show of all files of this import, and of those that gave nothing.
        """
        with self._engine.unit_of_work(writes=False) as uow:
            records = uow.quarantine.list()
        if not records:
            return
        files = {str(record.file): record for record in records}
        names = [name for name in looked_at if name not in skipped]
        if any(record.kept for record in records):  # a kept copy is named after the file that it was made of
            names += [str(self._damaged_copy(name)) for name in names]
        released = [files[name] for name in names if name in files]
        if not released:
            return
        with self._engine.unit_of_work() as uow:
            for record in released:
                uow.quarantine.remove(record.file_id)
        for record in released:
            if record.kept:
                record.file.unlink(missing_ok=True)

    def _damaged_copy(self, shown: str) -> Path:
        return self._engine.paths.instances / copied_name(f"quarantine/{shown}", ".bad")

    def _kept_rival(self, rival: Rival) -> tuple[Path, str]:
        digest = file_sha256(rival.file)
        if not self._copies and not rival.file.is_relative_to(self._work_dir):
            return rival.file, digest
        name = copied_name(f"conflict/{rival.sop_instance_uid}/{digest}", ".dcm")
        target = self._engine.paths.instances / name
        copy_file(rival.file, target, sealed=self._engine.settings.encrypt_copies)
        return target, digest

    def _kept_damaged(self, one: DamagedFile) -> Path | None:
        """Return the copy of a damaged file; None when it stays where it is or can't be read to its end."""
        if not self._keeps_damaged and not one.file.is_relative_to(self._work_dir):
            return None
        target = self._damaged_copy(one.shown)
        try:
            seal_file(one.file, target)  # whatever the setting: nobody shall open it by accident
        except (OSError, EnvironmentFault, SafetyError):
            return None
        return target

    def _note(
        self,
        batch: Sequence[Group],
        plans: Sequence[Plan],
        verdicts: dict[str, Known],
        known: dict[str, StoredFile],
    ) -> None:
        tally = self._tally
        tally.studies.update(dict.fromkeys(group.study_uid for group in batch))
        for plan in plans:
            tally.added.update(plan.new)
            tally.parts[plan.series_uid] = len(plan.parts)
            for ref in (ref for part in plan.parts for ref in part.instances if not ref.sha256):
                tally.unhashed[ref.sop_instance_uid] = ref.file
        rivals = []
        for group in batch:
            for ref in group.instances:
                verdict = verdicts.get(ref.sop_instance_uid)
                if verdict is Known.CONFLICT:
                    if str(ref.file) in tally.conflicts:
                        continue  # a series that grew is looked at again
                    tally.conflicts.add(str(ref.file))
                    tally.skipped.append(SkippedFile(str(ref.file), "import.conflict", _CONFLICT))
                    rivals.append(Rival(ref.sop_instance_uid, group.study_uid, ref.file))
                elif verdict is not None and ref.sop_instance_uid not in tally.added:
                    tally.present.add(ref.sop_instance_uid)
                    stored = known[ref.sop_instance_uid].instance
                    if not stored.sha256 and stored.file == ref.file:
                        tally.unhashed[ref.sop_instance_uid] = ref.file
        self.note_rivals(rivals)

    def _known(self, batch: Sequence[Group]) -> tuple[dict[str, StoredFile], set[str]]:
        """Return what the library has of the batch: files by UID, and Series Instance UIDs."""
        with self._engine.unit_of_work(writes=False) as uow:
            return present(uow, batch)

    def _plan(
        self, group: Group, known: dict[str, StoredFile], verdicts: dict[str, Known], is_stored: bool
    ) -> Plan | None:
        """Return what to write for a series; None when all of it is there."""
        fresh = [ref for ref in group.instances if ref.sop_instance_uid not in known]
        moved = [
            ref
            for ref in group.instances
            if verdicts.get(ref.sop_instance_uid) is Known.MOVED
            and known[ref.sop_instance_uid].series_uid == group.series_uid
        ]
        if not fresh and not moved:
            return None
        stored: dict[str, StoredFile] = {}
        if is_stored:
            with self._engine.unit_of_work(writes=False) as uow:
                stored = uow.instances.of_series_uid(group.series_uid)
        parts = group.parts
        if _is_grown(group, stored, verdicts):
            digests = {uid: file.instance.sha256 for uid, file in stored.items()}
            files = {uid: file.instance.file for uid, file in stored.items()}
            parts = tuple(_as_stored(with_digests(part, digests), files) for part in parts)
        elif stored or len(fresh) < len(group.instances):
            parts = self._completed(group, stored, [*fresh, *moved])
        only_below = None if self._copies else self._work_dir
        parts = tuple(
            take_copies(
                self._engine.paths.instances,
                part,
                only_below=only_below,
                sealed=self._engine.settings.encrypt_copies,
            )
            for part in parts
        )
        new = tuple(ref.sop_instance_uid for ref in fresh)
        return Plan(group.series_uid, parts, bool(stored), new) if parts else None

    def _completed(
        self, group: Group, stored: dict[str, StoredFile], new: Sequence[InstanceRef]
    ) -> tuple[ScannedSeries, ...]:
        """Scan again what the library has of a series together with what is new or moved of it."""
        replaced = {ref.sop_instance_uid for ref in new}
        kept = [file.instance for uid, file in stored.items() if uid not in replaced]
        files = [ref.file for ref in (*kept, *new) if ref.file.exists()]
        # In this process: the key of sealed copies doesn't leave it.
        found = scan_sources(files, self._work_dir, children=0)
        parts = tuple(
            s
            for s in found.series
            # Of a stack of pictures of which some are in the library already, the others are series of their own.
            if s.summary.series_uid == group.series_uid or (not stored and s.source_format == PICTURES)
        )
        if not parts:
            return parts
        # Pictures state no study; scanned without the others of their folder they would seem to be one of their own.
        parts = tuple(in_study(s, group.study_uid) if s.source_format == PICTURES else s for s in parts)
        seen = {ref.sop_instance_uid for part in parts for ref in part.instances}
        digests = {ref.sop_instance_uid: ref.sha256 for ref in kept}
        parts = tuple(with_digests(part, digests) for part in parts)
        # Files of the series that are out of reach (a medium not inserted) stay in the index.
        lost = tuple(ref for ref in kept if ref.sop_instance_uid not in seen)
        return (replace(parts[0], instances=parts[0].instances + lost), *parts[1:])

    def _write(
        self,
        batch: Sequence[Group],
        known: dict[str, StoredFile],
        stored_series: set[str],
        plans: Sequence[Plan],
    ) -> bool:
        """Write the plans in one transaction; False when the library changed since ``known`` was read."""
        if not plans:
            return True
        with self._engine.unit_of_work() as uow:
            known_now, series_now = present(uow, batch)
            if known_now.keys() != known.keys() or series_now != stored_series:
                return False
            for plan in plans:
                self._write_series(uow, plan)
            for study_uid in dict.fromkeys(plan.study_uid for plan in plans):
                self._record(study_uid, [p for p in plans if p.study_uid == study_uid])
        return True

    def _write_series(self, uow: UnitOfWork, plan: Plan) -> None:
        # More than one only where files of two studies claim one Series Instance UID.
        first_of_study = {part.summary.study_uid: part for part in reversed(plan.parts)}
        for study_uid, first in first_of_study.items():
            if uow.studies.exists(study_uid):
                uow.studies.touch(study_uid)
            else:
                uow.studies.add(study_of(self._engine, first), first.identity)
        if plan.replaces:
            uow.series.remove_series_uid(plan.series_uid)
        for part in plan.parts:
            uow.series.put(part.summary, part.source_format)
            uow.instances.put(part.summary.key, [(ref, stamp_of(ref.file)) for ref in part.instances])

    def _record(self, study_uid: str, plans: Sequence[Plan]) -> None:
        added = sum(len(plan.new) for plan in plans)
        self._engine.record(
            AuditCode.IMPORT,
            action="C",
            object_kind="study",
            object_ref=study_uid,
            n_objects=added,
            detail={
                "mode": "copy" if self._copies else "link",
                "instances": added,
                "series": sum(len(plan.parts) for plan in plans),
            },
        )


def _is_grown(group: Group, stored: dict[str, StoredFile], verdicts: dict[str, Known]) -> bool:
    """Whether the group holds all that the library has of the series, unchanged: nothing need be read again."""
    if not stored:
        return False
    uids = {ref.sop_instance_uid for ref in group.instances}
    rest = uids - stored.keys()
    return (
        stored.keys() <= uids
        and all(verdicts.get(uid) is Known.SAME for uid in stored)
        and all(uid not in verdicts for uid in rest)
    )


def _as_stored(part: ScannedSeries, files: dict[str, Path]) -> ScannedSeries:
    """Return a series whose files are those that the library has already, where it has them."""
    instances = (replace(ref, file=files.get(ref.sop_instance_uid, ref.file)) for ref in part.instances)
    return replace(part, instances=tuple(instances))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
