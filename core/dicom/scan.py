"""Find the series below files, folders, DICOMDIRs and ZIP archives. Reads headers, decodes nothing."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.config.sealed_file import open_plain
from core.dicom.archive import extract, is_zip
from core.dicom.dicomdir import listed_files
from core.dicom.elements import ChangedElements, RawElement
from core.dicom.faults import malformed, translated
from core.dicom.files import Entry, Mark, regular_files
from core.dicom.header import Header
from core.dicom.parallel_scan import Outcome, read_headers
from core.dicom.part10 import NotDicom
from core.dicom.reading import IncompleteImage, IsDicomdir
from core.dicom.series import build_series
from core.domain.errors import AppError, InputError
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.study import ScannedSeries, ScanResult, SkippedFile
from core.domain.volume import SeriesIssue

_REPORT_EVERY = 64
_SHARING_FROM = 1000
_SHARED_AT_MOST = 200_000
_FOREIGN = "The file begins like a program (an executable's signature stands before its DICOM part)."
_NOT_DICOM = "This is not a DICOM file."


@dataclass(frozen=True)
class DamagedFile:
    """A DICOM file that is broken; ``shown`` is its name for people, ``file`` where its bytes lie now."""

    shown: str
    file: Path
    code: str
    message: str


@dataclass(frozen=True)
class SameUid:
    """A file (``other``) with the SOP Instance UID of ``kept`` but other content."""

    kept: Header
    other: Header


def scan_paths(
    paths: Sequence[Path],
    *,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    work_dir: Path | None = None,
    password: str | None = None,
    children: int | None = None,
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
    password : str or None
        Of ZIP archives.
    children : int or None
        Scanner processes; see ``read_headers``.

    Returns
    -------
    ScanResult
        Every file is in a series or in ``skipped``. Files that aren't DICOM are in ``unread`` too.

    Raises
    ------
    Cancelled
        When ``cancel`` is set.
    """
    scan = HeaderScan(paths, cancel=cancel, work_dir=work_dir, password=password, children=children)
    headers: list[Header] = []
    for number, found in enumerate(scan):
        if number % _REPORT_EVERY == 0:
            progress("Reading headers", scan.share)
        if isinstance(found, Header):
            headers.append(found)
    progress("Reading headers", 1.0)
    kept, _ = without_repeats(headers, scan.skipped)
    series, repeated = build_series(kept)
    series = [scan.with_shortfall(one) for one in series]
    return ScanResult(tuple(series), (*scan.skipped, *repeated), scan.unread)


class HeaderScan:
    """Reads the headers below paths; iterate once. Parameters as those of ``scan_paths``.

    With ``refuse_foreign``, files that begin like a program count as damaged.

    Iterating yields headers, and marks when the walk has left a folder. It raises Cancelled.

    Attributes
    ----------
    share : float
        How much of the walk is done, 0 to 1; only grows.
    skipped : list of SkippedFile
        Files that gave no header so far.
    unread : dict
        Those of them that aren't DICOM: name to show and path.
    damaged : list of DamagedFile
        Those of them that are DICOM and broken.
    looked_at : set of str
        Names to show of all files so far.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        cancel: CancelToken | None = None,
        work_dir: Path | None = None,
        password: str | None = None,
        children: int | None = None,
        refuse_foreign: bool = False,
    ) -> None:
        self._paths = [Path(path) for path in paths]
        self._cancel = cancel
        self._work_dir = work_dir
        self._password = password
        self._children = children
        self._refuse_foreign = refuse_foreign
        self.looked_at: set[str] = set()
        self._shared: dict[tuple[str, bytes], RawElement] = {}
        self._count = 0
        self._incomplete: Counter[str] = Counter()
        self.share = 0.0
        self.skipped: list[SkippedFile] = []
        self.unread: dict[str, Path] = {}
        self.damaged: list[DamagedFile] = []

    def __iter__(self) -> Iterator[Header | Mark]:
        """Yield headers and marks."""
        outcomes = read_headers(self._entries(), children=self._children)
        try:
            for entry, outcome in outcomes:
                self._check_cancel()
                if isinstance(entry, Mark):
                    self.share = max(self.share, entry.share)
                    yield entry
                    continue
                file, share = entry
                self.share = max(self.share, share)
                if outcome is None or not self._is_new(file):
                    continue
                if isinstance(outcome, Header) and not outcome.parsed.foreign_preamble:
                    self._share(outcome)
                    yield outcome
                else:
                    yield from self._taken(Path(file), file, outcome)
        finally:
            outcomes.close()  # type: ignore[attr-defined]
        self.share = 1.0
        yield Mark(None, 1.0)

    def with_shortfall(self, series: ScannedSeries) -> ScannedSeries:
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

    def shortfall_of(self, series_uid: str) -> int:
        """Return how many files of a series are incomplete so far."""
        return self._incomplete[series_uid]

    def _entries(self) -> Iterator[Entry]:
        """Walk all paths; each has an equal share of the whole."""
        part = 1.0 / max(1, len(self._paths))
        for number, path in enumerate(self._paths):
            for entry in regular_files(path, self.skipped):
                if isinstance(entry, Mark):
                    yield Mark(entry.what, part * (number + entry.share))
                else:
                    yield entry[0], part * (number + entry[1])

    def _check_cancel(self) -> None:
        if self._cancel is not None:
            self._cancel.raise_if_cancelled()

    def _is_new(self, file: str) -> bool:
        before = len(self.looked_at)
        self.looked_at.add(file)
        return len(self.looked_at) > before

    def _taken(self, file: Path, shown: str, outcome: Outcome) -> Iterator[Header]:
        """Yield the header, or those of the files that a DICOMDIR or an archive stands for."""
        if isinstance(outcome, Header):
            if self._refuse_foreign and outcome.parsed.foreign_preamble:
                self._skip(file, shown, malformed(_FOREIGN, "dicom.foreign_preamble"))
                return
            self._share(outcome)
            yield outcome
        elif isinstance(outcome, AppError):
            self._skip(file, shown, outcome)
        elif isinstance(outcome, IsDicomdir):
            if not self._is_unpacked(file):  # all that an archive holds is read anyway
                yield from self._listed(file)
        else:
            yield from self._other(file, shown)

    def _listed(self, dicomdir: Path) -> Iterator[Header]:
        try:
            with translated("Reading the DICOMDIR"):
                listed = [path for path in listed_files(dicomdir, self.skipped) if self._is_new(str(path))]
        except NotDicom:
            return
        except AppError as error:
            self._skip(dicomdir, str(dicomdir), error)
            return
        for entry, outcome in read_headers(((str(path), self.share) for path in listed), children=0):
            self._check_cancel()
            assert not isinstance(entry, Mark)
            assert outcome is not None
            yield from self._taken(Path(entry[0]), entry[0], outcome)

    def _other(self, file: Path, shown: str) -> Iterator[Header]:
        """Look into an archive; anything else is left to other readers."""
        try:
            with translated("Reading the file"):
                archive = not self._is_unpacked(file) and is_zip(file)
            if not archive:
                self.skipped.append(SkippedFile(shown, "dicom.not_dicom", _NOT_DICOM))
                self.unread[shown] = file
            elif self._work_dir is None:
                self.skipped.append(
                    SkippedFile(shown, "zip.no_room", "No folder to unpack archives was given.")
                )
            else:
                yield from self._members(file, self._work_dir)
        except AppError as error:
            self._check_cancel()
            self._skip(file, shown, error)

    def _is_unpacked(self, file: Path) -> bool:
        """Whether a file came out of an archive: archives inside of archives stay packed."""
        return self._work_dir is not None and file.is_relative_to(self._work_dir)

    def _members(self, archive: Path, work_dir: Path) -> Iterator[Header]:
        shown_as: dict[str, str] = {}

        def unpacked() -> Iterator[Entry]:
            for file, shown in extract(archive, work_dir, self.skipped, password=self._password):
                shown_as[str(file)] = shown
                yield str(file), self.share

        with translated("Unpacking the archive"):
            for entry, outcome in read_headers(unpacked(), children=0):
                self._check_cancel()
                assert not isinstance(entry, Mark)
                assert outcome is not None
                shown = shown_as.pop(entry[0])
                self.looked_at.add(shown)
                yield from self._taken(Path(entry[0]), shown, outcome)

    def _share(self, header: Header) -> None:
        """Let equal elements of many files be one object: large scans then need half the memory."""
        self._count += 1
        if self._count < _SHARING_FROM or len(self._shared) > _SHARED_AT_MOST:
            return
        if isinstance(header.elements, ChangedElements):
            return
        raw = header.elements.raw
        for tag, element in raw.items():
            if not element.items:
                raw[tag] = self._shared.setdefault((element.vr, element.value), element)

    def _skip(self, file: Path, shown: str, error: AppError) -> None:
        if isinstance(error, IncompleteImage):
            self._incomplete[error.series_uid] += 1
        if isinstance(error, InputError) and error.code.startswith("dicom."):
            self.damaged.append(DamagedFile(shown, file, error.code, error.user_message))
        self.skipped.append(SkippedFile(shown, error.code, error.user_message))


def without_repeats(headers: list[Header], skipped: list[SkippedFile]) -> tuple[list[Header], list[SameUid]]:
    """Keep one file per SOP Instance UID: lossless before lossy, then by path.

    Returns
    -------
    kept : list of Header
        One per UID; those with a rival say so in their issues.
    rivals : list of SameUid
        Files with other content under a UID that is kept. They and exact repeats go to ``skipped``.
    """
    headers.sort(key=lambda h: (h.lossy, str(h.file)))
    kept: dict[str, Header] = {}
    rivals: list[SameUid] = []
    for header in headers:
        first = kept.setdefault(header.sop_instance_uid, header)
        if first is header:
            continue
        if _digest(first.file) == _digest(header.file):
            skipped.append(SkippedFile(str(header.file), "dicom.duplicate", "The same file was found twice."))
            continue
        rivals.append(SameUid(first, header))
        skipped.append(
            SkippedFile(
                str(header.file),
                "dicom.uid_conflict",
                "Another file has the same SOP Instance UID but other content; the first one was kept.",
            )
        )
        if any(issue.code == "dicom.uid_conflict" for issue in first.issues):
            continue
        first.issues = (
            *first.issues,
            SeriesIssue(
                "dicom.uid_conflict", "Another file with the same SOP Instance UID but other content exists."
            ),
        )
    return list(kept.values()), rivals


def _digest(file: Path) -> bytes:
    with open_plain(file) as stream:
        return hashlib.file_digest(stream, "sha256").digest()
