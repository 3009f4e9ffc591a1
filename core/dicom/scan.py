"""Find the series below files, folders, DICOMDIRs and ZIP archives. Reads headers, decodes nothing."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from core.config.sealed_file import open_plain
from core.dicom.archive import extract, is_zip
from core.dicom.dicomdir import listed_files
from core.dicom.elements import RawElement
from core.dicom.faults import translated
from core.dicom.files import regular_files
from core.dicom.header import Header
from core.dicom.part10 import NotDicom
from core.dicom.reading import IncompleteImage, IsDicomdir, read_header
from core.dicom.series import build_series
from core.domain.errors import AppError
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.study import ScannedSeries, ScanResult, SkippedFile
from core.domain.volume import SeriesIssue

_REPORT_EVERY = 64
_SHARING_FROM = 1000
_NOT_DICOM = "This is not a DICOM file."


def scan_paths(
    paths: Sequence[Path],
    *,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    work_dir: Path | None = None,
) -> ScanResult:
    """Find the DICOM series below ``paths``.

    Parameters
    ----------
    paths : sequence of Path
        Files, folders (recursively), DICOMDIR files, ZIP archives.
    progress : Progress
        Called from the calling thread.
    work_dir : Path or None
        Where members of ZIP archives are unpacked to; the files stay there, the caller owns them. Without it
        archives are refused.

    Returns
    -------
    ScanResult
        Every file is in a series or in ``skipped``. Files that aren't DICOM are in ``unread`` too.

    Raises
    ------
    Cancelled
        When ``cancel`` is set.
    """
    scan = _Scan(progress, cancel, work_dir)
    for path in paths:
        scan.take(Path(path))
    return scan.result()


class _Scan:
    def __init__(self, progress: Progress, cancel: CancelToken | None, work_dir: Path | None) -> None:
        self._progress = progress
        self._cancel = cancel
        self._work_dir = work_dir
        self._headers: dict[Path, Header] = {}
        self._skipped: list[SkippedFile] = []
        self._unread: dict[str, Path] = {}
        self._incomplete: Counter[str] = Counter()
        self._seen: set[Path] = set()
        self._shared: dict[tuple[str, bytes], RawElement] = {}

    def take(self, path: Path) -> None:
        """Read one file or folder that the user named."""
        files = list(regular_files(path, self._skipped))
        for number, file in enumerate(files):
            if number % _REPORT_EVERY == 0:
                self._progress("Reading headers", number / len(files))
            self._take_file(file)
        self._progress("Reading headers", 1.0)

    def _take_file(self, file: Path) -> None:
        if self._cancel is not None:
            self._cancel.raise_if_cancelled()
        if file in self._seen:
            return
        self._seen.add(file)
        try:
            with translated("Reading the header"):
                if self._read(file):
                    return
                if is_zip(file):
                    self._take_archive(file)
                else:
                    self._note_unread(file, str(file))
        except AppError as error:
            self._skip(str(file), error)

    def _read(self, file: Path) -> bool:
        """Read a file's header; False if it isn't DICOM."""
        try:
            header = read_header(file)
        except NotDicom:
            return False
        except IsDicomdir:
            for listed in listed_files(file, self._skipped):
                self._take_file(listed)
            return True
        if len(self._headers) >= _SHARING_FROM:
            self._share(header)
        self._headers[file] = header
        return True

    def _share(self, header: Header) -> None:
        """Let equal elements of many files be one object: large scans then need half the memory."""
        raw = header.elements.raw
        for tag, element in raw.items():
            if not element.items:
                raw[tag] = self._shared.setdefault((element.vr, element.value), element)

    def _take_archive(self, archive: Path) -> None:
        if self._work_dir is None:
            self._skipped.append(
                SkippedFile(str(archive), "zip.no_room", "No folder to unpack archives was given.")
            )
            return
        for file, shown in self._members(archive):
            if self._cancel is not None:
                self._cancel.raise_if_cancelled()
            try:
                with translated("Reading the header"):
                    if not self._read(file):
                        self._note_unread(file, shown)
            except AppError as error:
                self._skip(shown, error)

    def _members(self, archive: Path) -> Iterator[tuple[Path, str]]:
        assert self._work_dir is not None
        yield from extract(archive, self._work_dir, self._skipped)

    def _note_unread(self, file: Path, shown: str) -> None:
        self._skipped.append(SkippedFile(shown, "dicom.not_dicom", _NOT_DICOM))
        self._unread[shown] = file

    def _skip(self, shown: str, error: AppError) -> None:
        if isinstance(error, IncompleteImage):
            self._incomplete[error.series_uid] += 1
        self._skipped.append(SkippedFile(shown, error.code, error.user_message))

    def result(self) -> ScanResult:
        """Group what was read."""
        headers = _without_repeats(list(self._headers.values()), self._skipped)
        series, repeated = build_series(headers)
        series = [self._with_shortfall(one) for one in series]
        return ScanResult(tuple(series), (*self._skipped, *repeated), self._unread)

    def _with_shortfall(self, series: ScannedSeries) -> ScannedSeries:
        """Say on a series that some of its files could not be used."""
        count = self._incomplete[series.summary.series_uid]
        if not count:
            return series
        files = "1 file" if count == 1 else f"{count} files"
        issue = SeriesIssue(
            "dicom.incomplete_series",
            f"{files} of this series left out because the pixels are incomplete; slices may be missing.",
            blocks_volumetry=True,
        )
        summary = dataclasses.replace(series.summary, issues=(*series.summary.issues, issue))
        return dataclasses.replace(series, summary=summary)


def _without_repeats(headers: list[Header], skipped: list[SkippedFile]) -> list[Header]:
    """Keep one file per SOP Instance UID: lossless before lossy, then by path."""
    headers.sort(key=lambda h: (h.lossy, str(h.file)))
    kept: dict[str, Header] = {}
    for header in headers:
        first = kept.setdefault(header.sop_instance_uid, header)
        if first is header:
            continue
        if _digest(first.file) == _digest(header.file):
            skipped.append(SkippedFile(str(header.file), "dicom.duplicate", "The same file was found twice."))
            continue
        skipped.append(
            SkippedFile(
                str(header.file),
                "dicom.uid_conflict",
                "Another file has the same SOP Instance UID but other content; the first one was kept.",
            )
        )
        first.issues = (
            *first.issues,
            SeriesIssue(
                "dicom.uid_conflict", "Another file with the same SOP Instance UID but other content exists."
            ),
        )
    return list(kept.values())


def _digest(file: Path) -> bytes:
    with open_plain(file) as stream:
        return hashlib.file_digest(stream, "sha256").digest()
