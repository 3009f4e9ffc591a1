"""What the report says, before it is laid out: sections of tables and sentences. Holds no patient identity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from core.compute.evaluation.assess import Compared, Evaluation
from core.compute.evaluation.case_rows import Row
from core.compute.evaluation.classes import ClassMetrics
from core.compute.evaluation.fairness import GroupReport
from core.compute.evaluation.numbers import NumberMetrics
from core.compute.evaluation.paired import Comparison
from core.compute.evaluation.structures import StructureMetrics
from core.config.version import app_version
from core.recipes.gates import Measured

INTENDED_USE = "For research and review support; not for primary diagnosis."
_WORST = 12
_TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "F1, mean of classes",
    "macro_precision": "Precision, mean of classes",
    "macro_specificity": "Specificity, mean of classes",
    "macro_auc_roc": "AUC-ROC, mean of classes",
    "macro_auc_pr": "AUC-PR, mean of classes",
    "cohen_kappa": "Cohen's kappa",
    "mcc": "Matthews correlation",
    "brier": "Brier score (0 best, 2 worst)",
    "nll": "Negative log-likelihood",
    "ece": "Calibration error (15 bins)",
    "mean_r2": "R², mean of measurements",
    "mean_scaled_mae": "Mean absolute error, in standard deviations",
    "class_imbalance": "Largest class over smallest",
    "latency_ms": "Latency per image, ms (median; 5th–95th percentile)",
    "mean_dice": "Dice",
    "mean_iou": "IoU",
    "mean_sensitivity": "Sensitivity",
    "mean_precision": "Precision",
    "mean_nsd": "Surface Dice (area-weighted)",
    "mean_nsd_voxel": "Surface Dice (voxels)",
    "mean_hd95_mm": "Hausdorff 95 %, mm (area-weighted)",
    "mean_hd95_voxel_mm": "Hausdorff 95 %, mm (voxels)",
    "mean_hd100_mm": "Hausdorff, mm",
    "mean_msd_mm": "Mean surface distance, mm",
    "missed_share": "Share of structures missed",
}
_LEFT_OUT = {"macro_recall"}
_CLASS_COLUMNS = (
    ("recall", "Recall"),
    ("precision", "Precision"),
    ("specificity", "Specificity"),
    ("f1", "F1"),
    ("auc_roc", "AUC-ROC"),
    ("auc_pr", "AUC-PR"),
)
_STRUCTURE_COLUMNS = (
    ("dice", "Dice"),
    ("iou", "IoU"),
    ("nsd", "Surface Dice"),
    ("hd95_mm", "HD95 mm"),
    ("msd_mm", "Mean dist. mm"),
    ("volume_error_percent", "Volume error %"),
)
_NUMBER_COLUMNS = (
    ("mae", "Mean abs. error"),
    ("bias", "Bias"),
    ("loa_low", "Lower limit"),
    ("loa_high", "Upper limit"),
    ("r2", "R²"),
)


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, a quiet second line, and ``mark`` ``"good"`` or ``"bad"``."""

    text: str
    quiet: str = ""
    mark: str = ""
    number: bool = False


@dataclass(frozen=True)
class TableBlock:
    """A table with a heading row; ``note`` stands below it; ``widths`` are relative."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    widths: tuple[float, ...]
    note: str = ""


@dataclass(frozen=True)
class ReportContent:
    """The report in reading order; ``verdict`` is None without gates. Pictures stand after ``tables``."""

    title: str
    subtitle: str
    facts: tuple[tuple[str, str], ...]
    verdict: bool | None
    verdict_text: str
    tables: tuple[TableBlock, ...]
    after: tuple[TableBlock, ...]
    notes: tuple[str, ...] = field(default=())


def number(value: float | None, like: float | None = None) -> str:
    """Return a number as the report writes it: ``–`` without a value, ``∞``, else rounded.

    ``like`` is the number whose digits are taken, so that an interval reads as its value does.
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value if like is None or not math.isfinite(like) else like)
    digits = 0 if size >= 100 else 1 if size >= 10 else 3
    text = f"{value:.{digits}f}".replace("-", "−")
    return text.removeprefix("−") if not any(c in "123456789" for c in text) else text


def span(low: float, high: float, like: float | None = None) -> str:
    """Return an interval: ``0.912 – 0.954``, with “to” where a dash would read as a sign."""
    joint = " to " if low < 0 or high < 0 else " – "
    return f"{number(low, like)}{joint}{number(high, like)}"


def _measured(m: Measured | None, at_least: float = 0.0) -> Cell:
    """Return value and interval; with the digits of ``at_least`` where the value is smaller."""
    if m is None:
        return Cell("–", number=True)
    low, high = m.bound("lower"), m.bound("upper")
    known = not (math.isnan(low) or math.isnan(high) or low == high == m.value)
    like = max(abs(m.value), at_least) if math.isfinite(m.value) else m.value
    quiet = span(low, high, like) if known else ""
    return Cell(number(m.value, like), quiet, number=True)


def _named(metric: str) -> str:
    """Return a metric's name for people: ``auc_roc glioma`` → ``AUC-ROC glioma``."""
    text = metric.replace("auc_roc", "AUC-ROC").replace("_", " ")
    return text[:1].upper() + text[1:]


def p_value(p: float | None) -> str:
    """Return a p value: three digits, ``< 0.001`` below."""
    if p is None or math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def content_of(evaluation: Evaluation) -> ReportContent:
    """Return what the report says of an evaluation."""
    model = evaluation.model
    patients = "not told" if evaluation.patients is None else str(evaluation.patients)
    refused = f", {len(evaluation.refused)} of them could not be run" if evaluation.refused else ""
    facts = (
        ("Model", f"{model.title} ({model.id}) {model.version}"),
        ("Weights sha256", model.sha256),
        ("Cases", f"{evaluation.cases}{refused}"),
        ("Patients", patients),
        ("Data fingerprint", evaluation.fingerprint),
        ("Ran on", f"{model.device}, {model.backend}"),
        ("Evaluated", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC by Overread {app_version()}"),
    )
    tables = [*_gates(evaluation), _overall(evaluation), *_each(evaluation)]
    after = [
        *(block for c in evaluation.compared for block in _comparison(c)),
        *(_group(g) for g in evaluation.fairness),
        *_study(evaluation),
        *_worst(evaluation),
        *_refused(evaluation),
    ]
    return ReportContent(
        f"Evaluation of {model.title}",
        INTENDED_USE,
        facts,
        evaluation.passed,
        _verdict_text(evaluation),
        tuple(tables),
        tuple(after),
        (*evaluation.notes, *_definitions(evaluation)),
    )


def _verdict_text(evaluation: Evaluation) -> str:
    if evaluation.passed is None:
        return "No gates were asked for."
    failed = [v for v in evaluation.verdicts if not v.passed]
    named = f" ({evaluation.gates_title})" if evaluation.gates_title else ""
    if not failed:
        return f"All {len(evaluation.verdicts)} gates passed{named}."
    return f"{len(failed)} of {len(evaluation.verdicts)} gates not passed{named}."


def _gates(evaluation: Evaluation) -> list[TableBlock]:
    if evaluation.passed is None:
        return []
    rows = tuple(
        (
            Cell("passed" if v.passed else "not passed", mark="good" if v.passed else "bad"),
            Cell(v.name),
            Cell(number(v.value), number=True),
            Cell(number(v.bound), number=True),
            Cell(number(v.threshold), number=True),
            Cell(v.reason),
        )
        for v in evaluation.verdicts
    )
    head = ("", "Gate", "Value", "Bound", "Threshold", "Why")
    note = "A gate looks at the bound of the 95 % interval, so that few cases can't pass by luck."
    return [TableBlock("Gates", head, rows, (0.13, 0.25, 0.09, 0.09, 0.11, 0.33), note)]


def _overall(evaluation: Evaluation) -> TableBlock:
    shown = [(k, m) for k, m in evaluation.metrics.items() if k not in _LEFT_OUT and k in _TITLES]
    rows = []
    for name, m in shown:
        cell = _measured(m)
        rows.append((Cell(_TITLES[name]), Cell(cell.text, number=True), Cell(cell.quiet, number=True),
                     Cell(str(m.n), number=True)))  # fmt: skip
    note = ""
    if evaluation.structures is not None:
        note = (
            "Means over the structures of each case, then over the cases. A missed structure counts with Dice 0 and "
            "with the image diagonal as its distance."
        )
    return TableBlock(
        "All cases", ("Metric", "Value", "95 % interval", "n"), tuple(rows), (0.52, 0.14, 0.24, 0.1), note
    )


def _each(evaluation: Evaluation) -> list[TableBlock]:
    """Return a table for each task: classes, structures, measurements."""
    blocks = []
    if evaluation.structures is not None:
        blocks.append(_each_structure(evaluation, evaluation.structures))
    if evaluation.classes is not None:
        blocks.append(_each_class(evaluation, evaluation.classes))
    if evaluation.numbers is not None:
        blocks.append(_each_number(evaluation.numbers))
    return blocks


def _each_class(evaluation: Evaluation, classes: ClassMetrics) -> TableBlock:
    rows = []
    for name, count in zip(classes.names, classes.matrix.sum(axis=1), strict=True):
        found = evaluation.per_class[name]
        cells = (_measured(found.get(key)) for key, _ in _CLASS_COLUMNS)
        rows.append((Cell(name), Cell(str(int(count)), number=True), *cells))
    head = ("Class", "Cases", *(t for _, t in _CLASS_COLUMNS))
    note = (
        "Recall is sensitivity. Intervals of recall, precision and specificity are exact (Clopper–Pearson)."
    )
    return TableBlock("Each class", head, tuple(rows), _widths(head, 1), note)


def _each_structure(evaluation: Evaluation, structures: StructureMetrics) -> TableBlock:
    rows = []
    for name in structures.structures:
        found, count = evaluation.per_class[name], structures.counts[name]
        missed = Cell(str(count["missed"]), number=True, mark="bad" if count["missed"] else "")
        cells = (
            _measured(found.get(key), 10.0 if "percent" in key else 0.0) for key, _ in _STRUCTURE_COLUMNS
        )
        rows.append((Cell(name), Cell(str(count["present"]), number=True), missed, *cells))
    head = ("Structure", "Cases", "Missed", *(t for _, t in _STRUCTURE_COLUMNS))
    note = (
        f"Cases: those whose truth holds the structure. Surface Dice within {structures.tolerance_mm:g} mm; distances "
        "are area-weighted means with the image diagonal for missed structures. A structure in neither truth nor "
        "answer scores Dice 1."
    )
    return TableBlock("Each structure", head, tuple(rows), _widths(head, 2), note)


def _each_number(numbers: NumberMetrics) -> TableBlock:
    rows = [
        (
            Cell(name, numbers.units[name]),
            Cell(str(found["mae"].n), number=True),
            *(_measured(found[key]) for key, _ in _NUMBER_COLUMNS),
        )
        for name, found in numbers.per_number.items()
    ]
    head = ("Measurement", "Cases", *(t for _, t in _NUMBER_COLUMNS))
    note = (
        "Errors are estimated less true, in the unit of the measurement. Limits of agreement: bias ± 1.96 standard "
        "deviations of the errors (Bland and Altman). R² is 0 for a model that always says the mean."
    )
    return TableBlock("Each measurement", head, tuple(rows), _widths(head, 1), note)


def _widths(head: Sequence[str], counts: int) -> tuple[float, ...]:
    """Return the widths of a column of names, ``counts`` narrow ones and the others."""
    first = 0.2 if len(head) < 9 else 0.19
    small = (first, *([0.8 * (1 - first) / (len(head) - 1)] * counts))
    others = len(head) - len(small)
    return (*small, *([(1 - sum(small)) / others] * others))


def _comparison(compared: Compared) -> list[TableBlock]:
    other = compared.other
    rows = tuple(
        (
            Cell(_named(c.metric)),
            Cell(number(c.current), number=True),
            Cell(number(c.candidate), number=True),
            Cell(
                f"{'+' if c.difference > 0 else ''}{number(c.difference)}",
                span(*c.ci95, c.difference),
                number=True,
            ),
            Cell(p_value(c.p), number=True),
            Cell(p_value(c.p_adjusted), number=True),
            Cell(str(c.n), number=True),
        )
        for c in compared.comparisons
    )
    methods = "; ".join(dict.fromkeys(c.method for c in compared.comparisons))
    head = ("Metric", "Other", "This model", "Difference", "p", "p (Holm)", "n")
    return [
        TableBlock(
            f"Compared with {other.title} ({other.id}) {other.version}",
            head,
            rows,
            (0.27, 0.1, 0.13, 0.2, 0.1, 0.12, 0.08),
            f"Same cases, paired: {methods}.",
        )
    ]


def _study(evaluation: Evaluation) -> list[TableBlock]:
    """Readers by number (their names stay out), pooled, and the multi-reader test."""
    study = evaluation.study
    if study is None:
        return []
    pairs = [(f"Reader {n}", c) for n, found in enumerate(study.per_reader.values(), start=1) for c in found]
    pairs += [("All readers", c) for c in study.pooled]
    if study.auc is not None:
        m = study.auc
        pairs.append(
            (
                "All readers",
                Comparison("auc_roc", m.without, m.with_ai, m.difference, m.ci95, m.p, m.cases, m.method),
            )
        )
    rows = tuple(
        (
            Cell(who),
            Cell(_named(c.metric)),
            Cell(number(c.current), number=True),
            Cell(number(c.candidate), number=True),
            Cell(
                f"{'+' if c.difference > 0 else ''}{number(c.difference)}",
                span(*c.ci95, c.difference),
                number=True,
            ),
            Cell(p_value(c.p), number=True),
            Cell(str(c.n), number=True),
        )
        for who, c in pairs
    )
    parts = [f"{study.readings} readings"]
    if study.auc is not None:
        parts.append(f"AUC of all readers: {study.auc.method}")
    if study.seconds is not None:
        parts.append(
            f"Median seconds per case: {study.seconds[0]:.1f} without, {study.seconds[1]:.1f} with the model"
        )
    head = ("", "Metric", "Without", "With", "Difference", "p", "n")
    title = "Readers without and with the model"
    return [
        TableBlock(
            title, head, rows, (0.2, 0.18, 0.12, 0.12, 0.2, 0.1, 0.08), ". ".join([*parts, *study.notes])
        )
    ]


def _group(report: GroupReport) -> TableBlock:
    keys = list(dict.fromkeys(k for m in report.groups.values() for k in m)) or ["compared"]
    rows = [
        (
            Cell(group),
            Cell(str(max(m.n for m in found.values())), number=True),
            *(_measured(found.get(k)) for k in keys),
        )
        for group, found in report.groups.items()
    ]
    rows += [
        (
            Cell(group),
            Cell(str(n), number=True),
            Cell("too small to compare"),
            *([Cell("")] * (len(keys) - 1)),
        )
        for group, n in report.too_small.items()
    ]
    if report.gaps:
        gap = [Cell(number(report.gaps.get(k)), f"p {p_value(report.p.get(k))}", number=True) for k in keys]
        rows.append((Cell("Largest gap"), Cell(""), *gap))
    parts = [
        f"{title} difference {number(report.gaps[key])} (p {p_value(report.p[key])})"
        for key, title in (("equalized_odds", "Equalized odds"), ("demographic_parity", "Demographic parity"))
        if key in report.gaps
    ]
    if report.note:
        parts.append(report.note)
    if report.p:
        parts.append("p: share of random groupings with a gap at least as large")
    head = ("Group", "Cases", *(_named(k) for k in keys))
    rest = 0.72 / max(len(keys), 1)
    return TableBlock(
        f"Groups: {report.column}", head, tuple(rows), (0.18, 0.1, *([rest] * len(keys))), ". ".join(parts)
    )


def _worst(evaluation: Evaluation) -> list[TableBlock]:
    """Return the worst cases of the structures and of the classes, those that were measured."""
    masks = [row for row in evaluation.case_rows if "mean_dice" in row]
    classes = [row for row in evaluation.case_rows if "truth" in row]
    masks.sort(key=lambda row: float(row["mean_dice"]))
    classes.sort(key=lambda row: float(row["probability_of_truth"]))
    both = bool(masks and classes)
    blocks = []
    if masks:
        blocks.append(_worst_masks(masks, "Worst cases: structures" if both else "Worst cases"))
    if classes:
        blocks.append(_worst_classes(classes, "Worst cases: classes" if both else "Worst cases"))
    return blocks


def _worst_note(shown: int, count: int) -> str:
    return f"Cases are numbered in the order of the data; the {shown} worst of {count}."


def _worst_classes(found: Sequence[Row], title: str) -> TableBlock:
    rows = tuple(
        (
            Cell(str(r["case"])),
            Cell(r["truth"]),
            Cell(r["predicted"], mark="" if r["right"] else "bad"),
            Cell(number(r["probability_of_truth"]), number=True),
            Cell(number(r["confidence"]), number=True),
        )
        for r in found[:_WORST]
    )
    head = ("Case", "Truth", "Predicted", "Probability of truth", "Confidence")
    return TableBlock(title, head, rows, (0.14, 0.28, 0.28, 0.17, 0.13), _worst_note(len(rows), len(found)))


def _worst_masks(found: Sequence[Row], title: str) -> TableBlock:
    rows = tuple(
        (
            Cell(str(r["case"])),
            Cell(number(r["mean_dice"]), number=True),
            Cell(_lowest(r["dice"])),
            Cell(", ".join(r["missed"]) or "none", mark="bad" if r["missed"] else ""),
        )
        for r in found[:_WORST]
    )
    head = ("Case", "Mean Dice", "Lowest Dice", "Missed")
    return TableBlock(title, head, rows, (0.14, 0.14, 0.42, 0.3), _worst_note(len(rows), len(found)))


def _lowest(dice: dict[str, float]) -> str:
    return ", ".join(
        f"{name} {number(value)}" for name, value in sorted(dice.items(), key=lambda x: x[1])[:3]
    )


def _refused(evaluation: Evaluation) -> list[TableBlock]:
    if not evaluation.refused:
        return []
    rows = tuple((Cell(r.case), Cell(r.code), Cell(r.message)) for r in evaluation.refused[:30])
    more = len(evaluation.refused) - len(rows)
    note = "They are in no metric above." + (f" {more} more are in metrics.json." if more else "")
    return [
        TableBlock("Cases that could not be run", ("Case", "Reason", "Remedy"), rows, (0.12, 0.28, 0.6), note)
    ]


def _definitions(evaluation: Evaluation) -> Sequence[str]:
    found = [
        "Intervals are 95 % percentile bootstrap intervals over patients (over cases where patients aren't told)."
    ]
    if evaluation.temperature is not None:
        t = evaluation.temperature
        word = "too sure" if t > 1.05 else "not sure enough" if t < 0.95 else "calibrated"
        found.append(f"On these cases the model is {word}: a temperature of {t:.2f} would calibrate it best.")
    if evaluation.structures is not None:
        found.append(
            "Hausdorff 95 and surface Dice weigh the surface between voxel centres by its area (as surface-distance "
            "does); values marked “voxels” count surface voxels (as MONAI does)."
        )
    return found
