"""Calibration of a classifier on cases that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core.bundles.manifest import Calibration, Conformal, OutOfDistribution
from core.compute.evaluation.classification import conformal_quantile, fit_temperature, softmax
from core.compute.training.arithmetic import Arithmetic, answer_to, first_output
from core.compute.training.validating import NetworkBackend, whole_answer
from core.recipes.schema import Recipe

Matrix = NDArray[np.float64]
_LEAST_CASES = 10
_LEAST_TEMPERATURE = 0.25


@torch.no_grad()
def logits_of(
    network: nn.Module, batches: Iterable[dict[str, Any]], recipe: Recipe | None = None
) -> tuple[Matrix, NDArray[np.int64], list[str]]:
    """Return float32 logits ``(N, C)`` as float64, labels ``(N,)`` and case ids of whole images whose class is known.

    Of a network with several tasks those of the classification; it needs the ``recipe``.
    """
    logits: list[Matrix] = []
    labels: list[int] = []
    cases: list[str] = []
    network.eval()
    for batch in batches:
        target = batch["target"]
        if recipe is not None and isinstance(target, dict):
            backend = NetworkBackend(network, Arithmetic(), "cpu")
            answer = whole_answer(backend, recipe, batch["image"], batch.get("text"))["classification"]
            target = target["classification"]
        else:
            answer = answer_to(network, batch["image"], batch.get("text"), Arithmetic())
        known = target >= 0
        logits.append(first_output(answer)[known].double().numpy())
        labels += target[known].tolist()
        cases += [case for case, one in zip(batch["case"], known.tolist(), strict=True) if one]
    stacked = np.concatenate(logits) if logits else np.zeros((0, 0))
    return stacked, np.array(labels, dtype=np.int64), cases


def calibrate(logits: Matrix, labels: NDArray[np.int64], coverage: float) -> Calibration:
    """Return temperature, prediction sets and the energies of known images; plain with fewer than 10 cases.

    Label smoothing leaves a network less sure than it is right; a temperature below 0.25 would claim more than a few
    hundred cases can support.
    """
    if len(labels) < _LEAST_CASES:
        return Calibration()
    temperature = max(_LEAST_TEMPERATURE, fit_temperature(logits, labels))
    quantile = conformal_quantile(softmax(logits, temperature), labels, coverage)
    steps = np.quantile(np.sort(energy(logits, temperature)), np.linspace(0, 1, 51))
    return Calibration(
        temperature=round(temperature, 6),
        conformal=Conformal(quantile=float(min(1.0, np.ceil(quantile * 1e6) / 1e6)), coverage=coverage),
        out_of_distribution=OutOfDistribution(
            method="energy", quantiles=tuple(round(float(s), 6) for s in steps), threshold=0.99
        ),
    )


def energy(logits: Matrix, temperature: float) -> Matrix:
    """Return −T log Σ exp(z / T) per row. Source: W. Liu et al., NeurIPS 2020."""
    scaled = logits / temperature
    top = scaled.max(axis=1)
    out: Matrix = -temperature * (top + np.log(np.exp(scaled - top[:, None]).sum(axis=1)))
    return out
