"""Engines that run a network: torch in several forms, ONNX Runtime, OpenVINO where it is installed.

Each takes and returns float32 tensors of shape ``(N, C, …)``. ``exact`` engines agree with eager float32 to
1e-5 relative; the others must pass the accuracy gate of ``probe.py`` before they are used.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
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


class TorchBackend:
    """A torch module.

    ``torch`` is the module as it is. ``torch-folded`` has its batch normalisations folded in and its channels
    last, ``torch-fused`` (CPU) has its convolutions fused too; ``torch-bf16`` and ``torch-fp16`` (CUDA) are
    the fastest of these in lower precision.
    """

    def __init__(self, network: nn.Module, variant: str, device: str = "cpu", dims: int = 3) -> None:
        self.name = variant
        self.device = device
        self.exact = is_exact(variant)
        self._format = _memory_format(variant, dims)
        self._dtype = {"torch-bf16": torch.bfloat16, "torch-fp16": torch.float16}.get(variant, torch.float32)
        placed = _rewritten(network, variant, device).to(device=device, dtype=self._dtype)
        self._network = placed.to(memory_format=self._format)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, batch: torch.Tensor, cancel: CancelToken | None = None) -> torch.Tensor:
        """Run the module."""
        del cancel
        given = batch.to(device=self.device, dtype=self._dtype).contiguous(memory_format=self._format)
        if self._format == torch.contiguous_format:
            return _first(self._network(given)).float()
        with RowWiseConcatenation():
            answer = _first(self._network(given))
        return answer.to(dtype=torch.float32, memory_format=torch.contiguous_format)


class OnnxBackend:
    """ONNX Runtime on the CPU (or CUDA where its provider is installed)."""

    def __init__(self, model: bytes, device: str = "cpu", name: str = "onnxruntime") -> None:
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
        self.exact = True
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def __call__(self, batch: torch.Tensor, cancel: CancelToken | None = None) -> torch.Tensor:
        """Run the session; a cancel ends it within the operation that is running."""
        given = {self._input: np.ascontiguousarray(batch.cpu().numpy(), dtype=np.float32)}
        options = onnxruntime.RunOptions()
        with _terminated_on(cancel, options):
            try:
                answer = self._session.run([self._output], given, options)[0]
            except Exception as error:
                raise _translated(error, cancel) from error
        return torch.from_numpy(np.asarray(answer, dtype=np.float32))


class OpenVinoBackend:
    """OpenVINO, where the optional package is installed; ``openvino`` float32 or ``openvino-bf16``."""

    def __init__(self, model: bytes, variant: str = "openvino") -> None:
        import openvino

        core = openvino.Core()
        precision = "bf16" if variant.endswith("bf16") else "f32"
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self._compiled: Any = core.compile_model(core.read_model(model), "CPU", settings)
        self.name = variant
        self.device = "cpu"
        self.exact = is_exact(variant)

    def __call__(self, batch: torch.Tensor, cancel: CancelToken | None = None) -> torch.Tensor:
        """Run the compiled model."""
        del cancel
        answer = self._compiled([np.ascontiguousarray(batch.cpu().numpy())])[0]
        return torch.from_numpy(np.array(answer, dtype=np.float32))


def is_exact(name: str) -> bool:
    """Whether the engine of that name computes in float32."""
    return not name.endswith(("-bf16", "-fp16"))


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


def _first(answer: Any) -> torch.Tensor:
    """The first output of networks that return several."""
    while not isinstance(answer, torch.Tensor):
        answer = next(iter(answer.values())) if isinstance(answer, dict) else answer[0]
    return answer


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
