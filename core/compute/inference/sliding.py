"""Sliding-window inference that hands out finished slabs.

The weighted sum of the windows is held for one window's depth only: as soon as no later window reaches a
slice, the slice is divided by its weights and given away. Memory therefore doesn't grow with the length of
the patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import torch
import torch.nn.functional as functional

from core.bundles.manifest import Inference
from core.compute.inference.backends import Backend
from core.compute.inference.windows import Triple, WindowPlan, importance_map, plan_windows
from core.domain.progress import CancelToken

OnWindow = Callable[[int, int], None]


class Slab:
    """Logits ``(C, n, J, I)`` float32 of the slices ``start`` … ``start + n - 1``."""

    __slots__ = ("logits", "start")

    def __init__(self, start: int, logits: torch.Tensor) -> None:
        self.start = start
        self.logits = logits


class ConstantWindows:
    """Answers to windows that hold one value everywhere.

    The network is a function of its input alone (evaluation mode, no position is given to it), so that the
    answer to a constant window depends on the constant only. It is computed once per value and reused:
    skipping such windows changes nothing.
    """

    def __init__(self, limit: int = 4) -> None:
        self._answers: dict[float, torch.Tensor] = {}
        self._limit = limit
        self.reused = 0

    def lookup(self, window: torch.Tensor) -> tuple[float | None, torch.Tensor | None]:
        """Return the constant (None when the window isn't constant) and its known answer."""
        low, high = torch.aminmax(window)
        if bool(low != high):
            return None, None
        value = float(low)
        answer = self._answers.get(value)
        self.reused += answer is not None
        return value, answer

    def remember(self, value: float, answer: torch.Tensor) -> None:
        """Keep the answer ``(C, k, j, i)`` to a constant window."""
        if len(self._answers) < self._limit:
            self._answers[value] = answer.clone()


def sliding_slabs(
    image: torch.Tensor,
    backend: Backend,
    settings: Inference,
    *,
    batch: int | None = None,
    cancel: CancelToken | None = None,
    on_window: OnWindow | None = None,
) -> Iterator[Slab]:
    """Run a network over ``image`` ``(C, K, J, I)`` float32 and yield its logits from the first slice to the
    last.

    Parameters
    ----------
    batch : int, optional
        Windows per call of the network; the manifest's by default.
    on_window : callable, optional
        Called with (windows done, windows in all).

    Raises
    ------
    Cancelled
        Between two windows.
    """
    _, k, j, i = image.shape
    size = settings.patch_kji or _whole((k, j, i), settings.divisor)
    plan = plan_windows((k, j, i), size, settings.overlap)
    padded = _pad(image, plan, settings.pad_value)
    if len(plan.starts) == 1:
        answer = backend(padded[None], cancel)[0]
        _report(on_window, 1, 1)
        yield Slab(0, cropped(answer, plan.pad_before, (k, j, i)))
        return
    runner = _Runner(padded, backend, plan, batch or settings.batch, cancel, on_window)
    weights = importance_map(size, settings.mode, settings.sigma_scale)
    before_k, before_j, before_i = plan.pad_before
    for start, slab in _accumulated(runner, plan, weights):
        inside = slab[:, :, before_j : before_j + j, before_i : before_i + i]
        first = max(before_k - start, 0)
        last = min(before_k + k - start, inside.shape[1])
        if last > first:
            yield Slab(start + first - before_k, inside[:, first:last])


def padded_whole(
    image: torch.Tensor, settings: Inference, *, flat: bool = False
) -> tuple[torch.Tensor, Triple]:
    """Pad ``(C, K, J, I)`` to multiples of the divisor; returns the image and the voxels added before it.

    A channel of zeros stands for a missing contrast and stays one. ``flat``: the network has two dimensions, so that
    the one slice stays one.
    """
    _, k, j, i = image.shape
    whole = _whole((k, j, i), settings.divisor)
    plan = plan_windows((k, j, i), (k, *whole[1:]) if flat else whole, 0.0)
    padded = _pad(image, plan, settings.pad_value)
    if padded is not image and settings.pad_value != 0:
        padded[[not bool(channel.any()) for channel in image]] = 0
    return padded, plan.pad_before


def cropped(answer: torch.Tensor, before: Triple, shape: Sequence[int]) -> torch.Tensor:
    """Return the part ``(C, K, J, I)`` of a padded image's answer that belongs to the image."""
    (a, b, c), (k, j, i) = before, shape
    return answer[:, a : a + k, b : b + j, c : c + i]


def full_logits(slabs: Iterator[Slab]) -> torch.Tensor:
    """Join all slabs to ``(C, K, J, I)``; for small images and tests."""
    return torch.cat([slab.logits for slab in slabs], dim=1)


class _Runner:
    """Feeds windows of one depth to the network in batches and skips those whose answer is known."""

    def __init__(
        self,
        image: torch.Tensor,
        backend: Backend,
        plan: WindowPlan,
        batch: int,
        cancel: CancelToken | None,
        on_window: OnWindow | None,
    ) -> None:
        self._image, self._backend, self._plan, self._batch = image, backend, plan, batch
        self._cancel, self._on_window = cancel, on_window
        self._constants = ConstantWindows()
        self._done = 0

    def answers(self, starts: list[Triple]) -> Iterator[tuple[Triple, torch.Tensor]]:
        """Yield (start, logits ``(C, k, j, i)``) for every window, in no particular order."""
        waiting: list[tuple[Triple, torch.Tensor]] = []
        for start in starts:
            window = self._window(start)
            value, known = self._constants.lookup(window)
            if known is not None:
                yield start, self._counted(known)
            elif value is not None:
                (answer,) = self._run([window])
                self._constants.remember(value, answer)
                yield start, self._counted(answer)
            else:
                waiting.append((start, window))
            if len(waiting) == self._batch:
                yield from self._flush(waiting)
        yield from self._flush(waiting)

    def _flush(self, waiting: list[tuple[Triple, torch.Tensor]]) -> Iterator[tuple[Triple, torch.Tensor]]:
        if waiting:
            answers = self._run([window for _, window in waiting])
            for (start, _), answer in zip(waiting, answers, strict=True):
                yield start, self._counted(answer)
            waiting.clear()

    def _run(self, windows: list[torch.Tensor]) -> torch.Tensor:
        if self._cancel is not None:
            self._cancel.raise_if_cancelled()
        return self._backend(torch.stack(windows), None)

    def _window(self, start: Triple) -> torch.Tensor:
        k, j, i = start
        depth, height, width = self._plan.size
        return self._image[:, k : k + depth, j : j + height, i : i + width]

    def _counted(self, answer: torch.Tensor) -> torch.Tensor:
        self._done += 1
        _report(self._on_window, self._done, len(self._plan.starts))
        return answer


def _accumulated(
    runner: _Runner, plan: WindowPlan, weights: torch.Tensor
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (first slice in the padded image, finished logits) while windows come in, front to back."""
    depth, height, width = plan.size
    groups = [(k, list(starts)) for k, starts in groupby(plan.starts, key=lambda start: start[0])]
    total = torch.zeros((depth, *plan.padded[1:]))
    summed: torch.Tensor | None = None
    for number, (first, starts) in enumerate(groups):
        for (_, j, i), answer in runner.answers(starts):
            if summed is None:
                summed = torch.zeros((answer.shape[0], *total.shape), device=answer.device)
                weights, total = weights.to(answer.device), total.to(answer.device)
            summed[:, :, j : j + height, i : i + width].addcmul_(answer, weights)
            total[:, j : j + height, i : i + width] += weights
        assert summed is not None
        following = groups[number + 1][0] if number + 1 < len(groups) else first + depth
        ready = following - first
        yield first, summed[:, :ready] / total[:ready]
        _shift(summed, ready, 1)
        _shift(total, ready, 0)


def _shift(buffer: torch.Tensor, by: int, dim: int) -> None:
    """Move the content of ``buffer`` forward by ``by`` along ``dim`` and clear what becomes free."""
    length = buffer.shape[dim]
    if by < length:
        buffer.narrow(dim, 0, length - by).copy_(buffer.narrow(dim, by, length - by).clone())
    buffer.narrow(dim, max(length - by, 0), min(by, length)).zero_()


def _whole(shape: Triple, divisor: int) -> Triple:
    k, j, i = (-(-n // divisor) * divisor for n in shape)
    return k, j, i


def _pad(image: torch.Tensor, plan: WindowPlan, value: float) -> torch.Tensor:
    margins: list[int] = []
    for axis in (2, 1, 0):
        before = plan.pad_before[axis]
        margins += [before, plan.padded[axis] - image.shape[axis + 1] - before]
    return functional.pad(image, margins, value=value) if any(margins) else image


def _report(on_window: OnWindow | None, done: int, total: int) -> None:
    if on_window is not None:
        on_window(done, total)
