"""What a kind of job does before and after the worker: the frame that the job board drives."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from core.bundles.bundle import Bundle
from core.bundles.manifest import Manifest
from core.domain.progress import CancelToken, Progress
from core.domain.result import ModelIdentity
from core.domain.segmentation import SegmentDefinition
from core.jobs.messages import SharedArraySpec, Task
from core.jobs.shared_arrays import SharedArray
from core.services.engine import Engine
from core.services.list_models import catalogue
from core.services.registered_models import registered_bundle


class JobKind(Protocol):
    """One job on its way. All methods are called on the board's thread, in this order."""

    @property
    def title(self) -> str:
        """What the list of jobs calls it, once ``prepare`` has begun."""

    def prepare(self, progress: Progress, cancel: CancelToken) -> Task:
        """Check, load, and put arrays where the worker finds them; raises AppError to refuse."""

    def attached(self) -> None:
        """Hear that the worker has mapped the arrays: their names are no longer needed."""

    def finish(self, outcome: dict[str, Any], commit: Callable[[], None]) -> dict[str, Any]:
        """Take the worker's answer, check and keep it; returns the job's outcome.

        ``commit`` must be called right before anything is kept: it raises Cancelled when the reader has
        changed their mind, and makes later changes of mind come too late.
        """

    def release(self) -> None:
        """Give the arrays back. Always called last."""


class RunnableModel(Protocol):
    """What a run needs to know of its model: a bundle of this computer, or a server's model."""

    @property
    def id(self) -> str:
        """Identifier of the model."""

    @property
    def identity(self) -> ModelIdentity:
        """Identifier, version and sha256 of the first weights file."""

    @property
    def manifest(self) -> Manifest:
        """What the model says of itself."""

    @property
    def segments(self) -> tuple[SegmentDefinition, ...]:
        """What the values of the label map stand for."""


class Blocks:
    """The shared arrays of one job."""

    def __init__(self, engine: Engine) -> None:
        self._folder = engine.paths.temp
        self._stack = ExitStack()
        self._blocks: list[SharedArray] = []

    def share(self, array: NDArray) -> SharedArraySpec:
        """Copy an array to where the worker sees it."""
        return self._keep(SharedArray.of(array, self._folder)).spec

    def reserve(self, shape: tuple[int, ...], dtype: DTypeLike) -> SharedArray:
        """Make room for an array that the worker fills."""
        return self._keep(SharedArray.create(shape, dtype, self._folder))

    def unlink(self) -> None:
        """Remove the names; the memory stays until ``close``."""
        for block in self._blocks:
            block.unlink()

    def close(self) -> None:
        """Give the memory back."""
        self._blocks.clear()
        self._stack.close()

    def _keep(self, block: SharedArray) -> SharedArray:
        self._stack.enter_context(block)
        self._blocks.append(block)
        return block


def taken_out(block: SharedArray) -> NDArray:
    """Return a copy of a block's array, so that the block can be given back."""
    return np.array(block.array(), copy=True)


def find_bundle(engine: Engine, model_id: str) -> Bundle:
    """Return a verified bundle: a registered one by ``NAME@ALIAS``, the shipped one, else the user's.

    Raises
    ------
    AppError
        When there is none, or its files aren't what they were.
    """
    return registered_bundle(engine.paths, model_id) or catalogue(engine).get(model_id)
