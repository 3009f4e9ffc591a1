"""Contrast agents, painted where the labels say which organ is which."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional

from core.compute.training.data.named import IMAGE, LABEL, FunctionStep, Item, Named, Pair, Step, Target

Label = Annotated[int, Field(ge=1, le=255)]


class RandContrastAgent(Named):
    """Raise the values of each labelled structure as an injection does: ``shifts`` gives a label's least and most.

    Values are those of the prepared image. One amount of agent, 0 … 1, is drawn for all structures, so that the vessels
    of a picture brighten with its organs; each structure takes up its own share of it. The edge of a structure is
    softened over ``soften`` voxels, as partial volume does.
    """

    shifts: dict[Label, Pair] = Field(min_length=1)
    soften: int = Field(default=1, ge=0, le=8)

    def build(self, target: Target) -> Step:
        """Return the transform."""
        if not target.labelled:
            raise ValueError("it needs a label map")
        return FunctionStep(self.probability, self._injected)

    def _injected(self, item: Item, state: np.random.RandomState) -> Item:
        labels = item[LABEL][0]
        agent = state.random_sample()
        rise = torch.zeros(labels.shape, dtype=torch.float32)
        for value, (least, most) in sorted(self.shifts.items()):
            share = state.uniform(0.7, 1.0)
            rise[labels == value] = float(least + (most - least) * agent * share)
        return {**item, IMAGE: item[IMAGE] + self._softened(rise)[None]}

    def _softened(self, rise: torch.Tensor) -> torch.Tensor:
        if self.soften == 0:
            return rise
        pool = functional.avg_pool3d if rise.ndim == 3 else functional.avg_pool2d
        size = 2 * self.soften + 1
        return pool(rise[None, None], size, stride=1, padding=self.soften, count_include_pad=False)[0, 0]
