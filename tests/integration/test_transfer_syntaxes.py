"""Every transfer syntax that is promised, on real files: what pydicom decodes is decoded equally, the rest is named."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_color_lut, apply_rescale

from core.dicom.assemble import assemble_volume
from core.dicom.scan import scan_paths
from core.domain.errors import AppError
from core.domain.study import SeriesKind
from core.domain.volume import Volume
from tests.fakes.data import data_path, data_root

WHEEL = Path(pydicom.__file__).parent / "data" / "test_files"
COLLECTIONS = ("wg04-codecs", "pydicom-data-zoo", "us-nm-multiframe-dcm4che", "cr-dx-mg")
PROMISED = {
    "1.2.840.10008.1.2": "implicit little endian",
    "1.2.840.10008.1.2.1": "explicit little endian",
    "1.2.840.10008.1.2.2": "explicit big endian",
    "1.2.840.10008.1.2.1.99": "deflated",
    "1.2.840.10008.1.2.5": "RLE",
    "1.2.840.10008.1.2.4.50": "JPEG baseline",
    "1.2.840.10008.1.2.4.51": "JPEG extended",
    "1.2.840.10008.1.2.4.70": "JPEG lossless, first order",
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS near-lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.201": "HTJ2K lossless",
    "1.2.840.10008.1.2.4.203": "HTJ2K",
}
UNDECODABLE = {"JPEG2000-embedded-sequence-delimiter.dcm": "JPEG 2000"}
"""A codestream that was bent on purpose: pydicom with all its plug-ins refuses it too."""

ONLY_OURS = frozenset({"MR4_JPLY.dcm", "NM1_JPLY.dcm", "JPGExtended.dcm", "JPEG-lossy.dcm"})
"""JPEG Extended with scan parameters that pydicom's plug-ins refuse or read otherwise."""


@cache
def candidates() -> tuple[Path, ...]:
    folders = [WHEEL, *(data_root() / "core" / "dicom" / name for name in COLLECTIONS)]
    return tuple(sorted(p for folder in folders for p in folder.rglob("*") if p.is_file()))


def images() -> Iterator[Path]:
    for path in candidates():
        found = scan_paths([path]).series
        if len(found) == 1 and found[0].summary.kind is not SeriesKind.OTHER:
            yield path


def load(path: Path) -> Volume:
    (series,) = scan_paths([path]).series
    return assemble_volume(series.instances, series.summary)


def ours(path: Path) -> NDArray:
    return load(path).voxels


def theirs(path: Path) -> NDArray | None:
    """Decode with pydicom, through the modality LUT or the palette; None where it can't."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = pydicom.dcmread(path, force=True)
            pixels = data.pixel_array
            if data.PhotometricInterpretation == "PALETTE COLOR":
                rgb = apply_color_lut(pixels, data)
                return np.asarray(rgb >> 8 if rgb.max() > 255 else rgb)
            if "SharedFunctionalGroupsSequence" in data:
                (groups,) = data.SharedFunctionalGroupsSequence
                if "PixelValueTransformationSequence" in groups:
                    data = groups.PixelValueTransformationSequence[0]
            return np.asarray(apply_rescale(pixels, data))
        except Exception:  # noqa: BLE001 - whatever a peer raises, it has no answer
            return None


def test_what_the_peer_decodes_is_decoded_equally() -> None:
    compared, differing = 0, []
    for path in images():
        if path.name in UNDECODABLE or path.name in ONLY_OURS:
            continue
        reference = theirs(path)
        volume = load(path)
        got = volume.voxels
        if reference is None or (reference.dtype.itemsize * 8 > 16 and reference.ndim >= 3 and got.ndim == 4):
            continue  # colour of 32 bits is shown in 8
        if reference.size == got.size:  # frames are in the order of their positions
            reference = reference.reshape(got.shape)[[n - 1 for n in volume.frame_numbers]]
        if got.ndim == 4 and reference.max() > 255:
            reference = reference >> 8
        compared += 1
        close = reference.shape == got.shape and np.allclose(got, reference, rtol=1e-6, atol=1e-3)
        if not close:
            differing.append(path.name)
    assert compared > 60
    assert differing == []


@pytest.mark.parametrize("uid", sorted(PROMISED), ids=lambda uid: PROMISED[uid])
def test_each_promised_syntax_has_a_real_file_that_decodes(uid: str) -> None:
    decoded = 0
    for path in images():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            meta = pydicom.dcmread(path, force=True, specific_tags=[], stop_before_pixels=True).file_meta
        if str(meta.get("TransferSyntaxUID", "")) == uid and path.name not in UNDECODABLE:
            assert ours(path).size > 0
            decoded += 1
    if not (data_root() / "core").is_dir() and not decoded:
        pytest.skip("real test data is absent")
    assert decoded > 0


@pytest.mark.parametrize("name", sorted(UNDECODABLE))
def test_what_cannot_be_decoded_names_its_codec(name: str) -> None:
    (path,) = [p for p in candidates() if p.name == name]
    with pytest.raises(AppError) as caught:
        ours(path)
    assert caught.value.code == "dicom.undecodable"
    assert UNDECODABLE[name] in caught.value.user_message
    assert "transfer syntax" in caught.value.remedy


def test_every_other_file_is_refused_with_a_reason() -> None:
    for path in candidates():
        result = scan_paths([path])
        assert result.series or result.skipped or path.name.startswith("DICOMDIR"), path.name
        assert all(s.code and s.message for s in result.skipped)


def test_lossless_jpeg_of_any_prediction_equals_the_uncompressed_file(tmp_path: Path) -> None:
    """No real file is at hand, so the peer compresses one."""
    import gdcm

    source = data_path("core/dicom/wg04-codecs/CT1_UNC.dcm")
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(source))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetFileName(str(tmp_path / "p14.dcm"))
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(tmp_path / "p14.dcm").file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.57"
    assert np.array_equal(ours(tmp_path / "p14.dcm"), ours(source))


def test_htj2k_in_order_of_resolution_equals_the_same_stream(tmp_path: Path) -> None:
    """The stream of the real lossless file is in RPCL order, so it is one of the stricter syntax too."""
    source = data_path("core/dicom/pydicom-data-zoo/HTJ2KLossless_08_RGB.dcm")
    data = source.read_bytes()
    style = data.index(b"\xff\x52")
    assert data[style + 5] == 2  # the progression order in the marker segment COD
    old, new = b"1.2.840.10008.1.2.4.201", b"1.2.840.10008.1.2.4.202"
    assert data.count(old) == 1
    (tmp_path / "rpcl.dcm").write_bytes(data.replace(old, new))
    assert np.array_equal(ours(tmp_path / "rpcl.dcm"), ours(source))
