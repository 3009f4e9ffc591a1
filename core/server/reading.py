"""From an upload to a volume, within the server's limits; torch-free."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from math import prod
from pathlib import Path

from core.bundles.fit import fit
from core.bundles.manifest import Manifest
from core.config.temp import work_folder
from core.dicom.assemble import assemble_volume
from core.dicom.scan import scan_paths
from core.domain.errors import InputError
from core.domain.study import ScannedSeries, SeriesKind
from core.domain.volume import Volume
from core.formats.images import read_image_bytes
from core.formats.nifti import NiftiHeader, read_nifti, read_nifti_header
from core.server.item import Upload
from core.server.limits import Limits

_MAX_RATIO = 200
"""How many times a packed volume may grow. Source: as for ZIP archives, core.dicom.archive."""
_RATIO_FREE_BYTES = 64 << 20
_VOXEL_BYTES = 2
_SUFFIXES = {"nifti": ".nii", "nifti-gz": ".nii.gz", "dicom": ".dcm", "zip": ".zip", "picture": ".png"}


def read_upload(upload: Upload, manifest: Manifest, limits: Limits, temp: Path) -> Volume:
    """Read the image of an upload.

    Parameters
    ----------
    manifest : Manifest
        Decides which series of an archive is meant.
    temp : Path
        The home's work folder; what is written there is gone afterwards.

    Raises
    ------
    InputError
        The file is damaged, too large, or holds no image or several that the model could mean.
    """
    if upload.kind == "picture":
        return read_image_bytes(upload.content(), max_pixels=limits.pixels)
    with work_folder(temp, "serve") as folder:
        file = upload.file
        if file is None or upload.kind.startswith("nifti"):
            file = folder / f"upload{_SUFFIXES[upload.kind]}"
            file.write_bytes(upload.content())
        if upload.kind.startswith("nifti"):
            _check_nifti(read_nifti_header(file), file, limits)
            return read_nifti(file)
        if upload.kind == "zip":
            _check_archive(file, limits)
        return _read_dicom(file, manifest, limits, folder)


def _check_nifti(header: NiftiHeader, file: Path, limits: Limits) -> None:
    voxels = prod(header.geometry.shape_kji) * header.frames
    _check_voxels(voxels, limits)
    size = file.stat().st_size
    needed = voxels * _VOXEL_BYTES
    if needed > _RATIO_FREE_BYTES and needed > _MAX_RATIO * size:
        raise InputError(
            "nifti.too_large",
            f"The file of {size} bytes announces {voxels} voxels; it grows more than {_MAX_RATIO} times.",
            "Fetch the file again from its source.",
        )


def _check_voxels(voxels: int, limits: Limits) -> None:
    if voxels > limits.voxels:
        raise InputError(
            "upload.too_large",
            f"The image has {voxels} voxels; this server takes {limits.voxels}.",
            "Send a part of it, or resample it.",
        )


def _check_archive(file: Path, limits: Limits) -> None:
    """Look at the archive's own list; ``core.dicom.archive`` holds each member to what the list says."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise InputError("zip.damaged", "The ZIP archive is damaged.", "Pack the series again.") from error
    total = sum(member.file_size for member in members)
    if len(members) > limits.members:
        raise InputError(
            "zip.too_many_members",
            f"The archive holds {len(members)} entries; this server takes {limits.members}.",
            "Send one series.",
        )
    if total > limits.unpacked_bytes:
        raise InputError(
            "zip.too_large",
            f"The archive unpacks to {total} bytes; this server takes {limits.unpacked_bytes}.",
            "Send one series.",
        )


def _read_dicom(file: Path, manifest: Manifest, limits: Limits, folder: Path) -> Volume:
    # an archive that lies in the folder for unpacking would count as unpacked
    found = scan_paths([file], work_dir=folder / "unpacked", children=0).series
    chosen = _the_series(
        [one for one in found if one.summary.kind in (SeriesKind.VOLUME, SeriesKind.IMAGE)], manifest
    )
    summary = chosen.summary
    if summary.shape_kji is not None:
        _check_voxels(prod(summary.shape_kji), limits)
    return assemble_volume(chosen.instances, summary, correct=True)


def _the_series(displayable: Sequence[ScannedSeries], manifest: Manifest) -> ScannedSeries:
    """Return the only image series, or the only one that the model was made for."""
    if not displayable:
        raise InputError(
            "upload.no_image",
            "The upload holds no image series that can be read.",
            "Send the DICOM files of one image series.",
        )
    fitting = [one for one in displayable if fit(manifest, one.summary).fits]
    if len(displayable) > 1 and len(fitting) != 1:
        raise InputError(
            "upload.several_series",
            f"The upload holds {len(displayable)} image series, {len(fitting)} of which suit the model.",
            "Send one series.",
        )
    return fitting[0] if fitting else displayable[0]
