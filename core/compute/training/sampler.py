"""Which case is drawn when: a pure function of seed and epoch that can be continued in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from core.domain.errors import BugError, InputError, SafetyError

_ORDER = 0x0D4A


class Draw(NamedTuple):
    """One draw of a case.

    Attributes
    ----------
    epoch : int
        From 0.
    case : int
        Index of the case.
    occurrence : int
        How often the same case was drawn before in this epoch, so that a repeated case is changed differently.
    """

    epoch: int
    case: int
    occurrence: int


class ResumableSampler(Sampler[Draw]):
    """Draws of one process in one epoch after another.

    The order of an epoch depends on ``seed`` and ``epoch`` alone. Process ``rank`` of ``world`` takes every
    ``world``-th draw of it, so that after each step the processes together have seen exactly what one process with
    a batch ``world`` times as large would have. ``cursor`` counts draws (of all processes) that were consumed, not
    those that loader workers fetched ahead: the loader moves it by ``advance``.

    Parameters
    ----------
    n : int
        Cases.
    seed : int
        Of the run.
    weights : sequence of float, optional
        Relative frequency of each case, drawn with replacement; without weights each permutation of all cases is
        used up before the next begins.
    rank, world : int
        This process and how many there are.
    length : int, optional
        Draws per epoch over all processes; ``n`` by default. Rounded up to a multiple of ``world``.
    shuffle : bool
        False: cases in their order and always as in epoch 0, for validation.

    Raises
    ------
    InputError
        ``training.no_cases``, ``training.weights``.
    """

    def __init__(
        self,
        n: int,
        seed: int,
        weights: Sequence[float] | NDArray | None = None,
        rank: int = 0,
        world: int = 1,
        *,
        length: int | None = None,
        shuffle: bool = True,
    ) -> None:
        if n < 1:
            raise InputError("training.no_cases", "There is no case to draw.", "Choose a larger data set.")
        if not 0 <= rank < world:
            raise BugError("training.rank", f"Rank {rank} of {world} doesn't exist.", "Report this.")
        self.n, self.seed, self.rank, self.world, self.shuffle = n, seed, rank, world, shuffle
        wanted = n if length is None else max(1, length)
        self.length = -(-wanted // world) * world
        self._chances = None if weights is None else _chances(weights, n)
        self.epoch = 0
        self.cursor = 0

    def __len__(self) -> int:
        """Return the draws of this process in a whole epoch."""
        return self.length // self.world

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the index of the case of each draw of an epoch, over all processes."""
        if not self.shuffle:
            return np.arange(self.length) % self.n
        rng = np.random.default_rng((_ORDER, self.seed, epoch))
        if self._chances is not None:
            return rng.choice(self.n, size=self.length, p=self._chances)
        rounds = [rng.permutation(self.n) for _ in range(-(-self.length // self.n))]
        return np.concatenate(rounds)[: self.length]

    def __iter__(self) -> Iterator[Draw]:
        """Yield the draws of this process from the cursor to the end of the epoch."""
        order = self.order(self.epoch)
        occurrences = _occurrences(order)
        epoch = self.epoch if self.shuffle else 0
        for position in range(self.cursor + self.rank, self.length, self.world):
            yield Draw(epoch, int(order[position]), int(occurrences[position]))

    def advance(self, drawn: int) -> None:
        """Move the cursor: this process, and so each of them, has consumed ``drawn`` more draws."""
        self.cursor = min(self.cursor + drawn * self.world, self.length)

    def end_epoch(self) -> None:
        """Turn to the beginning of the next epoch."""
        self.epoch, self.cursor = self.epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of ``epoch``; within the same epoch the cursor stays."""
        if epoch != self.epoch:
            self.epoch, self.cursor = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position; the same on all processes."""
        return {
            "epoch": self.epoch,
            "cursor": self.cursor,
            "seed": self.seed,
            "n": self.n,
            "length": self.length,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken.

        Raises
        ------
        SafetyError
            ``training.resume_data`` when seed or number of cases differ: another order would be continued.
        """
        for name, value in (("seed", self.seed), ("n", self.n), ("length", self.length)):
            if state.get(name) != value:
                raise SafetyError(
                    "training.resume_data",
                    f"The run was made with {name} {state.get(name)}; now it is {value}.",
                    "Continue with the same recipe, cases and processes, or start a new run.",
                )
        if int(state["cursor"]) % self.world:
            raise SafetyError(
                "training.resume_data",
                f"The run stood at draw {state['cursor']}, which {self.world} processes can't divide.",
                "Continue with the same number of processes, or start a new run.",
            )
        self.epoch, self.cursor = int(state["epoch"]), int(state["cursor"])


def balanced_weights(labels: Sequence[int] | NDArray) -> NDArray[np.float64]:
    """Return a weight per case with which each class is drawn equally often: 1 / size of its class."""
    values, inverse, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    del values
    return np.asarray(1.0 / counts[inverse], dtype=np.float64)


def _chances(weights: Sequence[float] | NDArray, n: int) -> NDArray[np.float64]:
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (n,) or not np.isfinite(array).all() or (array < 0).any() or array.sum() <= 0:
        raise InputError(
            "training.weights",
            f"{n} cases need {n} weights of at least 0 that are not all 0.",
            "Correct the weights.",
        )
    return np.asarray(array / array.sum())


def _occurrences(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each draw, how often its case was drawn before."""
    by_case = np.argsort(order, kind="stable")
    ordered = order[by_case]
    first = np.r_[0, np.flatnonzero(np.diff(ordered)) + 1]
    starts = np.repeat(first, np.diff(np.r_[first, len(order)]))
    out = np.empty(len(order), dtype=np.int64)
    out[by_case] = np.arange(len(order)) - starts
    return out
