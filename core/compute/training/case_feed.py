"""The engine's view of ``TrainingData``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from core.compute.training.data.loader import BatchLoader
from core.compute.training.data.module import TrainingData
from core.compute.training.feed import Batch
from core.recipes.cases import Part


class CaseFeed:
    """Batches by position: epoch, number of the batch, rank.

    Parameters
    ----------
    data : TrainingData
        Loaders of the parts.
    """

    def __init__(self, data: TrainingData) -> None:
        self.data = data
        self._loaders: dict[tuple[int, int, int], BatchLoader] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """Cases by part."""
        return {part.value: len(self.data.parts[part]) for part in Part}

    @property
    def class_counts(self) -> Sequence[int]:
        """Training cases (segmentation: voxels) of each class."""
        return self.data.class_counts

    def counts_of(self, task: str) -> Sequence[int]:
        """Return the same of one of several tasks."""
        return self.data.counts_of(task)

    def batches_per_epoch(self, batch_size: int, world: int) -> int:
        """Return how many batches each process gets per epoch."""
        order = self._loader(batch_size, 0, world).order
        return -(-len(order) // batch_size)

    def train_batches(
        self, epoch: int, first: int, batch_size: int, rank: int, world: int
    ) -> Iterator[Batch]:
        """Yield the batches of an epoch from the ``first`` on."""
        loader = self._loader(batch_size, rank, world)
        loader.order.epoch, loader.order.cursor = epoch, first * batch_size * world
        if loader.order.cursor < loader.order.length:
            yield from loader

    def validation_batches(self, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield this process's share of the validation part, each batch once over all processes."""
        for number, batch in enumerate(self.data.validation_loader()):
            if number % world == rank:
                yield batch

    def test_batches(self) -> Iterator[Batch]:
        """Yield the test part."""
        yield from self.data.test_loader()

    def _loader(self, batch_size: int, rank: int, world: int) -> BatchLoader:
        key = (batch_size, rank, world)
        if key not in self._loaders:
            self._loaders[key] = self.data.train_loader(batch_size, rank=rank, world=world)
        return self._loaders[key]
