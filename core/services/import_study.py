"""Brings studies into the library, linked or copied.

Series enter the library while the walk still goes on: the first one within a second, others when they seem
complete, in transactions of some hundred instances with one audit record per study. A second run finds what the first
one finished and does the rest, so an interrupted import is completed by repeating it. A file whose UID is known with
other content is a conflict: both files stay, and a person decides. Damaged files are set aside with the reason.

Copies lie in the library's folder under names made from their UID, encrypted unless the settings say otherwise.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from core.config.atomic import sweep_parts
from core.config.keys import KEY_BYTES
from core.config.sealed_file import mounted
from core.config.temp import work_folder
from core.dicom.files import Mark
from core.dicom.header import Header
from core.dicom.scan import HeaderScan, without_repeats
from core.dicom.series import build_series
from core.domain.errors import InputError
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.study import ImportReport, ScannedSeries, SeriesKind, SkippedFile
from core.formats.scan import scan_files
from core.services import thumbnails
from core.services.engine import Engine
from core.services.import_batches import batches, grouped
from core.services.import_contents import note_digests
from core.services.import_piles import Pile, SeriesPiles, replace_headers
from core.services.import_writer import ImportWriter, OnSeries, Rival, Tally
from core.services.picture_studies import at_home
from core.services.removable import medium_of

Mode = Literal["link", "copy"]
FIRST_WRITE_S = 0.4
WRITE_EVERY_S = 1.0
LOOK_EVERY_S = 0.05
_GROWING_FACTOR = 4.0
_WALK_SHARE = 0.8


def import_paths(
    engine: Engine,
    paths: Sequence[Path],
    *,
    mode: Mode | str = "link",
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    on_series: OnSeries | None = None,
    password: str | None = None,
    accept_foreign: bool = False,
    children: int | None = None,
) -> ImportReport:
    """Import files, folders, DICOMDIRs, ZIP archives, NIfTI files and pictures.

    Parameters
    ----------
    mode : str
        ``"link"`` leaves the files where they are; ``"copy"`` copies them. What comes out of an archive is
        always copied.
    on_series : callable or None
        Called in the calling thread with each series as soon as it is in the library, again when it has grown.
    password : str or None
        Of encrypted ZIP archives.
    accept_foreign : bool
        Import files that begin like a program instead of setting them aside.
    children : int or None
        Scanner processes; None lets the computer decide.

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
    tally = Tally()
    copies = mode == "copy"
    # What is unpacked names patients: it is sealed under a key that nobody has any more when this process is gone.
    with (
        work_folder(engine.paths.temp, "import") as work_dir,
        mounted(work_dir, secrets.token_bytes(KEY_BYTES)),
    ):
        scan = HeaderScan(
            chosen,
            cancel=cancel,
            work_dir=work_dir,
            password=password,
            children=children,
            refuse_foreign=not accept_foreign,
        )
        places = {path if path.is_dir() else path.parent for path in chosen}
        lasting = not copies and all(medium_of(place) != "removable" for place in places)
        writer = ImportWriter(
            engine, work_dir, tally, copies=copies, keeps_damaged=not lasting, on_series=on_series
        )
        run = _Run(engine, scan, writer, tally, progress, cancel)
        run.walk()
        run.other_formats()
        run.finish()
    if engine.once("sweep/instances"):
        sweep_parts(engine.paths.instances)  # of processes that died within a copy
    note_digests(engine, tally.unhashed, _share_of(progress, _WALK_SHARE, 1.0), cancel)
    progress("Importing", 1.0)
    with engine.unit_of_work(writes=False) as uow:
        studies = tuple(uow.studies.summaries(list(tally.studies)))
    counts = {"instances": len(tally.added), "series": sum(tally.parts.values())}
    return ImportReport(studies, len(tally.present), tuple(tally.skipped), time.monotonic() - started, counts)


def _share_of(progress: Progress, low: float, high: float) -> Progress:
    """Return what a phase reports to, whose own nought and one are ``low`` and ``high`` of the whole."""

    def report(phase: str, fraction: float) -> None:
        progress(phase, low + (high - low) * fraction)

    return report


class _Run:
    """One import: takes headers from the scan and hands series to the writer when they are due."""

    def __init__(
        self,
        engine: Engine,
        scan: HeaderScan,
        writer: ImportWriter,
        tally: Tally,
        progress: Progress,
        cancel: CancelToken | None,
    ) -> None:
        self._engine = engine
        self._scan = scan
        self._writer = writer
        self._tally = tally
        self._progress = _share_of(progress, 0.0, _WALK_SHARE)
        self._cancel = cancel
        self._piles = SeriesPiles()
        self._repeated: dict[str, SkippedFile] = {}
        self._damaged_noted = 0
        self._pictured: set[str] = set()
        begin = time.monotonic()
        self._next_write = begin + FIRST_WRITE_S
        self._next_growing = begin + FIRST_WRITE_S
        self._begin = self._next_look = begin
        self._wrote_any = False

    def walk(self) -> None:
        """Read all headers; write what is due meanwhile, and the rest at the end."""
        for found in self._scan:
            if isinstance(found, Header):
                self._piles.add(found)
            elif isinstance(found, Mark) and found.what is not None:
                self._piles.leave(found.what)
            if time.monotonic() >= self._next_look:
                self._look()
        self._write(self._piles.growing())

    def _look(self) -> None:
        self._progress("Importing", self._scan.share)
        now = time.monotonic()
        self._next_look = now + LOOK_EVERY_S
        if now >= self._next_growing:
            # Series that are still growing are shown too; ever more seldom, so that the work stays linear.
            due = self._piles.settled() or self._piles.largest()
            self._write(self._piles.growing() if self._wrote_any else due)
            self._next_growing = self._begin + (time.monotonic() - self._begin) * _GROWING_FACTOR
            return
        settled = self._piles.settled() if now >= self._next_write else []
        if settled:
            self._write(settled)

    def _write(self, piles: list[Pile]) -> None:
        """Write series into the library; what was damaged so far is noted first."""
        self._note_damaged()
        if piles:
            headers = [header for pile in piles for header in pile.headers]
            kept, rivals = without_repeats(headers, self._tally.skipped)
            if len(kept) < len(headers):
                replace_headers(piles, kept)
            series, repeated = build_series(kept)
            self._repeated.update({one.file: one for one in repeated})
            self._take([self._scan.with_shortfall(one) for one in series])
            self._writer.note_rivals(
                [Rival(r.other.sop_instance_uid, r.kept.study_uid, r.other.file) for r in rivals]
            )
            self._piles.wrote([pile for pile in piles if pile.headers])
            self._wrote_any = True
        self._next_write = time.monotonic() + WRITE_EVERY_S

    def _take(self, series: Sequence[ScannedSeries]) -> None:
        for batch in batches(grouped(series)):
            if self._cancel is not None:
                self._cancel.raise_if_cancelled()
            written = self._writer.take(batch)
            self._picture(written)
            self._progress("Importing", self._scan.share)

    def _picture(self, written: Sequence[ScannedSeries]) -> None:
        """Make the thumbnail of each study's first series, which is what a person sees first."""
        for one in written:
            summary = one.summary
            if summary.study_uid in self._pictured or summary.kind is SeriesKind.OTHER:
                continue
            self._pictured.add(summary.study_uid)
            thumbnails.thumbnail(self._engine, summary, one.instances)

    def other_formats(self) -> None:
        """Take NIfTI volumes and pictures among the files that aren't DICOM."""
        unread = self._scan.unread
        if not unread:
            return
        other = scan_files(unread, cancel=self._cancel)
        # A file that another reader looked at is spoken of by that reader alone.
        self._scan.skipped[:] = [s for s in self._scan.skipped if s.file not in unread]
        self._scan.skipped.extend(other.skipped)
        self._take(at_home(self._engine, other.series))

    def finish(self) -> None:
        """Bring all skipped files into the tally, and take sound ones off the quarantine."""
        self._note_damaged()
        self._tally.skipped[:0] = self._scan.skipped
        self._tally.skipped.extend(self._repeated.values())
        self._writer.release(self._scan.looked_at, {one.file for one in self._tally.skipped})

    def _note_damaged(self) -> None:
        fresh = self._scan.damaged[self._damaged_noted :]
        self._damaged_noted += len(fresh)
        self._writer.note_damaged(fresh)
