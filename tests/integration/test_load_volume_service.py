"""From files through the library to a volume, a NIfTI file and a list of elements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.domain.errors import EnvironmentFault, InputError
from core.formats.nifti import read_nifti, write_nifti
from core.services.engine import Engine
from core.services.import_study import import_paths
from core.services.load_volume import export_volume, load_volume
from core.services.read_tags import read_tags
from tests.fakes.dicom_files import UID_ROOT, axial_geometry, empty_dataset, save, write_stack
from tests.fakes.engines import make_engine

VOXELS = np.random.default_rng(2).integers(-1000, 900, (6, 9, 8)).astype(np.int16)
SERIES = f"{UID_ROOT}.2000.1"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = make_engine(tmp_path)
    yield made
    made.close()


@pytest.mark.expects_logs
def test_a_series_of_the_library_is_loaded_slice_by_slice(engine: Engine, tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS)
    import_paths(engine, [tmp_path / "in"])
    first: list[int] = []
    volume = load_volume(engine, SERIES, on_slice=lambda k, grid, pixels: first.append(k))
    assert np.array_equal(volume.voxels, VOXELS)
    assert volume.series_uid == SERIES
    assert first[0] == 3


@pytest.mark.expects_logs
def test_the_exported_nifti_is_the_volume(engine: Engine, tmp_path: Path) -> None:
    write_stack(tmp_path / "in", VOXELS)
    import_paths(engine, [tmp_path / "in"])
    document = export_volume(engine, SERIES, tmp_path / "out" / "v.nii.gz")
    back = read_nifti(tmp_path / "out" / "v.nii.gz")
    assert np.array_equal(back.voxels, VOXELS)
    assert document["shape_kji"] == [6, 9, 8]
    assert document["spacing_mm"] == [1.0, 1.0, 2.0]
    assert np.allclose(document["lps_from_ijk"], back.geometry.lps_from_ijk)
    assert (document["min"], document["max"]) == (VOXELS.min(), VOXELS.max())


@pytest.mark.expects_logs
def test_nifti_and_pictures_come_through_the_library(engine: Engine, tmp_path: Path) -> None:
    write_nifti(tmp_path / "in" / "v.nii.gz", axial_geometry(VOXELS.shape), VOXELS)
    Image.new("L", (6, 5), 9).save(tmp_path / "in" / "p.png")
    report = import_paths(engine, [tmp_path / "in"])
    shapes = {}
    for study in report.studies:
        for series in study.series:
            volume = load_volume(engine, series.key)
            assert volume.series_uid == series.series_uid
            shapes[volume.voxels.shape] = volume.allows_volumetry
    assert shapes == {(6, 9, 8): True, (1, 5, 6): False}


@pytest.mark.expects_logs
def test_what_cannot_be_shown_says_why(engine: Engine, tmp_path: Path) -> None:
    report = empty_dataset("1.2.840.10008.5.1.4.1.1.88.33", f"{UID_ROOT}.90")
    report.Modality, report.SeriesInstanceUID = "SR", f"{UID_ROOT}.2000.9"
    (tmp_path / "in").mkdir()
    save(report, tmp_path / "in" / "sr.dcm")
    paths = write_stack(tmp_path / "in", VOXELS)
    import_paths(engine, [tmp_path / "in"])
    with pytest.raises(InputError) as no_image:
        load_volume(engine, f"{UID_ROOT}.2000.9")
    assert no_image.value.code == "series.not_an_image"
    paths[2].unlink()
    with pytest.raises(EnvironmentFault) as gone:
        load_volume(engine, SERIES)
    assert gone.value.code == "file.missing"


@pytest.mark.expects_logs
def test_elements_by_file_series_and_instance(engine: Engine, tmp_path: Path) -> None:
    paths = write_stack(tmp_path / "in", VOXELS)
    import_paths(engine, [tmp_path / "in"])
    by_file = read_tags(engine, paths[0], "Rows")
    assert by_file[0]["value"] == "9"
    assert read_tags(engine, SERIES, "Rows") == by_file
    assert read_tags(engine, f"{UID_ROOT}.1.4", "InstanceNumber")[0]["value"] == "4"
    with pytest.raises(InputError):
        read_tags(engine, "1.2.3.4.5")
