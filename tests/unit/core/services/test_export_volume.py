"""``overread volume``: time points, SUV, as acquired."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.domain.errors import InputError
from core.formats.nifti import read_nifti
from core.services.engine import open_engine
from core.services.import_study import import_paths
from core.services.load_volume import export_volume, load_volume
from tests.fakes.dicom_files import UID_ROOT, axial_geometry, write_stack

GRID = axial_geometry((6, 4, 5))
VOXELS = np.arange(6 * 4 * 5, dtype=np.int16).reshape(6, 4, 5)


def test_each_time_point_is_written_apart(tmp_path: Path) -> None:
    for time in range(2):
        write_stack(tmp_path / "in", VOXELS + 10 * time, GRID, modality="MR", name=f"t{time}_",
                    SOPInstanceUID=lambda k, t=time: f"{UID_ROOT}.7.{t}.{k + 1}",
                    InstanceNumber=lambda k, t=time: 6 * t + k + 1)  # fmt: skip
    with open_engine(tmp_path / "home") as engine:
        (series,) = import_paths(engine, [tmp_path / "in"]).studies[0].series
        assert (series.time_points, series.dimension) == (2, "repetition")
        document = export_volume(engine, series.key, tmp_path / "t.nii.gz", time_point=1)
        assert (document["time_point"], document["time_points"]) == (1, 2)
        with pytest.raises(InputError) as caught:
            export_volume(engine, series.key, tmp_path / "x.nii.gz", time_point=2)
        assert caught.value.code == "series.time_point"
    assert np.array_equal(read_nifti(tmp_path / "t.nii.gz").voxels, VOXELS + 10)
    assert not (tmp_path / "x.nii.gz").exists()


def test_missing_slices_stay_blank_and_are_listed(tmp_path: Path) -> None:
    files = write_stack(tmp_path / "in", VOXELS, GRID, PixelPaddingValue=-2000, RescaleIntercept=0)
    files[3].unlink()
    with open_engine(tmp_path / "home") as engine:
        (series,) = import_paths(engine, [tmp_path / "in"]).studies[0].series
        volume = load_volume(engine, series.key)
        acquired = load_volume(engine, series.key, correct=False)
    assert volume.missing_slices == (3,)
    assert volume.geometry.same_grid_as(GRID, 1e-6)
    assert (volume.voxels[3] == -2000).all()
    assert volume.sop_instance_uids[3] == ""
    assert np.array_equal(volume.voxels[[0, 1, 2, 4, 5]], acquired.voxels)
    assert not volume.allows_volumetry
    assert acquired.missing_slices == ()


def test_suv_is_refused_with_the_name_of_what_is_missing(tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS, GRID, modality="PT", Units="BQML")
    with open_engine(tmp_path / "home") as engine:
        (series,) = import_paths(engine, [tmp_path / "in"]).studies[0].series
        assert "pet.no_suv" in {issue.code for issue in series.issues}
        with pytest.raises(InputError) as caught:
            export_volume(engine, series.key, tmp_path / "s.nii.gz", suv=True)
    assert caught.value.code == "pet.no_suv"
    assert "(0010,1030)" in caught.value.user_message


def test_suv_of_what_is_suv_already(tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS, GRID, modality="PT", Units="GML")
    with open_engine(tmp_path / "home") as engine:
        (series,) = import_paths(engine, [tmp_path / "in"]).studies[0].series
        document = export_volume(engine, series.key, tmp_path / "s.nii.gz", suv=True)
    assert document["units"] == "SUVbw"
    assert np.array_equal(read_nifti(tmp_path / "s.nii.gz").voxels, VOXELS)
