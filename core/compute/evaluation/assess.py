"""From a model's answers to everything that is said about it: metrics, gates, comparisons, groups, worst cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.compute.evaluation.calibration import Reliability, best_temperature, reliability
from core.compute.evaluation.case_rows import (
    Row,
    by_case,
    class_rows,
    joined,
    mask_rows,
    mean_dice,
    number_rows,
)
from core.compute.evaluation.classes import ClassMetrics, evaluate_classes
from core.compute.evaluation.comparing import compared_rows, true_classes
from core.compute.evaluation.evaluation_set import EvaluationSet
from core.compute.evaluation.fairness import (
    GroupReport,
    fairness_of_classes,
    fairness_of_scores,
    usable_columns,
)
from core.compute.evaluation.numbers import NumberMetrics, evaluate_numbers
from core.compute.evaluation.paired import Comparison
from core.compute.evaluation.predicting import Predictions, Refusal
from core.compute.evaluation.reader_study import ReaderStudy
from core.compute.evaluation.structures import StructureMetrics, aggregate
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
    classes, structures, numbers
        The full results of the tasks at hand, the others None.
    probabilities, labels : numpy.ndarray or None
        Of the answered cases whose class is known.
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
    numbers: NumberMetrics | None = None

    def document(self) -> dict[str, Any]:
        """Return the content of ``metrics.json``; numbers that JSON lacks become null, infinite ones ``"inf"``."""
        details: dict[str, Any] = {}
        for part in (self.numbers, self.structures, self.classes):
            details |= {} if part is None else part.as_dict()
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
                    "n": next((row[k].n for k in ("recall", "dice", "mae") if k in row), 0),
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
                **details,
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
    groups, notes = usable_columns(dataset.columns(), patients)
    found = _Found(dataset, predictions, groups, _Draws(patients, tolerance_mm, resamples, seed))
    found.notes += notes
    if dataset.structures:
        found.add_structures()
    if dataset.class_names:
        found.add_classes()
    if dataset.measurements:
        found.add_numbers()
    found.metrics["latency_ms"] = predictions.latency()
    verdicts, passed = _judged(gates, found.metrics, found.per_class, predictions)
    who = None if patients is None else np.array(patients)
    return Evaluation(
        facts_of(predictions),
        tuple(found.per_class),
        len(dataset.cases),
        None if patients is None else len(set(patients)),
        dataset.fingerprint(),
        found.metrics,
        found.per_class,
        found.classes,
        found.structures,
        found.probabilities,
        found.labels,
        found.reliability,
        found.temperature,
        tuple(joined(found.rows)),
        predictions.refused,
        verdicts,
        passed,
        gates.title if gates else "",
        tuple(
            Compared(facts_of(other), *compared_rows(dataset, predictions, other, who, seed))
            for other in others
        ),
        tuple(found.fairness),
        (*dataset.notes, *found.notes, *predictions.fallbacks),
        list(curves),
        numbers=found.numbers,
    )


@dataclass(frozen=True)
class _Draws:
    """How intervals are drawn: the patient of each case, resamples, seed; ``tolerance_mm`` is the surface Dice's."""

    patients: list[str] | None
    tolerance_mm: float
    resamples: int
    seed: int

    def of(self, chosen: NDArray[np.bool_]) -> NDArray | None:
        """Return the patients of some cases."""
        return None if self.patients is None else np.array(self.patients)[chosen]


@dataclass(eq=False)
class _Found:
    """What is gathered of each task."""

    dataset: EvaluationSet
    predictions: Predictions
    groups: Mapping[str, Sequence[str]]
    draws: _Draws
    metrics: dict[str, Measured] = field(default_factory=dict)
    per_class: dict[str, dict[str, Measured]] = field(default_factory=dict)
    rows: list[list[Row]] = field(default_factory=list)
    fairness: list[GroupReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    classes: ClassMetrics | None = None
    structures: StructureMetrics | None = None
    numbers: NumberMetrics | None = None
    probabilities: Values | None = None
    labels: NDArray[np.int64] | None = None
    reliability: Reliability | None = None
    temperature: float | None = None

    def add_structures(self) -> None:
        """Measure the label maps of the cases that have one."""
        rows, draws = self.predictions.rows, self.draws
        if not rows:
            self.notes.append("No case has a mask: the structures were not measured.")
            return
        who = draws.patients
        self.structures = aggregate(
            rows,
            tuple(self.dataset.structures),
            patients=None if who is None else dict(zip(self.predictions.case_names, who, strict=True)),
            tolerance_mm=draws.tolerance_mm,
            resamples=draws.resamples,
            seed=draws.seed,
        )
        self.metrics |= self.structures.metrics
        self._add_named(self.structures.per_class)
        self.rows.append(mask_rows(rows))
        scored = by_case(rows)
        known = np.array([name in scored for name in self.predictions.case_names])
        dice = np.array([mean_dice(scored[name]) for name in self._names(known)])
        for column, group in self._grouped(known):
            self.fairness.append(fairness_of_scores(dice, "mean_dice", column, group, seed=draws.seed))
        self.notes += _mask_notes(self.dataset)

    def add_classes(self) -> None:
        """Measure the classes of the cases whose class is known."""
        names, table = self.dataset.class_names, self.predictions.probabilities
        truth = true_classes(self.dataset, self.predictions)
        known = self.predictions.answered & (truth >= 0)
        if table is None or not known.any():
            self.notes.append("No case has a known class: the classes were not measured.")
            return
        probabilities, labels, draws = table[known], truth[known], self.draws
        self.probabilities, self.labels = probabilities, labels
        self.classes = evaluate_classes(
            probabilities,
            labels,
            names,
            patients=draws.of(known),
            resamples=draws.resamples,
            seed=draws.seed,
        )
        self.metrics |= self.classes.metrics
        self._add_named(self.classes.per_class)
        self.metrics["class_imbalance"] = imbalance(self.dataset, truth)
        self.reliability = reliability(probabilities, labels)
        self.temperature = best_temperature(probabilities, labels)
        self.rows.append(class_rows(names, self._names(known), probabilities, labels))
        called = probabilities.argmax(axis=1)
        for column, group in self._grouped(known):
            self.fairness.append(fairness_of_classes(labels, called, names, column, group, seed=draws.seed))

    def add_numbers(self) -> None:
        """Measure the numbers of the cases of which at least one is known."""
        values, truth = self.predictions.values, self.predictions.truth
        assert values is not None and truth is not None
        known = self.predictions.answered & np.isfinite(truth).any(axis=1)
        if not known.any():
            self.notes.append("No case has a known measurement: they were not measured.")
            return
        self.numbers = evaluate_numbers(
            truth[known],
            values[known],
            self.dataset.measurements,
            patients=self.draws.of(known),
            resamples=self.draws.resamples,
            seed=self.draws.seed,
        )
        self.metrics |= self.numbers.metrics
        self._add_named(self.numbers.per_number)
        self.rows.append(number_rows(self.numbers, self._names(known)))

    def _add_named(self, rows: Mapping[str, dict[str, Measured]]) -> None:
        """Add what was measured of each structure, class or number; one name may stand for two of them."""
        for name, row in rows.items():
            self.per_class[name] = {**self.per_class.get(name, {}), **row}

    def _names(self, chosen: NDArray[np.bool_]) -> list[str]:
        return [n for n, one in zip(self.predictions.case_names, chosen, strict=True) if one]

    def _grouped(self, chosen: NDArray[np.bool_]) -> list[tuple[str, list[str]]]:
        return [
            (column, [g for g, one in zip(values, chosen, strict=True) if one])
            for column, values in self.groups.items()
        ]


def imbalance(dataset: EvaluationSet, labels: NDArray[np.int64] | None = None) -> Measured:
    """Return cases of the largest class over those of the smallest; infinite when a class has none.

    ``labels`` are the true classes where the cases themselves don't hold all of them (-1 unknown).
    """
    if labels is None:
        labels = np.array([case.label or 0 for case in dataset.cases], dtype=np.int64)
    counts = np.bincount(labels[labels >= 0], minlength=len(dataset.class_names))
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


def _mask_notes(dataset: EvaluationSet) -> list[str]:
    pictures = any(
        p.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp") for c in dataset.cases for p in c.files
    )
    return (
        ["Pictures state no size: distances are in pixels, volumes in thousands of pixels."]
        if pictures
        else []
    )
