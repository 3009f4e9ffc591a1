"""Pictures of an evaluation as PNG, drawn without a screen.

Colours are Okabe and Ito's, which colour-blind readers tell apart; series also differ in marker or label.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from core.compute.evaluation.assess import Evaluation
from core.compute.evaluation.numbers import NumberMetrics, slug
from core.compute.evaluation.ranking import curves
from core.compute.evaluation.structures import CaseScore

_INK, _QUIET, _LINE, _ACCENT, _CAUTION = "#1b2733", "#5b6875", "#c9d1d9", "#0072B2", "#D55E00"
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A900")
_DASHES = ("-", "--", "-.", ":")
_DPI = 150
_MAX_LINES = 10
_MAX_STRUCTURES = 30


@dataclass(frozen=True)
class Picture:
    """A plot: file-like name, PNG bytes, title, and what it shows in a sentence; ``wide`` takes the whole line."""

    name: str
    png: bytes
    title: str
    caption: str
    wide: bool = False


def draw_pictures(evaluation: Evaluation) -> list[Picture]:
    """Return the pictures that fit what was evaluated."""
    found: list[Picture | None] = []
    if evaluation.classes is not None:
        found += [
            _confusion(evaluation),
            _class_bars(evaluation),
            _roc(evaluation),
            _precision_recall(evaluation),
        ]
        found += [_reliability(evaluation)]
    if evaluation.structures is not None:
        found += [_dice(evaluation), _distances(evaluation), _bland_altman(evaluation)]
    if evaluation.numbers is not None:
        found += [_number(evaluation.numbers, name) for name in evaluation.numbers.units]
    found += [_losses(evaluation)]
    return [picture for picture in found if picture is not None]


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.tick_params(colors=_QUIET, labelsize=8, labelcolor=_INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_LINE)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # No date and no program in the file: the same evaluation gives the same bytes.
    figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9, color=_INK)
    axes.set_ylabel(y, fontsize=9, color=_INK)


def _short(name: str, length: int = 22) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _confusion(evaluation: Evaluation) -> Picture:
    """Counts, and percent of the true class."""
    assert evaluation.classes is not None
    matrix = evaluation.classes.matrix
    total = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, total, out=np.zeros(matrix.shape), where=total > 0)
    n = len(matrix)
    size = max(3.6, min(9.0, 1.6 + 0.72 * n))
    figure, axes = _figure(size, size * 0.88)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    font = 9 if n <= 8 else 6
    for row in range(n):
        for column in range(n):
            if n <= 15 or matrix[row, column]:
                axes.text(
                    column,
                    row,
                    f"{matrix[row, column]}\n{100 * share[row, column]:.0f} %",
                    ha="center",
                    va="center",
                    fontsize=font,
                    color="white" if share[row, column] > 0.55 else _INK,
                )
    names = [_short(name, 16) for name in evaluation.classes.names]
    axes.set_xticks(range(n), names, rotation=35 if n > 3 else 0, ha="right" if n > 3 else "center")
    axes.set_yticks(range(n), names)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    _label(axes, "Predicted", "Truth")
    return Picture(
        "confusion", _png(figure), "Confusion matrix", "Cases, and percent of the cases of the true class."
    )


def _class_bars(evaluation: Evaluation) -> Picture:
    """Recall, precision and F1 of each class with intervals."""
    names, metrics = _classes_of(evaluation), ("recall", "precision", "f1")
    figure, axes = _figure(5.2, max(2.6, 0.55 * len(names) + 1.2))
    height = 0.26
    for k, metric in enumerate(metrics):
        rows = [evaluation.per_class[name][metric] for name in names]
        values = np.array([m.value for m in rows])
        bounds = np.array([[m.bound("lower"), m.bound("upper")] for m in rows])
        place = np.arange(len(names)) + (k - 1) * height
        axes.barh(
            place, np.nan_to_num(values), height * 0.9, color=_PALETTE[k], label=metric.replace("f1", "F1")
        )
        known = np.isfinite(values) & np.isfinite(bounds).all(axis=1)
        away = np.abs(bounds[known] - values[known, None]).T
        axes.errorbar(
            values[known], place[known], xerr=away, fmt="none", ecolor=_INK, elinewidth=0.9, capsize=2
        )
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    _label(axes, "Value with 95 % interval", "")
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return Picture(
        "per_class", _png(figure), "Each class", "Recall (sensitivity), precision and F1 of each class."
    )


def _lines(
    evaluation: Evaluation,
    draw: Callable[[Axes, NDArray[np.float64], NDArray[np.bool_], str, dict[str, Any]], bool],
) -> Figure | None:
    """Draw one line per class (the largest classes when there are many)."""
    assert evaluation.probabilities is not None
    assert evaluation.labels is not None
    figure, axes = _figure(4.4, 4.0)
    counts = np.bincount(evaluation.labels, minlength=len(_classes_of(evaluation)))
    chosen = np.argsort(-counts, kind="stable")[:_MAX_LINES]
    drawn = False
    for n, k in enumerate(sorted(chosen)):
        style = {"color": _PALETTE[n % len(_PALETTE)], "linestyle": _DASHES[n % 4], "linewidth": 1.6}
        drawn |= draw(
            axes, evaluation.probabilities[:, k], evaluation.labels == k, _classes_of(evaluation)[k], style
        )
    if not drawn:
        return None
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(0, 1.02)
    axes.grid(color=_LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    return figure


def _roc(evaluation: Evaluation) -> Picture | None:
    def draw(axes: Axes, scores: NDArray, positive: NDArray, name: str, style: dict[str, Any]) -> bool:
        found = curves(scores, positive)
        if found is None:
            return False
        area = evaluation.per_class[name]["auc_roc"].value
        label = f"{_short(name)}  {area:.3f}"
        axes.plot(found.false_positive_rate, found.true_positive_rate, label=label, **style)
        return True

    figure = _lines(evaluation, draw)
    if figure is None:
        return None
    axes = figure.axes[0]
    axes.plot([0, 1], [0, 1], color=_QUIET, linewidth=0.8, linestyle=(0, (2, 3)))
    _label(axes, "False positive rate (1 − specificity)", "Sensitivity")
    axes.legend(fontsize=8, frameon=False, loc="lower right", title="Area under the curve", title_fontsize=8)
    return Picture("roc", _png(figure), "ROC", "One class against all others; the dotted line is chance.")


def _precision_recall(evaluation: Evaluation) -> Picture | None:
    def draw(axes: Axes, scores: NDArray, positive: NDArray, name: str, style: dict[str, Any]) -> bool:
        found = curves(scores, positive)
        if found is None:
            return False
        area = evaluation.per_class[name]["auc_pr"].value
        axes.step(found.recall, found.precision, where="pre", label=f"{_short(name)}  {area:.3f}", **style)
        return True

    figure = _lines(evaluation, draw)
    if figure is None:
        return None
    _label(figure.axes[0], "Recall", "Precision")
    figure.axes[0].legend(
        fontsize=8, frameon=False, loc="lower left", title="Average precision", title_fontsize=8
    )
    return Picture("pr", _png(figure), "Precision and recall", "One class against all others.")


def _reliability(evaluation: Evaluation) -> Picture | None:
    found = evaluation.reliability
    if found is None:
        return None
    figure, axes = _figure(4.4, 4.0)
    full = found.count > 0
    axes.plot([0, 1], [0, 1], color=_QUIET, linewidth=0.8, linestyle=(0, (2, 3)))
    axes.plot(found.confidence[full], found.accuracy[full], color=_LINE, linewidth=1.0, zorder=1)
    # Cases per bin differ by orders of magnitude: the radius grows with their root, and small bins stay visible.
    size = 18 + 160 * np.sqrt(found.count[full] / found.count.max())
    axes.scatter(found.confidence[full], found.accuracy[full], s=size, color=_ACCENT, alpha=0.8, zorder=2)
    for x, y, n in zip(found.confidence[full], found.accuracy[full], found.count[full], strict=True):
        axes.annotate(
            str(n), (x, y), xytext=(0, -14), textcoords="offset points", fontsize=7, ha="center", color=_QUIET
        )
    axes.set_xlim(0, 1.03)
    axes.set_ylim(-0.06, 1.06)
    axes.grid(color=_LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    _label(axes, "Confidence", "Share that is right")
    caption = (
        f"On the dotted line confidence can be taken at its word. Calibration error "
        f"{evaluation.metrics['ece'].value:.3f}; numbers are cases."
    )
    return Picture("reliability", _png(figure), "Reliability", caption)


def _structures_of(evaluation: Evaluation) -> list[str]:
    return [] if evaluation.structures is None else list(evaluation.structures.structures[:_MAX_STRUCTURES])


def _classes_of(evaluation: Evaluation) -> tuple[str, ...]:
    return () if evaluation.classes is None else tuple(evaluation.classes.names)


def _boxes(
    axes: Axes, rows: Sequence[CaseScore], names: Sequence[str], value: Callable[[CaseScore], float]
) -> None:
    """Draw a box and all cases per structure; missed ones as crosses at the edge."""
    rng = np.random.default_rng(0)
    for n, name in enumerate(names):
        mine = [r for r in rows if r.structure == name and not r.absent]
        found = np.array([value(r) for r in mine])
        known = np.isfinite(found)
        place = n + rng.uniform(-0.16, 0.16, len(mine))
        if known.any():
            axes.boxplot(
                found[known],
                positions=[n],
                orientation="horizontal",
                widths=0.5,
                showfliers=False,
                medianprops={"color": _INK, "linewidth": 1.4},
                boxprops={"color": _QUIET},
                whiskerprops={"color": _QUIET},
                capprops={"color": _QUIET},
            )
        missed = np.array([r.missed for r in mine], dtype=bool) | ~known
        shown = known & ~missed
        axes.scatter(found[shown], place[shown], s=12, color=_ACCENT, alpha=0.7, linewidths=0, zorder=3)
        if missed.any():
            at = np.where(known, found, axes.get_xlim()[1])[missed]
            axes.scatter(at, place[missed], s=30, marker="x", color=_CAUTION, zorder=4)
    axes.set_yticks(range(len(names)), [_short(name, 28) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", color=_LINE, linewidth=0.5)
    axes.set_axisbelow(True)


def _dice(evaluation: Evaluation) -> Picture:
    assert evaluation.structures is not None
    names = _structures_of(evaluation)
    figure, axes = _figure(7.0, max(2.2, 0.42 * len(names) + 1.0))
    axes.set_xlim(-0.02, 1.02)
    _boxes(axes, evaluation.structures.rows, names, lambda r: r.dice)
    _label(axes, "Dice", "")
    return Picture(
        "dice",
        _png(figure),
        "Dice of each structure",
        "A point per case, box of the quartiles; a cross marks a structure that the model missed.",
        wide=True,
    )


def _distances(evaluation: Evaluation) -> Picture | None:
    assert evaluation.structures is not None
    names, rows = _structures_of(evaluation), evaluation.structures.rows
    finite = [r.hd95_mm for r in rows if np.isfinite(r.hd95_mm)]
    if not finite:
        return None
    figure, axes = _figure(7.0, max(2.2, 0.42 * len(names) + 1.0))
    top = max(finite) * 1.08 or 1.0
    axes.set_xlim(-0.02 * top, top)
    _boxes(axes, rows, names, lambda r: r.hd95_mm)
    axes.set_xlim(-0.02 * top, top * 1.02)
    _label(axes, "Hausdorff distance, 95 % of the surface area, mm", "")
    caption = "A point per case; a cross at the right edge marks a structure that was missed or invented (infinite)."
    return Picture("hd95", _png(figure), "Surface distance of each structure", caption, wide=True)


def _bland_altman(evaluation: Evaluation) -> Picture | None:
    """Difference of volumes against their mean, over all structures."""
    assert evaluation.structures is not None
    names = _structures_of(evaluation)[: len(_PALETTE)]
    rows = [r for r in evaluation.structures.rows if not r.absent]
    if len(rows) < 2:
        return None
    figure, axes = _figure(7.0, 3.6)
    for n, name in enumerate(names):
        mine = [r for r in rows if r.structure == name]
        x = [(r.truth_ml + r.predicted_ml) / 2 for r in mine]
        axes.scatter(
            x,
            [r.volume_error_ml for r in mine],
            s=18,
            color=_PALETTE[n],
            marker="osD^v<>P"[n],
            alpha=0.75,
            linewidths=0,
            label=_short(name, 24),
        )
    chosen = np.array([r.volume_error_ml for r in rows if r.structure in names])
    bias, spread = float(chosen.mean()), float(chosen.std(ddof=1)) if len(chosen) > 1 else 0.0
    for y, dash in ((bias, "-"), (bias - 1.96 * spread, "--"), (bias + 1.96 * spread, "--")):
        axes.axhline(y, color=_INK, linewidth=0.9, linestyle=dash)
    axes.axhline(0, color=_LINE, linewidth=0.8)
    means = [(r.truth_ml + r.predicted_ml) / 2 for r in rows if r.structure in names]
    if min(means) > 0 and max(means) > 30 * min(means):
        axes.set_xscale("log")
    _label(axes, "Mean of predicted and true volume, ml", "Predicted − true, ml")
    axes.legend(fontsize=7.5, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    caption = (
        f"Bias {bias:+.2f} ml (solid), 95 % limits of agreement {bias - 1.96 * spread:.2f} to "
        f"{bias + 1.96 * spread:.2f} ml (dashed), over all structures shown."
    )
    return Picture("bland_altman", _png(figure), "Volumes (Bland–Altman)", caption, wide=True)


def _number(numbers: NumberMetrics, name: str) -> Picture | None:
    """Estimated against true values of one measurement, with the limits of agreement."""
    column = list(numbers.units).index(name)
    known = np.isfinite(numbers.truth[:, column])
    truth, answer = numbers.truth[known, column], numbers.predicted[known, column]
    if len(truth) < 2:
        return None
    found, unit = numbers.per_number[name], numbers.units[name]
    bias, low, high = (found[key].value for key in ("bias", "loa_low", "loa_high"))
    figure, axes = _figure(4.2, 3.6)
    axes.scatter(truth, answer, s=18, color=_ACCENT, alpha=0.75, linewidths=0)
    ends = np.array([min(truth.min(), answer.min()), max(truth.max(), answer.max())])
    axes.plot(ends, ends, color=_INK, linewidth=0.9)
    for shift in (low, high):
        axes.plot(ends, ends + shift, color=_INK, linewidth=0.9, linestyle="--")
    _label(axes, f"True, {unit}", f"Estimated, {unit}")
    limits = f"95 % limits of agreement {low:.2f} to {high:.2f} {unit} (dashed)"
    caption = f"A point per case; bias {bias:+.2f} {unit}, {limits}."
    return Picture(f"number_{slug(name)}", _png(figure), name, caption)


def _losses(evaluation: Evaluation) -> Picture | None:
    """Loss over the steps of the training, and what was monitored after each epoch."""
    steps = [e for e in evaluation.curves if e.get("event") == "step" and e.get("loss") is not None]
    epochs = [e for e in evaluation.curves if e.get("event") == "epoch" and isinstance(e.get("values"), dict)]
    if len(steps) < 2:
        return None
    figure, axes = _figure(7.0, 3.0)
    x = np.array([e["step"] for e in steps], dtype=np.float64)
    y = np.array([e["loss"] for e in steps], dtype=np.float64)
    window = max(1, len(y) // 50)
    if window > 1:
        axes.plot(x, y, color=_LINE, linewidth=0.7, label="training loss, each step")
    smooth = np.convolve(y, np.ones(window) / window, mode="valid")
    axes.plot(
        x[window - 1 :],
        smooth,
        color=_ACCENT,
        linewidth=1.6,
        label=f"mean of {window} steps" if window > 1 else "training loss",
    )
    keys = [k for k in ("validation_loss", "val_loss", "loss") if any(k in e["values"] for e in epochs)]
    if keys:
        pairs = [(e["step"], e["values"][keys[0]]) for e in epochs if e["values"].get(keys[0]) is not None]
        if pairs:
            axes.plot(*zip(*pairs, strict=True), "o--", color=_CAUTION, markersize=4, label="validation loss")
    axes.set_ylim(bottom=min(0.0, float(np.nanmin(y))))
    _label(axes, "Step", "Loss")
    axes.legend(fontsize=8, frameon=False)
    return Picture("loss", _png(figure), "Training", "Loss while the model was trained.", wide=True)
