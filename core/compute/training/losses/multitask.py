"""Several tasks of one network: the loss of each over what is known, weighed by learnt uncertainty.

Targets are ``segmentation`` ``(N, …)`` int64 (255 unjudged), ``classification`` ``(N,)`` int64 (−1 unknown) and
``regression`` ``(N, R)`` float32 (NaN unknown), each where the network is trained for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from core.recipes.cases import UNJUDGED

Reduce = Callable[[Tensor], Tensor]
# Logit of background against every other class where nothing is judged: e^-30 is below float32's precision.
_CERTAIN = 30.0


class TaskWeights(nn.Module):
    """One learnt log-variance ``s = log σ²`` per task, 0 at the beginning.

    A segmentation or classification weighs ``L / σ² + log σ``, a regression ``L / (2 σ²) + log σ``.

    Notes
    -----
    At the optimum σ² is twice the loss of a classification, and the loss of a regression. Losses must be at least 0.
    ``log_variances`` (T,) are parameters: they train with the network, without weight decay. Source: A. Kendall,
    Y. Gal, R. Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics",
    CVPR 2018, equations 7 and 10, in the form with log σ² that its section 3.2 recommends.
    """

    def __init__(self, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.tasks = tasks
        self.log_variances = nn.Parameter(torch.zeros(len(tasks)))

    def forward(self, task: str, loss: Tensor) -> Tensor:
        """Return the weighed loss of a task (scalar)."""
        s = self.log_variances[self.tasks.index(task)].to(loss.dtype)
        factor = 0.5 if task == "regression" else 1.0
        return factor * torch.exp(-s) * loss + 0.5 * s

    def variances(self) -> dict[str, float]:
        """Return σ² by task."""
        return dict(zip(self.tasks, self.log_variances.detach().exp().tolist(), strict=True))


class MultitaskLoss(nn.Module):
    """The sum of the tasks' losses, each the mean over what is known of it.

    Parameters
    ----------
    losses : mapping of str to torch.nn.Module
        Task → loss.
    weights : TaskWeights or None
        None adds the losses up as they are.

    Notes
    -----
    ``announce`` tells how much is known over all pieces of a batch and all processes, so that their mean is the loss of
    the whole; without it a call is a whole of its own. A task of which nothing is known adds nothing, not even log σ.
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: TaskWeights | None) -> None:
        super().__init__()
        if not losses:
            raise ValueError("no task is given")
        self.losses = nn.ModuleDict(losses)
        self.weights = weights
        self._shares: dict[str, float] | None = None

    def announce(self, targets: Mapping[str, Tensor], reduce: Reduce | None) -> None:
        """Take the targets of the whole batch; ``reduce`` gives the mean of a tensor over the processes."""
        shares = torch.stack([known_share(task, targets[task]) for task in self.losses])
        if reduce is not None:
            shares = reduce(shares)
        self._shares = dict(zip(self.losses, shares.tolist(), strict=True))

    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Return the loss (scalar)."""
        terms = [self._term(task, outputs[task], targets[task]) for task in self.losses]
        return torch.stack(terms).sum()

    def _term(self, task: str, output: Tensor, target: Tensor) -> Tensor:
        own = float(known_share(task, target))
        whole = self._shares[task] if self.training and self._shares is not None else own
        value = self.losses[task](*known(task, output, target)) if own else 0.0 * output.sum()
        if not whole:
            return value if self.weights is None else value + 0.0 * self.weights.log_variances.sum()
        value = value * (own / whole)
        return value if self.weights is None else self.weights(task, value)


def known_share(task: str, target: Tensor) -> Tensor:
    """Return the share of a target that is known (float32 scalar): of images, or of numbers."""
    if task == "segmentation":
        return (target != UNJUDGED).flatten(1).any(dim=1).float().mean()
    if task == "classification":
        return (target >= 0).float().mean()
    return target.isfinite().float().mean()


def known(task: str, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs and targets of the images of which something is known.

    Voxels that aren't judged within such an image become certain background: they say nothing and get no gradient.
    """
    if task == "classification":
        rows = target >= 0
        return output[rows], target[rows]
    if task == "regression":
        return output, target
    rows = (target != UNJUDGED).flatten(1).any(dim=1)
    output, target = output[rows], target[rows]
    hidden = target == UNJUDGED
    if not bool(hidden.any()):
        return output, target
    certain = torch.full((output.shape[1],), -_CERTAIN, dtype=output.dtype, device=output.device)
    certain[0] = _CERTAIN
    certain = certain.reshape(-1, *(1,) * (output.ndim - 2))
    return torch.where(hidden[:, None], certain, output), target.masked_fill(hidden, 0)
