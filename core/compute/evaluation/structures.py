"""All metrics of a segmentation per case and structure, and over the cases with intervals.

A structure that the model misses has Dice 0 and an infinite distance, and stays in: means over cases put the image
diagonal in its place (``…_diagonal_mean``), medians take it as it is, ``missed_share`` counts it. Absent from truth
and prediction, a structure scores 1 (distance 0) and is counted as ``absent``.

Source: L. Maier-Hein et al., Nature Methods 2024, 21:195–212 (metrics, empty structures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from core.compute.evaluation.bootstrap import percentile_interval, resampled
from core.compute.evaluation.intervals import clopper_pearson, wilson
from core.compute.evaluation.surface import diagonal_mm, surface_distances
from core.recipes.gates import Measured

Values = NDArray[np.float64]
DISTANCES = ("hd95_mm", "hd100_mm", "msd_mm", "hd95_voxel_mm")
OVERLAPS = ("dice", "iou", "sensitivity", "specificity", "precision", "nsd", "nsd_voxel")
SIGNED = ("volume_error_ml", "volume_error_percent")


@dataclass(frozen=True)
class CaseScore:
    """One structure in one case.

    ``missed``: in the truth and not found at all; ``invented``: found and not in the truth; ``absent``: in neither.
    ``hd95_mm``, ``hd100_mm``, ``msd_mm`` and ``nsd`` are area-weighted, ``…_voxel`` count voxels; inf for missed and
    invented. Volume errors are predicted less truth; in percent of the truth (NaN without truth).
    ``diagonal_mm`` is that of the image.
    """

    case: str
    structure: str
    dice: float
    iou: float
    sensitivity: float
    specificity: float
    precision: float
    truth_ml: float
    predicted_ml: float
    volume_error_ml: float
    volume_error_percent: float
    hd95_mm: float
    hd100_mm: float
    msd_mm: float
    nsd: float
    hd95_voxel_mm: float
    nsd_voxel: float
    diagonal_mm: float
    missed: bool
    invented: bool
    absent: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON; infinite distances as the text ``"inf"``, since JSON has no such number."""
        return {k: ("inf" if v == float("inf") else v) for k, v in vars(self).items()}


def _share(part: float, whole: float, empty: float) -> float:
    return part / whole if whole else empty


Box = tuple[slice, ...]


def _around(value: int, first: Sequence[Box | None], second: Sequence[Box | None], axes: int) -> Box:
    """Return the box that holds a label in both maps; an empty one when it is in neither."""
    boxes = [found[value - 1] for found in (first, second) if value <= len(found)]
    known = [box for box in boxes if box is not None]
    if not known:
        return (slice(0, 0),) * axes
    return tuple(slice(min(b[a].start for b in known), max(b[a].stop for b in known)) for a in range(axes))


def score_case(
    predicted: NDArray,
    truth: NDArray,
    structures: Mapping[str, int],
    spacing_mm: tuple[float, ...],
    *,
    case: str = "",
    tolerance_mm: float = 1.0,
    voxel_ml: float | None = None,
) -> list[CaseScore]:
    """Score one case: a row per structure.

    Parameters
    ----------
    predicted, truth : numpy.ndarray
        Label maps (whole numbers) of the same shape, two or three axes.
    structures : mapping
        Name → label value (from 1).
    spacing_mm : tuple of float
        Along each axis of the arrays.
    tolerance_mm : float
        Of the surface Dice.
    voxel_ml : float, optional
        Volume of a voxel; from the spacing when absent (2-D: a slice of 1 mm).

    Raises
    ------
    ValueError
        When shapes or axes disagree.
    """
    if predicted.shape != truth.shape or truth.ndim != len(spacing_mm):
        raise ValueError(f"label maps of {predicted.shape} and {truth.shape} don't fit together")
    unit = float(np.prod(spacing_mm)) / 1000.0 if voxel_ml is None else voxel_ml
    diagonal = diagonal_mm(truth.shape, spacing_mm)
    boxes_p, boxes_t = ndimage.find_objects(predicted), ndimage.find_objects(truth)
    rows = []
    for name, value in structures.items():
        # Only the box around both is looked at: a small structure in a large volume costs little.
        box = _around(value, boxes_p, boxes_t, truth.ndim)
        p, t = predicted[box] == value, truth[box] == value
        np_, nt, both = int(p.sum()), int(t.sum()), int((p & t).sum())
        absent = np_ == 0 and nt == 0
        nothing = 1.0 if absent else 0.0
        area = surface_distances(p, t, spacing_mm, "area")
        voxel = surface_distances(p, t, spacing_mm, "voxel")
        rows.append(
            CaseScore(
                case=case,
                structure=name,
                dice=_share(2 * both, np_ + nt, 1.0),
                iou=_share(both, np_ + nt - both, 1.0),
                # Without truth there is nothing to be sensitive to; without prediction nothing to be precise about.
                sensitivity=_share(both, nt, 1.0 if absent else float("nan")),
                specificity=_share(truth.size - np_ - nt + both, truth.size - nt, 1.0),
                precision=_share(both, np_, nothing),
                truth_ml=nt * unit,
                predicted_ml=np_ * unit,
                volume_error_ml=(np_ - nt) * unit,
                volume_error_percent=_share(100.0 * (np_ - nt), nt, 0.0 if absent else float("nan")),
                hd95_mm=area.hausdorff(95),
                hd100_mm=area.hausdorff(100),
                msd_mm=area.mean(),
                nsd=area.surface_dice(tolerance_mm),
                hd95_voxel_mm=voxel.hausdorff(95),
                nsd_voxel=voxel.surface_dice(tolerance_mm),
                diagonal_mm=diagonal,
                missed=nt > 0 and both == 0 and np_ == 0,
                invented=nt == 0 and np_ > 0,
                absent=absent,
            )
        )
    return rows


@dataclass(frozen=True, eq=False)
class StructureMetrics:
    """Metrics of a segmentation over cases.

    Attributes
    ----------
    metrics : dict
        Means over the structures of each case, then over the cases (``mean_dice`` …), and ``missed_share``.
    per_class : dict
        Structure → metric → value over the cases. Distances come as ``…_median`` (inf when half are missed) and as
        ``…_diagonal_mean`` (the image diagonal in place of inf); plain ``hd95_mm`` and ``msd_mm`` are these means.
    counts : dict
        Structure → cases, present (in the truth), missed, invented, absent.
    """

    structures: tuple[str, ...]
    metrics: dict[str, Measured]
    per_class: dict[str, dict[str, Measured]]
    counts: dict[str, dict[str, int]]
    rows: tuple[CaseScore, ...] = field(repr=False)
    tolerance_mm: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON, the rows of the cases included."""
        return {
            "structures": list(self.structures),
            "definitions": {
                "hd95_mm, hd100_mm, msd_mm, nsd": "area-weighted surface (as surface-distance computes it)",
                "hd95_voxel_mm, nsd_voxel": "over surface voxels (as MONAI computes it)",
                "…_diagonal_mean": "mean with the image diagonal in place of a missed or invented structure",
                "nsd tolerance_mm": self.tolerance_mm,
            },
            "metrics": {k: v.as_dict() for k, v in self.metrics.items()},
            "per_class": {s: {k: v.as_dict() for k, v in m.items()} for s, m in self.per_class.items()},
            "counts": self.counts,
            "rows": [r.as_dict() for r in self.rows],
        }


def _finite(values: Values, diagonal: Values) -> Values:
    return np.where(np.isinf(values), diagonal, values)


def _mean_with_interval(values: Values, patients: NDArray | None, resamples: int, seed: int) -> Measured:
    """Return the mean of what has a value, its interval over cases or patients, and how many there are."""
    known = np.isfinite(values)
    n = int(known.sum())
    if n == 0:
        return Measured(float("nan"), float("nan"), float("nan"), 0)
    x, who = values[known], None if patients is None else patients[known]

    def statistic(weights: Values) -> Values:
        out: Values = (weights @ x / np.maximum(weights.sum(axis=1), 1e-300))[:, None]
        return out

    value, draws = resampled(statistic, n, groups=who, resamples=resamples, seed=seed)
    return Measured(float(value[0]), *percentile_interval(draws[:, 0]), n)


def aggregate(
    rows: Sequence[CaseScore],
    structures: Sequence[str],
    *,
    patients: Mapping[str, str] | None = None,
    tolerance_mm: float = 1.0,
    resamples: int = 2000,
    seed: int = 0,
) -> StructureMetrics:
    """Put the rows of all cases together.

    Parameters
    ----------
    patients : mapping, optional
        Case → patient: cases of one patient are drawn together.
    """
    per_class: dict[str, dict[str, Measured]] = {}
    counts: dict[str, dict[str, int]] = {}
    for name in structures:
        mine = [r for r in rows if r.structure == name]
        who = None if patients is None else np.array([patients[r.case] for r in mine])
        per_class[name] = _of_structure(mine, who, resamples, seed)
        counts[name] = {
            "cases": len(mine),
            "present": sum(r.truth_ml > 0 for r in mine),
            "missed": sum(r.missed for r in mine),
            "invented": sum(r.invented for r in mine),
            "absent": sum(r.absent for r in mine),
        }
    by_case: dict[str, list[CaseScore]] = {}
    for r in rows:
        by_case.setdefault(r.case, []).append(r)
    cases = list(by_case)
    who = None if patients is None else np.array([patients[c] for c in cases])
    metrics = {}
    for metric in (*OVERLAPS, *DISTANCES):
        means = np.array([_case_mean(mine, metric) for mine in by_case.values()])
        metrics[f"mean_{metric}"] = _mean_with_interval(means, who, resamples, seed)
    metrics["missed_share"] = _missed(rows)
    return StructureMetrics(tuple(structures), metrics, per_class, counts, tuple(rows), tolerance_mm)


def _case_mean(rows: Sequence[CaseScore], metric: str) -> float:
    """Return the mean over the structures of one case that occur in it; 1 or 0 for a case without any."""
    present = [r for r in rows if not r.absent]
    chosen = present or list(rows)
    values = np.array([getattr(r, metric) for r in chosen])
    values = _finite(values, np.array([r.diagonal_mm for r in chosen]))
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _of_structure(
    rows: Sequence[CaseScore], patients: NDArray | None, resamples: int, seed: int
) -> dict[str, Measured]:
    found: dict[str, Measured] = {}
    diagonal = np.array([r.diagonal_mm for r in rows])
    for metric in (*OVERLAPS, *SIGNED):
        values = np.array([getattr(r, metric) for r in rows])
        found[metric] = _mean_with_interval(values, patients, resamples, seed)
    for metric in DISTANCES:
        values = np.array([getattr(r, metric) for r in rows])
        mean = _mean_with_interval(_finite(values, diagonal), patients, resamples, seed)
        found[metric] = found[f"{metric.removesuffix('_mm')}_diagonal_mean_mm"] = mean
        found[f"{metric.removesuffix('_mm')}_median_mm"] = _median(values, resamples, seed)
    found["missed_share"] = _missed(rows)
    return found


def _median(values: Values, resamples: int, seed: int) -> Measured:
    """Return the median; inf when half or more are infinite; its interval by drawing cases."""
    n = len(values)
    if n == 0:
        return Measured(float("nan"), float("nan"), float("nan"), 0)
    ordered = np.sort(values)
    rng = np.random.default_rng(seed)
    # Middle order statistics instead of means of two: inf − inf would have no value.
    drawn = np.sort(ordered[rng.integers(0, n, (max(resamples, 1), n))], axis=1)[:, n // 2]
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    middle = ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2
    return Measured(float(middle), float(low), float(high), n)


def _missed(rows: Sequence[CaseScore]) -> Measured:
    """Return the share of present structures that were missed, with exact intervals."""
    present = sum(r.truth_ml > 0 for r in rows)
    missed = sum(r.missed for r in rows)
    exact, score = clopper_pearson(missed, present), wilson(missed, present)
    value = missed / present if present else float("nan")
    return Measured(value, score[0], score[1], present, exact, score)
