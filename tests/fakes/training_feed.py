"""An engine without files: random batches by position, and a training set up around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.compute.training.arithmetic import Arithmetic
from core.compute.training.checkpoints import Checkpoints
from core.compute.training.conductor import Conductor
from core.compute.training.events import EVENTS_FILE, EventLog, read_events
from core.compute.training.fitting import run_fit
from core.compute.training.module import TrainingModule
from core.compute.training.position import Position, Schedule, watch_of
from core.domain.progress import CancelToken, PauseToken, no_progress
from core.recipes.schema import Recipe


class RandomFeed:
    """Two classes of noisy 12 × 12 pictures that differ in brightness; a batch depends on its position only."""

    def __init__(self, train: int = 16, validation: int = 8) -> None:
        self.counts = {"train": train, "validation": validation, "test": 0}
        self.class_counts: Sequence[int] = (train // 2, train // 2)

    def batches_per_epoch(self, batch_size: int, world: int) -> int:
        return self.counts["train"] // (batch_size * world)

    def samples(self, epoch: int, start: int, count: int) -> tuple[Tensor, Tensor]:
        images, labels = [], []
        for number in range(start, start + count):
            generator = torch.Generator().manual_seed(epoch * 10_007 + number)
            label = number % 2
            images.append(torch.randn(1, 12, 12, generator=generator) + label)
            labels.append(label)
        return torch.stack(images), torch.tensor(labels)

    def train_batches(
        self, epoch: int, first: int, batch_size: int, rank: int, world: int
    ) -> Iterator[dict[str, Any]]:
        for number in range(first, self.batches_per_epoch(batch_size, world)):
            images, labels = self.samples(epoch, number * batch_size * world, batch_size * world)
            mine = slice(rank, None, world)
            yield {"image": images[mine], "target": labels[mine], "case": ["x"] * batch_size}

    def validation_batches(self, rank: int = 0, world: int = 1) -> Iterator[dict[str, Any]]:
        for number in range(rank, self.counts["validation"] // 4, world):
            images, labels = self.samples(99_991, 4 * number, 4)
            yield {"image": images, "target": labels, "case": ["x"] * 4}

    def test_batches(self) -> Iterator[dict[str, Any]]:
        yield from ()


def small_network(norm: bool = False) -> nn.Module:
    """A classifier of 12 × 12 pictures, by default without batch normalisation."""
    torch.manual_seed(3)
    middle: list[nn.Module] = [nn.BatchNorm2d(4)] if norm else []
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3), *middle, nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(4, 2),
    )


@dataclass
class Training:
    """One training of ``RandomFeed``."""

    recipe: Recipe
    out: Path
    network: nn.Module = field(default_factory=small_network)
    loss: nn.Module = field(default_factory=nn.CrossEntropyLoss)
    feed: RandomFeed = field(default_factory=RandomFeed)
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    cancel: CancelToken = field(default_factory=CancelToken)
    pause: PauseToken = field(default_factory=PauseToken)
    micro_batch: int | None = None

    def run(self) -> TrainingModule:
        """Train to the end; a checkpoint in ``out`` is continued."""
        size = self.recipe.training.batch_size
        assert isinstance(size, int)
        batches = self.feed.batches_per_epoch(size, 1)
        steps = -(-batches // self.recipe.training.accumulate)
        events = EventLog(self.out / EVENTS_FILE)
        module = TrainingModule(
            self.recipe,
            self.network,
            self.loss,
            arithmetic=self.arithmetic,
            events=events,
            position=Position(),
            schedule=Schedule(self.recipe.schedule, steps, self.recipe.training.epochs),
            batches_per_epoch=batches,
            micro_batch=self.micro_batch,
        )
        checkpoints = Checkpoints(self.out / "checkpoints")
        watch = watch_of(self.recipe)
        state, _ = checkpoints.load_last()
        if state is not None:
            events.rewind(int(state["events_offset"]))
            module.restore(state)
            watch.load(state["watch"])
        conductor = Conductor(
            self.recipe,
            checkpoints,
            events,
            watch,
            leader=True,
            progress=no_progress,
            cancel=self.cancel,
            pause=self.pause,
            out=self.out,
        )
        try:
            run_fit(
                module,
                self.feed,
                conductor,
                device="cpu",
                epochs=self.recipe.training.epochs,
                batch_size=size,
                out=self.out,
            )
        finally:
            events.close()
        return module

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind."""
        return [event for event in read_events(self.out / EVENTS_FILE) if event["event"] == kind]

    def notes(self, code: str) -> list[str]:
        """Return the messages of notes with a code."""
        return [event["message"] for event in self.events("note") if event["code"] == code]
