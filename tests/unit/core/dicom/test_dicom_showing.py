"""What the viewer needs to show an image as its maker meant: windows, frame times, views, palettes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_voi_lut, apply_windowing
from pydicom.sequence import Sequence

from core.dicom.assemble import assemble_volume
from core.dicom.scan import scan_paths
from core.domain.study import ScannedSeries
from core.domain.volume import Volume
from core.domain.window import Window
from core.render.grey import window_picture
from tests.fakes.data import data_path
from tests.fakes.dicom_files import UID_ROOT, empty_dataset, save, set_pixels

US_MULTI = "1.2.840.10008.5.1.4.1.1.3.1"
MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"


def image(stored: np.ndarray, modality: str = "OT", sop_class: str = "1.2.840.10008.5.1.4.1.1.7") -> Dataset:
    data = empty_dataset(sop_class, f"{UID_ROOT}.71")
    data.Modality = modality
    set_pixels(data, stored)
    return data


def write(folder: Path, data: Dataset, **elements: object) -> ScannedSeries:
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    (series,) = scan_paths([save(data, folder / "i.dcm")]).series  # type: ignore[arg-type]
    return series


def load(series: ScannedSeries) -> Volume:
    return assemble_volume(series.instances, series.summary)


RAMP = np.arange(-600, 600, dtype=np.int16).reshape(30, 40)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(40.0, 400.0), (-100.5, 77.0), (0.0, 1.5)])
def test_functions_equal_the_reference(tmp_path: Path, function: str, center: float, width: float) -> None:
    data = image(RAMP)
    series = write(tmp_path, data, WindowCenter=center, WindowWidth=width, VOILUTFunction=function)
    (window,) = load(series).windows
    assert window.function == function
    data.BitsStored, data.PixelRepresentation = 16, 1
    with np.errstate(over="ignore"):
        theirs = apply_windowing(RAMP.astype(np.float64), data)
    theirs = (
        (theirs - theirs.min()) / max(float(np.ptp(theirs)), 1.0)
        if function != "SIGMOID"
        else (theirs + 32768) / 65535
    )
    assert np.abs(window.to_uint8(RAMP) - theirs * 255).max() <= 1.01
    screen = window_picture(RAMP, window)
    assert np.array_equal(screen & 0xFF, window.to_uint8(RAMP))
    assert np.array_equal(window_picture(RAMP.astype(np.float64), window) & 0xFF, window.to_uint8(RAMP)) or (
        function == "LINEAR"
    )


def test_a_table_is_looked_up(tmp_path: Path) -> None:
    item = Dataset()
    values = [0, 4095, 100, 2000, 3000]
    item.add_new(0x00283002, "SS", [5, -2, 12])
    item.add_new(0x00283003, "LO", "BONE")
    item.add_new(0x00283006, "US", values)
    stored = np.array([[-9, -2, -1], [0, 1, 9]], dtype=np.int16)
    data = image(stored)
    series = write(tmp_path, data, VOILUTSequence=Sequence([item]))
    (window,) = load(series).windows
    assert window.name == "BONE"
    expected = np.rint(apply_voi_lut(stored, data) * (255.0 / 4095)).astype(np.uint8)
    assert np.array_equal(window.to_uint8(stored), expected)
    assert np.array_equal(window.to_uint8(stored, inverted=True), 255 - expected)
    assert "table" not in repr(window)


def test_the_usual_window_is_the_plain_one() -> None:
    assert Window(40, 400).is_plain
    assert (Window(40, 400).low, Window(40, 400).high) == (-160.0, 239.0)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"FrameTime": "40"}, (0.0, 40.0, 80.0, 120.0)),
        ({"FrameTime": "40", "FrameTimeVector": [0, 10, 20, 30]}, (0.0, 10.0, 30.0, 60.0)),
        ({"FrameTimeVector": [0, 10]}, ()),
        ({"RecommendedDisplayFrameRate": "50", "CineRate": "10"}, (0.0, 20.0, 40.0, 60.0)),
        ({"CineRate": "10"}, (0.0, 100.0, 200.0, 300.0)),
        ({"FrameTime": "0", "CineRate": "0"}, ()),
        ({}, ()),
    ],
)
def test_frame_times(tmp_path: Path, elements: dict, expected: tuple) -> None:
    series = write(tmp_path, image(np.zeros((4, 5, 6), np.uint8), "US", US_MULTI), **elements)
    assert load(series).frame_times_ms == expected


def code(value: str, meaning: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return Sequence([item])


@pytest.mark.parametrize(
    ("elements", "view"),
    [
        ({"ImageLaterality": "R", "ViewPosition": "CC"}, "R CC"),
        ({"ImageLaterality": "L", "ViewCodeSequence": code("399368009", "medio-lateral oblique")}, "L MLO"),
        ({"Laterality": "L", "ViewPosition": "MLO"}, "L MLO"),
        ({"ViewCodeSequence": code("1", "odd view")}, "odd view"),
        ({"ImageLaterality": "X"}, ""),
    ],
)
def test_views_of_mammograms(tmp_path: Path, elements: dict, view: str) -> None:
    series = write(tmp_path, image(np.zeros((4, 5), np.uint16), "MG", MAMMOGRAM), **elements)
    assert series.summary.view == view


def test_views_of_the_real_radiographs() -> None:
    found = scan_paths([data_path("core/dicom/cr-dx-mg")]).series
    assert sorted(s.summary.view for s in found) == ["L MLO", "PA", "PA"]


@pytest.mark.parametrize(
    "name", ["pydicom-data-zoo/gdcm-US-ALOKA-16.dcm", "us-nm-multiframe-dcm4che/US-PAL-8-10x-echo_RLE.dcm"]
)
def test_palettes_equal_the_reference(name: str) -> None:
    import pydicom

    path = data_path(f"core/dicom/{name}")
    (series,) = scan_paths([path]).series
    data = pydicom.dcmread(path)
    theirs = apply_color_lut(data.pixel_array, data)
    theirs = theirs >> 8 if theirs.dtype == np.uint16 else theirs
    ours = load(series).voxels
    assert np.array_equal(ours, theirs.reshape(ours.shape))


def test_segmented_palettes_equal_the_reference(tmp_path: Path) -> None:
    stored = np.arange(64, dtype=np.uint8).reshape(8, 8)
    data = image(stored)
    data.PhotometricInterpretation = "PALETTE COLOR"
    # a discrete segment of 8 entries, then a linear one of 56 up to the last value
    segments = np.array([0, 8, *range(0, 8000, 1000), 1, 56, 65535], dtype="<u2").tobytes()
    for red in ("Red", "Green", "Blue"):
        setattr(data, f"{red}PaletteColorLookupTableDescriptor", [64, 0, 16])
        setattr(data, f"Segmented{red}PaletteColorLookupTableData", segments)
    series = write(tmp_path, data)
    theirs = apply_color_lut(stored, data) >> 8
    assert np.array_equal(load(series).voxels[0], theirs)


def test_a_localizer_is_flagged(tmp_path: Path) -> None:
    series = write(tmp_path, image(RAMP, "MR"), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert "series.localizer" in {i.code for i in series.summary.issues}
