"""Before the first step: precision, memory format and batch size, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from core.compute.training.arithmetic import Arithmetic
from core.compute.training.batch_size import largest_batch
from core.compute.training.feed import Feed
from core.compute.training.precision import candidates, choose, measure
from core.compute.training.run_folder import processes
from core.recipes.schema import Recipe


@dataclass(frozen=True)
class Plan:
    """How a training is computed; ``reasons`` are sentences."""

    arithmetic: Arithmetic
    batch_size: int
    reasons: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for ``run.json`` and the event ``chosen``."""
        return {
            "precision": self.arithmetic.precision,
            "memory_format": self.arithmetic.memory_format,
            "batch_size": self.batch_size,
            "reasons": list(self.reasons),
        }


def make_plan(
    recipe: Recipe,
    network: nn.Module,
    loss: nn.Module,
    feed: Feed,
    device: str,
    before: dict[str, Any] | None = None,
) -> Plan:
    """Choose by measuring; a run that goes on keeps what it began with (``before`` is its ``run.json``).

    Several processes don't measure, lest they choose differently: ``auto`` is then float32, channels as they are, and
    a batch of 8.
    """
    training = recipe.training
    if before is not None and "batch_size" in before:
        how = Arithmetic(before["precision"], before["memory_format"])
        return Plan(how, int(before["batch_size"]), ("as the run began",))
    _, count = processes()
    options = candidates(training, device)
    if count > 1:
        size = training.batch_size if isinstance(training.batch_size, int) else 8
        reasons = ["several processes: nothing is measured"]
        if device == "cpu" and any(isinstance(m, _BatchNorm) for m in network.modules()):
            reasons.append("batch normalisation uses the statistics of each process's own part of the batch")
        return Plan(options[0], size, tuple(reasons))
    reasons = []
    size = training.batch_size if isinstance(training.batch_size, int) else 0
    draw = _Draw(feed)
    how = options[0]
    if len(options) > 1:
        trials = measure(network, loss, draw(size or 2), options, device=device, seed=recipe.seed)
        how = choose(trials)
        reasons += [trial.sentence() for trial in trials]
    if not size:
        size, why = largest_batch(
            network,
            loss,
            draw,
            how=how,
            device=device,
            task=recipe.task,
            cases=feed.counts["train"] * recipe.data.repeat,
        )
        reasons.append(why)
    return Plan(how, size, tuple(reasons))


class _Draw:
    """Gives a training batch of any size; the position of the training isn't touched."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __call__(self, size: int) -> dict[str, Any]:
        batches = self._feed.train_batches(0, 0, size, 0, 1)
        batch = next(iter(batches))
        close = getattr(batches, "close", None)
        if close is not None:
            close()
        return batch
