"""Series from files that aren't DICOM: NIfTI volumes and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from core.domain.errors import AppError
from core.domain.geometry import VolumeGeometry
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.study import InstanceRef, ScannedSeries, ScanResult, SeriesKind, SeriesSummary, SkippedFile
from core.domain.volume import SeriesIssue
from core.formats.images import UNCALIBRATED, is_picture, read_picture_header
from core.formats.modality import looks_like_hounsfield
from core.formats.nifti import content_uid, is_nifti, read_nifti, read_nifti_header

_GUESS_LIMIT_VOXELS = 40_000_000


def scan_files(
    files: Mapping[str, Path] | Sequence[Path],
    *,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> ScanResult:
    """Read the headers of NIfTI files and pictures.

    Parameters
    ----------
    files : mapping of str to Path, or sequence of Path
        The files; a mapping gives the name to show for each (``ScanResult.unread`` of the DICOM scan fits).

    Returns
    -------
    ScanResult
        One series per file; what is neither stands in ``skipped`` and ``unread``.

    Raises
    ------
    Cancelled
        When ``cancel`` is set.
    """
    named = dict(files) if isinstance(files, Mapping) else {str(path): Path(path) for path in files}
    series: list[ScannedSeries] = []
    skipped: list[SkippedFile] = []
    unread: dict[str, Path] = {}
    keys: set[str] = set()
    for number, (shown, path) in enumerate(named.items()):
        if cancel is not None:
            cancel.raise_if_cancelled()
        progress("Reading files", number / len(named))
        try:
            found = _scan_file(path)
        except AppError as error:
            skipped.append(SkippedFile(shown, error.code, error.user_message))
            continue
        except OSError as error:
            skipped.append(
                SkippedFile(shown, "file.unreadable", f"The file cannot be read: {error.strerror}.")
            )
            continue
        if found is None:
            skipped.append(
                SkippedFile(shown, "file.unknown_format", "Neither DICOM, NIfTI, PNG, JPEG nor TIFF.")
            )
            unread[shown] = path
        elif found.summary.key in keys:
            skipped.append(SkippedFile(shown, "file.duplicate", "The same file was found twice."))
        else:
            keys.add(found.summary.key)
            series.append(found)
    progress("Reading files", 1.0)
    return ScanResult(tuple(series), tuple(skipped), unread)


def _scan_file(path: Path) -> ScannedSeries | None:
    if is_nifti(path):
        header = read_nifti_header(path)
        modality, issues = _modality_of(path, header.geometry, header.issues)
        return _series(path, "nifti", modality, header.geometry, header.kind, issues, header.frames)
    if is_picture(path):
        picture = read_picture_header(path)
        return _series(
            path, "image", "OT", picture.geometry, SeriesKind.IMAGE, (UNCALIBRATED,), picture.pages
        )
    return None


def _modality_of(
    path: Path, geometry: VolumeGeometry, issues: tuple[SeriesIssue, ...]
) -> tuple[str, tuple[SeriesIssue, ...]]:
    """Guess CT from the values, and say that it is a guess."""
    k, j, i = geometry.shape_kji
    if k * j * i <= _GUESS_LIMIT_VOXELS and looks_like_hounsfield(read_nifti(path).voxels):
        guess = SeriesIssue("nifti.modality_guessed", "NIfTI states no modality; the values look like CT.")
        return "CT", (*issues, guess)
    unknown = SeriesIssue(
        "nifti.modality_unknown", "NIfTI states no modality; the values are shown as stored."
    )
    return "OT", (*issues, unknown)


def _series(
    path: Path,
    source_format: str,
    modality: str,
    geometry: VolumeGeometry,
    kind: SeriesKind,
    issues: tuple[SeriesIssue, ...],
    frames: int,
) -> ScannedSeries:
    uid = content_uid(path)
    positioned = source_format == "nifti"
    calibrated = positioned
    summary = SeriesSummary(
        key=uid,
        series_uid=uid,
        study_uid=uid,
        modality=modality,
        description="NIfTI volume" if positioned else "Picture",
        body_part="",
        instances=1,
        frames=frames,
        kind=kind,
        shape_kji=geometry.shape_kji,
        spacing_kji_mm=geometry.spacing_kji_mm if calibrated else None,
        regular=calibrated,
        issues=issues,
        axis_codes=geometry.axis_codes() if positioned else "",
    )
    return ScannedSeries(summary, (InstanceRef(uid, "", path, frames),), source_format=source_format)
