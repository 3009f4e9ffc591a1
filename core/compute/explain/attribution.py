"""Input attributions by captum: integrated gradients, and occlusion for networks of which only answers are
known.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from core.compute.explain.cam import Score
from core.compute.explain.targets import batch_scores
from core.domain.progress import CancelToken

IG_STEPS = 32
Answer = Callable[[torch.Tensor], torch.Tensor]


def integrated_gradients(
    network: nn.Module,
    image: torch.Tensor,
    score: Score,
    baseline: float,
    *,
    steps: int = IG_STEPS,
    cancel: CancelToken | None = None,
) -> torch.Tensor:
    """Return signed attributions, summed over channels: ``(1, 1, …)``.

    ``baseline`` is the value of the image that counts as "nothing". Source: Sundararajan et al., ICML 2017.
    """
    from captum.attr import IntegratedGradients

    def forward(batch: torch.Tensor) -> torch.Tensor:
        _check(cancel)
        return batch_scores(score, network(batch))

    attribution = IntegratedGradients(forward).attribute(
        image, baselines=baseline, n_steps=steps, internal_batch_size=1
    )
    return attribution.detach().sum(dim=1, keepdim=True).float()


def occlusion(
    answer: Answer,
    image: torch.Tensor,
    score: Score,
    baseline: float,
    *,
    cells: int,
    cancel: CancelToken | None = None,
) -> torch.Tensor:
    """Return how much the score drops when a box is hidden, ``(1, 1, …)``; positive means support.

    Boxes measure 1 / ``cells`` of the image along each axis, overlapping by half in two dimensions.
    Source: Zeiler, Fergus, ECCV 2014.
    """
    from captum.attr import Occlusion

    space = image.shape[2:]
    box = tuple(max(1, -(-length // cells)) for length in space)
    stride = tuple(max(1, length // 2) for length in box) if len(space) == 2 else box

    def forward(batch: torch.Tensor) -> torch.Tensor:
        _check(cancel)
        with torch.no_grad():
            return batch_scores(score, answer(batch))

    channels = image.shape[1]
    attribution = Occlusion(forward).attribute(
        image, sliding_window_shapes=(channels, *box), strides=(channels, *stride), baselines=baseline
    )
    return attribution.detach().mean(dim=1, keepdim=True).float()


def _check(cancel: CancelToken | None) -> None:
    if cancel is not None:
        cancel.raise_if_cancelled()
