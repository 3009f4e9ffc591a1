"""Whether an engine of lower precision may be used: it must answer the bundle's reference input rightly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.bundles.estimate import count_windows
from core.compute.inference.classify import classify
from core.compute.inference.loaded import LoadedModel
from core.compute.inference.prepare import PreparedVolume, prepare_image, prepare_volume
from core.compute.inference.reference import ReferenceCase, read_reference
from core.compute.inference.segment import segment
from core.domain.progress import CancelToken

LABEL_AGREEMENT = 0.999
LABEL_DICE = 0.99
PROBABILITY_TOLERANCE = 0.02


@dataclass(frozen=True)
class Verdict:
    """``share`` (0…1) says how well the answers agree; ``why`` is empty when the engine passed; ``unsettled``
    when only the time was missing to find out.
    """

    share: float
    why: str = ""
    unsettled: bool = False


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
        if self._model.bundle.manifest.task != "segmentation":
            return self._judge_classes(name, self._case)
        return self._judge_labels(name, self._case, seconds_per_voxel, cancel)

    def _judge_classes(self, name: str, case: ReferenceCase) -> Verdict:
        image = prepare_image(case.volume, self._model.bundle.manifest)
        answer = classify(image, self._model, self._model.backend(name)).probabilities
        expected = case.probabilities
        if expected is None or expected.shape != answer.shape:
            return Verdict(0.0, "the reference has no answer of that size")
        difference = float(np.abs(expected - answer).max())
        passed = difference <= PROBABILITY_TOLERANCE and expected.argmax() == answer.argmax()
        return Verdict(1.0 - difference, "" if passed else f"probabilities differ by {difference:.4f}")

    def _judge_labels(
        self, name: str, case: ReferenceCase, seconds_per_voxel: float, cancel: CancelToken | None
    ) -> Verdict:
        manifest = self._model.bundle.manifest
        settings = manifest.inference
        self._prepared = self._prepared or prepare_volume(case.volume, manifest, cancel)
        shape = self._prepared.grid.model.shape_kji
        window = settings.patch_kji
        voxels = math.prod(shape) if window is None else count_windows(shape, settings) * math.prod(window)
        needed = voxels * seconds_per_voxel
        if needed > self._limit_s:
            why = f"checking it on the reference input would take {needed:.0f} s"
            return Verdict(0.0, why, unsettled=True)
        engine = self._model.backend(name)
        labels = segment(self._prepared, manifest, engine, settings, cancel=cancel).labels
        if case.labels is None or case.labels.shape != labels.shape:
            return Verdict(0.0, "the reference has no answer of that size")
        share = float((case.labels == labels).mean())
        passed = share >= LABEL_AGREEMENT and lowest_dice(case.labels, labels) >= LABEL_DICE
        return Verdict(share, "" if passed else f"only {share:.5f} of the reference's labels agree")


def lowest_dice(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return the smallest Dice coefficient over all labels that occur in either map; 1 when none does."""
    scores = [1.0]
    for value in np.union1d(np.unique(first), np.unique(second)):
        if value == 0:
            continue
        a, b = first == value, second == value
        scores.append(2.0 * int((a & b).sum()) / (int(a.sum()) + int(b.sum())))
    return min(scores)
