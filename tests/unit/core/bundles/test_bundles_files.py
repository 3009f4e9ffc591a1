"""Bundles are what was signed, to the bit, and nothing outside them is reachable."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from core.bundles.bundle import Bundle, read_bundle
from core.bundles.signing import HASH_FILE, SIGNATURE_FILE, generate_key, trusted_keys
from core.bundles.sources import safe_name
from core.bundles.writer import pack_bundle, sign_bundle
from core.config.resources import resource_path
from core.domain.errors import AppError, InputError, SafetyError
from tests.fakes.bundles import make_classification_bundle, make_segmentation_bundle


@pytest.fixture
def key(tmp_path: Path) -> tuple[Path, frozenset[bytes]]:
    private = tmp_path / "keys" / "private.pem"
    folder = tmp_path / "trusted"
    folder.mkdir()
    (folder / "maker.pub").write_bytes(generate_key(private))
    return private, trusted_keys(folder)


def signed_bundle(tmp_path: Path, key: tuple[Path, frozenset[bytes]]) -> Path:
    make_segmentation_bundle(tmp_path / "bundle", key[0])
    return tmp_path / "bundle"


def test_a_bundle_signed_by_a_trusted_key_is_signed(tmp_path: Path, key: tuple) -> None:
    bundle = read_bundle(signed_bundle(tmp_path, key), keys=key[1])
    assert bundle.verification == "signed"
    assert bundle.identity.id == "fake-threshold"
    assert len(bundle.identity.sha256) == 64


def test_a_bundle_of_another_key_or_none_is_unsigned(tmp_path: Path, key: tuple) -> None:
    assert read_bundle(signed_bundle(tmp_path, key), keys=frozenset()).verification == "unsigned"
    assert make_classification_bundle(tmp_path / "plain").verification == "unsigned"


def test_the_private_key_is_readable_by_its_owner_only(key: tuple) -> None:
    assert stat.S_IMODE(key[0].stat().st_mode) == 0o600


def test_every_flipped_byte_is_refused(tmp_path: Path, key: tuple) -> None:
    folder = signed_bundle(tmp_path, key)
    rng = np.random.default_rng(0)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        original = file.read_bytes()
        name = file.relative_to(folder).as_posix()
        positions = range(len(original)) if name in (SIGNATURE_FILE,) else rng.integers(0, len(original), 12)
        for position in positions:
            flipped = bytearray(original)
            flipped[position] ^= 1 << int(rng.integers(0, 8))
            file.write_bytes(bytes(flipped))
            with pytest.raises(SafetyError) as caught:
                read_bundle(folder, keys=key[1])
            if name not in (HASH_FILE,):
                assert name in caught.value.user_message
        file.write_bytes(original)
    assert read_bundle(folder, keys=key[1]).verification == "signed"


def test_a_file_swapped_after_opening_is_noticed_when_it_is_read(tmp_path: Path, key: tuple) -> None:
    bundle = read_bundle(signed_bundle(tmp_path, key), keys=key[1])
    (bundle.path / "weights" / "model.onnx").write_bytes(b"other")
    with pytest.raises(SafetyError, match=r"model\.onnx"):
        bundle.read("weights/model.onnx")


def test_extra_missing_and_linked_files_are_refused(tmp_path: Path, key: tuple) -> None:
    folder = signed_bundle(tmp_path, key)
    (folder / "extra.txt").write_text("x")
    with pytest.raises(SafetyError, match=r"extra\.txt"):
        read_bundle(folder)
    (folder / "extra.txt").unlink()
    (folder / "LICENSE").unlink()
    with pytest.raises(InputError, match="LICENSE"):
        read_bundle(folder)
    (folder / "LICENSE").symlink_to("/etc/hostname")
    with pytest.raises(SafetyError, match="LICENSE"):
        read_bundle(folder)


def test_an_unsigned_bundle_is_signed_again_after_a_change(tmp_path: Path, key: tuple) -> None:
    folder = make_classification_bundle(tmp_path / "plain").path
    (folder / "MODEL_CARD.md").write_text("changed")
    sign_bundle(folder, key[0])
    assert read_bundle(folder, keys=key[1]).verification == "signed"
    sign_bundle(folder, None)
    assert read_bundle(folder, keys=key[1]).verification == "unsigned"


def test_a_zip_is_read_in_place_and_equals_its_folder(tmp_path: Path, key: tuple) -> None:
    folder = signed_bundle(tmp_path, key)
    packed: Bundle = read_bundle(pack_bundle(folder, tmp_path / "bundle.zip"), keys=key[1])
    opened = read_bundle(folder, keys=key[1])
    assert packed.verification == "signed"
    assert packed.hashes == opened.hashes
    assert packed.read("weights/model.onnx") == opened.read("weights/model.onnx")


@pytest.mark.parametrize(
    "name",
    [
        "../up",
        "/root",
        "a/../../b",
        "C:\\evil",
        "..\\evil",
        "C:/evil",
        "nul",
        "con.txt",
        "a//b",
        "x\0y",
        "a.",
        "./a",
        "",
    ],
)
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(SafetyError):
        safe_name(name)


@pytest.mark.parametrize("name", ["../outside.txt", "/abs.txt", "a\\..\\b.txt", "C:evil.txt"])
def test_a_zip_that_slips_is_refused_and_writes_nothing(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        info = zipfile.ZipInfo("x")
        info.filename = name
        writer.writestr(info, "x")
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises(SafetyError):
        read_bundle(archive)
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_bombs_links_duplicates_and_rubbish_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("zeros", b"\0" * 5_000_000)
    with pytest.raises(SafetyError, match="expands"):
        read_bundle(bomb)
    link = tmp_path / "link.zip"
    with zipfile.ZipFile(link, "w") as writer:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        writer.writestr(info, "/etc/passwd")
    with pytest.raises(SafetyError, match="link"):
        read_bundle(link)
    twice = tmp_path / "twice.zip"
    with zipfile.ZipFile(twice, "w") as writer, pytest.warns(UserWarning, match="Duplicate"):
        writer.writestr("a", "1")
        writer.writestr("a", "2")
    with pytest.raises(SafetyError, match="twice"):
        read_bundle(twice)
    rubbish = tmp_path / "rubbish.zip"
    rubbish.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(InputError):
        read_bundle(rubbish)


def test_truncated_archives_raise_only_app_errors(tmp_path: Path) -> None:
    make_classification_bundle(tmp_path / "plain")
    data = pack_bundle(tmp_path / "plain", tmp_path / "whole.zip").read_bytes()
    for cut in range(0, len(data) - 1, max(1, len(data) // 40)):
        broken = tmp_path / "broken.zip"
        broken.write_bytes(data[:cut])
        with pytest.raises(AppError):
            read_bundle(broken)


def test_flipped_archive_bytes_raise_only_app_errors_or_change_nothing(tmp_path: Path) -> None:
    whole = read_bundle(make_classification_bundle(tmp_path / "plain").path)
    data = pack_bundle(tmp_path / "plain", tmp_path / "whole.zip").read_bytes()
    rng = np.random.default_rng(1)
    for position in rng.integers(0, len(data), 150):
        flipped = bytearray(data)
        flipped[position] ^= 0x10
        (tmp_path / "flipped.zip").write_bytes(bytes(flipped))
        try:
            assert read_bundle(tmp_path / "flipped.zip").hashes == whole.hashes
        except AppError:
            continue


def test_metadata_follows_the_monai_bundle_specification(tmp_path: Path) -> None:
    bundle = make_segmentation_bundle(tmp_path / "bundle")
    document = json.load(io.BytesIO(bundle.read("configs/metadata.json")))
    inputs = document["network_data_format"]["inputs"]["image"]
    outputs = document["network_data_format"]["outputs"]["pred"]
    assert inputs["num_channels"] == 1 and inputs["spatial_shape"] == [16, 16, 16]
    assert outputs["channel_def"] == {"0": "background", "1": "Soft tissue", "2": "Bone"}
    assert {"version", "monai_version", "pytorch_version", "numpy_version", "task", "changelog"} <= set(
        document
    )


def test_shipped_public_keys_are_ed25519_and_no_private_key_is_in_the_repository() -> None:
    assert trusted_keys()
    root = resource_path("keys").parents[1]
    for file in resource_path("keys").iterdir():
        assert b"PRIVATE" not in file.read_bytes(), file.relative_to(root)
