"""Where a training is, and where it goes: counters, learning-rate schedule, what was best so far."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from core.recipes.schema import Constant, Cosine, EarlyStopping, Plateau, Recipe


@dataclass
class Position:
    """Counters of a training.

    Attributes
    ----------
    epoch : int
        Current epoch, from 0.
    batch : int
        Batches of this epoch that were used.
    drawn : int
        Batches used since the beginning.
    step : int
        Steps of the optimiser since the beginning.
    seconds : float
        Time spent training, over all resumptions.
    """

    epoch: int = 0
    batch: int = 0
    drawn: int = 0
    step: int = 0
    seconds: float = 0.0

    def state(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass
class Schedule:
    """The learning rate as a multiple of the recipe's.

    ``factor`` is what plateaus have made of it; ``best`` and ``waited`` belong to plateaus too.
    Source: linear warm-up and cosine annealing, I. Loshchilov, F. Hutter, SGDR, ICLR 2017.
    """

    settings: Constant | Cosine | Plateau
    steps_per_epoch: int
    epochs: int
    mode: Literal["min", "max"] = "min"
    factor: float = 1.0
    best: float = math.inf
    waited: int = 0

    def rate(self, step: int) -> float:
        """Return the multiple for the step that comes after ``step`` steps."""
        warmup = round(self.settings.warmup_epochs * self.steps_per_epoch)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if isinstance(self.settings, Cosine):
            total = max(1, self.epochs * self.steps_per_epoch - warmup)
            share = min(1.0, (step - warmup) / total)
            low = self.settings.final
            return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * share))
        return self.factor

    def observe(self, value: float) -> bool:
        """Take the monitored value of an epoch; returns whether the rate fell."""
        if not isinstance(self.settings, Plateau) or not math.isfinite(value):
            return False
        signed = value if self.mode == "min" else -value
        if signed < self.best - 1e-4 * abs(self.best if math.isfinite(self.best) else 0.0):
            self.best, self.waited = signed, 0
            return False
        self.waited += 1
        if self.waited <= self.settings.patience:
            return False
        self.factor *= self.settings.factor
        self.waited = 0
        return True

    def state(self) -> dict[str, Any]:
        """Return plain values."""
        return {"factor": self.factor, "best": self.best, "waited": self.waited}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned."""
        self.factor, self.best, self.waited = state["factor"], state["best"], state["waited"]


@dataclass
class Watch:
    """The best epochs and whether it is time to stop."""

    mode: Literal["min", "max"]
    stopping: EarlyStopping | None
    top_k: int
    best: list[dict[str, Any]] = field(default_factory=list)
    record: float | None = None
    waited: int = 0

    def better(self, value: float, than: float) -> bool:
        """Whether one monitored value is better than another."""
        return value < than if self.mode == "min" else value > than

    def observe(self, value: float) -> bool:
        """Take an epoch's monitored value; returns whether training should stop now."""
        margin = self.stopping.min_delta if self.stopping else 0.0
        shifted = value + margin if self.mode == "min" else value - margin
        if math.isfinite(value) and (self.record is None or self.better(shifted, self.record)):
            self.record, self.waited = value, 0
            return False
        self.waited += 1
        return self.stopping is not None and self.waited >= self.stopping.patience

    def place(self, file: str, value: float, epoch: int, loss: float = math.nan) -> bool:
        """Take an epoch in when it belongs to the ``top_k``; returns whether it does.

        Between equal values the smaller validation loss decides, then the later epoch. An epoch without a value counts
        as the worst.
        """
        item = {"file": file, "value": value, "epoch": epoch, "loss": loss}
        ranked = sorted([*self.best, item], key=self._rank)[: self.top_k]
        if item not in ranked:
            return False
        self.best = ranked
        return True

    def _rank(self, item: dict[str, Any]) -> tuple[float, float, int]:
        sign = 1 if self.mode == "min" else -1
        value, loss = float(item["value"]), float(item["loss"])
        return (
            sign * value if math.isfinite(value) else math.inf,
            loss if math.isfinite(loss) else math.inf,
            -int(item["epoch"]),
        )

    def state(self) -> dict[str, Any]:
        """Return plain values."""
        return {"best": list(self.best), "record": self.record, "waited": self.waited}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned."""
        self.best, self.record, self.waited = list(state["best"]), state["record"], state["waited"]


def watch_of(recipe: Recipe) -> Watch:
    """Return the watch that a recipe asks for."""
    training = recipe.training
    return Watch(training.monitor.mode, training.early_stopping, training.checkpoints.top_k)
