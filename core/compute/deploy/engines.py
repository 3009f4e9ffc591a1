"""A model's forms as engines that take its real inputs: recorded, compared, timed.

Every form (the network as it is, TorchScript, ONNX, eight bits, OpenVINO) is an engine of
``core.compute.inference.backends``, so that each is judged by the program's own inference, with its preprocessing,
windows and clean-up.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.bundles.bundle import Bundle
from core.compute.inference.backends import Engine
from core.compute.inference.loaded import LoadedModel, ModelCache
from core.domain.progress import CancelToken

Answers = tuple[NDArray[np.float32], ...]
_WARM_UP, _LEAST_ROUNDS, _BUDGET_S = 2, 3, 120.0


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a network is given in one call: ``(N, C, …)`` float32 and, where it takes one, a text ``(N, L)`` int64."""

    image: torch.Tensor
    text: torch.Tensor | None = None

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The arguments of the network's call."""
        return (self.image,) if self.text is None else (self.image, self.text)

    def repeated(self, count: int) -> Inputs:
        """Return a batch of ``count`` times the first row, each a little different in brightness."""
        scale = 1 + 0.01 * torch.arange(count, dtype=torch.float32)
        image = self.image[:1] * scale.reshape(-1, *[1] * (self.image.ndim - 1))
        return Inputs(image, None if self.text is None else self.text[:1].repeat(count, 1))


class Recorder:
    """An engine that keeps what a network is given while the program runs a case, at most ``limit`` windows of each.

    Windows are kept by chance (with a fixed seed), so that they come from everywhere in a volume and not from its
    corner. Only the first batch of a size is computed; later ones get the same answer, since nobody reads it.

    Parameters
    ----------
    text_tokens : int
        Length of the text that the network takes; 0 for none.
    """

    def __init__(self, inner: Engine, limit: int, text_tokens: int = 0) -> None:
        self.name, self.device, self.exact = "recording", inner.device, True
        self._inner, self._limit, self._tokens = inner, limit, text_tokens
        self._random = np.random.default_rng(0)
        self._answers: dict[tuple[int, ...], dict[str, torch.Tensor]] = {}
        self._seen = 0
        self._kept: list[Inputs] = []

    def take(self) -> list[Inputs]:
        """Return what was kept of the case that ran and begin another."""
        kept, self._kept, self._seen = self._kept, [], 0
        return kept

    def __call__(self, batch: torch.Tensor, cancel: CancelToken | None = None) -> torch.Tensor:
        """Keep windows and return the first output."""
        return next(iter(self.outputs(batch, None, cancel).values()))

    def outputs(
        self, batch: torch.Tensor, text: torch.Tensor | None = None, cancel: CancelToken | None = None
    ) -> dict[str, torch.Tensor]:
        """Keep windows of the batch (reservoir sampling, J. Vitter 1985, algorithm R) and answer."""
        if text is None and self._tokens:
            text = torch.zeros((len(batch), self._tokens), dtype=torch.int64)
        for row in range(len(batch)):
            # Windows are views of buffers that the caller fills again.
            words = None if text is None else text[row : row + 1].cpu().clone()
            self._keep(Inputs(batch[row : row + 1].float().cpu().clone(), words))
        shape = tuple(batch.shape)
        if shape not in self._answers:
            self._answers[shape] = self._inner.outputs(batch, text, cancel)
        return dict(self._answers[shape])

    def _keep(self, one: Inputs) -> None:
        place = int(self._random.integers(self._seen + 1))
        self._seen += 1
        if len(self._kept) < self._limit:
            self._kept.append(one)
        elif place < self._limit:
            self._kept[place] = one


class _Offered(LoadedModel):
    """A loaded model whose engines are given."""

    def __init__(self, bundle: Bundle, device: str, engines: Mapping[str, Engine]) -> None:
        super().__init__(bundle, device)
        self._engines = engines

    def backend(self, name: str) -> Engine:
        """Return a given engine of that name, else the model's own."""
        return self._engines[name] if name in self._engines else super().backend(name)


class EngineCache(ModelCache):
    """Gives ``run_bundle`` the engines of one bundle by name."""

    def __init__(self, bundle: Bundle, engines: Mapping[str, Engine]) -> None:
        super().__init__()
        self._model = _Offered(bundle, "cpu", engines)

    def get(self, bundle: Bundle, device: str) -> LoadedModel:
        """Return the model with the given engines."""
        del bundle, device
        return self._model


def answers_of(engine: Engine, inputs: Inputs) -> Answers:
    """Return every output of an engine as float32 arrays, in the order of the network's answers."""
    return flat(engine.outputs(inputs.image, inputs.text))


def flat(answer: Any) -> Answers:
    """Return the tensors of an answer (a tensor, a mapping, a sequence) as float32 arrays."""
    if isinstance(answer, torch.Tensor):
        return (answer.detach().float().cpu().numpy(),)
    parts = answer.values() if isinstance(answer, Mapping) else answer
    return tuple(array for part in parts for array in flat(part))


def largest_difference(given: Answers, wanted: Answers) -> float:
    """Return the largest absolute difference over all outputs; infinite when they have other shapes."""
    if [a.shape for a in given] != [w.shape for w in wanted]:
        return float("inf")
    return max(float(np.abs(a - w).max(initial=0.0)) for a, w in zip(given, wanted, strict=True))


def scale_of(wanted: Answers) -> float:
    """Return the largest absolute value, at least 1: what float32's rounding grows with."""
    return max(1.0, *(float(np.abs(w).max(initial=0.0)) for w in wanted))


@dataclass(eq=False)
class Variant:
    """One form of the model and what was measured of it.

    Attributes
    ----------
    name : str
        Stable name, the key of the results.
    title : str
        What a person reads.
    engine : Engine
        Runs it.
    size_bytes : int
        Of its weights or graph on the disk.
    exact : bool
        Whether it calculates in float32 with the model's own weights.
    against : str
        The form that it must agree with, the first one by default; of a pruned network its own plain form.
    quality : mapping
        ``accuracy``, ``dice`` and ``numbers`` on the cases, where there are any.
    """

    name: str
    title: str
    engine: Engine
    size_bytes: int
    exact: bool
    against: str = ""
    difference: float = float("nan")
    milliseconds: list[float] = field(default_factory=list)
    quality: dict[str, float] = field(default_factory=dict)
    cases: int = 0
    chosen: bool = False
    reason: str = ""

    @property
    def latency_ms(self) -> float:
        """Median of one call; NaN before it is timed."""
        return statistics.median(self.milliseconds) if self.milliseconds else float("nan")

    @property
    def fastest_ms(self) -> float:
        """Fastest call, which other work on the machine disturbs least; what forms are compared by."""
        return min(self.milliseconds, default=float("nan"))

    @property
    def size_mb(self) -> float:
        """Size in megabytes (10⁶ bytes)."""
        return self.size_bytes / 1e6


def compare(variants: Sequence[Variant], inputs: Sequence[Inputs]) -> None:
    """Set each variant's largest difference over the inputs from the form that it must agree with."""
    for variant in variants:
        variant.difference = 0.0
    for given in inputs:
        answers = {variant.name: answers_of(variant.engine, given) for variant in variants}
        for variant in variants:
            wanted = answers[variant.against or variants[0].name]
            variant.difference = max(variant.difference, largest_difference(answers[variant.name], wanted))


def time_interleaved(
    variants: Sequence[Variant], given: Inputs, rounds: int, cancel: CancelToken | None = None
) -> None:
    """Time one call of every variant per round, so that whatever else the machine does hits all alike.

    After two minutes no further round begins, but there are three at least.
    """
    started_all = time.perf_counter()
    for number in range(_WARM_UP + rounds):
        if number >= _WARM_UP + _LEAST_ROUNDS and time.perf_counter() - started_all > _BUDGET_S:
            return
        for variant in variants:
            if cancel is not None:
                cancel.raise_if_cancelled()
            started = time.perf_counter()
            variant.engine.outputs(given.image, given.text)
            if number >= _WARM_UP:
                variant.milliseconds.append(1000 * (time.perf_counter() - started))
