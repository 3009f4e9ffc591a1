"""NIfTI and pictures: in, out, refusals."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from core.domain.errors import EnvironmentFault, InputError
from core.domain.geometry import VolumeGeometry
from core.domain.study import SeriesKind
from core.formats.images import read_image
from core.formats.nifti import read_nifti, write_nifti
from core.formats.scan import scan_files
from core.services.load_volume import load_files
from tests.fakes.data import data_path

GRID = VolumeGeometry.from_axes((3, 4, 5), (0.7, 0.8, 2.5), np.eye(3), (-1.0, 2.0, -3.0))
VALUES = np.arange(60, dtype=np.int16).reshape(3, 4, 5) - 30


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, bool])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_values_and_grid_survive(tmp_path: Path, dtype: type, name: str) -> None:
    values = np.abs(VALUES).astype(dtype)
    volume = read_nifti(write_nifti(tmp_path / name, GRID, values))
    assert np.array_equal(volume.voxels, values)
    assert volume.geometry.same_grid_as(GRID, 1e-4)
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / name).dataobj).transpose(2, 1, 0), values)


def test_writing_is_reproducible_and_leaves_nothing_behind(tmp_path: Path) -> None:
    first = write_nifti(tmp_path / "a.nii.gz", GRID, VALUES).read_bytes()
    assert write_nifti(tmp_path / "b.nii.gz", GRID, VALUES).read_bytes() == first
    assert {path.name for path in tmp_path.iterdir()} == {"a.nii.gz", "b.nii.gz"}


def test_colour_is_written_as_rgb(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (3, 4, 5, 3)).astype(np.uint8)
    assert np.array_equal(read_nifti(write_nifti(tmp_path / "c.nii.gz", GRID, rgb)).voxels, rgb)


def test_scaled_integers(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES.transpose(2, 1, 0), np.eye(4))
    image.header.set_slope_inter(1, -1000)
    nibabel.save(image, tmp_path / "s.nii")
    raw = read_nifti(tmp_path / "s.nii")
    expected = np.asarray(nibabel.load(tmp_path / "s.nii").dataobj).transpose(2, 1, 0)
    assert np.array_equal(raw.voxels, expected)


def test_an_unset_orientation_is_said(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES.transpose(2, 1, 0), None)
    image.header.set_zooms((1.0, 2.0, 3.0))
    nibabel.save(image, tmp_path / "u.nii")
    volume = read_nifti(tmp_path / "u.nii")
    assert "nifti.no_orientation" in {issue.code for issue in volume.issues}
    assert volume.geometry.spacing_ijk_mm == pytest.approx((1.0, 2.0, 3.0))


def test_the_first_of_several_volumes(tmp_path: Path) -> None:
    data = np.stack([VALUES, VALUES + 1], axis=-1).transpose(2, 1, 0, 3)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / "t.nii.gz")
    assert np.array_equal(read_nifti(tmp_path / "t.nii.gz").voxels, VALUES)
    assert np.array_equal(read_nifti(tmp_path / "t.nii.gz", frame=1).voxels, VALUES + 1)
    with pytest.raises(InputError):
        read_nifti(tmp_path / "t.nii.gz", frame=2)


def test_a_nifti_cut_anywhere_is_refused(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz"):
        whole = write_nifti(tmp_path / name, GRID, VALUES).read_bytes()
        for cut in range(0, len(whole) - 12, 7):
            (tmp_path / name).write_bytes(whole[:cut])
            with pytest.raises(InputError):
                read_nifti(tmp_path / name)


def test_a_nifti_with_changed_bytes_raises_nothing_else(tmp_path: Path) -> None:
    whole = bytearray(write_nifti(tmp_path / "a.nii", GRID, VALUES).read_bytes())
    random = np.random.default_rng(5)
    for _ in range(150):
        mutant = bytearray(whole)
        for place in random.integers(0, 352, 3):
            mutant[place] = int(random.integers(0, 256))
        (tmp_path / "m.nii").write_bytes(mutant)
        try:
            read_nifti(tmp_path / "m.nii")
        except (InputError, EnvironmentFault):
            continue
        except Exception as error:
            if type(error).__name__ != "SafetyError":
                raise


@pytest.mark.parametrize(
    ("mode", "dtype", "shape"),
    [
        ("L", np.int16, (1, 4, 5)),
        ("RGB", np.uint8, (1, 4, 5, 3)),
        ("I;16", np.uint16, (1, 4, 5)),
        ("P", np.uint8, (1, 4, 5, 3)),
    ],
)
def test_pictures_are_uncalibrated(tmp_path: Path, mode: str, dtype: type, shape: tuple) -> None:
    Image.new(mode, (5, 4), 7 if mode != "RGB" else (1, 2, 3)).save(tmp_path / "p.png")
    volume = read_image(tmp_path / "p.png")
    assert volume.voxels.dtype == dtype
    assert volume.voxels.shape == shape
    assert not volume.allows_volumetry
    assert {issue.code for issue in volume.issues} == {"geometry.uncalibrated"}


def test_a_tiff_of_several_pages(tmp_path: Path) -> None:
    pages = [Image.new("L", (5, 4), n) for n in range(3)]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    assert read_image(tmp_path / "p.tif").voxels[:, 0, 0].tolist() == [0, 1, 2]


def test_damaged_pictures_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)).save(
        tmp_path / "p.png"
    )
    whole = (tmp_path / "p.png").read_bytes()
    for cut in (9, 30, 60, len(whole) // 2):
        (tmp_path / "p.png").write_bytes(whole[:cut])
        with pytest.raises(InputError):
            read_image(tmp_path / "p.png")


def test_scanning_takes_each_format_and_says_the_rest(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", GRID, VALUES)
    hounsfield = np.where(VALUES < 0, -1000, 300).astype(np.int16)
    write_nifti(tmp_path / "ct.nii.gz", GRID, hounsfield)
    Image.new("L", (5, 4)).save(tmp_path / "p.jpg")
    (tmp_path / "x.txt").write_text("?")
    result = scan_files(sorted(tmp_path.iterdir()))
    found = {s.instances[0].file.name: s.summary for s in result.series}
    assert found["ct.nii.gz"].modality == "CT"
    assert found["a.nii.gz"].modality == "OT"
    assert found["a.nii.gz"].kind is SeriesKind.VOLUME
    assert found["a.nii.gz"].axis_codes == "LPS"
    assert found["p.jpg"].spacing_kji_mm is None
    assert [s.code for s in result.skipped] == ["file.unknown_format"]


def test_numbered_pictures_are_one_stack(tmp_path: Path) -> None:
    values = np.random.default_rng(3).integers(0, 255, (12, 6, 7)).astype(np.uint8)
    for n in range(12):
        Image.fromarray(values[n]).save(tmp_path / f"slice_{n + 1}.png")
    Image.fromarray(values[0, :3]).save(tmp_path / "slice_13.png")
    Image.fromarray(values[0] // 2).save(tmp_path / "slice_20.png")
    stack, *others = sorted(scan_files(sorted(tmp_path.iterdir())).series, key=lambda s: -s.summary.instances)
    assert (stack.summary.instances, stack.summary.shape_kji) == (12, (12, 6, 7))
    assert [s.summary.instances for s in others] == [1, 1]
    volume = load_files(stack.summary, stack.instances)
    assert np.array_equal(volume.voxels, values)
    assert not volume.allows_volumetry


def test_volumes_of_a_four_dimensional_file(tmp_path: Path) -> None:
    times = np.stack([VALUES + 100 * t for t in range(4)], axis=-1)
    for name, kind in (("a.nii", nibabel.Nifti1Image), ("b.nii.gz", nibabel.Nifti2Image)):
        image = kind(times.transpose(2, 1, 0, 3).astype(">i2"), np.eye(4))
        image.header.set_data_dtype(">i2")
        nibabel.save(image, tmp_path / name)
        (series,) = scan_files([tmp_path / name]).series
        assert (series.summary.time_points, series.summary.dimension) == (4, "time point")
        for time in (0, 3):
            volume = load_files(series.summary, series.instances, time_point=time)
            assert np.array_equal(volume.voxels, times[..., time])


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_big_endian_files(tmp_path: Path, kind: type) -> None:
    little = kind(VALUES.transpose(2, 1, 0), np.diag([2.0, 3, 4, 1]))
    header = little.header.as_byteswapped(">")
    nibabel.save(kind(VALUES.transpose(2, 1, 0), little.affine, header), tmp_path / "b.nii")
    assert (tmp_path / "b.nii").read_bytes()[:2] == b"\0\0"
    volume = read_nifti(tmp_path / "b.nii")
    assert np.array_equal(volume.voxels, VALUES)
    assert volume.geometry.spacing_ijk_mm == pytest.approx((2, 3, 4))


@pytest.mark.parametrize(
    ("name", "words"),
    [("test.mgz", "MGZ"), ("phantom_EPI_asc_CLEAR_2_1.PAR", "PAR/REC"), ("phantom_EPI_asc_CLEAR_2_1.REC", "PAR/REC"),
     ("minc2_4d.mnc", "MINC"), ("example4d+orig.HEAD", "AFNI"), ("example4d+orig.BRIK.gz", "AFNI")],
)  # fmt: skip
def test_other_formats_name_themselves_and_a_way_out(name: str, words: str) -> None:
    result = scan_files([data_path(f"core/nifti/formats-nibabel/{name}")])
    (skipped,) = result.skipped
    assert not result.series
    assert skipped.code == "file.unsupported_format"
    assert words in skipped.message and ".nii.gz" in skipped.message
