"""What a model is asked about a case of a data set: its contrasts and its report, and the truth beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.bundles.bundle import Bundle
from core.compute.evaluation.evaluation_set import EvaluationSet
from core.compute.training.data.targets import Facts, facts_read
from core.domain.errors import InputError
from core.domain.volume import Volume
from core.recipes.cases import Case


@dataclass(frozen=True, eq=False)
class Question:
    """One case, read.

    Attributes
    ----------
    given : Volume or mapping of str to Volume
        As ``run_bundle`` takes it: one series, or the contrasts that the case has.
    text : str or None
        The report, for a model that takes one.
    mask : numpy.ndarray or None
        ``(K, J, I)`` uint8, the true label map on the grid of ``first``.
    facts : Facts
        True class and measurements.
    """

    given: Volume | Mapping[str, Volume]
    text: str | None
    mask: NDArray[np.uint8] | None
    facts: Facts

    @property
    def first(self) -> Volume:
        """The volume on whose grid the answer lies."""
        return self.given if isinstance(self.given, Volume) else next(iter(self.given.values()))


class Asked:
    """Turns cases into questions for one model."""

    def __init__(self, bundle: Bundle, dataset: EvaluationSet) -> None:
        self._manifest, self._dataset = bundle.manifest, dataset

    def question(self, case: Case) -> Question:
        """Read a case.

        Raises
        ------
        InputError
            ``evaluation.truth`` for a class that the model doesn't have; what the readers refuse.
        """
        content = self._dataset.read(case)
        facts = facts_read(content).beside(case)
        count = len(self._dataset.class_names)
        if count and facts.label is not None and not 0 <= facts.label < count:
            raise InputError(
                "evaluation.truth",
                f"The case {case.id} has the class {facts.label}; the model has {count}.",
                "Correct the data.",
            )
        text = facts.text if self._manifest.text is not None else None
        if not self._manifest.inputs:
            return Question(next(iter(content.volumes.values())), text, content.labels, facts)
        # The reader fills a missing contrast with zeros; the model is to know that it is missing.
        lacking = {name for name in content.volumes if case.images and name not in case.images}
        given = {name: volume for name, volume in content.volumes.items() if name not in lacking}
        return Question(given, text, content.labels, facts)
