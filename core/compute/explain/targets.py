"""What a map explains: a class's logit, or the sum of its logits over the predicted region."""

from __future__ import annotations

import torch

from core.compute.explain.cam import Score


def class_score(index: int) -> Score:
    """Return the logit of class ``index`` of an answer ``(1, classes)``."""

    def score(answer: torch.Tensor) -> torch.Tensor:
        return answer[0, index]

    return score


def region_score(channel: int, region: torch.Tensor | None) -> Score:
    """Return the sum of a channel's logits ``(1, C, k, j, i)`` over a region.

    ``region`` is ``(k, j, i)`` bool; None takes the voxels where the channel wins, or all when it wins
    nowhere.

    Source: Vinogradova, Dibrov, Myers, AAAI 2020 (Seg-Grad-CAM).
    """

    def score(answer: torch.Tensor) -> torch.Tensor:
        logits = answer[0, channel]
        chosen = region if region is not None else answer[0].detach().argmax(dim=0) == channel
        return logits[chosen].sum() if bool(chosen.any()) else logits.sum()

    return score


def batch_scores(score: Score, answers: torch.Tensor) -> torch.Tensor:
    """Apply a score to each answer of a batch: ``(N, …)`` → ``(N,)``."""
    return torch.stack([score(answer[None]) for answer in answers])
