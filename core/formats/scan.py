"""Series from files that aren't DICOM: NIfTI and NRRD volumes, pictures and stacks of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from numpy.typing import NDArray

from core.domain.errors import AppError
from core.domain.geometry import VolumeGeometry
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.study import InstanceRef, ScannedSeries, ScanResult, SeriesKind, SeriesSummary, SkippedFile
from core.domain.volume import SeriesIssue
from core.formats.images import (
    UNCALIBRATED,
    NumberedPicture,
    PictureHeader,
    is_picture,
    read_picture_header,
    stacks_of,
)
from core.formats.modality import looks_like_hounsfield
from core.formats.nifti import content_uid, is_nifti, read_nifti, read_nifti_header
from core.formats.nrrd import NrrdHeader, is_nrrd, read_nrrd, read_nrrd_header
from core.formats.other_formats import named_format

_GUESS_LIMIT_VOXELS = 40_000_000
_UNKNOWN = "Neither DICOM, NIfTI, NRRD, PNG, JPEG nor TIFF."


def scan_files(
    files: Mapping[str, Path] | Sequence[Path],
    *,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> ScanResult:
    """Read the headers of NIfTI and NRRD files and pictures.

    Parameters
    ----------
    files : mapping of str to Path, or sequence of Path
        The files; a mapping gives the name to show for each (``ScanResult.unread`` of the DICOM scan fits).

    Returns
    -------
    ScanResult
        One series per file, or per stack of numbered pictures; the pictures of one folder are one study. What is
        none stands in ``skipped`` and ``unread``.

    Raises
    ------
    Cancelled
        When ``cancel`` is set.
    """
    named = dict(files) if isinstance(files, Mapping) else {str(path): Path(path) for path in files}
    scan = _Scan()
    for number, (shown, path) in enumerate(named.items()):
        if cancel is not None:
            cancel.raise_if_cancelled()
        progress("Reading files", number / len(named))
        scan.take(shown, path)
    result = scan.result()
    progress("Reading files", 1.0)
    return result


class _Scan:
    """Collects series; pictures wait until all are known, because several may be one stack."""

    def __init__(self) -> None:
        self._series: dict[str, ScannedSeries] = {}
        self._skipped: list[SkippedFile] = []
        self._unread: dict[str, Path] = {}
        self._pictures: dict[Path, tuple[str, PictureHeader]] = {}
        self._belonging: set[Path] = set()
        self._found: list[tuple[str, Path, ScannedSeries]] = []

    def take(self, shown: str, path: Path) -> None:
        """Look at one file."""
        try:
            if is_nifti(path):
                self._add(shown, _nifti_series(path))
            elif is_nrrd(path):
                header = read_nrrd_header(path)
                if header.data_file is not None:
                    self._belonging.add(header.data_file.resolve())
                self._add(shown, _nrrd_series(path, header))
            elif is_picture(path):
                self._pictures[path] = (shown, read_picture_header(path))
            else:
                self._refuse(shown, path)
        except AppError as error:
            self._skipped.append(SkippedFile(shown, error.code, error.user_message))
        except OSError as error:
            self._skipped.append(_unreadable(shown, error))

    def _refuse(self, shown: str, path: Path) -> None:
        words = named_format(path)
        code = "file.unsupported_format" if words else "file.unknown_format"
        self._skipped.append(SkippedFile(shown, code, words or _UNKNOWN))
        self._unread[shown] = path

    def _add(self, shown: str, found: ScannedSeries) -> None:
        if found.summary.key in self._series:
            self._skipped.append(SkippedFile(shown, "file.duplicate", "The same file was found twice."))
        else:
            self._series[found.summary.key] = found

    def _take_pictures(self) -> None:
        """Make series of the pictures, and one study of those of a folder."""
        numbered = [NumberedPicture.of(path, header) for path, (_, header) in self._pictures.items()]
        alone = dict(self._pictures)
        for stack in stacks_of([one for one in numbered if one is not None]):
            shown = alone[stack[0].path][0]
            for one in stack:
                del alone[one.path]
            self._make(shown, stack[0].path.parent, partial(_stack_series, stack))
        for path, (shown, header) in alone.items():
            self._make(shown, path.parent, partial(_picture_series, path, header))
        in_folder: dict[Path, list[ScannedSeries]] = {}
        for _, folder, found in self._found:
            in_folder.setdefault(folder, []).append(found)
        studies = {folder: _picture_study(series) for folder, series in in_folder.items()}
        for shown, folder, found in self._found:
            self._add(shown, _in_study(found, studies[folder]))

    def _make(self, shown: str, folder: Path, make: Callable[[], ScannedSeries]) -> None:
        try:
            self._found.append((shown, folder, make()))
        except OSError as error:
            self._skipped.append(_unreadable(shown, error))

    def result(self) -> ScanResult:
        """Return what was found; the voxels of a detached header count as read."""
        self._take_pictures()
        used = {shown for shown, path in self._unread.items() if path.resolve() in self._belonging}
        skipped = tuple(s for s in self._skipped if s.file not in used)
        unread = {shown: path for shown, path in self._unread.items() if shown not in used}
        return ScanResult(tuple(self._series.values()), skipped, unread)


def _unreadable(shown: str, error: OSError) -> SkippedFile:
    return SkippedFile(shown, "file.unreadable", f"The file cannot be read: {error.strerror}.")


def _nifti_series(path: Path) -> ScannedSeries:
    header = read_nifti_header(path)
    modality, guess = _modality_of("NIfTI", header.geometry, lambda: read_nifti(path).voxels)
    uid = content_uid(path)
    summary = _summary(uid, "NIfTI volume", modality, header.geometry, header.kind, (*header.issues, guess))
    summary = _over_time(summary, header.frames)
    return ScannedSeries(summary, (InstanceRef(uid, "", path, header.frames),), source_format="nifti")


def _nrrd_series(path: Path, header: NrrdHeader) -> ScannedSeries:
    modality, guess = _modality_of("NRRD", header.geometry, lambda: read_nrrd(path).voxels)
    uid = content_uid(path)
    instances = [InstanceRef(uid, "", path, header.frames)]
    if header.data_file is not None:
        instances.append(InstanceRef(content_uid(header.data_file), "", header.data_file, 1))
    summary = _summary(uid, "NRRD volume", modality, header.geometry, header.kind, (*header.issues, guess))
    summary = replace(_over_time(summary, header.frames), instances=len(instances))
    return ScannedSeries(summary, tuple(instances), source_format="nrrd")


def _over_time(summary: SeriesSummary, frames: int) -> SeriesSummary:
    return replace(summary, frames=frames, time_points=frames, dimension="time point" if frames > 1 else "")


def _modality_of(name: str, geometry: VolumeGeometry, read: Callable[[], NDArray]) -> tuple[str, SeriesIssue]:
    """Guess CT from the values, and say that it is a guess."""
    k, j, i = geometry.shape_kji
    code = name.lower()
    if k * j * i <= _GUESS_LIMIT_VOXELS and looks_like_hounsfield(read()):
        words = f"{name} states no modality; the values look like CT."
        return "CT", SeriesIssue(f"{code}.modality_guessed", words)
    words = f"{name} states no modality; the values are shown as stored."
    return "OT", SeriesIssue(f"{code}.modality_unknown", words)


def _summary(
    uid: str,
    description: str,
    modality: str,
    geometry: VolumeGeometry,
    kind: SeriesKind,
    issues: tuple[SeriesIssue, ...],
) -> SeriesSummary:
    calibrated = not any(issue.blocks_volumetry for issue in issues)
    return SeriesSummary(
        key=uid,
        series_uid=uid,
        study_uid=uid,
        modality=modality,
        description=description,
        body_part="",
        instances=1,
        frames=1,
        kind=kind,
        shape_kji=geometry.shape_kji,
        spacing_kji_mm=geometry.spacing_kji_mm if calibrated else None,
        regular=calibrated,
        issues=issues,
        axis_codes=geometry.axis_codes() if calibrated else "",
    )


def _picture_study(series: Sequence[ScannedSeries]) -> str:
    """Return the Study Instance UID of all pictures of a folder, from their contents; empty where one series is all.

    Not from the path: sticks of different patients are mounted at the same place, and a folder's name may hold a name
    that a digest of it would give away.
    """
    if len({one.summary.key for one in series}) < 2:
        return ""
    contents = sorted({ref.sop_instance_uid for one in series for ref in one.instances})
    digest = hashlib.sha256("\n".join(("pictures", *contents)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _in_study(series: ScannedSeries, study_uid: str) -> ScannedSeries:
    if not study_uid:
        return series
    summary = replace(series.summary, study_uid=study_uid)
    return replace(series, summary=summary, study_description="Pictures")


def _picture_series(path: Path, header: PictureHeader) -> ScannedSeries:
    uid = content_uid(path)
    summary = _summary(uid, "Picture", "OT", header.geometry, SeriesKind.IMAGE, (UNCALIBRATED,))
    summary = replace(summary, frames=header.pages)
    return ScannedSeries(summary, (InstanceRef(uid, "", path, header.pages),), source_format="image")


def _stack_series(stack: Sequence[NumberedPicture]) -> ScannedSeries:
    """Make numbered pictures one series, in the order of their numbers."""
    instances: dict[str, InstanceRef] = {}
    for one in stack:
        uid = content_uid(one.path)
        instances.setdefault(uid, InstanceRef(uid, "", one.path, 1, one.number))
    digest = hashlib.sha256("\n".join(instances).encode()).digest()
    key = f"2.25.{int.from_bytes(digest[:16], 'big')}"
    first = stack[0].header
    geometry = PictureHeader(len(instances), first.rows, first.columns, first.colour).geometry
    summary = _summary(key, "Picture stack", "OT", geometry, SeriesKind.IMAGE, (UNCALIBRATED,))
    summary = replace(summary, instances=len(instances), frames=len(instances))
    return ScannedSeries(summary, tuple(instances.values()), source_format="image")
