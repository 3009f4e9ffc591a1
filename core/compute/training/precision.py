"""Which precision and memory format trains fastest here, measured, among those that compute the same."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.compute.inference.backends import cpu_has_bf16, is_out_of_memory
from core.compute.training.arithmetic import Arithmetic, MemoryFormat, Precision
from core.compute.training.chance import seed_batch
from core.compute.training.mixing import Mixture
from core.recipes.schema import Training

ROUNDS = 3
# Agreement with float32 on the same batch and weights. bfloat16 keeps 8 bits of a number: 2^-8 is 0.4 %; a deep
# network adds the errors of its layers up.
LOSS_TOLERANCE = 0.03
NORM_TOLERANCE = 0.15
# The rounding must stay below the noise of drawing a batch: gradients of two small batches of the same data have a
# cosine well below this, and their steps average out likewise.
ANGLE_TOLERANCE = 0.5
# A candidate must be that much faster than plain float32 to be taken.
_WORTHWHILE = 0.97


@dataclass(frozen=True)
class Trial:
    """What one candidate did.

    Attributes
    ----------
    seconds : float
        Least of three steps (others' work on the machine only adds); infinite when refused before it was timed.
    loss_error, norm_error : float
        Relative differences from float32.
    cosine : float
        Cosine of the angle between both gradients.
    refused : str
        Why it isn't used; empty for one that may be.
    """

    arithmetic: Arithmetic
    seconds: float
    loss_error: float = 0.0
    norm_error: float = 0.0
    cosine: float = 1.0
    refused: str = ""

    def sentence(self) -> str:
        """Say it for the log."""
        if self.refused:
            return f"{self.arithmetic}: refused, {self.refused}"
        return (
            f"{self.arithmetic}: {1000 * self.seconds:.0f} ms a step, loss {self.loss_error:.2%} and gradient norm "
            f"{self.norm_error:.2%} from fp32, cosine {self.cosine:.3f}"
        )


def candidates(training: Training, device: str) -> list[Arithmetic]:
    """Return what the recipe allows on this device, plain float32 first."""
    precisions: list[Precision] = ["fp32", "bf16"]
    if device != "cpu":
        precisions.append("fp16")
    elif not cpu_has_bf16():
        precisions.remove("bf16")
    if training.precision != "auto":
        precisions = [training.precision]
    formats: list[MemoryFormat] = ["contiguous", "channels_last"]
    if training.memory_format != "auto":
        formats = [training.memory_format]
    return [Arithmetic(precision, layout) for precision in precisions for layout in formats]


def measure(
    network: nn.Module,
    loss: nn.Module,
    batch: dict[str, Any],
    options: Sequence[Arithmetic],
    *,
    device: str,
    seed: int,
    rounds: int = ROUNDS,
) -> list[Trial]:
    """Time forward and backward of each candidate, interleaved, and hold its gradients against float32.

    The network and the generators of random numbers are left as they were.
    """
    if len(options) == 1:
        return [Trial(options[0], 0.0)]
    state = torch.get_rng_state()
    samples = Mixture.of(batch, device)
    dims = samples.images.ndim - 2
    copies = {how: _copy(network, how, dims, device) for how in options}
    judge = copy.deepcopy(loss).to(device).train()
    exact_one = copies.get(Arithmetic()) or _copy(network, Arithmetic(), dims, device)
    exact = _gradients(exact_one, judge, samples, Arithmetic(), seed)
    trials: dict[Arithmetic, Trial] = {}
    for how, one in copies.items():
        trials[how] = _compared(one, judge, samples, how, seed, exact)
    times: dict[Arithmetic, list[float]] = {how: [] for how in options if not trials[how].refused}
    for number in range(rounds):
        for how in times:
            started = time.perf_counter()
            _gradients(copies[how], judge, samples, how, seed + number)
            times[how].append(time.perf_counter() - started)
    torch.set_rng_state(state)
    return [
        Trial(t.arithmetic, min(times[how]), t.loss_error, t.norm_error, t.cosine) if how in times else t
        for how, t in trials.items()
    ]


def choose(trials: Sequence[Trial]) -> Arithmetic:
    """Return the fastest candidate that was not refused; the first one unless another is clearly faster."""
    usable = [trial for trial in trials if not trial.refused]
    if not usable:
        return Arithmetic()
    first = usable[0]
    best = min(usable, key=lambda trial: trial.seconds)
    return best.arithmetic if best.seconds < _WORTHWHILE * first.seconds else first.arithmetic


def _copy(network: nn.Module, how: Arithmetic, spatial_dims: int, device: str) -> nn.Module:
    one = copy.deepcopy(network).to(device).train()
    how.place_network(one, spatial_dims)
    return one


def _gradients(
    network: nn.Module, loss: nn.Module, samples: Mixture, how: Arithmetic, seed: int
) -> tuple[float, list[Tensor]]:
    """Return the loss and the gradients of a batch."""
    seed_batch(seed, 0)
    network.zero_grad(set_to_none=True)
    value = samples.loss(network, loss, how)
    scale = 1024.0 if how.precision == "fp16" else 1.0
    (value * scale).backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if scale != 1.0:
        torch._foreach_div_(gradients, scale)
    return float(value.detach()), gradients


def _compared(
    network: nn.Module,
    loss: nn.Module,
    samples: Mixture,
    how: Arithmetic,
    seed: int,
    exact: tuple[float, list[Tensor]],
) -> Trial:
    # Running statistics must not drift between candidates: each works on a copy of its own.
    try:
        value, gradients = _gradients(network, loss, samples, how, seed)
    except RuntimeError as error:
        why = (
            "memory ran out" if is_out_of_memory(error) else f"it can't be computed ({type(error).__name__})"
        )
        return Trial(how, math.inf, refused=why)
    norm, wanted, product = (_dot(gradients, gradients), _dot(exact[1], exact[1]), _dot(gradients, exact[1]))
    if not math.isfinite(value) or not math.isfinite(norm):
        return Trial(how, math.inf, refused="loss or gradients are not finite")
    loss_error = abs(value - exact[0]) / max(abs(exact[0]), 1e-3)
    norm_error = abs(math.sqrt(norm) - math.sqrt(wanted)) / max(math.sqrt(wanted), 1e-12)
    cosine = product / max(math.sqrt(norm * wanted), 1e-20)
    trial = Trial(how, math.inf, loss_error, norm_error, cosine)
    if loss_error > LOSS_TOLERANCE:
        return _refused(trial, f"its loss is {loss_error:.1%} off (at most {LOSS_TOLERANCE:.0%})")
    if norm_error > NORM_TOLERANCE:
        return _refused(trial, f"its gradient norm is {norm_error:.1%} off (at most {NORM_TOLERANCE:.0%})")
    if cosine < ANGLE_TOLERANCE:
        return _refused(
            trial, f"its gradient points elsewhere (cosine {cosine:.2f}, at least {ANGLE_TOLERANCE})"
        )
    return trial


def _refused(trial: Trial, why: str) -> Trial:
    return Trial(trial.arithmetic, math.inf, trial.loss_error, trial.norm_error, trial.cosine, why)


def _dot(one: Sequence[Tensor], two: Sequence[Tensor]) -> float:
    return float(sum((a.double() * b.double()).sum() for a, b in zip(one, two, strict=True)))
