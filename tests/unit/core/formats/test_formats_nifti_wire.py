"""What is sent to a model server means the same there, and what comes back lies on the series or is refused."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from core.bundles.manifest import Manifest, Preprocessing, Scale, VoiWindow
from core.domain.errors import SafetyError
from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume
from core.domain.window import Window
from core.formats.nifti import read_nifti, write_nifti
from core.formats.nifti_wire import image_bytes, label_map_of
from core.server.item import Upload
from core.server.kinds import kind_of
from core.server.limits import Limits
from core.server.reading import read_upload
from tests.fakes.bundles import classification_manifest, make_image, make_volume, segmentation_manifest

torch = pytest.importorskip("torch")
prepare = pytest.importorskip("core.compute.inference.prepare")
OBLIQUE = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
VOI = Preprocessing(resize_hw=(24, 20), intensity=(VoiWindow(op="voi"),))
SCALED = Preprocessing(
    resize_hw=(24, 20), intensity=(Scale(op="scale", from_low=0, from_high=4096, clip=False),)
)


def at_the_server(volume: Volume, manifest: Manifest, folder: Path) -> Volume:
    """Return what the server reads of a volume that was sent."""
    data = image_bytes(volume, single=not manifest.is_3d)
    return read_upload(Upload(kind_of(data[:4096]), data), manifest, Limits(), folder)


def pictures() -> dict[str, Volume]:
    rng = np.random.default_rng(3)
    deep = rng.integers(0, 4096, (1, 40, 36)).astype(np.uint16)
    image, colour = make_image(), rng.integers(0, 256, (1, 40, 36, 3)).astype(np.uint8)
    geometry = VolumeGeometry((1, 40, 36), np.diag([0.2, 0.2, 1.0, 1.0]))
    grey = Volume(geometry, deep, "CR", "1.2.3")
    return {
        "8 bit": image,
        "8 bit, inverted": replace(image, inverted=True),
        "12 bit": grey,
        "12 bit, inverted": replace(grey, voxels=deep.copy(), inverted=True),
        "with a window": replace(grey, windows=(Window(1800.0, 900.5), Window(1.0, 2.0))),
        "with a window, inverted": replace(grey, inverted=True, windows=(Window(1800.0, 900.0),)),
        "8 bit with a window, inverted": replace(image, inverted=True, windows=(Window(215.0, 60.0),)),
        "colour": Volume(geometry, colour, "OT", "1.2.4"),
        "colour, inverted": Volume(geometry, colour.copy(), "OT", "1.2.4", inverted=True),
        "real numbers": replace(grey, voxels=rng.normal(0.5, 0.2, (1, 40, 36)).astype(np.float32)),
    }


@pytest.mark.parametrize("name", pictures())
@pytest.mark.parametrize("steps", [SCALED, VOI])
def test_a_picture_reaches_the_network_as_it_would_here(
    name: str, steps: Preprocessing, tmp_path: Path
) -> None:
    manifest = classification_manifest(preprocessing=steps)
    picture = pictures()[name]
    here = prepare.prepare_image(picture, manifest)
    there = prepare.prepare_image(at_the_server(picture, manifest, tmp_path), manifest)
    assert there.shape == here.shape and float((there - here).abs().max()) <= 1e-5
    assert float(here.std()) > 0.0


@pytest.mark.parametrize("inverted", [False, True])
def test_a_tilted_volume_is_resampled_as_it_would_be_here(inverted: bool, tmp_path: Path) -> None:
    manifest = segmentation_manifest()
    plain = make_volume((12, 20, 18), (1.7, 1.3, 3.1), direction=OBLIQUE)
    volume = replace(plain, inverted=inverted, windows=(Window(40.0, 400.0),))
    sent = at_the_server(volume, manifest, tmp_path)
    assert np.array_equal(sent.geometry.lps_from_ijk, volume.geometry.lps_from_ijk), "the grid lost digits"
    here, there = (prepare.prepare_volume(one, manifest) for one in (volume, sent))
    assert float((there.tensor - here.tensor).abs().max()) <= 1e-5
    assert (sent.windows[0].low, sent.windows[0].high) == (volume.windows[0].low, volume.windows[0].high)


def test_no_text_of_the_series_goes_along() -> None:
    volume = replace(
        make_volume(),
        series_uid="1.2.826.999",
        study_uid="1.2.826.998",
        body_part="CANARY",
        description="CANARY",
        sop_instance_uids=tuple(f"1.2.826.{k}" for k in range(24)),
        extra={"PatientName": "CANARY"},
    )
    data = image_bytes(volume, single=False)
    plain = gzip.decompress(data)
    assert b"CANARY" not in plain and b"1.2.826" not in plain and b"1.2.3" not in plain
    assert data[3] == 0 and data[4:8] == b"\0\0\0\0", "the packing names a file or a time"
    header = nibabel.Nifti2Image.from_bytes(plain).header
    texts = {name: bytes(header[name]).rstrip(b"\0") for name in ("descrip", "aux_file", "intent_name")}
    assert texts == {"descrip": b"Overread image", "aux_file": b"", "intent_name": b""}


def test_what_shrinks_like_an_archive_bomb_is_sent_unpacked(tmp_path: Path) -> None:
    empty = Volume(VolumeGeometry((32, 64, 64), np.eye(4)), np.zeros((32, 64, 64), np.int16), "MR", "1.2")
    data = image_bytes(empty, single=False)
    assert kind_of(data[:4096]) == "nifti" and len(data) > empty.voxels.nbytes
    assert at_the_server(empty, segmentation_manifest(), tmp_path).geometry.shape_kji == (32, 64, 64)


def test_windows_of_other_files_are_not_taken_over(tmp_path: Path) -> None:
    file = write_nifti(tmp_path / "a.nii", make_volume().geometry, make_volume().voxels)
    image = nibabel.load(file)
    image.header["cal_min"], image.header["cal_max"] = -160, 240
    nibabel.save(image, tmp_path / "b.nii")
    assert read_nifti(tmp_path / "b.nii").windows == ()


def label_file(geometry: VolumeGeometry, labels: np.ndarray, folder: Path, name: str = "l.nii.gz") -> bytes:
    return write_nifti(folder / name, geometry, labels, intent_label=True).read_bytes()


def test_a_label_map_comes_back_voxel_for_voxel(tmp_path: Path) -> None:
    geometry = make_volume((9, 11, 13), (1.7, 1.3, 3.1), direction=OBLIQUE).geometry
    labels = np.random.default_rng(0).integers(0, 3, geometry.shape_kji).astype(np.uint8)
    for name in ("l.nii.gz", "l.nii"):
        found = label_map_of(label_file(geometry, labels, tmp_path, name), geometry, frozenset({1, 2}))
        assert found.dtype == np.uint8 and np.array_equal(found, labels)


def test_a_label_map_of_another_grid_is_refused(tmp_path: Path) -> None:
    geometry = make_volume((9, 11, 13)).geometry
    labels = np.ones(geometry.shape_kji, np.uint8)
    mirrored, shifted = np.array(geometry.lps_from_ijk), np.array(geometry.lps_from_ijk)
    mirrored[:, 0] *= -1.0
    shifted[0, 3] += 0.5
    others = [VolumeGeometry(geometry.shape_kji, mirrored), VolumeGeometry(geometry.shape_kji, shifted)]
    for other in others:
        with pytest.raises(SafetyError) as refused:
            label_map_of(label_file(other, labels, tmp_path), geometry, frozenset({1}))
        assert refused.value.code == "engine.grid"
    smaller = VolumeGeometry((8, 11, 13), geometry.lps_from_ijk)
    with pytest.raises(SafetyError, match="voxels instead of"):
        label_map_of(label_file(smaller, labels[:8], tmp_path), geometry, frozenset({1}))


def test_values_that_stand_for_nothing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    geometry = make_volume((9, 11, 13)).geometry
    labels = np.full(geometry.shape_kji, 7, np.uint8)
    good = label_file(geometry, labels, tmp_path)
    with pytest.raises(SafetyError, match=r"\[7\]"):
        label_map_of(good, geometry, frozenset({1}))
    halves = label_file(geometry, labels.astype(np.float32) / 2, tmp_path)
    bomb = gzip.compress(gzip.decompress(good) + bytes(50_000_000))
    cut = gzip.decompress(good)[:400]
    wrong = {"empty": b"", "text": b"nonsense", "cut": good[:-20], "short": gzip.compress(b"short")}
    for name, bad in {**wrong, "halves": halves, "bomb": bomb, "cut, plain": cut}.items():
        with pytest.raises(SafetyError) as refused:
            label_map_of(bad, geometry, frozenset({7}))
            pytest.fail(name)
        assert refused.value.code == "engine.label_map", name
