"""Pictures and NIfTI files are read from sealed copies as from the originals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.config import sealed_file
from core.domain.geometry import VolumeGeometry
from core.formats.images import is_picture, read_image
from core.formats.nifti import is_nifti, read_nifti, write_nifti

VALUES = np.arange(3 * 40 * 50, dtype=np.int16).reshape(3, 40, 50)
GRID = VolumeGeometry((3, 40, 50), np.diag([1.0, 1.0, 2.0, 1.0]))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "second.nii"])
def test_a_sealed_nifti_file_reads_as_its_original(tmp_path: Path, name: str) -> None:
    import nibabel

    original = write_nifti(tmp_path / "plain" / name, GRID, VALUES)
    if name == "second.nii":
        original.write_bytes(nibabel.Nifti2Image.from_image(nibabel.load(original)).to_bytes())
    below = tmp_path / "kept"
    with sealed_file.mounted(below, bytes(32)):
        sealed_file.seal_file(original, below / name)
        assert is_nifti(below / name)
        volume = read_nifti(below / name)
        assert np.array_equal(volume.voxels, VALUES)
        assert volume.series_uid == read_nifti(original).series_uid
        written = write_nifti(below / "b.nii.gz", GRID, VALUES)
        assert sealed_file.is_sealed(written) and np.array_equal(read_nifti(written).voxels, VALUES)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_a_sealed_picture_reads_as_its_original(tmp_path: Path, name: str) -> None:
    Image.fromarray((VALUES[0] % 251).astype(np.uint8)).save(tmp_path / name)
    below = tmp_path / "kept"
    with sealed_file.mounted(below, bytes(32)):
        sealed_file.seal_file(tmp_path / name, below / name)
        assert is_picture(below / name)
        assert np.array_equal(read_image(below / name).voxels, read_image(tmp_path / name).voxels)
