"""Assembling: values, dtypes, windows, progress."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from core.dicom.assemble import assemble_volume
from core.dicom.decode import clean_unused_bits
from core.dicom.parallel import in_parallel
from core.dicom.scan import scan_paths
from core.domain.errors import EnvironmentFault, InputError, SafetyError
from core.domain.geometry import VolumeGeometry
from core.domain.progress import Cancelled, CancelToken
from core.domain.volume import Volume
from core.domain.window import Window
from tests.fakes.dicom_files import (
    UID_ROOT,
    axial_geometry,
    empty_dataset,
    save,
    set_pixels,
    slice_dataset,
    write_stack,
)

VOXELS = np.random.default_rng(3).integers(-1024, 3000, (5, 6, 7)).astype(np.int16)


def load(folder: Path, **options: object) -> Volume:
    (series,) = scan_paths([folder]).series
    return assemble_volume(series.instances, series.summary, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_hounsfield_units_are_exact_int16(tmp_path: Path, syntax: str) -> None:
    write_stack(tmp_path, VOXELS, syntax=syntax)
    volume = load(tmp_path)
    assert volume.voxels.dtype == np.int16
    assert volume.voxels.flags.c_contiguous
    assert not volume.voxels.flags.writeable
    assert np.array_equal(volume.voxels, VOXELS)
    assert volume.units == "HU"
    assert len(volume.sop_instance_uids) == 5


def test_big_endian_values(tmp_path: Path) -> None:
    for k in range(len(VOXELS)):
        data = slice_dataset(VOXELS[k], axial_geometry(VOXELS.shape), k, "CT", 1, k + 1)
        data.PixelData = VOXELS[k].astype(">i2").tobytes()
        data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        fresh = Dataset()
        fresh.update({element.tag: element for element in data})
        fresh.file_meta, fresh.RescaleIntercept = data.file_meta, 0
        dcmwrite(
            tmp_path / f"{k}.dcm", fresh, implicit_vr=False, little_endian=False, enforce_file_format=True
        )
    assert np.array_equal(load(tmp_path).voxels, VOXELS)


def unsigned(
    path: Path, stored: np.ndarray, intercept: float, slope: float = 1.0, **elements: object
) -> None:
    data = empty_dataset("1.2.840.10008.5.1.4.1.1.2", f"{UID_ROOT}.60")
    data.Modality = "CT"
    set_pixels(data, stored)
    data.RescaleIntercept, data.RescaleSlope = intercept, slope
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    save(data, path)


@pytest.mark.parametrize(
    ("values", "intercept", "dtype"),
    [
        ([0, 4095], -1024, np.int16),
        ([0, 65535], 0, np.uint16),
        ([0, 65535], -1024, np.int32),
        ([0, 33791], -1024, np.int16),
        ([40000, 65535], -1024, np.uint16),
        ([0, 10], -40000, np.int32),
    ],
)
def test_the_smallest_exact_integer_type(
    tmp_path: Path, values: list[int], intercept: int, dtype: type
) -> None:
    stored = np.resize(np.array(values, dtype=np.uint16), (4, 6))
    unsigned(tmp_path / "u.dcm", stored, intercept)
    seen: list[np.ndarray] = []
    volume = load(tmp_path, on_slice=lambda k, grid, pixels: seen.append(pixels))
    assert volume.voxels.dtype == dtype
    assert np.array_equal(volume.voxels[0].astype(np.int64), stored.astype(np.int64) + intercept)
    assert np.array_equal(seen[0], volume.voxels[0])


def test_a_fractional_slope_gives_float32(tmp_path: Path) -> None:
    stored = np.arange(24, dtype=np.uint16).reshape(4, 6)
    unsigned(tmp_path / "u.dcm", stored, 0.5, 0.1)
    volume = load(tmp_path)
    assert volume.voxels.dtype == np.float32
    assert np.array_equal(volume.voxels[0], (stored * 0.1 + 0.5).astype(np.float32))


@pytest.mark.parametrize("slope", [0, "1e400"])
def test_an_unusable_slope_is_said_and_blocks_measurement(tmp_path: Path, slope: object) -> None:
    unsigned(tmp_path / "u.dcm", np.arange(24, dtype=np.uint16).reshape(4, 6), -1024, slope)  # type: ignore[arg-type]
    volume = load(tmp_path)
    assert volume.voxels[0, 0, 1] == 1
    assert volume.units == "stored"
    assert not volume.allows_volumetry


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    write_stack(tmp_path, np.full((3, 4, 4), 10, np.int16), modality="MR", intercept=0,
                RescaleSlope=lambda k: [1.0, 2.0, 0.5][k])  # fmt: skip
    assert load(tmp_path).voxels[:, 0, 0].tolist() == [10.0, 20.0, 5.0]


def test_bits_above_the_stored_ones_are_dropped(tmp_path: Path) -> None:
    stored = np.array([[0x0FFF, 0xF001], [0x8002, 0x0003]], dtype=np.uint16)
    unsigned(tmp_path / "u.dcm", stored, 0, BitsStored=12, HighBit=11)
    assert load(tmp_path).voxels[0].tolist() == [[0x0FFF, 1], [2, 3]]
    signed = np.array([0x0FFF, 0x0800, 0x07FF], dtype=np.int16)
    clean_unused_bits(signed, 16, 12)
    assert signed.tolist() == [-1, -2048, 2047]


def test_windows_padding_and_inversion_are_told(tmp_path: Path) -> None:
    unsigned(tmp_path / "u.dcm", np.arange(24, dtype=np.uint16).reshape(4, 6), -1024, PixelPaddingValue=0,
             WindowCenter=[40, -600], WindowWidth=[400, 1500], WindowCenterWidthExplanation=["SOFT", "LUNG"],
             PhotometricInterpretation="MONOCHROME1", LossyImageCompression="01")  # fmt: skip
    volume = load(tmp_path)
    assert volume.windows == (Window(40, 400, "SOFT"), Window(-600, 1500, "LUNG"))
    assert volume.padding_value == -1024
    assert volume.inverted
    assert volume.lossy


def test_a_modality_table_maps_stored_values(tmp_path: Path) -> None:
    table = Dataset()
    table.add_new(0x00283002, "US", [4, 10, 16])
    table.add_new(0x00283004, "LO", "OD")
    table.add_new(0x00283006, "US", [100, 200, 300, 400])
    stored = np.array([[9, 10, 11], [12, 13, 99]], dtype=np.uint16)
    unsigned(tmp_path / "u.dcm", stored, 0, ModalityLUTSequence=[table])
    assert load(tmp_path).voxels[0].tolist() == [[100, 100, 200], [300, 400, 400]]


def test_colour_becomes_rgb(tmp_path: Path) -> None:
    data = empty_dataset("1.2.840.10008.5.1.4.1.1.7", f"{UID_ROOT}.61")
    data.Modality = "OT"
    rgb = np.random.default_rng(1).integers(0, 255, (4, 6, 3)).astype(np.uint8)
    set_pixels(data, rgb)
    save(data, tmp_path / "c.dcm")
    volume = load(tmp_path)
    assert volume.voxels.shape == (1, 4, 6, 3)
    assert np.array_equal(volume.voxels[0], rgb)


def test_the_middle_slice_comes_first_and_all_come(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS)
    seen: list[tuple[int, VolumeGeometry]] = []
    fractions: list[float] = []

    def on_slice(k: int, grid: VolumeGeometry, pixels: np.ndarray) -> None:
        assert np.array_equal(pixels, VOXELS[k])
        assert not pixels.flags.writeable
        seen.append((k, grid))

    load(tmp_path, on_slice=on_slice, progress=lambda phase, fraction: fractions.append(fraction))
    assert seen[0][0] == 2
    assert sorted(k for k, _ in seen) == list(range(5))
    assert seen[0][1].shape_kji == (5, 6, 7)
    assert fractions[-1] == 1.0


def test_loading_can_be_cancelled(tmp_path: Path) -> None:
    write_stack(tmp_path, VOXELS)
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        load(tmp_path, cancel=cancel)


def test_a_file_that_vanished_or_shrank_is_named_as_fault(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, VOXELS)
    (series,) = scan_paths([tmp_path]).series
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[:-20])
    with pytest.raises(InputError, match="64 of 84 bytes"):
        assemble_volume(series.instances, series.summary)
    paths[1].unlink()
    with pytest.raises(EnvironmentFault):
        assemble_volume(series.instances, series.summary)


def test_a_file_that_was_exchanged_is_a_safety_fault(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, VOXELS)
    (series,) = scan_paths([tmp_path]).series
    paths[1].write_bytes(paths[2].read_bytes())
    with pytest.raises(SafetyError) as caught:
        assemble_volume(series.instances, series.summary)
    assert caught.value.code == "series.file_changed"


def test_a_series_too_large_for_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stack(tmp_path, VOXELS)
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=100))
    with pytest.raises(EnvironmentFault) as caught:
        load(tmp_path)
    assert caught.value.code == "memory.volume_too_large"


def test_an_unknown_codec_is_named(tmp_path: Path) -> None:
    data = empty_dataset("1.2.840.10008.5.1.4.1.1.2", f"{UID_ROOT}.62")
    data.Modality = "CT"
    set_pixels(data, np.zeros((4, 4), np.int16))
    save(data, tmp_path / "v.dcm")
    raw = (tmp_path / "v.dcm").read_bytes()
    place = raw.index(b"\xe0\x7f\x10\x00OW\0\0")
    item, end = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
    pixels = (
        b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff"
        + item
        + b"\0\0\0\0"
        + item
        + b"\x04\0\0\0abcd"
        + end
        + b"\0" * 4
    )
    mpeg = raw[:place].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.100\0")
    mpeg = mpeg.replace(b"\x02\x00\x10\x00UI\x14\x00", b"\x02\x00\x10\x00UI\x18\x00")
    (tmp_path / "v.dcm").write_bytes(mpeg + pixels)
    with pytest.raises(InputError, match="MPEG2") as caught:
        load(tmp_path)
    assert caught.value.code == "dicom.undecodable"


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    def action(item: int) -> None:
        if item == 3:
            raise InputError("x", "y")

    with pytest.raises(InputError):
        list(in_parallel(action, list(range(20))))
    assert sorted(in_parallel(lambda item: None, list(range(20)))) == list(range(20))
