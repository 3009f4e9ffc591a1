"""Brings studies into the library, linked or copied.

Files are scanned, then taken in batches of whole series; each batch is one transaction with one audit record per study.
A second run finds what the first one finished and does the rest, so an interrupted import is completed by repeating
it. A file whose UID is known with other content is a conflict: it is reported and nothing is overwritten.

Copies lie in the library's folder under names made from their UID. They are not encrypted and hold the patient's
identity in clear as their sources do, which is why linking is the default.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from core.config.atomic import sweep_parts
from core.config.temp import work_folder
from core.domain.audit import AuditCode
from core.domain.errors import InputError
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.study import (
    ImportReport,
    InstanceRef,
    ScannedSeries,
    SeriesSummary,
    SkippedFile,
)
from core.library.files import StoredFile
from core.library.unit_of_work import UnitOfWork
from core.services import list_studies
from core.services.engine import Engine
from core.services.import_batches import (
    Group,
    Plan,
    batches,
    grouped,
    present,
    stamp_of,
    study_of,
    verdicts_on,
    with_digests,
)
from core.services.import_files import Known, take_copies
from core.services.scan_sources import scan_sources

Mode = Literal["link", "copy"]
OnSeries = Callable[[SeriesSummary], None]
_SCANNING_SHARE = 0.6
_CONFLICT = "The library has another file with the same SOP Instance UID but other content; it was kept."


@dataclass
class _Tally:
    already_present: int = 0
    added: int = 0
    series: int = 0
    skipped: list[SkippedFile] = field(default_factory=list)
    studies: dict[str, None] = field(default_factory=dict)


def import_paths(
    engine: Engine,
    paths: Sequence[Path],
    *,
    mode: Mode | str = "link",
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    on_series: OnSeries | None = None,
    password: str | None = None,
) -> ImportReport:
    """Import files, folders, DICOMDIRs, ZIP archives, NIfTI files and pictures.

    Parameters
    ----------
    mode : str
        ``"link"`` leaves the files where they are; ``"copy"`` copies them. What comes out of an archive is
        always copied.
    on_series : callable or None
        Called in the calling thread with each series as soon as it is in the library.

    Returns
    -------
    ImportReport
        ``studies`` are those that the paths held, new or not; ``counts`` has ``"instances"`` and ``"series"`` added.

    Raises
    ------
    InputError
        For an unknown mode or a path that isn't there.
    Cancelled
        When ``cancel`` is set; batches done before stay.
    AppError
        If the library can't be written; batches done before stay.
    """
    started = time.monotonic()
    if mode not in ("link", "copy"):
        raise InputError("import.mode", "There is no such way to import.", "Use link or copy.")
    chosen = [Path(p).expanduser().absolute() for p in paths]
    if any(not p.exists() for p in chosen):
        raise InputError("import.not_found", "A path to import isn't there.", "Check the paths.")
    tally = _Tally()
    with work_folder(engine.paths.temp, "import") as work_dir:
        if mode == "copy":
            sweep_parts(engine.paths.instances)
        scanned = scan_sources(chosen, work_dir, progress=_scanning(progress), cancel=cancel)
        tally.skipped += scanned.skipped
        run = _Import(engine, work_dir, mode == "copy", tally, on_series)
        groups = grouped(scanned.series)
        total, done = sum(len(g.instances) for g in groups) or 1, 0
        for batch in batches(groups):
            if cancel is not None:
                cancel.raise_if_cancelled()
            run.take(batch)
            done += sum(len(g.instances) for g in batch)
            progress("Importing", _SCANNING_SHARE + (1 - _SCANNING_SHARE) * done / total)
    entries = {study.study_uid: study for study in list_studies.list_studies(engine)}
    studies = tuple(entries[uid] for uid in tally.studies if uid in entries)
    counts = {"instances": tally.added, "series": tally.series}
    return ImportReport(
        studies, tally.already_present, tuple(tally.skipped), time.monotonic() - started, counts
    )


def _scanning(progress: Progress) -> Progress:
    """Return what a scan reports to; it counts anew for each path and each format, the reader sees one advance."""
    furthest = 0.0

    def report(phase: str, fraction: float) -> None:
        nonlocal furthest
        furthest = max(furthest, fraction * _SCANNING_SHARE)
        progress(phase, furthest)

    return report


class _Import:
    """Takes batches into the library."""

    def __init__(
        self, engine: Engine, work_dir: Path, copies: bool, tally: _Tally, on_series: OnSeries | None
    ) -> None:
        self._engine = engine
        self._work_dir = work_dir
        self._copies = copies
        self._tally = tally
        self._on_series = on_series

    def take(self, batch: Sequence[Group]) -> None:
        """Bring a batch in: look what is known, complete and copy, then write in one transaction."""
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
        self._tell(batch, plans, verdicts)

    def _tell(self, batch: Sequence[Group], plans: Sequence[Plan], verdicts: dict[str, Known]) -> None:
        tally = self._tally
        tally.studies.update(dict.fromkeys(group.study_uid for group in batch))
        tally.added += sum(plan.new for plan in plans)
        tally.series += sum(len(plan.parts) for plan in plans)
        for ref in (ref for group in batch for ref in group.instances):
            verdict = verdicts.get(ref.sop_instance_uid)
            if verdict is Known.CONFLICT:
                tally.skipped.append(SkippedFile(str(ref.file), "import.conflict", _CONFLICT))
            elif verdict is not None:
                tally.already_present += 1
        if self._on_series is not None:
            for part in (part for plan in plans for part in plan.parts):
                self._on_series(part.summary)

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
        if stored or len(fresh) < len(group.instances):
            parts = self._completed(group.series_uid, stored, [*fresh, *moved])
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
        return Plan(group.series_uid, parts, bool(stored), len(fresh)) if parts else None

    def _completed(
        self, series_uid: str, stored: dict[str, StoredFile], new: Sequence[InstanceRef]
    ) -> tuple[ScannedSeries, ...]:
        """Scan again what the library has of a series together with what is new or moved of it."""
        replaced = {ref.sop_instance_uid for ref in new}
        kept = [file.instance for uid, file in stored.items() if uid not in replaced]
        files = [ref.file for ref in (*kept, *new) if ref.file.exists()]
        found = scan_sources(files, self._work_dir)
        parts = tuple(s for s in found.series if s.summary.series_uid == series_uid)
        if not parts:
            return parts
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
        first = plan.parts[0]
        study_uid = first.summary.study_uid
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
        added = sum(plan.new for plan in plans)
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
