"""The optimisation loop shared by the recipes: seeded, resumable, with averaged weights."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.compute.training.checkpoint import load_checkpoint, save_checkpoint
from core.compute.training.recipe import Recipe
from core.compute.training.replicas import Batch, Replicas
from core.domain.progress import CancelToken, Progress, no_progress


@dataclass
class Trained:
    """Outcome of a loop: the network with the averaged weights, steps done, last loss."""

    network: nn.Module
    steps: int
    loss: float


def prefers_bf16(network: nn.Module, example: Tensor) -> bool:
    """Measure whether bf16 autocast makes a forward pass faster here (three interleaved passes each)."""
    best = {True: math.inf, False: math.inf}
    network.eval()
    with torch.no_grad():
        for _ in range(3):
            for enabled in (True, False):
                start = time.perf_counter()
                with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                    network(example)
                best[enabled] = min(best[enabled], time.perf_counter() - start)
    network.train()
    return best[True] < 0.9 * best[False]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the rate at a step: linear warm-up, then cosine to zero."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    share = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.5 * recipe.learning_rate * (1 + math.cos(math.pi * min(1.0, share)))


def train(
    recipe: Recipe,
    network: nn.Module,
    batches: Callable[[int, range], Batch],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    folder: Path,
    *,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> Trained:
    """Run the optimisation, resuming from ``folder/checkpoint.pt`` when it exists.

    Parameters
    ----------
    batches : callable
        (step, items of the batch) → (images, targets); must depend on these only, so that a resumed run
        repeats nothing. Called from several threads when the recipe has replicas.
    folder : pathlib.Path
        Receives ``checkpoint.pt`` (atomic) and ``progress.jsonl`` (one line per step).

    Raises
    ------
    Cancelled
        When asked to; the last checkpoint stays.
    """
    torch.manual_seed(recipe.seed)
    folder.mkdir(parents=True, exist_ok=True)
    example, _ = batches(0, range(1))
    layout = torch.channels_last_3d if example.ndim == 5 else torch.channels_last
    network.to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    average = {key: value.detach().clone() for key, value in network.state_dict().items()}
    first, loss_value = 0, math.nan
    saved = folder / "checkpoint.pt"
    if saved.exists():
        first, loss_value = _resume(load_checkpoint(saved), network, optimizer, average)
    bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and prefers_bf16(network, example))
    network.train()
    with (
        Replicas(network, recipe.replicas, batches, loss_of, layout, bf16) as replicas,
        (folder / "progress.jsonl").open("a", encoding="utf-8") as log,
    ):
        for step in range(first, recipe.steps):
            if cancel is not None:
                cancel.raise_if_cancelled()
            start = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step)
            if step >= recipe.freeze_norm_at * recipe.steps:
                replicas.freeze_normalisation()
            loss_value = replicas.backward(step, recipe.batch_size)
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            _update_average(average, network, _decay(recipe, step))
            seconds = time.perf_counter() - start
            line = {"step": step, "loss": round(loss_value, 5), "seconds": round(seconds, 3)}
            log.write(json.dumps(line) + "\n")
            log.flush()
            progress("Training", (step + 1) / recipe.steps)
            if (step + 1) % recipe.checkpoint_every == 0 or step + 1 == recipe.steps:
                save_checkpoint(saved, _state(network, optimizer, average, step + 1, loss_value))
    network.load_state_dict(average)
    network.eval()
    return Trained(network, recipe.steps, loss_value)


def _decay(recipe: Recipe, step: int) -> float:
    """Return the averaging decay, short at the beginning so that random weights are forgotten."""
    return min(recipe.ema_decay, (step + 1) / (step + 10)) if recipe.ema_decay else 0.0


@torch.no_grad()
def _update_average(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    for key, value in network.state_dict().items():
        if value.dtype.is_floating_point:
            average[key].lerp_(value, 1.0 - decay)
        else:
            average[key].copy_(value)


def _state(
    network: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor], step: int, loss: float
) -> dict[str, Any]:
    return {
        "network": network.state_dict(),
        "average": average,
        "optimizer": optimizer.state_dict(),
        "step": step,
        "loss": loss,
    }


def _resume(
    state: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]
) -> tuple[int, float]:
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    for key, value in state["average"].items():
        average[key].copy_(value)
    return int(state["step"]), float(state["loss"])
