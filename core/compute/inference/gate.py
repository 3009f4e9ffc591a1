"""Whether an engine of lower precision may be used: it must answer the bundle's reference input rightly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.bundles.estimate import count_windows
from core.bundles.manifest import Manifest
from core.compute.inference.classify import classify
from core.compute.inference.contrasts import classifier_input, named_contrasts, prepare_contrasts
from core.compute.inference.loaded import LoadedModel
from core.compute.inference.multitask import TasksAnswer, predict_tasks
from core.compute.inference.prepare import PreparedVolume
from core.compute.inference.reference import ReferenceCase, read_reference
from core.compute.inference.reports import text_ids
from core.compute.inference.segment import segment
from core.domain.progress import CancelToken

LABEL_AGREEMENT = 0.999
LABEL_DICE = 0.99
PROBABILITY_TOLERANCE = 0.02
# Of a measurement's spread over the training cases, which is the unit that the network answers in.
MEASUREMENT_TOLERANCE = 0.05


@dataclass(frozen=True)
class Verdict:
    """``share`` (0…1) says how well the answers agree; ``why`` is empty when the engine passed; ``unsettled``
    when only the time was missing to find out.
    """

    share: float
    why: str = ""
    unsettled: bool = False


_OF_ANOTHER_SIZE = Verdict(0.0, "the reference has no answer of that size")


class Gate:
    """Compares engines with the answer that the maker of the bundle got in float32, which it carries.

    Parameters
    ----------
    limit_s : float
        An engine that would need longer for the reference input is not admitted.
    """

    def __init__(self, model: LoadedModel, limit_s: float) -> None:
        self._model = model
        self._limit_s = limit_s
        self._case: ReferenceCase | None = None
        self._prepared: PreparedVolume | None = None

    def judge(self, name: str, seconds_per_voxel: float, cancel: CancelToken | None = None) -> Verdict:
        """Run the engine ``name`` on the reference input; ``seconds_per_voxel`` is its measured speed."""
        if not self._model.bundle.has_reference:
            return Verdict(0.0, "the bundle has no reference input to check it on")
        self._case = self._case or read_reference(self._model.bundle)
        task = self._model.bundle.manifest.task
        if task == "classification":
            return self._judge_classes(name, self._case)
        if task == "multitask":
            return self._judge_tasks(name, self._case, seconds_per_voxel, cancel)
        return self._judge_labels(name, self._case, seconds_per_voxel, cancel)

    def _judge_classes(self, name: str, case: ReferenceCase) -> Verdict:
        manifest = self._model.bundle.manifest
        image = classifier_input(named_contrasts(manifest, case.given), manifest)
        text = text_ids(self._model.bundle, case.text)
        answer = classify(image, self._model, self._model.backend(name), text=text).probabilities
        return _judged_probabilities(case, answer)

    def _judge_tasks(
        self, name: str, case: ReferenceCase, seconds_per_voxel: float, cancel: CancelToken | None
    ) -> Verdict:
        """Judge each head as the models of one task are judged; the first that fails says why."""
        manifest = self._model.bundle.manifest
        prepared = self._prepare(case, cancel)
        late = self._too_late(math.prod(prepared.grid.model.shape_kji) * seconds_per_voxel)
        if late is not None:
            return late
        text = text_ids(self._model.bundle, case.text)
        answer = predict_tasks(prepared, self._model, self._model.backend(name), text, cancel)
        verdicts = []
        if answer.labels is not None:
            verdicts.append(_judged_labels(case, answer.labels))
        if answer.classification is not None:
            verdicts.append(_judged_probabilities(case, answer.classification.probabilities))
        if answer.measurements:
            verdicts.append(_judged_measurements(case, answer, manifest))
        share = min(verdict.share for verdict in verdicts)
        return Verdict(share, next((verdict.why for verdict in verdicts if verdict.why), ""))

    def _prepare(self, case: ReferenceCase, cancel: CancelToken | None) -> PreparedVolume:
        manifest = self._model.bundle.manifest
        if self._prepared is None:
            self._prepared = prepare_contrasts(named_contrasts(manifest, case.given), manifest, cancel)
        return self._prepared

    def _too_late(self, needed: float) -> Verdict | None:
        if needed <= self._limit_s:
            return None
        return Verdict(0.0, f"checking it on the reference input would take {needed:.0f} s", unsettled=True)

    def _judge_labels(
        self, name: str, case: ReferenceCase, seconds_per_voxel: float, cancel: CancelToken | None
    ) -> Verdict:
        manifest = self._model.bundle.manifest
        settings = manifest.inference
        prepared = self._prepare(case, cancel)
        shape = prepared.grid.model.shape_kji
        window = settings.patch_kji
        voxels = math.prod(shape) if window is None else count_windows(shape, settings) * math.prod(window)
        late = self._too_late(voxels * seconds_per_voxel)
        if late is not None:
            return late
        engine = self._model.backend(name)
        return _judged_labels(case, segment(prepared, manifest, engine, settings, cancel=cancel).labels)


def _judged_labels(case: ReferenceCase, labels: NDArray[np.uint8]) -> Verdict:
    if case.labels is None or case.labels.shape != labels.shape:
        return _OF_ANOTHER_SIZE
    share = float((case.labels == labels).mean())
    passed = share >= LABEL_AGREEMENT and lowest_dice(case.labels, labels) >= LABEL_DICE
    return Verdict(share, "" if passed else f"only {share:.5f} of the reference's labels agree")


def _judged_probabilities(case: ReferenceCase, answer: NDArray[np.float64]) -> Verdict:
    expected = case.probabilities
    if expected is None or expected.shape != answer.shape:
        return _OF_ANOTHER_SIZE
    difference = float(np.abs(expected - answer).max())
    passed = difference <= PROBABILITY_TOLERANCE and expected.argmax() == answer.argmax()
    return Verdict(1.0 - difference, "" if passed else f"probabilities differ by {difference:.4f}")


def _judged_measurements(case: ReferenceCase, answer: TasksAnswer, manifest: Manifest) -> Verdict:
    values = np.array([item.value for item in answer.measurements])
    if case.measurements is None or case.measurements.shape != values.shape:
        return _OF_ANOTHER_SIZE
    difference = measurement_gap(case.measurements, values, manifest)
    passed = difference <= MEASUREMENT_TOLERANCE
    return Verdict(
        max(0.0, 1.0 - difference),
        "" if passed else f"measurements differ by {difference:.3f} of their spread",
    )


def measurement_gap(expected: NDArray, values: NDArray, manifest: Manifest) -> float:
    """Return the largest difference of a measurement in units of its spread (``std`` of the manifest)."""
    spread = np.array([item.std for item in manifest.measurements])
    return float((np.abs(expected.astype(np.float64) - values) / spread).max())


def lowest_dice(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return the smallest Dice coefficient over all labels that occur in either map; 1 when none does."""
    scores = [1.0]
    for value in np.union1d(np.unique(first), np.unique(second)):
        if value == 0:
            continue
        a, b = first == value, second == value
        scores.append(2.0 * int((a & b).sum()) / (int(a.sum()) + int(b.sum())))
    return min(scores)
