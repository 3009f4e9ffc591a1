"""Cases as a map-style data set whose items are a pure function of seed, epoch and case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from core.compute.training.data.cache import CaseCache, case_key
from core.compute.training.data.cache_file import CachedCase
from core.compute.training.data.patches import cut, draw_starts, filled_up, whole_divisor, window_size
from core.compute.training.data.prepare import Sample, Target, prepare_case
from core.compute.training.data.targets import Facts, targets_of
from core.compute.training.data.transforms import Pipeline
from core.compute.training.sampler import Draw
from core.domain.errors import InputError
from core.recipes.cases import Case
from core.recipes.schema import Recipe

if TYPE_CHECKING:
    from core.compute.text import TextEncoder

_WINDOWS, _TRANSFORMS, _HIDDEN_TEXT = 1, 2, 3


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

    Attributes
    ----------
    texts : TextEncoder or None
        Turns reports into word pieces, where the recipe uses them.
    """

    def __init__(
        self, cases: Sequence[Case], recipe: Recipe, cache: CaseCache, pipeline: Pipeline, *, windows: bool
    ) -> None:
        self.cases = tuple(cases)
        self.recipe, self.cache, self.pipeline = recipe, cache, pipeline
        self.sampling = recipe.data.sampling if windows else None
        self.texts: TextEncoder | None = None
        self._hidden_share = recipe.data.text.dropout if windows and recipe.data.text is not None else 0.0
        self._pad_value = recipe.bundle.inference.pad_value
        self._divisor = whole_divisor(recipe)
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
        facts = prepared.facts.beside(case)
        text = self._word_pieces(facts, seed)
        for number, (image, label) in enumerate(self._pieces(prepared, seed)):
            target = self._target(image, label, facts, case)
            whole = Sample(image, target, case.id, prepared.spacing_mm, case.attributes, facts, text)
            samples.append(self.pipeline(whole, (*seed, _TRANSFORMS, number)))
        return samples

    def facts(self, index: int) -> Facts:
        """Return what is known of a case; one that has no files is prepared for it."""
        case = self.cases[index]
        read = self.prepared(index).facts if case.seed is not None or not case.images else Facts()
        return read.beside(case)

    def _word_pieces(self, facts: Facts, seed: tuple[int, ...]) -> torch.Tensor | None:
        if self.texts is None:
            return None
        hidden = self._hidden_share and np.random.default_rng((*seed, _HIDDEN_TEXT)).random()
        shown = None if hidden < self._hidden_share else facts.text
        return torch.tensor(self.texts.encode(shown), dtype=torch.int64)

    def _pieces(
        self, prepared: CachedCase, seed: tuple[int, ...]
    ) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        if self.sampling is None:
            whole = prepared.whole()
            return [whole if self._divisor == 1 else filled_up(*whole, self._divisor, self._pad_value)]
        size = window_size(self.sampling, self.recipe.spatial_dims)
        rng = np.random.default_rng((*seed, _WINDOWS))
        starts = draw_starts(prepared, size, self.sampling.per_case, self.sampling.foreground, rng)
        return [cut(prepared, start, size, self._pad_value, self.pipeline.margin) for start in starts]

    def _target(self, image: torch.Tensor, label: torch.Tensor | None, facts: Facts, case: Case) -> Target:
        if self.recipe.task == "multitask":
            return targets_of(label, facts, case.id, self.recipe, tuple(image.shape[1:]))
        if label is not None:
            return label
        if facts.label is None:
            raise InputError("training.target", f"The case {case.id} has no class.", "Correct the data set.")
        return facts.label


def collate(drawn: Sequence[Sequence[Sample]]) -> dict[str, Any]:
    """Stack the samples of a batch.

    Returns
    -------
    dict
        ``image`` ``(N, C, …)`` float32, ``target`` ``(N,)`` or ``(N, …)`` int64, ``case`` list of N ids,
        ``spacing_mm`` list of N (k, j, i), where reports are used ``text`` ``(N, L)`` int64. Targets of several tasks
        are a dict of such by task, those of the regression ``(N, R)`` float32. N is the number of draws times the
        windows per draw.

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
    batch: dict[str, Any] = {
        "image": torch.stack([sample.image for sample in samples]),
        "target": _stacked([sample.target for sample in samples]),
        "case": [sample.case for sample in samples],
        "spacing_mm": [sample.spacing_mm for sample in samples],
    }
    texts = [sample.text for sample in samples if sample.text is not None]
    if texts:
        batch["text"] = torch.stack(texts)
    return batch


def _stacked(targets: Sequence[Target]) -> torch.Tensor | dict[str, torch.Tensor]:
    several = [target for target in targets if isinstance(target, dict)]
    if several:
        return {task: _whole(torch.stack([one[task] for one in several])) for task in several[0]}
    single = [target for target in targets if not isinstance(target, dict)]
    return torch.stack([torch.as_tensor(target) for target in single]).long()


def _whole(target: torch.Tensor) -> torch.Tensor:
    return target if target.is_floating_point() else target.long()


def _size(sample: Sample) -> str:
    return "×".join(str(n) for n in sample.image.shape)
