"""All metrics of numbers that a model estimates, against the true ones: errors, agreement, share explained.

Source: J. M. Bland, D. G. Altman, Lancet 1986, 327:307–310 (bias and limits of agreement).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.bundles.manifest import Measurement
from core.compute.evaluation.bootstrap import percentile_interval, resampled
from core.recipes.gates import Measured

Values = NDArray[np.float64]
PER_NUMBER = ("mae", "rmse", "bias", "loa_low", "loa_high", "r2")


@dataclass(frozen=True, eq=False)
class NumberMetrics:
    """Metrics of the numbers that a model estimates.

    Attributes
    ----------
    units : dict of str to str
        Measurement → unit (UCUM), in the model's order.
    metrics : dict
        ``mean_r2``, ``mean_scaled_mae`` (in the standard deviations that the model states), and for gates each metric
        of each measurement as ``<metric>_<measurement>`` in small letters.
    per_number : dict
        Measurement → metric → value (``PER_NUMBER``); errors are predicted less truth, in the unit. ``loa_low`` and
        ``loa_high`` are the 95 % limits of agreement. ``r2`` is 1 − squared errors over squared deviations from the
        mean truth: 0 for a model that always says the mean, negative for a worse one.
    truth, predicted : numpy.ndarray
        ``(N, R)`` float64; NaN where the truth isn't known.
    """

    units: dict[str, str]
    metrics: dict[str, Measured]
    per_number: dict[str, dict[str, Measured]]
    truth: Values
    predicted: Values

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the single numbers for JSON."""
        return {
            "units": self.units,
            "measurements": {
                name: {k: m.as_dict() for k, m in row.items()} for name, row in self.per_number.items()
            },
        }


def evaluate_numbers(
    truth: Values,
    predicted: Values,
    measurements: Sequence[Measurement],
    *,
    patients: NDArray | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> NumberMetrics:
    """Evaluate ``(N, R)`` predicted numbers; a truth of NaN isn't known and left out.

    Parameters
    ----------
    patients : numpy.ndarray, optional
        ``(N,)`` identifiers: cases of one patient are drawn together.

    Raises
    ------
    ValueError
        When shapes disagree.
    """
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if truth.shape != predicted.shape or truth.shape[1:] != (len(measurements),):
        raise ValueError(f"numbers {predicted.shape} don't belong to truth {truth.shape}")
    per_number: dict[str, dict[str, Measured]] = {}
    metrics: dict[str, Measured] = {}
    for k, measurement in enumerate(measurements):
        known = np.isfinite(truth[:, k])
        who = None if patients is None else np.asarray(patients)[known]
        row = _of_one(truth[known, k], predicted[known, k], who, resamples, seed)
        per_number[measurement.name] = row
        metrics |= {f"{metric}_{slug(measurement.name)}": row[metric] for metric in PER_NUMBER}
    whole = _overall(truth, predicted, measurements, patients, resamples, seed)
    units = {measurement.name: measurement.unit for measurement in measurements}
    return NumberMetrics(units, whole | metrics, per_number, truth, predicted)


def slug(name: str) -> str:
    """Return a name as gates write it: small letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _of_one(
    truth: Values, predicted: Values, who: NDArray | None, resamples: int, seed: int
) -> dict[str, Measured]:
    n = len(truth)

    def statistic(weights: Values) -> Values:
        return _statistics(truth, predicted, weights)

    values, draws = resampled(statistic, n, groups=who, resamples=resamples, seed=seed)
    return {
        metric: Measured(float(values[i]), *percentile_interval(draws[:, i]), n)
        for i, metric in enumerate(PER_NUMBER)
    }


def _statistics(truth: Values, predicted: Values, weights: Values) -> Values:
    """Return ``(draws, len(PER_NUMBER))``; NaN where too few cases were drawn."""
    errors = predicted - truth
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        bias = weights @ errors / total
        squares = weights @ errors**2
        spread = np.sqrt(np.maximum(squares - total * bias**2, 0.0) / (total - 1))
        spread = np.where(total > 1, spread, np.nan)
        middle = weights @ truth / total
        deviations = weights @ truth**2 - total * middle**2
        # Rounding leaves about 1e-16 of the squares where all truths are alike: there is nothing to explain.
        explained = np.where(deviations > 1e-12 * (weights @ truth**2), 1 - squares / deviations, np.nan)
        return np.stack(
            [
                weights @ np.abs(errors) / total,
                np.sqrt(squares / total),
                bias,
                bias - 1.96 * spread,
                bias + 1.96 * spread,
                explained,
            ],
            axis=1,
        )


def _overall(
    truth: Values,
    predicted: Values,
    measurements: Sequence[Measurement],
    patients: NDArray | None,
    resamples: int,
    seed: int,
) -> dict[str, Measured]:
    """Return the means over the measurements; cases without any known truth are left out."""
    rows = np.isfinite(truth).any(axis=1)
    truth, predicted = truth[rows], predicted[rows]
    who = None if patients is None else np.asarray(patients)[rows]
    known = np.isfinite(truth)
    filled, answers = np.where(known, truth, 0.0), np.where(known, predicted, 0.0)
    scales = np.array([measurement.std for measurement in measurements])

    def statistic(weights: Values) -> Values:
        found = np.stack(
            [_statistics(filled[:, k], answers[:, k], weights * known[:, k]) for k in range(len(scales))]
        )
        return np.stack([_mean(found[:, :, 5].T), _mean(found[:, :, 0].T / scales)], axis=1)

    values, draws = resampled(statistic, len(truth), groups=who, resamples=resamples, seed=seed)
    return {
        name: Measured(float(values[i]), *percentile_interval(draws[:, i]), len(truth))
        for i, name in enumerate(("mean_r2", "mean_scaled_mae"))
    }


def _mean(values: Values) -> Values:
    """Return the mean of each row's finite values; NaN without any."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
