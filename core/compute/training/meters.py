"""Values of the validation part: loss, accuracy, macro F1, area under the curve, Dice, mean absolute error."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from core.compute.evaluation.classification import macro_f1, softmax
from core.compute.evaluation.segmentation import confusion, dice_from
from core.recipes.cases import UNJUDGED
from core.recipes.schema import Recipe


class ClassificationMeter:
    """Accuracy, macro F1 and one-against-rest area under the ROC curve (mean over the classes that occur)."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._logits: list[list[float]] = []
        self._labels: list[int] = []
        self._loss = 0.0

    def add(self, logits: Tensor, target: Tensor, loss: float) -> None:
        """Take ``(N, C)`` logits and ``(N,)`` labels."""
        self._logits += logits.double().cpu().tolist()
        self._labels += target.cpu().tolist()
        self._loss += loss * len(target)

    def end_case(self) -> None:
        """Do nothing: a row is a case."""

    def parts(self) -> Any:
        """Return rows, labels and the sum of losses."""
        return self._logits, self._labels, self._loss

    def merge(self, parts: Any) -> None:
        """Append another process's rows."""
        self._logits += parts[0]
        self._labels += parts[1]
        self._loss += parts[2]

    def values(self) -> dict[str, float]:
        """Return loss, accuracy, macro_f1 and auc; NaN where nothing was gathered."""
        if not self._labels:
            return {}
        logits, labels = np.array(self._logits), np.array(self._labels, dtype=np.int64)
        predicted = logits.argmax(axis=1)
        return {
            "loss": self._loss / len(labels),
            "accuracy": float((predicted == labels).mean()),
            "macro_f1": macro_f1(predicted, labels, self._classes),
            "auc": mean_auc(softmax(logits), labels),
        }


class SegmentationMeter:
    """Mean Dice over the foreground classes that occur in a case, then over cases; a missed structure counts 0."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._open: NDArray[np.int64] | None = None
        self._case_loss = [0.0, 0.0]
        self._tables: list[list[list[int]]] = []
        self._losses: list[float] = []

    def add(self, logits: Tensor, target: Tensor, loss: float) -> None:
        """Take logits ``(1, C, …)`` and labels ``(1, …)`` of a case or of a slab of it."""
        predicted = logits.argmax(dim=1).cpu().numpy()
        table = confusion(predicted, target.cpu().numpy(), self._classes)
        self._open = table if self._open is None else self._open + table
        self._case_loss[0] += loss * target.numel()
        self._case_loss[1] += target.numel()

    def end_case(self) -> None:
        """Close the case."""
        if self._open is not None:
            self._tables.append(self._open.tolist())
            self._losses.append(self._case_loss[0] / max(self._case_loss[1], 1))
        self._open, self._case_loss = None, [0.0, 0.0]

    def parts(self) -> Any:
        """Return the tables of counts and the losses."""
        return self._tables, self._losses

    def merge(self, parts: Any) -> None:
        """Append another process's cases."""
        self._tables += parts[0]
        self._losses += parts[1]

    def values(self) -> dict[str, float]:
        """Return loss and dice, and the Dice of each class as ``dice_<value>``."""
        if not self._tables:
            return {}
        dice = np.array([dice_from(np.array(table))[1:] for table in self._tables])
        out = {"loss": float(np.mean(self._losses)), "dice": _mean(np.array([_mean(row) for row in dice]))}
        out |= {f"dice_{n + 1}": _mean(dice[:, n]) for n in range(dice.shape[1])}
        return out


def mean_auc(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the mean one-against-rest AUC over classes with both kinds of cases; NaN when there is none."""
    from sklearn.metrics import roc_auc_score

    areas = []
    for c in range(probabilities.shape[1]):
        mine = labels == c
        if mine.any() and not mine.all():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                areas.append(float(roc_auc_score(mine, probabilities[:, c])))
    return float(np.mean(areas)) if areas else float("nan")


class MultitaskMeter:
    """The values of each task over the cases whose truth is known, and their mean, the ``score``.

    Parameters
    ----------
    classes : int
        Of the classification; 0 without one.
    channels : int
        Of the segmentation with its background; 0 without one.
    measurements : mapping of str to float
        Name → standard deviation in its unit, in the order of the network's outputs.
    """

    def __init__(self, classes: int, channels: int, measurements: Mapping[str, float]) -> None:
        self._classification = ClassificationMeter(classes) if classes else None
        self._segmentation = SegmentationMeter(channels) if channels else None
        self._measurements = dict(measurements)
        self._errors: list[list[float]] = []
        self._losses: list[float] = []

    def add_tasks(self, answers: Mapping[str, Tensor], targets: Mapping[str, Tensor], loss: float) -> None:
        """Take the answers to a batch of whole images and their mean loss."""
        count = len(next(iter(targets.values())))
        self._losses += [loss] * count
        if self._segmentation is not None:
            for logits, labels in zip(answers["segmentation"], targets["segmentation"], strict=True):
                judged = labels != UNJUDGED
                if bool(judged.any()):
                    self._segmentation.add(logits[None, :, judged], labels[None, judged], 0.0)
                    self._segmentation.end_case()
        if self._classification is not None:
            known = targets["classification"] >= 0
            self._classification.add(answers["classification"][known], targets["classification"][known], 0.0)
        if self._measurements:
            errors = answers["regression"].double() - targets["regression"].double()
            self._errors += errors.abs().cpu().tolist()

    def end_case(self) -> None:
        """Do nothing: a row is a case."""

    def parts(self) -> Any:
        """Return what was gathered of each task."""
        return (
            None if self._classification is None else self._classification.parts(),
            None if self._segmentation is None else self._segmentation.parts(),
            self._errors,
            self._losses,
        )

    def merge(self, parts: Any) -> None:
        """Append another process's cases."""
        if self._classification is not None:
            self._classification.merge(parts[0])
        if self._segmentation is not None:
            self._segmentation.merge(parts[1])
        self._errors += parts[2]
        self._losses += parts[3]

    def values(self) -> dict[str, float]:
        """Return loss, the values of each task, ``mae`` in standard deviations, ``mae_<name>`` in units, score."""
        if not self._losses:
            return {}
        out = {"loss": float(np.mean(self._losses))}
        marks = []
        for meter, mark in ((self._segmentation, "dice"), (self._classification, "macro_f1")):
            found = {} if meter is None else meter.values()
            out |= {name: value for name, value in found.items() if name != "loss"}
            marks.append(found.get(mark, float("nan")))
        if self._measurements:
            means = [_mean(column) for column in np.array(self._errors).T]
            out["mae"] = _mean(np.array(means))
            out |= {
                f"mae_{name}": mean * std
                for (name, std), mean in zip(self._measurements.items(), means, strict=True)
            }
            marks.append(max(0.0, 1.0 - out["mae"]) if np.isfinite(out["mae"]) else float("nan"))
        return out | {"score": _mean(np.array(marks))}


AnyMeter = ClassificationMeter | SegmentationMeter | MultitaskMeter


def meter_for(recipe: Recipe) -> AnyMeter:
    """Return an empty meter."""
    if recipe.task == "multitask":
        scales = {measurement.name: measurement.std for measurement in recipe.measurements}
        return MultitaskMeter(len(recipe.classes), recipe.out_channels, scales)
    if recipe.task == "classification":
        return ClassificationMeter(recipe.out_channels)
    return SegmentationMeter(recipe.out_channels)


def _mean(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
