"""Real series against other readers: geometry to 1e-3 mm, voxels equal."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from core.dicom.assemble import assemble_volume
from core.dicom.scan import scan_paths
from core.domain.errors import AppError
from core.domain.geometry import VolumeGeometry, apply_reorientation
from core.domain.study import ScannedSeries, SeriesKind
from core.domain.volume import Volume
from core.formats.nifti import read_nifti, write_nifti
from core.formats.scan import scan_files
from tests.fakes.data import data_path, data_root

pytestmark = [pytest.mark.data, pytest.mark.filterwarnings("ignore::UserWarning:pydicom")]

CHEST = "large/dicom/ct-chest-lidc0314-jpegls"
TEN = "core/dicom/ct-chest-lidc0314-10slices"
ABDOMEN = "core/dicom/ct-abdomen-totalseg-j2k/series"
PAPAYA = "core/dicom/mr-brain-pd-papaya"
SEVEN_TESLA = "large/dicom/mr-brain-t1-7t-studyforrest-jpegls"
PET = "large/dicom/pt-headneck-qin0024/PET"
TILT = "large/dicom/ct-head-ge-tilt"
EPI = "large/dicom/mr-epi-4d-ge-nih"


def load(relative: str) -> tuple[ScannedSeries, Volume]:
    (series,) = scan_paths([data_path(relative)]).series
    return series, assemble_volume(series.instances, series.summary)


def codes(volume: Volume) -> set[str]:
    return {issue.code for issue in volume.issues}


def read_with_simpleitk(files: list[Path]) -> tuple[np.ndarray, VolumeGeometry]:
    """Return array (K, J, I) and grid as SimpleITK sees the files in the order given."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in files])
    image = reader.Execute()
    i, j, k = image.GetSize()
    direction = np.array(image.GetDirection()).reshape(3, 3)
    grid = VolumeGeometry.from_axes((k, j, i), image.GetSpacing(), direction, image.GetOrigin())
    return SimpleITK.GetArrayFromImage(image), grid


@pytest.mark.parametrize("relative", [CHEST, TEN, ABDOMEN, SEVEN_TESLA, PET])
def test_regular_series_equal_simpleitk(relative: str) -> None:
    series, volume = load(relative)
    array, grid = read_with_simpleitk([ref.file for ref in series.instances])
    assert series.summary.regular
    assert grid.shape_kji == volume.geometry.shape_kji
    corners = grid.corners_ijk()
    # SimpleITK takes the step along k from the positions of the first slices: ours is exact at the last one, too
    assert np.abs(grid.lps_of(corners[:2]) - volume.geometry.lps_of(corners[:2])).max() < 1e-3
    step = np.abs(grid.lps_from_ijk[:3, 2] - volume.geometry.lps_from_ijk[:3, 2]).max()
    assert step < 1e-3
    if volume.voxels.dtype.kind == "f":
        assert np.allclose(array, volume.voxels, rtol=1e-6, atol=1e-3)
    else:
        assert np.array_equal(array, volume.voxels)


@pytest.mark.parametrize("relative", [CHEST, TEN, ABDOMEN, PAPAYA, SEVEN_TESLA, PET])
def test_each_slice_lies_where_its_file_says(relative: str) -> None:
    import pydicom

    series, volume = load(relative)
    tolerance = 0.15 if relative == PAPAYA else 0.02
    for k in np.unique(np.linspace(0, len(series.instances) - 1, 20).astype(int)):
        header = pydicom.dcmread(series.instances[k].file, stop_before_pixels=True)
        place = volume.geometry.lps_of([(0, 0, k)])[0]
        exact = k in (0, len(series.instances) - 1) and relative != SEVEN_TESLA
        limit = 1e-3 if exact and "geometry.tilt" in codes(volume) else max(tolerance, 0.05)
        assert np.abs(place - np.array(header.ImagePositionPatient, float)).max() <= limit


def test_stored_values_of_papaya_and_its_uneven_steps() -> None:
    series, volume = load(PAPAYA)
    assert series.summary.regular
    assert "geometry.spacing_jitter" in codes(volume)
    assert int(volume.voxels.sum(dtype=np.int64)) == 219593921
    array, _ = read_with_simpleitk([ref.file for ref in series.instances])
    assert np.array_equal(array, volume.voxels)


def test_blank_uids_of_the_abdomen() -> None:
    series, volume = load(ABDOMEN)
    assert "dicom.blank_uid" in codes(volume)
    assert series.summary.modality == "CT"
    assert volume.sop_class_uid == "1.2.840.10008.5.1.4.1.1.2"
    assert len({ref.sop_instance_uid for ref in series.instances}) == 20
    both = scan_paths([data_path(ABDOMEN), data_path(TEN), data_path(PAPAYA)]).series
    assert sorted(s.summary.instances for s in both) == [10, 20, 20]


def test_the_tilted_head_blocks_volumetry() -> None:
    series, volume = load(TILT)
    issues = {issue.code: issue for issue in volume.issues}
    assert "18.5" in issues["geometry.tilt"].message
    assert issues["geometry.irregular_spacing"].blocks_volumetry
    assert not volume.allows_volumetry
    assert volume.voxels.shape == (28, 512, 512)
    assert int(volume.voxels.sum(dtype=np.int64)) == -4857112922
    assert series.summary.spacing_kji_mm is None


def test_the_tilted_head_is_straightened() -> None:
    series, acquired = load(TILT)
    volume = assemble_volume(series.instances, series.summary, correct=True)
    assert not volume.geometry.is_sheared
    assert volume.geometry.spacing_ijk_mm == pytest.approx((0.488281, 0.488281, 4.002), abs=2e-3)
    assert {"geometry.shear_corrected", "geometry.resampled"} <= codes(volume)
    assert volume.missing_slices == ()
    assert not volume.allows_volumetry
    # the first slice keeps its values and its place: the row of its first pixel lies where the file says
    i, j, k = volume.geometry.ijk_of([acquired.geometry.origin_lps_mm])[0]
    assert abs(i) < 1e-3 and abs(k) < 1e-3
    slab = volume.voxels[0, round(j) : round(j) + 512, :512].astype(float)
    assert np.abs(slab - acquired.voxels[0]).mean() < 12.0
    known = {ref.sop_instance_uid for ref in series.instances} & set(volume.sop_instance_uids)
    assert len(known) >= 14  # the slices of the finer half lie on acquired planes


def test_time_points_stay_together() -> None:
    (series,) = scan_paths([data_path(EPI)]).series
    assert (series.summary.time_points, series.summary.dimension) == (3, "time point")
    assert series.summary.shape_kji == (15, 64, 64)
    sums = []
    for time in range(3):
        volume = assemble_volume(series.instances, series.summary, time_point=time)
        numbers = [ref.instance_number for ref in series.instances[15 * time : 15 * time + 15]]
        assert set(numbers) == set(range(15 * time + 1, 15 * time + 16))
        assert volume.geometry.origin_lps_mm[2] == pytest.approx(-17.7, abs=0.05)
        assert volume.geometry.spacing_ijk_mm == pytest.approx((3.75, 3.75, 5.0), abs=1e-3)
        sums.append(int(volume.voxels.sum(dtype=np.int64)))
    assert sums == [37088523, 35442104, 35011715]


@pytest.mark.parametrize(("number", "name"), [(3, "AP"), (4, "PA"), (5, "RL"), (6, "LR")])
def test_mosaics_become_the_slices_of_the_reference(number: int, name: str) -> None:
    folder = data_path("core/dicom/mr-mosaic-siemens-nih")
    (series,) = scan_paths([folder / f"mr_{number:04d}"]).series
    reference = folder / "reference_nifti" / f"EPI_PE={name}_{number}.nii"
    assert (series.summary.time_points, series.summary.frames) == (2, 10)
    for time in range(2):
        volume = assemble_volume(series.instances, series.summary, time_point=time)
        theirs = read_nifti(reference, time)
        aligned, permutation, flips = theirs.geometry.reoriented(volume.geometry.axis_codes())
        assert np.array_equal(apply_reorientation(theirs.voxels, permutation, flips), volume.voxels)
        assert aligned.same_grid_as(volume.geometry, 1e-3)
        assert len(volume.slice_times_ms) == 5
        assert volume.slice_times_ms[1] == pytest.approx(1450.0, abs=5.0)


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="needs dcm2niix (apt-get install dcm2niix)")
@pytest.mark.parametrize("relative", [CHEST, ABDOMEN, SEVEN_TESLA])
def test_regular_series_equal_dcm2niix(relative: str, tmp_path: Path) -> None:
    _, volume = load(relative)
    source = data_path(relative)
    if relative != ABDOMEN:  # Debian's dcm2niix reads no JPEG-LS: hand it the same files uncompressed
        source = transcoded(source, tmp_path / "plain")
    command = ["dcm2niix", "-z", "n", "-b", "n", "-f", "out", "-o", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    converted = sorted(tmp_path.glob("out*.nii"))
    if not converted:
        pytest.skip("this dcm2niix cannot read the compression")
    theirs = read_nifti(converted[0])
    aligned, permutation, flips = theirs.geometry.reoriented(volume.geometry.axis_codes())
    voxels = apply_reorientation(theirs.voxels, permutation, flips)
    assert np.array_equal(voxels, volume.voxels)
    assert np.abs(aligned.lps_from_ijk[:3, :3] - volume.geometry.lps_from_ijk[:3, :3]).max() < 1e-3
    assert np.abs(np.array(aligned.origin_lps_mm) - volume.geometry.origin_lps_mm).max() < 0.02


def transcoded(source: Path, out: Path) -> Path:
    """Write uncompressed copies of a folder."""
    import pydicom

    out.mkdir()
    for number, file in enumerate(sorted(source.glob("*.dcm"))):
        data = pydicom.dcmread(file)
        data.decompress()
        data.save_as(out / f"{number:04d}.dcm")
    return out


@pytest.mark.parametrize("image", ["CT1", "MR4", "NM1", "US1"])
@pytest.mark.parametrize("codec", ["JPLL", "JLSL", "J2KR", "RLE"])
def test_lossless_codecs_equal_the_uncompressed_file(image: str, codec: str) -> None:
    folder = data_path("core/dicom/wg04-codecs")
    packed, plain = folder / f"{image}_{codec}.dcm", folder / f"{image}_UNC.dcm"
    if not packed.exists():
        pytest.skip(f"the collection has no {packed.name}")
    assert np.array_equal(voxels_of(packed), voxels_of(plain))


@pytest.mark.parametrize("codec", ["RLE", "big_endian", "jpeg_2k_lossless", "jpeg_ls_lossless"])
def test_enhanced_frames_equal_in_every_coding(codec: str) -> None:
    folder = data_path("core/dicom/pydicom-data-zoo")
    assert np.array_equal(voxels_of(folder / f"emri_small_{codec}.dcm"), voxels_of(folder / "emri_small.dcm"))


def test_cines_in_two_codings_are_equal() -> None:
    folder = data_path("core/dicom/us-nm-multiframe-dcm4che")
    rle, jpeg_ls = (voxels_of(folder / f"US-PAL-8-10x-echo_{c}.dcm") for c in ("RLE", "JPEGLS"))
    assert rle.shape == (10, 430, 600, 3)
    assert np.array_equal(rle, jpeg_ls)


def voxels_of(file: Path) -> np.ndarray:
    (series,) = scan_paths([file]).series
    return assemble_volume(series.instances, series.summary).voxels


@pytest.mark.parametrize(("image", "correlation"), [("MR4", 0.9999), ("NM1", 0.98)])
def test_twelve_bit_jpeg_with_bad_scan_parameters_is_shown_as_lossy(image: str, correlation: float) -> None:
    folder = data_path("core/dicom/wg04-codecs")
    (series,) = scan_paths([folder / f"{image}_JPLY.dcm"]).series
    lossy = assemble_volume(series.instances, series.summary)
    plain = voxels_of(folder / f"{image}_UNC.dcm")
    assert lossy.lossy
    assert lossy.voxels.dtype == plain.dtype
    assert np.corrcoef(lossy.voxels.ravel(), plain.ravel())[0, 1] > correlation


def test_radiographs_say_what_their_size_is_worth() -> None:
    folder = data_path("core/dicom/cr-dx-mg")
    found = {s.instances[0].file.name: s.summary for s in scan_paths([folder]).series}
    chest = next(s for name, s in found.items() if name.startswith("RG1"))
    mammogram = next(s for name, s in found.items() if name.startswith("MG1"))
    assert "geometry.no_spacing" in {issue.code for issue in chest.issues}
    assert "geometry.no_spacing" in {issue.code for issue in mammogram.issues}
    assert all(s.kind is SeriesKind.IMAGE for s in found.values())


@pytest.mark.parametrize("name", ["ct-totalseg-small/example_ct.nii.gz", "brain-t1-brainchop/t1_crop.nii.gz",
                                  "formats-nibabel/anatomical.nii"])  # fmt: skip
def test_nifti_equals_nibabel_and_survives_writing(name: str, tmp_path: Path) -> None:
    path = data_path(f"core/nifti/{name}")
    volume = read_nifti(path)
    image = nibabel.load(path)
    assert np.allclose(volume.voxels, np.asarray(image.dataobj).transpose(2, 1, 0), rtol=1e-6)
    assert np.abs(np.diag([-1, -1, 1, 1]) @ image.affine - volume.geometry.lps_from_ijk).max() < 1e-3
    back = read_nifti(write_nifti(tmp_path / "again.nii.gz", volume.geometry, volume.voxels))
    assert np.array_equal(back.voxels, volume.voxels)
    assert back.geometry.same_grid_as(volume.geometry, 1e-3)


def every_file() -> Iterator[Path]:
    data_path("core/dicom")
    for path in sorted(data_root().rglob("*")):
        if path.is_file() and "images2d" not in path.parts:
            yield path


def test_every_file_is_in_a_series_or_refused_with_a_reason(tmp_path: Path) -> None:
    files = list(every_file())
    dicom = scan_paths(files, work_dir=tmp_path)
    others = scan_files(dicom.unread)
    taken = {ref.file for s in (*dicom.series, *others.series) for ref in s.instances}
    refused = {s.file for s in (*dicom.skipped, *others.skipped)}
    assert all(path in taken or str(path) in refused for path in files)
    assert all(s.code and s.message for s in (*dicom.skipped, *others.skipped))
    unreadable = []
    for series in dicom.series:
        if series.summary.kind is SeriesKind.OTHER or series.summary.instances > 50:
            continue
        try:
            assemble_volume(series.instances, series.summary)
        except AppError as error:
            unreadable.append((series.instances[0].file.name, error.code))
    assert unreadable == []
