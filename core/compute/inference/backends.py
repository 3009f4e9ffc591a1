"""Engines that run a network: torch in several forms, ONNX Runtime, OpenVINO where it is installed.

Each takes and returns float32 tensors of shape ``(N, C, …)``; a network with several heads answers by name.
``exact`` engines agree with eager float32 to 1e-5 relative; the others must pass the accuracy gate of ``probe.py``
before they are used.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
import torch
from torch import nn

from core.compute.inference.folding import folded
from core.compute.inference.fused import RowWiseConcatenation, can_fuse, fused
from core.domain.errors import EnvironmentFault, InputError
from core.domain.progress import Cancelled, CancelToken

_POLL_SECONDS = 0.1


class Backend(Protocol):
    """A loaded network."""

    name: str
    device: str
    exact: bool

    def __call__(self, batch: torch.Tensor, cancel: CancelToken | None = None) -> torch.Tensor:
        """Return the network's answer to ``(N, C, …)`` float32, as float32 on the CPU or on ``device``."""


class Engine(Backend, Protocol):
    """A loaded network that gives all its outputs, and takes a text where its network does."""

    def outputs(
        self, batch: torch.Tensor, text: torch.Tensor | None = None, cancel: CancelToken | None = None
    ) -> dict[str, torch.Tensor]:
        """Return each output by its name, ``(N, …)`` float32; a network with one output calls it ``logits``.

        Parameters
        ----------
        text : torch.Tensor, optional
            ``(N, L)`` int64; None is no text.
        """


class TorchBackend:
    """A torch module.

    ``torch`` is the module as it is. ``torch-folded`` has its batch normalisations folded in and its channels
    last, ``torch-fused`` (CPU) has its convolutions fused too; ``torch-bf16`` and ``torch-fp16`` (CUDA) are
    the fastest of these in lower precision. With ``autocast`` lower precision is torch's choice per operation:
    for networks with parts that need float32 (norms, splines, several heads).
    """

    def __init__(
        self,
        network: nn.Module,
        variant: str,
        device: str = "cpu",
        dims: int = 3,
        *,
        text_tokens: int = 0,
        autocast: bool = False,
    ) -> None:
        self.name = variant
        self._text_tokens = text_tokens
        self.device = device
        self.exact = is_exact(variant)
        self._format = _memory_format(variant, dims)
        lower = {"torch-bf16": torch.bfloat16, "torch-fp16": torch.float16}.get(variant)
        self._autocast = lower if autocast else None
        self._dtype = torch.float32 if autocast or lower is None else lower
        rewritten = folded(network) if self._autocast else _rewritten(network, variant, device)
        placed = rewritten.to(device=device, dtype=self._dtype)
        self._network = placed.to(memory_format=self._format)  # type: ignore[call-overload]

    def __call__(self, batch: torch.Tensor, cancel: CancelToken | None = None) -> torch.Tensor:
        """Run the module and return its first output."""
        return next(iter(self.outputs(batch, None, cancel).values()))

    @torch.inference_mode()
    def outputs(
        self, batch: torch.Tensor, text: torch.Tensor | None = None, cancel: CancelToken | None = None
    ) -> dict[str, torch.Tensor]:
        """Run the module."""
        del cancel
        given = batch.to(device=self.device, dtype=self._dtype).contiguous(memory_format=self._format)
        also = [] if self._text_tokens == 0 else [_text(text, len(batch), self._text_tokens).to(self.device)]
        rows = nullcontext() if self._format == torch.contiguous_format else RowWiseConcatenation()
        cast = nullcontext() if self._autocast is None else torch.autocast(self.device, self._autocast)
        with rows, cast:
            answer = self._network(given, *also)
        return {
            name: output.to(dtype=torch.float32, memory_format=torch.contiguous_format)
            for name, output in _named(answer).items()
        }


class OnnxBackend:
    """ONNX Runtime on the CPU (or CUDA where its provider is installed)."""

    def __init__(
        self, model: bytes, device: str = "cpu", name: str = "onnxruntime", *, text_tokens: int = 0
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"] if device == "cuda" else []
        installed = onnxruntime.get_available_providers()
        providers = [provider for provider in wanted if provider in installed] or ["CPUExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=providers)
        except Exception as error:
            raise InputError(
                "model.onnx",
                "ONNX Runtime refuses the network of this model.",
                "Export it with a newer opset.",
            ) from error
        self.name = name
        self.device = "cuda" if providers[0].startswith("CUDA") else "cpu"
        self.exact = is_exact(name)
        self._inputs = [given.name for given in self._session.get_inputs()]
        self._outputs = [answer.name for answer in self._session.get_outputs()]
        self._text_tokens = text_tokens if len(self._inputs) > 1 else 0

    def __call__(self, batch: torch.Tensor, cancel: CancelToken | None = None) -> torch.Tensor:
        """Run the session and return the first output; a cancel ends it within the operation that is running."""
        return self._run(batch, None, cancel, self._outputs[:1])[self._outputs[0]]

    def outputs(
        self, batch: torch.Tensor, text: torch.Tensor | None = None, cancel: CancelToken | None = None
    ) -> dict[str, torch.Tensor]:
        """Run the session for all outputs."""
        return self._run(batch, text, cancel, self._outputs)

    def _run(
        self, batch: torch.Tensor, text: torch.Tensor | None, cancel: CancelToken | None, wanted: list[str]
    ) -> dict[str, torch.Tensor]:
        given = {self._inputs[0]: np.ascontiguousarray(batch.cpu().numpy(), dtype=np.float32)}
        if self._text_tokens:
            given[self._inputs[1]] = _text(text, len(batch), self._text_tokens).cpu().numpy()
        options = onnxruntime.RunOptions()
        with _terminated_on(cancel, options):
            try:
                answers = self._session.run(wanted, given, options)
            except Exception as error:
                raise _translated(error, cancel) from error
        named = zip(wanted, answers, strict=True)
        return {name: torch.from_numpy(np.asarray(answer, dtype=np.float32)) for name, answer in named}


class OpenVinoBackend:
    """OpenVINO, where the optional package is installed; ``openvino`` float32 or ``openvino-bf16``."""

    def __init__(self, model: bytes, variant: str = "openvino", *, text_tokens: int = 0) -> None:
        import openvino

        core = openvino.Core()
        precision = "bf16" if variant.endswith("bf16") else "f32"
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self._compiled: Any = core.compile_model(core.read_model(model), "CPU", settings)
        self._text_tokens = text_tokens if len(self._compiled.inputs) > 1 else 0
        self.name = variant
        self.device = "cpu"
        self.exact = is_exact(variant)

    def __call__(self, batch: torch.Tensor, cancel: CancelToken | None = None) -> torch.Tensor:
        """Run the compiled model and return its first output."""
        return next(iter(self.outputs(batch, None, cancel).values()))

    def outputs(
        self, batch: torch.Tensor, text: torch.Tensor | None = None, cancel: CancelToken | None = None
    ) -> dict[str, torch.Tensor]:
        """Run the compiled model."""
        del cancel
        given = [np.ascontiguousarray(batch.cpu().numpy())]
        if self._text_tokens:
            given.append(_text(text, len(batch), self._text_tokens).cpu().numpy())
        answers = self._compiled(given)
        return {
            port.get_any_name(): torch.from_numpy(np.array(answers[port], dtype=np.float32))
            for port in self._compiled.outputs
        }


def is_exact(name: str) -> bool:
    """Whether the engine of that name computes in float32."""
    return not name.endswith(("-bf16", "-fp16", "-int8"))


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware; emulation would be slower than float32."""
    capable = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(capable()) if capable is not None else _flag_in_cpuinfo(("avx512_bf16", "amx_bf16", "bf16"))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on the CPU or the GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | EnvironmentFault) and (
        "can't allocate memory" in text or "out of memory" in text or "not enough memory" in text
    )


def _flag_in_cpuinfo(flags: tuple[str, ...]) -> bool:
    path = Path("/proc/cpuinfo")
    words = set(path.read_text(errors="replace").split()) if path.exists() else set()
    return any(flag in words for flag in flags)


def _memory_format(variant: str, dims: int) -> torch.memory_format:
    if variant == "torch":
        return torch.contiguous_format
    return torch.channels_last_3d if dims == 3 else torch.channels_last


def _rewritten(network: nn.Module, variant: str, device: str) -> nn.Module:
    if variant == "torch":
        return network
    fusible = device == "cpu" and can_fuse() and variant in ("torch-fused", "torch-bf16")
    return fused(network) if fusible else folded(network)


def _named(answer: Any) -> dict[str, torch.Tensor]:
    """Return outputs by name; of a list (deep supervision) only the first counts."""
    if isinstance(answer, dict):
        return {str(name): _first(output) for name, output in answer.items()}
    return {"logits": _first(answer)}


def _first(answer: Any) -> torch.Tensor:
    while not isinstance(answer, torch.Tensor):
        answer = next(iter(answer.values())) if isinstance(answer, dict) else answer[0]
    return answer


def _text(text: torch.Tensor | None, images: int, tokens: int) -> torch.Tensor:
    """Return ``(N, L)`` int64; zeros, which stand for no text, where there is none."""
    return torch.zeros((images, tokens), dtype=torch.int64) if text is None else text.to(torch.int64)


def _translated(error: Exception, cancel: CancelToken | None) -> Exception:
    if cancel is not None and cancel.is_cancelled:
        return Cancelled()
    if "alloc" in str(error).lower():
        return MemoryError(str(error))
    return InputError(
        "model.onnx",
        "The network of this model can't take this image.",
        "Check the model's card for its input.",
    )


@contextmanager
def _terminated_on(cancel: CancelToken | None, options: Any) -> Iterator[None]:
    """Set ``options.terminate`` once ``cancel`` is set; the watching thread ends with the context."""
    if cancel is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_SECONDS):
            if cancel.is_cancelled:
                options.terminate = True
                return

    watcher = threading.Thread(target=watch, name="onnx-cancel", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
