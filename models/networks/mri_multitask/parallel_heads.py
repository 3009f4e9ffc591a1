"""Run the heads of several tasks at the same time.

On CUDA each head has a stream; on the CPU each has a thread. The outputs are those of one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from models.networks.layers import StochasticDepth
from models.networks.mri_multitask.tracing import exporting

Mode = Literal["auto", "streams", "threads", "sequential"]


def draws_randomness(module: nn.Module) -> bool:
    """Return whether a forward pass through the module takes numbers from the random generator."""
    for part in module.modules():
        if isinstance(part, _DropoutNd) and part.training and part.p > 0.0:
            return True
        if isinstance(part, StochasticDepth) and part.training and part.rate > 0.0:
            return True
        if getattr(part, "draws_randomness", False):
            return True
    return False


class _ThreadState:
    """What torch keeps per thread and a head must find in its own: grad mode, inference mode, autocast."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.grad = torch.is_grad_enabled()
        self.inference = torch.is_inference_mode_enabled()
        self.autocast = torch.is_autocast_enabled(device)
        self.autocast_dtype = torch.get_autocast_dtype(device)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Hold the state in the current thread."""
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(self.inference))
            stack.enter_context(torch.set_grad_enabled(self.grad))
            stack.enter_context(torch.autocast(self.device, dtype=self.autocast_dtype, enabled=self.autocast))
            yield


class ParallelHeads(nn.Module):
    """Named heads that all read the same features.

    Parameters
    ----------
    heads : mapping of str to Module
        Each is called with the arguments of ``forward``; the order is kept.
    mode : Mode
        ``auto``: streams on CUDA, threads on the CPU. ``threads`` and ``streams`` fall back to one after
        the other where they can't be used: another device, a graph being recorded, and for threads also
        heads that take random numbers (dropout in training), whose order must not depend on the clock.
    """

    def __init__(self, heads: Mapping[str, nn.Module], mode: Mode = "auto") -> None:
        super().__init__()
        if mode not in get_args(Mode):
            raise ValueError(f"Heads run in one of the modes {get_args(Mode)}, not {mode!r}.")
        self.heads = nn.ModuleDict(heads)
        self.mode = mode

    def forward(self, *features: Tensor, **options: Any) -> dict[str, Any]:
        """Return each head's output under its name."""
        way = self._way(features[0].device.type if features else "cpu")
        calls: dict[str, Callable[[], Any]] = {
            name: _call(head, features, options) for name, head in self.heads.items()
        }
        if way == "threads":
            return _in_threads(calls, "cpu")
        if way == "streams":
            return _in_streams(calls, features)
        return {name: call() for name, call in calls.items()}

    def _way(self, device: str) -> str:
        """The mode that can be used now."""
        if len(self.heads) < 2 or exporting():
            return "sequential"
        if device == "cuda" and self.mode in ("auto", "streams"):
            return "streams"
        if device == "cpu" and self.mode in ("auto", "threads") and not draws_randomness(self):
            return "threads"
        return "sequential"


def _call(head: nn.Module, features: tuple[Tensor, ...], options: dict[str, Any]) -> Callable[[], Any]:
    return lambda: head(*features, **options)


def _in_threads(calls: Mapping[str, Callable[[], Any]], device: str) -> dict[str, Any]:
    """Run all calls but the first in threads of their own, which end before this returns."""
    state = _ThreadState(device)

    def run(call: Callable[[], Any]) -> Any:
        with state.entered():
            return call()

    (first, first_call), *rest = calls.items()
    with ThreadPoolExecutor(max_workers=len(rest), thread_name_prefix="head") as pool:
        running = {name: pool.submit(run, call) for name, call in rest}
        outputs = {first: first_call()}
        outputs |= {name: future.result() for name, future in running.items()}
    return outputs


def _in_streams(calls: Mapping[str, Callable[[], Any]], features: tuple[Tensor, ...]) -> dict[str, Any]:
    """Start each call on a stream of its own and let the current stream wait for all."""
    device = features[0].device
    current = torch.cuda.current_stream(device)
    streams = {name: torch.cuda.Stream(device) for name in calls}
    outputs = {}
    for name, call in calls.items():
        streams[name].wait_stream(current)
        with torch.cuda.stream(streams[name]):
            outputs[name] = call()
        for feature in features:
            feature.record_stream(streams[name])
    for name, stream in streams.items():
        current.wait_stream(stream)
        for tensor in _tensors(outputs[name]):
            tensor.record_stream(current)
    return outputs


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _tensors(value)
