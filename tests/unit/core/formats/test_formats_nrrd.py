"""NRRD held against SimpleITK's writer; detached headers; hostile ones."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from core.domain.errors import AppError, EnvironmentFault, InputError
from core.domain.study import SeriesKind
from core.formats.nrrd import read_nrrd, read_nrrd_header
from core.formats.scan import scan_files
from core.services.load_volume import load_files

VALUES = (np.arange(60, dtype=np.int16).reshape(3, 4, 5) - 30) * 7
ANGLE = np.radians(20.0)
DIRECTION = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1.0]])


def write(path: Path, values: np.ndarray = VALUES, *, packed: bool = False) -> Path:
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-1.0, 2.0, -3.0))
    image.SetDirection(DIRECTION.ravel())
    SimpleITK.WriteImage(image, str(path), packed)
    return path


def header(lines: str, data: bytes = b"") -> bytes:
    return b"NRRD0004\n" + lines.encode() + b"\n\n" + data


PLAIN = "type: short\ndimension: 3\nsizes: 5 4 3\nendian: little\nencoding: raw"


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_values_and_grid_equal_simpleitk(tmp_path: Path, dtype: str, packed: bool) -> None:
    values = np.abs(VALUES).astype(dtype)
    path = write(tmp_path / "a.nrrd", values, packed=packed)
    volume = read_nrrd(path)
    assert np.array_equal(volume.voxels, values)
    image = SimpleITK.ReadImage(str(path))
    for ijk in ((0, 0, 0), (4, 0, 0), (0, 3, 0), (0, 0, 2), (4, 3, 2)):
        theirs = image.TransformIndexToPhysicalPoint(ijk)
        assert np.allclose(volume.geometry.lps_of([ijk])[0], theirs, atol=1e-6)


def test_a_detached_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nhdr")
    assert (tmp_path / "a.raw").exists() or (tmp_path / "a.raw.gz").exists()
    assert np.array_equal(read_nrrd(path).voxels, VALUES)
    result = scan_files(sorted(tmp_path.iterdir()))
    (series,) = result.series
    assert not result.skipped and not result.unread
    assert next(ref.file.suffix for ref in series.instances) == ".nhdr"
    assert np.array_equal(load_files(series.summary, series.instances).voxels, VALUES)
    moved = tmp_path / "elsewhere.bin"
    series.instances[1].file.rename(moved)
    assert np.array_equal(read_nrrd(path, data_file=moved).voxels, VALUES)


@pytest.mark.parametrize(
    "space", ["right-anterior-superior", "RAS", "left-anterior-superior", "left-posterior-superior"]
)
def test_spaces(tmp_path: Path, space: str) -> None:
    lines = f"{PLAIN}\nspace: {space}\nspace directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (10,20,30)"
    (tmp_path / "a.nrrd").write_bytes(header(lines, VALUES.tobytes()))
    signs = {"r": (-1, -1), "R": (-1, -1)}.get(space[0], (1, -1) if "anterior" in space else (1, 1))
    geometry = read_nrrd(tmp_path / "a.nrrd").geometry
    assert geometry.origin_lps_mm == (10 * signs[0], 20 * signs[1], 30)
    assert geometry.spacing_ijk_mm == (2, 3, 4)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_encodings(tmp_path: Path, encoding: str, endian: str) -> None:
    import bz2

    raw = VALUES.astype("<i2" if endian == "little" else ">i2").tobytes()
    packed = {"raw": raw, "gzip": gzip.compress(raw), "bzip2": bz2.compress(raw),
              "ascii": " ".join(str(v) for v in VALUES.ravel()).encode()}[encoding]  # fmt: skip
    lines = (
        f"type: short\ndimension: 3\nsizes: 5 4 3\nendian: {endian}\nencoding: {encoding}\nspacings: 1 2 nan"
    )
    (tmp_path / "a.nrrd").write_bytes(header(lines, packed))
    volume = read_nrrd(tmp_path / "a.nrrd")
    assert np.array_equal(volume.voxels, VALUES)
    assert volume.geometry.spacing_ijk_mm == (1, 2, 1)
    assert "nrrd.no_orientation" in {issue.code for issue in volume.issues}


@pytest.mark.parametrize("first", [False, True])
def test_time_points(tmp_path: Path, first: bool) -> None:
    times = np.stack([VALUES, VALUES + 1])
    vectors = "(1,0,0) (0,1,0) (0,0,1)"
    sizes, directions = ("2 5 4 3", f"none {vectors}") if first else ("5 4 3 2", f"{vectors} none")
    data = np.moveaxis(times, 0, -1) if first else times
    lines = (
        f"type: short\ndimension: 4\nsizes: {sizes}\nendian: little\nencoding: raw\n"
        f"space: LPS\nspace directions: {directions}"
    )
    (tmp_path / "a.nrrd").write_bytes(header(lines, np.ascontiguousarray(data).tobytes()))
    (series,) = scan_files([tmp_path / "a.nrrd"]).series
    assert (series.summary.time_points, series.summary.frames) == (2, 2)
    assert series.summary.shape_kji == (3, 4, 5)
    for time in range(2):
        volume = load_files(series.summary, series.instances, time_point=time)
        assert np.array_equal(volume.voxels, times[time])
        assert (volume.time_point, volume.time_points) == (time, 2)
    with pytest.raises(InputError):
        read_nrrd(tmp_path / "a.nrrd", 2)


def test_colour(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (3, 4, 5, 3)).astype(np.uint8)
    lines = "type: uchar\ndimension: 4\nsizes: 3 5 4 3\nencoding: raw\nkinds: RGB-color space space space"
    (tmp_path / "c.nrrd").write_bytes(header(lines, rgb.tobytes()))
    volume = read_nrrd(tmp_path / "c.nrrd")
    assert np.array_equal(volume.voxels, rgb)


def test_a_picture_is_one_slice(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_bytes(
        header("type: uchar\ndimension: 2\nsizes: 5 4\nencoding: raw\nspacings: 0.5 0.5", bytes(20))
    )
    (series,) = scan_files([tmp_path / "a.nrrd"]).series
    assert series.summary.kind is SeriesKind.IMAGE
    assert series.summary.shape_kji == (1, 4, 5)


def test_skipped_bytes_and_lines(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"line one\nline two\nxx" + VALUES.tobytes())
    detached = f"{PLAIN}\nline skip: 2\nbyte skip: 2\ndata file: a.bin"
    (tmp_path / "a.nhdr").write_bytes(header(detached))
    assert np.array_equal(read_nrrd(tmp_path / "a.nhdr").voxels, VALUES)
    (tmp_path / "b.nhdr").write_bytes(header(f"{PLAIN}\nbyte skip: -1\ndata file: a.bin"))
    assert np.array_equal(read_nrrd(tmp_path / "b.nhdr").voxels, VALUES)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (PLAIN.replace("5 4 3", "5 4 -3"), "nrrd.dimensions"),
        (PLAIN.replace("5 4 3", "5 4"), "nrrd.dimensions"),
        (PLAIN.replace("5 4 3", "100000 100000 100000"), "nrrd.dimensions"),
        (PLAIN.replace("5 4 3", "5 4 x"), "nrrd.damaged"),
        (PLAIN.replace("short", "block"), "nrrd.type"),
        (PLAIN.replace("raw", "hex"), "nrrd.encoding"),
        (PLAIN.replace("\nendian: little", ""), "nrrd.damaged"),
        (PLAIN.replace("type: short\n", ""), "nrrd.damaged"),
        (PLAIN + "\ndata file: /etc/hostname", "nrrd.data_elsewhere"),
        (PLAIN + "\ndata file: ../a.raw", "nrrd.data_elsewhere"),
        (PLAIN + "\ndata file: LIST", "nrrd.several_files"),
        (PLAIN + "\nspace: LPS\nspace directions: (0,0,0) (0,1,0) (0,0,1)", "geometry.singular"),
        (PLAIN + "\nspace directions: (1,0) (0,1) (0,0)", "nrrd.space"),
        (PLAIN + "\nspace directions: (a,0,0) (0,1,0) (0,0,1)", "nrrd.damaged"),
        (PLAIN + "\nspace directions: (1,0,0)", "nrrd.damaged"),
        (PLAIN + "\nbyte skip: -9", "nrrd.damaged"),
        (PLAIN, "nrrd.truncated"),
        (PLAIN.replace("raw", "gzip"), "nrrd.truncated"),
        (PLAIN + "\nno field here", "nrrd.damaged"),
    ],
)  # fmt: skip
def test_hostile_headers_are_refused(tmp_path: Path, lines: str, code: str) -> None:
    path = tmp_path / "h.nrrd"
    path.write_bytes(header(lines, b"\0" * 10 if "gzip" not in lines else b""))
    with pytest.raises(AppError) as caught:
        read_nrrd(path)
    assert caught.value.code == code


def test_a_bomb_is_inflated_no_further_than_announced(tmp_path: Path) -> None:
    path = tmp_path / "b.nrrd"
    path.write_bytes(header(PLAIN.replace("raw", "gzip"), gzip.compress(bytes(200 << 20))))
    assert read_nrrd(path).voxels.shape == (3, 4, 5)


def test_more_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 100

    monkeypatch.setattr("core.config.memory.psutil.virtual_memory", Memory)
    with pytest.raises(EnvironmentFault):
        read_nrrd(write(tmp_path / "a.nrrd"))


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_cut_and_bent_files_raise_only_our_errors(tmp_path: Path, cut: int) -> None:
    whole = bytearray(write(tmp_path / "a.nrrd", packed=True).read_bytes())
    path = tmp_path / "b.nrrd"
    path.write_bytes(bytes(whole[:cut]))
    with contextlib.suppress(AppError):
        read_nrrd(path)
    whole[cut % len(whole)] ^= 0x5A
    path.write_bytes(bytes(whole))
    try:
        read_nrrd_header(path)
        read_nrrd(path)
    except AppError:
        pass
