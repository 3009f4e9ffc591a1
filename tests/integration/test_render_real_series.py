"""Our pictures of real series against SimpleITK's reorientation of the same files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.dicom.assemble import assemble_volume
from core.dicom.scan import scan_paths
from core.render.planes import Plane
from core.render.series import DisplaySeries
from tests.fakes.data import data_path

pytestmark = pytest.mark.data


@pytest.mark.parametrize("folder", ["core/dicom/ct-chest-lidc0314-10slices", "core/dicom/mr-brain-pd-papaya"])
def test_planes_of_real_series_equal_those_of_simpleitk(folder: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    path: Path = data_path(folder)
    scanned = max(scan_paths([path]).series, key=lambda series: series.summary.frames)
    series = DisplaySeries(assemble_volume(scanned.instances, scanned.summary))

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(i.file) for i in scanned.instances])
    reference = sitk.GetArrayFromImage(sitk.DICOMOrient(reader.Execute(), "LPS"))

    middle = [n // 2 for n in reference.shape]
    axial = series.grids[Plane.AXIAL]
    np.testing.assert_array_equal(
        series.values(Plane.AXIAL, axial.count - 1 - middle[0]), reference[middle[0]]
    )
    np.testing.assert_array_equal(series.values(Plane.CORONAL, middle[1]), reference[::-1, middle[1]])
    np.testing.assert_array_equal(series.values(Plane.SAGITTAL, middle[2]), reference[::-1, :, middle[2]])
