"""Overlap of label maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from core.compute.evaluation.bootstrap import Estimate, bootstrap, mean_of


def confusion(predicted: NDArray, truth: NDArray, classes: int) -> NDArray[np.int64]:
    """Return ``(classes, classes)`` voxel counts, rows truth, columns prediction.

    Raises
    ------
    ValueError
        When the shapes differ or a value is not below ``classes``.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"label maps differ in shape: {predicted.shape} and {truth.shape}")
    if predicted.size and max(int(predicted.max()), int(truth.max())) >= classes:
        raise ValueError(f"a label is not below {classes}")
    index = truth.astype(np.int64).ravel() * classes + predicted.astype(np.int64).ravel()
    return np.bincount(index, minlength=classes * classes).reshape(classes, classes)


def dice_from(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the Dice coefficient per class; NaN for a class in neither map, 0 for one that is in one only.

    Source: L. R. Dice 1945, 2|A∩B| / (|A| + |B|).
    """
    total = matrix.sum(axis=0) + matrix.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        out: NDArray[np.float64] = np.where(total > 0, 2 * np.diag(matrix) / total, np.nan)
    return out


def iou_from(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return intersection over union per class, NaN as in ``dice_from``. Source: P. Jaccard 1912."""
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - np.diag(matrix)
    with np.errstate(invalid="ignore", divide="ignore"):
        out: NDArray[np.float64] = np.where(union > 0, np.diag(matrix) / union, np.nan)
    return out


def dice_over_cases(
    pairs: Iterable[tuple[NDArray, NDArray]],
    names: Sequence[str],
    *,
    min_truth_voxels: int = 1,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return the mean Dice per class over cases with a bootstrap interval over the cases.

    Parameters
    ----------
    pairs : iterable of (predicted, truth)
        Label maps; value n belongs to ``names[n - 1]``.
    min_truth_voxels : int
        A class counts in a case only when its truth has at least so many voxels.
    """
    rows = []
    for predicted, truth in pairs:
        matrix = confusion(predicted, truth, len(names) + 1)
        dice = dice_from(matrix)
        dice[matrix.sum(axis=1) < min_truth_voxels] = np.nan
        rows.append(dice[1:])
    table = np.array(rows).reshape(-1, len(names))
    return {name: bootstrap(mean_of, table[:, n], seed=seed) for n, name in enumerate(names)}


def dice_of_case(
    predicted: NDArray, truth: NDArray, names: Sequence[str], *, seed: int = 0
) -> dict[str, Estimate]:
    """Return the Dice of one case per class with an interval from drawing its slices (first axis) anew.

    The interval says how much the value hangs on single slices; it says nothing about other patients.
    """
    matrices = np.stack([confusion(p, t, len(names) + 1) for p, t in zip(predicted, truth, strict=True)])

    def dice_of(index: int) -> Callable[[NDArray], float]:
        return lambda drawn: float(dice_from(drawn.sum(axis=0))[index])

    return {
        name: bootstrap(dice_of(n + 1), matrices, resamples=1000, seed=seed) for n, name in enumerate(names)
    }
