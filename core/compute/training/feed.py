"""What the engine asks of the data, and how Lightning sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from core.compute.training.position import Position

Batch = dict[str, Any]


class Feed(Protocol):
    """The cases of a training, divided into parts.

    A batch is ``{"image": float32 (N, C, …), "target": int64 (N,) or (N, …), "case": list of str}``; of several tasks
    the target is a dict by task, and ``text`` holds the word pieces of reports ``(N, L)`` where they are used. Training
    batches are a pure function of (seed, epoch, number of the batch, rank), so that a resumed epoch goes on where it
    stopped. Validation and test batches hold whole cases.
    """

    @property
    def counts(self) -> Mapping[str, int]:
        """Cases by part."""

    @property
    def class_counts(self) -> Sequence[int]:
        """Training cases (segmentation: voxels) of each class."""

    def counts_of(self, task: str) -> Sequence[int]:
        """Return the same of one of several tasks."""

    def batches_per_epoch(self, batch_size: int, world: int) -> int:
        """Return how many batches each process gets per epoch."""

    def train_batches(
        self, epoch: int, first: int, batch_size: int, rank: int, world: int
    ) -> Iterator[Batch]:
        """Yield the batches of an epoch from the ``first`` on."""

    def validation_batches(self, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield this process's share of the validation part."""

    def test_batches(self) -> Iterator[Batch]:
        """Yield the test part."""


class TrainLoader:
    """Lightning's loader of training batches: each iteration is the rest of the current epoch.

    It has no length on purpose: the first epoch of a resumed training is shorter than the others.
    """

    def __init__(self, feed: Feed, position: Position, batch_size: int, rank: int, world: int) -> None:
        self._feed, self._position, self.batch_size = feed, position, batch_size
        self._rank, self._world = rank, world

    def __iter__(self) -> Iterator[Batch]:
        """Yield what is left of the epoch."""
        place = self._position
        return self._feed.train_batches(place.epoch, place.batch, self.batch_size, self._rank, self._world)


class ValidationLoader:
    """Lightning's loader of validation batches."""

    def __init__(self, batches: Callable[[], Iterator[Batch]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        """Yield the cases."""
        return self._batches()
