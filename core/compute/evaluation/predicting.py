"""What a model says on every case of a data set, and how long it takes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.bundles.bundle import Bundle
from core.compute.evaluation.asking import Asked, Question
from core.compute.evaluation.evaluation_set import EvaluationSet, kind_of, names_of
from core.compute.evaluation.structures import CaseScore, score_case
from core.compute.inference.loaded import ModelCache
from core.compute.inference.output import InferenceOutput
from core.compute.inference.run import run_bundle
from core.domain.errors import AppError, InputError
from core.domain.progress import Cancelled, CancelToken, Progress, no_progress
from core.domain.volume import Volume
from core.recipes.gates import Measured

Values = NDArray[np.float64]
_MIN_TIMINGS = 20
_TIMING_BUDGET_S = 3.0


@dataclass(frozen=True)
class Refusal:
    """A case that could not be run: its number and the error."""

    case: str
    code: str
    message: str


@dataclass(frozen=True, eq=False)
class Predictions:
    """Answers of one model.

    Attributes
    ----------
    case_names : tuple of str
        Of all cases of the data set.
    answered : numpy.ndarray
        ``(cases,)`` bool: False where the case was refused.
    probabilities : numpy.ndarray or None
        ``(cases, classes)`` float64, NaN rows for refused cases; the order of the data set's classes.
    rows : tuple of CaseScore
        Of segmentations, a row per answered case with a mask and structure.
    milliseconds : numpy.ndarray
        Of each timed run without loading, the first one left out.
    labels : numpy.ndarray or None
        ``(cases,)`` int64, the true classes as they were read; -1 unknown.
    values, truth : numpy.ndarray or None
        ``(cases, measurements)`` float64, what the model estimated and what is true; NaN where unknown.
    """

    bundle: Bundle
    case_names: tuple[str, ...]
    answered: NDArray[np.bool_]
    probabilities: Values | None
    rows: tuple[CaseScore, ...]
    milliseconds: Values
    refused: tuple[Refusal, ...] = ()
    device: str = ""
    backend: str = ""
    fallbacks: tuple[str, ...] = field(default=())
    labels: NDArray[np.int64] | None = None
    values: Values | None = None
    truth: Values | None = None

    def latency(self) -> Measured:
        """Return the median of milliseconds per image; ``low`` and ``high`` are the 5th and 95th percentile."""
        if not len(self.milliseconds):
            return Measured(float("nan"), float("nan"), float("nan"), 0)
        low, middle, high = np.quantile(self.milliseconds, [0.05, 0.5, 0.95])
        return Measured(float(middle), float(low), float(high), len(self.milliseconds))


def case_numbers(dataset: EvaluationSet) -> tuple[str, ...]:
    """Return names of the cases that hold no identity: their numbers in the order of the data, from 0001."""
    return tuple(f"{n:04d}" for n in range(1, len(dataset.cases) + 1))


def predict_cases(
    bundle: Bundle,
    dataset: EvaluationSet,
    *,
    case_names: tuple[str, ...] | None = None,
    tolerance_mm: float = 2.0,
    device: str = "auto",
    backend: str | None = None,
    probe_folder: Path | None = None,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> Predictions:
    """Run a model on every case.

    The first case is run once more before, to warm up; when there are few cases, the last one is repeated until there
    are 20 timings or 3 s have passed.

    Parameters
    ----------
    case_names : tuple of str, optional
        What the cases are called in the results; their numbers by default.
    backend : str, optional
        Force an engine (``"exact"``); else the fastest is chosen as for a reader.

    Raises
    ------
    InputError
        ``evaluation.all_refused`` with the first reason when no case could be run, ``evaluation.names`` when the
        model has other classes or structures than the data set.
    """
    names = case_names or case_numbers(dataset)
    check_same_names(bundle, dataset)
    cache = ModelCache()
    count = len(dataset.cases)
    asked = Asked(bundle, dataset)
    classes, numbers = dataset.class_names, dataset.measurements
    table = np.full((count, len(classes)), np.nan) if classes else None
    labels = np.full(count, -1, dtype=np.int64)
    values, truth = np.full((count, len(numbers)), np.nan), np.full((count, len(numbers)), np.nan)
    answered = np.zeros(count, dtype=bool)
    rows: list[CaseScore] = []
    refused: list[Refusal] = []
    timings: list[float] = []
    answer: InferenceOutput | None = None
    question: Question | None = None

    def run(question: Question) -> InferenceOutput:
        return run_bundle(
            bundle,
            question.given,
            text=question.text,
            device=device,
            cancel=cancel,
            cache=cache,
            probe_folder=probe_folder,
            backend=backend,
        )

    for n, case in enumerate(dataset.cases):
        if cancel is not None:
            cancel.raise_if_cancelled()
        progress(f"Evaluating {bundle.manifest.title}", n / count)
        try:
            question = asked.question(case)
            if answer is None:
                run(question)
            answer = run(question)
            if table is not None:
                table[n] = _vector(answer, classes)
            if dataset.structures and (question.mask is not None or dataset.kind == "masks"):
                rows += _score(answer, question.mask, question.first, dataset, names[n], tolerance_mm)
            known = question.facts
            labels[n] = -1 if known.label is None else known.label
            found = {value.name: value.value for value in answer.measurements}
            values[n] = [found[one.name] for one in numbers]
            truth[n] = [known.values.get(one.name, np.nan) for one in numbers]
        except Cancelled:
            raise
        except AppError as error:
            # The readers' messages name the file; the number names it as well and holds no identity.
            refused.append(Refusal(names[n], error.code, error.remedy))
            continue
        answered[n] = True
        timings.append(_milliseconds(answer))
    if answer is None or question is None or not answered.any():
        raise InputError(
            "evaluation.all_refused",
            f"None of the {count} cases could be run ({refused[0].code if refused else 'no case'}).",
            refused[0].message if refused else "Choose other data.",
        )
    started = time.perf_counter()
    while len(timings) < _MIN_TIMINGS and time.perf_counter() - started < _TIMING_BUDGET_S:
        timings.append(_milliseconds(run(question)))
    return Predictions(
        bundle,
        names,
        answered,
        table,
        tuple(rows),
        np.array(timings),
        tuple(refused),
        answer.device,
        answer.backend,
        answer.fallbacks,
        labels if classes else None,
        values if numbers else None,
        truth if numbers else None,
    )


def check_same_names(bundle: Bundle, dataset: EvaluationSet) -> None:
    """Refuse a model of another task, with other classes or measurements; InputError ``evaluation.names``."""
    manifest = bundle.manifest
    numbers = {one.name for one in manifest.measurements} == {one.name for one in dataset.measurements}
    same = set(names_of(manifest)) == set(dataset.names) and numbers
    if kind_of(manifest) != dataset.kind or not same:
        raise InputError(
            "evaluation.names",
            f"{manifest.title} has other classes or structures than these data.",
            f"Compare models that tell apart: {', '.join(dataset.names)}.",
        )


def _vector(answer: InferenceOutput, names: tuple[str, ...]) -> Values:
    found = {c.label: c.probability for c in answer.classes}
    return np.array([found[name] for name in names])


def _score(
    answer: InferenceOutput,
    truth: NDArray[np.uint8] | None,
    volume: Volume,
    dataset: EvaluationSet,
    name: str,
    tolerance_mm: float,
) -> list[CaseScore]:
    if answer.labels is None or truth is None:
        raise InputError("evaluation.truth", "The case has no mask.", "Add the mask.")
    predicted = answer.labels
    spacing: tuple[float, ...] = volume.geometry.spacing_kji_mm
    if predicted.shape[0] == 1:
        # A picture has outlines, not surfaces: as a slab its upper and lower faces would count as surface.
        predicted, truth, spacing = predicted[0], truth[0], spacing[1:]
    return score_case(
        predicted,
        truth,
        dataset.structures,
        spacing,
        case=name,
        tolerance_mm=tolerance_mm,
        voxel_ml=volume.geometry.voxel_volume_ml,
    )


def _milliseconds(answer: InferenceOutput) -> float:
    """Return the time of a run without loading the model and choosing the engine."""
    seconds = answer.seconds
    work = sum(seconds.get(k, 0.0) for k in ("preprocess", "infer", "postprocess"))
    return 1000.0 * work
