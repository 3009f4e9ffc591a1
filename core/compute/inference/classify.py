"""Classification of one image: calibrated probabilities, a prediction set, and how unusual the image is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core.bundles.manifest import Conformal, OutOfDistribution
from core.compute.inference.backends import Engine
from core.compute.inference.loaded import LoadedModel
from core.domain.errors import InputError
from core.domain.progress import CancelToken
from core.domain.result import ClassProbability

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Classification:
    """Outcome of a classification; ``probabilities`` are in the order of the labels' values."""

    probabilities: Vector
    classes: tuple[ClassProbability, ...]
    prediction_set: tuple[str, ...]
    uncertainty: float
    out_of_distribution: float | None


def classify(
    image: torch.Tensor,
    model: LoadedModel,
    engine: Engine,
    cancel: CancelToken | None = None,
    *,
    text: torch.Tensor | None = None,
) -> Classification:
    """Classify ``(1, C, …)`` float32, with the ids ``(1, L)`` of its report for a model that takes one."""
    answer = engine(image, cancel) if text is None else _classes_of(engine.outputs(image, text, cancel))
    return calibrated(answer, image, model)


def _classes_of(outputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return outputs.get("classification", next(iter(outputs.values())))


def calibrated(answer: torch.Tensor, image: torch.Tensor, model: LoadedModel) -> Classification:
    """Return what the logits of one image's classes say.

    Parameters
    ----------
    answer : torch.Tensor
        Logits, one per class of the image.
    image : torch.Tensor
        ``(1, C, …)`` float32: what the network saw.

    Raises
    ------
    InputError
        ``model.output`` for another number of classes.
    """
    manifest = model.bundle.manifest
    logits = answer.reshape(-1).double().cpu().numpy()
    names = [label.name for label in manifest.image_classes]
    if logits.shape != (len(names),):
        raise InputError(
            "model.output",
            f"{manifest.title} answers with {logits.size} numbers instead of {len(names)} classes.",
            "Ask the maker of the model for a corrected bundle.",
        )
    calibration = manifest.calibration
    probabilities = softmax(logits, calibration.temperature)
    order = np.argsort(-probabilities, kind="stable")
    unusual = calibration.out_of_distribution
    return Classification(
        probabilities,
        tuple(ClassProbability(names[index], float(probabilities[index])) for index in order),
        tuple(names[index] for index in prediction_set(probabilities, calibration.conformal)),
        normalised_entropy(probabilities),
        None if unusual is None else _unusual(image, logits, model, unusual, calibration.temperature),
    )


def softmax(logits: Vector, temperature: float) -> Vector:
    """Return the softmax of ``logits / temperature``. Source: Guo et al., ICML 2017."""
    scaled = logits / temperature
    weights = np.exp(scaled - scaled.max())
    return np.asarray(weights / weights.sum())


def prediction_set(probabilities: Vector, conformal: Conformal | None) -> list[int]:
    """Return class indices with 1 - p ≤ quantile, most probable first; the best one is always among them.

    Source: Sadinle, Lei, Wasserman, JASA 2019 (least ambiguous sets); keeping the best class only adds
    coverage.
    """
    if conformal is None:
        return []
    order = np.argsort(-probabilities, kind="stable")
    kept = [int(index) for index in order if 1.0 - probabilities[index] <= conformal.quantile]
    return kept or [int(order[0])]


def normalised_entropy(probabilities: Vector) -> float:
    """Return the entropy over its maximum, 0…1."""
    if len(probabilities) < 2:
        return 0.0
    logs = np.log(np.clip(probabilities, 1e-300, None))
    return float(-(probabilities * logs).sum() / np.log(len(probabilities)))


def energy(logits: Vector, temperature: float) -> float:
    """Return ``-T log Σ exp(z / T)``. Source: Liu et al., NeurIPS 2020."""
    scaled = logits / temperature
    top = scaled.max()
    return float(-temperature * (top + np.log(np.exp(scaled - top).sum())))


def mahalanobis(features: Vector, means: Vector, precision: Vector) -> float:
    """Return the smallest squared Mahalanobis distance of ``(F,)`` to the class means ``(C, F)``.

    Source: Lee et al., NeurIPS 2018, with one shared precision matrix ``(F, F)``.
    """
    offsets = means - features[None]
    return float(np.einsum("cf,fg,cg->c", offsets, precision, offsets).min())


def share_below(score: float, quantiles: tuple[float, ...]) -> float:
    """Return the share of known images whose score lies below ``score`` (0…1), by linear interpolation."""
    return float(np.interp(score, quantiles, np.linspace(0.0, 1.0, len(quantiles))))


def pooled_features(network: nn.Module, layer: str, image: torch.Tensor) -> Vector:
    """Return the mean over space of the output of ``layer`` for ``(1, C, …)``, as ``(F,)`` float64."""
    caught: list[torch.Tensor] = []
    handle = network.get_submodule(layer).register_forward_hook(lambda *call: caught.append(call[2]))
    try:
        with torch.no_grad():
            network(image)
    finally:
        handle.remove()
    return caught[0][0].flatten(1).mean(1).double().cpu().numpy()


def _unusual(
    image: torch.Tensor, logits: Vector, model: LoadedModel, settings: OutOfDistribution, temperature: float
) -> float | None:
    if settings.method == "energy":
        return share_below(energy(logits, temperature), settings.quantiles)
    if not model.has_network:
        return None
    import safetensors.numpy

    statistics = safetensors.numpy.load(model.bundle.read(settings.statistics_file))
    features = pooled_features(model.network(), settings.layer, image.to(model.device))
    score = mahalanobis(
        features, statistics["mean"].astype(np.float64), statistics["precision"].astype(np.float64)
    )
    return share_below(score, settings.quantiles)
