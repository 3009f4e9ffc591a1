"""Cases as a map-style data set whose items are a pure function of seed, epoch and case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from core.compute.training.data.cache import CaseCache, case_key
from core.compute.training.data.cache_file import CachedCase
from core.compute.training.data.patches import cut, draw_starts, window_size
from core.compute.training.data.prepare import Sample, prepare_case
from core.compute.training.data.transforms import Pipeline
from core.compute.training.sampler import Draw
from core.domain.errors import InputError
from core.recipes.cases import Case
from core.recipes.schema import Recipe

_WINDOWS, _TRANSFORMS = 1, 2


class CaseDataset(Dataset[list[Sample]]):
    """Prepared, cut and changed cases.

    Parameters
    ----------
    cases : sequence of Case
        Of one part.
    recipe : Recipe
        What the part is prepared by.
    cache : CaseCache
        Keeps the prepared cases.
    pipeline : Pipeline
        Transforms of the part.
    windows : bool
        Whether ``data.sampling`` applies (training) or whole images are given (validation, test).
    """

    def __init__(
        self, cases: Sequence[Case], recipe: Recipe, cache: CaseCache, pipeline: Pipeline, *, windows: bool
    ) -> None:
        self.cases = tuple(cases)
        self.recipe, self.cache, self.pipeline = recipe, cache, pipeline
        self.sampling = recipe.data.sampling if windows else None
        self._keys: dict[int, str] = {}

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.cases)

    def prepared(self, index: int) -> CachedCase:
        """Return the prepared case, from the cache or made now."""
        case = self.cases[index]
        key = self._keys.get(index)
        if key is None:
            key = self._keys[index] = case_key(case, self.recipe)
        return self.cache.get(key, lambda: prepare_case(case, self.recipe))

    def __getitem__(self, draw: Draw) -> list[Sample]:
        """Return the samples of one draw: the windows of a volume, or the one whole image."""
        case, prepared = self.cases[draw.case], self.prepared(draw.case)
        seed = (self.recipe.seed, draw.epoch, draw.case, draw.occurrence)
        samples = []
        for number, (image, label) in enumerate(self._pieces(prepared, seed)):
            target = label if label is not None else self._class_of(case)
            whole = Sample(image, target, case.id, prepared.spacing_mm, case.attributes)
            samples.append(self.pipeline(whole, (*seed, _TRANSFORMS, number)))
        return samples

    def _pieces(
        self, prepared: CachedCase, seed: tuple[int, ...]
    ) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        if self.sampling is None:
            return [prepared.whole()]
        size = window_size(self.sampling, self.recipe.spatial_dims)
        rng = np.random.default_rng((*seed, _WINDOWS))
        starts = draw_starts(prepared, size, self.sampling.per_case, self.sampling.foreground, rng)
        pad = self.recipe.bundle.inference.pad_value
        return [cut(prepared, start, size, pad, self.pipeline.margin) for start in starts]

    @staticmethod
    def _class_of(case: Case) -> int:
        if case.label is None:
            raise InputError("training.target", f"The case {case.id} has no class.", "Correct the data set.")
        return case.label


def collate(drawn: Sequence[Sequence[Sample]]) -> dict[str, Any]:
    """Stack the samples of a batch.

    Returns
    -------
    dict
        ``image`` ``(N, C, …)`` float32, ``target`` ``(N,)`` or ``(N, …)`` int64, ``case`` list of N ids,
        ``spacing_mm`` list of N (k, j, i). N is the number of draws times the windows per draw.

    Raises
    ------
    InputError
        ``training.shapes`` when the images of a batch differ in size; two cases are named.
    """
    samples = [sample for draw in drawn for sample in draw]
    first = samples[0]
    for sample in samples:
        if sample.image.shape != first.image.shape:
            raise InputError(
                "training.shapes",
                f"The images of {first.case} ({_size(first)}) and {sample.case} ({_size(sample)}) differ in size.",
                "Set preprocessing.resize_hw, preprocessing.conform or data.sampling, or a batch of 1.",
            )
    targets = [
        sample.target if isinstance(sample.target, torch.Tensor) else torch.tensor(sample.target)
        for sample in samples
    ]
    return {
        "image": torch.stack([sample.image for sample in samples]),
        "target": torch.stack(targets).long(),
        "case": [sample.case for sample in samples],
        "spacing_mm": [sample.spacing_mm for sample in samples],
    }


def _size(sample: Sample) -> str:
    return "×".join(str(n) for n in sample.image.shape)
