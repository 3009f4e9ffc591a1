"""Metrics of confusion matrices, for many matrices at once.

``m`` is ``(…, C, C)`` float64 with rows truth and columns prediction; every function keeps the leading axes, so that
all draws of a bootstrap are one call. What has no value (recall of a class without cases) is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def ratio(a: Values, b: Values) -> Values:
    """Return a / b, NaN where b is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        out: Values = np.where(b > 0, a / b, np.nan)
    return out


def _mean(values: Values) -> Values:
    """Return the mean over the last axis of what has a value."""
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))


def accuracy(m: Values) -> Values:
    """Share of right predictions."""
    return ratio(np.trace(m, axis1=-2, axis2=-1), m.sum(axis=(-2, -1)))


def recall(m: Values) -> Values:
    """``(…, C)`` right predictions of a class over its cases (sensitivity)."""
    return ratio(np.diagonal(m, axis1=-2, axis2=-1), m.sum(axis=-1))


def precision(m: Values) -> Values:
    """``(…, C)`` right predictions of a class over its predictions."""
    return ratio(np.diagonal(m, axis1=-2, axis2=-1), m.sum(axis=-2))


def specificity(m: Values) -> Values:
    """``(…, C)`` cases of other classes that were not called this class, over those cases."""
    total = m.sum(axis=(-2, -1))[..., None]
    others = total - m.sum(axis=-1)
    false = m.sum(axis=-2) - np.diagonal(m, axis1=-2, axis2=-1)
    return ratio(others - false, others)


def f1(m: Values) -> Values:
    """``(…, C)`` harmonic mean of precision and recall; NaN for a class neither seen nor predicted."""
    return ratio(2 * np.diagonal(m, axis1=-2, axis2=-1), m.sum(axis=-1) + m.sum(axis=-2))


def balanced_accuracy(m: Values) -> Values:
    """Mean recall of the classes that occur."""
    return _mean(recall(m))


def macro(values: Values) -> Values:
    """Mean over the classes that have a value."""
    return _mean(values)


def cohen_kappa(m: Values, weights: str | None = None) -> Values:
    """Agreement beyond chance. ``weights`` None, ``"linear"`` or ``"quadratic"``.

    Source: J. Cohen, Educ. Psychol. Meas. 1960; weighted: J. Cohen, Psychol. Bull. 1968.
    """
    c = m.shape[-1]
    distance = np.abs(np.arange(c)[:, None] - np.arange(c)[None, :]).astype(np.float64)
    cost = {None: (distance > 0).astype(np.float64), "linear": distance, "quadratic": distance**2}[weights]
    total = m.sum(axis=(-2, -1))
    chance = (
        m.sum(axis=-1)[..., :, None] * m.sum(axis=-2)[..., None, :] / np.maximum(total, 1)[..., None, None]
    )
    return 1.0 - ratio((cost * m).sum(axis=(-2, -1)), (cost * chance).sum(axis=(-2, -1)))


def matthews(m: Values) -> Values:
    """Correlation of truth and prediction (multi-class R_K); 0 when either is constant, as scikit-learn has it.

    Source: J. Gorodkin, Comput. Biol. Chem. 2004, 28:367–374.
    """
    true, called, total = m.sum(axis=-1), m.sum(axis=-2), m.sum(axis=(-2, -1))
    top = np.trace(m, axis1=-2, axis2=-1) * total - (true * called).sum(axis=-1)
    bottom = np.sqrt((total**2 - (called**2).sum(axis=-1)) * (total**2 - (true**2).sum(axis=-1)))
    out: Values = np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), 0.0)
    return out
