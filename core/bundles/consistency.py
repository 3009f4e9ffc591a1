"""What the fields of a manifest must have in common: each rule raises ValueError with a sentence for the maker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.bundles.manifest import Label, Manifest


def check_manifest(manifest: Manifest) -> None:
    """Raise ValueError with the first rule that the manifest breaks."""
    _check_labels(manifest)
    _check_weights(manifest)
    _check_inputs(manifest)
    if manifest.task == "multitask":
        _check_multitask(manifest)
    elif manifest.classes or manifest.measurements:
        raise ValueError("classes and measurements are for the task multitask")
    if not {rule.value for rule in manifest.postprocessing.rules} <= {
        label.value for label in manifest.labels
    }:
        raise ValueError("a clean-up rule names a value that is not among the labels")


def _check_labels(manifest: Manifest) -> None:
    _check_unique(manifest.labels, "label")
    values = sorted(label.value for label in manifest.labels)
    if manifest.task != "multitask" and not values:
        raise ValueError("there must be a label")
    if manifest.task != "classification" and 0 in values:
        raise ValueError("value 0 is background and is not listed among the labels")
    if manifest.task == "classification" and values != list(range(len(values))):
        raise ValueError("classes are numbered 0, 1, 2 …")


def _check_multitask(manifest: Manifest) -> None:
    if not (manifest.labels or manifest.classes or manifest.measurements):
        raise ValueError("a multitask model has labels, classes or measurements")
    _check_unique(manifest.classes, "class")
    if sorted(label.value for label in manifest.classes) != list(range(len(manifest.classes))):
        raise ValueError("classes are numbered 0, 1, 2 …")
    if len(manifest.classes) == 1:
        raise ValueError("one class alone says nothing: name two or more")
    if len({item.name for item in manifest.measurements}) != len(manifest.measurements):
        raise ValueError("measurement names are unique")
    if manifest.inference.patch_kji is not None:
        raise ValueError("a multitask model takes the whole image at once: inference.patch_kji must be empty")


def _check_weights(manifest: Manifest) -> None:
    exact = [weights for weights in manifest.weights if weights.precision == "float"]
    if manifest.network is None and not any(weights.format == "onnx" for weights in exact):
        raise ValueError("without a network there must be an ONNX file")
    if manifest.network is not None and not any(weights.format == "safetensors" for weights in exact):
        raise ValueError("a network needs a safetensors file")


def _check_inputs(manifest: Manifest) -> None:
    if len({name.casefold() for name in manifest.inputs}) != len(manifest.inputs):
        raise ValueError("input names are unique")
    if len(manifest.inputs) > 1 and manifest.preprocessing.channels != 1:
        raise ValueError(
            "a model of several inputs takes one channel of each: preprocessing.channels must be 1"
        )
    if len(manifest.inputs) > 1 and manifest.requirements.kind != "volume":
        raise ValueError("several inputs are for volumes")
    if manifest.missing_inputs == "zeros" and len(manifest.inputs) < 2:
        raise ValueError("missing_inputs zeros needs two or more inputs")
    if manifest.text is not None and manifest.task == "segmentation":
        raise ValueError("a text is for the tasks classification and multitask")


def _check_unique(labels: Sequence[Label], what: str) -> None:
    if len({label.value for label in labels}) != len(labels) or len({label.name for label in labels}) != len(
        labels
    ):
        raise ValueError(f"{what} values and names are unique")
