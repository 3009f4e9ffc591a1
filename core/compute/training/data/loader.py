"""A loader of batches whose position is saved and restored exactly, with and without loader processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from core.compute.training.data.dataset import CaseDataset, collate
from core.compute.training.sampler import ResumableSampler


class BatchLoader(DataLoader[Any]):
    """Batches of a data set in the order of a ``ResumableSampler``.

    A batch counts as consumed when it is handed out, not when a loader process fetches it ahead, so that the state
    taken after a step names the next batch. The end of an epoch turns to the next one; ``set_epoch`` jumps.
    Validation always begins at its first case. Loader processes are spawned (no state of this process, threads or
    CUDA is copied), stay from epoch to epoch, and need no seed: each item brings its own.

    Parameters
    ----------
    dataset : CaseDataset
        Where the items come from.
    sampler : ResumableSampler
        Which are drawn.
    batch_size : int
        Draws per batch and process.
    workers : int
        Loader processes; 0 loads in this one.
    pin_memory : bool
        For faster copies to a CUDA device.
    """

    def __init__(
        self,
        dataset: CaseDataset,
        sampler: ResumableSampler,
        batch_size: int,
        *,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        # Its own generator: the loader would otherwise take a number of the global one in each epoch, and a run that
        # is continued in the middle of an epoch would differ from one that never stopped.
        super().__init__(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            multiprocessing_context="spawn" if workers else None,
            prefetch_factor=2 if workers else None,
            generator=torch.Generator().manual_seed(sampler.seed),
            worker_init_fn=_WorkerStart(workers) if workers else None,
        )
        self.order = sampler

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield the batches from the sampler's position to the end of the epoch."""
        if not self.order.shuffle:
            self.order.cursor = 0
        elif self.order.cursor >= self.order.length:
            self.order.end_epoch()
        for batch in super().__iter__():
            self.order.advance(self.batch_size or 1)
            yield batch
        self.order.end_epoch()

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; within the same one the position stays."""
        self.order.set_epoch(epoch)

    @property
    def remaining(self) -> int:
        """Batches of this process that the present epoch still has."""
        draws = (self.order.length - self.order.cursor) // self.order.world
        return -(-draws // (self.batch_size or 1))

    def state_dict(self) -> dict[str, Any]:
        """Return the position: epoch and consumed draws."""
        return self.order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at a position; raises SafetyError ``training.resume_data`` for another data set."""
        self.order.load_state_dict(state)


class _WorkerStart:
    """Divides the memory of the cache among the loader processes."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def __call__(self, worker: int) -> None:  # noqa: ARG002
        """Run in a loader process before its first item."""
        info = torch.utils.data.get_worker_info()
        if info is not None and isinstance(info.dataset, CaseDataset):
            info.dataset.cache.memory_bytes //= self._workers
