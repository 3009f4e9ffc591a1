"""Reads files of any known format into series, before they enter the library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.dicom.scan import scan_paths
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.study import ScanResult
from core.formats.scan import scan_files


def scan_sources(
    paths: Sequence[Path],
    work_dir: Path,
    *,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    children: int | None = None,
) -> ScanResult:
    """Find DICOM series, then NIfTI files and pictures among what isn't DICOM.

    ``work_dir`` receives what archives hold; it belongs to the caller. Raises Cancelled when ``cancel`` is set.
    ``children`` is how many scanner processes help; see ``core.dicom.parallel_scan``.
    """
    dicom = scan_paths(paths, progress=progress, cancel=cancel, work_dir=work_dir, children=children)
    if not dicom.unread:
        return dicom
    other = scan_files(dicom.unread, progress=progress, cancel=cancel)
    # A file that another reader looked at is spoken of by that reader alone.
    skipped = tuple(s for s in dicom.skipped if s.file not in dicom.unread)
    return ScanResult(dicom.series + other.series, skipped + other.skipped, other.unread)
