"""The grids that other readers find for the same files: SimpleITK (GDCM, ITK's NIfTI reader) and dcm2niix."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK

from core.dicom.assemble import of_time_point
from core.dicom.layout import lay_out
from core.dicom.reading import recall_header
from core.domain.geometry import VolumeGeometry
from core.domain.study import ScannedSeries
from core.formats.nifti import read_nifti_header
from core.formats.nrrd import read_nrrd_header

SIMPLEITK, DCM2NIIX = "SimpleITK", "dcm2niix"
READS_COMPRESSED = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.5",
)
"""What Debian's dcm2niix decodes itself; other files are handed to it uncompressed."""


@dataclass(frozen=True)
class PeerGrid:
    """What a peer found: its grid and number of time points, or nothing."""

    peer: str
    grid: VolumeGeometry | None = None
    time_points: int = 1


def our_grid(series: ScannedSeries) -> VolumeGeometry:
    """Return the grid of the first time point as it was acquired, without decoding pixels."""
    first = series.instances[0].file
    if series.source_format == "nifti":
        return read_nifti_header(first).geometry
    if series.source_format == "nrrd":
        return read_nrrd_header(first).geometry
    chosen = of_time_point(series.instances, series.summary, 0)
    return lay_out([recall_header(ref.file) for ref in chosen]).geometry


def largest_difference_mm(ours: VolumeGeometry, theirs: VolumeGeometry) -> float | None:
    """Return the largest distance between the corners of both grids; None when they have other shapes."""
    aligned, _, _ = theirs.reoriented(ours.axis_codes())
    if aligned.shape_kji != ours.shape_kji:
        return None
    corners = ours.corners_ijk()
    return float(np.linalg.norm(aligned.lps_of(corners) - ours.lps_of(corners), axis=1).max())


def peers_of(series: ScannedSeries, work: Path) -> list[PeerGrid]:
    """Ask each peer that may know the format; ``work`` is an empty folder."""
    if series.source_format != "dicom":
        return [_simpleitk([series.instances[0].file])]
    chosen = [ref.file for ref in of_time_point(series.instances, series.summary, 0)]
    everything = [ref.file for ref in series.instances]
    return [_simpleitk(chosen), _dcm2niix(everything, work)]


def _simpleitk(files: Sequence[Path]) -> PeerGrid:
    names = [str(file) for file in files]
    try:
        with _quiet():
            image = SimpleITK.ReadImage(names if len(names) > 1 else names[0])
    except RuntimeError:
        return PeerGrid(SIMPLEITK)
    times = 1
    if image.GetDimension() == 4:
        times = image.GetSize()[3]
        image = image[..., 0]
    if image.GetDimension() == 2:
        image = SimpleITK.JoinSeries(image)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    i, j, k = image.GetSize()
    return PeerGrid(
        SIMPLEITK,
        VolumeGeometry.from_axes((k, j, i), image.GetSpacing(), direction, image.GetOrigin()),
        times,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what ITK writes to standard error away."""
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(True)


def _dcm2niix(files: Sequence[Path], work: Path) -> PeerGrid:
    program = shutil.which("dcm2niix")
    if program is None:
        return PeerGrid(DCM2NIIX)
    source, out = work / "in", work / "out"
    for folder in (source, out):
        folder.mkdir(parents=True)
    for number, file in enumerate(files):
        _hand_over(file, source / f"{number:05d}.dcm")
    command = [program, "-z", "n", "-b", "n", "-m", "y", "-f", "out", "-o", str(out), str(source)]
    try:
        subprocess.run(command, check=False, capture_output=True, timeout=120)
    except subprocess.TimeoutExpired:
        return PeerGrid(DCM2NIIX)
    written = sorted(out.glob("out.nii")) or sorted(out.glob("*.nii"))
    if not written:
        return PeerGrid(DCM2NIIX)
    header = read_nifti_header(written[0])
    return PeerGrid(DCM2NIIX, header.geometry, header.frames)


def _hand_over(file: Path, target: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(file, force=True)
        syntax = data.file_meta.get("TransferSyntaxUID")
        if syntax is None or not syntax.is_compressed or str(syntax) in READS_COMPRESSED:
            target.symlink_to(file)
            return
        try:
            data.decompress()
            data.save_as(target)
        except Exception:  # noqa: BLE001 - a peer that can't be given the file has no answer
            target.symlink_to(file)
