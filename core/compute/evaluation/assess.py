"""From a model's answers to everything that is said about it: metrics, gates, comparisons, groups, worst cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.compute.evaluation.calibration import Reliability, best_temperature, reliability
from core.compute.evaluation.classes import ClassMetrics, evaluate_classes
from core.compute.evaluation.evaluation_set import EvaluationSet
from core.compute.evaluation.fairness import (
    GroupReport,
    fairness_of_classes,
    fairness_of_scores,
    usable_columns,
)
from core.compute.evaluation.paired import Comparison, compare_cases, compare_classifiers, holm
from core.compute.evaluation.predicting import Predictions, Refusal
from core.compute.evaluation.reader_study import ReaderStudy
from core.compute.evaluation.structures import CaseScore, StructureMetrics, aggregate
from core.domain.errors import InputError
from core.recipes.gates import Gates, Measured, Verdict, all_passed, judge

Values = NDArray[np.float64]


@dataclass(frozen=True)
class ModelFacts:
    """Which model, on what it ran."""

    id: str
    version: str
    title: str
    task: str
    sha256: str
    device: str
    backend: str


@dataclass(frozen=True)
class Compared:
    """The evaluated model against another one on the same cases; differences are evaluated less other."""

    other: ModelFacts
    comparisons: tuple[Comparison, ...]
    cases: tuple[dict[str, Any], ...]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that an evaluation found; holds no patient identity.

    Attributes
    ----------
    metrics, per_class : dict
        Metric → value; class or structure → metric → value.
    classes, structures
        The full results of the task at hand, the other one None.
    probabilities, labels : numpy.ndarray or None
        Of the answered cases of a classification.
    case_rows : tuple of dict
        One row per answered case, the worst first.
    verdicts, passed
        What the gates say; None without gates.
    curves : list of dict
        ``epoch`` and ``step`` events of the training, when given.
    study : ReaderStudy or None
        Readers without and with this model.
    """

    model: ModelFacts
    names: tuple[str, ...]
    cases: int
    patients: int | None
    fingerprint: str
    metrics: dict[str, Measured]
    per_class: dict[str, dict[str, Measured]]
    classes: ClassMetrics | None
    structures: StructureMetrics | None
    probabilities: Values | None
    labels: NDArray[np.int64] | None
    reliability: Reliability | None
    temperature: float | None
    case_rows: tuple[dict[str, Any], ...]
    refused: tuple[Refusal, ...]
    verdicts: tuple[Verdict, ...]
    passed: bool | None
    gates_title: str
    compared: tuple[Compared, ...]
    fairness: tuple[GroupReport, ...]
    notes: tuple[str, ...]
    curves: list[dict[str, Any]] = field(default_factory=list, repr=False)
    study: ReaderStudy | None = None

    def document(self) -> dict[str, Any]:
        """Return the content of ``metrics.json``; numbers that JSON lacks become null, infinite ones ``"inf"``."""
        detail = self.classes or self.structures
        metrics: dict[str, Any] = {name: m.value for name, m in self.metrics.items()}
        metrics["ci95"] = {name: _interval(m) for name, m in self.metrics.items()}
        found = {
            "model": vars(self.model),
            "data": {
                "cases": self.cases,
                "answered": self.cases - len(self.refused),
                "patients": self.patients,
                "fingerprint": self.fingerprint,
            },
            "metrics": metrics,
            "per_class": {
                name: {
                    **{k: m.value for k, m in row.items()},
                    "n": row["recall"].n if "recall" in row else row["dice"].n,
                    "ci95": {k: _interval(m) for k, m in row.items()},
                }
                for name, row in self.per_class.items()
            },
            "gates": [v.as_dict() for v in self.verdicts],
            "passed": self.passed,
            "comparisons": [
                {
                    "other": vars(c.other),
                    "comparisons": [row.as_dict() for row in c.comparisons],
                    "cases": list(c.cases),
                }
                for c in self.compared
            ],
            "fairness": [g.as_dict() for g in self.fairness],
            "reader_study": None if self.study is None else self.study.as_dict(),
            "calibration": None if self.temperature is None else {"best_temperature": self.temperature},
            "cases": list(self.case_rows),
            "refused": [vars(r) for r in self.refused],
            "notes": list(self.notes),
            "details": {
                **(detail.as_dict() if detail else {}),
                "metrics": {k: m.as_dict() for k, m in self.metrics.items()},
                "per_class": {c: {k: m.as_dict() for k, m in r.items()} for c, r in self.per_class.items()},
            },
        }
        plain: dict[str, Any] = json_ready(found)
        return plain


def json_ready(value: Any) -> Any:
    """Return a value that JSON can hold: NaN as null, infinity as ``"inf"`` (which ``float`` reads again)."""
    if isinstance(value, Mapping):
        return {str(k): json_ready(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def _interval(m: Measured) -> list[float]:
    """Return the interval that the gates look at: exact for proportions, else of the bootstrap."""
    return [m.bound("lower"), m.bound("upper")]


def facts_of(predictions: Predictions) -> ModelFacts:
    """Return which model answered."""
    identity, manifest = predictions.bundle.identity, predictions.bundle.manifest
    return ModelFacts(
        identity.id,
        identity.version,
        manifest.title,
        manifest.task,
        identity.sha256,
        predictions.device,
        predictions.backend,
    )


def assess(
    dataset: EvaluationSet,
    predictions: Predictions,
    *,
    others: Sequence[Predictions] = (),
    gates: Gates | None = None,
    tolerance_mm: float = 2.0,
    resamples: int = 2000,
    seed: int = 0,
    curves: Sequence[dict[str, Any]] = (),
) -> Evaluation:
    """Evaluate a model's answers.

    Parameters
    ----------
    others : sequence of Predictions
        Other models' answers on the same cases: the current model when this one is its candidate.
    """
    patients = dataset.patients()
    who = None if patients is None else np.array(patients)
    answered = predictions.answered
    groups, notes = usable_columns(dataset.columns(), patients)
    kept = {c: [g for g, a in zip(v, answered, strict=True) if a] for c, v in groups.items()}
    labels = reliable = temperature = probabilities = None
    classes = structures = None
    metrics: dict[str, Measured]
    if dataset.kind == "classes":
        assert predictions.probabilities is not None
        labels = np.array([case.label or 0 for case in dataset.cases], dtype=np.int64)[answered]
        probabilities = predictions.probabilities[answered]
        classes = evaluate_classes(
            probabilities,
            labels,
            dataset.names,
            patients=None if who is None else who[answered],
            resamples=resamples,
            seed=seed,
        )
        metrics, per_class = dict(classes.metrics), classes.per_class
        metrics["class_imbalance"] = imbalance(dataset)
        reliable = reliability(probabilities, labels)
        temperature = best_temperature(probabilities, labels)
        rows = _class_rows(dataset.names, predictions, probabilities, labels)
        fairness = [
            fairness_of_classes(labels, probabilities.argmax(axis=1), dataset.names, c, g, seed=seed)
            for c, g in kept.items()
        ]
    else:
        names = tuple(dataset.structures)
        by_case = None if patients is None else dict(zip(predictions.case_names, patients, strict=True))
        structures = aggregate(
            predictions.rows,
            names,
            patients=by_case,
            tolerance_mm=tolerance_mm,
            resamples=resamples,
            seed=seed,
        )
        metrics, per_class = dict(structures.metrics), structures.per_class
        rows = _mask_rows(predictions.rows)
        scored = _by_case(predictions.rows)
        dice = np.array([_mean_dice(scored[c]) for c in _answered_names(predictions)])
        fairness = [fairness_of_scores(dice, "mean_dice", c, g, seed=seed) for c, g in kept.items()]
        notes += _mask_notes(dataset)
    metrics["latency_ms"] = predictions.latency()
    verdicts, passed = _judged(gates, metrics, per_class, predictions)
    return Evaluation(
        facts_of(predictions),
        dataset.names if dataset.kind == "classes" else tuple(dataset.structures),
        len(dataset.cases),
        None if patients is None else len(set(patients)),
        dataset.fingerprint(),
        metrics,
        per_class,
        classes,
        structures,
        probabilities,
        labels,
        reliable,
        temperature,
        tuple(rows),
        predictions.refused,
        verdicts,
        passed,
        gates.title if gates else "",
        tuple(_compared(dataset, predictions, other, who, seed) for other in others),
        tuple(fairness),
        (*dataset.notes, *notes, *predictions.fallbacks),
        list(curves),
    )


def imbalance(dataset: EvaluationSet) -> Measured:
    """Return cases of the largest class over those of the smallest; infinite when a class has none."""
    counts = np.bincount([case.label or 0 for case in dataset.cases], minlength=len(dataset.names))
    ratio = float(counts.max() / counts.min()) if counts.min() else float("inf")
    return Measured(ratio, ratio, ratio, int(counts.sum()))


def _judged(
    gates: Gates | None,
    metrics: Mapping[str, Measured],
    per_class: Mapping[str, Mapping[str, Measured]],
    predictions: Predictions,
) -> tuple[tuple[Verdict, ...], bool | None]:
    if gates is None:
        return (), None
    verdicts = judge(gates, metrics, per_class)
    if predictions.refused:
        # Cases without an answer are in no metric: a model must not pass by refusing the hard ones.
        share = float(predictions.answered.mean())
        n = len(predictions.answered)
        reason = f"{len(predictions.refused)} of {n} cases could not be run"
        verdicts = (*verdicts, Verdict("Every case answered", "answered", 1.0, share, share, False, reason))
    return verdicts, all_passed(verdicts)


def _answered_names(predictions: Predictions) -> list[str]:
    return [n for n, a in zip(predictions.case_names, predictions.answered, strict=True) if a]


def _class_rows(
    names: Sequence[str], predictions: Predictions, probabilities: Values, labels: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Return a row per case, the least probable truth first."""
    called = probabilities.argmax(axis=1)
    of_truth = probabilities[np.arange(len(labels)), labels]
    who = _answered_names(predictions)
    return [
        {
            "case": who[n],
            "truth": names[labels[n]],
            "predicted": names[called[n]],
            "right": bool(called[n] == labels[n]),
            "probability_of_truth": float(of_truth[n]),
            "confidence": float(probabilities[n].max()),
        }
        for n in np.argsort(of_truth, kind="stable")
    ]


def _by_case(rows: Sequence[CaseScore]) -> dict[str, list[CaseScore]]:
    found: dict[str, list[CaseScore]] = {}
    for row in rows:
        found.setdefault(row.case, []).append(row)
    return found


def _mean_dice(rows: Sequence[CaseScore]) -> float:
    """Return the mean Dice of the structures that occur in truth or prediction of a case (1 when none does)."""
    present = [r.dice for r in rows if not r.absent]
    return float(np.mean(present)) if present else 1.0


def _mask_rows(rows: Sequence[CaseScore]) -> list[dict[str, Any]]:
    """Return a row per case, the lowest mean Dice first, with the Dice of every structure."""
    found: list[dict[str, Any]] = [
        {
            "case": case,
            "mean_dice": _mean_dice(mine),
            "dice": {r.structure: r.dice for r in mine},
            "hd95_mm": {r.structure: r.hd95_mm for r in mine},
            "missed": [r.structure for r in mine if r.missed],
        }
        for case, mine in _by_case(rows).items()
    ]
    return sorted(found, key=lambda row: float(row["mean_dice"]))


def _mask_notes(dataset: EvaluationSet) -> list[str]:
    pictures = any(
        p.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp") for c in dataset.cases for p in c.files
    )
    return (
        ["Pictures state no size: distances are in pixels, volumes in thousands of pixels."]
        if pictures
        else []
    )


def _compared(
    dataset: EvaluationSet,
    mine: Predictions,
    other: Predictions,
    patients: NDArray | None,
    seed: int,
) -> Compared:
    """Compare on the cases that both models answered."""
    both = mine.answered & other.answered
    if not both.any():
        raise InputError(
            "evaluation.compare", "There is no case that both models could be run on.", "Choose other data."
        )
    who = None if patients is None else patients[both]
    names = [n for n, b in zip(mine.case_names, both, strict=True) if b]
    if mine.probabilities is not None and other.probabilities is not None:
        labels = np.array([case.label or 0 for case in dataset.cases], dtype=np.int64)[both]
        a, b = other.probabilities[both], mine.probabilities[both]
        rows = compare_classifiers(labels, a, b, dataset.names, patients=who, seed=seed)
        truth = np.arange(len(labels)), labels
        cases = [
            {"case": n, "current": float(x), "candidate": float(y)}
            for n, x, y in zip(names, a[truth], b[truth], strict=True)
        ]
        return Compared(facts_of(other), tuple(rows), tuple(cases))
    tables = [_dice_table(p.rows, names, dataset.structures) for p in (other, mine)]
    rows = [
        compare_cases(tables[0][:, k], tables[1][:, k], metric=f"dice {name}", patients=who, seed=seed)
        for k, name in enumerate(dataset.structures)
    ]
    scored = [_by_case(p.rows) for p in (other, mine)]
    means = [np.array([_mean_dice(found[n]) for n in names]) for found in scored]
    rows.insert(0, compare_cases(means[0], means[1], metric="mean_dice", patients=who, seed=seed))
    cases = [
        {"case": n, "current": float(x), "candidate": float(y)}
        for n, x, y in zip(names, means[0], means[1], strict=True)
    ]
    return Compared(facts_of(other), tuple(holm(rows)), tuple(cases))


def _dice_table(rows: Sequence[CaseScore], names: Sequence[str], structures: Mapping[str, int]) -> Values:
    found = {(r.case, r.structure): r.dice for r in rows}
    return np.array([[found[n, s] for s in structures] for n in names])
