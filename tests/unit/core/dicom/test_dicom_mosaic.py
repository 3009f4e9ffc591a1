"""Siemens mosaics: tiles, private headers old and new, hostile ones."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dicom.assemble import assemble_volume
from core.dicom.mosaic import read_csa
from core.dicom.scan import scan_paths
from core.domain.study import ScannedSeries, SeriesKind
from tests.fakes.dicom_files import UID_ROOT, empty_dataset, save, set_pixels

TILE = (4, 6)


def csa(entries: dict[str, tuple[str, ...]], newer: bool = True) -> bytes:
    """Write a CSA header."""
    out = [b"SV10\4\3\2\1" if newer else b"", struct.pack("<II", len(entries), 77)]
    first = None
    for name, values in entries.items():
        count = max(6, len(values))
        first = count if first is None else first
        out.append(struct.pack("<64si4siii", name.encode(), len(values), b"IS", 6, count, 77))
        for n in range(count):
            text = values[n].encode() + b"\0" if n < len(values) else b""
            length = len(text) if newer else len(text) + first
            out.append(struct.pack("<4i", length if not newer else len(text), len(text), 77, length))
            out.append(text + b"\0" * (-len(text) % 4))
    return b"".join(out)


ENTRIES = {
    "EchoLinePosition": ("1",),
    "NumberOfImagesInMosaic": ("5",),
    "SliceNormalVector": ("0.0", "0.0", "1.0"),
    "MosaicRefAcqTimes": ("0", "100", "200", "300", "400"),
    "ProtocolSliceNumber": ("0",),
}


def write(
    folder: Path, header: bytes | None, count: int | None = None, time: int = 0, **elements: object
) -> None:
    data = empty_dataset("1.2.840.10008.5.1.4.1.1.4", f"{UID_ROOT}.81.{time + 1}")
    data.Modality = "MR"
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    data.InstanceNumber = time + 1
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    # the position is that of the whole mosaic as if it were one slice around the same centre
    data.ImagePositionPatient = [10 - 2 * 6.0, 20 - 3 * 4.0, 30]
    data.PixelSpacing = [3, 2]
    data.SpacingBetweenSlices = 5
    tiles = np.arange(9, dtype=np.int16)[:, None, None] * 100 + np.arange(24, dtype=np.int16).reshape(TILE)
    whole = tiles.reshape(3, 3, *TILE).swapaxes(1, 2).reshape(3 * TILE[0], 3 * TILE[1])
    set_pixels(data, np.ascontiguousarray(whole) + np.int16(1000 * time))
    if header is not None:
        data.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", header)
    if count is not None:
        block = data.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0A, "US", count)
        block.add_new(0x29, "FD", [float(100 * n) for n in range(count)])
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    folder.mkdir(exist_ok=True)
    save(data, folder / f"{time}.dcm")


def scan(folder: Path) -> ScannedSeries:
    (series,) = scan_paths([folder]).series
    return series


def values(series: ScannedSeries, time: int = 0) -> list[int]:
    volume = assemble_volume(series.instances, series.summary, time_point=time)
    return [int(v) for v in volume.voxels[:, 0, 0]]


@pytest.mark.parametrize("newer", [True, False])
def test_tiles_become_slices(tmp_path: Path, newer: bool) -> None:
    write(tmp_path, csa(ENTRIES, newer))
    series = scan(tmp_path)
    assert series.summary.kind is SeriesKind.VOLUME
    assert series.summary.shape_kji == (5, *TILE)
    volume = assemble_volume(series.instances, series.summary)
    assert values(series) == [0, 100, 200, 300, 400]
    assert volume.geometry.origin_lps_mm == pytest.approx((10.0, 20.0, 30.0))
    assert volume.geometry.spacing_ijk_mm == pytest.approx((2.0, 3.0, 5.0))
    assert volume.slice_times_ms == (0.0, 100.0, 200.0, 300.0, 400.0)
    assert volume.frame_numbers == (1,) * 5


def test_public_copies_are_used_without_the_private_header(tmp_path: Path) -> None:
    write(tmp_path, None, count=7)
    series = scan(tmp_path)
    assert values(series) == [100 * n for n in range(7)]
    assert assemble_volume(series.instances, series.summary).slice_times_ms[-1] == 600.0


def test_slices_against_the_normal_are_turned_over(tmp_path: Path) -> None:
    write(tmp_path, csa({**ENTRIES, "SliceNormalVector": ("0", "0", "-1")}))
    series = scan(tmp_path)
    volume = assemble_volume(series.instances, series.summary)
    assert values(series) == [400, 300, 200, 100, 0]
    assert volume.geometry.origin_lps_mm == pytest.approx((10.0, 20.0, 10.0))
    assert volume.slice_times_ms == (400.0, 300.0, 200.0, 100.0, 0.0)


def test_reversed_numbering_is_told(tmp_path: Path) -> None:
    write(tmp_path, csa({**ENTRIES, "ProtocolSliceNumber": ("4",)}))
    series = scan(tmp_path)
    assert {issue.code: issue.blocks_volumetry for issue in series.summary.issues}["dicom.mosaic_reversed"]
    assert assemble_volume(series.instances, series.summary).slice_times_ms == ()


def test_each_file_is_a_time_point(tmp_path: Path) -> None:
    for time in (1, 2, 0):
        write(tmp_path, csa(ENTRIES), time=time)
    series = scan(tmp_path)
    assert (series.summary.time_points, series.summary.frames, series.summary.instances) == (3, 15, 3)
    assert [values(series, t)[0] for t in range(3)] == [0, 1000, 2000]


def test_a_volume_that_moved_is_at_its_own_place(tmp_path: Path) -> None:
    write(tmp_path, csa(ENTRIES))
    write(tmp_path, csa(ENTRIES), time=1, ImagePositionPatient=[10 - 2 * 6.0, 20 - 3 * 4.0, 31])
    series = scan(tmp_path)
    assert "geometry.moving_positions" in {issue.code for issue in series.summary.issues}
    places = [
        assemble_volume(series.instances, series.summary, time_point=t).geometry.origin_lps_mm[2]
        for t in (0, 1)
    ]
    assert places == [30.0, 31.0]


@pytest.mark.parametrize(
    "header",
    [None, b"SV10", csa({"NumberOfImagesInMosaic": ("99999",)}), csa({"NumberOfImagesInMosaic": ("40",)})],
)
def test_a_mosaic_that_does_not_say_its_tiles_is_shown_as_it_is(tmp_path: Path, header: bytes | None) -> None:
    write(tmp_path, header)
    series = scan(tmp_path)
    assert {issue.code: issue.blocks_volumetry for issue in series.summary.issues}["dicom.mosaic"]
    assert series.summary.shape_kji == (1, 12, 18)


@given(st.binary(max_size=600), st.integers(0, 900), st.integers(0, 255))
def test_damaged_headers_give_numbers_or_nothing(noise: bytes, place: int, value: int) -> None:
    whole = bytearray(csa(ENTRIES))
    whole[place % len(whole)] = value
    for data in (noise, b"SV10" + noise, bytes(whole), bytes(whole[:place])):
        for numbers in read_csa(data).values():
            assert all(np.isfinite(numbers))
