"""A verified model bundle: its manifest, and its files by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.bundles.manifest import MANIFEST_FILE, Manifest, Weights, parse_manifest
from core.bundles.signing import (
    HASH_FILE,
    SIGNATURE_FILE,
    check_signature,
    parse_hashes,
    sha256_hex,
    trusted_keys,
)
from core.bundles.sources import FileSource, open_source
from core.domain.errors import InputError, SafetyError
from core.domain.result import ModelIdentity
from core.domain.segmentation import SegmentDefinition

CARD_FILE = "MODEL_CARD.md"
LICENCE_FILE = "LICENSE"
REFERENCE_INPUT = "reference_io/input.safetensors"
REFERENCE_EXPECTED = "reference_io/expected.safetensors"
Verification = Literal["signed", "unsigned"]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle whose every file was hashed when it was opened, and is hashed again when it is read.

    Attributes
    ----------
    path : pathlib.Path
        The folder or ``.zip``.
    verification : str
        ``"signed"`` by a key that ships with the program, else ``"unsigned"``.
    hashes : dict
        File name → sha256.
    """

    path: Path
    manifest: Manifest
    verification: Verification
    hashes: dict[str, str]
    source: FileSource

    @property
    def id(self) -> str:
        """Identifier of the model."""
        return self.manifest.id

    @property
    def identity(self) -> ModelIdentity:
        """Identifier, version and sha256 of the first weights file."""
        manifest = self.manifest
        return ModelIdentity(
            manifest.id, manifest.version, self.hashes[manifest.weights[0].file], manifest.title
        )

    @property
    def segments(self) -> tuple[SegmentDefinition, ...]:
        """What the values of the label map stand for."""
        return self.manifest.segments()

    @property
    def card(self) -> str:
        """The model card (Markdown), or an empty string."""
        return self.read(CARD_FILE).decode("utf-8", "replace") if CARD_FILE in self.hashes else ""

    @property
    def has_reference(self) -> bool:
        """Whether the bundle carries a reference input and its expected output."""
        return REFERENCE_INPUT in self.hashes and REFERENCE_EXPECTED in self.hashes

    def weights(
        self, kind: Literal["safetensors", "onnx"], precision: Literal["float", "int8"] = "float"
    ) -> Weights | None:
        """Return the first weights file of that format and precision."""
        of_kind = (weights for weights in self.manifest.weights if weights.format == kind)
        return next((weights for weights in of_kind if weights.precision == precision), None)

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises
        ------
        InputError
            ``bundle.missing_file``.
        SafetyError
            ``bundle.hash`` if it no longer is what was verified.
        """
        if name not in self.hashes:
            raise InputError(
                "bundle.missing_file", f"The bundle has no file {name}.", "Use the complete bundle."
            )
        return _verified(self.source, name, self.hashes[name])


def read_bundle(path: Path, *, keys: frozenset[bytes] | None = None) -> Bundle:
    """Open a bundle's folder or ``.zip`` and verify every file.

    Parameters
    ----------
    path : pathlib.Path
        Folder or ``.zip``.
    keys : frozenset of bytes, optional
        Raw ed25519 public keys that are trusted; by default those under ``resources/keys``.

    Raises
    ------
    InputError
        ``bundle.not_found``, ``bundle.bad_zip``, ``bundle.missing_file``, ``bundle.manifest``.
    SafetyError
        ``bundle.hash`` naming the altered file, ``bundle.extra_file``, ``bundle.hash_list``,
        ``bundle.signature``, ``bundle.unsafe_name`` and the archive abuses of ``core.bundles.sources``.
    """
    source = open_source(path)
    names = set(source.names())
    if HASH_FILE not in names:
        raise InputError(
            "bundle.missing_file",
            f"{path.name} has no {HASH_FILE} and is no bundle of Overread.",
            "Add other models with “overread models add”.",
        )
    hash_list = source.read(HASH_FILE)
    hashes = parse_hashes(hash_list)
    verification = _verification(source, names, hash_list, trusted_keys() if keys is None else keys)
    for extra in sorted(names - set(hashes) - {HASH_FILE, SIGNATURE_FILE}):
        raise SafetyError(
            "bundle.extra_file",
            f"{extra} is not listed in {HASH_FILE}.",
            "Remove the file or get the bundle again.",
        )
    manifest_bytes = b""
    for name, expected in hashes.items():
        data = _verified(source, name, expected)
        if name == MANIFEST_FILE:
            manifest_bytes = data
    manifest = parse_manifest(manifest_bytes)
    for needed in (*manifest.files(), CARD_FILE, LICENCE_FILE):
        if needed not in hashes:
            raise InputError("bundle.missing_file", f"The bundle lacks {needed}.", "Use the complete bundle.")
    return Bundle(path, manifest, verification, hashes, source)


def _verification(
    source: FileSource, names: set[str], hash_list: bytes, keys: frozenset[bytes]
) -> Verification:
    if SIGNATURE_FILE not in names:
        return "unsigned"
    return "signed" if check_signature(hash_list, source.read(SIGNATURE_FILE)) in keys else "unsigned"


def _verified(source: FileSource, name: str, expected: str) -> bytes:
    data = source.read(name)
    if sha256_hex(data) != expected:
        raise SafetyError(
            "bundle.hash",
            f"{name} of the model bundle was altered (its sha256 is not the listed one).",
            "Don't use it; get the bundle again.",
        )
    return data
