"""Write, sign and pack bundles."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.bundles.bundle import (
    CARD_FILE,
    LICENCE_FILE,
    REFERENCE_EXPECTED,
    REFERENCE_INPUT,
    Bundle,
    read_bundle,
)
from core.bundles.manifest import MANIFEST_FILE, Manifest
from core.bundles.signing import HASH_FILE, SIGNATURE_FILE, format_hashes, load_private_key, sha256_hex, sign
from core.bundles.sources import FolderSource, safe_name
from core.domain.errors import InputError

METADATA_FILE = "configs/metadata.json"
CONTRAST_PREFIX = "voxels::"


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference input in the series' own terms, and what the model must answer.

    Attributes
    ----------
    voxels : numpy.ndarray
        ``(K, J, I)`` or ``(K, J, I, 3)``, any dtype of a Volume.
    lps_from_ijk : numpy.ndarray
        ``(4, 4)`` float64.
    labels : numpy.ndarray or None
        ``(K, J, I)`` uint8: expected label map.
    probabilities : numpy.ndarray or None
        ``(classes,)`` float32: expected calibrated probabilities.
    measurements : numpy.ndarray or None
        ``(measurements,)`` float32: expected values in their units, in the manifest's order.
    contrast : str
        Which of the model's inputs ``voxels`` are; empty for a model that takes one series.
    others : mapping of str to numpy.ndarray
        Voxels of further inputs on the same grid.
    text : str
        The report that goes with the input; no patient's.
    """

    voxels: NDArray
    lps_from_ijk: NDArray[np.float64]
    modality: str
    units: str = "stored"
    labels: NDArray[np.uint8] | None = None
    probabilities: NDArray[np.float32] | None = None
    extra: dict[str, str] = field(default_factory=dict)
    measurements: NDArray[np.float32] | None = None
    contrast: str = ""
    others: Mapping[str, NDArray] = field(default_factory=dict)
    text: str = ""

    def files(self) -> dict[str, bytes]:
        """Return the two files of ``reference_io/``."""
        from safetensors.numpy import save

        expected: dict[str, NDArray] = {}
        if self.labels is not None:
            expected["labels"] = np.ascontiguousarray(self.labels, dtype=np.uint8)
        if self.probabilities is not None:
            expected["probabilities"] = np.ascontiguousarray(self.probabilities, dtype=np.float32)
        if self.measurements is not None:
            expected["measurements"] = np.ascontiguousarray(self.measurements, dtype=np.float32)
        if not expected:
            raise InputError(
                "bundle.reference",
                "A reference needs labels, probabilities or measurements.",
                "Give the output.",
            )
        given = {
            "voxels": np.ascontiguousarray(self.voxels),
            "lps_from_ijk": np.ascontiguousarray(self.lps_from_ijk, dtype=np.float64),
        }
        given |= {
            CONTRAST_PREFIX + name: np.ascontiguousarray(voxels) for name, voxels in self.others.items()
        }
        about = {"modality": self.modality, "units": self.units, **self.extra}
        about |= {key: text for key, text in (("contrast", self.contrast), ("text", self.text)) if text}
        return {REFERENCE_INPUT: save(given, metadata=about), REFERENCE_EXPECTED: save(expected)}


def write_bundle(
    folder: Path,
    manifest: Manifest,
    *,
    files: Mapping[str, bytes],
    card: str,
    licence_text: str,
    reference: Reference | None = None,
    private_key_file: Path | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle's folder: everything beside it first, then moved into place, then read back and
    verified.

    Parameters
    ----------
    folder : pathlib.Path
        Target, named as you like; the manifest holds the id.
    files : mapping of str to bytes
        Weights and whatever else the manifest names (``"weights/model.safetensors"`` → bytes).
    private_key_file : pathlib.Path, optional
        PEM ed25519 key; without it the bundle is unsigned.
    overwrite : bool
        Whether an existing folder is replaced.

    Raises
    ------
    InputError
        ``bundle.exists``, ``bundle.missing_file`` when a weights file of the manifest isn't in ``files``.
    """
    if folder.exists() and not overwrite:
        raise InputError(
            "bundle.exists", f"{folder.name} already exists.", "Remove it or choose another name."
        )
    for name in manifest.files():
        if name not in files:
            raise InputError(
                "bundle.missing_file", f"{name} was not given.", "Give every file that the manifest names."
            )
    content = {
        **files,
        **(reference.files() if reference else {}),
        MANIFEST_FILE: manifest.to_json(),
        METADATA_FILE: monai_metadata(manifest),
        CARD_FILE: card.encode(),
        LICENCE_FILE: licence_text.encode(),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        staged = Path(temporary) / "bundle"
        for name, data in content.items():
            target = staged / safe_name(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        sign_bundle(staged, private_key_file)
        if folder.exists():
            shutil.rmtree(folder)
        staged.rename(folder)
    return read_bundle(folder)


def sign_bundle(folder: Path, private_key_file: Path | None) -> None:
    """(Re)write ``MANIFEST.sha256`` of a bundle's folder and, with a key, its signature; without, remove
    it.
    """
    (folder / HASH_FILE).unlink(missing_ok=True)
    (folder / SIGNATURE_FILE).unlink(missing_ok=True)
    source = FolderSource(folder)
    hash_list = format_hashes({name: sha256_hex(source.read(name)) for name in source.names()})
    (folder / HASH_FILE).write_bytes(hash_list)
    if private_key_file is not None:
        (folder / SIGNATURE_FILE).write_bytes(sign(hash_list, load_private_key(private_key_file)))


def pack_bundle(folder: Path, target: Path) -> Path:
    """Write a bundle's folder as one ``.zip`` with a top folder of the bundle's name; returns ``target``."""
    bundle = read_bundle(folder)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in bundle.source.names():
            archive.writestr(f"{bundle.id}/{name}", bundle.source.read(name))
    return target


def monai_metadata(manifest: Manifest) -> bytes:
    """Return ``configs/metadata.json`` as the MONAI bundle specification describes it.

    Source: MONAI bundle specification, ``network_data_format``.
    """
    spatial: list[Any] = ["*"] * (3 if manifest.is_3d else 2)
    if manifest.inference.patch_kji is not None and manifest.is_3d:
        spatial = list(manifest.inference.patch_kji)
    elif manifest.preprocessing.resize_hw is not None:
        spatial = list(manifest.preprocessing.resize_hw)
    contrasts = manifest.inputs or ("image",) * manifest.preprocessing.channels
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "/".join(manifest.requirements.modalities) or "any",
        "num_channels": manifest.channels_in(),
        "spatial_shape": spatial,
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": manifest.inference.patch_kji is not None,
        "channel_def": {str(index): name for index, name in enumerate(contrasts)},
    }
    document = {
        "version": manifest.version,
        "changelog": {manifest.version: "first release of this version"},
        "monai_version": "1.5.0",
        "pytorch_version": "2.6.0",
        "numpy_version": "2.0.0",
        "required_packages_version": {},
        "task": manifest.title,
        "description": manifest.description,
        "authors": "",
        "copyright": manifest.licence,
        "intended_use": manifest.intended_use,
        "network_data_format": {"inputs": {"image": image}, "outputs": _outputs(manifest, spatial)},
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def _outputs(manifest: Manifest, spatial: list[Any]) -> dict[str, Any]:
    """Return the outputs of ``network_data_format``: ``pred``, or one per task of a multitask model."""
    several = manifest.task == "multitask"
    outputs: dict[str, Any] = {}
    if manifest.structures:
        names = {"0": "background"} | {str(label.value): label.name for label in manifest.structures}
        is_patch = manifest.inference.patch_kji is not None
        outputs["segmentation" if several else "pred"] = {
            "type": "image",
            "format": "segmentation",
            "spatial_shape": spatial,
            **_numbers(names, manifest.channels_out(), is_patch),
        }
    if manifest.image_classes:
        names = {str(label.value): label.name for label in manifest.image_classes}
        outputs["classification" if several else "pred"] = {
            "type": "probabilities",
            "format": "classes",
            "spatial_shape": [len(names)],
            **_numbers(names, len(names), False),
        }
    if manifest.measurements:
        names = {str(index): item.name for index, item in enumerate(manifest.measurements)}
        outputs["regression"] = {
            "type": "probabilities",
            "format": "regression",
            "spatial_shape": [len(names)],
            **_numbers(names, len(names), False),
            "value_range": [],
        }
    return outputs


def _numbers(names: dict[str, str], channels: int, is_patch: bool) -> dict[str, Any]:
    return {
        "num_channels": channels,
        "dtype": "float32",
        "value_range": [0, channels - 1],
        "is_patch_data": is_patch,
        "channel_def": names,
    }
