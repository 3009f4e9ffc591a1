"""Every series that SimpleITK or dcm2niix can read lies where they say, or it is known why not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from core.dicom.assemble import assemble_volume
from core.dicom.reading import read_header
from core.dicom.scan import scan_paths
from core.services.scan_sources import scan_sources
from tests.fakes.data import data_path
from tests.fakes.geometry_peers import DCM2NIIX, SIMPLEITK, largest_difference_mm, our_grid, peers_of

WITHIN_MM = 0.01
KNOWN = {
    ("large/dicom/ct-head-ge-tilt", SIMPLEITK): "takes uneven steps as even and leaves the gantry tilt out",
    ("large/dicom/ct-head-ge-tilt", DCM2NIIX): "takes the first step for all",
    (
        "core/dicom/mr-brain-pd-papaya",
        SIMPLEITK,
    ): "keeps the first slice in its place; here the mean is, because a drift of 0.06 mm is rounding",
    ("core/dicom/mr-brain-pd-papaya", DCM2NIIX): "takes the first of uneven steps for all",
    ("core/dicom/mr-mosaic-siemens-nih", SIMPLEITK): "shows mosaics as they are tiled",
    ("core/nifti/formats-nibabel", SIMPLEITK): "doesn't read every NIfTI-2 file",
}


def known(relative: str, peer: str) -> bool:
    return any(relative.startswith(folder) and peer == name for folder, name in KNOWN)


@pytest.mark.parametrize("folder", ["core/dicom", "core/nifti", "large/dicom"])
def test_grids_equal_those_of_the_peers(folder: str, tmp_path: Path) -> None:
    root = data_path(folder)
    compared, differing, alone = 0, [], []
    for number, series in enumerate(scan_sources([root], tmp_path / "zip").series):
        if not series.summary.axis_codes:
            continue
        relative = f"{folder}/{series.instances[0].file.relative_to(root)}"
        grid, agreeing = our_grid(series), 0
        for answer in peers_of(series, tmp_path / str(number)):
            if answer.grid is None:
                continue
            difference = largest_difference_mm(grid, answer.grid)
            if difference is not None and difference <= WITHIN_MM:
                agreeing += 1
            elif not known(relative, answer.peer):
                differing.append((relative, answer.peer, difference))
        compared += agreeing
        excused = any(relative.startswith(place) for place, _ in KNOWN)
        if not agreeing and not excused:
            alone.append(relative)
    assert differing == []
    assert alone == []
    assert compared >= {"core/dicom": 25, "core/nifti": 15, "large/dicom": 6}[folder]


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="needs dcm2niix (apt-get install dcm2niix)")
def test_time_points_equal_those_of_dcm2niix(tmp_path: Path) -> None:
    (series,) = scan_paths([data_path("large/dicom/mr-epi-4d-ge-nih")]).series
    answers = {answer.peer: answer for answer in peers_of(series, tmp_path)}
    assert answers[DCM2NIIX].time_points == series.summary.time_points == 3


def test_straightened_slices_hold_what_their_files_show() -> None:
    """The peers don't correct uneven steps and tilt together, so the files themselves are the truth."""
    (series,) = scan_paths([data_path("large/dicom/ct-head-ge-tilt")]).series
    acquired = assemble_volume(series.instances, series.summary)
    volume = assemble_volume(series.instances, series.summary, correct=True)
    by_uid = {ref.sop_instance_uid: (n, read_header(ref.file)) for n, ref in enumerate(series.instances)}
    j, i = np.mgrid[8:504:8, 8:504:8]
    correlations = []
    for k, uid in enumerate(volume.sop_instance_uids):
        if not uid:
            continue
        n, header = by_uid[uid]
        assert header.position is not None
        row, column = np.array(header.orientation[:3]), np.array(header.orientation[3:])
        points = (
            np.array(header.position)
            + i.ravel()[:, None] * header.pixel_spacing[1] * row
            + j.ravel()[:, None] * header.pixel_spacing[0] * column
        )
        places = volume.geometry.ijk_of(points)
        assert np.abs(places[:, 2] - k).max() < 0.05 / 4.0
        sampled = map_coordinates(volume.voxels[k].astype(np.float32), places[:, [1, 0]].T, order=1)
        correlations.append(np.corrcoef(sampled, acquired.voxels[n][j, i].ravel())[0, 1])
    assert len(correlations) >= 14
    assert min(correlations) > 0.99
