"""Bundles that hold what deployment made: a further graph in eight bits, or a network that lost channels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from core.bundles.bundle import (
    CARD_FILE,
    LICENCE_FILE,
    REFERENCE_EXPECTED,
    REFERENCE_INPUT,
    Bundle,
)
from core.bundles.manifest import MANIFEST_FILE, Manifest, Network, Weights
from core.bundles.signing import HASH_FILE, SIGNATURE_FILE
from core.bundles.writer import METADATA_FILE, Reference, write_bundle
from core.compute.inference.reference import read_reference
from core.compute.training.export import ONNX_FILE, SAFETENSORS_FILE, safetensors_of
from core.compute.training.publish import answered

INT8_FILE = "weights/model.int8.onnx"
_WRITTEN = {MANIFEST_FILE, METADATA_FILE, CARD_FILE, LICENCE_FILE, HASH_FILE, SIGNATURE_FILE}
_REFERENCE = {REFERENCE_INPUT, REFERENCE_EXPECTED}
Metrics = Mapping[str, float | list[float] | str]


def with_int8(bundle: Bundle, graph: bytes, exact: bytes, folder: Path, key: Path | None) -> Bundle:
    """Write a copy of a bundle that holds a graph in eight bits beside its exact weights.

    Parameters
    ----------
    exact : bytes
        The float32 graph, stored where the bundle has none.
    key : pathlib.Path, optional
        Signs the copy; without it the copy is unsigned.
    """
    kept = tuple(w for w in bundle.manifest.weights if w.precision == "float")
    files = _others(bundle, without=_REFERENCE) | {INT8_FILE: graph}
    if bundle.weights("onnx") is None:
        kept = (*kept, Weights(file=ONNX_FILE, format="onnx"))
        files[ONNX_FILE] = exact
    weights = (*kept, Weights(file=INT8_FILE, format="onnx", precision="int8"))
    manifest = bundle.manifest.model_copy(update={"weights": weights})
    return _written(bundle, manifest, files, folder, key)


def with_pruned(
    bundle: Bundle,
    network: nn.Module,
    description: Network,
    onnx: bytes | None,
    folder: Path,
    *,
    metrics: Metrics | None = None,
    note: str = "",
    key: Path | None = None,
) -> Bundle:
    """Write a bundle of a pruned network: version, weights, metrics, card and expected answer are its own.

    Unusual inputs are no longer judged by features of the network: their statistics were of other channels.
    """
    manifest = bundle.manifest
    weights = [Weights(file=SAFETENSORS_FILE, format="safetensors")]
    files = _others(bundle, without=_REFERENCE | {w.file for w in manifest.weights})
    files[SAFETENSORS_FILE] = safetensors_of(network)
    if onnx is not None:
        weights.append(Weights(file=ONNX_FILE, format="onnx"))
        files[ONNX_FILE] = onnx
    changes: dict[str, Any] = {
        "version": pruned_version(manifest.version),
        "network": description,
        "weights": tuple(weights),
        "metrics": dict(metrics or {}),
    }
    unusual = manifest.calibration.out_of_distribution
    if unusual is not None and unusual.method == "mahalanobis":
        changes["calibration"] = manifest.calibration.model_copy(update={"out_of_distribution": None})
        files.pop(unusual.statistics_file, None)
    return _written(
        bundle, manifest.model_copy(update=changes), files, folder, key, note=note, answer_anew=True
    )


def pruned_version(version: str) -> str:
    """Return the version of a pruned model: a pre-release of the original, which stays what it was."""
    return f"{version}.pruned" if "-" in version else f"{version}-pruned"


def _written(
    bundle: Bundle,
    manifest: Manifest,
    files: dict[str, bytes],
    folder: Path,
    key: Path | None,
    *,
    note: str = "",
    answer_anew: bool = False,
) -> Bundle:
    licence = bundle.read(LICENCE_FILE).decode("utf-8", "replace")

    def write(reference: Reference | None) -> Bundle:
        return write_bundle(
            folder,
            manifest,
            files=files,
            card=bundle.card + note,
            licence_text=licence,
            reference=reference,
            private_key_file=key,
            overwrite=True,
        )

    if not bundle.has_reference:
        return write(None)
    if not answer_anew:
        files |= {name: bundle.read(name) for name in _REFERENCE}
        return write(None)
    made = write(None)
    known = read_reference(bundle)
    return write(answered(made, known.given, known.text))


def _others(bundle: Bundle, without: set[str]) -> dict[str, bytes]:
    return {name: bundle.read(name) for name in bundle.hashes if name not in _WRITTEN | without}
